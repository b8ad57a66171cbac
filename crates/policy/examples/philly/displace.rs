//! Who gives way to a gang, and on which nodes.

use std::cmp::Reverse;

use dh_policy::fairness::{Right, Stretch};
use dh_policy::order::Key;

use super::cluster::{Part, SLOTS, split};
use super::replay::{Lengths, Phase, Replay};

/// Who would give way on a node.
#[derive(Debug, Clone, Copy)]
struct Victims {
    /// Accelerators that they hold in all, here and elsewhere.
    damage: u32,
    earliest: (Key, u32),
    jobs: [u32; SLOTS as usize],
    count: usize,
}

impl Victims {
    const fn none(key: Key, job: u32) -> Self {
        Self { damage: 0, earliest: (key, job), jobs: [0; SLOTS as usize], count: 0 }
    }
}

impl Replay<'_> {
    /// Makes room for a gang at the cost of jobs that are later in the order, the fewest accelerators first.
    pub(crate) fn displace(&mut self, key: Key, job: u32, size: u32, now: u64) -> Option<Vec<Part>> {
        let (whole, rest) = split(size);
        let mut chosen: Vec<(Part, Victims)> = Vec::new();
        if whole > 0 {
            let wanted = whole as usize;
            let empty = self.cluster.empty().map(|node| (0, node, Victims::none(key, job))).take(wanted);
            let mut nodes: Vec<(u32, u32, Victims)> = empty.collect();
            let later = self.later((key, job)).filter(|node| self.cluster.free(*node) < SLOTS);
            nodes.extend(later.filter_map(|node| {
                let victims = self.reclaim((key, job), node, SLOTS, now)?;
                Some((victims.damage, node, victims))
            }));
            if nodes.len() < wanted {
                return None;
            }
            nodes.sort_unstable_by_key(|(damage, node, _)| (*damage, *node));
            chosen.extend(nodes.drain(..wanted).map(|(_, node, victims)| (Part { node, count: SLOTS }, victims)));
        }
        if rest > 0 {
            let other = |node: &u32| chosen.iter().all(|(part, _)| part.node != *node);
            let found = if whole > 0 { self.cluster.with_room(rest).find(other) } else { None };
            let (node, victims) = match found {
                Some(node) => (node, Victims::none(key, job)),
                None => self.cheapest((key, job), rest, other, now)?,
            };
            chosen.push((Part { node, count: rest }, victims));
        }
        for (_, victims) in &chosen {
            for &victim in victims.jobs.iter().take(victims.count) {
                if self.states[victim as usize].phase == Phase::Waits {
                    continue;
                }
                // It waits under the key by which it lost: a new estimate could displace in turn, for ever.
                let (key, _) = self.running_key(victim, now);
                self.stop(victim, now);
                self.played.preemptions += 1;
                self.wait(victim, key);
            }
        }
        Some(chosen.into_iter().map(|(part, _)| part).collect())
    }

    /// The node on which room for `count` costs the fewest accelerators, the latest victims first.
    fn cheapest(&self, key: (Key, u32), count: u32, other: impl Fn(&u32) -> bool, now: u64) -> Option<(u32, Victims)> {
        let least = count - self.cluster.most_free_below(count);
        let mut best: Option<(u32, Victims)> = None;
        for node in self.later(key).filter(other) {
            let Some(victims) = self.reclaim(key, node, count, now) else { continue };
            let exact = victims.damage <= least;
            let rank = |victims: &Victims| (victims.damage, Reverse(victims.earliest));
            if best.is_none_or(|(_, best)| rank(&victims) < rank(&best)) {
                best = Some((node, victims));
            }
            // Where lengths are true keys fall as jobs run, and the nodes are not quite in order: then all are compared.
            if exact && self.how.lengths != Lengths::True {
                break;
            }
        }
        best
    }

    /// The nodes on which somebody is later than `key`, the latest first. With guarantees, any node.
    fn later(&self, key: (Key, u32)) -> impl Iterator<Item = u32> + '_ {
        let any = self.tree.is_some();
        self.by_latest.iter().rev().take_while(move |(latest, _)| any || *latest > key).map(|(_, node)| *node)
    }

    /// Whether a running job gives way to one that waits: by the order among those of one virtual cluster; to another that is
    /// entitled, if its own has borrowed; to another that is not, by the order, if all of it runs on what was borrowed.
    fn gives_way(&self, key: (Key, u32), running: (Key, u32)) -> bool {
        let later = running > key && !Stretch::is_due(running.0);
        let Some((tree, leaves)) = &self.tree else { return later };
        let (mine, theirs) = (self.part_in_tree(leaves, key.1), self.part_in_tree(leaves, running.1));
        if mine.queue == theirs.queue {
            return later;
        }
        tree.reclaims(&mine, &theirs) == Some(Right::Guarantee)
            || later && theirs.amounts.beyond(tree.borrowed(theirs.queue)).is_none()
    }

    /// The jobs of `node` that would give way for `count` accelerators.
    fn reclaim(&self, key: (Key, u32), node: u32, count: u32, now: u64) -> Option<Victims> {
        let mut free = self.cluster.free(node);
        let mut later = [((Key::default(), 0), 0); SLOTS as usize];
        let mut found = 0;
        let mut reach = free;
        for &(other, held) in &self.cluster.on[node as usize] {
            let at = self.running_key(other, now);
            if self.gives_way(key, at) {
                later[found] = (at, held);
                found += 1;
                reach += held;
            }
        }
        if reach < count {
            return None;
        }
        later[..found].sort_unstable_by_key(|(at, _)| Reverse(*at));
        let mut victims = Victims::none(key.0, key.1);
        let mut taken = 0;
        while free < count {
            free += later[taken].1;
            taken += 1;
        }
        // The earliest first: whoever is not needed after all stays.
        for ((at, victim), held) in later[..taken].iter().rev().map(|(at, held)| (*at, *held)) {
            if free - held >= count {
                free -= held;
                continue;
            }
            if victims.count == 0 {
                victims.earliest = (at, victim);
            }
            victims.jobs[victims.count] = victim;
            victims.count += 1;
            victims.damage += self.jobs[victim as usize].size;
        }
        Some(victims)
    }
}
