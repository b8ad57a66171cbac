//! Node health: evidence against a node counts less as time passes, and too much of it keeps work away for a while.
//!
//! A few nodes cause most failures: at Meta 1 to 2 % of nodes were behind a large share of failed jobs, and taking them out
//! lowered the failures of large jobs from 14 to 4 % (Kokolis et al., "Revisiting Reliability in Large-Scale Machine Learning
//! Research Clusters", 2024). So a node that came back is not trusted at once if it has failed before.
//!
//! Invariant: whole numbers; the same evidence at the same times gives the same verdict.

use dh_core::SimTime;
use dh_core::time::Span;
use serde::{Deserialize, Serialize};

/// One failure of a node, in the units of evidence.
pub const FAILURE: u32 = 1000;

/// When a node is kept away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// After this time evidence counts half.
    pub half_life: Span,
    /// With this much evidence a node is kept away; a single [`FAILURE`] is 1,000.
    pub limit: u32,
    /// For how long, the first time; each time that follows at once is twice as long.
    pub probation: Span,
}

impl Default for Rules {
    /// Two failures within about a week keep a node away for six hours: a lemon fails daily, a sound node every few months.
    fn default() -> Self {
        Self { half_life: Span::from_secs(7 * 86_400), limit: 1_500, probation: Span::from_secs(6 * 3_600) }
    }
}

/// What is held against one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    evidence: u64,
    at: SimTime,
    /// How often it was kept away without a quiet time in between.
    times: u32,
}

impl Record {
    /// Adds evidence at `now`.
    pub fn add(&mut self, now: SimTime, evidence: u32, rules: &Rules) {
        self.evidence = self.weight(now, rules).saturating_add(u64::from(evidence));
        self.at = now;
    }

    /// What the evidence weighs at `now`: half for each half-life, in a straight line within one.
    pub fn weight(&self, now: SimTime, rules: &Rules) -> u64 {
        let Some(halves) = now.since(self.at).0.checked_div(rules.half_life.0) else { return self.evidence };
        let whole = self.evidence.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0);
        let rest = now.since(self.at).0 % rules.half_life.0;
        let less = u128::from(whole) * u128::from(rest) / (2 * u128::from(rules.half_life.0));
        whole - u64::try_from(less).unwrap_or(0)
    }

    /// How long a node that could come back at `now` is kept away; `None` if it is trusted.
    pub fn keeps_away(&mut self, now: SimTime, rules: &Rules) -> Option<Span> {
        if self.weight(now, rules) < u64::from(rules.limit) {
            self.times = 0;
            return None;
        }
        let span = Span(rules.probation.0.saturating_mul(1 << self.times.min(6)));
        self.times += 1;
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400 * 1_000_000_000;

    #[test]
    fn evidence_halves_and_never_rises_by_itself() {
        let rules = Rules::default();
        let mut record = Record::default();
        record.add(SimTime(0), FAILURE, &rules);
        let weights: Vec<u64> = (0..=28).map(|day| record.weight(SimTime(day * DAY), &rules)).collect();
        assert_eq!((weights[0], weights[7], weights[14], weights[28]), (1000, 500, 250, 62));
        assert!(weights.windows(2).all(|pair| pair[1] <= pair[0]));
        assert_eq!(record.weight(SimTime(u64::MAX), &rules), 0);
    }

    #[test]
    fn a_lemon_is_kept_away_ever_longer_and_a_sound_node_is_not() {
        let rules = Rules::default();
        let (mut lemon, mut sound) = (Record::default(), Record::default());
        let mut away = Vec::new();
        for day in 1..=4 {
            lemon.add(SimTime(day * DAY), FAILURE, &rules);
            away.push(lemon.keeps_away(SimTime(day * DAY), &rules).map(Span::as_secs));
        }
        assert_eq!(away, [None, Some(6 * 3600), Some(12 * 3600), Some(24 * 3600)]);
        for quarter in 1..=8 {
            sound.add(SimTime(quarter * 90 * DAY), FAILURE, &rules);
            assert_eq!(sound.keeps_away(SimTime(quarter * 90 * DAY), &rules), None);
        }
    }
}
