//! How long one step of training a transformer takes on many accelerators.
//!
//! Invariant: pure; the parts add up to the step; more bandwidth or a faster accelerator is never slower.

mod exchange;
mod interval;
mod operators;
mod profile;

use dh_units::{Flop, Seconds, real};

use crate::architecture::Architecture;
use crate::error::Error;
use crate::hardware::{Format, Machine};
use crate::layout::{Layout, Offload, Recompute, Schedule, Sharding, Trained};
use crate::power::Activity;

pub use interval::Outside;
pub use profile::{ANY, Number, Profile};

/// What is trained, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work<'a> {
    /// The model.
    pub shape: &'a Architecture,
    /// How it is laid out; `micro_batches` must be said.
    pub layout: &'a Layout,
    /// The format of matrix products.
    pub products: Format,
}

/// What a step's time is made of, on the busiest accelerator; the parts add up to the step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Parts {
    /// Matrix products of layers and head, forward and backward.
    pub products: Seconds,
    /// Scores and their products with values.
    pub attention: Seconds,
    /// Norms, activation functions, residuals, loss: what memory bandwidth bounds.
    pub vector: Seconds,
    /// What is computed again in the backward pass.
    pub recompute: Seconds,
    /// Tensor parallelism, as far as nothing hides it.
    pub tensor: Seconds,
    /// Context parallelism, as far as nothing hides it.
    pub context: Seconds,
    /// Expert parallelism, as far as nothing hides it.
    pub expert: Seconds,
    /// Messages between pipeline stages, as far as nothing hides them.
    pub pipeline: Seconds,
    /// Gradients and weights between replicas, as far as nothing hides them.
    pub data: Seconds,
    /// Waiting for the pipeline to fill and to drain.
    pub bubble: Seconds,
    /// The optimiser's step.
    pub optimizer: Seconds,
    /// To and from host memory, as far as nothing hides it.
    pub offload: Seconds,
    /// Starts of kernels, and the host.
    pub host: Seconds,
}

impl Parts {
    /// Their sum.
    pub fn total(&self) -> Seconds {
        self.products
            + self.attention
            + self.vector
            + self.recompute
            + self.tensor
            + self.context
            + self.expert
            + self.pipeline
            + self.data
            + self.bubble
            + self.optimizer
            + self.offload
            + self.host
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// From one step's start to the next's.
    pub time: Seconds,
    /// Four of five measured steps should lie between this and `high`.
    pub low: Seconds,
    /// See `low`.
    pub high: Seconds,
    /// Why no published run is like this; nothing inside the calibrated range.
    pub outside: Outside,
    /// What the time is made of.
    pub parts: Parts,
    /// Tokens of a step, all replicas.
    pub tokens: f64,
    /// Operations of a step on all accelerators without what is computed again; attention counted as causal.
    pub model_flop: Flop,
    /// `model_flop` over what all accelerators could have done at the dense peak of the products' format.
    pub mfu: f64,
    /// How busy an accelerator is.
    pub activity: Activity,
}

impl Step {
    /// Tokens a second of one accelerator.
    pub fn tokens_per_second(&self, accelerators: u64) -> f64 {
        self.tokens / self.time.0 / real(accelerators.max(1))
    }
}

/// How long one step of `work` takes on `machine`.
///
/// A stage's micro-batch is the sum of its layers' operators and of the exchange that nothing hides; the pipeline adds its
/// bubble, replicas their exchange, the optimiser its pass over the states. Cost: O(1), no allocation.
/// # Errors
/// [`Error::Work`] if the layout cannot be; [`Error::Impossible`] if the accelerator does not have the format, or the layout
/// spans domains that no network joins.
pub fn step(work: &Work<'_>, machine: &Machine, profile: &Profile) -> Result<Step, Error> {
    let Work { shape, layout, products } = *work;
    layout.check(shape)?;
    let rates = operators::Rates::new(&machine.accelerator, products, profile)
        .ok_or(Error::Impossible("the accelerator has no matrix products of this format"))?;
    let micro_batches = real(layout.micro_batches.unwrap_or(layout.pp));
    let tokens = real(layout.micro_batch) * real(layout.sequence) / real(layout.cp);
    let expert_share = shape.experts.map_or(0.0, |experts| {
        (real(shape.feed_forward_layers()) - real(experts.dense_layers)) / real(shape.layers.max(1))
    });
    let slow = profile.slowdown * (1.0 + expert_share * (profile.expert_slowdown - 1.0));
    let forward = operators::layer(shape, layout, &rates, profile, tokens);
    let stage_layers = real(shape.layers) / real(layout.pp);
    let exchange = exchange::exchange(shape, layout, &machine.fabric, tokens, stage_layers)?;
    let again = match layout.recompute {
        Recompute::None => 0.0,
        Recompute::Selective => match layout.kernel {
            crate::layout::AttentionKernel::Flash => 0.0,
            crate::layout::AttentionKernel::Unfused => forward.attention,
        },
        Recompute::Operators => forward.total() * profile.operators,
        Recompute::Full => forward.total(),
    };
    // Of one layer and micro-batch; the backward pass is two products for each, one where the weights are frozen, and of
    // attention two and a half.
    let products_factor = match layout.trained {
        Trained::All => 3.0,
        Trained::Adapters => 2.0,
    };
    let (products_time, attention, vector, again) = (
        products_factor * forward.products * slow,
        3.5 * forward.attention * slow,
        3.0 * forward.vector * slow,
        again * slow,
    );
    let full = matches!(layout.recompute, Recompute::Full);
    let passes = if full { 3.0 } else { 2.0 };
    let tensor = exchange.tensor * passes * profile.tensor_exposed;
    let attention_share = real(shape.attention_layers()) / real(shape.layers.max(1));
    let context = exchange.context * passes * attention_share * profile.context_exposed;
    let expert = exchange.expert * passes * expert_share * profile.expert_exposed;
    // Each micro-batch reads and writes the gradients that it adds to.
    let last = shape.layers.saturating_sub(1);
    let held = shape.dense_parameters(last) / real(layout.tp)
        + shape.expert_parameters(last) / (real(layout.ep) * real(layout.etp));
    let vector = match layout.trained {
        Trained::All => vector + 2.0 * layout.precision.gradient * held / rates.memory,
        Trained::Adapters => vector,
    };
    let compute = products_time + attention + vector + again;
    // Kernels that end before the host has started the next wait for it: nearly the longer of both.
    let start = (profile.host_us + expert_share * profile.expert_host_us) * 1e-6 * (1.0 + passes);
    let host = (compute.powi(3) + start.powi(3)).cbrt() - compute;
    // Sharded weights are gathered for each pass and hide behind the layer before, its waits for the host included: a window
    // of computing alone would shrink with faster hardware while the layer does not.
    let mut gathers = if exchange.gather > 0.0 { passes * exchange.gather + exchange.scatter } else { 0.0 };
    // With stages they are gathered once for all micro-batches of a step, because gathering for each would dwarf them.
    if layout.pp > 1 {
        gathers /= micro_batches;
    }
    let sharded = exposed(gathers, profile.data_hidden * (compute + host), profile);
    let layer = compute + tensor + context + expert + host + sharded;
    let head = products_factor * slow * rates.head(shape, layout, tokens);
    let stages = Stages::new(shape, layout, layer, head);
    let message = if layout.pp > 1 { 2.0 * real(layout.vpp) * exchange.stage * profile.pipeline_exposed } else { 0.0 };
    let of_slowest = stages.slowest + message;
    // Of one layer and micro-batch: one of the three products of each weight; frozen weights have none.
    let weight_gradients = match layout.trained {
        Trained::All => products_time / 3.0,
        Trained::Adapters => 0.0,
    };
    let filling = match layout.schedule {
        Schedule::OneForwardOneBackward => (real(layout.pp) - 1.0) / real(layout.vpp),
        Schedule::AllForward => real(layout.pp) - 1.0,
        // F + B - W of F + B + W is left (Qi et al. 2023, table 1): a third where all three are alike.
        Schedule::ZeroBubble => (real(layout.pp) - 1.0) * (1.0 - 2.0 * weight_gradients / layer).max(0.0),
    };
    let bubble = filling * of_slowest * profile.bubble + micro_batches * (stages.slowest - stages.mean);
    let replicas = profile.gradient_exposed * exchange.replicas;
    let (optimizer, offload, replicas) = match layout.trained {
        Trained::All => {
            let (optimizer, offload) = states(shape, layout, &machine.accelerator, profile);
            (optimizer, offload, replicas)
        }
        // What adapters learn is below a hundredth of the weights.
        Trained::Adapters => (0.0, 0.0, 0.0),
    };
    let layers = micro_batches * stage_layers;
    let parts = Parts {
        products: Seconds(products_time * layers + micro_batches * head / real(layout.pp)),
        attention: Seconds(attention * layers),
        vector: Seconds(vector * layers),
        recompute: Seconds(again * layers),
        tensor: Seconds(tensor * layers),
        context: Seconds(context * layers),
        expert: Seconds(expert * layers),
        pipeline: Seconds(message * micro_batches),
        data: Seconds(sharded * layers + replicas),
        bubble: Seconds(bubble),
        optimizer: Seconds(optimizer),
        offload: Seconds(offload),
        host: Seconds(host * layers),
    };
    let outside = Outside::of(work, profile);
    let mut step = finish(work, rates.peak, parts, outside);
    let links = machine.fabric.scale_out.map_or(machine.fabric.scale_up.bandwidth.0, |out| out.bandwidth.0);
    let sent = exchange.bytes * if exchange.gather > 0.0 && layout.pp == 1 { micro_batches } else { 1.0 };
    step.activity.links = (sent / links / step.time.0).min(1.0);
    step.activity.memory = ((vector * layers + optimizer) / step.time.0 + 0.25 * step.activity.compute).min(1.0);
    Ok(step)
}

/// What an exchange of `time` costs of which up to `window` hides: all that does not, and of what does a share, because both
/// want the same memory and the same units.
fn exposed(time: f64, window: f64, profile: &Profile) -> f64 {
    let hidden = time.min(window);
    time - hidden + profile.data_leak * hidden
}

/// The time of a micro-batch on the slowest stage and in the mean of all.
struct Stages {
    slowest: f64,
    mean: f64,
}

impl Stages {
    fn new(shape: &Architecture, layout: &Layout, layer: f64, head: f64) -> Self {
        let mean = (real(shape.layers) * layer + head) / real(layout.pp);
        let (middle, last) = (layout.pp / 2, layout.pp.saturating_sub(1));
        let of = |stage: u64| real(layout.layers_of(shape, stage)) * layer;
        let slowest = of(0).max(of(middle)).max(of(last) + head);
        // Interleaved parts are cut finer than stages, so that what is uneven evens out.
        let uneven = (slowest - mean).max(0.0) / real(layout.vpp);
        Self { slowest: mean + uneven, mean }
    }
}

/// The optimiser's pass over what this accelerator holds of the states, and the way to host memory.
fn states(
    shape: &Architecture,
    layout: &Layout,
    accelerator: &crate::hardware::Accelerator,
    profile: &Profile,
) -> (f64, f64) {
    let last = shape.layers.saturating_sub(1);
    let per_stage = real(shape.layers) / real(layout.pp);
    let (dense_over, expert_over) = if layout.sharding >= Sharding::Optimizer {
        (layout.shard_replicas(), layout.expert_replicas())
    } else {
        (1.0, 1.0)
    };
    let ends = 2.0 * shape.embedding_parameters() / real(layout.tp) / real(layout.pp);
    let dense = (shape.dense_parameters(last) * per_stage / real(layout.tp) + ends) / dense_over;
    let experts = shape.expert_parameters(last) * per_stage / (real(layout.ep) * real(layout.etp)) / expert_over;
    let bytes = (dense + experts) * (layout.precision.optimizer + layout.precision.gradient + layout.precision.weight);
    // Read and written.
    let pass = 2.0 * bytes / (accelerator.bandwidth.0 * profile.memory);
    match layout.offload {
        Offload::None => (pass, 0.0),
        Offload::Optimizer | Offload::Everything => (0.0, bytes / (profile.offload_gb * 1e9)),
    }
}

/// Operations that one token needs, forward and backward, attention counted as causal.
pub fn flop_per_token(shape: &Architecture, sequence: u64) -> f64 {
    let untied = if shape.tied_embeddings { 0.0 } else { shape.embedding_parameters() };
    6.0 * (shape.active_parameters() - untied) + attention_flop_per_token(shape, sequence) / 2.0
}

/// Operations of scores and values for one token, forward and backward, over the whole square of the sequence.
pub fn attention_flop_per_token(shape: &Architecture, sequence: u64) -> f64 {
    let wide = match shape.attention {
        crate::architecture::Attention::Mha | crate::architecture::Attention::Gqa => 2.0 * real(shape.head_dim),
        crate::architecture::Attention::Mla(latent) => real(latent.nope) + real(latent.rope) + real(latent.value),
    };
    let windows = real(shape.mix.window_layers.min(shape.attention_layers()));
    let seen = (real(shape.attention_layers()) - windows) * real(sequence)
        + windows * real(sequence).min(2.0 * real(shape.mix.window));
    6.0 * seen * real(shape.heads) * wide
}

fn finish(work: &Work<'_>, peak: f64, parts: Parts, outside: Outside) -> Step {
    let layout = work.layout;
    let time = parts.total();
    let micro_batches = real(layout.micro_batches.unwrap_or(layout.pp));
    let tokens = real(layout.micro_batch) * micro_batches * real(layout.dp) * real(layout.sequence);
    let flop = flop_per_token(work.shape, layout.sequence) * tokens;
    let mfu = flop / time.0 / peak / real(layout.accelerators());
    let factor = outside.factor();
    let once = (parts.total().0 - parts.recompute.0).max(f64::MIN_POSITIVE);
    let again = 1.0 + parts.recompute.0 / once;
    Step {
        time,
        low: time / factor,
        high: time * factor,
        outside,
        parts,
        tokens,
        model_flop: Flop(flop),
        mfu,
        activity: Activity {
            compute: (mfu * again).min(1.0),
            memory: 0.0,
            links: 0.0,
            busy: 1.0 - (parts.bubble.0 / time.0).min(1.0),
        },
    }
}
