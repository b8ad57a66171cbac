//! What must hold of every order in the table.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_policy::fairness::Stretch;
use dh_policy::order::{Candidate, POLICIES, by_name};

fn candidates() -> Vec<Candidate> {
    let mut all = Vec::new();
    for (index, priority) in [i64::MIN, -1, 0, 7, i64::MAX].into_iter().cycle().take(60).enumerate() {
        let n = u64::try_from(index).unwrap();
        all.push(Candidate {
            job: JobId(n),
            priority,
            submitted: SimTime(1_800_000_000_000_000_000 * (n % 2) + n),
            milli: [0, 1, 500, 1000, 128_000, u64::MAX][index % 6],
            attained: [Span(0), Span::from_secs(1000), Span(u64::MAX)][index % 3],
            length: [None, Some(Span(0)), Some(Span(u64::MAX)), Some(Span::from_secs(50))][index % 4],
            deadline: [None, Some(SimTime(0)), Some(SimTime(u64::MAX))][index / 4 % 3],
        });
    }
    all
}

#[test]
fn every_name_is_found_and_none_is_used_twice() {
    let names: BTreeSet<_> = POLICIES.iter().map(|order| order.name()).collect();
    assert_eq!(names.len(), POLICIES.len());
    assert!(POLICIES.iter().all(|order| by_name(order.name()).unwrap().about() == order.about()));
    assert!(by_name("no such order").is_none());
}

#[test]
fn no_job_breaks_an_order_or_passes_for_one_that_is_due() {
    for order in POLICIES {
        for job in candidates() {
            assert!(!Stretch::is_due(order.key(&job)), "{}: {job:?}", order.name());
            assert!(order.rises_after(&job).is_none_or(|span| span.0 > 0), "{}: {job:?}", order.name());
        }
    }
}
