//! What interruptions and checkpoints leave of a run's time.
//!
//! Interruptions come by themselves every `M` seconds on average (exponential); `t` is the work between two checkpoints, `C`
//! how long one stops the work, `R` the time from an interruption until the work goes on. The share of time that is kept work
//! (Daly 2006, FGCS 22(3) 303) is
//!
//! ```text
//! ETTR = t / (M e^(R/M) (e^((t+C)/M) - 1)),   highest where t/M = 1 - e^(-(t+C)/M)
//! ```
//!
//! A checkpoint that is written in the background for `W` seconds is lost if an interruption comes meanwhile; then the work of
//! `W` more seconds is done again, as if the restart took `R + W`: exact to first order in `W/M`.
//!
//! Invariant: pure; more frequent interruptions, longer checkpoints and restarts never leave more.

use dh_units::Seconds;

use super::checkpoint::Times;
use crate::error::{Error, above_zero};

/// How often a run is interrupted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failures {
    /// Mean time between interruptions of the whole run, `M`.
    pub mtbf: Seconds,
    /// From an interruption until the work goes on from the last checkpoint, `R`.
    pub restart: Seconds,
}

/// Halvings of a bisection between 0 and `M`: down to less than its last bit.
const HALVINGS: u32 = 200;

/// Young's interval (1974, CACM 17(9) 530): `sqrt(2 C M)`.
pub fn young(stall: Seconds, mtbf: Seconds) -> Seconds {
    Seconds((2.0 * stall.0 * mtbf.0).sqrt())
}

/// The work between checkpoints that keeps most, exactly.
pub fn best(stall: Seconds, mtbf: Seconds) -> Seconds {
    let cost = stall.0 / mtbf.0;
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if middle + (-(middle + cost)).exp_m1() < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    mtbf * f64::midpoint(low, high)
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept {
    /// Work between checkpoints; `None` if none is taken.
    pub interval: Option<Seconds>,
    /// The share of time that is kept work, above 0 and at most 1.
    pub ettr: f64,
}

/// What of a run's time is kept, with a checkpoint after each `interval` of work; left out, at the best interval, but not before
/// the last checkpoint is durable.
/// # Errors
/// [`Error::Profile`] for times that cannot be, [`Error::Impossible`] for interruptions without checkpoints, or so frequent that
/// nothing is kept.
pub fn kept(failures: Option<&Failures>, checkpoint: Option<&Times>, interval: Option<Seconds>) -> Result<Kept, Error> {
    if let Some(interval) = interval {
        above_zero("checkpoint interval", interval.0)?;
    }
    match (failures, checkpoint) {
        (None, None) => Ok(Kept { interval: None, ettr: 1.0 }),
        (None, Some(times)) => {
            let ettr = interval.map_or(1.0, |work| work.0 / (work.0 + times.stall.0));
            Ok(Kept { interval, ettr })
        }
        (Some(_), None) => Err(Error::Impossible("a run that is interrupted needs checkpoints")),
        (Some(failures), Some(times)) => {
            let mtbf = above_zero("mtbf", failures.mtbf.0)?;
            if !(failures.restart.0.is_finite() && failures.restart.0 >= 0.0) {
                return Err(Error::Profile { figure: "restart", value: failures.restart.0 });
            }
            let background = times.durable.0 - times.stall.0;
            let work = interval.map_or_else(|| best(times.stall, failures.mtbf).0.max(background), |work| work.0);
            let restart = failures.restart.0 + background;
            let ettr = if work > 0.0 {
                work / mtbf * (-restart / mtbf).exp() / ((work + times.stall.0) / mtbf).exp_m1()
            } else {
                (-restart / mtbf).exp()
            };
            if ettr > 0.0 {
                Ok(Kept { interval: Some(Seconds(work)), ettr })
            } else {
                Err(Error::Impossible("interruptions come so often that no work is kept"))
            }
        }
    }
}
