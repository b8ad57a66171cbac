//! What must hold after every step.

use std::collections::BTreeMap;

use dh_core::NodeId;
use dh_policy::fairness::Amounts;
use dh_policy::fleet::{Holding, Mask};

use super::Scheduler;
use super::job::Phase;

impl Scheduler {
    /// Goes through the whole state and panics if an invariant is broken: for tests and for a hall that is small.
    ///
    /// # Panics
    /// If an invariant is broken, with the job or node.
    pub fn check(&self) {
        let mut whole: BTreeMap<NodeId, Mask> = BTreeMap::new();
        let mut parts = super::fractions::Given::default();
        let mut used = vec![0_u64; self.state.queues.len()];
        let mut own = vec![Amounts::NONE; self.state.queues.len()];
        let (mut running, mut waiting, mut watts) = (0, 0, 0_u64);
        for (slot, job) in self.state.jobs.iter() {
            let Some(gang) = self.gang(slot) else { continue };
            assert_eq!(self.state.jobs.slot(job.id), Some(slot), "{} is found elsewhere", job.id);
            let (held, charged): (Vec<Holding>, u64) = match &job.phase {
                Phase::Waiting { group } => {
                    waiting += 1;
                    assert!(self.state.lines.members(*group).any(|member| member == slot), "{} is in no line", job.id);
                    continue;
                }
                Phase::Gone => continue,
                Phase::Claiming(claim) => {
                    assert!(self.state.claiming.contains(&slot), "{} claims in secret", job.id);
                    (claim.held.clone(), u64::try_from(claim.ranks.len()).unwrap_or(0))
                }
                Phase::Running(run) => {
                    running += 1;
                    let ranks = u32::try_from(run.ranks.len()).unwrap_or(u32::MAX);
                    assert!(
                        ranks >= gang.least_ranks.min(gang.need.ranks) && ranks <= gang.need.ranks,
                        "{} runs with {ranks} ranks",
                        job.id
                    );
                    let lost = run.lost.as_ref().map(|lost| lost.ranks.as_slice()).unwrap_or_default();
                    let alive = (0_u32..).zip(&run.ranks).filter(|(rank, _)| lost.binary_search(rank).is_err());
                    let found = run.lost.iter().flat_map(|lost| lost.found.iter().map(|(_, held)| *held));
                    (alive.map(|(_, held)| *held).chain(found).collect(), u64::from(ranks))
                }
            };
            let held: Vec<Holding> = held.into_iter().chain(self.will_hold(slot)).collect();
            if let Some(own) = own.get_mut(usize::from(job.queue)) {
                *own = own.plus(super::share::charged(gang, charged));
            }
            let mut next = Some(job.queue);
            while let Some(queue) = next.map(usize::from) {
                if let Some(used) = used.get_mut(queue) {
                    *used += charged * gang.need.rank.demand();
                }
                next = self.state.queues.get(queue).and_then(|queue| queue.rules.parent);
            }
            watts += charged * u64::from(gang.rank_watts);
            for held in held.iter().filter(|_| !self.shares_behind(slot)) {
                let taken = whole.entry(held.node).or_default();
                if held.milli >= dh_policy::packing::WHOLE {
                    assert_eq!(*taken & held.mask, 0, "{} and another job own accelerators of {}", job.id, held.node);
                    *taken |= held.mask;
                } else {
                    parts.add(job.id, held);
                }
            }
        }
        self.check_nodes(&whole, &parts);
        for (number, (queue, used)) in self.state.queues.iter().zip(&used).enumerate() {
            assert_eq!(queue.used_milli, *used, "queue {number} is charged for what its jobs do not hold");
        }
        assert_eq!(
            (self.state.running, self.state.lines.waiting()),
            (running, waiting),
            "jobs are not where they are counted"
        );
        self.check_displacing();
        self.check_moving();
        self.check_interleaved();
        self.check_shrinking();
        self.check_short();
        self.check_ends();
        self.check_kept();
        assert!(
            self.wakeup().is_none_or(|at| at > self.state.now),
            "it is to be woken at {:?}, which is over at {:?}",
            self.wakeup(),
            self.state.now
        );
        self.check_guarantees();
        self.check_shares(&own);
        self.check_predictions();
        self.check_bound();
        assert_eq!(self.state.power.drawn, watts, "power is charged for what does not run");
    }

    /// Nothing is whole and in part at once, and every accelerator is free or somebody's.
    fn check_nodes(&self, whole: &BTreeMap<NodeId, Mask>, parts: &super::fractions::Given) {
        super::boxes::check_tori(&self.state.fleet);
        let parts: Vec<(NodeId, Mask)> = parts.places().collect();
        for (node, bit) in &parts {
            assert_eq!(
                whole.get(node).copied().unwrap_or(0) & bit,
                0,
                "an accelerator of {node} is given out whole and in part"
            );
        }
        for number in 0..self.state.fleet.len() {
            let node = NodeId(u32::try_from(number).unwrap_or(u32::MAX));
            let busy = whole.get(&node).copied().unwrap_or(0)
                | parts.iter().filter(|(at, _)| *at == node).fold(0, |mask, (_, bit)| mask | bit);
            assert_eq!(busy & self.state.fleet.free_mask(node), 0, "{node} has free what somebody owns");
            let all = u32::from(self.state.fleet.accelerators(node));
            assert_eq!(
                busy.count_ones() + self.state.fleet.free_mask(node).count_ones(),
                all,
                "{node} lost accelerators"
            );
        }
    }

    /// What is kept free for reservations is what they ask for.
    fn check_kept(&self) {
        let kept = &self.state.reservations.kept;
        assert!(kept.is_sorted_by(|a, b| a.node < b.node), "a node is kept for two");
        if self.state.claiming.is_empty() && self.state.broken.is_empty() {
            let mut kept = kept.iter().peekable();
            for node in (0..self.state.fleet.len()).filter_map(|number| u32::try_from(number).ok()).map(NodeId) {
                let wanted = kept.next_if(|kept| kept.node == node).map_or(0, |kept| self.to_keep(kept));
                assert_eq!(self.state.fleet.reserved(node), wanted, "{node} is not kept as was promised");
            }
        }
    }
}
