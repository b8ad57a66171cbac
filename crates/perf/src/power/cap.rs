//! What a cap of power costs in speed.
//!
//! Above its least voltage a chip's switched power goes with the third power of its clock, since voltage rises with it;
//! at the least voltage only with the clock itself. A cap below what a job draws is met by lowering the clock until the
//! job's power fits: first cheaply, then dearly. Part of a job waits for memory or the host and does not mind.
//!
//! Invariant: no slowdown above what the job draws; a tighter cap is never faster. Source of the form: Mudge 2001 (power
//! and voltage); of its numbers: the published traces that `catalog/efficiency/power*.toml` name.

use dh_units::Watts;

use super::{Profile, bend};
use crate::error::Error;

/// How much longer a job takes under a cap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slowdown {
    /// Time under the cap over time without: at least 1.
    pub factor: f64,
    /// The low end of the interval that four of five measurements should lie in.
    pub low: f64,
    /// The high end.
    pub high: f64,
    /// What the job draws under the cap.
    pub power: Watts,
    /// No published trace of this accelerator was fitted, or the cap is so low that the clock has no room left.
    pub outside_calibrated_range: bool,
}

/// The third power of the clock, above the least voltage.
const CUBE: f64 = 3.0;
/// The clock is not lowered below where this share of a job's switched power is left.
const LEAST_SWITCHED: f64 = 0.02;

/// How sharply the average of a power that fluctuates meets a cap. Stated assumption, as that of the limit itself: a job of
/// 226 W draws 188 W under 200 W and 148 W under 150 W, where traces of V100 have 187 to 192 W and 146 W.
const CAP_BEND: f64 = 8.0;

/// What a cap of `cap` does to a job that draws `uncapped` on an accelerator whose default limit is `limit`.
/// # Errors
/// [`Error::Work`] unless all three are above zero.
pub fn slowdown(uncapped: Watts, cap: Watts, limit: Watts, profile: &Profile) -> Result<Slowdown, Error> {
    for (figure, value) in [("uncapped", uncapped.0), ("cap", cap.0), ("limit", limit.0)] {
        if !(value > 0.0 && value.is_finite()) {
            return Err(Error::Work { figure, value, expected: "a power above zero" });
        }
    }
    let held = cap.0 * profile.cap_held;
    let power = cap * bend(uncapped / cap, CAP_BEND);
    let outside = profile.cap_calibrated.is_none();
    if uncapped.0 <= held {
        let (low, high) = (profile.free_low, profile.free_high);
        return Ok(Slowdown { factor: 1.0, low, high, power, outside_calibrated_range: outside });
    }
    // What does not depend on the clock; a job that draws hardly more than that has little to give.
    let still = (profile.cap_static * limit.0).min(uncapped.0 * 0.99);
    let switched = ((held - still) / (uncapped.0 - still)).clamp(LEAST_SWITCHED, 1.0);
    let knee = profile.cap_knee;
    let at_knee = knee.powf(CUBE);
    let clock = if switched >= at_knee { switched.powf(1.0 / CUBE) } else { knee * switched / at_knee };
    // The more of its range a job draws, the more of its time it waits for the clock.
    let range = limit.0 * (1.0 - profile.cap_static);
    let bound = ((uncapped.0 - still) / range).clamp(0.01, 1.0).powf(profile.cap_bound);
    let factor = (1.0 - bound) + bound / clock;
    Ok(Slowdown {
        factor,
        low: factor * profile.bite_low,
        high: factor * profile.bite_high,
        power,
        outside_calibrated_range: outside || switched <= LEAST_SWITCHED,
    })
}
