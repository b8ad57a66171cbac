//! Room by moves: a request that fits nowhere is let in by moving a few others, if that is worth their price.
//!
//! For each node the search asks which few of those that run there must leave for the request to fit, and whether each of them
//! fits elsewhere. A plan is tried on the packer itself and taken back, so what it says can be done, in its order.
//! Invariant: planning changes nothing; at no step of a plan is more taken than there is.
//! Cost: a step for each request that runs, and one for each pair on a node if single moves do not do; then a few trials.
//!
//! Ours. On the openb trace moves of one pod in a hundred let in what periodic defragmentation would not (docs/performance.md).

use std::cmp::Reverse;

use super::fleet::OUT;
use super::hash::Map;
use super::{Packer, Place, Refused, Request};

/// One request goes from a place to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Where it runs.
    pub from: Place,
    /// Where it goes on.
    pub to: Place,
}

/// What to do, in order, for a request to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Each fits when its turn comes.
    pub moves: Vec<Move>,
    /// Where the request goes after that.
    pub place: Place,
    /// Thousandths of accelerators that are let in.
    pub gain: u64,
    /// What the moves cost, in thousandths of accelerators: less than the gain.
    pub price: u64,
}

/// What runs, and what it costs to move it.
pub trait Running {
    /// What runs on `node`.
    fn on(&self, node: usize) -> &[Place];

    /// What moving it costs, in thousandths of accelerators, e.g. what is lost since its checkpoint and until it runs again
    /// over how long the gain lasts; `None` if it stays.
    fn price(&self, place: &Place) -> Option<u64>;
}

/// Removals whose worth is looked at, those of the least requests first; and plans that are tried, the best first.
const LOOKED_AT: usize = 64;
const TRIALS: usize = 16;
/// Thousandths of accelerators, in the unit of worths.
const UNIT: i64 = 1_000_000;

/// Those that must leave a node for a request to fit.
#[derive(Debug, Clone)]
struct Removal {
    leave: Vec<Place>,
    price: u64,
}

impl Packer {
    /// The best plan of at most `moves_max` moves that lets `request` in, if one is worth its price. Nothing is changed.
    pub fn plan_moves(&mut self, request: &Request, running: &dyn Running, moves_max: usize) -> Option<Plan> {
        self.tidy();
        let mut elsewhere = Map::default();
        for few in [1, moves_max].into_iter().take(moves_max.min(2)) {
            let mut removals = self.removals(request, running, few, &mut elsewhere);
            removals.sort_by_cached_key(|removal| (size(removal), removal.leave.clone()));
            removals.truncate(LOOKED_AT);
            let mut valued: Vec<(i64, Removal)> = Vec::with_capacity(removals.len());
            for removal in removals {
                if let Some(value) = self.value(request, &removal, &mut elsewhere) {
                    valued.push((value, removal));
                }
            }
            // Stable: of equal ones that of the least requests stays first.
            valued.sort_by_key(|(value, _)| Reverse(*value));
            for (_, removal) in valued.into_iter().take(TRIALS) {
                if let Some(plan) = self.attempt(request, &removal) {
                    return Some(plan);
                }
            }
        }
        None
    }

    /// Carries out `plan`.
    /// # Errors
    /// Something has changed since it was made: the step that no longer fits, and those after it, are not done.
    pub fn carry_out(&mut self, plan: &Plan) -> Result<(), Refused> {
        for step in &plan.moves {
            self.put(&step.to)?;
            self.release(&step.from)?;
        }
        self.put(&plan.place)
    }

    /// What could leave each node for `request` to fit there, at a price below what is gained: every single one if `moves_max` is 1,
    /// else the fewest there are if those that take most stay where they can.
    fn removals(
        &mut self,
        request: &Request,
        running: &dyn Running,
        moves_max: usize,
        elsewhere: &mut Map<Request, Option<i64>>,
    ) -> Vec<Removal> {
        let mut found = Vec::new();
        for node in 0..self.nodes() {
            let Some(machine) = self.fleet.machines.get(node).copied() else { continue };
            if machine.state == OUT || !machine.whole.fits(request) {
                continue;
            }
            let mut movable = Vec::new();
            for place in running.on(node) {
                if let Some(price) = running.price(place).filter(|price| *price < request.demand())
                    && self.keeps(elsewhere, &place.request).is_some()
                {
                    movable.push((*place, price));
                }
            }
            if moves_max == 1 {
                for (place, price) in movable {
                    let mut without = machine;
                    without.give(&place);
                    if without.fits(request) {
                        found.push(Removal { leave: vec![place], price });
                    }
                }
                continue;
            }
            let mut without = machine;
            for (place, _) in &movable {
                without.give(place);
            }
            if !without.fits(request) {
                continue;
            }
            movable.sort_by_key(|(place, price)| Reverse((weight(&place.request), *price, *place)));
            movable.retain(|(place, _)| {
                let mut with = without;
                with.take(place);
                let stays = with.fits(request);
                if stays {
                    without = with;
                }
                !stays
            });
            let price = movable.iter().fold(0_u64, |sum, (_, price)| sum.saturating_add(*price));
            if movable.len() <= moves_max && price < request.demand() {
                found.push(Removal { leave: movable.into_iter().map(|(place, _)| place).collect(), price });
            }
        }
        found
    }

    /// What the best place elsewhere keeps of its worth; `None` if it fits nowhere.
    fn keeps(&mut self, known: &mut Map<Request, Option<i64>>, request: &Request) -> Option<i64> {
        if let Some(kept) = known.get(request) {
            return *kept;
        }
        let kept = self.score(request);
        known.insert(*request, kept);
        kept
    }

    /// What all nodes would be worth more, were `removal` carried out, less its price.
    fn value(&mut self, request: &Request, removal: &Removal, known: &mut Map<Request, Option<i64>>) -> Option<i64> {
        let machine = self.fleet.machines.get(removal.leave.first()?.node)?;
        let mut without = *machine;
        for place in &removal.leave {
            without.give(place);
        }
        let (before, after) = (self.sight(machine), self.sight(&without).tightest(request));
        let mut value = self.change(before, after);
        for place in &removal.leave {
            value = value.saturating_add(self.keeps(known, &place.request)?);
        }
        Some(value.saturating_sub(i64::try_from(removal.price).ok()?.saturating_mul(UNIT)))
    }

    /// Plans `removal` by doing it, and takes it back.
    fn attempt(&mut self, request: &Request, removal: &Removal) -> Option<Plan> {
        let node = removal.leave.first()?.node;
        for place in &removal.leave {
            self.release(place).ok()?;
        }
        let mut taken: Vec<Place> = self.place_among(request, &[node]).into_iter().collect();
        let mut leave = removal.leave.clone();
        leave.sort_by_key(|place| Reverse((place.request.demand(), place.request.cpu_milli)));
        if !taken.is_empty() {
            for place in &leave {
                taken.extend(self.place(&place.request));
            }
        }
        for place in taken.iter().rev() {
            self.release(place).ok()?;
        }
        for place in &removal.leave {
            self.put(place).ok()?;
        }
        let (place, to) = taken.split_first().filter(|(_, to)| to.len() == leave.len())?;
        let moves = leave.iter().zip(to).map(|(from, to)| Move { from: *from, to: *to }).collect();
        let plan = Plan { moves, place: *place, gain: request.demand(), price: removal.price };
        self.rehearse(&plan).then_some(plan)
    }

    /// Whether each step of `plan` fits when its turn comes.
    fn rehearse(&mut self, plan: &Plan) -> bool {
        let mut done = 0;
        for step in &plan.moves {
            if self.put(&step.to).is_err() || self.release(&step.from).is_err() {
                break;
            }
            done += 1;
        }
        let fits =
            done == plan.moves.len() && self.fleet.machines.get(plan.place.node).is_some_and(|on| on.has(&plan.place));
        for step in plan.moves.iter().take(done).rev() {
            if self.put(&step.from).is_err() || self.release(&step.to).is_err() {
                return false;
            }
        }
        fits
    }
}

/// How much must leave: what is small fits elsewhere.
fn size(removal: &Removal) -> u64 {
    removal.leave.iter().map(|place| weight(&place.request)).sum()
}

/// Millionths of 128 cores and of eight accelerators, added.
fn weight(request: &Request) -> u64 {
    u64::from(request.cpu_milli) * 1_000_000 / 128_000 + request.demand() * 125
}
