//! Tests of one link: a copy between two accelerators, or writes between two network adapters.
//!
//! Invariant: no library is between, so that only what a plain transfer reaches of the line rate is in the answer.

use dh_units::{Bytes, BytesPerSec, Seconds, real};

use crate::collectives::{Algorithm, Prediction, Protocol, Terms};

/// Of the data sheet's links, reached by a copy: 376 of 450 GB/s on H100, 747 of 900 on GB200 (ml-engineering).
const COPIED: f64 = 0.83;
/// Of the line rate, reached by one-sided writes of an adapter: 24.5 of 25 GB/s (Azure), 24.2 (AWS).
const WRITTEN: f64 = 0.98;
/// Between two writes: 18.5 GB/s at 8 KiB and 21 at 16 (Azure).
const GAP: Seconds = Seconds(0.11e-6);
/// The factor that four of five rows lie within.
const FACTOR: f64 = 1.05;

/// A copy over links of `bandwidth`.
pub(super) fn copy(bytes: Bytes, bandwidth: BytesPerSec) -> Prediction {
    of(bytes, bandwidth * COPIED, Seconds(0.0))
}

/// One of many writes over a port of `line`.
pub(super) fn write(bytes: Bytes, line: BytesPerSec) -> Prediction {
    of(bytes, line * WRITTEN, GAP)
}

fn of(bytes: Bytes, rate: BytesPerSec, gap: Seconds) -> Prediction {
    let terms = Terms { latency: gap, pipeline: Seconds(0.0), bandwidth: Seconds(real(bytes.0) / rate.0) };
    let seconds = terms.total();
    Prediction {
        seconds,
        algorithm: Algorithm::Direct,
        protocol: Protocol::Plain,
        bus_bandwidth: BytesPerSec(real(bytes.0) / seconds.0),
        terms,
        low: seconds / FACTOR,
        high: seconds * FACTOR,
        outside_calibrated_range: false,
    }
}
