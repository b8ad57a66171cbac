//! Storage and networks that running jobs share: who gets how much of them, and how much slower that makes each.
//!
//! A *resource* has so much to give in a second: a store to the whole hall, an uplink to each domain of a level. A job asks for
//! its demand, all askers get a fair share (max-min: whoever asks for less than the share gets all it asks for), and a job
//! whose share is below its demand is longer at the part of its work that waits for it. Demands are those at full speed: a
//! job that is slow for another reason still asks for as much while it asks.
//!
//! Invariant: whole numbers only; shares of a resource never sum to more than it has while it has at least one unit for each
//! asker; they follow from the set of running jobs alone, not from how it came about. Cost: a job that enters or leaves goes
//! through the askers of what it shares, if there is not enough for all; without demands it is one look into a list.
//! Source: max-min fairness by progressive filling (Bertsekas and Gallager, Data Networks, 1992).

use std::collections::{BTreeMap, BTreeSet};

use dh_core::JobId;
use dh_policy::fleet::{Holding, Level, Tree};

const MILLION: u128 = 1_000_000;

/// Something that running jobs share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is called.
    pub name: String,
    /// What it gives in a second, in units of the caller's: bytes.
    pub capacity: u64,
    /// Who has it.
    pub reach: Reach,
}

/// Who has a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The hall has one: a store.
    Hall,
    /// Each domain of this level has one, which gangs use that do not stand in one domain: uplinks.
    Uplinks(Level),
}

/// What a job asks of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// The resource's place in [`Sharing::resources`].
    pub resource: u16,
    /// What each rank asks for in a second, at full speed.
    pub per_rank: u64,
    /// Millionths of the time at full speed in which nothing else is done: this part grows as the share falls.
    pub exposed: u32,
}

/// What is shared, and who asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    /// What is shared.
    pub resources: Vec<Resource>,
    /// Demands of jobs of each profile, by its number; none where the list ends.
    pub demands: Vec<Vec<Demand>>,
}

/// A resource of one domain.
type Key = (u16, u32);

/// What a running job asks of one resource.
#[derive(Debug, Clone, Copy)]
struct Use {
    key: Key,
    wanted: u64,
    exposed: u32,
}

/// One resource with those who ask.
#[derive(Debug, Clone)]
struct Pool {
    capacity: u64,
    askers: BTreeSet<(u64, u64)>,
    wanted: u128,
    /// Nobody gets more; `u64::MAX` while there is enough for all.
    level: u64,
}

impl Pool {
    /// The most that one asker gets.
    fn fair(&self) -> u64 {
        if self.wanted <= u128::from(self.capacity) {
            return u64::MAX;
        }
        let mut left = self.capacity;
        let mut askers = u64::try_from(self.askers.len()).unwrap_or(u64::MAX);
        for (wanted, _) in &self.askers {
            if *wanted > left / askers.max(1) {
                break;
            }
            left -= wanted;
            askers -= 1;
        }
        // A share of nothing would be a job that never ends.
        (left / askers.max(1)).max(1)
    }

    /// Shares the resource out anew; whose share is another is noted.
    fn share_out(&mut self, changed: &mut BTreeSet<u64>) {
        let fair = self.fair();
        let before = std::mem::replace(&mut self.level, fair);
        let low = before.min(self.level);
        if before != self.level && low < u64::MAX {
            changed.extend(self.askers.range((low + 1, 0)..).map(|(_, job)| *job));
        }
    }
}

/// What is shared, while a run goes on.
#[derive(Debug)]
pub(super) struct Contention {
    sharing: Sharing,
    pools: BTreeMap<Key, Pool>,
    jobs: BTreeMap<u64, Vec<Use>>,
}

impl Contention {
    /// Of what is asked for by somebody; none if nobody asks.
    pub(super) fn new(sharing: Sharing) -> Option<Self> {
        let asked = sharing.demands.iter().flatten().any(|demand| demand.per_rank > 0 && demand.exposed > 0);
        asked.then(|| Self { sharing, pools: BTreeMap::new(), jobs: BTreeMap::new() })
    }

    /// A job begins to ask, in place of what it asked for before. Returns the jobs whose speed may be another.
    pub(super) fn enter(&mut self, job: JobId, profile: u16, ranks: &[Holding], tree: &Tree) -> BTreeSet<u64> {
        let mut changed = self.leave(job);
        let uses = self.uses(profile, ranks, tree);
        if uses.is_empty() {
            return changed;
        }
        for one in &uses {
            let capacity = self.capacity(one.key.0);
            let pool = self.pools.entry(one.key).or_insert_with(|| Pool {
                capacity,
                askers: BTreeSet::new(),
                wanted: 0,
                level: u64::MAX,
            });
            pool.askers.insert((one.wanted, job.0));
            pool.wanted += u128::from(one.wanted);
            pool.share_out(&mut changed);
        }
        self.jobs.insert(job.0, uses);
        changed.insert(job.0);
        changed
    }

    /// A job asks no more. Returns the jobs whose speed may be another.
    pub(super) fn leave(&mut self, job: JobId) -> BTreeSet<u64> {
        let mut changed = BTreeSet::new();
        for one in self.jobs.remove(&job.0).unwrap_or_default() {
            let Some(pool) = self.pools.get_mut(&one.key) else { continue };
            pool.askers.remove(&(one.wanted, job.0));
            pool.wanted -= u128::from(one.wanted);
            pool.share_out(&mut changed);
        }
        changed
    }

    /// Millionths of its speed that are left to a job.
    pub(super) fn factor(&self, job: JobId) -> u64 {
        let Some(uses) = self.jobs.get(&job.0) else { return 1_000_000 };
        // Of the domains of one resource, the tightest counts; different resources are waited for one after the other.
        let mut longer: BTreeMap<u16, u128> = BTreeMap::new();
        for one in uses {
            let share = self.pools.get(&one.key).map_or(u64::MAX, |pool| pool.level).min(one.wanted).max(1);
            let more = u128::from(one.exposed) * u128::from(one.wanted - share.min(one.wanted)) / u128::from(share);
            let most = longer.entry(one.key.0).or_default();
            *most = more.max(*most);
        }
        let time = MILLION + longer.values().sum::<u128>();
        u64::try_from(MILLION * MILLION / time).unwrap_or(1_000_000).max(1)
    }

    fn capacity(&self, resource: u16) -> u64 {
        self.sharing.resources.get(usize::from(resource)).map_or(u64::MAX, |resource| resource.capacity)
    }

    fn uses(&self, profile: u16, ranks: &[Holding], tree: &Tree) -> Vec<Use> {
        let demands = self.sharing.demands.get(usize::from(profile)).map_or(&[][..], Vec::as_slice);
        let mut uses = Vec::new();
        for demand in demands.iter().filter(|demand| demand.per_rank > 0 && demand.exposed > 0) {
            let Some(resource) = self.sharing.resources.get(usize::from(demand.resource)) else { continue };
            let mut of = |domain: u32, ranks: u64| {
                let wanted = demand.per_rank.saturating_mul(ranks);
                uses.push(Use { key: (demand.resource, domain), wanted, exposed: demand.exposed });
            };
            match resource.reach {
                Reach::Hall => of(0, u64::try_from(ranks.len()).unwrap_or(u64::MAX)),
                Reach::Uplinks(level) => {
                    let mut domains: BTreeMap<u32, u64> = BTreeMap::new();
                    for held in ranks {
                        *domains.entry(tree.domain(held.node.0, level).number).or_default() += 1;
                    }
                    if domains.len() > 1 {
                        for (domain, ranks) in domains {
                            of(domain, ranks);
                        }
                    }
                }
            }
        }
        // One job, one entry for each resource: two demands of one resource are one.
        uses.sort_by_key(|one: &Use| one.key);
        uses.dedup_by(|one, before| {
            let same = one.key == before.key;
            if same {
                before.wanted = before.wanted.saturating_add(one.wanted);
                before.exposed = before.exposed.saturating_add(one.exposed).min(1_000_000);
            }
            same
        });
        uses
    }
}

#[cfg(test)]
mod tests;
