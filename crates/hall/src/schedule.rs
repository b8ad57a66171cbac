//! Which gangs start now: the hall asks its scheduler, and carries out what that decides.

use dh_core::{AttemptId, JobId, NodeId, Rank};
use dh_policy::fleet::{Fleet, Holding, NodeFacts, Service, Slice, View};
use dh_policy::order::{self, Candidate};
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{self, Context, Misfit, Need, Rails};

use crate::event::Action;
use crate::job::{Attempt, Held, Job, Phase, Placed, Task};
use crate::machine::Hall;
use crate::rules;
use crate::scheduler::{self, Cause, Gang, Grace, QueueRules, Scheduler, Settings, Submission};
use crate::spec::{JobSpec, Part};

impl Hall {
    /// A scheduler for the nodes and queues as they are, which takes over what runs and what waits.
    pub(crate) fn new_scheduler(&mut self, out: &mut Vec<Action>) {
        let classes = self.classes(None);
        let told = self.nodes.values().zip(classes).map(|(node, class)| NodeFacts { class, ..node.spec.told() });
        let settings =
            Settings { nodes: told.collect(), queues: rules::queue_rules(&self.queues), ..self.policy.clone() };
        // Names that this version does not know are in the log of another, and so are promises that it does not make: the
        // defaults decide.
        let plain = |rules: &QueueRules| QueueRules { priority: rules.priority, ..QueueRules::default() };
        let flat = |facts: &NodeFacts| NodeFacts { path: Vec::new(), ..facts.clone() };
        let fallback = || Settings {
            nodes: settings.nodes.iter().map(flat).collect(),
            queues: settings.queues.iter().map(plain).collect(),
            ..Settings::default()
        };
        let scheduler = Scheduler::new(settings.clone()).or_else(|_| Scheduler::new(fallback()));
        let Ok(scheduler) = scheduler else { return };
        self.scheduler = Some(scheduler);
        self.jobs.hand_all();
        let drained: Vec<NodeId> =
            self.nodes.iter().filter(|(_, node)| node.service() == Service::Drained).map(|(id, _)| *id).collect();
        let running: Vec<(Submission, Vec<Holding>)> = self
            .jobs
            .active()
            .filter_map(|job| {
                let attempt = job.active()?;
                let gang = self.gang(&job.spec);
                let ranks = attempt.placement.iter().map(|placed| holding(placed, &gang.need.rank)).collect();
                Some((self.submission(job)?, ranks))
            })
            .collect();
        for (mut submission, mut ranks) in running {
            let job = submission.job;
            self.tell(&scheduler::Event::Adopted { submission, ranks: ranks.clone() }, out);
            if !self.scheduler.as_ref().is_some_and(|scheduler| scheduler.knows(job)) {
                // What is known of nodes may have come later than the job. Its slots are its own, whatever else it has too much of.
                submission.gang.need.rank.memory_mib = 0;
                for held in &mut ranks {
                    held.memory_mib = 0;
                }
                self.tell(&scheduler::Event::Adopted { submission, ranks }, out);
            }
        }
        for node in drained {
            self.tell(&scheduler::Event::Node { node, service: Service::Drained }, out);
        }
        self.submit_due(out);
    }

    /// Hands the scheduler the jobs that wait and whose back-off is over.
    pub(crate) fn submit_due(&mut self, out: &mut Vec<Action>) {
        if !self.open {
            return;
        }
        let mut due = Vec::new();
        for id in self.jobs.fresh(self.now) {
            if self.scheduler_knows(id) {
                self.jobs.handed(id);
            } else {
                due.extend(self.jobs.get(id).and_then(|job| self.submission(job)));
            }
        }
        for submission in due {
            let id = submission.job;
            self.tell(&scheduler::Event::Submitted(submission), out);
            // What it refuses it is asked again.
            if self.scheduler_knows(id) {
                self.jobs.handed(id);
            }
        }
    }

    /// Whether the scheduler, if there is one, need not be told of a job.
    fn scheduler_knows(&self, id: JobId) -> bool {
        self.scheduler.as_ref().is_none_or(|scheduler| scheduler.knows(id))
    }

    fn submission(&self, job: &Job) -> Option<Submission> {
        let queue = self.queues.keys().position(|name| *name == job.spec.queue)?;
        Some(Submission {
            job: job.id,
            gang: self.gang(&job.spec),
            queue: u16::try_from(queue).ok()?,
            priority: job.spec.priority,
            length: job.spec.time_limit,
            attained: job.attained,
            since: job.submitted,
            deadline: None,
            kind: 0,
        })
    }

    /// Tells the scheduler an event and carries out what it decides.
    pub(crate) fn tell(&mut self, event: &scheduler::Event, out: &mut Vec<Action>) {
        let Some(scheduler) = &mut self.scheduler else { return };
        let mut actions = Vec::new();
        scheduler.step(self.now, event, &mut actions);
        for action in actions {
            match action {
                scheduler::Action::Start { job, ranks, .. } => self.start(job, &ranks, out),
                scheduler::Action::Stop { job, cause } => {
                    let because = match cause {
                        Cause::Preempted { by } => format!("{by} goes first and needs its slots"),
                        Cause::Shrunk { by } => format!("{by} goes first and needs some of its slots"),
                        Cause::Moved => "it goes on elsewhere, so that nodes come free".to_owned(),
                        Cause::Broken => "it lost a node, and no other was found in time".to_owned(),
                        Cause::Cancelled => "it was cancelled".to_owned(),
                    };
                    self.stop_again(job, &because, out);
                }
                // A live gang cannot change its ranks while it runs: it is stopped, and starts again where there is room.
                scheduler::Action::Repair { job, .. } | scheduler::Action::Resize { job, .. } => {
                    self.stop_again(job, "it lost a node", out);
                }
                scheduler::Action::Wake { .. }
                | scheduler::Action::Sleep { .. }
                | scheduler::Action::Quarantined { .. }
                | scheduler::Action::NotApplied { .. }
                | scheduler::Action::Refused { .. } => {}
            }
        }
    }

    /// How many waiting jobs whose back-off is over are considered before `id`, and the first of them.
    pub(crate) fn ahead(&self, id: JobId) -> (usize, Option<JobId>) {
        let order = order::by_name(&self.policy.order).unwrap_or(order::POLICIES[0]);
        let key = |job: &Job| (order.key(&self.candidate(job)), job.id);
        let Some(own) = self.jobs.get(id).map(key) else { return (0, None) };
        let ahead = self.jobs.may_start(self.now).map(key).filter(|other| *other < own);
        let (count, first) = ahead.fold((0, own), |(count, first): (usize, _), other| (count + 1, first.min(other)));
        (count, (count > 0).then_some(first.1))
    }

    fn candidate(&self, job: &Job) -> Candidate {
        Candidate {
            job: job.id,
            priority: i64::from(job.spec.priority)
                + self.queues.get(&job.spec.queue).map_or(0, |queue| i64::from(queue.priority)),
            submitted: job.submitted,
            milli: u64::from(job.spec.ranks) * demand(&job.spec),
            attained: job.attained,
            length: job.spec.time_limit,
            deadline: None,
        }
    }

    /// Why the gang of `id` does not fit at this moment, by counting.
    pub(crate) fn misfit(&self, id: JobId) -> Option<Misfit> {
        let job = self.jobs.get(id)?;
        placement::misfit(self.fleet()?, &self.least(&job.spec), &Context::plain(View::Open))
    }

    /// The nodes as the scheduler sees them.
    pub(crate) fn fleet(&self) -> Option<&Fleet> {
        self.scheduler.as_ref().map(Scheduler::fleet)
    }

    /// What a job asks of the scheduler; a level that the hall does not have any more asks for nothing.
    pub(crate) fn gang(&self, spec: &JobSpec) -> Gang {
        let accelerators = u8::try_from(spec.slots_per_rank).unwrap_or(u8::MAX);
        let milli = spec.part.as_ref().map_or(WHOLE, Part::milli);
        let rails = match &spec.part {
            Some(Part::Slice { size, starts, milli, .. }) if *milli < WHOLE => {
                Rails::Slice(Slice { size: *size, starts: *starts })
            }
            Some(Part::Slice { .. } | Part::Share { .. }) | None => Rails::Any,
        };
        Gang {
            need: Need {
                ranks: spec.ranks,
                rank: Request {
                    cpu_milli: 0,
                    memory_mib: memory_mib(spec),
                    accelerators,
                    milli,
                    models: self.models(spec),
                },
                within: spec.within.as_ref().and_then(|level| self.level(level)).unwrap_or(0),
                rails,
            },
            least_ranks: spec.ranks_min.unwrap_or(spec.ranks),
            speeds: 0,
            dataset: None,
            rank_watts: 0,
            grace: if spec.kind.is_service() { Grace::Protected } else { Grace::Preemptible },
        }
    }

    /// The least with which it starts.
    pub(crate) fn least(&self, spec: &JobSpec) -> Need {
        let gang = self.gang(spec);
        Need { ranks: gang.least_ranks, ..gang.need }
    }

    /// The number of a level of the tree; the whole hall is 0.
    pub(crate) fn level(&self, name: &str) -> Option<u8> {
        let place = self.policy.levels.iter().position(|level| level == name)?;
        u8::try_from(place + 1).ok()
    }

    fn start(&mut self, id: JobId, ranks: &[Holding], out: &mut Vec<Action>) {
        let Some(job) = self.jobs.get(id) else { return };
        // A gang that was taken over runs already.
        if !matches!(job.phase, Phase::Waiting { .. }) {
            return;
        }
        let attempt = AttemptId { job: id, attempt: job.attempts + 1 };
        let mut placement = Vec::with_capacity(ranks.len());
        for (number, held) in (0..).zip(ranks) {
            let rank = Rank(number);
            let slots: Vec<u32> = (0..u128::BITS).filter(|slot| held.mask >> slot & 1 == 1).collect();
            let part = job.spec.part.as_ref().map(|_| Held { milli: held.milli, cut: held.slots });
            let placed = Placed { rank, node: held.node, slots, held: part };
            if let Some(node) = self.nodes.get_mut(&held.node) {
                placed.slots.iter().for_each(|slot| node.give(*slot, attempt, &placed));
            }
            placement.push(placed);
        }
        let tasks = placement.iter().map(|_| Task::Starting).collect();
        out.push(Action::Start { attempt, placement: placement.clone() });
        let started = Attempt { id: attempt, started: self.now, placement, tasks, ready: false, verdict: None };
        self.jobs.change(id, |job| {
            job.attempts = attempt.attempt;
            job.phase = Phase::Active { attempt: started };
        });
    }
}

/// Thousandths of accelerators of one rank.
fn demand(spec: &JobSpec) -> u64 {
    let accelerators = u8::try_from(spec.slots_per_rank).unwrap_or(u8::MAX);
    u64::from(accelerators) * u64::from(spec.part.as_ref().map_or(WHOLE, Part::milli))
}

fn holding(placed: &Placed, rank: &Request) -> Holding {
    let mask = placed.slots.iter().fold(0, |mask, slot| mask | 1_u128 << slot.min(&127));
    Holding {
        node: placed.node,
        mask,
        milli: placed.held.map_or(rank.milli, |held| held.milli),
        cpu_milli: rank.cpu_milli,
        memory_mib: rank.memory_mib,
        slots: placed.held.map_or(0, |held| held.cut),
    }
}

/// What a rank may use of its node's memory, MiB, rounded up; nothing said is nothing held.
fn memory_mib(spec: &JobSpec) -> u32 {
    spec.memory_bytes.map_or(0, |bytes| u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX))
}
