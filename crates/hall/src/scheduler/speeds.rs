//! How fast gangs run on each class of accelerators: those that were told, and the average of those that came lately.
//!
//! Invariant: what is kept is in millionths of the gang's own fastest class, so that every gang weighs the same. Cost: a pass
//! over the classes for each gang that comes with speeds.

use std::collections::BTreeMap;

use dh_policy::fleet::CLASSES_MAX;
use dh_policy::placement;
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::event::{Gang, SpeedsId};

/// The fastest class of a gang.
const FASTEST: u64 = 1_000_000;

/// Each gang that comes moves the average by one part in so many: the last hundred or so decide.
const WEIGHT: u64 = 64;

/// What was told, and the average of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Speeds {
    told: BTreeMap<SpeedsId, Vec<u32>>,
    average: Vec<u32>,
}

impl Speeds {
    /// Speeds were told, in any unit.
    pub(super) fn tell(&mut self, id: SpeedsId, speeds: &[u32]) {
        let fastest = speeds.iter().take(CLASSES_MAX).max().copied().unwrap_or(0);
        if fastest == 0 || id == 0 {
            self.told.remove(&id);
            return;
        }
        let of = |speed: &u32| u32::try_from(u64::from(*speed) * FASTEST / u64::from(fastest)).unwrap_or(u32::MAX);
        self.told.insert(id, speeds.iter().take(CLASSES_MAX).map(of).collect());
    }

    /// A gang came.
    pub(super) fn came(&mut self, id: SpeedsId) {
        let Some(own) = self.told.get(&id) else { return };
        if self.average.len() < own.len() {
            let unheard = own.get(self.average.len()..).unwrap_or_default();
            self.average.extend_from_slice(unheard);
        }
        for (average, own) in self.average.iter_mut().zip(own) {
            let moved = (u64::from(*average) * (WEIGHT - 1) + u64::from(*own)) / WEIGHT;
            *average = u32::try_from(moved).unwrap_or(u32::MAX);
        }
    }
}

impl Scheduler {
    /// What a placement is told of a gang's speeds.
    pub(super) fn speeds(&self, gang: &Gang) -> placement::Speeds<'_> {
        match self.state.speeds.told.get(&gang.speeds) {
            Some(own) => placement::Speeds { own, others: &self.state.speeds.average },
            None => placement::Speeds::UNKNOWN,
        }
    }

    /// Whether the placement looks at speeds, or jobs may share: else they need not be told, nor what jobs are like.
    pub fn asks_speeds(&self) -> placement::Speed {
        if self.state.settings.interleave.is_some() {
            return placement::Speed::Asked;
        }
        self.placement.0.asks_speeds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gang_weighs_the_same_in_the_average_and_the_last_ones_decide() {
        let mut speeds = Speeds::default();
        speeds.tell(1, &[10, 5]);
        speeds.tell(2, &[100, 400]);
        speeds.came(1);
        assert_eq!(speeds.average, [1_000_000, 500_000]);
        for _ in 0..1_000 {
            speeds.came(2);
        }
        let [slow, fast] = speeds.average[..] else { panic!("two classes") };
        assert!((250_000..251_000).contains(&slow) && fast > 999_000, "{slow} {fast}");
        speeds.tell(2, &[]);
        speeds.came(2);
        assert_eq!(speeds.told.len(), 1);
    }
}
