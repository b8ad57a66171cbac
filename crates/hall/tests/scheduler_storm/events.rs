//! What happens, by chance: jobs come, end, fail and are cancelled, nodes die and return, rules change, messages come twice, late
//! and out of order, plans of moves are applied at once or when they are stale.

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_hall::scheduler::{Event, Gang, Goal, Grace, Presence, QueueRules, Submission};
use dh_policy::fleet::{Service, Slice};
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};
use dh_policy::torus::{Asked, Request as Sides, Rings, Shaping, Twist};

use crate::halls::QUEUES;
use crate::world::{Job, World};

/// Jobs in such a world, at most: a search for a box takes its time.
const SHAPED_JOBS: usize = 14;

/// Profiles of slices: slots, places, thousandths.
const PROFILES: [(u8, u8, u16); 5] =
    [(1, 0b0111_1111, 142), (2, 0b0101_0101, 142), (2, 0b0001_0101, 285), (4, 0b0001_0001, 428), (4, 1, 571)];

impl World {
    pub(crate) fn submit(&mut self) {
        let dice = &mut self.dice;
        self.next_job += 1;
        let job = JobId(self.next_job);
        let part = dice.one_in(5);
        let rank = Request {
            cpu_milli: 1000 * dice.below(5) as u32,
            memory_mib: 10_000 * dice.below(4) as u32,
            accelerators: if part { 1 } else { dice.below(5) as u8 },
            milli: if part { [250, 500, 400][dice.below(3) as usize] } else { WHOLE },
            models: dice.one_in(4).into(),
        };
        let ranks = 1 + dice.below(5) as u32;
        let need = Need {
            ranks,
            rank,
            within: (dice.one_in(4)).into(),
            rails: if dice.one_in(5) { Rails::Aligned } else { Rails::Any },
        };
        let need = if self.shaped { self.shape(need) } else { need };
        let dice = &mut self.dice;
        let ranks = need.ranks;
        let length = 1 + dice.below(600_000_000_000);
        let gang = Gang {
            need,
            least_ranks: if dice.one_in(4) { 1 + dice.below(u64::from(ranks)) as u32 } else { ranks },
            speeds: 0,
            dataset: dice.one_in(5).then(|| dice.below(3) as u32),
            rank_watts: 100 * dice.below(5) as u32,
            grace: if dice.one_in(6) { Grace::Protected } else { Grace::Preemptible },
        };
        let submission = Submission {
            job,
            gang,
            queue: dice.below(QUEUES) as u16,
            priority: dice.below(4) as i32,
            length: (!dice.one_in(4)).then_some(Span(length)),
            attained: Span(0),
            since: SimTime(self.now),
            deadline: dice.one_in(6).then(|| SimTime(self.now + 2 * length)),
            kind: dice.below(3) as u32,
        };
        self.jobs.insert(
            job,
            Job { submission, run: 0, ranks: Vec::new(), stopping: false, shrinks: false, cancelled: false },
        );
        self.submitted += 1;
        self.tell(&Event::Submitted(submission));
        if self.faults && self.dice.one_in(10) {
            self.tell(&Event::Submitted(submission));
        }
    }

    /// Some other shape than whole accelerators anywhere.
    pub(crate) fn shape(&mut self, need: Need) -> Need {
        let dice = &mut self.dice;
        match dice.below(3) {
            0 => {
                let shape = [0; 3].map(|_| 1 + dice.below(4) as u16);
                let shaping = [Shaping::AsGiven, Shaping::Rotated, Shaping::Folded][dice.below(3) as usize];
                let sides = Sides { shape, twist: Twist::None, rings: Rings::Open, shaping };
                let count = Asked::Chips(1 << dice.below(5));
                let asked = if dice.one_in(3) { count } else { Asked::Sides(sides) };
                let wiring = *self.scheduler.fleet().tori()[0].wiring();
                let Some(split) = wiring.split(&asked) else { return need };
                let rank = Request { accelerators: split.each as u8, milli: WHOLE, models: 0, ..need.rank };
                Need { ranks: split.nodes, rank, within: 0, rails: Rails::Box(asked) }
            }
            1 => {
                let (size, starts, milli) = PROFILES[dice.below(5) as usize];
                let rank = Request { accelerators: 1, milli, ..need.rank };
                Need { rank, rails: Rails::Slice(Slice { size, starts }), ..need }
            }
            _ => need,
        }
    }

    pub(crate) fn pick(&mut self, which: impl Fn(&Job) -> bool) -> Option<JobId> {
        let fit: Vec<JobId> = self.jobs.iter().filter(|(_, job)| which(job)).map(|(id, _)| *id).collect();
        (!fit.is_empty()).then(|| fit[self.dice.below(fit.len() as u64) as usize])
    }

    /// A gang is gone from its nodes.
    pub(crate) fn answer(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).unwrap();
        let whole = job.ranks.iter().all(|held| !self.down.contains(&held.node));
        let goes_on = std::mem::take(&mut job.shrinks) && whole;
        job.ranks.clear();
        let (run, stopping, cancelled) = (job.run, job.stopping, job.cancelled);
        job.stopping = false;
        // One that was told to stop may have ended by itself just before.
        if !stopping || cancelled || self.dice.one_in(10) {
            self.jobs.remove(&id);
            self.ended += 1;
            self.owed.remove(&id);
            let event = if cancelled && self.dice.one_in(2) {
                Event::Stopped { job: id, run, attained: Span(0) }
            } else {
                Event::Ended { job: id, run }
            };
            self.twice(&event);
        } else {
            let attained = Span(self.dice.below(1_000_000_000_000));
            self.twice(&Event::Stopped { job: id, run, attained });
            let started = self.jobs.get(&id).is_some_and(|job| job.run > run);
            assert!(started || !goes_on, "{id} gave up some ranks and does not go on with the others");
        }
    }

    /// A message that may come twice, at once or after others.
    pub(crate) fn twice(&mut self, event: &Event) {
        self.tell(event);
        if self.faults && self.dice.one_in(10) {
            self.tell(event);
        }
        if matches!(event, Event::Ended { .. } | Event::Stopped { .. }) {
            self.echoes.truncate(30);
            self.echoes.insert(0, event.clone());
        }
    }

    pub(crate) fn act(&mut self) {
        match self.dice.below(if self.faults { 17 } else { 8 }) {
            0..=3 if self.shaped && self.jobs.len() >= SHAPED_JOBS => self.tell(&Event::Tick),
            0..=3 if self.faults || self.jobs.len() < 4 => self.submit(),
            0..=5 => {
                if let Some(job) = self.pick(|job| !job.ranks.is_empty()) {
                    self.answer(job);
                }
            }
            6 => self.tell(&Event::Tick),
            7 => {
                if let Some(job) = self.pick(|job| job.stopping) {
                    self.answer(job);
                }
            }
            8 | 9 => self.node_fault(),
            10 => {
                if let Some(id) = self.pick(|job| !job.cancelled) {
                    let job = self.jobs.get_mut(&id).unwrap();
                    job.cancelled = true;
                    self.owed.remove(&id);
                    if job.ranks.is_empty() {
                        self.jobs.remove(&id);
                        self.ended += 1;
                    }
                    self.twice(&Event::Cancelled { job: id });
                }
            }
            11 => {
                let rules = QueueRules {
                    priority: [0, 10, 5][self.dice.below(3) as usize],
                    share: 1 + self.dice.below(4) as u32,
                    quota_milli: self.dice.one_in(2).then(|| 1000 * self.dice.below(20)),
                    preempts: self.dice.one_in(2),
                    guarantee_milli: 1000 * self.dice.below(4),
                    lends_milli: self.dice.one_in(2).then(|| 1000 * self.dice.below(3)),
                    // Some are not there, some would stand below themselves.
                    parent: self.dice.one_in(2).then(|| self.dice.below(QUEUES + 1) as u16),
                };
                let queue = self.dice.below(QUEUES + 1) as u16;
                self.tell(&Event::Queue { queue, rules });
            }
            12 => {
                let held = if self.dice.one_in(2) { Presence::Present } else { Presence::Absent };
                let (dataset, node) = (self.dice.below(3) as u32, NodeId(self.dice.below(self.nodes()) as u32));
                self.tell(&Event::Warm { dataset, node, held });
            }
            13 => {
                let watts = self.dice.one_in(2).then(|| 200 * self.dice.below(20));
                self.tell(&Event::PowerCap { watts });
            }
            14 => {
                let job = JobId(1 + self.dice.below(self.next_job + 2));
                let length = self.dice.one_in(2).then(|| Span(self.dice.below(600_000_000_000)));
                // Messages about jobs that are over, or never were, change nothing.
                let event = match self.dice.below(4) {
                    0 => Event::Predicted { job, length },
                    1 => Event::Checkpointed { job, run: self.jobs.get(&job).map_or(1, |job| job.run) },
                    // No run has this number.
                    2 => Event::Stopped { job, run: 0, attained: Span(5) },
                    _ => Event::Ended { job, run: 0 },
                };
                self.tell(&event);
            }
            15 if !self.echoes.is_empty() => {
                let at = self.dice.below(self.echoes.len() as u64) as usize;
                let echo = self.echoes[at].clone();
                self.tell(&echo);
            }
            _ => {
                let node = NodeId(self.dice.below(self.nodes() + 1) as u32);
                let evidence = self.dice.below(1500) as u32;
                self.tell(&Event::Suspected { node, evidence });
            }
        }
    }

    /// Plans moves for some goal and applies them, at once or when they may be stale.
    pub(crate) fn consolidate(&mut self) {
        let Some(plans) = &mut self.plans else { return };
        let waiting: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| job.ranks.is_empty() && !job.cancelled).map(|(id, _)| *id).collect();
        let goal = match plans.below(4) {
            0 => Goal::FreeNodes { nodes: 1 + plans.below(3) as u32 },
            1 => Goal::FreeDomains { level: 1, domains: 1 + plans.below(2) as u32 },
            _ if waiting.is_empty() => return,
            _ => Goal::Start { job: waiting[plans.below(waiting.len() as u64) as usize] },
        };
        let late = plans.one_in(4);
        let seen = self.scheduler.snapshot().consolidate(goal);
        assert_eq!(seen, self.scheduler.consolidate(goal), "a snapshot plans otherwise");
        let Some(plan) = seen else { return };
        if late {
            self.act();
        }
        let fresh = self.scheduler.consolidate(goal).is_some_and(|present| present.id == plan.id);
        let stale = self.stale;
        let stops = self.jobs.values().filter(|job| job.stopping).count();
        self.tell(&Event::Apply { goal, plan: plan.id });
        let stopped = self.jobs.values().filter(|job| job.stopping).count() - stops;
        assert!(!fresh || stopped >= plan.moves.len(), "{stopped} of {} moves were made", plan.moves.len());
        assert_eq!(self.stale > stale, !fresh, "a plan that is stale is refused, and no other");
        self.applied += u64::from(fresh);
    }

    pub(crate) fn node_fault(&mut self) {
        let node = NodeId(self.dice.below(self.nodes()) as u32);
        let service = match self.dice.below(6) {
            0 => Service::Drained,
            1 => Service::Spare,
            2 | 3 => Service::Down,
            _ => Service::Up,
        };
        if service == Service::Down {
            self.down.insert(node);
            // Ranks there are gone at once.
            for job in self.jobs.values_mut().filter(|job| !job.ranks.is_empty()) {
                // It may have too few left to go on with.
                job.shrinks &= job.ranks.iter().all(|held| held.node != node);
                for held in job.ranks.iter_mut().filter(|held| held.node == node) {
                    held.mask = 0;
                }
            }
        } else {
            self.down.remove(&node);
        }
        // A spare must be idle; one that is not is an ordinary node.
        let service =
            if service == Service::Spare && !self.scheduler.fleet().idle(node) { Service::Up } else { service };
        self.twice(&Event::Node { node, service });
    }
}
