//! Whom slices displace: those without whom they fit at their fixed places, found by trying.
//!
//! Invariant: no victim is named without whom the gang would fit too. Cost: a copy of the nodes, and a try each time the
//! number of victims has doubled and for each victim that may be spared.

use super::{Found, Victim};
use crate::fleet::{Domain, Fleet, View};
use crate::placement::{Context, Need, within};

pub(super) fn search<'a>(
    fleet: &Fleet,
    need: &Need,
    view: View,
    offered: impl IntoIterator<Item = Victim<'a>>,
) -> Found {
    let mut trial = fleet.clone();
    let mut victims: Vec<Victim<'a>> = Vec::new();
    let mut offered = offered.into_iter();
    let mut found = false;
    while !found {
        let before = victims.len();
        for victim in offered.by_ref().take(before.max(1)) {
            victim.held.iter().for_each(|held| trial.release(held));
            victims.push(victim);
        }
        if victims.len() == before {
            break;
        }
        found = fits(&trial, need, view);
    }
    let looked = u64::try_from(victims.len()).unwrap_or(u64::MAX);
    if !found {
        return Found { victims: None, looked };
    }
    let mut jobs = Vec::new();
    // They come cheapest first: the dearest are spared first.
    for victim in victims.iter().rev() {
        victim.held.iter().for_each(|held| trial.occupy(held));
        if !fits(&trial, need, view) {
            victim.held.iter().for_each(|held| trial.release(held));
            jobs.push(victim.job);
        }
    }
    jobs.sort_unstable();
    Found { victims: Some(jobs), looked }
}

fn fits(fleet: &Fleet, need: &Need, view: View) -> bool {
    let level = need.within;
    (0..fleet.tree().domains(level))
        .any(|number| within(fleet, need, &Context::plain(view), Domain { level, number }).is_some())
}
