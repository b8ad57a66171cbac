//! `[queue.NAME]`: where jobs wait.

use dh_core::limits::JOBS_OPEN_MAX;
use dh_units::Seconds;
use serde::{Deserialize, Serialize};

use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

/// A queue of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Queue {
    /// Higher goes first; -1000 to 1000.
    pub priority: i32,
    /// The most jobs that may wait or run at once.
    pub max_jobs: Option<u32>,
    /// Its part of the hall beside other queues' shares.
    pub share: Option<u32>,
    /// The most slots its jobs may hold at once.
    pub quota: Option<u32>,
    /// Whether its jobs may take slots from queues of lower priority.
    pub preempt: bool,
    /// The longest a job of this queue may run.
    pub max_time: Option<Seconds>,
}

impl Queue {
    /// Whether it has rules beyond order and number of jobs.
    pub(crate) fn has_rules(&self) -> bool {
        self.share.is_some() || self.quota.is_some() || self.preempt || self.max_time.is_some()
    }
}

pub(crate) const DOC: Doc = Doc {
    pattern: "queue.*",
    about: "Where jobs wait.",
    keys: &[
        ("priority", "Queues of higher priority go first."),
        ("max_jobs", "The most jobs that may wait or run at once."),
        ("share", "Its part of the hall beside the shares of other queues, when all of them want more than there is."),
        ("quota", "The most slots its jobs may hold at once."),
        ("preempt", "Whether its jobs may take slots from queues of lower priority."),
        ("max_time", "The longest a job of this queue may run."),
    ],
};

#[expect(clippy::unnecessary_wraps, reason = "every section reader has the same shape")]
pub(super) fn read(section: &Section<'_>) -> Option<Queue> {
    let priority = section.integer("priority", -1_000..=1_000);
    let max_jobs = section.integer("max_jobs", 1..=u32::try_from(JOBS_OPEN_MAX).unwrap_or(u32::MAX));
    let share = section.integer("share", 1..=1_000_000);
    let quota = section.integer("quota", 1..=1 << 30);
    let preempt = section.boolean("preempt");
    let max_time = section.bound("max_time", Seconds(0.0));
    section.finish();
    Some(Queue {
        priority: priority.map_or(0, |priority| priority.value),
        max_jobs: max_jobs.map(|max_jobs| max_jobs.value),
        share: share.map(|share| share.value),
        quota: quota.map(|quota| quota.value),
        preempt: preempt.is_some_and(|preempt| preempt.value),
        max_time: max_time.map(|time| time.value),
    })
}

pub(crate) fn write(out: &mut Writer<'_>, queue: &Queue) {
    out.integer("priority", queue.priority);
    out.maybe_integer("max_jobs", queue.max_jobs);
    out.maybe_integer("share", queue.share);
    out.maybe_integer("quota", queue.quota);
    out.boolean("preempt", queue.preempt);
    out.maybe_quantity("max_time", queue.max_time);
}
