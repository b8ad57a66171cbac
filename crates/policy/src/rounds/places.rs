//! Where those that were chosen stand.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Entrant, choose};
use crate::fleet::{Domain, Fleet, Holding, View};
use crate::placement::{Context, Placement};
use crate::rounds::Choice;

/// What is to be done. Positions are those in the slice of entrants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Running jobs that stop: they were not chosen, or move.
    pub stops: Vec<usize>,
    /// Jobs that start, with what each rank gets once those that stop are gone; among them those that move.
    pub starts: Vec<(usize, Vec<Holding>)>,
}

/// The next round on `fleet`, on which the running entrants hold what they say.
pub fn round(fleet: &Fleet, placement: &dyn Placement, entrants: &[Entrant<'_>], choice: Choice) -> Round {
    let mut hall = fleet.clone();
    for held in entrants.iter().flat_map(|entrant| entrant.held) {
        hall.release(held);
    }
    let capacity = u32::try_from(hall.free_in(Domain::HALL, View::All)).unwrap_or(u32::MAX);
    let mut line = choose(entrants, capacity, choice);
    // Wide ones first: they need whole nodes. Of one width who runs first, so that it can stay.
    line.sort_by_key(|at| entrants.get(*at).map(|entrant| (Reverse(entrant.width()), Reverse(entrant.runs()))));
    let mut places = Places { hall, placement, entrants, staying: BTreeSet::new() };
    for at in &line {
        places.keep(*at);
    }
    let mut starts = Vec::new();
    for (nth, at) in line.iter().enumerate() {
        if places.staying.contains(at) {
            continue;
        }
        let behind = line.get(nth + 1..).unwrap_or_default();
        if let Some(ranks) = places.find(*at, behind) {
            starts.push((*at, ranks));
        }
    }
    // Whoever was not chosen and is in nobody's way goes on.
    for at in 0..entrants.len() {
        if !places.staying.contains(&at) && !starts.iter().any(|(start, _)| *start == at) {
            places.keep(at);
        }
    }
    let runs = entrants.iter().enumerate().filter(|(_, entrant)| entrant.runs()).map(|(at, _)| at);
    let stops = runs.filter(|at| !places.staying.contains(at)).collect();
    Round { stops, starts }
}

pub(super) struct Places<'a> {
    /// With what those hold who stay, and those who start.
    pub(super) hall: Fleet,
    pub(super) placement: &'a dyn Placement,
    pub(super) entrants: &'a [Entrant<'a>],
    pub(super) staying: BTreeSet<usize>,
}

impl Places<'_> {
    /// A running one stays if what it holds is free of others.
    pub(super) fn keep(&mut self, at: usize) {
        let Some(entrant) = self.entrants.get(at).filter(|entrant| entrant.runs()) else { return };
        if self.hold(entrant.held) {
            self.staying.insert(at);
        }
    }

    /// Takes all of `ranks`, if all of it is free.
    pub(super) fn hold(&mut self, ranks: &[Holding]) -> bool {
        for (nth, held) in ranks.iter().enumerate() {
            if self.hall.free_of(held) != [*held] {
                for taken in ranks.iter().take(nth) {
                    self.hall.release(taken);
                }
                return false;
            }
            self.hall.occupy(held);
        }
        true
    }

    fn lift(&mut self, at: usize) {
        if self.staying.remove(&at) {
            for held in self.entrants.get(at).map_or(&[][..], |entrant| entrant.held) {
                self.hall.release(held);
            }
        }
    }

    /// A place for one, where nobody stands or those `behind` it in the line, the narrowest first.
    pub(super) fn find(&mut self, at: usize, behind: &[usize]) -> Option<Vec<Holding>> {
        if let Some(ranks) = self.take(at) {
            return Some(ranks);
        }
        let stays: Vec<usize> = behind.iter().rev().copied().filter(|other| self.staying.contains(other)).collect();
        let (mut lifted, mut more) = (0, 1);
        let mut found = None;
        while found.is_none() && lifted < stays.len() {
            for other in stays.iter().skip(lifted).take(more) {
                self.lift(*other);
            }
            lifted += more;
            more = lifted;
            found = self.take(at);
        }
        // Whoever stands elsewhere stays after all, the widest first.
        for other in stays.iter().take(lifted).rev() {
            self.keep(*other);
        }
        found
    }

    fn take(&mut self, at: usize) -> Option<Vec<Holding>> {
        let need = self.entrants.get(at)?.need;
        let shares = self.placement.place(&self.hall, &need, &Context::plain(View::All)).ok()?;
        let mut ranks = Vec::new();
        let mut complete = true;
        for share in &shares {
            for rank in 0..share.ranks {
                let wanted = share.of_rank(rank, need.rank.accelerators);
                match self.hall.take(share.node, &need.rank, wanted) {
                    Some(held) => ranks.push(held),
                    None => complete = false,
                }
            }
        }
        if !complete {
            for held in &ranks {
                self.hall.release(held);
            }
        }
        complete.then_some(ranks)
    }
}
