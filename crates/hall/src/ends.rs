//! What the end of a task, or of its time, means for its gang and its job.

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime, TaskId, limits};

use crate::event::{Action, End, EndCause};
use crate::job::{Attempt, Job, Outcome, Phase, Record, Task, Verdict};
use crate::machine::Hall;
use crate::scheduler::{self, Scheduler};

/// Ended attempts that a job remembers.
const RECORDS_KEPT: usize = 16;

/// First pause after a failed attempt; it doubles with each further one.
const BACKOFF_FIRST: Span = Span::from_millis(500);

/// Longest pause. A cluster-wide fault should not leave its jobs sleeping long after it is mended.
const BACKOFF_MAX: Span = Span::from_secs(60);

/// A service that ran this long was healthy: its earlier failures are forgotten.
const SERVICE_HEALTHY: Span = Span::from_secs(60);

impl Hall {
    pub(crate) fn task_ended(&mut self, task: TaskId, end: &End, out: &mut Vec<Action>) {
        let now = self.now;
        let over = self.jobs.change(task.attempt.job, |job| rank_ended(job, task, end, now, out));
        if over == Some(Whole::Over) {
            self.close_attempt(task.attempt.job, out);
        }
    }

    /// Every task is gone: the slots return, and the verdict takes effect.
    fn close_attempt(&mut self, id: JobId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(attempt) = self.jobs.get(id).and_then(Job::active) else { return };
        let Attempt { id: attempt_id, started, verdict, .. } = attempt.clone();
        let mut nodes: Vec<NodeId> = attempt.placement.iter().map(|placed| placed.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            // One that is no longer in the blueprint holds nothing.
            if let Some(node) = self.nodes.get_mut(&node) {
                node.release(attempt_id);
            }
        }
        out.push(Action::Close { attempt: attempt_id });

        let verdict = verdict.unwrap_or(Verdict::Over { outcome: Outcome::Succeeded });
        let because = match &verdict {
            Verdict::Again { because, .. } | Verdict::Over { outcome: Outcome::Failed { because, .. } } => {
                because.clone()
            }
            Verdict::Over { outcome: Outcome::Succeeded } => "every rank exited with code 0".to_owned(),
            Verdict::Over { outcome: Outcome::Cancelled { by } } => format!("cancelled by {by}"),
        };
        let changed = self.jobs.change(id, |job| {
            job.history.push(Record { attempt: attempt_id.attempt, started, ended: now, because });
            let surplus = job.history.len().saturating_sub(RECORDS_KEPT);
            job.history.drain(..surplus);

            if matches!(verdict, Verdict::Again { counts: false, .. }) {
                // What was stopped goes on from its checkpoint: what it ran counts, whatever of it has to be done again.
                job.attained = Span(job.attained.0.saturating_add(now.since(started).0));
            }
            job.phase = match verdict {
                Verdict::Over { outcome } => Phase::Done { outcome, at: now },
                Verdict::Again { counts: false, .. } => Phase::Waiting { not_before: now },
                Verdict::Again { counts: true, .. } => {
                    if job.spec.kind.is_service() && now.since(started) >= SERVICE_HEALTHY {
                        job.failures = 0;
                    }
                    job.failures += 1;
                    Phase::Waiting { not_before: now.after(backoff(job.failures)) }
                }
            };
            (job.attained, matches!(job.phase, Phase::Waiting { not_before } if not_before <= now))
        });
        let Some((attained, goes_on)) = changed else { return };
        // Attempts are fenced by their own ids here: what ends is the run that the core knows.
        let run = self.scheduler.as_ref().and_then(|scheduler| scheduler.run_of(id)).unwrap_or_default();
        // One that waits out its back-off leaves the line, and comes back to its old place.
        let event = if goes_on {
            scheduler::Event::Stopped { job: id, run, attained }
        } else {
            scheduler::Event::Ended { job: id, run }
        };
        self.tell(&event, out);
    }

    pub(crate) fn enforce_time_limits(&mut self, out: &mut Vec<Action>) {
        for id in self.jobs.over_limit(self.now) {
            self.jobs.change(id, |job| {
                let Some(limit) = job.spec.time_limit else { return };
                if let Phase::Active { attempt } = &mut job.phase {
                    // More of the same time would end the same way, so a retry is not tried.
                    attempt.verdict = Some(Verdict::Over {
                        outcome: Outcome::Failed { because: format!("its time limit of {limit} was over"), code: None },
                    });
                    out.push(Action::Stop { attempt: attempt.id });
                }
            });
        }
    }

    /// The next moment at which [`crate::Event::Tick`] would change something.
    pub fn next_wakeup(&self) -> Option<SimTime> {
        let moment = self.jobs.next_moment(self.now);
        moment.into_iter().chain(self.scheduler.as_ref().and_then(Scheduler::wakeup)).min()
    }
}

/// What is left of a gang of which a rank ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Stands,
    Over,
}

/// A rank ended: what that means for the others.
fn rank_ended(job: &mut Job, task: TaskId, end: &End, now: SimTime, out: &mut Vec<Action>) -> Whole {
    let is_service = job.spec.kind.is_service();
    let retries_left = job.spec.retries.saturating_sub(job.failures);
    // Attempts that were lost with their server do not count: a hall may be stopped and started any number of times.
    let attempts_left = limits::ATTEMPTS_MAX.saturating_sub(job.failures);
    let Phase::Active { attempt } = &mut job.phase else { return Whole::Stands };
    if attempt.id != task.attempt {
        return Whole::Stands;
    }
    let Some(state) = usize::try_from(task.rank.0).ok().and_then(|place| attempt.tasks.get_mut(place)) else {
        return Whole::Stands;
    };
    if matches!(state, Task::Ended { .. }) {
        return Whole::Stands;
    }
    *state = Task::Ended { end: end.clone(), at: now };

    let unhealthy = is_service || !end.success();
    if attempt.verdict.is_none() && unhealthy {
        let counts = end.cause != EndCause::Lost;
        let because = format!("rank {} {end}", task.rank);
        let again = !counts || attempts_left > 1 && (is_service || retries_left > 0);
        attempt.verdict = Some(if again {
            Verdict::Again { because, counts }
        } else {
            Verdict::Over { outcome: Outcome::Failed { because, code: end.code } }
        });
        if attempt.tasks.iter().any(|task| !matches!(task, Task::Ended { .. })) {
            out.push(Action::Stop { attempt: attempt.id });
        }
    }
    if attempt.tasks.iter().all(|task| matches!(task, Task::Ended { .. })) { Whole::Over } else { Whole::Stands }
}

/// The pause after the `failures`-th counted failure.
fn backoff(failures: u32) -> Span {
    let doublings = failures.saturating_sub(1).min(16);
    Span(BACKOFF_FIRST.0.saturating_mul(1 << doublings)).min(BACKOFF_MAX)
}
