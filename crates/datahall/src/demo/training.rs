//! The training: submitted like any job, watched through its log, broken on purpose, resumed from its checkpoint.

use std::time::{Duration, Instant};

use dh_blueprint::Settings;
use dh_core::{JobId, Kind};
use dh_learn::train::{EpochResult, Event, Report};
use dh_server::wire::{Accepted, JobRequest, JobView, LogLine, Status};

use crate::api::{Api, Flow};
use crate::commands::{Globals, plan};
use crate::failure::Failure;
use crate::output;
use crate::ui::chart;
use crate::ui::progress::Progress;

/// The rank that is killed: not the one whose log is watched, so that the failure is seen from a peer's side.
const VICTIM: u32 = 1;

/// What happened.
pub(super) struct Training {
    pub(super) workload: String,
    pub(super) job: JobId,
    /// From the first step to the durable model, restarts included.
    pub(super) wall: Duration,
    pub(super) report: Report,
    pub(super) losses: Vec<f64>,
    pub(super) attempts: u32,
    pub(super) fault: Option<Fault>,
    /// Blocks that the store answered from memory and from the disk while the job ran.
    pub(super) cache_hits: u64,
    pub(super) cache_misses: u64,
    /// Bytes that the store sent meanwhile.
    pub(super) read_bytes: u64,
}

/// What the killed rank cost.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Fault {
    /// The last step seen before the rank was killed.
    pub(super) killed_after_step: u64,
    /// The step that the next attempt went on from.
    pub(super) resumed_from_step: u64,
    /// From the kill to the first event of the next attempt.
    pub(super) recovery_seconds: f64,
}

/// Submits the first training workload and watches it to its end.
pub(super) fn run(api: &Api, settings: &Settings, fault: bool, quiet: bool) -> Result<Training, Failure> {
    let (workload, _, _) = plan::trainings(settings)
        .next()
        .ok_or_else(|| Failure::new(Kind::Blueprint, "the blueprint has no training workload"))?;
    let before: Status = api.get("/v1/status")?;
    let request = JobRequest { workload: Some(workload.to_owned()), ..JobRequest::default() };
    let accepted: Accepted = api.post("/v1/jobs", &request)?;
    let job = accepted.jobs.first().copied().ok_or_else(|| Failure::new(Kind::Internal, "the hall named no job"))?;
    let mut watch = Watch::new(api, job, fault, quiet);
    api.stream(&format!("/v1/jobs/{}/logs?follow=true&rank=0", job.0), |line: LogLine| watch.line(&line))?;
    watch.bar.end();

    let view: JobView = wait_until_over(api, job)?;
    let Watch { report, started, finished, losses, killed, resumed, .. } = watch;
    let (Some(report), Some(started), Some(finished)) = (report, started, finished) else {
        let because = view.because.unwrap_or_else(|| "its log does not say why".to_owned());
        return Err(Failure::new(Kind::Internal, format!("the training {}: {because}", view.state))
            .hint(format!("`datahall logs {job}` shows what its ranks said")));
    };
    let after: Status = api.get("/v1/status")?;
    let fault = killed.zip(resumed).map(|((killed_after_step, at), (resumed_from_step, again))| Fault {
        killed_after_step,
        resumed_from_step,
        recovery_seconds: again.duration_since(at).as_secs_f64(),
    });
    Ok(Training {
        workload: workload.to_owned(),
        job,
        wall: finished.duration_since(started),
        report,
        losses,
        attempts: view.attempts,
        fault,
        cache_hits: after.store.cache_hits.saturating_sub(before.store.cache_hits),
        cache_misses: after.store.cache_misses.saturating_sub(before.store.cache_misses),
        read_bytes: after.store.read_bytes.saturating_sub(before.store.read_bytes),
    })
}

/// The last line of the log comes a moment before the hall hears of the end.
fn wait_until_over(api: &Api, job: JobId) -> Result<JobView, Failure> {
    loop {
        let view: JobView = api.get(&format!("/v1/jobs/{}", job.0))?;
        if view.over() {
            return Ok(view);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads rank 0's events as they come.
struct Watch<'a> {
    api: &'a Api,
    job: JobId,
    fault: bool,
    bar: Progress,
    steps: u64,
    last_step: u64,
    losses: Vec<f64>,
    started: Option<Instant>,
    finished: Option<Instant>,
    report: Option<Report>,
    /// The last step before the kill, and its moment.
    killed: Option<(u64, Instant)>,
    /// Where the next attempt went on, and when.
    resumed: Option<(u64, Instant)>,
}

impl<'a> Watch<'a> {
    fn new(api: &'a Api, job: JobId, fault: bool, quiet: bool) -> Self {
        Self {
            api,
            job,
            fault,
            bar: Progress::new("train", 100, quiet),
            steps: 0,
            last_step: 0,
            losses: Vec::new(),
            started: None,
            finished: None,
            report: None,
            killed: None,
            resumed: None,
        }
    }

    fn line(&mut self, line: &LogLine) -> Result<Flow, Failure> {
        match serde_json::from_str::<Event>(&line.line) {
            Ok(event) => self.event(event, line.attempt)?,
            // What is not an event is a message of a rank, such as the error that ends an attempt.
            Err(_) => self.bar.say(&format!("    {}", output::dim(format!("rank {}: {}", line.rank, line.line)))),
        }
        Ok(Flow::Go)
    }

    fn event(&mut self, event: Event, attempt: u32) -> Result<(), Failure> {
        match event {
            Event::Started { resumed_from_step, steps, ranks, skipped_checkpoints } => {
                self.steps = steps;
                self.started.get_or_insert_with(Instant::now);
                if attempt > 1 {
                    self.resumed.get_or_insert((resumed_from_step, Instant::now()));
                    let from = match resumed_from_step {
                        0 => "start afresh: there was no checkpoint yet".to_owned(),
                        step => format!("go on from the checkpoint at step {step}"),
                    };
                    self.bar.say(&format!("    attempt {attempt}: {ranks} ranks {from}"));
                }
                for one in skipped_checkpoints {
                    self.bar.say(&format!("    a damaged checkpoint was passed over: {one}"));
                }
            }
            Event::Step { step, epoch, loss, .. } => {
                self.last_step = step;
                self.losses.push(loss);
                let percent = step.saturating_mul(100) / self.steps.max(1);
                self.bar.at(percent, &format!("step {step} of {}, epoch {epoch}, loss {loss:.3}", self.steps));
                if self.fault && self.killed.is_none() && step * 2 >= self.steps {
                    self.kill()?;
                }
            }
            Event::Epoch(EpochResult { epoch, accuracy, loss, seconds }) => self
                .bar
                .say(&format!("    epoch {epoch}: accuracy {:.1} %, loss {loss:.3}, {seconds:.1} s", accuracy * 100.0)),
            Event::Checkpoint { .. } => {}
            Event::Finished(report) => {
                self.finished = Some(Instant::now());
                self.report = Some(report);
            }
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Failure> {
        let path = format!("/v1/jobs/{}/ranks/{VICTIM}/kill", self.job.0);
        self.api.post::<JobView>(&path, &serde_json::json!({}))?;
        self.killed = Some((self.last_step, Instant::now()));
        let word = output::yellow("killed");
        self.bar.say(&format!("    rank {VICTIM} is {word} on purpose at step {}", self.last_step));
        Ok(())
    }
}

/// Each value with its neighbours: a batch of 64 is a small sample, and the eye should see the trend.
fn smoothed(losses: &[f64]) -> Vec<f64> {
    const REACH: usize = 4;
    (0..losses.len())
        .map(|at| {
            let near = losses.get(at.saturating_sub(REACH)..(at + REACH + 1).min(losses.len())).unwrap_or_default();
            near.iter().sum::<f64>() / f64::from(u32::try_from(near.len()).unwrap_or(u32::MAX))
        })
        .collect()
}

impl Training {
    /// Test accuracy after the last epoch.
    pub(super) fn accuracy(&self) -> f64 {
        self.report.epochs.last().map_or(0.0, |epoch| epoch.accuracy)
    }

    /// The loss curve and what the fault cost.
    pub(super) fn show(&self, globals: &Globals) {
        if globals.quiet || globals.output.is_data() {
            return;
        }
        output::note(output::dim("    loss, mean of 9 steps that were reported"));
        for line in chart::curve(&smoothed(&self.losses), 60, 5) {
            output::note(format!("    {line}"));
        }
        if let Some(fault) = &self.fault {
            output::note(format!(
                "    the killed rank cost {} steps and {:.1} s until the gang stepped again",
                fault.killed_after_step.saturating_sub(fault.resumed_from_step),
                fault.recovery_seconds
            ));
        }
    }
}
