//! How long a job will run, from how long jobs like it ran: for orders by length where lengths are not known.
//!
//! A job names the groups that it is like, the closest first (user and name and size, then queue and size, then size); the
//! first of them that has seen enough jobs answers. A group keeps a histogram in which newer lengths count more. What a
//! job has run already is part of the question: the answer is conditional on its having run that long, so a prediction that
//! was too short corrects itself as the job runs on.
//!
//! Invariant: whole numbers, and a bounded number of groups of 512 bytes each; of too many, the group goes that has waited
//! longest for a new length. Cost: O(log groups) and one pass over 128 counts.
//! Source: the idea of ranking by history is that of Helios' QSSF (Hu et al. 2021); its model of names is not used.

mod histogram;

use std::collections::BTreeMap;

use dh_core::time::Span;
use histogram::{Histogram, end_of, step_of};
use serde::{Deserialize, Serialize};

/// How much is remembered, and when it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A group with fewer lengths does not answer.
    pub samples_min: u32,
    /// A group remembers this many lengths well: beyond twice as many, the older ones count half.
    pub samples_kept: u32,
    /// Groups at most.
    pub groups_max: u32,
}

impl Default for Settings {
    /// Ten lengths give a usable median; 500 follow a change of habits within days in the Philly trace; 10,000 groups are
    /// 5 MB.
    fn default() -> Self {
        Self { samples_min: 10, samples_kept: 500, groups_max: 10_000 }
    }
}

/// Which answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// This many thousandths of such jobs are no longer than the answer.
    PerMille(u16),
    /// The time of service per job that ends under the best quantum: what an order by shortest remaining time should use
    /// when lengths vary much (Gittins).
    ServicePerEnd,
}

/// What is said about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// How much longer it runs.
    pub remaining: Span,
    /// Ask again when it has run this long: until then the answer stays good enough.
    pub until: Span,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    histogram: Histogram,
    /// The number of the observation that came last.
    last: u64,
}

/// The lengths of jobs that ended, by group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    settings: Settings,
    groups: BTreeMap<u64, Group>,
    observations: u64,
    /// Groups by their last observation: the first is the one to forget.
    by_last: BTreeMap<u64, u64>,
}

impl History {
    /// One that remembers nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// A job that belonged to `groups` ran `length` in all.
    pub fn observe(&mut self, groups: &[u64], length: Span) {
        for &key in groups {
            self.observations += 1;
            let group = self.groups.entry(key).or_default();
            self.by_last.remove(&group.last);
            group.last = self.observations;
            group.histogram.observe(length.as_secs(), self.settings.samples_kept);
            self.by_last.insert(self.observations, key);
        }
        while self.groups.len() > usize::try_from(self.settings.groups_max).unwrap_or(usize::MAX) {
            let Some((_, oldest)) = self.by_last.pop_first() else { return };
            self.groups.remove(&oldest);
        }
    }

    /// How much longer a job of `groups` (the closest first) runs that has run `attained`. None if no group has seen enough.
    ///
    /// Where no job of a group ran longer, the estimate is that it runs as long again: nothing else is known, and lengths
    /// of jobs are close enough to a power law for that to be the usual rule.
    pub fn remaining(&self, groups: &[u64], attained: Span, statistic: Statistic) -> Option<Estimate> {
        let group = groups
            .iter()
            .filter_map(|key| self.groups.get(key))
            .find(|group| group.histogram.samples() >= self.settings.samples_min)?;
        let seconds = attained.as_secs();
        let remaining = match statistic {
            Statistic::PerMille(per_mille) => {
                group.histogram.quantile(seconds, u64::from(per_mille)).map(|length| length.saturating_sub(seconds))
            }
            Statistic::ServicePerEnd => group.histogram.per_end(seconds),
        };
        Some(Estimate {
            remaining: Span::from_secs(remaining.unwrap_or(seconds).max(1)),
            until: Span::from_secs(end_of(step_of(seconds))),
        })
    }

    /// Groups that are remembered.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(estimate: Option<Estimate>) -> Option<u64> {
        estimate.map(|estimate| estimate.remaining.as_secs())
    }

    #[test]
    fn the_closest_group_that_knows_enough_answers() {
        let mut history = History::new(Settings { samples_min: 3, ..Settings::default() });
        let median = Statistic::PerMille(500);
        assert_eq!(history.remaining(&[7, 1], Span(0), median), None);
        for _ in 0..3 {
            history.observe(&[1], Span::from_secs(1000));
        }
        history.observe(&[7, 1], Span::from_secs(9));
        assert_eq!(seconds(history.remaining(&[7, 1], Span(0), median)), Some(1024));
        for _ in 0..2 {
            history.observe(&[7, 1], Span::from_secs(9));
        }
        assert_eq!(seconds(history.remaining(&[7, 1], Span(0), median)), Some(10));
    }

    #[test]
    fn a_job_that_outlives_its_like_is_expected_to_run_as_long_again() {
        let mut history = History::new(Settings { samples_min: 1, ..Settings::default() });
        history.observe(&[1], Span::from_secs(60));
        for statistic in [Statistic::PerMille(500), Statistic::ServicePerEnd] {
            let estimate = history.remaining(&[1], Span::from_secs(5000), statistic);
            let expected = Estimate { remaining: Span::from_secs(5000), until: Span::from_secs(5120) };
            assert_eq!(estimate, Some(expected));
        }
    }

    #[test]
    fn memory_is_bounded_and_the_group_that_waited_longest_goes() {
        let mut history = History::new(Settings { samples_min: 1, samples_kept: 10, groups_max: 3 });
        for key in [1, 2, 3, 1, 4] {
            history.observe(&[key], Span::from_secs(key));
        }
        assert_eq!(history.groups(), 3);
        assert_eq!(history.remaining(&[2], Span(0), Statistic::PerMille(500)), None);
        assert!(history.remaining(&[1], Span(0), Statistic::PerMille(500)).is_some());
        for key in 0..1000 {
            history.observe(&[key, key / 2], Span::from_secs(key));
        }
        assert_eq!((history.groups(), history.by_last.len()), (3, 3));
    }
}
