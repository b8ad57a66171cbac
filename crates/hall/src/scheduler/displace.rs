//! Preemption: whom a job that goes first may displace, and the plan of a place for it.
//!
//! A job is displaced only if the whole gang that displaces it fits afterwards, and what comes free belongs to that gang
//! ([`super::claim`]). A claim is never displaced itself: a job of still higher priority that comes meanwhile takes other
//! victims, or waits until the claim has become a running job.
//!
//! There are no cycles, because every displacement raises a potential that displacements never lower. By priority it is the
//! pair of (a) what queues hold of what they are guaranteed, summed over all levels of their tree, and (b) the priorities of
//! what runs or claims, highest first. Victims are taken only out of what was lent ([`super::reclaim`]), or is brought by the
//! job, so (a) never falls; a job that takes back what its queue is guaranteed raises (a); any other victim has strictly lower
//! priority than the job it goes for, so (b) rises while (a) does not fall. Two kinds of stops are bounded by time instead:
//! by order alone, victims have strictly later keys than the job, but keys rise as jobs run, so two jobs can take turns; and a
//! gang that is lent in part takes what is its queue's own along. Either has run for a quantum.
//!
//! A job that is due for having been set back too far ([`super::stretch`]) is displaced by nobody.
//!
//! A victim that is elastic goes only in part where that is enough ([`super::shrink`]).
//!
//! Cost: a comparison where nobody can be displaced; a search of the victims that may go, where somebody can.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::{Holding, View};
use dh_policy::order::{Displaces, Key, class_of};
use dh_policy::placement::Need;
use dh_policy::preemption::{Found, Victim, search};
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::event::{Action, Gang, QueueId};
use super::job::{Phase, Run, Slot};
use super::line::GroupId;
use super::reclaim::{Books, Ground};

/// What a stop and a start cost, seconds of each accelerator.
const RESTART: u64 = 60;

/// What a victim costs that is one step of priority below, seconds of each accelerator; one of `n` steps costs an `n`th.
const STEP: u64 = 3600;

/// A running job, by where it stands.
pub(super) type Standing = (Key, JobId, Slot);

/// What preemption knows besides the jobs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Displacing {
    /// Whom anybody may displace.
    pub(super) whom: Whom,
    /// Whether a queue may take back what it is guaranteed.
    pub(super) reclaims: Reclaims,
    /// Running jobs that may be displaced, by the key they had when they started or last rose; it may have fallen since.
    pub(super) running: BTreeSet<Standing>,
    /// When keys of running jobs rise.
    pub(super) rises: BTreeSet<(SimTime, Slot)>,
    pub(super) armed: BTreeMap<Slot, SimTime>,
    /// Groups whose head may displace but could not, by its key.
    pub(super) hopeful: BTreeSet<(Key, GroupId)>,
    pub(super) hoping: BTreeMap<GroupId, Key>,
    /// Groups that have a new head.
    pub(super) fresh: Vec<GroupId>,
    /// Whether heads that could not displace may be able to now.
    pub(super) hope: Hope,
    /// Victims that may still be looked at for them; it grows with every event.
    pub(super) credit: u64,
    /// When to try them again if nothing else happens.
    pub(super) wake: Option<SimTime>,
    /// Claims by the nodes of which they do not own all yet.
    pub(super) wanted: BTreeSet<(NodeId, Slot)>,
    /// Claims by when they give up.
    pub(super) until: BTreeSet<(SimTime, Slot)>,
    /// Claims that own all.
    pub(super) whole: BTreeSet<Slot>,
    /// Who claims what each stopped job gives back.
    pub(super) serving: BTreeMap<JobId, Slot>,
    /// Jobs whose claims failed: how often, and until when they do not try again.
    pub(super) failed: BTreeMap<JobId, (u32, SimTime)>,
}

/// Whom anybody may displace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Whom {
    #[default]
    Nobody,
    /// Jobs of lower priority.
    Lower,
    /// Jobs later in the order.
    Later,
}

/// Whether a queue has a guarantee.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reclaims {
    #[default]
    Never,
    Perhaps,
}

/// Whether heads that could not displace anybody are tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hope {
    #[default]
    None,
    Some,
}

/// What a job may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Right {
    /// Where it stands.
    pub(super) key: Key,
    /// Its queue.
    pub(super) queue: QueueId,
    /// What it is charged for already, thousandths of accelerators.
    pub(super) own: u64,
    /// Whether jobs that stand later may go for it.
    later: bool,
    /// Whether jobs of queues that hold more than is theirs may go for it.
    pub(super) reclaim: bool,
}

/// Whether victims are looked at each by itself, or with those that were taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Alone,
    Together,
}

/// A place for a gang.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ranks: Vec<Holding>,
    pub(super) victims: Vec<JobId>,
    /// Victims that shrink, and the ranks that they keep.
    pub(super) keeps: Vec<(JobId, Vec<u32>)>,
}

impl Displacing {
    /// The job's failures are forgotten.
    pub(super) fn forgive(&mut self, job: JobId) {
        self.failed.remove(&job);
    }

    pub(super) fn wake_at(&mut self, at: SimTime) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn give_hope(&mut self, group: GroupId, key: Key) {
        if let Some(old) = self.hoping.insert(group, key) {
            self.hopeful.remove(&(old, group));
        }
        self.hopeful.insert((key, group));
    }

    pub(super) fn take_hope(&mut self, group: GroupId) {
        if let Some(old) = self.hoping.remove(&group) {
            self.hopeful.remove(&(old, group));
        }
    }
}

impl Scheduler {
    /// Clears a place for the waiting job at `slot`, the head of its group, if that is allowed and leads to a start.
    pub(super) fn displace(&mut self, slot: Slot, gang: &Gang, actions: &mut Vec<Action>) -> bool {
        let Some(right) = self.right(slot, gang) else { return false };
        let Some((id, Phase::Waiting { group })) = self.state.jobs.get(slot).map(|job| (job.id, &job.phase)) else {
            return false;
        };
        let group = *group;
        self.state.displacing.fresh.retain(|fresh| *fresh != group);
        self.state.displacing.give_hope(group, right.key);
        if !self.anybody(&right) {
            return false;
        }
        if let Some((_, until)) = self.state.displacing.failed.get(&id).copied()
            && until > self.state.now
        {
            self.state.displacing.wake_at(until);
            return false;
        }
        let view = self.view(slot);
        let Some(plan) = self.plan(gang, &right, view, &[]) else { return false };
        self.state.displacing.take_hope(group);
        self.state.lines.pop(&mut self.state.jobs, group);
        self.claim(slot, plan, actions);
        true
    }

    /// What a waiting or claiming job may do; `None` if it may displace nobody.
    pub(super) fn right(&self, slot: Slot, gang: &Gang) -> Option<Right> {
        let job = self.state.jobs.get(slot)?;
        let queue = self.state.queues.get(usize::from(job.queue))?;
        let later = match self.state.displacing.whom {
            Whom::Nobody => return None,
            Whom::Lower => queue.rules.preempts,
            Whom::Later => true,
        };
        let own = match &job.phase {
            Phase::Claiming(claim) => gang.need.rank.demand() * u64::try_from(claim.ranks.len()).unwrap_or(0),
            Phase::Waiting { .. } | Phase::Running(_) | Phase::Gone => 0,
        };
        let least = u64::from(gang.least_ranks.min(gang.need.ranks).max(1)) * gang.need.rank.demand();
        let reclaim = self.entitled(job.queue, own, least);
        (later || reclaim).then(|| Right { key: self.standing(slot), queue: job.queue, own, later, reclaim })
    }

    /// Where a job stands among those that displace each other.
    pub(super) fn standing(&self, slot: Slot) -> Key {
        let Some(job) = self.state.jobs.get(slot) else { return Key::default() };
        match (self.state.displacing.whom, &job.phase) {
            (Whom::Later, Phase::Running(_)) => self.key(slot),
            (Whom::Later, Phase::Waiting { .. } | Phase::Claiming(_) | Phase::Gone) => job.key,
            (Whom::Nobody | Whom::Lower, phase) => {
                let queue = self.state.queues.get(usize::from(job.queue)).map_or(0, |queue| queue.rules.priority);
                // Of equal priority, running jobs whose work was safe last come first; those that wait stand before none.
                let value = match phase {
                    Phase::Running(run) => u64::MAX - run.safe.0,
                    Phase::Waiting { .. } | Phase::Claiming(_) | Phase::Gone => u64::MAX,
                };
                Key { class: class_of(i64::from(job.priority) + i64::from(queue)), value }
            }
        }
    }

    /// Whether there is anybody whom a job with this right may displace, as far as one look tells.
    fn anybody(&mut self, right: &Right) -> bool {
        if right.reclaim && !self.state.displacing.running.is_empty() {
            return true;
        }
        right.later && self.stands_before_some(right.key)
    }

    /// Whether some running job stands after `key`.
    pub(super) fn stands_before_some(&mut self, key: Key) -> bool {
        // Keys of running jobs fall behind what is noted. The noted order is put right from the end, as far as it must be.
        for _ in 0..64 {
            let Some((noted, id, slot)) = self.state.displacing.running.last().copied() else { return false };
            if noted <= key {
                return false;
            }
            if self.state.displacing.whom != Whom::Later {
                return true;
            }
            let present = self.standing(slot);
            if present >= noted {
                return true;
            }
            self.state.displacing.running.remove(&(noted, id, slot));
            self.state.displacing.running.insert((present, id, slot));
            if let Some(job) = self.state.jobs.get_mut(slot) {
                job.key = present;
            }
        }
        true
    }

    /// A place for a gang with what is free, what others hold for it already (`freed`), and victims.
    pub(super) fn plan(&mut self, gang: &Gang, right: &Right, view: View, freed: &[Holding]) -> Option<Plan> {
        for held in freed {
            self.state.fleet.release(held);
        }
        let plan = self.plan_beside(gang, right, view, freed.is_empty());
        for held in freed {
            self.state.fleet.occupy(held);
        }
        plan
    }

    fn plan_beside(&mut self, gang: &Gang, right: &Right, view: View, full: bool) -> Option<Plan> {
        if !full && let Some(ranks) = self.ranks_of(gang, view) {
            return Some(Plan { ranks, victims: Vec::new(), keeps: Vec::new() });
        }
        let least = gang.least_ranks.clamp(1, gang.need.ranks.max(1));
        let sizes = [Some(gang.need.ranks), (least < gang.need.ranks).then_some(least)];
        let lent = |ground: Ground| right.reclaim.then_some(ground);
        let grounds = [lent(Ground::Lent), right.later.then_some(Ground::Later), lent(Ground::PartlyLent)];
        for ground in grounds.into_iter().flatten() {
            for ranks in sizes.into_iter().flatten() {
                if let Some(plan) =
                    self.plan_on(ground, &Gang { need: Need { ranks, ..gang.need }, ..*gang }, right, view)
                {
                    return Some(plan);
                }
            }
        }
        None
    }

    /// A place for all ranks of a gang that others leave on one ground.
    fn plan_on(&mut self, ground: Ground, gang: &Gang, right: &Right, view: View) -> Option<Plan> {
        if self.books(&gang.need, right, ground).closed() {
            return None;
        }
        let wide = self.view_of_claimant(view, ground);
        if wide != view
            && let Some(ranks) = self.ranks_of(gang, wide)
        {
            return Some(Plan { ranks, victims: Vec::new(), keeps: Vec::new() });
        }
        let victims = self.victims(&gang.need, right, ground, wide)?;
        let slots: Vec<Slot> = victims.iter().filter_map(|job| self.state.jobs.slot(*job)).collect();
        let held: Vec<Holding> = slots
            .iter()
            .filter_map(|slot| self.state.jobs.get(*slot)?.run())
            .flat_map(|run| run.ranks.clone())
            .collect();
        for held in &held {
            self.state.fleet.release(held);
        }
        let ranks = self.ranks_of(gang, wide);
        for held in &held {
            self.state.fleet.occupy(held);
        }
        let ranks = ranks?;
        let keeps = self.keeps(&ranks, &victims);
        Some(Plan { ranks, victims, keeps })
    }

    /// Who goes for a gang. Each may go by himself; whether all may together is asked of those who are chosen, and only if they
    /// may not, of each with all that were offered before him: else those who are not needed in the end use up what may go.
    fn victims(&mut self, need: &Need, right: &Right, ground: Ground, view: View) -> Option<Vec<JobId>> {
        for count in [Count::Alone, Count::Together] {
            let (found, young) = match self.state.displacing.whom {
                Whom::Nobody => return None,
                Whom::Lower => self.lower(need, right, (ground, count), view),
                Whom::Later => self.later(need, right, (ground, count), view),
            };
            self.state.displacing.credit = self.state.displacing.credit.saturating_sub(found.looked);
            let Some(victims) = found.victims else {
                if let Some(young) = young {
                    self.state.displacing.wake_at(young);
                }
                return None;
            };
            let gone = victims.iter().filter_map(|job| {
                let job = self.state.jobs.get(self.state.jobs.slot(*job)?)?;
                Some((demand(&job.run()?.ranks), job.queue))
            });
            if self.books(need, right, ground).allow_all(gone.collect()) {
                return Some(victims);
            }
        }
        None
    }

    /// What the ranks of a gang would hold if it started at this moment.
    fn ranks_of(&mut self, gang: &Gang, view: View) -> Option<Vec<Holding>> {
        let shares = self.find(gang, view).ok()?;
        let mut ranks = Vec::new();
        let mut complete = true;
        for share in &shares {
            for rank in 0..share.ranks {
                let wanted = share.of_rank(rank, gang.need.rank.accelerators);
                match self.state.fleet.take_rank(share.node, &gang.need, wanted) {
                    Some(held) => ranks.push(held),
                    None => complete = false,
                }
            }
        }
        for held in &ranks {
            self.state.fleet.release(held);
        }
        complete.then_some(ranks)
    }

    /// Of jobs of lower priority, or of jobs that hold what was lent, those who cost least; and when others will have run enough.
    fn lower(
        &self,
        need: &Need,
        right: &Right,
        (ground, count): (Ground, Count),
        view: View,
    ) -> (Found, Option<SimTime>) {
        let from = if ground.is_lent() { i64::MIN } else { right.key.class.saturating_add(1) };
        let mut books = self.books(need, right, ground);
        let mut young: Option<SimTime> = None;
        let offered = self.cheapest_first(from, right.key.class);
        let offered = offered.filter(|(_, (_, _, slot))| self.may_go(*slot, right, ground));
        let victims = offered.filter_map(|(cost, (_, id, slot))| {
            let job = self.state.jobs.get(slot)?;
            let run = job.run()?;
            let milli = demand(&run.ranks);
            let ready = self.ready(run, &mut young);
            let may = (ready || ground != Ground::PartlyLent) && offer(&mut books, count, job.queue, milli);
            // Who can spare what is wanted does not go: it loses what is not safe and starts again, no more.
            let spare = self
                .gang(slot)
                .map_or(0, |gang| milli.saturating_sub(u64::from(gang.least_ranks.max(1)) * gang.need.rank.demand()));
            let wants = u64::from(need.ranks) * need.rank.demand();
            let stop = self.since(run.safe).as_secs().saturating_add(RESTART);
            let price = if spare >= wants { stop.min(cost) } else { cost };
            may.then(|| Victim { job: id, price: price.saturating_mul(milli.max(1000)), held: &run.ranks })
        });
        (search(&self.state.fleet, need, view, victims), young.filter(|_| ground == Ground::PartlyLent))
    }

    /// Of jobs later in the order, or of jobs that hold what was lent, the last; and when others will have run enough.
    fn later(
        &self,
        need: &Need,
        right: &Right,
        (ground, count): (Ground, Count),
        view: View,
    ) -> (Found, Option<SimTime>) {
        let mut young: Option<SimTime> = None;
        let mut books = self.books(need, right, ground);
        let running = self.state.displacing.running.iter().rev();
        let later = running.take_while(|(noted, ..)| *noted > right.key || ground.is_lent());
        let victims = later.zip(1_u64..).filter_map(|((_, id, slot), place)| {
            let job = self.state.jobs.get(*slot)?;
            let run = job.run()?;
            if !self.may_go(*slot, right, ground) || (ground == Ground::Later && self.standing(*slot) <= right.key) {
                return None;
            }
            if ground != Ground::Lent && !self.ready(run, &mut young) {
                return None;
            }
            let milli = demand(&run.ranks);
            let price = place.saturating_mul(milli.max(1000));
            offer(&mut books, count, job.queue, milli).then_some(Victim { job: *id, price, held: &run.ranks })
        });
        (search(&self.state.fleet, need, view, victims), young)
    }

    /// Whether a job has run for a quantum; if not, the first moment at which one will have is noted.
    fn ready(&self, run: &Run, young: &mut Option<SimTime>) -> bool {
        let ready = run.started.after(self.state.settings.quantum);
        if ready > self.state.now {
            *young = Some(young.map_or(ready, |young| young.min(ready)));
        }
        ready <= self.state.now
    }

    fn may_go(&self, slot: Slot, right: &Right, ground: Ground) -> bool {
        self.state.jobs.get(slot).is_some_and(|job| {
            (ground == Ground::Later || job.queue != right.queue)
                && job.run().is_some_and(|run| !run.stopping && run.lost.is_none())
                && self.due_key(slot).is_none()
        })
    }

    /// Running jobs of classes from `class` on, cheapest first for each accelerator, with what that costs. In a class those
    /// whose work was safe last come first; so only the first of each class are compared.
    fn cheapest_first(&self, class: i64, above: i64) -> impl Iterator<Item = (u64, Standing)> {
        let running = &self.state.displacing.running;
        let first = |class: i64| (Key { class, value: 0 }, JobId(0), Slot::MIN);
        let price = move |standing: Standing| (self.cost(&standing, above), standing);
        let mut heads: BTreeSet<(u64, Standing)> = BTreeSet::new();
        let mut from = Some(class);
        while let Some(standing) = from.and_then(|class| running.range(first(class)..).next()) {
            heads.insert(price(*standing));
            from = standing.0.class.checked_add(1);
        }
        std::iter::from_fn(move || {
            let (cost, standing) = heads.pop_first()?;
            let after = (Bound::Excluded(standing), Bound::Unbounded);
            if let Some(next) = running.range(after).next().filter(|next| next.0.class == standing.0.class) {
                heads.insert(price(*next));
            }
            Some((cost, standing))
        })
    }

    /// What the stop of a job costs, seconds of each of its accelerators: work that is not safe, the restart, and how near it
    /// stands to the job it goes for.
    fn cost(&self, (key, ..): &Standing, above: i64) -> u64 {
        let lost = self.since(SimTime(u64::MAX - key.value)).as_secs();
        let near = match u64::try_from(key.class.saturating_sub(above)) {
            Ok(0) => STEP,
            Ok(steps) => STEP / steps,
            Err(_) => STEP.saturating_mul(above.saturating_sub(key.class).unsigned_abs().saturating_add(1)),
        };
        lost.saturating_add(RESTART).saturating_add(near)
    }

    /// Whom anybody may displace has changed, or where running jobs stand.
    pub(super) fn track(&mut self) {
        let rules = || self.state.queues.iter().map(|queue| queue.rules);
        let reclaims = if rules().any(|rules| rules.guarantee_milli > 0) { Reclaims::Perhaps } else { Reclaims::Never };
        let whom = match self.order.displaces() {
            Displaces::LowerPriority if reclaims == Reclaims::Perhaps || rules().any(|rules| rules.preempts) => {
                Whom::Lower
            }
            Displaces::Later if self.rounds().is_none() => Whom::Later,
            Displaces::Later | Displaces::LowerPriority | Displaces::Nobody => Whom::Nobody,
        };
        let displacing = &mut self.state.displacing;
        if (displacing.whom, whom) == (Whom::Nobody, Whom::Nobody) {
            return;
        }
        displacing.whom = whom;
        displacing.reclaims = reclaims;
        displacing.running.clear();
        displacing.rises.clear();
        displacing.armed.clear();
        displacing.hopeful.clear();
        displacing.hoping.clear();
        displacing.wake = None;
        if whom == Whom::Nobody {
            return;
        }
        let running: Vec<Slot> = self
            .state
            .jobs
            .iter()
            .filter(|(_, job)| job.run().is_some_and(|run| !run.stopping))
            .map(|(slot, _)| slot)
            .collect();
        for slot in running {
            self.ran(slot);
        }
        let groups: Vec<GroupId> = self.state.lines.all().map(|(group, _)| group).collect();
        self.state.displacing.fresh = groups;
    }
}

fn offer(books: &mut Books<'_>, count: Count, queue: QueueId, milli: u64) -> bool {
    match count {
        Count::Alone => books.allows(queue, milli),
        Count::Together => books.take(queue, milli),
    }
}

/// Accelerators that ranks hold together, thousandths.
fn demand(held: &[Holding]) -> u64 {
    held.iter().map(|held| u64::from(held.mask.count_ones()) * u64::from(held.milli)).sum()
}
