//! `datahall simulate`: published traces and protocols, played in virtual time by the policies that run a hall.

mod openb;

use clap::{Args, Subcommand};

use super::{Globals, Verb};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The published placement protocol on the openb trace of 6,212 accelerators
    Openb(openb::Openb),
}

impl Verb for Simulate {
    const NAME: &'static str = "simulate";
    const ABOUT: &'static str = "Play a published trace with the policies that place a hall's jobs";
    const AFTER: &'static str = "Example:\n  datahall simulate openb --nodes nodes.csv.gz --pods pods.csv.gz --policy best --ratio 1.3 --seeds 42..51 -o json";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        match self.what {
            What::Openb(openb) => openb.run(globals).map(|()| 0),
        }
    }
}
