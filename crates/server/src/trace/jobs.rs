//! The spans of jobs: the job from its submission to its end, the waits for its slots, and its attempts.
//!
//! They follow from the state of the job alone, and are sent when they have ended; how far each job was sent is all that is
//! kept. Spans that an earlier server sent already are sent again, under the same ids.

use std::collections::BTreeMap;

use dh_core::{JobId, SimTime};
use dh_hall::{Job, Outcome, Phase};
use tokio::sync::broadcast::error::RecvError;

use super::{Context, Kind, Span, Tracer};
use crate::body::Handle;

/// Sends the spans of every job, as they end, until the hall does.
pub(super) async fn follow(tracer: Tracer, hall: Handle, name: String) {
    let mut news = hall.news();
    let mut sent: BTreeMap<JobId, u64> = BTreeMap::new();
    loop {
        match news.recv().await {
            Ok(row) => {
                // Which job something happened to is in the event; the hall knows the rest.
                let Ok(event) = serde_json::from_str::<serde_json::Value>(&row.body) else { continue };
                match event.get("event").and_then(serde_json::Value::as_str) {
                    Some("task_ended" | "cancel_requested" | "task_started") => {}
                    Some(_) | None => continue,
                }
                let job = event.pointer("/task/attempt/job").or_else(|| event.get("job"));
                let Some(id) = job.and_then(serde_json::Value::as_u64).map(JobId) else { continue };
                let spans = hall.read().job(id).map(|job| (spans(&name, job), !job.open()));
                let Some((spans, over)) = spans else { continue };
                let before = sent.get(&id).copied();
                for (place, span) in spans {
                    if before.is_none_or(|before| place > before) {
                        tracer.send(span);
                        sent.insert(id, place);
                    }
                }
                if over {
                    sent.remove(&id);
                }
            }
            // Jobs of which something was missed are sent with the next that happens to them.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// The spans of a job that have ended, each with its place in their order.
fn spans(hall: &str, job: &Job) -> Vec<(u64, Span)> {
    let callers = Context::of_job(hall, job);
    let own = callers.below("job");
    let below = |name: String, start: SimTime, end: SimTime, failure: Option<String>| Span {
        at: own.below(&name),
        parent: own.span,
        name,
        kind: Kind::Internal,
        start,
        end,
        attributes: vec![("datahall.job.id", job.id.0.to_string())],
        failure,
    };
    let mut spans = Vec::new();
    let mut since = job.submitted;
    let place = |attempt: u32| 2 * u64::from(attempt);
    let good = matches!(&job.phase, Phase::Done { outcome: Outcome::Succeeded, .. });
    for record in &job.history {
        let queued = below(format!("queued {}", record.attempt), since, record.started, None);
        spans.push((place(record.attempt), queued));
        let failure = (!good || record.attempt < job.attempts).then(|| record.because.clone());
        let ran = below(format!("attempt {}", record.attempt), record.started, record.ended, failure);
        spans.push((place(record.attempt) + 1, ran));
        since = record.ended;
    }
    if let Some(attempt) = job.active() {
        let number = attempt.id.attempt;
        spans.push((place(number), below(format!("queued {number}"), since, attempt.started, None)));
    }
    if let Phase::Done { outcome, at } = &job.phase {
        let failure = match outcome {
            Outcome::Succeeded => None,
            Outcome::Failed { because, .. } => Some(because.clone()),
            Outcome::Cancelled { by } => Some(format!("cancelled by {by}")),
        };
        let whole = Span {
            at: own,
            parent: callers.span,
            name: format!("job {}", job.spec.name),
            kind: Kind::Internal,
            start: job.submitted,
            end: *at,
            attributes: vec![
                ("datahall.job.id", job.id.0.to_string()),
                ("datahall.job.queue", job.spec.queue.clone()),
                ("datahall.job.ranks", job.spec.ranks.to_string()),
                ("datahall.job.state", job.word().to_owned()),
            ],
            failure,
        };
        spans.push((u64::MAX, whole));
    }
    spans
}
