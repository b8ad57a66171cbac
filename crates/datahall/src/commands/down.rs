//! `datahall down`: stops a running hall in order.

use std::time::{Duration, Instant};

use clap::Args;
use dh_core::Kind;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;

/// How long a hall may take to stop its jobs and close its files.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct Down {}

impl Verb for Down {
    const NAME: &'static str = "down";
    const ABOUT: &'static str = "Stop a running hall; its jobs wait for the next start";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        api.post::<serde_json::Value>("/v1/shutdown", &serde_json::json!({}))?;
        let deadline = Instant::now() + TIMEOUT;
        while api.endpoint.alive() {
            if Instant::now() > deadline {
                let message = format!("hall `{}` (process {}) does not stop", api.endpoint.name, api.endpoint.pid);
                return Err(Failure::new(Kind::Timeout, message));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if !globals.quiet {
            output::note(format!("hall `{}` is down", api.endpoint.name));
        }
        Ok(0)
    }
}
