//! What serving costs: energy and money for a million generated tokens.
//!
//! Invariant: more accelerators for the same tokens never cost less. Energy is that of accelerators by what they do, of the
//! rest of their nodes, and of the building around them.

use dh_units::{Joules, Usd, UsdPerHour, Watts, real};

use crate::hardware::Accelerator;
use crate::power::{Activity, Profile, draw};

/// Prices.
#[derive(Debug, Clone, PartialEq)]
pub struct Worth {
    /// Of an accelerator for an hour, if it is known.
    pub accelerator_hour: Option<UsdPerHour>,
    /// What the rest of a node draws, for each of its accelerators.
    pub overhead: Watts,
    /// The site's ratio of all power to that of computers.
    pub pue: f64,
    /// What the model of power has learned.
    pub power: Profile,
}

/// Tokens that prices are told for.
const MILLION: f64 = 1e6;

impl Worth {
    /// The power of `accelerators`, with their nodes' and the building's; none if the accelerator's is not known.
    pub(super) fn power(&self, accelerator: &Accelerator, activity: Activity, accelerators: u64) -> Option<Watts> {
        let each = draw(accelerator, activity, &self.power).ok()?.power + self.overhead;
        Some(each * (self.pue * real(accelerators)))
    }

    /// Energy of a million tokens at `power` and so many tokens a second.
    pub(super) fn energy(power: Watts, tokens_per_second: f64) -> Joules {
        Joules(power.0 / tokens_per_second * MILLION)
    }

    /// Price of a million tokens.
    pub(super) fn cost(&self, accelerators: u64, tokens_per_second: f64) -> Option<Usd> {
        let hour = self.accelerator_hour?;
        Some(Usd(hour.0 * real(accelerators) / 3_600.0 / tokens_per_second * MILLION))
    }
}

/// `activity` of accelerators that work only a `share` of the time.
pub(super) fn at_times(activity: Activity, share: f64) -> Activity {
    let share = share.clamp(0.0, 1.0);
    Activity {
        compute: activity.compute * share,
        memory: activity.memory * share,
        links: activity.links * share,
        busy: activity.busy * share,
    }
}
