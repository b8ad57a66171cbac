//! The memory of training, by part and by pipeline stage.
//!
//! Invariant: the parts add up to the total; the answer is that of the fullest stage.

use dh_units::{Bytes, whole};

use super::activations::{at_work, kept, logits, tokens};
use super::states::{Ends, held, states};
use super::{Fit, Overheads};
use crate::architecture::Architecture;
use crate::error::Error;
use crate::layout::Layout;

/// The memory of one accelerator of a pipeline stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageMemory {
    /// Resident weights.
    pub weights: Bytes,
    /// Resident gradients.
    pub gradients: Bytes,
    /// Optimiser states.
    pub optimizer: Bytes,
    /// What forward passes keep for backward passes, over all micro-batches in flight.
    pub activations: Bytes,
    /// The layer that is computed again, its gradients, logits, gathered weights; contexts, buckets, the allocator's holes.
    pub buffers: Bytes,
}

impl StageMemory {
    /// All of it.
    pub const fn total(&self) -> Bytes {
        Bytes(
            self.weights
                .0
                .saturating_add(self.gradients.0)
                .saturating_add(self.optimizer.0)
                .saturating_add(self.activations.0)
                .saturating_add(self.buffers.0),
        )
    }

    /// Weights, gradients and optimiser states.
    pub const fn states(&self) -> Bytes {
        Bytes(self.weights.0.saturating_add(self.gradients.0).saturating_add(self.optimizer.0))
    }
}

/// The memory of training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The fullest stage, from 0.
    pub fullest: u64,
    /// Its memory.
    pub peak: StageMemory,
    /// Each stage's memory, the first stage first.
    pub stages: Vec<StageMemory>,
    /// What the fullest accelerator cannot do without, when the allocator gives back what it can.
    pub needed: Bytes,
}

impl Memory {
    /// Bytes that the fullest accelerator shows while it has room.
    pub const fn total(&self) -> Bytes {
        self.peak.total()
    }

    /// Whether the fullest accelerator has enough with `capacity`: what it cannot do without is compared, which is less than
    /// [`Memory::total`].
    pub const fn fits(&self, capacity: Bytes) -> Fit {
        Fit::of(self.needed, capacity)
    }
}

/// The memory that training `shape` in `layout` needs of each accelerator.
/// # Errors
/// [`Error::Work`] if the layout cannot be; see [`Layout::check`].
pub fn training(shape: &Architecture, layout: &Layout, overheads: Overheads) -> Result<Memory, Error> {
    layout.check(shape)?;
    let mut first = 0;
    let mut stages = Vec::new();
    let mut needed = Bytes(0);
    for stage in 0..layout.pp {
        let (shown, pressed) = of_stage(shape, layout, overheads, stage, first);
        stages.push(shown);
        needed = needed.max(pressed);
        first += layout.layers_of(shape, stage);
    }
    let mut fullest = 0;
    let mut peak = StageMemory::default();
    for (stage, memory) in (0_u64..).zip(&stages) {
        if memory.total() > peak.total() {
            (fullest, peak) = (stage, *memory);
        }
    }
    Ok(Memory { fullest, peak, stages, needed })
}

/// What the stage shows, and what it cannot do without.
fn of_stage(
    shape: &Architecture,
    layout: &Layout,
    overheads: Overheads,
    stage: u64,
    first: u64,
) -> (StageMemory, Bytes) {
    let states = states(held(shape, layout, stage, first, Ends::WithEmbeddings), layout);
    let tokens = tokens(layout);
    let layers = first..first + layout.layers_of(shape, stage);
    let kept_per_token: f64 = layers.clone().map(|index| kept(shape, layout, index)).sum();
    let activations = kept_per_token * tokens * layout.in_flight(stage);
    let busiest = layers.map(|index| at_work(shape, layout, index)).fold(0.0, f64::max);
    // The loss is computed before any layer goes back, so that logits and the layer at work never meet.
    let head = if stage + 1 == layout.pp { logits(shape, layout) } else { 0.0 };
    let working = busiest.max(head) * tokens + states.gathered;
    let in_use = states.weights + states.gradients + states.optimizer + activations + working;
    let fixed = overheads.context + overheads.buckets;
    let shown = StageMemory {
        weights: Bytes(whole(states.weights)),
        gradients: Bytes(whole(states.gradients)),
        optimizer: Bytes(whole(states.optimizer)),
        activations: Bytes(whole(activations)),
        buffers: Bytes(whole(working + fixed + overheads.held * in_use)),
    };
    (shown, Bytes(whole(in_use + fixed + overheads.pressed * in_use)))
}

/// Weights, gradients and optimiser states of a stage that holds layers alone, the first if there is no other.
///
/// Studies of pipelines print this figure for all stages: it leaves out what only the end stages have.
/// # Errors
/// [`Error::Work`] if the layout cannot be.
pub(super) fn layers_alone(shape: &Architecture, layout: &Layout) -> Result<Bytes, Error> {
    layout.check(shape)?;
    let stage = layout.pp / 2;
    let first = (0..stage).map(|earlier| layout.layers_of(shape, earlier)).sum();
    let ends = if layout.pp == 1 { Ends::WithEmbeddings } else { Ends::LayersOnly };
    let states = states(held(shape, layout, stage, first, ends), layout);
    Ok(Bytes(whole(states.weights + states.gradients + states.optimizer + states.gathered)))
}
