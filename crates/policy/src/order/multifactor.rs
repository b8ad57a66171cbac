//! Age, size and priority weighed against each other, as sites that come from Slurm's multifactor plugin expect it.
//!
//! Every factor is worth a length of waiting: a step of priority an hour, a doubling of the gang half an hour. A job stands
//! where a plain job of one accelerator would stand that was submitted that much earlier, so the order of two waiting jobs
//! never changes and age needs no refreshing. Two differences from Slurm: age does not stop counting after some days, so
//! nothing starves; and fair share is not a term of the sum, for it changes while a job waits: the tree of queues
//! ([`crate::fairness`]) chooses the queue, and this orders the jobs within it.

use dh_core::time::Span;

use super::{Candidate, Key, Order};

/// What each factor is worth, in time waited.
#[derive(Debug)]
pub(super) struct Multifactor {
    priority: Span,
    doubling: Span,
}

/// Below this the age of a job could not be told from none: moments are lifted by it, as bonuses reach before time zero.
const LIFT: u64 = 1 << 62;

impl Multifactor {
    pub(super) const DEFAULT: Self = Self { priority: Span::from_secs(3600), doubling: Span::from_secs(1800) };

    /// How much earlier the job counts as submitted, in nanoseconds; negative is later.
    fn bonus(&self, job: &Candidate) -> i128 {
        let doublings = (job.milli / 1000).checked_ilog2().unwrap_or(0);
        i128::from(job.priority) * i128::from(self.priority.0) + i128::from(doublings) * i128::from(self.doubling.0)
    }
}

impl Order for Multifactor {
    fn name(&self) -> &'static str {
        "multifactor"
    }

    fn about(&self) -> &'static str {
        "age, size of the gang and priority, each worth a length of waiting"
    }

    fn key(&self, job: &Candidate) -> Key {
        let stands = i128::from(LIFT) + i128::from(job.submitted.0) - self.bonus(job);
        Key { class: 0, value: u64::try_from(stands.max(0)).unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use dh_core::{JobId, SimTime};

    use super::*;

    const HOUR: u64 = 3600 * 1_000_000_000;

    fn value(priority: i64, submitted: u64, accelerators: u64) -> u64 {
        let job = Candidate {
            job: JobId(1),
            priority,
            submitted: SimTime(submitted),
            milli: accelerators * 1000,
            attained: Span(0),
            length: None,
            deadline: None,
        };
        Multifactor::DEFAULT.key(&job).value
    }

    #[test]
    fn a_step_of_priority_is_an_hour_and_a_doubling_half_of_one() {
        assert_eq!(value(1, 5 * HOUR, 1), value(0, 4 * HOUR, 1));
        assert_eq!(value(0, 5 * HOUR, 8), value(0, 5 * HOUR - 3 * HOUR / 2, 1));
        assert!(value(0, 0, 1) > value(3, 0, 1));
    }

    #[test]
    fn waiting_outweighs_everything_in_the_end() {
        assert!(value(0, 0, 1) < value(10, 14 * HOUR, 128));
    }

    #[test]
    fn extremes_saturate() {
        assert_eq!(value(i64::MAX, 0, 1), 0);
        assert_eq!(value(i64::MIN, 0, 1), u64::MAX);
        assert!(value(0, 1_800_000_000_000_000_000, 1) > value(0, 0, 1));
    }
}
