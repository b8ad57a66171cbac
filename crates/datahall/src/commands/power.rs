//! `datahall power`: the power of a blueprint's hall, from the nodes to what is ordered from the supplier.

use std::path::PathBuf;

use clap::Args;

use super::{Globals, Verb, plan};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Power {
    /// The blueprint
    blueprint: Option<PathBuf>,
}

impl Verb for Power {
    const NAME: &'static str = "power";
    const ABOUT: &'static str = "Every number of a hall's power, energy and carbon, with its formula";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        plan::numbers_below(self.blueprint.as_deref(), "power.", globals)
    }
}
