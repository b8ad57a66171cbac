//! `datahall exec JOB[.RANK] -- PROGRAM`: runs a program beside a running rank.

use std::io::{Read, Write};

use clap::Args;
use dh_core::{JobId, Kind};
use dh_server::wire::{ExecEnd, ExecRequest};

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::{Failure, OrFail};

/// What a frame of the answer holds.
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const END: u8 = 3;

/// A frame is smaller; what claims to be larger is none.
const FRAME_BYTES_MAX: u32 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The job, and after a dot the rank; rank 0 if there is none
    rank: RankOf,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A rank of a job: `7`, `7.2`, `job/7.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RankOf {
    job: JobId,
    rank: u32,
}

impl std::str::FromStr for RankOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (job, rank) = text.split_once('.').unwrap_or((text, "0"));
        let rank = rank.parse().map_err(|_| format!("`{rank}` is no rank"))?;
        Ok(Self { job: job.parse().map_err(|error: dh_core::id::BadJobId| error.to_string())?, rank })
    }
}

impl Verb for Exec {
    const NAME: &'static str = "exec";
    const ABOUT: &'static str = "Run a program beside a running rank, with its environment and in its folder";
    const AFTER: &'static str = "Examples:\n  datahall exec 7 -- ps -o pid,rss,args\n  datahall exec 7.3 -- py-spy dump --pid 1234\nThe exit code is the program's own. It ends with the rank, and when this command is interrupted.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let RankOf { job, rank } = self.rank;
        let path = format!("/v1/jobs/{}/ranks/{rank}/exec", job.0);
        let mut answer = Api::connect(globals)?.post_for_stream(&path, &ExecRequest { command: self.command })?;
        loop {
            let mut head = [0_u8; 5];
            answer.read_exact(&mut head).or_fail_as(Kind::Unreachable, "the hall stopped answering")?;
            let [kind, length @ ..] = head;
            let length = u32::from_be_bytes(length);
            if length > FRAME_BYTES_MAX {
                return Err(Failure::new(Kind::Internal, "the hall's answer makes no sense"));
            }
            let mut piece = vec![0; usize::try_from(length).or_fail("the length of a frame")?];
            answer.read_exact(&mut piece).or_fail_as(Kind::Unreachable, "the hall stopped answering")?;
            match kind {
                OUTPUT => show(&mut std::io::stdout().lock(), &piece)?,
                ERRORS => show(&mut std::io::stderr().lock(), &piece)?,
                END => {
                    let end: ExecEnd = serde_json::from_slice(&piece).or_fail("the hall's answer makes no sense")?;
                    return Ok(end.code);
                }
                _ => return Err(Failure::new(Kind::Internal, "the hall's answer makes no sense")),
            }
        }
    }
}

fn show(to: &mut impl Write, piece: &[u8]) -> Result<(), Failure> {
    to.write_all(piece).and_then(|()| to.flush()).or_fail("write what the program says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_named_after_a_dot() {
        let of = |text: &str| text.parse::<RankOf>().ok().map(|of| (of.job.0, of.rank));
        assert_eq!(["7", "7.2", "job/7.2"].map(of), [Some((7, 0)), Some((7, 2)), Some((7, 2))]);
        assert_eq!(["", "x", "7.", "7.x", ".1"].map(of), [None; 5]);
    }
}
