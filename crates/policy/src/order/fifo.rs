//! First in, first out, within priorities. Nothing overtakes: the head of the line is never starved by smaller jobs.

use super::{Candidate, Key, Order, class_of};

#[derive(Debug)]
pub(super) struct Fifo;

impl Order for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn about(&self) -> &'static str {
        "first in, first out, within priorities"
    }

    fn key(&self, job: &Candidate) -> Key {
        Key { class: class_of(job.priority), value: job.submitted.0 }
    }
}

#[cfg(test)]
mod tests {
    use dh_core::time::Span;
    use dh_core::{JobId, SimTime};

    use super::*;

    #[test]
    fn priority_first_then_age_then_id() {
        let one = |job, priority, at| Candidate {
            job: JobId(job),
            priority,
            submitted: SimTime(at),
            milli: 1000,
            attained: Span(0),
            length: None,
            deadline: None,
        };
        let mut waiting = [one(1, 0, 10), one(2, 5, 30), one(4, 5, 20), one(3, 5, 20), one(5, -1, 1)];
        waiting.sort_by_key(|job| (Fifo.key(job), job.job));
        assert_eq!(waiting.map(|w| w.job.0), [3, 4, 2, 1, 5]);
    }
}
