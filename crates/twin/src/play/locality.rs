//! Whether gangs start where they could: inside one domain of each level, whenever one had room for all of their ranks.
//!
//! The judge keeps a hall of its own in which it plays what jobs hold, so what is free is known at each start, and not only
//! after all that is decided at one moment. What the scheduler keeps free for others counts as free here: the judge is strict.
//!
//! Invariant: a domain could have held a gang if the ranks that fit on each of its nodes are enough together. Ranks of a gang
//! are alike and nodes do not depend on each other, so that is exact. Cost: the counts of all domains of a level for a gang
//! that is not inside one, and the nodes of those with room.

use std::collections::BTreeSet;

use dh_core::NodeId;
use dh_policy::fleet::{Domain, Fleet, Holding, Service, View};
use dh_policy::packing::Request;

use crate::measure::{Inside, Locality};
use crate::spread::ByJob;

/// Accelerators of a gang that counts as small.
const SMALL: u32 = 64;

/// What jobs hold, and what came of the gangs that started.
#[derive(Debug)]
pub(super) struct Judge {
    hall: Fleet,
    held: ByJob<Vec<Holding>>,
    /// By level, outermost first.
    found: Vec<Locality>,
}

impl Judge {
    /// Of an empty hall.
    pub(super) fn new(fleet: &Fleet) -> Self {
        let levels = 1..=fleet.tree().last();
        let found = levels.map(|level| Locality {
            level: fleet.tree().name(level).to_owned(),
            gangs: Inside::default(),
            up_to_64: Inside::default(),
        });
        let found = found.collect();
        Self { hall: fleet.emptied(), held: ByJob::default(), found }
    }

    /// A gang starts on `ranks`.
    pub(super) fn started(&mut self, job: u64, ranks: &[Holding]) {
        if let (Some(first), true) = (ranks.first(), ranks.len() > 1) {
            let classes = ranks.iter().fold(0, |classes, held| classes | 1 << self.hall.class(held.node));
            let rank = Request {
                cpu_milli: first.cpu_milli,
                memory_mib: first.memory_mib,
                accelerators: u8::try_from(first.mask.count_ones()).unwrap_or(u8::MAX),
                milli: first.milli,
                models: classes,
            };
            let count = u32::try_from(ranks.len()).unwrap_or(u32::MAX);
            let small = count.saturating_mul(first.mask.count_ones()) <= SMALL;
            for (level, found) in (1..).zip(&mut self.found) {
                let domain = |held: &Holding| self.hall.tree().domain(held.node.0, level).number;
                let domains: BTreeSet<u32> = ranks.iter().map(domain).collect();
                let inside = domains.len() == 1;
                let missed = !inside && {
                    let mut all = (0..self.hall.tree().domains(level)).map(|number| Domain { level, number });
                    all.any(|domain| holds(&self.hall, domain, &rank, count))
                };
                for one in std::iter::once(&mut found.gangs).chain(small.then_some(&mut found.up_to_64)) {
                    one.starts += 1;
                    one.inside += u64::from(inside);
                    one.missed += u64::from(missed);
                }
            }
        }
        let mut taken = Vec::with_capacity(ranks.len());
        for held in ranks {
            // A gang that goes on without a node that failed may still be noted there.
            if self.hall.free_of(held) == [*held] {
                self.hall.occupy(held);
                taken.push(*held);
            }
        }
        self.held.insert(job, taken);
    }

    /// It is gone.
    pub(super) fn stopped(&mut self, job: u64) {
        for held in self.held.remove(&job).unwrap_or_default() {
            self.hall.release(&held);
        }
    }

    /// A node takes work, or does so no more.
    pub(super) fn node(&mut self, node: NodeId, service: Service) {
        self.hall.set_service(node, service);
    }

    /// What came of the gangs; nothing where there is no tree or no gang.
    pub(super) fn finish(self) -> Vec<Locality> {
        self.found.into_iter().filter(|found| found.gangs.starts > 0).collect()
    }
}

/// Whether `count` ranks fit into `domain`.
fn holds(hall: &Fleet, domain: Domain, rank: &Request, count: u32) -> bool {
    if hall.room(domain, rank, View::All) < count {
        return false;
    }
    let nodes = hall.tree().nodes_of(domain).map(NodeId);
    nodes.map(|node| u64::from(hall.ranks(node, rank, View::All))).sum::<u64>() >= u64::from(count)
}

#[cfg(test)]
mod tests {
    use dh_policy::fleet::NodeFacts;

    use super::*;

    struct Draw(u64);

    impl Draw {
        fn below(&mut self, below: u32) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(self.0 >> 33).unwrap() % below
        }
    }

    fn request(accelerators: u8, cpu_milli: u32) -> Request {
        Request { cpu_milli, memory_mib: 0, accelerators, milli: 1000, models: 0 }
    }

    fn hall(racks: u32, nodes: u32) -> Fleet {
        let facts = |node: u32| NodeFacts {
            class: 0,
            accelerators: 4,
            cpu_milli: 8_000,
            memory_mib: 1,
            path: vec![node / nodes],
        };
        Fleet::new(&["rack".to_owned()], &(0..racks * nodes).map(facts).collect::<Vec<_>>()).unwrap()
    }

    /// Whether there is any way at all to put the ranks on nodes of the domain, one after the other.
    fn any_way(hall: &Fleet, domain: Domain, rank: &Request, left: u32) -> bool {
        left == 0
            || hall.tree().nodes_of(domain).any(|node| {
                let mut with = hall.clone();
                with.take(NodeId(node), rank, 0).is_some() && any_way(&with, domain, rank, left - 1)
            })
    }

    #[test]
    fn what_the_judge_holds_possible_is_what_an_exhaustive_search_finds() {
        let mut draw = Draw(5);
        let (mut yes, mut no) = (0, 0);
        for _ in 0..300 {
            let mut hall = hall(2, 3);
            for node in 0..6 {
                for _ in 0..draw.below(3) {
                    let rank = request(u8::try_from(1 + draw.below(2)).unwrap(), 1000 * draw.below(4));
                    hall.take(NodeId(node), &rank, 0);
                }
            }
            let rank = request(u8::try_from(1 + draw.below(4)).unwrap(), 1000 * draw.below(5));
            let (domain, count) = (Domain { level: 1, number: draw.below(2) }, 1 + draw.below(4));
            let possible = any_way(&hall, domain, &rank, count);
            assert_eq!(holds(&hall, domain, &rank, count), possible, "{count} of {rank:?}");
            if possible { yes += 1 } else { no += 1 }
        }
        assert!(yes > 50 && no > 50, "{yes} {no}");
    }

    #[test]
    fn a_gang_that_could_have_stood_in_one_rack_is_missed_and_others_are_not() {
        let fleet = hall(2, 2);
        let mut judge = Judge::new(&fleet);
        let on = |nodes: [u32; 2]| {
            nodes.map(|node| Holding {
                node: NodeId(node),
                mask: 0b1111,
                milli: 1000,
                cpu_milli: 0,
                memory_mib: 0,
                slots: 0,
            })
        };
        judge.started(1, &on([0, 2]));
        judge.started(2, &on([1, 3]));
        judge.stopped(1);
        judge.stopped(2);
        judge.started(3, &on([2, 3]));
        let found = judge.finish();
        // The first was missed; the second found one node free in each rack.
        assert_eq!(found[0].gangs, Inside { starts: 3, inside: 1, missed: 1 });
        assert_eq!((found[0].level.as_str(), found[0].up_to_64.share()), ("rack", Some(0.5)));
    }
}
