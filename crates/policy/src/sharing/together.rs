//! What is known of how jobs get on beside each other: stages of an iteration, and measured pairs where there are some.
//!
//! A pair that was measured counts before what stages say. A group that neither tells of is none.
//!
//! Invariant: speeds are in millionths of the speed alone; nobody is faster beside others. Cost: one period, or two looks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Contention, Iteration, Stages, period};

/// Jobs that are alike, by a number of the caller's; 0 are those of which nothing is known.
pub type Kind = u16;

/// The speed of a job alone, in millionths.
pub const ALONE: u64 = 1_000_000;

/// On which accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On whichever is worst.
    Anywhere,
    /// On those of a class.
    Class(u8),
}

/// What is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    iterations: BTreeMap<Kind, Iteration>,
    /// Millionths of the speed alone, by class, of a kind beside another.
    beside: BTreeMap<Kind, BTreeMap<Kind, Vec<u32>>>,
}

impl Together {
    /// What an iteration of `kind` is like; `None` is not known any more.
    pub fn tell(&mut self, kind: Kind, iteration: Option<Iteration>) {
        match iteration.filter(|iteration| kind != 0 && iteration.alone.0 > 0) {
            Some(iteration) => self.iterations.insert(kind, iteration),
            None => self.iterations.remove(&kind),
        };
    }

    /// How fast `kind` is beside `other` on each class, in millionths of its speed alone there; 0 is not at all.
    pub fn tell_beside(&mut self, kind: Kind, other: Kind, speeds: &[u32]) {
        if kind == 0 || other == 0 {
            return;
        }
        let known = self.beside.entry(kind).or_default();
        if speeds.is_empty() {
            known.remove(&other);
        } else {
            known.insert(other, speeds.to_vec());
        }
    }

    /// Speeds of jobs of these kinds on the same accelerators, in millionths of those alone; `None` if they cannot be there
    /// together, or that is not known.
    pub fn speeds(&self, kinds: &[Kind], place: Where, contention: &Contention) -> Option<Vec<u64>> {
        match kinds {
            [] => None,
            [_] => Some(vec![ALONE]),
            [one, other] if self.measured(*one, *other) => {
                let speeds = [self.beside(*one, *other, place)?, self.beside(*other, *one, place)?];
                speeds.iter().all(|speed| *speed > 0).then(|| speeds.to_vec())
            }
            _ => {
                let iterations: Option<Vec<&Iteration>> = kinds.iter().map(|kind| self.iterations.get(kind)).collect();
                let iterations = iterations?;
                let memory: u32 = iterations.iter().map(|iteration| u32::from(iteration.memory_milli)).sum();
                let stages: Vec<Stages> = iterations.iter().map(|iteration| iteration.stages).collect();
                let round = contention.of(kinds.len(), period(&stages)?).0.max(1);
                let speed = |iteration: &&Iteration| {
                    let speed = u128::from(iteration.alone.0) * u128::from(ALONE) / u128::from(round);
                    u64::try_from(speed).unwrap_or(ALONE).clamp(1, ALONE)
                };
                (memory <= 1000).then(|| iterations.iter().map(speed).collect())
            }
        }
    }

    /// The same, if it is worth sharing: together they get on at least as well as one after another.
    pub fn gain(&self, kinds: &[Kind], place: Where, contention: &Contention) -> Option<Vec<u64>> {
        self.speeds(kinds, place, contention).filter(|speeds| speeds.iter().sum::<u64>() >= ALONE)
    }

    fn measured(&self, one: Kind, other: Kind) -> bool {
        let of = |kind: Kind, other: Kind| self.beside.get(&kind).is_some_and(|known| known.contains_key(&other));
        of(one, other) && of(other, one)
    }

    fn beside(&self, kind: Kind, other: Kind, place: Where) -> Option<u64> {
        let speeds = self.beside.get(&kind)?.get(&other)?;
        let speed = match place {
            Where::Anywhere => speeds.iter().min().copied(),
            Where::Class(class) => speeds.get(usize::from(class)).copied(),
        };
        speed.map(|speed| u64::from(speed).min(ALONE))
    }
}

#[cfg(test)]
mod tests {
    use dh_core::time::Span;

    use super::*;

    fn iteration(input: u64, compute: u64, memory_milli: u16) -> Iteration {
        let stages = Stages { input: Span(input), compute: Span(compute), network: Span(0) };
        Iteration { stages, alone: Span(input + compute), memory_milli }
    }

    #[test]
    fn different_bottlenecks_share_and_equal_ones_take_turns_at_best() {
        let mut together = Together::default();
        together.tell(1, Some(iteration(100, 10, 0)));
        together.tell(2, Some(iteration(10, 100, 0)));
        let speeds = |kinds: &[Kind]| together.gain(kinds, Where::Anywhere, &Contention::NONE);
        assert!(speeds(&[1, 2]).unwrap().iter().all(|speed| *speed > 900_000));
        assert!(speeds(&[2, 2]).unwrap().iter().all(|speed| *speed < 600_000));
        assert_eq!(speeds(&[1, 3]), None, "nothing is known of it");
        assert_eq!(together.gain(&[2, 2], Where::Anywhere, &Contention::PUBLISHED), None, "turns are better");
    }

    #[test]
    fn what_does_not_fit_the_memory_does_not_share() {
        let mut together = Together::default();
        together.tell(1, Some(iteration(100, 10, 600)));
        together.tell(2, Some(iteration(10, 100, 401)));
        assert_eq!(together.speeds(&[1, 2], Where::Anywhere, &Contention::NONE), None);
        together.tell(2, Some(iteration(10, 100, 400)));
        assert!(together.speeds(&[1, 2], Where::Anywhere, &Contention::NONE).is_some());
    }

    #[test]
    fn a_measured_pair_counts_before_stages_on_its_class() {
        let mut together = Together::default();
        together.tell(1, Some(iteration(100, 10, 0)));
        together.tell(2, Some(iteration(10, 100, 0)));
        together.tell_beside(1, 2, &[700_000, 0]);
        let speeds = |together: &Together, place| together.gain(&[1, 2], place, &Contention::NONE);
        assert!(speeds(&together, Where::Class(0)).unwrap()[0] > 900_000, "the other half is not known");
        together.tell_beside(2, 1, &[600_000, 500_000]);
        assert_eq!(speeds(&together, Where::Class(0)), Some(vec![700_000, 600_000]));
        assert_eq!(speeds(&together, Where::Class(1)), None);
        assert_eq!(speeds(&together, Where::Anywhere), None);
    }
}
