//! `datahall logs`: what the ranks of a job printed, past and live.

use clap::Args;
use dh_core::JobId;
use dh_server::wire::LogLine;

use super::{Globals, Verb};
use crate::api::{Api, Flow};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The job, such as `7` or `job/7`
    job: JobId,
    /// Go on until the job is over
    #[arg(short = 'F', long, visible_short_alias = 'f')]
    follow: bool,
    /// Only this rank
    #[arg(long)]
    rank: Option<u32>,
}

/// When to stop reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Now,
    JobEnds,
}

/// What to print of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Lines,
    Json,
    Nothing,
}

impl Verb for Logs {
    const NAME: &'static str = "logs";
    const ABOUT: &'static str = "Show the logs of a job's ranks; -f follows them";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        let until = if self.follow { Until::JobEnds } else { Until::Now };
        let show = if globals.output.is_data() { Show::Json } else { Show::Lines };
        stream(&api, self.job, self.rank, until, show)?;
        Ok(0)
    }
}

/// Reads the log of a job, prefixed by attempt and rank.
pub(crate) fn stream(api: &Api, job: JobId, rank: Option<u32>, until: Until, show: Show) -> Result<(), Failure> {
    let mut path = format!("/v1/jobs/{}/logs?follow={}", job.0, until == Until::JobEnds);
    if let Some(rank) = rank {
        path = format!("{path}&rank={rank}");
    }
    api.stream(&path, |line: LogLine| {
        match show {
            Show::Lines => {
                let prefix = output::dim(format!("[{}.{}]", line.attempt, line.rank));
                output::line(format!("{prefix} {}", line.line));
            }
            Show::Json => output::line(serde_json::to_string(&line).unwrap_or_default()),
            Show::Nothing => {}
        }
        Ok(Flow::Go)
    })
}
