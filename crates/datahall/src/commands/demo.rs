//! `datahall demo`: the whole way on this machine, from a blueprint to a trained and a served model.

use clap::Args;

use super::{Globals, Verb};
use crate::demo;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave at the end instead of staying up until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// Do not kill a rank half-way
    #[arg(long)]
    no_fault: bool,
    /// Download nothing: generated data and a model with made-up weights, marked as such
    #[arg(long)]
    offline: bool,
}

impl Verb for Demo {
    const NAME: &'static str = "demo";
    const ABOUT: &'static str = "See it all: plan, run, store, train, break, resume, serve, ask";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let wishes = demo::Wishes { stay: !self.exit, fault: !self.no_fault, offline: self.offline };
        demo::run(globals, wishes)
    }
}
