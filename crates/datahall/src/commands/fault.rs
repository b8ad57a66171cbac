//! `datahall fault`: breaks something on purpose, to see that it heals.

use clap::Args;
use dh_core::JobId;
use dh_server::wire::JobView;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Fault {
    /// Kill a rank of this job, as a failing machine would
    job: JobId,
    /// Which rank
    #[arg(long, default_value_t = 0)]
    rank: u32,
}

impl Verb for Fault {
    const NAME: &'static str = "fault";
    const ABOUT: &'static str = "Kill a rank of a running job on purpose, to see it recover";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        let path = format!("/v1/jobs/{}/ranks/{}/kill", self.job.0, self.rank);
        let view: JobView = api.post(&path, &serde_json::json!({}))?;
        if globals.output.is_data() {
            output::versioned(&view)?;
        } else if !globals.quiet {
            output::note(format!("rank {} of {} was killed; `datahall jobs` shows what follows", self.rank, self.job));
        }
        Ok(0)
    }
}
