//! Shortest remaining service first: remaining time times accelerators. The order that ends the most jobs per accelerator
//! hour; without knowledge of what comes, the best simple one for average completion time on a shared hall.

use super::{Candidate, Displaces, Key, Order, Value, class_of, remaining, service};

#[derive(Debug)]
pub(super) struct ShortestRemainingService;

impl Order for ShortestRemainingService {
    fn name(&self) -> &'static str {
        "shortest-remaining-service"
    }

    fn about(&self) -> &'static str {
        "least remaining time x accelerators first (SRSF), within priorities; jobs of unknown length last"
    }

    fn key(&self, job: &Candidate) -> Key {
        Key { class: class_of(job.priority), value: remaining(job).map_or(u64::MAX, |span| service(span, job.milli)) }
    }

    fn displaces(&self) -> Displaces {
        Displaces::Later
    }

    fn value(&self) -> Value {
        Value::Service
    }
}

#[cfg(test)]
mod tests {
    use dh_core::time::Span;

    use super::*;
    use crate::order::tests::job;

    #[test]
    fn a_wide_job_pays_for_its_width() {
        let wide = Candidate { length: Some(Span::from_secs(100)), milli: 8_000, ..job(1) };
        let narrow = Candidate { length: Some(Span::from_secs(700)), milli: 1_000, ..job(2) };
        assert!(ShortestRemainingService.key(&narrow) < ShortestRemainingService.key(&wide));
    }
}
