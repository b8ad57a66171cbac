//! How far loading its data holds an accelerator up.
//!
//! An accelerator takes a batch, works on it for a known time and takes the next, which readers have fetched meanwhile. What
//! remains of its time for work is its *utilisation* (AU). Three things take the rest: handing a batch over, which nothing
//! hides; a host that has many accelerators to feed; a store that cannot keep up.
//!
//! ```text
//! alone        A0 = c / (c + h + b/m)                 c compute, b bytes, h handover, m copy of a batch
//! demand       D  = n b A0 / c                        of n accelerators
//! utilisation  A  = A0 / product over limits C of (1 + (D/C)^k)^(1/k)
//! an epoch     T  = batches c / A + start + readers x b / f
//! ```
//!
//! Each factor is a smooth form of the asymptotic bound `min(1, C/D)` of a closed queue (Denning and Buzen 1978, ACM Computing
//! Surveys 10(3) 225) and never above it. Invariant: pure, O(1); a faster store, host or reader is never slower, and more
//! accelerators are never busier each.

mod profile;
#[cfg(test)]
mod tests;

use dh_units::{Bytes, BytesPerSec, Seconds, real};

use crate::error::{Error, above_zero};

pub use profile::Profile;

/// What takes the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Consumer {
    /// Accelerators, all hosts.
    pub accelerators: u64,
    /// Hosts that they are in.
    pub hosts: u64,
    /// Samples of a batch of one accelerator.
    pub batch: f64,
    /// Bytes of a sample as it is stored.
    pub sample: f64,
    /// How long an accelerator works on a batch.
    pub compute: Seconds,
    /// Readers of one accelerator, each with a batch in its hands.
    pub readers: u64,
}

impl Consumer {
    /// Bytes of a batch.
    pub fn batch_bytes(&self) -> f64 {
        self.batch * self.sample
    }

    /// What all accelerators would read if nothing held them up.
    pub fn most(&self) -> BytesPerSec {
        BytesPerSec(real(self.accelerators) * self.batch_bytes() / self.compute.0)
    }
}

/// What gives it. A limit that is `None` binds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Supply {
    /// The store's reading bandwidth, all clients together: drives, servers, their ports.
    pub store: Option<BytesPerSec>,
    /// What one host can take in: its ports, its processors.
    pub host: Option<BytesPerSec>,
    /// From a reader's request until its first byte; a reader waits so once for each sample.
    pub latency: Seconds,
    /// What one reader gets once bytes flow.
    pub stream: Option<BytesPerSec>,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loading {
    /// Share of time that accelerators work, while an epoch is under way.
    pub utilisation: f64,
    /// The same without any limit of host or store.
    pub alone: f64,
    /// How long a batch holds its accelerator up, on average.
    pub exposed: Seconds,
    /// Demand over the tightest limit; 0 without one.
    pub load: f64,
    /// How long an epoch's first batch is waited for.
    pub fill: Seconds,
    /// Samples a second of all accelerators, while an epoch is under way.
    pub samples_per_second: f64,
    /// Bytes a second of all accelerators, while an epoch is under way.
    pub bandwidth: BytesPerSec,
}

impl Loading {
    /// Share of an epoch of `batches` batches for each accelerator that is not spent waiting for its first; 1 for an epoch
    /// without end.
    pub fn steady_share(&self, compute: Seconds, batches: f64) -> f64 {
        let under_way = batches * compute.0 / self.utilisation;
        under_way / (under_way + self.fill.0)
    }
}

/// Utilisation over that without the limit: at most `min(1, 1/load)`.
fn held(load: f64, sharpness: f64) -> f64 {
    // For high powers the sum overflows where the plain minimum is exact anyway.
    if load > 1.0 {
        1.0 / load / (1.0 + load.powf(-sharpness)).powf(1.0 / sharpness)
    } else {
        (1.0 + load.powf(sharpness)).powf(-1.0 / sharpness)
    }
}

/// The load, as demand over limit, at which a limit of this sharpness leaves `share` of the time, above 0 and below 1.
pub fn load_that_leaves(share: f64, sharpness: f64) -> f64 {
    (share.clamp(f64::MIN_POSITIVE, 1.0).powf(-sharpness) - 1.0).powf(1.0 / sharpness)
}

/// How `consumer` gets on with `supply`.
/// # Errors
/// [`Error::Work`] if the consumer has no accelerators or hosts, [`Error::Profile`] if a size, a time or a limit is not above
/// zero.
pub fn steady(consumer: &Consumer, supply: &Supply, profile: &Profile) -> Result<Loading, Error> {
    for (figure, value) in [("accelerators", consumer.accelerators), ("hosts", consumer.hosts)] {
        if value == 0 {
            return Err(Error::Work { figure, value: 0.0, expected: "at least 1" });
        }
    }
    above_zero("batch", consumer.batch)?;
    above_zero("sample", consumer.sample)?;
    let compute = above_zero("compute", consumer.compute.0)?;
    if !(supply.latency.0.is_finite() && supply.latency.0 >= 0.0) {
        return Err(Error::Profile { figure: "latency", value: supply.latency.0 });
    }
    let bytes = consumer.batch_bytes();
    let alone = compute / (compute + profile.handover.0 + bytes / profile.copy.0);
    let demand = consumer.most().0 * alone;
    let readers = real(consumer.readers.max(1)) * real(consumer.accelerators);
    let stream = match supply.stream {
        Some(stream) => Some(above_zero("stream", stream.0)?),
        None => None,
    };
    let a_sample = supply.latency.0 + stream.map_or(0.0, |stream| consumer.sample / stream);
    let limits = [
        (supply.host.map(|host| host.0 * real(consumer.hosts)), profile.host_sharpness),
        (supply.store.map(|store| store.0), profile.store_sharpness),
        ((a_sample > 0.0).then(|| readers * consumer.sample / a_sample), profile.store_sharpness),
    ];
    let (mut utilisation, mut load) = (alone, 0.0_f64);
    for (limit, sharpness) in limits {
        if let Some(limit) = limit {
            let here = demand / above_zero("bandwidth", limit)?;
            utilisation *= held(here, sharpness);
            load = load.max(here);
        }
    }
    let samples_per_second = real(consumer.accelerators) * consumer.batch / compute * utilisation;
    Ok(Loading {
        utilisation,
        alone,
        exposed: Seconds(compute / utilisation - compute),
        load,
        fill: profile.start + Seconds(real(consumer.readers.max(1)) * bytes / profile.fill.0),
        samples_per_second,
        bandwidth: BytesPerSec(samples_per_second * consumer.sample),
    })
}

/// How long reading `bytes` for each step holds up a step that takes `step`, if the next step's bytes are fetched meanwhile:
/// what of the reading does not fit beside the work.
pub fn exposed_reading(bytes: Bytes, bandwidth: BytesPerSec, step: Seconds) -> Seconds {
    Seconds(((bytes / bandwidth).0 - step.0).max(0.0))
}
