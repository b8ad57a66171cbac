//! `datahall replay`: runs the event log of a hall through the machine again and compares the state hashes.

use std::path::PathBuf;

use clap::Args;
use dh_core::Kind;

use super::{Globals, Verb};
use crate::failure::Failure;
use crate::output;
use crate::place;

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// An event log; by default the one of the hall that runs, or of `--data`
    log: Option<PathBuf>,
}

impl Verb for Replay {
    const NAME: &'static str = "replay";
    const ABOUT: &'static str = "Replay a hall's event log and compare the state hashes in it";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let path = match (self.log, &globals.data) {
            (Some(log), _) => log,
            (None, Some(data)) => data.join(dh_server::LOG_FILE),
            (None, None) => place::running(globals)?.0.join(dh_server::LOG_FILE),
        };
        if !path.is_file() {
            return Err(Failure::new(Kind::NotFound, format!("there is no event log {}", path.display())));
        }
        let (_, replay) = dh_server::replay(&path)?;
        if globals.output.is_data() {
            output::versioned(&replay)?;
        } else {
            output::line(format!("{} events, {} marks compared", replay.events, replay.marks));
            output::line(format!("state {}", replay.hash));
        }
        match replay.differs {
            None => Ok(0),
            Some((seq, logged, reached)) => Err(Failure::new(
                Kind::Corrupt,
                format!("after event {seq} the log says {logged}, and the replay reached {reached}"),
            )
            .hint("another version wrote this log, or the log was changed")),
        }
    }
}
