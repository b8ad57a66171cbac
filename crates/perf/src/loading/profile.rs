//! What the model of loading has learned.
//!
//! Invariant: every number is above zero and finite; one that a catalogue does not have, or has wrong, is that of
//! [`Profile::PRIOR`].

use dh_blueprint::Catalog;
use dh_units::{BytesPerSec, Seconds};

/// How a host takes in what a store delivers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Stall of every batch however fast the store is: the framework hands it over. In a profile `handover_ms`.
    pub handover: Seconds,
    /// How fast a batch is then copied, while the accelerator waits. In a profile `copy_gbps`, GB/s.
    pub copy: BytesPerSec,
    /// How sharply a host's share of time at work bends as its intake nears its limit; 1 for a queue of its own making,
    /// infinite for a hard limit. In a profile `host_sharpness`.
    pub host_sharpness: f64,
    /// The same of the store. In a profile `store_sharpness`.
    pub store_sharpness: f64,
    /// From the start of an epoch until the readers of all accelerators run. In a profile `start_s`.
    pub start: Seconds,
    /// How fast the readers of one accelerator then fill their first buffers. In a profile `fill_gbps`, GB/s.
    pub fill: BytesPerSec,
}

impl Profile {
    /// What is held without any published run. Handing over a batch in Python is a millisecond and a copy in memory runs at
    /// 100 GB/s or more; stated assumptions. The store's sharpness: Micron's 9400 and 9550 at 0.91 of the sequential rate of
    /// their data sheets keep 0.98 and 0.92 of what they do alone (`MLPerf` Storage v1.0), which 8 lies between.
    pub const PRIOR: Self = Self {
        handover: Seconds(0.9e-3),
        copy: BytesPerSec(170e9),
        host_sharpness: 2.0,
        store_sharpness: 8.0,
        start: Seconds(0.2),
        fill: BytesPerSec(0.6e9),
    };

    /// The profile `loading` of `catalog`.
    pub fn of(catalog: &Catalog) -> Self {
        let numbers = catalog.efficiency("loading").map(|item| &item.numbers.value.0);
        let number = |name: &str, prior: f64| {
            let found = numbers.and_then(|numbers| numbers.get(name)).copied();
            found.filter(|value| value.is_finite() && *value > 0.0).unwrap_or(prior)
        };
        let prior = Self::PRIOR;
        Self {
            handover: Seconds(number("handover_ms", prior.handover.0 * 1e3) * 1e-3),
            copy: BytesPerSec(number("copy_gbps", prior.copy.0 * 1e-9) * 1e9),
            host_sharpness: number("host_sharpness", prior.host_sharpness),
            store_sharpness: number("store_sharpness", prior.store_sharpness),
            start: Seconds(number("start_s", prior.start.0)),
            fill: BytesPerSec(number("fill_gbps", prior.fill.0 * 1e-9) * 1e9),
        }
    }
}
