//! Fair sharing: which queue goes first, what a queue may hold, and who may take back from whom.
//!
//! Queues stand in a tree, by their parents. Quotas hold on the whole way up, whatever the sharing. With a line for each queue
//! a [`Tree`] says which line goes first: the one whose weighted dominant share (accelerators, cores, memory; now and lately)
//! is least, level by level. A queue that has queues below it and jobs of its own stands beside them with a leaf for those.
//!
//! Invariant: between events a leaf of the tree is awake if its line has a head in some class, and perhaps if not: then it is put
//! to rest when it comes up.
//! What a queue held counts for its past no later than a 32nd half-life after.
//! Cost: a start or an end is two passes to the root; the next line is a look a level,
//! and one more for each line that is passed over. With one line there is no tree.

use std::collections::BTreeSet;

use dh_core::time::Span;
use dh_core::{NodeId, SimTime};
use dh_policy::fairness::{self, Amounts, Blocked, Quota, Tree, Usage};
use dh_policy::fleet::{NodeFacts, Service};
use serde::{Deserialize, Serialize};

use super::event::{Gang, QueueId, QueueRules};
use super::line::{Head, Lacks};
use super::reclaim::granted;
use super::settings::{Error, Settings, Sharing};
use super::{Queue, Scheduler};

/// What stands above all queues; no queue has this number.
pub(super) const HALL: QueueId = QueueId::MAX;

/// The share of a half-life after which all that is held is charged.
const CHARGES: u64 = 32;

/// With no more heads than this that may fit, their lines are compared with each other; else the tree is gone through.
const COMPARED: usize = 8;

/// Where the tree begins.
const ROOT: fairness::QueueId = fairness::QueueId(0);

/// What nodes in service have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Capacity {
    /// Whether each node is counted.
    counted: Vec<bool>,
    amounts: Amounts,
}

impl Capacity {
    /// All nodes are in service.
    pub(super) fn new(nodes: &[NodeFacts]) -> Self {
        let amounts = nodes.iter().map(amounts_of).fold(Amounts::NONE, Amounts::plus);
        Self { counted: vec![true; nodes.len()], amounts }
    }

    pub(super) fn amounts(&self) -> Amounts {
        self.amounts
    }
}

fn amounts_of(node: &NodeFacts) -> Amounts {
    Amounts {
        accelerators_milli: u64::from(node.accelerators) * 1000,
        cpu_milli: u64::from(node.cpu_milli),
        memory_mib: u64::from(node.memory_mib),
    }
}

fn amounts(gang: &Gang, ranks: u64) -> Amounts {
    let rank = &gang.need.rank;
    Amounts {
        accelerators_milli: ranks * rank.demand(),
        cpu_milli: ranks * u64::from(rank.cpu_milli),
        memory_mib: ranks * u64::from(rank.memory_mib),
    }
}

/// Guarantees, quotas and what is lent are of accelerators alone.
fn accelerators(milli: u64) -> Amounts {
    Amounts { accelerators_milli: milli, ..Amounts::NONE }
}

/// Who goes first among lines.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shares {
    tree: Tree,
    half_life: Span,
    /// What all nodes have: what may be promised.
    all: Amounts,
    /// What the tree was told that the hall has.
    told: Amounts,
    /// The leaf of each queue.
    leaves: Vec<fairness::QueueId>,
    /// The queue of each place in the tree.
    queues: Vec<QueueId>,
    /// Until when what each queue holds is charged.
    charged: Vec<SimTime>,
    /// When all of them were last.
    all_charged: SimTime,
    /// Queues whose jobs hold something.
    holding: BTreeSet<QueueId>,
    lending: Lending,
    /// Leaves that rest until the pass is over.
    passed: Vec<fairness::QueueId>,
}

/// Whether a queue keeps others from what is its own while it does not use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Lending {
    All,
    Part,
}

/// A tree for queues by their rules.
struct Plan {
    tree: Tree,
    leaves: Vec<fairness::QueueId>,
    queues: Vec<QueueId>,
    /// The first queue whose guarantee was cut.
    cut: Option<usize>,
}

impl Shares {
    /// None if there is one line.
    pub(super) fn new(settings: &Settings, all: Amounts) -> Result<Option<Self>, Error> {
        let rules = &settings.queues;
        for at in 0..rules.len() {
            if depth(rules, at).is_none() {
                return Err(Error::Parent(at));
            }
        }
        let Sharing::Fair { half_life } = settings.sharing else { return Ok(None) };
        if rules.len() < 2 {
            return Ok(None);
        }
        let plan = plan(rules, all, half_life);
        if let Some(at) = plan.cut {
            return Err(Error::Overbooked(at));
        }
        let mut shares = Self {
            tree: plan.tree,
            half_life,
            all,
            told: all,
            leaves: plan.leaves,
            queues: plan.queues,
            charged: vec![SimTime(0); rules.len()],
            all_charged: SimTime(0),
            holding: BTreeSet::new(),
            lending: Lending::All,
            passed: Vec::new(),
        };
        shares.note_lending(rules);
        Ok(Some(shares))
    }

    /// The same usage in a tree of other rules, in which no leaf is awake.
    fn plant(&mut self, rules: &[QueueRules]) {
        let plan = plan(rules, self.all, self.half_life);
        let old = std::mem::replace(&mut self.tree, plan.tree);
        for (new, before) in plan.leaves.iter().zip(&self.leaves) {
            self.tree.inherit(*new, &old, *before);
        }
        self.tree.set_capacity(self.told);
        (self.leaves, self.queues) = (plan.leaves, plan.queues);
        self.note_lending(rules);
    }

    fn note_lending(&mut self, rules: &[QueueRules]) {
        let keeps = |rules: &QueueRules| rules.lends_milli.is_some_and(|lends| lends < rules.guarantee_milli);
        self.lending = if rules.iter().any(keeps) { Lending::Part } else { Lending::All };
    }

    fn leaf(&self, queue: QueueId) -> Option<fairness::QueueId> {
        self.leaves.get(usize::from(queue)).copied()
    }

    /// Charges a queue for what it held since that was last done.
    fn charge(&mut self, queue: QueueId, now: SimTime) {
        let (Some(leaf), Some(charged)) = (self.leaf(queue), self.charged.get_mut(usize::from(queue))) else { return };
        let from = std::mem::replace(charged, now);
        let amounts = self.tree.holds(leaf);
        if amounts != Amounts::NONE && from < now {
            self.tree.charge(leaf, &Usage { amounts, from, to: now });
        }
    }

    fn start(&mut self, queue: QueueId, amounts: Amounts, now: SimTime) {
        self.charge(queue, now);
        if let Some(leaf) = self.leaf(queue) {
            self.tree.start(leaf, amounts);
            if self.tree.holds(leaf) != Amounts::NONE {
                self.holding.insert(queue);
            }
        }
    }

    fn stop(&mut self, queue: QueueId, amounts: Amounts, now: SimTime) {
        self.charge(queue, now);
        if let Some(leaf) = self.leaf(queue) {
            self.tree.stop(leaf, &Usage { amounts, from: now, to: now });
            if self.tree.holds(leaf) == Amounts::NONE {
                self.holding.remove(&queue);
            }
        }
    }

    /// What all hold goes into their past, now and then: else long jobs would not count before they end.
    fn charge_all(&mut self, now: SimTime) {
        if self.half_life.0 > 0 && now.since(self.all_charged).0 >= (self.half_life.0 / CHARGES).max(1) {
            self.all_charged = now;
            let mut next = self.holding.first().copied();
            while let Some(queue) = next {
                self.charge(queue, now);
                next =
                    self.holding.range((std::ops::Bound::Excluded(queue), std::ops::Bound::Unbounded)).next().copied();
            }
        }
    }
}

/// How many queues stand above one; none if a parent is not there or the queue stands above itself.
pub(super) fn depth(rules: &[QueueRules], at: usize) -> Option<usize> {
    let (mut depth, mut next) = (0, rules.get(at)?.parent);
    while let Some(parent) = next {
        depth += 1;
        if depth > rules.len() {
            return None;
        }
        next = rules.get(usize::from(parent))?.parent;
    }
    Some(depth)
}

/// A tree by these rules; a guarantee beyond what the parent has left is cut.
fn plan(rules: &[QueueRules], all: Amounts, half_life: Span) -> Plan {
    let mut plan =
        Plan { tree: Tree::new(all, half_life), leaves: vec![ROOT; rules.len()], queues: vec![HALL], cut: None };
    let mut above = vec![false; rules.len()];
    for parent in rules.iter().filter_map(|rules| rules.parent) {
        if let Some(above) = above.get_mut(usize::from(parent)) {
            *above = true;
        }
    }
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|at| (depth(rules, *at), *at));
    let grants = granted(rules, all.accelerators_milli);
    let mut places = vec![ROOT; rules.len()];
    for at in order {
        let Some(of) = rules.get(at) else { continue };
        let parent = of.parent.and_then(|parent| places.get(usize::from(parent))).copied().unwrap_or(ROOT);
        let guaranteed = grants.get(at).copied().unwrap_or(0);
        if guaranteed < of.guarantee_milli && plan.cut.is_none() {
            plan.cut = Some(at);
        }
        let limit = of.quota_milli.map_or(Amounts::ALL, |quota| Amounts { accelerators_milli: quota, ..Amounts::ALL });
        let lends = of.lends_milli.map_or(Amounts::ALL, |lends| Amounts { accelerators_milli: lends, ..Amounts::ALL });
        let queue = fairness::Queue {
            weight: of.share.max(1),
            guaranteed: accelerators(guaranteed),
            lends,
            limit,
            ..fairness::Queue::new("")
        };
        let number = QueueId::try_from(at).unwrap_or(HALL);
        // Neither can fail: the parent was added before, and the guarantee was cut to what it has left.
        let Ok(place) = plan.tree.add(parent, queue) else { continue };
        plan.queues.push(number);
        let mut leaf = place;
        if above.get(at).copied().unwrap_or(false)
            && let Ok(own) = plan.tree.add(place, fairness::Queue::new(""))
        {
            plan.queues.push(number);
            leaf = own;
        }
        if let (Some(its), Some(here)) = (plan.leaves.get_mut(at), places.get_mut(at)) {
            (*its, *here) = (leaf, place);
        }
    }
    plan
}

/// A queue and those above it, with what they hold.
pub(super) fn way_up(queues: &[Queue], from: QueueId) -> impl Iterator<Item = (QueueId, &Queue)> {
    let with = |id: QueueId| Some((id, queues.get(usize::from(id))?));
    std::iter::successors(with(from), move |(_, queue)| with(queue.rules.parent?))
}

impl Scheduler {
    /// The first line by share, with its first head that may go first; who is due goes before any.
    pub(super) fn choose_fairly(&mut self) -> Option<(usize, Head)> {
        let now = self.state.now;
        let capacity = self.state.capacity.amounts();
        let shares = self.state.shares.as_mut()?;
        while let Some(line) = self.state.lines.turned() {
            if let Some(leaf) = shares.leaf(line).filter(|_| self.state.lines.stands(line)) {
                shares.tree.wake(leaf);
            }
        }
        if !self.state.lines.any_live() {
            return self.rest_is_over();
        }
        if let Some(due) = self.due_head() {
            return Some(due);
        }
        let shares = self.state.shares.as_mut()?;
        shares.charge_all(now);
        if shares.told != capacity {
            shares.told = capacity;
            shares.tree.set_capacity(capacity);
        }
        if let Some(lines) = self.state.lines.live_lines(COMPARED) {
            let first = self.first_of(&lines);
            return first.or_else(|| self.rest_is_over());
        }
        loop {
            let shares = self.state.shares.as_mut()?;
            let Some(leaf) = shares.tree.next(now) else { return self.rest_is_over() };
            let at = usize::try_from(leaf.0).ok()?;
            let line = shares.queues.get(at).copied()?;
            if let Some(head) = self.may_go_first(usize::from(line)) {
                return Some((usize::from(line), head));
            }
            let shares = self.state.shares.as_mut()?;
            shares.tree.rest(leaf);
            if self.state.lines.stands(line) {
                shares.passed.push(leaf);
            }
        }
    }

    /// Of few lines the first by share that has a head that may go first.
    fn first_of(&mut self, lines: &[u16]) -> Option<(usize, Head)> {
        let now = self.state.now;
        let mut first: Option<(fairness::QueueId, (usize, Head))> = None;
        for line in lines.iter().copied() {
            let Some(head) = self.may_go_first(usize::from(line)) else { continue };
            let shares = self.state.shares.as_mut()?;
            let leaf = shares.leaf(line)?;
            if first.is_none_or(|(before, _)| shares.tree.first_of_two(now, leaf, before) == leaf) {
                first = Some((leaf, (usize::from(line), head)));
            }
        }
        first.map(|(_, head)| head)
    }

    /// The pass is over: lines that were passed over are looked at again in the next.
    fn rest_is_over(&mut self) -> Option<(usize, Head)> {
        let shares = self.state.shares.as_mut()?;
        for leaf in std::mem::take(&mut shares.passed) {
            shares.tree.wake(leaf);
        }
        None
    }

    /// The weighted dominant share of a queue's own jobs, now and lately, in millionths of the hall: for reports. Nothing if
    /// all stand in one line.
    pub fn share_ppm(&self, queue: QueueId) -> u64 {
        let shares = self.state.shares.as_ref();
        let share = shares.and_then(|shares| Some(shares.tree.share_ppm(shares.leaf(queue)?, self.state.now)));
        share.unwrap_or(0)
    }

    /// Whether a queue and those above it may hold so much more, and others lend what of it is not theirs.
    pub(super) fn quota_allows(&self, queue: QueueId, milli: u64) -> Result<(), Lacks> {
        let beyond = |queue: &Queue| queue.rules.quota_milli.is_some_and(|quota| queue.used_milli + milli > quota);
        if let Some((queue, _)) = way_up(&self.state.queues, queue).find(|(_, queue)| beyond(queue)) {
            return Err(Lacks::Quota { queue });
        }
        let shares = self.state.shares.as_ref().filter(|shares| shares.lending == Lending::Part && milli > 0);
        // Where others have borrowed what is the queue's own, room decides, and whoever makes room.
        if let Some(shares) = shares
            && let Some(leaf) = shares.leaf(queue)
            && let Err(Blocked { quota: Quota::Lent, .. }) = shares.tree.admits(leaf, accelerators(milli))
        {
            return Err(Lacks::Quota { queue: HALL });
        }
        Ok(())
    }

    /// Jobs of a queue hold so many ranks more.
    pub(super) fn hold(&mut self, queue: QueueId, gang: &Gang, ranks: u64) {
        self.move_usage(queue, |(used, leaving)| (used + ranks * gang.need.rank.demand(), leaving));
        if let Some(shares) = &mut self.state.shares {
            shares.start(queue, amounts(gang, ranks), self.state.now);
        }
    }

    /// They hold so many less: whoever waits for a quota may go on.
    pub(super) fn let_go(&mut self, queue: QueueId, gang: &Gang, ranks: u64) {
        self.move_usage(queue, |(used, leaving)| (used - ranks * gang.need.rank.demand(), leaving));
        if let Some(shares) = &mut self.state.shares {
            shares.stop(queue, amounts(gang, ranks), self.state.now);
        }
        self.quotas_changed(queue);
        self.within_again(queue);
    }

    fn move_usage(&mut self, queue: QueueId, with: impl Fn((u64, u64)) -> (u64, u64)) {
        let mut next = Some(queue);
        while let Some(queue) = next.and_then(|id| self.state.queues.get_mut(usize::from(id))) {
            (queue.used_milli, queue.leaving_milli) = with((queue.used_milli, queue.leaving_milli));
            next = queue.rules.parent;
        }
    }

    /// Whoever waits for a quota on the way up from `queue` is tried again.
    pub(super) fn quotas_changed(&mut self, queue: QueueId) {
        for (id, _) in way_up(&self.state.queues, queue) {
            self.state.lines.wake_for(Lacks::Quota { queue: id });
        }
        self.state.lines.wake_for(Lacks::Quota { queue: HALL });
    }

    /// The rules that a queue will have: its parent stays if the new one cannot be. What it holds goes along.
    pub(super) fn take_rules(&mut self, id: QueueId, rules: QueueRules) -> Option<QueueRules> {
        let queue = *self.state.queues.get(usize::from(id))?;
        let mut all: Vec<QueueRules> = self.state.queues.iter().map(|queue| queue.rules).collect();
        let place = all.get_mut(usize::from(id))?;
        *place = rules;
        let parent = if depth(&all, usize::from(id)).is_some() { rules.parent } else { queue.rules.parent };
        if parent != queue.rules.parent {
            let (used, leaving) = (queue.used_milli, queue.leaving_milli);
            if let Some(old) = queue.rules.parent {
                self.move_usage(old, |(held, leaves)| (held - used, leaves - leaving));
                self.quotas_changed(old);
            }
            if let Some(new) = parent {
                self.move_usage(new, |(held, leaves)| (held + used, leaves + leaving));
            }
        }
        Some(QueueRules { parent, ..rules })
    }

    /// Rules have changed: the tree is planted anew.
    pub(super) fn share_anew(&mut self) {
        let Some(shares) = &mut self.state.shares else { return };
        let rules: Vec<QueueRules> = self.state.queues.iter().map(|queue| queue.rules).collect();
        for queue in shares.holding.clone() {
            shares.charge(queue, self.state.now);
        }
        shares.plant(&rules);
        self.state.lines.turn_all();
    }

    /// A node's service may have changed.
    pub(super) fn count_node(&mut self, node: NodeId) {
        let serves = matches!(self.state.fleet.service(node), Service::Up | Service::Asleep);
        let capacity = &mut self.state.capacity;
        let at = usize::try_from(node.0).ok();
        let counted = at.and_then(|at| capacity.counted.get_mut(at));
        let facts = at.and_then(|at| self.state.settings.nodes.get(at));
        if let (Some(counted), Some(facts)) = (counted, facts)
            && *counted != serves
        {
            *counted = serves;
            let of_node = amounts_of(facts);
            capacity.amounts = if serves { capacity.amounts.plus(of_node) } else { capacity.amounts.less(of_node) };
            self.load_changed();
            // There is more to lend, or to limit what is lent by.
            self.state.lines.wake_for(Lacks::Quota { queue: HALL });
        }
    }

    /// What the tree says that each queue's own jobs hold: for checks.
    pub(super) fn check_shares(&self, own: &[Amounts]) {
        let serves = |node: &NodeId| matches!(self.state.fleet.service(*node), Service::Up | Service::Asleep);
        let nodes = (0_u32..).map(NodeId).zip(&self.state.settings.nodes).filter(|(node, _)| serves(node));
        let there = nodes.map(|(_, facts)| amounts_of(facts)).fold(Amounts::NONE, Amounts::plus);
        assert_eq!(self.state.capacity.amounts(), there, "capacity is counted that does not serve, or is not counted");
        let Some(shares) = &self.state.shares else { return };
        for (number, (own, leaf)) in own.iter().zip(&shares.leaves).enumerate() {
            assert_eq!(shares.tree.holds(*leaf), *own, "the leaf of queue {number} holds something else");
            let line = QueueId::try_from(number).unwrap_or(HALL);
            assert_eq!(shares.holding.contains(&line), *own != Amounts::NONE, "queue {number} is charged or not");
            assert!(self.may_go_first(number).is_none(), "queue {number} has a head that was not tried");
        }
    }
}

/// What a running or claiming job holds, for checks.
pub(super) fn charged(gang: &Gang, ranks: u64) -> Amounts {
    amounts(gang, ranks)
}
