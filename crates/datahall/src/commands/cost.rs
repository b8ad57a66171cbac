//! `datahall cost`: what a blueprint's hall costs to build and to own.

use std::path::PathBuf;

use clap::Args;

use super::{Globals, Verb, plan};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// The blueprint
    blueprint: Option<PathBuf>,
}

impl Verb for Cost {
    const NAME: &'static str = "cost";
    const ABOUT: &'static str = "Every number of what a hall costs to build and to own, with its formula";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        plan::numbers_below(self.blueprint.as_deref(), "cost.", globals)
    }
}
