//! What an accelerator draws while it works, what a cap of that power costs in speed, and what a run costs in energy.
//!
//! Power is linear in what is switched: a share drawn at rest, one while any kernel runs, and more for operations, bytes
//! and links; the sum bends into the limit, since the card lowers its clock there. Invariant: more work never draws less,
//! nothing draws more than its limit, and a tighter cap is never faster. Cost: a dozen multiplications, three powers.
//!
//! Source of the form: Hong and Kim 2010 (power as a sum over units); of its numbers: `catalog/efficiency/power*.toml`,
//! fitted to published runs.

mod activity;
mod cap;
mod energy;
mod profile;

use dh_units::Watts;

use crate::error::Error;
use crate::hardware::Accelerator;

pub use activity::{Activity, Decoding};
pub use cap::{Slowdown, slowdown};
pub use energy::{Energy, Node, Run, per_million_tokens, per_token};
pub use profile::Profile;

/// A power, and the interval that four of five measurements should lie in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Average power of one accelerator.
    pub power: Watts,
    /// The low end of the interval.
    pub low: Watts,
    /// The high end.
    pub high: Watts,
    /// No published run of this accelerator was fitted.
    pub outside_calibrated_range: bool,
}

/// What `accelerator` draws at `activity`.
///
/// The interval is that of language models being served, whose published runs are most; it does not end above the limit.
/// # Errors
/// [`Error::Impossible`] if its thermal design power is not known.
pub fn draw(accelerator: &Accelerator, activity: Activity, profile: &Profile) -> Result<Draw, Error> {
    let tdp = accelerator.tdp.ok_or(Error::Impossible("the catalogue does not know the accelerator's power"))?;
    let power = tdp * share(activity, profile);
    Ok(Draw {
        power,
        low: power * profile.spread_low,
        high: Watts((power * profile.spread_high).0.min(tdp.0)),
        outside_calibrated_range: profile.calibrated.is_none(),
    })
}

/// The share of thermal design power that is drawn at `activity`: at most 1.
pub fn share(activity: Activity, profile: &Profile) -> f64 {
    // What is not a number counts as nothing.
    let at = |value: f64| value.max(0.0).clamp(0.0, 1.0);
    let drawn = profile.idle
        + profile.busy * at(activity.busy)
        + profile.compute * activity.compute.max(0.0)
        + profile.memory * at(activity.memory)
        + profile.links * at(activity.links);
    bend(drawn, LIMIT_BEND)
}

/// How sharply power meets its limit: at 90 % of it a job of constant power loses 4 %. Stated assumption: averages of jobs
/// whose phases differ meet the limit softly; published runs end at 0.98 of it, and 6 to 12 fit alike.
const LIMIT_BEND: f64 = 8.0;

/// `x` where it is small, 1 where it is large, never more, and rising throughout.
fn bend(x: f64, sharpness: f64) -> f64 {
    let x = x.max(0.0);
    // Beyond this the power overflows, and the result has long been 1.
    if x > 1e6 { 1.0 } else { (x / (1.0 + x.powf(sharpness)).powf(1.0 / sharpness)).min(1.0) }
}

#[cfg(test)]
mod tests;
