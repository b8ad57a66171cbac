//! Which gangs start now.

use dh_core::{AttemptId, JobId, NodeId, Rank};
use dh_policy::order::{self, Waiting};
use dh_policy::placement::{self, FreeNode, Misfit, Need};

use crate::event::Action;
use crate::job::{Attempt, Phase, Placed, Task};
use crate::machine::Hall;
use crate::node::Health;

impl Hall {
    /// Starts whatever the policies allow. The head of the line blocks what is behind it, so a large gang is never
    /// starved by small ones; jobs in back-off are not in the line.
    pub(crate) fn schedule(&mut self, out: &mut Vec<Action>) {
        if !self.open {
            return;
        }
        for id in self.line() {
            let Ok(nodes) = self.find_place(id) else { break };
            self.start(id, &nodes, out);
        }
    }

    /// Waiting jobs whose back-off is over, in the order in which they are considered.
    pub(crate) fn line(&self) -> Vec<JobId> {
        let mut waiting: Vec<Waiting> = self
            .jobs
            .values()
            .filter(|job| matches!(job.phase, Phase::Waiting { not_before } if not_before <= self.now))
            .map(|job| Waiting {
                job: job.id,
                priority: i64::from(job.spec.priority)
                    + self.queues.get(&job.spec.queue).map_or(0, |queue| i64::from(queue.priority)),
                submitted: job.submitted,
            })
            .collect();
        order::by_name(&self.order).unwrap_or(order::POLICIES[0]).sort(&mut waiting);
        waiting.into_iter().map(|one| one.job).collect()
    }

    /// Where the gang of `id` would go at this moment.
    pub(crate) fn find_place(&self, id: JobId) -> Result<Vec<NodeId>, Misfit> {
        let Some(job) = self.jobs.get(&id) else { return Ok(Vec::new()) };
        let need = Need { ranks: job.spec.ranks, slots_per_rank: job.spec.slots_per_rank };
        placement::by_name(&self.placement).unwrap_or(placement::POLICIES[0]).place(&self.free_nodes(), need)
    }

    pub(crate) fn free_nodes(&self) -> Vec<FreeNode> {
        self.nodes.iter().map(|(id, node)| FreeNode { node: *id, free: node.free(), slots: node.spec.slots }).collect()
    }

    fn start(&mut self, id: JobId, nodes: &[NodeId], out: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.attempts += 1;
        let attempt = AttemptId { job: id, attempt: job.attempts };
        let mut placement = Vec::with_capacity(nodes.len());
        for (number, node_id) in (0..).zip(nodes) {
            let rank = Rank(number);
            let slots = self
                .nodes
                .get_mut(node_id)
                .filter(|node| node.health == Health::Up)
                .and_then(|node| node.take(job.spec.slots_per_rank, (attempt, rank)));
            assert!(slots.is_some(), "the placement policy chose {node_id}, which has no room for {attempt}");
            placement.push(Placed { rank, node: *node_id, slots: slots.unwrap_or_default() });
        }
        let tasks = placement.iter().map(|_| Task::Starting).collect();
        out.push(Action::Start { attempt, placement: placement.clone() });
        job.phase = Phase::Active {
            attempt: Attempt { id: attempt, started: self.now, placement, tasks, ready: false, verdict: None },
        };
    }
}
