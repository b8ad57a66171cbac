//! What is reported of a replay.

use super::replay::Played;
use super::trace::Job;

#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) queue_mean: f64,
    pub(crate) queue_p50: u64,
    pub(crate) queue_p99: u64,
    pub(crate) queue_max: u64,
    pub(crate) jct_mean: f64,
    /// Finish time over the fair one, by contention of demand: worst, and how many are above three.
    pub(crate) unfair: (f64, u64),
    /// The same by equal shares of the jobs that are there.
    pub(crate) unfair_shares: (f64, u64),
}

pub(crate) fn measure(jobs: &[Job], played: &Played, capacity: u64) -> Figures {
    let mut queues = Vec::with_capacity(jobs.len());
    let mut figures = Figures::default();
    let count = dh_units::real(jobs.len() as u64).max(1.0);
    for (job, outcome) in jobs.iter().zip(&played.outcomes) {
        let jct = outcome.end - job.submit;
        queues.push(jct - job.duration);
        figures.jct_mean += dh_units::real(jct) / count;
        figures.queue_mean += dh_units::real(jct - job.duration) / count;
        let length = dh_units::real(job.duration);
        let share = dh_units::real(capacity) / outcome.jobs.max(1.0);
        let slower = (dh_units::real(u64::from(job.size)) / share).max(1.0);
        for (fair, figure) in
            [(length * outcome.contention, &mut figures.unfair), (length * slower, &mut figures.unfair_shares)]
        {
            let ratio = dh_units::real(jct) / fair;
            figure.0 = figure.0.max(ratio);
            figure.1 += u64::from(ratio > 3.0);
        }
    }
    queues.sort_unstable();
    let at =
        |per_mille: usize| queues.get((queues.len() * per_mille / 1000).min(queues.len() - 1)).copied().unwrap_or(0);
    (figures.queue_p50, figures.queue_p99, figures.queue_max) = (at(500), at(990), at(1000));
    figures
}
