//! `datahall replay`: runs the event log of a hall, live or simulated, through the machine again and compares the state
//! hashes; or plays what happened under another policy.

use std::path::{Path, PathBuf};

use clap::Args;
use dh_core::{Kind, SimTime};
use dh_hall::scheduler::Scheduler;
use dh_server::LogPlace;
use dh_twin::play::{self, Lengths, Rules, Scene, Wanted};
use dh_twin::record::{Log, is_log};

use super::simulate::show;
use super::{Globals, Verb};
use crate::failure::Failure;
use crate::output;
use crate::{place, trace_file};

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// An event log, a file or `postgres://...`; by default the one of the hall that runs, or of `--data`
    log: Option<PathBuf>,
    /// Play what happened in a log of `simulate` under another policy, and show both side by side
    #[arg(long, requires = "log")]
    policy: Option<String>,
}

impl Verb for Replay {
    const NAME: &'static str = "replay";
    const ABOUT: &'static str = "Replay an event log: compare its hashes, or try another policy";
    const AFTER: &'static str = "Examples:\n  datahall replay                              the log of the hall that runs\n  datahall simulate --trace jobs.swf --log run.log; datahall replay run.log\n  datahall replay run.log --policy fifo+none   what would it have been?";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let place = match self.log {
            Some(log) => log_at(log),
            None => place::log(globals)?,
        };
        if let LogPlace::File(path) = &place {
            if !path.is_file() {
                return Err(Failure::new(Kind::NotFound, format!("there is no event log {}", path.display())));
            }
            if is_simulated(path) {
                let text = trace_file::read(path)?;
                return match &self.policy {
                    Some(policy) => other_policy(&text, policy, globals),
                    None => simulated(&text, globals),
                };
            }
        }
        if self.policy.is_some() {
            return Err(Failure::new(
                Kind::Invalid,
                "only a log that `datahall simulate --log` wrote says how much work its jobs are",
            ));
        }
        let (_, replay) = dh_server::replay(&place)?;
        if globals.output.is_data() {
            output::versioned(&replay)?;
        } else {
            output::line(format!("{} events, {} marks compared", replay.events, replay.marks));
            output::line(format!("state {}", replay.hash));
        }
        verdict(replay.differs)
    }
}

/// A log by what a person wrote.
pub(super) fn log_at(log: PathBuf) -> LogPlace {
    match log.to_str() {
        Some(text) if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
            LogPlace::Database(text.to_owned())
        }
        Some(_) | None => LogPlace::File(log),
    }
}

/// Whether a file is the log of a simulated hall: text, where a live hall's is a database.
pub(super) fn is_simulated(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    let read = std::fs::File::open(path).map(|file| file.take(64).read_to_end(&mut start));
    matches!(read, Ok(Ok(_))) && (start.starts_with(&[0x1f, 0x8b]) || std::str::from_utf8(&start).is_ok_and(is_log))
}

fn simulated(text: &str, globals: &Globals) -> Result<u8, Failure> {
    let log = Log::read(text)?;
    let mut scheduler = Scheduler::new(log.header.settings.clone())?;
    let replay = log.replay(&mut scheduler, SimTime(u64::MAX), |_, _, _| {})?;
    if globals.output.is_data() {
        output::versioned(&replay)?;
    } else {
        output::line(format!("{} events, {} marks compared", replay.events, replay.marks));
        output::line(format!("digest {}", replay.digest));
    }
    verdict(replay.differs)
}

fn verdict(differs: Option<(u64, String, String)>) -> Result<u8, Failure> {
    match differs {
        None => Ok(0),
        Some((seq, logged, reached)) => Err(Failure::new(
            Kind::Corrupt,
            format!("after event {seq} the log says {logged}, and the replay reached {reached}"),
        )
        .hint("another version wrote this log, or the log was changed")),
    }
}

/// What came and what failed, under the policy of the log and under another.
fn other_policy(text: &str, policy: &str, globals: &Globals) -> Result<u8, Failure> {
    let log = Log::read(text)?;
    let header = log.header.clone();
    let (jobs, faults) = log.trace()?;
    let scene = Scene::of_log(&header, jobs, faults);
    let rules = Rules::named(policy, Lengths::Limits)?;
    let before = play::play_as(&scene, header.settings.clone(), &Wanted::default(), &mut ())?;
    let after = play::play(&scene, &rules, &Wanted::default(), &mut ())?;
    show::two(&scene, ("as it was", before), (policy, after), globals)
}
