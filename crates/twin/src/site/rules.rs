//! Queues of a blueprint as rules of a scheduler.
//!
//! Invariant: queues are numbered in the order of their names.

use dh_blueprint::Settings;
use dh_core::time::Span;
use dh_hall::rules;
use dh_hall::scheduler::QueueRules;

use super::{Error, span};

/// Queues, at most.
const QUEUES_MAX: usize = 65_535;

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The longest a job of it may run.
    pub limit: Option<Span>,
    /// Its weight beside other queues: its share, 1 where it has none.
    pub share: u32,
}

/// Queues and their rules.
pub(super) fn queues(settings: &Settings, notes: &mut Vec<String>) -> Result<(Vec<Queue>, Vec<QueueRules>), Error> {
    if settings.queues.len() > QUEUES_MAX {
        return Err(Error::TooMany { what: "queues", have: settings.queues.len(), most: QUEUES_MAX });
    }
    let mut queues = Vec::new();
    for (name, queue) in &settings.queues {
        let share = queue.share.unwrap_or(1).max(1);
        queues.push(Queue { name: name.clone(), limit: queue.max_time.map(span), share });
        if queue.max_jobs.is_some() {
            notes.push(format!("queue `{name}`: the most jobs at once are not modelled"));
        }
    }
    Ok((queues, rules::queue_rules(&rules::queues(settings))))
}
