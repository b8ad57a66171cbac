//! `datahall why JOB`: the first condition that decides, and what stands around it.

use std::path::{Path, PathBuf};

use clap::Args;
use dh_core::time::Span;
use dh_core::{JobId, Kind, SimTime};
use dh_hall::scheduler::{Action, Event, Goal, Plan, Scheduler, Stale};
use dh_twin::record::{Log, is_log};

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::trace_file;

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The job, such as `7` or `job/7`
    job: JobId,
    /// Ask a log that `simulate --log` wrote, not the hall that runs
    #[arg(long, value_name = "LOG")]
    log: Option<PathBuf>,
    /// As of this moment of the log; by default the last one at which the job waited for its first start
    #[arg(long, value_name = "TIME", requires = "log", value_parser = super::simulate::span)]
    at: Option<Span>,
}

impl Verb for Why {
    const NAME: &'static str = "why";
    const ABOUT: &'static str = "Explain why a job waits, runs or ended";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        if let Some(log) = &self.log {
            return logged(self.job, log, self.at, globals);
        }
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

/// What became of a job in a log, and why it waited.
fn logged(job: JobId, path: &Path, at: Option<Span>, globals: &Globals) -> Result<u8, Failure> {
    let text = trace_file::read(path)?;
    if !is_log(&text) {
        return Err(Failure::new(Kind::Invalid, format!("{} is no log of `datahall simulate`", path.display())));
    }
    let settings = Log::read(&text)?.header.settings;
    let until = at.map_or(SimTime(u64::MAX), |at| SimTime(0).after(at));
    let mut course = Course::default();
    let mut scheduler = Scheduler::new(settings.clone())?;
    Log::read(&text)?.replay(&mut scheduler, until, |scheduler, event, actions| {
        course.note(job, scheduler.now(), event, actions);
    })?;
    let Some(submitted) = course.submitted else {
        return Err(Failure::new(Kind::NotFound, format!("{job} is not in {} by then", path.display())));
    };
    // Before its first start if no moment was named: one nanosecond earlier nothing of that step had happened.
    if at.is_none() && scheduler.why(job).is_none() {
        let before = course.started.map_or(SimTime(u64::MAX), |started| SimTime(started.0.saturating_sub(1)));
        scheduler = Scheduler::new(settings)?;
        Log::read(&text)?.replay(&mut scheduler, before.max(submitted), |_, _, _| {})?;
    }
    let why = scheduler.why(job);
    let plan = scheduler.consolidate(Goal::Start { job });
    if globals.output.is_data() {
        output::versioned(&serde_json::json!({
            "job": job, "at": scheduler.now(), "why": why, "moves": plan,
            "submitted": course.submitted, "started": course.started, "stopped": course.stopped, "ended": course.ended,
            "refused_plans": course.refused,
        }))?;
        return Ok(0);
    }
    let since = |moment: SimTime| moment.since(SimTime(0));
    output::line(format!("{job} came at {}", since(submitted)));
    if let Some(why) = &why {
        output::line(format!("at {} it waits:", since(scheduler.now())));
        for blocker in &why.blockers {
            output::line(format!("  {blocker}"));
        }
        for holder in &why.holders {
            output::line(output::dim(format!(
                "  {} holds {} accelerators of what it needs",
                holder.job, holder.accelerators
            )));
        }
        if let Some(earliest) = why.earliest {
            output::line(format!(
                "  it can start in {} if what runs ends as expected",
                earliest.since(scheduler.now())
            ));
        }
    }
    if let Some(plan) = &plan {
        moves(plan);
    }
    for refused in &course.refused {
        let RefusedPlan { at, plan, because } = refused;
        output::line(format!("plan {plan:016x} of moves for it was not carried out at {}: {because}", since(*at)));
    }
    if let Some(started) = course.started {
        output::line(format!("it first started at {}, after {}", since(started), started.since(submitted)));
    }
    if course.stopped > 0 {
        output::line(format!("it was stopped {} times", course.stopped));
    }
    if let Some(ended) = course.ended {
        output::line(format!("it ended at {}", since(ended)));
    }
    Ok(0)
}

/// What would have to move for a job to start.
fn moves(plan: &Plan) {
    let jobs = match plan.moves.len() {
        1 => "another job".to_owned(),
        jobs => format!("{jobs} other jobs"),
    };
    output::line(format!("  it would fit if {jobs} moved, at the price of {} accelerator-seconds", plan.price));
    for each in plan.moves.iter().take(MOVES_SHOWN) {
        let nodes = |ranks: &[dh_policy::fleet::Holding]| {
            let mut nodes: Vec<_> = ranks.iter().map(|held| held.node).collect();
            nodes.dedup();
            match nodes.as_slice() {
                [node] => node.to_string(),
                nodes => format!("{} nodes", nodes.len()),
            }
        };
        let (from, to) = (nodes(&each.from), nodes(&each.to));
        output::line(output::dim(format!("  {} from {from} to {to}, {} accelerator-seconds", each.job, each.price)));
    }
}

/// Moves that are told one by one.
const MOVES_SHOWN: usize = 8;

/// What became of a job.
#[derive(Debug, Default)]
struct Course {
    submitted: Option<SimTime>,
    started: Option<SimTime>,
    stopped: u32,
    ended: Option<SimTime>,
    refused: Vec<RefusedPlan>,
}

/// A plan of moves that was not carried out.
#[derive(Debug, serde::Serialize)]
struct RefusedPlan {
    at: SimTime,
    plan: u64,
    because: Stale,
}

impl Course {
    fn note(&mut self, job: JobId, now: SimTime, event: &Event, actions: &[Action]) {
        if matches!(event, Event::Submitted(submission) if submission.job == job) {
            self.submitted.get_or_insert(now);
        }
        if matches!(event, Event::Ended { job: ended, .. } if *ended == job) {
            self.ended = Some(now);
        }
        for action in actions {
            match action {
                Action::Start { job: started, .. } if *started == job => {
                    self.started.get_or_insert(now);
                }
                Action::Stop { job: stopped, .. } if *stopped == job => self.stopped += 1,
                Action::NotApplied { goal, plan, because } if *goal == (Goal::Start { job }) => {
                    self.refused.push(RefusedPlan { at: now, plan: *plan, because: *because });
                }
                Action::Start { .. }
                | Action::Stop { .. }
                | Action::Repair { .. }
                | Action::Resize { .. }
                | Action::Wake { .. }
                | Action::Sleep { .. }
                | Action::Quarantined { .. }
                | Action::NotApplied { .. }
                | Action::Refused { .. } => {}
            }
        }
    }
}
