//! `[queue.NAME]`: where jobs wait.

use std::collections::BTreeMap;

use dh_core::limits::JOBS_OPEN_MAX;
use dh_units::Seconds;
use serde::{Deserialize, Serialize};

use super::{Facts, existing};
use crate::codes::Code;
use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

/// A queue of jobs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Queue {
    /// The queue of which it is a part.
    pub parent: Option<String>,
    /// Higher goes first; -1000 to 1000.
    pub priority: i32,
    /// The most jobs that may wait or run at once.
    pub max_jobs: Option<u32>,
    /// Its part of the hall beside other queues' shares.
    pub share: Option<u32>,
    /// The most slots its jobs may hold at once.
    pub quota: Option<u32>,
    /// Slots that its jobs may take back from queues that hold more than is theirs.
    pub guarantee: Option<u32>,
    /// How many of those others may borrow while they are idle; none is all.
    pub lends: Option<u32>,
    /// Whether its jobs may take slots from queues of lower priority.
    pub preempt: bool,
    /// The longest a job of this queue may run.
    pub max_time: Option<Seconds>,
}

pub(crate) const DOC: Doc = Doc {
    pattern: "queue.*",
    about: "Where jobs wait.",
    keys: &[
        (
            "parent",
            "The queue of which it is a part: their shares divide what that queue has, and that queue's quota is their own too.",
        ),
        ("priority", "Queues of higher priority go first."),
        ("max_jobs", "The most jobs that may wait or run at once."),
        ("share", "Its part of the hall beside the shares of other queues, when all of them want more than there is."),
        ("quota", "The most slots its jobs may hold at once."),
        (
            "guarantee",
            "Slots that its jobs may take back from queues that hold more than is theirs; part of the parent's guarantee, if it has a parent.",
        ),
        ("lends", "How many of the guaranteed slots others may borrow while they are idle; left out, all."),
        ("preempt", "Whether its jobs may take slots from queues of lower priority."),
        ("max_time", "The longest a job of this queue may run."),
    ],
};

#[expect(clippy::unnecessary_wraps, reason = "every section reader has the same shape")]
pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Queue> {
    let parent = section.text("parent").and_then(|found| existing(section, "queue", found, &facts.queues));
    let priority = section.integer("priority", -1_000..=1_000);
    let max_jobs = section.integer("max_jobs", 1..=u32::try_from(JOBS_OPEN_MAX).unwrap_or(u32::MAX));
    let share = section.integer("share", 1..=1_000_000);
    let quota = section.integer("quota", 1..=1 << 30);
    let guarantee = section.integer("guarantee", 1..=1 << 30);
    let lends = section.integer("lends", 0..=1 << 30);
    let preempt = section.boolean("preempt");
    let max_time = section.bound("max_time", Seconds(0.0));
    section.finish();
    let more = |key: &str, than: &str| format!("`{key}` is more than `{than}`");
    match (&guarantee, &lends) {
        (Some(guarantee), Some(lends)) if lends.value > guarantee.value => {
            let hint = Some("a queue lends of what it is guaranteed".to_owned());
            section.problems.add(Code::OUT_OF_RANGE, &lends.at, more("lends", "guarantee"), hint);
        }
        // Where a key is misspelled, that is the mistake.
        (None, Some(lends)) if !section.has("guarantee") && section.unknown().is_empty() => {
            let message = "`lends` belongs to a queue with a `guarantee`";
            section.problems.add(Code::ELSEWHERE, &lends.at, message, None);
        }
        (_, _) => {}
    }
    if let (Some(guarantee), Some(quota)) = (&guarantee, &quota)
        && guarantee.value > quota.value
    {
        section.problems.add(Code::OUT_OF_RANGE, &guarantee.at, more("guarantee", "quota"), None);
    }
    Some(Queue {
        parent,
        priority: priority.map_or(0, |priority| priority.value),
        max_jobs: max_jobs.map(|max_jobs| max_jobs.value),
        share: share.map(|share| share.value),
        quota: quota.map(|quota| quota.value),
        guarantee: guarantee.map(|guarantee| guarantee.value),
        lends: lends.map(|lends| lends.value),
        preempt: preempt.is_some_and(|preempt| preempt.value),
        max_time: max_time.map(|time| time.value),
    })
}

/// Reports queues that stand above themselves, and guarantees that cannot all be kept on `slots`.
pub(super) fn together(root: &Section<'_>, queues: &BTreeMap<String, Queue>, slots: Option<u64>) {
    let parent = |name: &String| queues.get(name).and_then(|queue| queue.parent.as_ref());
    let mut left: BTreeMap<Option<&String>, u64> = BTreeMap::new();
    for (name, queue) in queues {
        left.insert(Some(name), queue.guarantee.map_or(0, u64::from));
    }
    left.insert(None, slots.unwrap_or(u64::MAX));
    for (name, queue) in queues {
        let mut above = parent(name);
        for _ in 0..queues.len() {
            let Some(next) = above.filter(|above| *above != name) else { break };
            above = parent(next);
        }
        if above == Some(name) {
            let message = format!("queue `{name}` stands above itself");
            let hint = Some("follow `parent` from it: one of them must be left out".to_owned());
            root.problems.add(Code::QUEUE_LOOP, &root.name_at("queue", name), message, hint);
            continue;
        }
        let guarantee = queue.guarantee.map_or(0, u64::from);
        let Some(spare) = left.get_mut(&queue.parent.as_ref()) else { continue };
        if guarantee > *spare {
            let whose = match &queue.parent {
                Some(parent) => format!("queue `{parent}` has {spare} of its guarantee left to promise"),
                None => format!("the hall has {spare} slots left to promise"),
            };
            let message = format!("queue `{name}` is guaranteed {guarantee} slots, and {whose}");
            root.problems.add(Code::OVERBOOKED, &root.name_at("queue", name), message, None);
        }
        *spare = spare.saturating_sub(guarantee);
    }
}

pub(crate) fn write(out: &mut Writer<'_>, queue: &Queue) {
    out.maybe_text("parent", queue.parent.as_deref());
    out.integer("priority", queue.priority);
    out.maybe_integer("max_jobs", queue.max_jobs);
    out.maybe_integer("share", queue.share);
    out.maybe_integer("quota", queue.quota);
    out.maybe_integer("guarantee", queue.guarantee);
    out.maybe_integer("lends", queue.lends);
    out.boolean("preempt", queue.preempt);
    out.maybe_quantity("max_time", queue.max_time);
}
