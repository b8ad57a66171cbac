//! Whom a gang displaces: a set of victims with whose capacity, and with what is free, the whole gang fits.
//!
//! Invariants: free capacity and victims are looked at together, and the whole gang is counted in before anybody is named. No
//! victim is named without whom the gang would fit too. A victim goes whole: all its nodes come free. Where no set of victims
//! is enough, none is named.
//!
//! Two steps. Victims are taken in the order in which they are offered, cheapest first, until some domain has room, and
//! some more so that there is a choice. Then each domain with room is cleared by itself: always the node whose next ranks
//! cost least for each rank, where a victim's price is spread over what it holds there as far as the gang can use it. Victims
//! that turn out not to be needed go free, dearest first. The cheapest domain wins.
//!
//! Cost: what is offered until there is room, and the nodes of the domains that are compared. Victims are taken from an
//! iterator, so a small gang in a full hall looks at few.

mod aligned;
mod boxes;
mod clear;
mod gather;
mod slices;
#[cfg(test)]
mod tests;

use dh_core::JobId;

use crate::fleet::{Fleet, Holding, Mask, View};
use crate::packing::WHOLE;
use crate::placement::{Need, Rails};
use clear::Clearing;
use gather::Gathered;

/// A running job that may be displaced.
#[derive(Debug, Clone, Copy)]
pub struct Victim<'a> {
    /// The job.
    pub job: JobId,
    /// What its stop costs, in any unit that is the same for all.
    pub price: u64,
    /// All that it holds.
    pub held: &'a [Holding],
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who must go, by id; `None` if that is not enough whoever goes.
    pub victims: Option<Vec<JobId>>,
    /// Jobs that were looked at: what the search cost.
    pub looked: u64,
}

/// Domains that are compared, at most.
const COMPARED: usize = 8;

/// Whom `need` displaces of those that are offered, cheapest first for what they hold. What `view` shows free is used too.
pub fn search<'a>(fleet: &Fleet, need: &Need, view: View, offered: impl IntoIterator<Item = Victim<'a>>) -> Found {
    match need.rails {
        Rails::Box(asked) => return boxes::search(fleet, need, &asked, view, offered),
        Rails::Slice(_) => return slices::search(fleet, need, view, offered),
        Rails::Any | Rails::Aligned => {}
    }
    let rules = rules(fleet, need);
    let Gathered { victims, feasible, present } = gather::gather(fleet, need, view, &rules, offered);
    let looked = u64::try_from(victims.len()).unwrap_or(u64::MAX);
    let mut best: Option<(u64, Vec<usize>)> = None;
    for place in feasible.iter().take(COMPARED) {
        let here = present.get(&place.1).map_or(&[][..], Vec::as_slice);
        let Some(chosen) = Clearing::new(fleet, need, view, *place, &victims).cheapest(here) else { continue };
        let price = clear::price(&victims, &chosen);
        if best.as_ref().is_none_or(|(least, _)| price < *least) {
            best = Some((price, chosen));
        }
    }
    let chosen = match rules.first() {
        Some(Rule::Rails(_)) => aligned::settle(fleet, need, view, &victims, best.map(|(_, chosen)| chosen)),
        Some(Rule::Room) | None => best.map(|(_, chosen)| settle(fleet, need, view, &rules, &victims, chosen)),
    };
    let Some(chosen) = chosen else { return Found { victims: None, looked } };
    let mut jobs: Vec<JobId> = chosen.iter().filter_map(|at| victims.get(*at)).map(|victim| victim.job).collect();
    jobs.sort_unstable();
    Found { victims: Some(jobs), looked }
}

/// Leaves only victims that are needed wherever the gang might go: those that span domains free room elsewhere too.
fn settle(
    fleet: &Fleet,
    need: &Need,
    view: View,
    rules: &[Rule],
    victims: &[Victim<'_>],
    mut chosen: Vec<usize>,
) -> Vec<usize> {
    loop {
        let mut domains: Vec<u32> = chosen
            .iter()
            .filter_map(|at| victims.get(*at))
            .flat_map(|victim| victim.held)
            .map(|held| fleet.tree().domain(held.node.0, need.within).number)
            .collect();
        domains.sort_unstable();
        domains.dedup();
        if domains.len() * rules.len() <= 1 {
            return chosen;
        }
        let places = domains.iter().flat_map(|domain| rules.iter().map(|rule| (*rule, *domain)));
        let fewer = places
            .filter_map(|place| Clearing::new(fleet, need, view, place, victims).needed(&chosen))
            .find(|needed| needed.len() < chosen.len());
        match fewer {
            Some(fewer) => chosen = fewer,
            None => return chosen,
        }
    }
}

/// A rule for nodes, and a domain of the level in which the gang must stay.
type Place = (Rule, u32);

/// What a node must have free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// Room for ranks.
    Room,
    /// Room for a rank on these accelerators.
    Rails(Mask),
}

/// The rules under which the gang may stand: one, or one for each window of neighbouring rails.
fn rules(fleet: &Fleet, need: &Need) -> Vec<Rule> {
    let per = u32::from(need.rank.accelerators);
    if need.rails != Rails::Aligned || need.rank.milli < WHOLE || per == 0 || need.ranks < 2 {
        return vec![Rule::Room];
    }
    let width = fleet.widest().into();
    // Who needs a whole node is on the same rails everywhere.
    if per >= width {
        return vec![Rule::Room];
    }
    let whole = Mask::MAX.checked_shr(Mask::BITS - per.min(Mask::BITS)).unwrap_or(0);
    (0..=u32::saturating_sub(width, per)).map(|first| Rule::Rails(whole << first)).collect()
}

impl Rule {
    /// Ranks that count on a node with room for `ranks` and these accelerators free.
    fn ranks(self, ranks: u32, free: Mask) -> u32 {
        match self {
            Self::Room => ranks,
            Self::Rails(rails) => u32::from(ranks > 0 && free & rails == rails),
        }
    }
}

/// Runs of holdings on the same node.
fn by_node(held: &[Holding]) -> impl Iterator<Item = &[Holding]> {
    held.chunk_by(|a, b| a.node == b.node)
}
