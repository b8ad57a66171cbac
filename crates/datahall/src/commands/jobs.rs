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
    /// Only jobs in this state, such as `waiting` or `failed`
    #[arg(long)]
    state: Option<String>,
    /// Only jobs of this queue
    #[arg(long)]
    queue: Option<String>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 1_000)]
    limit: u32,
}

impl Verb for Jobs {
    const NAME: &'static str = "jobs";
    const ABOUT: &'static str = "List jobs";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let mut path = format!("/v1/jobs?before=0&limit={}&open={}", self.limit, self.open);
        for (name, value) in [("state", &self.state), ("queue", &self.queue)] {
            if let Some(value) = value {
                plain(name, value)?;
                path = format!("{path}&{name}={value}");
            }
        }
        let mut list: JobList = Api::connect(globals)?.get(&path)?;
        list.jobs.reverse();
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
        if list.next.is_some() && !globals.quiet {
            output::note(format!("these are the {} newest; --limit shows more", list.jobs.len()));
        }
        Ok(0)
    }
}

/// Names of queues and states need no escapes in an address; what does is none.
fn plain(what: &str, value: &str) -> Result<(), Failure> {
    let fine = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fine { Ok(()) } else { Err(Failure::new(dh_core::Kind::Invalid, format!("`{value}` is no {what}"))) }
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
