//! `datahall submit`: hands a job in: a workload of the blueprint, a job file, or a command line.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use dh_core::{Kind, SimTime};
use dh_server::wire::{Accepted, JobRequest, JobView, NodeRanks, StartPlan};

use super::{Globals, Verb, logs};
use crate::api::Api;
use crate::failure::{Failure, OrFail};
use crate::{batch_script, output, secret_source};

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// A workload of the blueprint, a job file (`job.toml`), or a batch script with `#SBATCH` lines
    what: Option<String>,
    /// The program and its arguments, after `--`
    #[arg(last = true)]
    command: Vec<String>,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// Ranks of the gang; they start together or not at all
    #[arg(long)]
    ranks: Option<u32>,
    /// Accelerator slots of one rank
    #[arg(long)]
    slots_per_rank: Option<u32>,
    /// The queue
    #[arg(long)]
    queue: Option<String>,
    /// Higher goes first
    #[arg(long, allow_hyphen_values = true)]
    priority: Option<i32>,
    /// Failed attempts that are tried again
    #[arg(long)]
    retries: Option<u32>,
    /// Longest time of one attempt, such as `2 h`
    #[arg(long)]
    time_limit: Option<String>,
    /// Memory of one rank, such as `1 GiB`
    #[arg(long)]
    memory: Option<String>,
    /// The fewest ranks with which it starts and goes on: it takes what there is, up to `--ranks`
    #[arg(long)]
    ranks_min: Option<u32>,
    /// All ranks in one `pool`, `block` or `rack`
    #[arg(long, value_name = "LEVEL")]
    within: Option<String>,
    /// What it reads: a name in the bucket `datasets`, or `s3://BUCKET/PREFIX`; may be given often
    #[arg(long = "dataset", value_name = "NAME")]
    datasets: Vec<String>,
    /// The seed of the order in which it reads
    #[arg(long)]
    data_seed: Option<u64>,
    /// Where it keeps what it goes on from, `s3://BUCKET/PREFIX`; `{job}` is its number
    #[arg(long, value_name = "PLACE")]
    checkpoints: Option<String>,
    /// A variable of the environment, `NAME=VALUE`; may be given often
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A variable whose value nobody sees but the ranks, `NAME=REF`: REF is `env:VARIABLE`, `file:PATH`, or a name of `datahall
    /// secrets`; may be given often
    #[arg(long = "secret", value_name = "NAME=REF")]
    secrets: Vec<String>,
    /// The only nodes that it may run on: names or lists such as `train-[0-3]`; may be given often
    #[arg(long = "node", value_name = "NODES")]
    nodes: Vec<String>,
    /// Nodes that it may not run on; may be given often
    #[arg(long = "avoid-node", value_name = "NODES")]
    avoid_nodes: Vec<String>,
    /// Do not look whether its datasets are in the store
    #[arg(long)]
    no_check: bool,
    /// Sent twice under the same key, a job is accepted once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait for the end and return the job's own exit code
    #[arg(long)]
    wait: bool,
    /// Show the log while waiting
    #[arg(long)]
    follow: bool,
}

impl Verb for Submit {
    const NAME: &'static str = "submit";
    const ABOUT: &'static str = "Submit a job: a workload of the blueprint, a job file, a batch script, or a command";
    const AFTER: &'static str = "Examples:\n  datahall submit fashion --follow\n  datahall submit --ranks 2 -- python /home/me/train.py\n  datahall submit job.toml --wait\n  datahall submit train.sbatch --follow";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let key = self.idempotency_key.clone();
        let (wait, follow) = (self.wait, self.follow);
        let request = self.request()?;
        let api = Api::connect(globals)?;
        let accepted: Accepted = api.post_with_key("/v1/jobs?plan=true", &request, key.as_deref())?;
        let job = *accepted.jobs.first().ok_or_else(|| Failure::new(Kind::Internal, "the hall named no job"))?;
        if !(wait || follow) {
            if globals.output.is_data() {
                output::data(&accepted)?;
            } else {
                output::line(job);
                if let Some(plan) = accepted.plan.as_ref().filter(|_| !globals.quiet) {
                    output::note(plan_line(plan));
                }
            }
            return Ok(0);
        }
        if !globals.quiet {
            if let Some(plan) = &accepted.plan {
                output::note(plan_line(plan));
            }
            output::note(format!("{job}; Ctrl-C leaves it running, `datahall logs -f {job}` comes back to it"));
        }
        logs::stream(
            &api,
            job,
            None,
            logs::Until::JobEnds,
            if follow { logs::Show::Lines } else { logs::Show::Nothing },
        )?;
        let view: JobView = api.get(&format!("/v1/jobs/{}", job.0))?;
        if globals.output.is_data() {
            output::versioned(&view)?;
        }
        Ok(own_exit_code(&view, globals))
    }
}

/// Nodes that are named; of a large gang nobody reads them all.
const NODES_NAMED: usize = 8;

/// Where and when a job starts, as a line.
fn plan_line(plan: &StartPlan) -> String {
    let ranks = |node: &NodeRanks| match node.ranks {
        1 => node.node.clone(),
        ranks => format!("{} ({ranks} ranks)", node.node),
    };
    let mut nodes: Vec<String> = plan.nodes.iter().take(NODES_NAMED).map(ranks).collect();
    if let Some(more) = plan.nodes.len().checked_sub(NODES_NAMED).filter(|more| *more > 0) {
        nodes.push(format!("{more} nodes more"));
    }
    let on = if nodes.is_empty() { String::new() } else { format!(" on {}", nodes.join(", ")) };
    let because = plan.because.as_deref().map_or_else(String::new, |because| format!("; it waits: {because}"));
    let ahead = match plan.ahead {
        0 => String::new(),
        ahead => format!(", if the {ahead} jobs ahead of it leave it the place"),
    };
    match (plan.starts.as_str(), plan.at_ns) {
        ("now", _) => format!("starts now{on}"),
        ("expected", Some(at)) => {
            let wait = SimTime(at).since(now());
            format!("expected to start in {wait}{on}{ahead}{because}")
        }
        ("over", _) => format!("is {}", plan.state),
        (_, _) => format!("when it starts is not known: what runs has no time limit{because}"),
    }
}

fn now() -> SimTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SimTime(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// What `submit --wait` returns: 0, the job's own code, or 1 if it has none.
fn own_exit_code(view: &JobView, globals: &Globals) -> u8 {
    if view.state == "succeeded" {
        return 0;
    }
    if !globals.quiet {
        let because = view.because.as_deref().unwrap_or("no reason is known");
        output::note(format!("{} {}: {because}", view.id, view.state));
    }
    view.exit_code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1)
}

impl Submit {
    fn request(self) -> Result<JobRequest, Failure> {
        let mut request = match &self.what {
            None => JobRequest::default(),
            Some(what) if looks_like_a_file(what) => file(Path::new(what))?,
            Some(what) => JobRequest { workload: Some(what.clone()), ..JobRequest::default() },
        };
        if !self.command.is_empty() {
            request.command = Some(self.command);
        }
        if request.command.is_none() && request.workload.is_none() {
            return Err(Failure::new(Kind::Invalid, "nothing to run")
                .hint("name a workload or a job file, or give a command after `--`"));
        }
        for pair in self.env {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Failure::new(Kind::Invalid, format!("`--env {pair}` has no `=`")).hint("write `--env NAME=VALUE`")
            })?;
            request.env.insert(name.to_owned(), value.to_owned());
        }
        for text in &self.secrets {
            let (name, source) = secret_source::pair(text)?;
            request.secrets.insert(name, source);
        }
        secret_source::resolve(&mut request)?;
        if !self.nodes.is_empty() {
            request.nodes = self.nodes;
        }
        request.avoid_nodes.extend(self.avoid_nodes);
        request.unchecked |= self.no_check;
        request.name = self.name.or(request.name);
        request.ranks = self.ranks.or(request.ranks);
        request.slots_per_rank = self.slots_per_rank.or(request.slots_per_rank);
        request.queue = self.queue.or(request.queue);
        request.priority = self.priority.or(request.priority);
        request.retries = self.retries.or(request.retries);
        request.time_limit = self.time_limit.or(request.time_limit);
        request.memory = self.memory.or(request.memory);
        request.ranks_min = self.ranks_min.or(request.ranks_min);
        request.within = self.within.or(request.within);
        request.datasets.extend(self.datasets);
        request.data_seed = self.data_seed.or(request.data_seed);
        request.checkpoints = self.checkpoints.or(request.checkpoints);
        Ok(request)
    }
}

fn looks_like_a_file(what: &str) -> bool {
    let known = ["toml", "sh", "sbatch", "slurm", "job"];
    what.contains('/') || Path::new(what).extension().is_some_and(|ending| known.iter().any(|known| ending == *known))
}

/// A job file, or a batch script of Slurm.
fn file(path: &Path) -> Result<JobRequest, Failure> {
    let text = std::fs::read_to_string(path).or_fail_as(Kind::NotFound, format!("read {}", path.display()))?;
    if !batch_script::is_script(&text) {
        return toml_edit::de::from_str(&text).or_fail_as(Kind::Invalid, path.display());
    }
    let here = std::env::current_dir().or_fail("find the folder that this is called in")?;
    let batch = batch_script::read(&path.to_string_lossy(), &text, &here)?;
    if !batch.without_effect.is_empty() {
        output::note(format!("without effect here: {}", batch.without_effect.join(" ")));
    }
    Ok(batch.request)
}
