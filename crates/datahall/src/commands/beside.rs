//! `datahall beside`: runs a program beside a rank. Started by the server only.

use std::ffi::OsString;

use clap::Args;
use dh_core::{AttemptId, JobId, Kind, Rank, TaskId};

use super::{Globals, Verb};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Beside {
    job: u64,
    attempt: u32,
    rank: u32,
    /// The rank's process
    pid: u32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Verb for Beside {
    const NAME: &'static str = "beside";
    const ABOUT: &'static str = "Run a program beside a rank (started by the server)";
    const HIDDEN: bool = true;

    fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        let attempt = AttemptId { job: JobId(self.job), attempt: self.attempt };
        let task = TaskId { attempt, rank: Rank(self.rank) };
        dh_exec::beside::main(task, self.pid, &self.command).map_err(|why| Failure::new(Kind::Conflict, why))
    }
}
