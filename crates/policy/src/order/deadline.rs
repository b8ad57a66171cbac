//! Least slack: within a priority, who must start soonest to meet its deadline goes first.
//!
//! Slack falls equally for all that wait, so they are ordered by the last moment at which they may start: the deadline less
//! what is left to run (less nothing, where the length is not known: then this is earliest deadline first). A job whose
//! deadline was out of reach when it was submitted would only spoil those of others: it goes with those that have none,
//! behind, first in, first out. Nobody of the same priority is displaced: the slack of what runs does not fall, and two jobs
//! of like slack would displace each other in turn.

use dh_core::SimTime;

use super::{Candidate, Key, Order, class_of};

#[derive(Debug)]
pub(super) struct Deadline;

/// Behind everything that has a deadline: no moment before the year 2262 has this bit.
const NONE: u64 = 1 << 63;

/// The last moment at which the job may start to meet its deadline, if it could when it was submitted.
fn latest_start(job: &Candidate) -> Option<SimTime> {
    let left = job.length.map_or(0, |length| length.0.saturating_sub(job.attained.0));
    let latest = job.deadline?.0.checked_sub(left)?;
    (latest >= job.submitted.0).then_some(SimTime(latest))
}

impl Order for Deadline {
    fn name(&self) -> &'static str {
        "deadline"
    }

    fn about(&self) -> &'static str {
        "who must start soonest to meet its deadline, within priorities"
    }

    fn key(&self, job: &Candidate) -> Key {
        let value = latest_start(job).map_or(job.submitted.0 | NONE, |latest| latest.0 & !NONE);
        Key { class: class_of(job.priority), value }
    }
}

#[cfg(test)]
mod tests {
    use dh_core::JobId;
    use dh_core::time::Span;

    use super::*;

    fn job(submitted: u64, length: Option<u64>, deadline: Option<u64>) -> Candidate {
        Candidate {
            job: JobId(1),
            priority: 0,
            submitted: SimTime(submitted),
            milli: 1000,
            attained: Span(0),
            length: length.map(Span),
            deadline: deadline.map(SimTime),
        }
    }

    #[test]
    fn least_slack_then_those_without_a_deadline_or_without_hope() {
        let long = job(10, Some(90), Some(110));
        let short = job(0, Some(5), Some(100));
        let unknown = job(0, None, Some(99));
        let hopeless = job(50, Some(100), Some(60));
        let mut jobs = [hopeless, job(1, Some(5), None), unknown, short, long];
        jobs.sort_by_key(|job| Deadline.key(job));
        assert_eq!(jobs, [long, short, unknown, job(1, Some(5), None), hopeless]);
    }

    #[test]
    fn what_was_done_counts_and_priority_counts_more() {
        let half_done = Candidate { attained: Span(40), ..job(0, Some(50), Some(100)) };
        assert_eq!(Deadline.key(&half_done).value, 90);
        let urgent = Candidate { priority: 1, ..job(500, None, None) };
        assert!(Deadline.key(&urgent) < Deadline.key(&half_done));
    }

    /// On one accelerator, with all jobs there from the start, the order meets every deadline that any order can.
    #[test]
    fn meets_what_can_be_met_of_equal_lengths() {
        let mut jobs: Vec<Candidate> = [50, 20, 40, 30, 10].map(|deadline| job(0, Some(10), Some(deadline))).to_vec();
        jobs.sort_by_key(|job| Deadline.key(job));
        let mut now = 0;
        for job in jobs {
            now += 10;
            assert!(job.deadline >= Some(SimTime(now)));
        }
    }
}
