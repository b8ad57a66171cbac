//! `[queue.NAME]`: where jobs wait.

use dh_core::limits::JOBS_OPEN_MAX;

use crate::section::Section;
use crate::settings::Queue;

#[expect(clippy::unnecessary_wraps, reason = "every section reader has the same shape")]
pub(super) fn read(section: &Section<'_>) -> Option<Queue> {
    let priority = section.integer("priority", -1_000..=1_000);
    let max_jobs = section.integer("max_jobs", 1..=u32::try_from(JOBS_OPEN_MAX).unwrap_or(u32::MAX));
    section.finish();
    Some(Queue {
        priority: priority.map_or(0, |priority| priority.value),
        max_jobs: max_jobs.map(|max_jobs| max_jobs.value),
    })
}
