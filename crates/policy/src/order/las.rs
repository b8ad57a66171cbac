//! Least attained service first, in levels, for jobs whose length nobody knows: who has had little goes before who has had
//! much. A level is twice as wide as the one before; within a level first in, first out, so that equals take turns rarely.
//! Source: Gu et al., Tiresias, NSDI 2019 (discretized two-dimensional LAS, with two fixed thresholds).

use dh_core::time::Span;

use super::{Candidate, Displaces, Key, Order, class_of, service};

/// Accelerator time of the first level: one accelerator for ten minutes.
const FIRST: Span = Span::from_secs(600);
/// Levels of one priority; the last, 2^30 times the first, has no end.
const LEVELS: i64 = 32;

#[derive(Debug)]
pub(super) struct LeastAttained;

/// The level of a job that has had `service`, and where the next begins.
fn level(service: u64) -> (u32, u64) {
    let first = service_of(FIRST);
    let level = (service / first + 1).ilog2();
    (level, first.saturating_mul((1_u64 << (level + 1).min(62)) - 1))
}

fn service_of(span: Span) -> u64 {
    service(span, 1000)
}

impl Order for LeastAttained {
    fn name(&self) -> &'static str {
        "least-attained"
    }

    fn about(&self) -> &'static str {
        "least accelerator time so far first, in doubling levels, within priorities; needs no lengths"
    }

    fn key(&self, job: &Candidate) -> Key {
        let level = i64::from(level(service(job.attained, job.milli)).0).min(LEVELS - 1);
        // The lowest class of all is for jobs that are due.
        let class = class_of(job.priority).saturating_mul(LEVELS).saturating_add(level).max(i64::MIN + 1);
        Key { class, value: job.submitted.0 }
    }

    fn displaces(&self) -> Displaces {
        Displaces::Later
    }

    fn rises_after(&self, job: &Candidate) -> Option<Span> {
        let (level, next) = level(service(job.attained, job.milli));
        if i64::from(level) + 1 >= LEVELS {
            return None;
        }
        let at = u128::from(next) * 1_000_000_000 / u128::from(job.milli.max(1));
        let at = Span(u64::try_from(at).unwrap_or(u64::MAX));
        // One unit of service more, since both roundings are down.
        Some(Span(at.0.saturating_sub(job.attained.0).saturating_add(1_000_000_000 / job.milli.max(1) + 1)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use dh_core::SimTime;

    use super::*;
    use crate::order::tests::job;

    #[test]
    fn the_key_rises_when_it_says_so_and_not_before() {
        for milli in [500, 1_000, 8_000, 12_345] {
            let mut job = Candidate { milli, ..job(1) };
            for _ in 0..20 {
                let key = LeastAttained.key(&job);
                let span = LeastAttained.rises_after(&job).unwrap();
                let before = Candidate { attained: Span(job.attained.0 + span.0 - 4_000_000), ..job };
                assert_eq!(LeastAttained.key(&before), key);
                job.attained = Span(job.attained.0 + span.0);
                assert!(LeastAttained.key(&job) > key);
            }
        }
    }

    #[test]
    fn priority_then_level_then_age() {
        let fresh = Candidate { submitted: SimTime(9), ..job(1) };
        let old = Candidate { submitted: SimTime(1), ..job(2) };
        let served = Candidate { attained: Span::from_secs(700), ..old };
        let urgent = Candidate { priority: 1, attained: Span::from_secs(1 << 40), ..old };
        let mut line = [served, fresh, old, urgent];
        line.sort_by_key(|job| LeastAttained.key(job));
        assert_eq!(line, [urgent, old, fresh, served]);
    }
}
