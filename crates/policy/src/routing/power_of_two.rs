//! Of two engines drawn at random the less loaded one: close to the least loaded without every gateway running to the same
//! one at once. Source: Mitzenmacher 2001, "The power of two choices in randomized load balancing".

use super::{Candidate, Route, View, mix};

pub(super) struct PowerOfTwo;

impl Route for PowerOfTwo {
    fn name(&self) -> &'static str {
        "power_of_two"
    }

    fn about(&self) -> &'static str {
        "of two engines drawn at random the one with fewer tokens still to compute"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        let count = u64::try_from(view.candidates.len()).ok().filter(|count| *count > 0)?;
        let drawn = mix(view.ask.seed, view.ask.turn);
        let first = drawn % count;
        // One of the others, so that the two differ.
        let second = if count > 1 { (first + 1 + (drawn >> 32) % (count - 1)) % count } else { first };
        let at = |place: u64| usize::try_from(place).ok().and_then(|place| view.candidates.get(place));
        let (first, second) = (at(first)?, at(second)?);
        Some(if second.tokens < first.tokens { *second } else { *first })
    }
}
