//! What no policy without sharing can go below, whatever it knows: two bounds on the mean completion time.
//!
//! One fast accelerator instead of 64 is never slower. On it shortest remaining first is optimal: the first bound. The
//! second: a job that needs p hours at full width ends at least p / 2 after its mean busy time, and on the fast machine
//! the sum of mean busy times is least when always the job of the least whole area runs (Goemans 1996; Eastman 1964).

use dh_core::SimTime;
use dh_units::real;

use crate::hall::{CAPACITY, Cost};
use crate::trace::Job;

#[derive(Debug, Clone, Copy)]
struct Area {
    submitted: f64,
    /// Hours on the fast machine.
    whole: f64,
    left: f64,
}

/// The larger bound, in hours.
pub(crate) fn average_h(jobs: &[Job], cost: Cost) -> f64 {
    let profiling = if cost == Cost::Published { 1.015 } else { 1.0 };
    let hours = |at: SimTime| real(at.0) / 3.6e12;
    let length = |job: &Job| real(job.iterations) * real(job.iteration.0) * profiling / 3.6e12;
    let areas: Vec<Area> = jobs
        .iter()
        .map(|job| {
            let whole = length(job) * f64::from(job.width) / f64::from(CAPACITY);
            Area { submitted: hours(job.submitted), whole, left: whole }
        })
        .collect();
    let submitted: f64 = areas.iter().map(|area| area.submitted).sum();
    let halves: f64 = jobs.iter().map(|job| length(job) / 2.0).sum();
    let (ends, _) = play(&areas, |area| area.left);
    let (_, busy) = play(&areas, |area| area.whole);
    (ends.max(busy + halves) - submitted) / real(u64::try_from(jobs.len()).unwrap())
}

/// The sums of ends and of mean busy times when the job with the least key runs, one at a time.
fn play(areas: &[Area], key: impl Fn(&Area) -> f64) -> (f64, f64) {
    let (mut now, mut next, mut ends, mut busy) = (0.0_f64, 0, 0.0, 0.0);
    let mut live: Vec<Area> = Vec::new();
    while next < areas.len() || !live.is_empty() {
        if live.is_empty() {
            now = now.max(areas[next].submitted);
        }
        while let Some(area) = areas.get(next).filter(|area| area.submitted <= now) {
            live.push(*area);
            next += 1;
        }
        let at = (0..live.len()).min_by(|one, other| key(&live[*one]).total_cmp(&key(&live[*other]))).unwrap();
        let free = areas.get(next).map_or(f64::INFINITY, |area| area.submitted - now);
        let area = &mut live[at];
        let run = area.left.min(free);
        busy += run / area.whole * (now + run / 2.0);
        now += run;
        if area.left <= free {
            ends += now;
            live.swap_remove(at);
        } else {
            area.left -= run;
        }
    }
    (ends, busy)
}
