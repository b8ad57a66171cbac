//! The jobs of one trace, in whole nanoseconds.

use dh_core::SimTime;
use dh_core::time::Span;
use dh_policy::sharing::Stages;

/// One job as the trace has it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) submitted: SimTime,
    pub(crate) iterations: u64,
    /// One iteration alone.
    pub(crate) iteration: Span,
    pub(crate) width: u32,
    pub(crate) model: String,
    pub(crate) stages: Stages,
}

/// Thousandths of `text`, a decimal number.
fn thousandths(text: &str) -> u64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part: String = format!("{part:0<3}").chars().take(3).collect();
    whole.parse::<u64>().unwrap() * 1000 + part.parse::<u64>().unwrap()
}

/// A time given in milliseconds.
fn millis(text: &str) -> Span {
    Span(thousandths(text) * 1000)
}

/// Reads an unpacked trace, in order of submission.
pub(crate) fn read(path: &str) -> Vec<Job> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut jobs: Vec<Job> = text
        .lines()
        .skip(1)
        .map(|line| {
            let row: Vec<&str> = line.split(',').collect();
            Job {
                submitted: SimTime(thousandths(row[1]) * 1_000_000),
                width: row[3].parse().unwrap(),
                model: row[4].to_owned(),
                iterations: row[5].parse().unwrap(),
                iteration: millis(row[6]),
                // The file calls the columns gpu, io and other. The language models, which compute most, have their time
                // in the second, and the third is zero for one accelerator: they are input, compute and network.
                stages: Stages { input: millis(row[7]), compute: millis(row[8]), network: millis(row[9]) },
            }
        })
        .collect();
    jobs.sort_by_key(|job| job.submitted);
    jobs
}
