//! What the end of a task, or of its time, means for its gang and its job.

use dh_core::time::Span;
use dh_core::{JobId, SimTime, TaskId, limits};

use crate::event::{Action, End, EndCause};
use crate::job::{Attempt, Outcome, Phase, Record, Task, Verdict};
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
        let Some(job) = self.jobs.get_mut(&task.attempt.job) else { return };
        let is_service = job.spec.kind.is_service();
        let retries_left = job.spec.retries.saturating_sub(job.failures);
        // Attempts that were lost with their server do not count: a hall may be stopped and started any number of times.
        let attempts_left = limits::ATTEMPTS_MAX.saturating_sub(job.failures);
        let Phase::Active { attempt } = &mut job.phase else { return };
        if attempt.id != task.attempt {
            return;
        }
        let Some(state) = usize::try_from(task.rank.0).ok().and_then(|place| attempt.tasks.get_mut(place)) else {
            return;
        };
        if matches!(state, Task::Ended { .. }) {
            return;
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
        if attempt.tasks.iter().all(|task| matches!(task, Task::Ended { .. })) {
            self.close_attempt(task.attempt.job, out);
        }
    }

    /// Every task is gone: the slots return, and the verdict takes effect.
    fn close_attempt(&mut self, id: JobId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Phase::Active { attempt } = &job.phase else { return };
        let Attempt { id: attempt_id, started, verdict, .. } = attempt.clone();
        for node in self.nodes.values_mut() {
            node.release(attempt_id);
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
        job.history.push(Record { attempt: attempt_id.attempt, started, ended: now, because });
        let surplus = job.history.len().saturating_sub(RECORDS_KEPT);
        job.history.drain(..surplus);

        if matches!(verdict, Verdict::Again { counts: false, .. }) {
            // What was stopped goes on from its checkpoint: what it ran counts, whatever of it has to be done again.
            job.attained = Span(job.attained.0.saturating_add(now.since(started).0));
        }
        let attained = job.attained;
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
        // Attempts are fenced by their own ids here: what ends is the run that the core knows.
        let run = self.scheduler.as_ref().and_then(|scheduler| scheduler.run_of(id)).unwrap_or_default();
        // One that waits out its back-off leaves the line, and comes back to its old place.
        let event = match &job.phase {
            Phase::Waiting { not_before } if *not_before <= now => scheduler::Event::Stopped { job: id, run, attained },
            Phase::Waiting { .. } | Phase::Active { .. } | Phase::Done { .. } => {
                scheduler::Event::Ended { job: id, run }
            }
        };
        self.tell(&event, out);
    }

    pub(crate) fn enforce_time_limits(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        for job in self.jobs.values_mut() {
            let Some(limit) = job.spec.time_limit else { continue };
            if let Phase::Active { attempt } = &mut job.phase
                && attempt.verdict.is_none()
                && now >= attempt.started.after(limit)
            {
                // More of the same time would end the same way, so a retry is not tried.
                attempt.verdict = Some(Verdict::Over {
                    outcome: Outcome::Failed { because: format!("its time limit of {limit} was over"), code: None },
                });
                out.push(Action::Stop { attempt: attempt.id });
            }
        }
    }

    /// The next moment at which [`crate::Event::Tick`] would change something.
    pub fn next_wakeup(&self) -> Option<SimTime> {
        let wakeups = self.jobs.values().filter_map(|job| match &job.phase {
            Phase::Waiting { not_before } if *not_before > self.now => Some(*not_before),
            Phase::Active { attempt } if attempt.verdict.is_none() => {
                job.spec.time_limit.map(|limit| attempt.started.after(limit))
            }
            Phase::Waiting { .. } | Phase::Active { .. } | Phase::Done { .. } => None,
        });
        wakeups.chain(self.scheduler.as_ref().and_then(Scheduler::wakeup)).min()
    }
}

/// The pause after the `failures`-th counted failure.
fn backoff(failures: u32) -> Span {
    let doublings = failures.saturating_sub(1).min(16);
    Span(BACKOFF_FIRST.0.saturating_mul(1 << doublings)).min(BACKOFF_MAX)
}
