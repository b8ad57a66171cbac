//! `datahall simulate`: a hall in virtual time, decided by the scheduler that runs a live one.

mod openb;
mod print;
mod requests;
mod run;
mod scene;
pub(in crate::commands) mod show;

use clap::{Args, Subcommand};

pub(super) use scene::span;

use super::{Globals, Verb};
use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Simulate {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    run: run::Run,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The published placement protocol on the openb trace of 6,212 accelerators
    Openb(openb::Openb),
}

impl Verb for Simulate {
    const NAME: &'static str = "simulate";
    const ABOUT: &'static str = "Play jobs, faults and policies on a hall in virtual time";
    const AFTER: &'static str = "Examples:\n  datahall simulate hall.toml --html run.html\n  datahall simulate hall.toml --compare blueprint,fair+conservative,energy\n  datahall simulate --trace philly.csv.gz --policy fifo\n  datahall simulate --trace jobs.swf --compare best,fifo+none,fifo+any\n  datahall simulate --trace philly.csv.gz --mtbf '30 d' --seeds 1..10 --compare best,fifo -o json\n  datahall simulate --trace jobs.swf --log run.log; datahall replay run.log --policy fifo\n  datahall simulate hall.toml --services-only --requests azure.csv.gz --replicas 1..8 --html requests.html\n  datahall simulate openb --nodes nodes.csv.gz --pods pods.csv.gz --policy best --ratio 1.3 --seeds 42..51 -o json";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        match self.what {
            Some(What::Openb(openb)) => openb.run(globals).map(|()| 0),
            None => self.run.run(globals),
        }
    }
}
