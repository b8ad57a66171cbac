//! The same figures for parts of the jobs: by queue, by size.
//!
//! Invariant: bounded; queues beyond [`QUEUES_MAX`] share one row, sizes are powers of two.

use dh_core::time::Span;

use super::facts::Stop;
use super::outcome::{Group, Times, hours};
use super::sketch::Sketch;

/// Queues with a row of their own.
pub(crate) const QUEUES_MAX: usize = 64;

/// Figures of some of the jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) ended: u64,
    pub(crate) jct: Sketch,
    pub(crate) queueing: Sketch,
    pub(crate) held: u128,
    pub(crate) kept: u128,
    pub(crate) preemptions: u64,
}

impl Tally {
    pub(crate) fn group(&self, name: String) -> Group {
        Group {
            name,
            jobs: self.ended,
            jct: Times::of(&self.jct),
            queueing: Times::of(&self.queueing),
            held_accelerator_hours: hours(self.held),
            useful_accelerator_hours: hours(self.kept),
            preemptions: self.preemptions,
        }
    }
}

/// Tallies by place, that grow to a bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breakdown {
    tallies: Vec<Tally>,
}

impl Breakdown {
    /// The tally of a place; those beyond the bound share the last.
    pub(crate) fn at(&mut self, place: usize) -> Option<&mut Tally> {
        let place = place.min(QUEUES_MAX);
        if place >= self.tallies.len() {
            self.tallies.resize_with(place + 1, Tally::default);
        }
        self.tallies.get_mut(place)
    }

    /// Rows of those that had a job, or held anything.
    pub(crate) fn groups(&self, name: impl Fn(usize) -> String) -> Vec<Group> {
        let seen = |tally: &Tally| tally.ended > 0 || tally.queueing.count() > 0 || tally.held > 0;
        let rows = self.tallies.iter().enumerate().filter(|(_, tally)| seen(tally));
        rows.map(|(place, tally)| tally.group(name(place))).collect()
    }
}

/// Place of a size: 0 for parts of one accelerator, 1 for one, then a place for each power of two that is needed to hold it.
pub(crate) fn size(milli: u64) -> usize {
    if milli < 1_000 {
        return 0;
    }
    let whole = milli.div_ceil(1_000);
    let power = whole.next_power_of_two().ilog2();
    usize::try_from(power + 1).unwrap_or(usize::MAX)
}

/// `5..8`.
pub(crate) fn size_name(place: usize) -> String {
    match place {
        0 => "below 1".to_owned(),
        1 => "1".to_owned(),
        2 => "2".to_owned(),
        place => {
            let high = 1_u64.checked_shl(u32::try_from(place - 1).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
            format!("{}..{high}", high / 2 + 1)
        }
    }
}

/// Time of an attempt that lies inside of what counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inside {
    pub(crate) held: u64,
    pub(crate) kept: u64,
    pub(crate) lost: u64,
    pub(crate) checkpoints: u64,
}

impl Inside {
    /// Of an attempt that held its accelerators for `held`, of which `inside` counts: its parts are shared by time. Parts that
    /// are more than the whole are cut, the work that is kept last.
    pub(crate) fn share(held: Span, inside: Span, stop: &Stop) -> Self {
        let part = |of: u64| {
            // Nearly always all of it is inside, and a division of 128 bits is what costs here.
            if inside == held {
                return of;
            }
            let shared = u128::from(of) * u128::from(inside.0) / u128::from(held.0.max(1));
            u64::try_from(shared).unwrap_or(u64::MAX)
        };
        let kept = stop.kept.0.min(held.0);
        let lost = stop.lost.0.min(held.0 - kept);
        let checkpoints = stop.checkpoints.0.min(held.0 - kept - lost);
        Self { held: inside.0, kept: part(kept), lost: part(lost), checkpoints: part(checkpoints) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_by_what_they_hold() {
        for (milli, name) in [
            (1, "below 1"),
            (999, "below 1"),
            (1_000, "1"),
            (1_500, "2"),
            (2_000, "2"),
            (3_000, "3..4"),
            (8_000, "5..8"),
            (9_000, "9..16"),
            (100_000_000, "65537..131072"),
        ] {
            assert_eq!(size_name(size(milli)), name, "{milli}");
        }
        assert!(size(u64::MAX) <= QUEUES_MAX);
    }

    #[test]
    fn queues_beyond_the_bound_share_a_row() {
        let mut breakdown = Breakdown::default();
        for queue in 0..1_000 {
            breakdown.at(queue).unwrap().ended += 1;
        }
        let groups = breakdown.groups(|place| place.to_string());
        assert_eq!((groups.len(), groups.last().unwrap().jobs), (QUEUES_MAX + 1, 1_000 - 64));
    }
}
