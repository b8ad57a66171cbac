//! Backfill: from when on, and where, a gang that does not fit will fit if what runs ends as expected.
//!
//! Invariant: the fleet is as it was when a plan has been made; a place that is free at a moment stays free later, so halving
//! finds the first moment. Cost: each gang that has to end is taken off and put back at most a few times, and the places are
//! tried about twice the logarithm of their number.

use dh_core::SimTime;

use crate::fleet::{Domain, Fleet, Holding, View};
use crate::packing::Request;
use crate::placement::{Need, Share};

/// Somebody who gives back what it holds.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// When; `None` is some day, after all that is known.
    pub at: Option<SimTime>,
    /// What.
    pub ranks: &'a [Holding],
}

/// A place that will be free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// From when on; `None` if that depends on somebody whose end is not known.
    pub at: Option<SimTime>,
    /// Where.
    pub shares: Vec<Share>,
}

/// The first place and moment that `place` finds as `releases`, in order, give back what they hold. Nothing if they may
/// all end and it finds none, or if it finds one at once.
pub fn plan<'a>(
    fleet: &mut Fleet,
    need: &Need,
    releases: impl Iterator<Item = Release<'a>>,
    place: impl Fn(&Fleet) -> Option<Vec<Share>>,
) -> Option<Promise> {
    let mut releases = releases.fuse();
    let mut known: Vec<Release<'a>> = Vec::new();
    let place = |fleet: &Fleet| if by_count(fleet, need) { place(fleet) } else { None };
    // `known[..fails]` are too few; galloping finds a number that is enough.
    let (mut fails, mut step) = (0, 1);
    let mut best = loop {
        let before = known.len();
        known.extend(releases.by_ref().take(step));
        if known.len() == before {
            put_back(fleet, &known);
            return None;
        }
        take_off(fleet, known.get(before..).unwrap_or(&[]));
        if let Some(shares) = place(fleet) {
            break shares;
        }
        fails = known.len();
        step *= 2;
    };
    let (mut enough, mut off) = (known.len(), known.len());
    while enough - fails > 1 {
        let middle = fails + (enough - fails) / 2;
        if middle < off {
            put_back(fleet, known.get(middle..off).unwrap_or(&[]));
        } else {
            take_off(fleet, known.get(off..middle).unwrap_or(&[]));
        }
        off = middle;
        if let Some(shares) = place(fleet) {
            best = shares;
            enough = middle;
        } else {
            fails = middle;
        }
    }
    put_back(fleet, known.get(..off).unwrap_or(&[]));
    let at = known.get(enough - 1).and_then(|release| release.at);
    Some(Promise { at, shares: best })
}

/// Whether some domain in which the gang may stand has accelerators for it, by counting.
fn by_count(fleet: &Fleet, need: &Need) -> bool {
    let rank = Request { cpu_milli: 0, memory_mib: 0, ..need.rank };
    let level = need.within;
    fleet.room(Domain::HALL, &rank, View::All) >= need.ranks
        && (level == 0
            || (0..fleet.tree().domains(level))
                .any(|number| fleet.room(Domain { level, number }, &rank, View::All) >= need.ranks))
}

fn take_off(fleet: &mut Fleet, releases: &[Release<'_>]) {
    for held in releases.iter().flat_map(|release| release.ranks) {
        fleet.release(held);
    }
}

fn put_back(fleet: &mut Fleet, releases: &[Release<'_>]) {
    for held in releases.iter().flat_map(|release| release.ranks) {
        fleet.occupy(held);
    }
}

#[cfg(test)]
mod tests;
