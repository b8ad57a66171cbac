//! `datahall cancel JOB`: ends a job.

use clap::Args;
use dh_core::JobId;
use dh_server::wire::JobView;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The jobs, such as `7` or `job/7`
    #[arg(required = true)]
    jobs: Vec<JobId>,
}

impl Verb for Cancel {
    const NAME: &'static str = "cancel";
    const ABOUT: &'static str = "End jobs";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        for job in self.jobs {
            let view: JobView = api.post(&format!("/v1/jobs/{}/cancel", job.0), &serde_json::json!({}))?;
            if globals.output.is_data() {
                output::versioned(&view)?;
            } else if !globals.quiet {
                output::note(format!("{job} is {}", view.state));
            }
        }
        Ok(0)
    }
}
