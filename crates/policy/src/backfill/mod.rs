//! Backfill: from when on, and where, a gang that does not fit will fit if what runs ends as expected.
//!
//! Invariant: the fleet is as it was when a plan has been made; a place that is free at a moment stays free later, so halving
//! finds the first moment. Cost: each gang that has to end is taken off and put back once where counts alone decide; where
//! cores, memory or rails are in the way, a few times, and places are tried about twice the logarithm of their number.

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
    // Counts tell most that are too few: one after the other until they allow a place.
    let mut counted = by_count(fleet, need);
    while !counted {
        let Some(release) = releases.next() else {
            put_back(fleet, &known);
            return None;
        };
        take_off(fleet, &[release]);
        known.push(release);
        counted = by_count_around(fleet, need, release.ranks);
    }
    // `known[..fails]` are too few; galloping finds a number that is enough.
    let (mut fails, mut step) = (known.len().saturating_sub(1), 1);
    let found = if known.is_empty() { None } else { place(fleet) };
    let mut best = if let Some(shares) = found {
        shares
    } else {
        loop {
            fails = known.len();
            known.extend(releases.by_ref().take(step));
            if known.len() == fails {
                put_back(fleet, &known);
                return None;
            }
            take_off(fleet, known.get(fails..).unwrap_or(&[]));
            if let Some(shares) = place(fleet) {
                break shares;
            }
            step *= 2;
        }
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
    (0..fleet.tree().domains(need.within)).any(|number| has_room(fleet, need, Domain { level: need.within, number }))
}

/// The same of the domains in which something came free.
fn by_count_around(fleet: &Fleet, need: &Need, freed: &[Holding]) -> bool {
    let domain = |held: &Holding| fleet.tree().domain(held.node.0, need.within);
    let mut last = None;
    freed.iter().map(domain).any(|domain| last.replace(domain) != Some(domain) && has_room(fleet, need, domain))
}

fn has_room(fleet: &Fleet, need: &Need, domain: Domain) -> bool {
    let rank = Request { cpu_milli: 0, memory_mib: 0, ..need.rank };
    fleet.room(domain, &rank, View::All) >= need.ranks
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
