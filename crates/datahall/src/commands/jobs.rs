//! `datahall jobs`: the jobs of a running hall.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use dh_core::{SimTime, time::Span};
use dh_server::wire::{JobList, JobView};

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// Only jobs that are not over
    #[arg(long)]
    open: bool,
}

impl Verb for Jobs {
    const NAME: &'static str = "jobs";
    const ABOUT: &'static str = "List jobs";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let mut list: JobList = Api::connect(globals)?.get("/v1/jobs")?;
        if self.open {
            list.jobs.retain(|job| !job.over());
        }
        if globals.output.is_data() {
            output::data(&list)?;
            return Ok(0);
        }
        let mut table = Table::new(&[
            ("JOB", Side::Left),
            ("NAME", Side::Left),
            ("STATE", Side::Left),
            ("QUEUE", Side::Left),
            ("RANKS", Side::Right),
            ("TRY", Side::Right),
            ("WAITED", Side::Right),
            ("RAN", Side::Right),
            ("WHY", Side::Left),
        ]);
        for job in &list.jobs {
            table.row(row(job));
        }
        table.lines().iter().for_each(output::line);
        Ok(0)
    }
}

fn row(job: &JobView) -> [String; 9] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let between = |from: u64, to: u64| -> Span { SimTime(to).since(SimTime(from)) };
    let waited = between(job.submitted_ns, job.started_ns.or(job.ended_ns).unwrap_or(now));
    let ran = job.started_ns.map(|started| between(started, job.ended_ns.unwrap_or(now)));
    let state = match job.state.as_str() {
        "succeeded" => output::green(&job.state),
        "failed" => output::red(&job.state),
        "running" => output::bold(&job.state),
        _ => job.state.clone(),
    };
    [
        job.id.to_string(),
        job.name.clone(),
        state,
        job.queue.clone(),
        format!("{}/{}", job.ranks_running, job.ranks),
        job.attempts.to_string(),
        waited.to_string(),
        ran.map_or_else(|| "-".to_owned(), |ran| ran.to_string()),
        job.because.clone().unwrap_or_default(),
    ]
}
