//! Which engine serves a request. A policy is a pure function of what it is shown; to add one, write a file and a row here.

mod least_in_flight;
mod round_robin;

use crate::Error;

/// An engine that may take the request: it serves the model, was not tried yet and its breaker lets it through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The engine's place among the engines of its model.
    pub engine: usize,
    /// Requests it is working on for this gateway.
    pub in_flight: u32,
}

/// What a policy decides from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Counts the requests for this model, by one each.
    pub turn: u64,
    /// In the order of the engines; not empty.
    pub candidates: &'a [Candidate],
}

impl View<'_> {
    /// The place where this turn's walk over the candidates starts.
    fn start(&self) -> usize {
        let count = u64::try_from(self.candidates.len()).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.turn % count).unwrap_or(0)
    }
}

/// A routing policy.
pub trait Route: Send + Sync {
    /// Its name in configurations.
    fn name(&self) -> &'static str;
    /// One sentence for people who choose.
    fn about(&self) -> &'static str;
    /// The chosen one of `view.candidates`; `None` only if there are none.
    fn pick(&self, view: View<'_>) -> Option<Candidate>;
}

/// All policies.
pub static POLICIES: &[&dyn Route] = &[&round_robin::RoundRobin, &least_in_flight::LeastInFlight];

/// The policy called `name`.
/// # Errors
/// [`Error::UnknownPolicy`] with the names there are.
pub fn by_name(name: &str) -> Result<&'static dyn Route, Error> {
    POLICIES.iter().copied().find(|policy| policy.name() == name).ok_or_else(|| Error::UnknownPolicy {
        name: name.to_owned(),
        known: POLICIES.iter().map(|policy| policy.name()).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_picks_a_candidate_the_same_one_each_time() {
        for policy in POLICIES {
            assert!(policy.pick(View { turn: 3, candidates: &[] }).is_none());
            for count in 1..6 {
                let candidates: Vec<_> =
                    (0..count).map(|engine| Candidate { engine: engine * 2, in_flight: 1 }).collect();
                for turn in [0, 1, 7, u64::MAX] {
                    let view = View { turn, candidates: &candidates };
                    let picked = policy.pick(view).unwrap();
                    assert!(candidates.contains(&picked), "{}", policy.name());
                    assert_eq!(policy.pick(view), Some(picked));
                }
            }
        }
    }

    #[test]
    fn every_policy_lets_no_idle_engine_starve() {
        for policy in POLICIES {
            let candidates: Vec<_> = (0..5).map(|engine| Candidate { engine, in_flight: 0 }).collect();
            let mut counts = [0; 5];
            for turn in 0..100 {
                counts[policy.pick(View { turn, candidates: &candidates }).unwrap().engine] += 1;
            }
            assert_eq!(counts, [20; 5], "{}", policy.name());
        }
    }

    #[test]
    fn names_are_unique_and_a_wrong_one_lists_them() {
        for policy in POLICIES {
            assert_eq!(by_name(policy.name()).unwrap().about(), policy.about());
        }
        let error = by_name("best").err().unwrap().to_string();
        assert!(error.contains("round_robin") && error.contains("least_in_flight"), "{error}");
    }
}
