//! Least expected service: a job stands where the larger of the service it had and the service it is predicted to need puts
//! it, in octaves. Service is time multiplied by accelerators.
//!
//! Where no length is predicted this is least attained service (Tiresias' two-dimensional form, Gu et al. 2019). A prediction
//! can only move a job back, from the moment it arrives and not when it has shown itself to be long; it cannot hold a job in
//! front that has run long, so a wrong one does little harm. Octaves keep jobs of like service from displacing each other
//! in turn: within an octave the one that was submitted first goes first.

use dh_core::time::Span;

use super::{Candidate, Displaces, Key, Order, class_of};

#[derive(Debug)]
pub(super) struct Expected;

/// Service below this is all alike: a minute of one accelerator, in thousandths of an accelerator and seconds.
const LEAST: u64 = 60_000;

/// Octaves there can be, rounded up: what a step of priority is worth.
const OCTAVES: i64 = 64;

/// The octave of what `seconds` of a job of `milli` are.
fn octave(seconds: u64, milli: u64) -> u32 {
    (seconds.saturating_mul(milli) / LEAST).checked_ilog2().map_or(0, |octave| octave + 1)
}

impl Order for Expected {
    fn name(&self) -> &'static str {
        "expected-service"
    }

    fn about(&self) -> &'static str {
        "least service first, had or predicted, whichever is more, in octaves; within priorities"
    }

    fn key(&self, job: &Candidate) -> Key {
        let attained = job.attained.as_secs();
        let remaining = job.length.map_or(0, |length| length.as_secs().saturating_sub(attained));
        let octave = i64::from(octave(attained.max(remaining), job.milli));
        let class = class_of(job.priority).saturating_mul(OCTAVES).saturating_add(octave);
        // The least class is that of jobs that are due: not for this order to give.
        Key { class: class.max(i64::MIN + 1), value: job.submitted.0 }
    }

    fn displaces(&self) -> Displaces {
        Displaces::Later
    }

    fn rises_after(&self, job: &Candidate) -> Option<Span> {
        let attained = job.attained.as_secs();
        let next = LEAST.checked_shl(octave(attained, job.milli))?.div_ceil(job.milli.max(1));
        Some(Span::from_secs(next.saturating_sub(attained).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use dh_core::{JobId, SimTime};

    use super::*;

    fn job(accelerators: u64, attained: u64, length: Option<u64>) -> Candidate {
        Candidate {
            job: JobId(1),
            priority: 0,
            submitted: SimTime(5),
            milli: accelerators * 1000,
            attained: Span::from_secs(attained),
            length: length.map(Span::from_secs),
            deadline: None,
        }
    }

    fn class(job: &Candidate) -> i64 {
        Expected.key(job).class
    }

    #[test]
    fn a_large_gang_ages_faster_and_a_long_prediction_moves_a_job_back() {
        assert_eq!(class(&job(1, 59, None)), 0);
        assert_eq!(class(&job(8, 60, None)), class(&job(1, 480, None)));
        assert!(class(&job(1, 0, Some(10_000))) > class(&job(1, 0, Some(100))));
        // Predicted to be nearly done, and yet no better than what it had.
        assert_eq!(class(&job(1, 10_000, Some(10_001))), class(&job(1, 10_000, None)));
    }

    #[test]
    fn the_key_rises_exactly_when_it_is_said_to() {
        for accelerators in [1, 3, 8, 128] {
            let mut attained = 0;
            for _ in 0..20 {
                let now = job(accelerators, attained, None);
                let after = Expected.rises_after(&now).map_or(0, Span::as_secs);
                assert_eq!(class(&job(accelerators, attained + after - 1, None)), class(&now));
                attained += after;
                assert!(class(&job(accelerators, attained, None)) > class(&now), "{accelerators} at {attained}");
            }
        }
    }
}
