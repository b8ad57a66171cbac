//! Shortest remaining time first. Ends the most jobs soonest where all are equally wide; a wide job pays nothing for its width.

use super::{Candidate, Displaces, Key, Order, class_of, remaining};

#[derive(Debug)]
pub(super) struct ShortestRemaining;

impl Order for ShortestRemaining {
    fn name(&self) -> &'static str {
        "shortest-remaining"
    }

    fn about(&self) -> &'static str {
        "shortest remaining time first (SRTF), within priorities; jobs of unknown length last"
    }

    fn key(&self, job: &Candidate) -> Key {
        Key { class: class_of(job.priority), value: remaining(job).map_or(u64::MAX, |span| span.0) }
    }

    fn displaces(&self) -> Displaces {
        Displaces::Later
    }
}

#[cfg(test)]
mod tests {
    use dh_core::time::Span;

    use super::*;
    use crate::order::tests::job;

    #[test]
    fn what_has_run_counts_and_the_unknown_come_last() {
        let long = Candidate { length: Some(Span::from_secs(100)), attained: Span::from_secs(95), ..job(1) };
        let short = Candidate { length: Some(Span::from_secs(10)), ..job(2) };
        let unknown = job(3);
        assert!(ShortestRemaining.key(&long) < ShortestRemaining.key(&short));
        assert!(ShortestRemaining.key(&short) < ShortestRemaining.key(&unknown));
        // Longer than predicted: nothing remains, so far as anybody knows.
        let late = Candidate { attained: Span::from_secs(200), ..long };
        assert_eq!(ShortestRemaining.key(&late).value, 0);
    }
}
