//! First in, first out, within priorities. Nothing overtakes: the head of the line is never starved by smaller jobs.

use std::cmp::Reverse;

use super::{Order, Waiting};

pub(super) struct Fifo;

impl Order for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn sort(&self, waiting: &mut [Waiting]) {
        // The job id makes the order total: two jobs accepted in one nanosecond keep the order of acceptance.
        waiting.sort_by_key(|one| (Reverse(one.priority), one.submitted, one.job));
    }
}

#[cfg(test)]
mod tests {
    use dh_core::{JobId, SimTime};

    use super::*;

    #[test]
    fn priority_first_then_age_then_id() {
        let one = |job, priority, at| Waiting { job: JobId(job), priority, submitted: SimTime(at) };
        let mut waiting = [one(1, 0, 10), one(2, 5, 30), one(4, 5, 20), one(3, 5, 20), one(5, -1, 1)];
        Fifo.sort(&mut waiting);
        assert_eq!(waiting.map(|w| w.job.0), [3, 4, 2, 1, 5]);
    }
}
