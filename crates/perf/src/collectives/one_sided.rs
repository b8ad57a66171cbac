//! Exchanges of experts by kernels that write into their peers' memory: dispatch and combine.
//!
//! Invariant: all peers are written to at once, so that there is one start whatever their number; the slower of both links is
//! what a message waits for. Source of the form: the published description of `DeepEP`'s low-latency kernels; of the numbers:
//! aiconfigurator's table of them on H100, 30 rows of 8 to 64 ranks.

use dh_units::{Bytes, BytesPerSec, Seconds};

use super::{Algorithm, Error, Fabric, Group, Kind, Prediction, Protocol, Terms, check};

/// From the first kernel to the last, of no bytes, inside a domain.
const START: Seconds = Seconds(13e-6);
/// The same when a message crosses the network.
const START_BETWEEN: Seconds = Seconds(22e-6);
/// Of the data sheet's links, reached by the few multiprocessors that such a kernel takes.
const SHARE: f64 = 0.5;
/// Of the line rate, reached by one-sided writes: 44 of 50 GB/s.
const SHARE_BETWEEN: f64 = 0.88;
/// The factor that four of five published times lie within.
const FACTOR: f64 = 1.25;
/// Ranks of the largest published row that gave the numbers.
const MOST_RANKS: u32 = 64;

/// How long each of `group` takes to send `bytes` in parts of one size to all ranks, its own among them. For a dispatch of `n`
/// tokens to `k` experts each they are `n k h` elements.
///
/// # Errors
/// As [`super::time`].
pub fn one_sided(bytes: Bytes, group: Group, fabric: &Fabric) -> Result<Prediction, Error> {
    check(group, fabric)?;
    let (ranks, inside) = (f64::from(group.ranks), f64::from(group.per_domain.min(group.ranks)));
    let part = bytes.as_f64() / ranks;
    let within = (inside - 1.0) * part / (fabric.scale_up.bandwidth.0 * SHARE);
    let (start, between) = match fabric.scale_out {
        Some(out) if group.domains() > 1 => {
            let port = out.bandwidth.0 / out.oversubscription.max(1.0) * SHARE_BETWEEN;
            (START_BETWEEN, (ranks - inside) * part / port)
        }
        Some(_) | None => (START, 0.0),
    };
    let terms = Terms { latency: start, pipeline: Seconds(0.0), bandwidth: Seconds(within.max(between)) };
    let seconds = terms.total();
    Ok(Prediction {
        seconds,
        algorithm: Algorithm::Direct,
        protocol: Protocol::Flagged,
        bus_bandwidth: BytesPerSec(bytes.as_f64() * Kind::AllToAll.bus_factor(group.ranks) / seconds.0),
        terms,
        low: seconds / FACTOR,
        high: seconds * FACTOR,
        outside_calibrated_range: group.ranks > MOST_RANKS || group.ranks < 8,
    })
}
