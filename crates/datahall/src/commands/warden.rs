//! `datahall warden`: looks after one task. Started by the executor only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Globals, Verb};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Warden {
    /// What to run
    spec: PathBuf,
}

impl Verb for Warden {
    const NAME: &'static str = "warden";
    const ABOUT: &'static str = "Look after one task (started by the executor)";
    const HIDDEN: bool = true;

    fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        Ok(u8::from(dh_exec::warden::main(&self.spec) != ExitCode::SUCCESS))
    }
}
