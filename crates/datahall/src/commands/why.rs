//! `datahall why JOB`: the first condition that decides, and what stands around it.

use clap::Args;
use dh_core::JobId;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The job, such as `7` or `job/7`
    job: JobId,
}

impl Verb for Why {
    const NAME: &'static str = "why";
    const ABOUT: &'static str = "Explain why a job waits, runs or ended";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let why: serde_json::Value = Api::connect(globals)?.get(&format!("/v1/jobs/{}/why", self.job.0))?;
        if globals.output.is_data() {
            output::versioned(&why)?;
            return Ok(0);
        }
        let text = |key: &str| why.get(key).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
        output::line(format!("{} is {}: {}", self.job, output::bold(text("state")), text("because")));
        for detail in why.get("details").and_then(serde_json::Value::as_array).into_iter().flatten() {
            output::line(format!("  {}", detail.as_str().unwrap_or("?")));
        }
        if let Some(hint) = why.get("hint").and_then(serde_json::Value::as_str) {
            output::note(format!("{} {hint}", output::bold("hint:")));
        }
        Ok(0)
    }
}
