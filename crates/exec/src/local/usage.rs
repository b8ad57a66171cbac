//! What the processes below a warden use, from `/proc`. Cost: two small files per process.

use dh_core::Rank;
use dh_units::{Bytes, Seconds};
use rustix::param::{clock_ticks_per_second, page_size};

use crate::executor::RankUsage;
use crate::process::{Stat, descendants};

/// The task below the process `warden`. The warden's own use is not counted, only that of strays it has reaped.
pub(super) fn of(rank: u32, warden: u32) -> RankUsage {
    let mut ticks = Stat::read(warden).map_or(0, |stat| stat.children_cpu_ticks);
    let mut pages = 0_u64;
    let mut processes = 0_u32;
    for stat in descendants(warden) {
        ticks = ticks.saturating_add(stat.cpu_ticks).saturating_add(stat.children_cpu_ticks);
        if !stat.is_gone() {
            pages = pages.saturating_add(stat.resident_pages);
            processes = processes.saturating_add(1);
        }
    }
    let page = u64::try_from(page_size()).unwrap_or(u64::MAX);
    RankUsage {
        rank: Rank(rank),
        cpu: seconds(ticks, clock_ticks_per_second()),
        resident: Bytes(pages.saturating_mul(page)),
        processes,
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ticks are millions of years")]
fn seconds(ticks: u64, per_second: u64) -> Seconds {
    Seconds(ticks as f64 / per_second.max(1) as f64)
}
