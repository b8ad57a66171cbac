//! Why a job is where it is: the first condition that fails, what nearly fits, and what it waits for.

use dh_core::JobId;
use dh_core::time::Span;
use serde::Serialize;

use crate::job::{Outcome, Phase, Verdict};
use crate::machine::Hall;
use crate::scheduler::Blocker;

/// Holders of slots that are named; of a large hall nobody reads them all.
const HOLDERS_NAMED: usize = 100;

/// An answer to `why JOB`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The job.
    pub job: JobId,
    /// Its state in one word.
    pub state: &'static str,
    /// The first condition that decides, as a sentence.
    pub because: String,
    /// What stands around it: jobs ahead, nodes that nearly fit, earlier attempts.
    pub details: Vec<String>,
    /// What would change it.
    pub hint: Option<String>,
}

impl Hall {
    /// Explains the state of `id`; `None` if there is no such job.
    pub fn why(&self, id: JobId) -> Option<Why> {
        let job = self.jobs.get(id)?;
        let mut details: Vec<String> = job
            .history
            .iter()
            .map(|record| {
                let ran = record.ended.since(record.started);
                format!("attempt {} ran {ran} and ended because {}", record.attempt, record.because)
            })
            .collect();
        let mut hint = None;
        let because = match &job.phase {
            Phase::Waiting { not_before } if *not_before > self.now => {
                format!("it failed {} times and is tried again in {}", job.failures, not_before.since(self.now))
            }
            Phase::Waiting { .. } => self.why_waiting(id, &mut details, &mut hint),
            Phase::Active { attempt } => {
                for placed in &attempt.placement {
                    let node = self.nodes.get(&placed.node).map_or("?", |node| &node.spec.name);
                    details.push(format!("rank {} is on {node}, slots {:?}", placed.rank, placed.slots));
                }
                match &attempt.verdict {
                    None => format!(
                        "attempt {} owns its slots since {}",
                        attempt.id.attempt,
                        self.now.since(attempt.started)
                    ),
                    Some(Verdict::Again { because, .. }) => {
                        format!("{because}; the gang is stopped and will be tried again")
                    }
                    Some(Verdict::Over { outcome }) => format!("{}; its last tasks are ending", outcome_text(outcome)),
                }
            }
            Phase::Done { outcome, .. } => outcome_text(outcome),
        };
        Some(Why { job: id, state: job.word(), because, details, hint })
    }

    fn why_waiting(&self, id: JobId, details: &mut Vec<String>, hint: &mut Option<String>) -> String {
        if !self.open {
            return "the server is starting or stopping, and nothing is placed meanwhile".to_owned();
        }
        if let Some(rule) = self.rule_that_blocks(id) {
            return rule;
        }
        let (ahead, first) = self.ahead(id);
        let misfit = self.misfit(id);
        if let Some(misfit) = &misfit
            && let Some(job) = self.jobs.get(id)
        {
            let per_rank = job.spec.slots_per_rank;
            let nearest = self.may_use(&job.spec).max_by_key(|node| (node.free(), std::cmp::Reverse(&node.spec.name)));
            if let Some(node) = nearest {
                details.push(format!(
                    "the freest node, {}, has {} of {} slots free; one rank needs {per_rank}",
                    node.spec.name,
                    node.free(),
                    node.spec.slots
                ));
            }
            for holder in self.jobs.active().take(HOLDERS_NAMED) {
                let ranks = holder.active().map_or(0, |attempt| attempt.placement.len());
                let held = u32::try_from(ranks).unwrap_or(u32::MAX).saturating_mul(holder.spec.slots_per_rank);
                let until = holder.active().zip(holder.spec.time_limit).map_or_else(
                    || "has no time limit".to_owned(),
                    |(attempt, limit)| {
                        let left: Span = attempt.started.after(limit).since(self.now);
                        format!("ends in {left} at the latest")
                    },
                );
                details.push(format!("{} (`{}`) holds {held} slots and {until}", holder.id, holder.spec.name));
            }
            if first.is_none() {
                *hint = Some("it starts as soon as enough of these end".to_owned());
                return match self.wish_text(&job.spec) {
                    Some(nodes) => format!("on the nodes that it may run on there is no place for it: {nodes}"),
                    None => misfit.to_string(),
                };
            }
        }
        match first {
            Some(first) => {
                let why_first = self.misfit(first).map(|misfit| format!(", because {misfit}"));
                *hint = Some(format!("`datahall why {first}` tells more; a higher priority would go ahead of it"));
                format!(
                    "{} jobs are ahead in the line, and the first, {first}, does not fit yet{}",
                    ahead,
                    why_first.unwrap_or_default()
                )
            }
            None => "it starts with the next event".to_owned(),
        }
    }
}

impl Hall {
    /// A rule that keeps a job waiting whatever room there is.
    fn rule_that_blocks(&self, id: JobId) -> Option<String> {
        let blockers = self.scheduler.as_ref()?.why(id)?.blockers;
        let mut rules = blockers.iter().filter_map(|blocker| match blocker {
            Blocker::Quota { queue, used, needed, quota } => {
                let name = self.queues.keys().nth(usize::from(*queue)).map_or("?", String::as_str);
                let slots = |milli: &u64| milli.div_ceil(1000);
                Some(format!(
                    "queue `{name}` may hold {} slots and holds {}; this job needs {}",
                    slots(quota),
                    slots(used),
                    slots(needed)
                ))
            }
            Blocker::Power { .. } | Blocker::Reserved { .. } => Some(blocker.to_string()),
            Blocker::Order { .. } | Blocker::Nodes { .. } | Blocker::Room { .. } => None,
        });
        rules.next()
    }
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded => "every rank exited with code 0".to_owned(),
        Outcome::Failed { because, .. } => format!("{because}, and no retry was left"),
        Outcome::Cancelled { by } => format!("{by} cancelled it"),
    }
}
