//! How long a data-parallel training job takes: the parts of a step one after the other, then what happens between steps.
//!
//! ```text
//! step  = products + small operations + memory traffic + exchange of gradients
//! total = steps x step + evaluations + waiting for data + checkpoints + lost ranks
//! ```
//!
//! Each part has the speed that was measured for it with all ranks busy, so shared cores and memory channels are in the
//! figures. The parts of a step are added, not overlapped: the built-in framework does one thing at a time.
//! Invariant: more work, a slower figure, more ranks in the exchange never make the total smaller. O(products x rates).

use dh_units::{Based, Bytes, Seconds, real, significant};
use serde::{Deserialize, Serialize};

use crate::collective::{Collective, all_reduce, share};
use crate::error::{Error, above_zero};
use crate::gemm::{Gemm, Rate, rate_of};
use crate::profile::MachineProfile;

/// How far a prediction may be below what happens on a machine that is used for other things as well.
/// A stated assumption; what `datahall validate` measures may replace it.
const HIGH_RATIO: f64 = 1.25;

/// The same when the machine was not measured under the job's conditions.
const HIGH_RATIO_UNLIKE: f64 = 1.6;

/// Clocks and caches vary by this much between a measurement and a job even on an idle machine; a stated assumption.
const LOW_RATIO: f64 = 0.9;

/// What a training job does, in numbers. "Per step" is one step of one rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingWork {
    /// Ranks that train together.
    pub ranks: u32,
    /// Samples of one step over all ranks.
    pub batch: u32,
    /// Steps of the whole job.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// Matrix products per step, forward and backward.
    pub gemms: Vec<Gemm>,
    /// Tensor operations per step that are issued one by one, products not counted.
    pub small_operations: u64,
    /// Bytes per step that stream through memory: optimiser and elementwise operations.
    pub memory_bytes: Bytes,
    /// The vector that is summed over all ranks at each step.
    pub exchange_bytes: Bytes,
    /// In how many pieces it is summed, one after the other.
    pub exchange_messages: u32,
    /// How ranks exchange.
    pub collective: Collective,
    /// What is computed after each epoch.
    pub evaluation: Evaluation,
    /// Bytes of samples that all ranks together read in an epoch.
    pub data_bytes_per_epoch: Bytes,
    /// Memory of the store for what is read often.
    pub cache_bytes: Bytes,
    /// One checkpoint.
    pub checkpoint_bytes: Bytes,
    /// How many are written.
    pub checkpoints: u64,
    /// Ranks expected to be lost, if that is to be counted.
    pub losses: Option<Losses>,
}

/// What is computed after each epoch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Matrix products of one batch of one rank.
    pub gemms: Vec<Gemm>,
    /// Small operations of one batch of one rank.
    pub small_operations: u64,
    /// Batches of one rank over the whole job.
    pub batches: u64,
}

/// Ranks that are lost while the job runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// How many times.
    pub count: u32,
    /// Steps between two checkpoints; half of them are done again on average.
    pub checkpoint_every: u64,
    /// From the loss until the gang steps again.
    pub restart: Seconds,
}

/// One part of the total.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    pub name: String,
    /// Its share of the total.
    pub seconds: Seconds,
    /// The formula with its numbers filled in.
    pub basis: String,
}

/// A predicted job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// From the first step to the last checkpoint.
    pub total: Seconds,
    /// What the total is made of; the seconds add up to it.
    pub parts: Vec<Part>,
    /// Samples per second while stepping, evaluation and checkpoints not counted.
    pub samples_per_second: Based<f64>,
    /// The least ratio of the true time to `total` that would not be a surprise.
    pub low_ratio: f64,
    /// The largest.
    pub high_ratio: f64,
    /// Why these ratios.
    pub interval_basis: String,
    /// Bytes of samples that ranks ask the store for.
    pub data_read: Based<Bytes>,
    /// How many of them come from the store's memory.
    pub cache_hits: Based<Bytes>,
}

impl Prediction {
    /// The shortest and the longest time that would not be a surprise.
    pub fn interval(&self) -> (Seconds, Seconds) {
        (self.total * self.low_ratio, self.total * self.high_ratio)
    }
}

/// How long `work` takes on a machine like `machine`.
/// # Errors
/// [`Error::Work`] if the job makes no sense, [`Error::Profile`] or [`Error::NoRates`] if a figure of the machine that the
/// job needs is missing.
pub fn predict(work: &TrainingWork, machine: &MachineProfile) -> Result<Prediction, Error> {
    check(work, machine)?;
    let steps = real(work.steps);
    let step = Step::of(work, machine)?;
    let products = products_part("matrix products", &work.gemms, work.steps, machine)?;
    let operations = Part {
        name: "small operations".to_owned(),
        seconds: Seconds(step.operations * steps),
        basis: format!("{} steps x {} operations x {}", work.steps, work.small_operations, machine.operation),
    };
    let memory = Part {
        name: "memory traffic".to_owned(),
        seconds: Seconds(step.memory * steps),
        basis: format!("{} steps x {} / {}", work.steps, work.memory_bytes, machine.memory),
    };
    let exchange = Part {
        name: "exchange of gradients".to_owned(),
        seconds: Seconds(step.exchange * steps),
        basis: exchange_basis(work, machine),
    };
    let evaluation = evaluation_part(work, machine)?;
    let (data_read, cache_hits) = bytes_read(work);
    let waiting = waiting_part(work, machine, step.total(), cache_hits.value);
    let checkpoints = Part {
        name: "checkpoints".to_owned(),
        seconds: Seconds(work.checkpoint_bytes.as_f64() * real(work.checkpoints) / machine.disk_write.0),
        basis: format!("{} x {} / {} durable", work.checkpoints, work.checkpoint_bytes, machine.disk_write),
    };
    let mut parts = vec![products, operations, memory, exchange, evaluation, waiting, checkpoints];
    if let Some(losses) = &work.losses {
        parts.push(losses_part(losses, step.total()));
    }
    let total: Seconds = parts.iter().map(|part| part.seconds).sum();
    let (low_ratio, high_ratio, interval_basis) = interval(work, machine, &step, total)?;
    Ok(Prediction {
        total,
        samples_per_second: samples(work, &step),
        low_ratio,
        high_ratio,
        interval_basis,
        data_read,
        cache_hits,
        parts,
    })
}

/// Seconds of one step of one rank.
struct Step {
    products: f64,
    operations: f64,
    memory: f64,
    exchange: f64,
}

impl Step {
    fn of(work: &TrainingWork, machine: &MachineProfile) -> Result<Self, Error> {
        let vector = all_reduce(
            work.collective,
            work.ranks,
            work.exchange_bytes,
            machine.message_latency * f64::from(work.exchange_messages.max(1)),
            machine.message_bandwidth,
        );
        Ok(Self {
            products: products(&work.gemms, machine)?,
            operations: real(work.small_operations) * machine.operation.0,
            memory: (work.memory_bytes / machine.memory).0,
            exchange: if work.exchange_bytes.0 == 0 { 0.0 } else { vector.0 },
        })
    }

    fn total(&self) -> f64 {
        self.products + self.operations + self.memory + self.exchange
    }

    /// If arithmetic, issuing and memory overlapped perfectly.
    fn overlapped(&self) -> f64 {
        self.products.max(self.operations).max(self.memory) + self.exchange
    }
}

/// Seconds of these products done once by each rank.
fn products(gemms: &[Gemm], machine: &MachineProfile) -> Result<f64, Error> {
    let each = gemms.iter().map(|gemm| {
        let rate = rate_of(gemm, &machine.gemm)?;
        Ok(gemm.flop() * f64::from(gemm.count) / rate.speed().0)
    });
    each.sum()
}

fn products_part(name: &str, gemms: &[Gemm], times: u64, machine: &MachineProfile) -> Result<Part, Error> {
    let flop: f64 = gemms.iter().map(|gemm| gemm.flop() * f64::from(gemm.count)).sum();
    let seconds = products(gemms, machine)?;
    let basis = if gemms.is_empty() {
        "no products".to_owned()
    } else {
        format!(
            "{times} steps x {} / {} (mean of {} shapes, {} of them measured)",
            dh_units::Flop(flop),
            dh_units::FlopPerSec(flop / seconds),
            gemms.len(),
            measured(gemms, machine)?,
        )
    };
    Ok(Part { name: name.to_owned(), seconds: Seconds(seconds * real(times)), basis })
}

/// How many of the shapes were measured themselves.
fn measured(gemms: &[Gemm], machine: &MachineProfile) -> Result<usize, Error> {
    let rates: Vec<Rate> = gemms.iter().map(|gemm| rate_of(gemm, &machine.gemm)).collect::<Result<_, _>>()?;
    Ok(rates.iter().filter(|rate| matches!(rate, Rate::Measured(_))).count())
}

fn exchange_basis(work: &TrainingWork, machine: &MachineProfile) -> String {
    if work.ranks < 2 || work.exchange_bytes.0 == 0 {
        return "one rank exchanges nothing".to_owned();
    }
    let waits = work.collective.waits(work.ranks) * f64::from(work.exchange_messages.max(1));
    format!(
        "{} steps x ({} waits x {} + {} x {} / {}) with {} ranks",
        work.steps,
        significant(waits),
        machine.message_latency,
        significant(share(work.ranks)),
        work.exchange_bytes,
        machine.message_bandwidth,
        work.ranks,
    )
}

fn evaluation_part(work: &TrainingWork, machine: &MachineProfile) -> Result<Part, Error> {
    let Evaluation { gemms, small_operations, batches } = &work.evaluation;
    let (products, operations) = (products(gemms, machine)?, real(*small_operations) * machine.operation.0);
    let basis = format!(
        "{batches} batches x ({} products + {small_operations} operations x {})",
        Seconds(products),
        machine.operation
    );
    Ok(Part { name: "evaluation".to_owned(), seconds: Seconds((products + operations) * real(*batches)), basis })
}

/// What is asked from the store, and how much of it is in the store's memory already.
fn bytes_read(work: &TrainingWork) -> (Based<Bytes>, Based<Bytes>) {
    let set = work.data_bytes_per_epoch;
    let times = |count: u32| Bytes(set.0.saturating_mul(u64::from(count)));
    let all = Based::new(times(work.epochs), format!("{} epochs x {set}", work.epochs));
    let hits = if set <= work.cache_bytes {
        let later = work.epochs.saturating_sub(1);
        Based::new(
            times(later),
            format!("the set of {set} fits into {} of cache: {later} later epochs hit", work.cache_bytes),
        )
    } else {
        let why = "a set that is read in turn has dropped out when its turn comes again";
        Based::new(Bytes(0), format!("the set of {set} does not fit into {} of cache; {why}", work.cache_bytes))
    };
    (all, hits)
}

/// The next samples are read while the present ones are computed with: only what takes longer is waited for.
fn waiting_part(work: &TrainingWork, machine: &MachineProfile, step: f64, hits: Bytes) -> Part {
    let epochs = f64::from(work.epochs);
    let computing = if work.epochs == 0 { 0.0 } else { real(work.steps) / epochs * step };
    let cold = (work.data_bytes_per_epoch / machine.disk_read).0;
    let warm = (work.data_bytes_per_epoch / machine.memory).0.min(cold);
    let warm_epochs = if hits.0 > 0 { epochs - 1.0 } else { 0.0 };
    let seconds = (cold - computing).max(0.0) * (epochs - warm_epochs) + (warm - computing).max(0.0) * warm_epochs;
    let basis = format!(
        "reading an epoch takes {} ({} / {}), computing it {}; the longer counts, {} of {} epochs from memory",
        Seconds(cold),
        work.data_bytes_per_epoch,
        machine.disk_read,
        Seconds(computing),
        significant(warm_epochs),
        work.epochs,
    );
    Part { name: "waiting for data".to_owned(), seconds: Seconds(seconds), basis }
}

fn losses_part(losses: &Losses, step: f64) -> Part {
    let again = real(losses.checkpoint_every) / 2.0 * step;
    Part {
        name: "lost ranks".to_owned(),
        seconds: Seconds((again + losses.restart.0) * f64::from(losses.count)),
        basis: format!(
            "{} x (half of {} steps done again, {} + restart {})",
            losses.count,
            losses.checkpoint_every,
            Seconds(again),
            losses.restart
        ),
    }
}

fn samples(work: &TrainingWork, step: &Step) -> Based<f64> {
    let rate = if step.total() > 0.0 { f64::from(work.batch) / step.total() } else { 0.0 };
    Based::new(rate, format!("batch of {} / step of {}", work.batch, Seconds(step.total())))
}

fn interval(
    work: &TrainingWork,
    machine: &MachineProfile,
    step: &Step,
    total: Seconds,
) -> Result<(f64, f64, String), Error> {
    let saved = (step.total() - step.overlapped()) * real(work.steps);
    let overlapped = if total.0 > 0.0 { (total.0 - saved) / total.0 } else { 1.0 };
    let low = LOW_RATIO.min(overlapped);
    let strange = work.gemms.len() - measured(&work.gemms, machine)?;
    let (high, because) = if machine.ranks != work.ranks || strange > 0 {
        let (measured, used) = (machine.ranks, work.ranks);
        let because = format!("measured with {measured} ranks, used with {used}, {strange} shapes interpolated");
        (HIGH_RATIO_UNLIKE, because)
    } else {
        (HIGH_RATIO, "a machine that also does other things".to_owned())
    };
    let why = format!(
        "low: if products, operations and memory traffic overlapped perfectly the ratio were {}, and machines vary by a \
         tenth; high: {because} (stated assumption)",
        significant(overlapped)
    );
    Ok((low, high, why))
}

fn check(work: &TrainingWork, machine: &MachineProfile) -> Result<(), Error> {
    if work.ranks == 0 {
        return Err(Error::Work { figure: "ranks", value: 0.0, expected: "at least one" });
    }
    if let Some(losses) = &work.losses
        && !(losses.restart.0.is_finite() && losses.restart.0 >= 0.0)
    {
        return Err(Error::Work { figure: "restart", value: losses.restart.0, expected: "a time of zero or more" });
    }
    for (figure, value) in [
        ("memory", machine.memory.0),
        ("operation", machine.operation.0),
        ("disk_write", machine.disk_write.0),
        ("disk_read", machine.disk_read.0),
    ] {
        above_zero(figure, value)?;
    }
    // A machine that was measured alone has no figures of its messages, and a single rank needs none.
    if work.ranks > 1 {
        above_zero("message_latency", machine.message_latency.0)?;
        above_zero("message_bandwidth", machine.message_bandwidth.0)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "training_tests.rs"]
mod tests;
