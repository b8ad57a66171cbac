//! Random events against the machine: its own asserts hold, two runs of one seed agree to the last bit, a run that is
//! saved and restored half-way ends in the same state, and when the faults stop, every job ends.
//!
//! `DH_SEED=0x2a cargo test -p dh-hall --test storm` repeats one seed.
#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use dh_core::{AttemptId, JobId, NodeId, Rank, SimTime, TaskId};
use dh_hall::scheduler::{Backfill, Settings};
use dh_hall::{Action, End, EndCause, Event, Hall, JobKind, JobSpec, NodeSpec, Part, Protocol, QueueSpec};

/// `SplitMix64` (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

/// The world outside: processes that start, run and end, and a server that crashes.
struct World {
    dice: Dice,
    hall: Hall,
    now: u64,
    log: Vec<(SimTime, Event)>,
    /// Ranks that run, by attempt.
    alive: BTreeMap<AttemptId, BTreeSet<Rank>>,
    stopping: BTreeSet<AttemptId>,
    accepted: BTreeSet<JobId>,
    faults: bool,
}

/// Nothing overtakes the line.
fn strict() -> Box<Settings> {
    Box::new(Settings { placement: "best-fit".into(), backfill: Backfill::None, ..Settings::default() })
}

fn configured(nodes: u64, slots: u64) -> Event {
    Event::Configured {
        nodes: (0..nodes)
            .map(|n| NodeSpec { name: format!("n{n}"), pool: "p".into(), slots: slots as u32, facts: None })
            .collect(),
        queues: BTreeMap::from([
            ("default".into(), QueueSpec { priority: 0, max_jobs: None, ..QueueSpec::default() }),
            ("urgent".into(), QueueSpec { priority: 10, max_jobs: Some(5), ..QueueSpec::default() }),
        ]),
        policy: strict(),
    }
}

fn end(code: Option<i32>, cause: EndCause) -> End {
    End { code, signal: None, cause, message: String::new() }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            dice: Dice(seed),
            hall: Hall::default(),
            now: 0,
            log: Vec::new(),
            alive: BTreeMap::new(),
            stopping: BTreeSet::new(),
            accepted: BTreeSet::new(),
            faults: true,
        };
        let (nodes, slots) = (1 + world.dice.below(5), 1 + world.dice.below(8));
        world.event(Event::ServerStarted);
        world.event(configured(nodes, slots));
        world
    }

    fn event(&mut self, event: Event) {
        self.now += self.dice.below(2_000_000_000);
        let now = SimTime(self.now);
        self.log.push((now, event.clone()));
        let mut actions = Vec::new();
        self.hall.step(now, event, &mut actions);
        for action in actions {
            match action {
                Action::Accepted { job } => {
                    self.accepted.insert(job);
                }
                Action::Start { attempt, placement } => {
                    let ranks: BTreeSet<Rank> = placement.iter().map(|placed| placed.rank).collect();
                    let wanted = self.hall.job(attempt.job).unwrap().spec.ranks;
                    assert_eq!(ranks.len() as u32, wanted, "{attempt} starts partially");
                    let earlier = self.alive.keys().find(|other| other.job == attempt.job);
                    assert_eq!(earlier, None, "{attempt} starts while an older attempt lives");
                    self.alive.insert(attempt, ranks);
                }
                Action::Stop { attempt } => {
                    self.stopping.insert(attempt);
                }
                Action::Close { attempt } => {
                    assert!(self.alive.remove(&attempt).is_none_or(|ranks| ranks.is_empty()), "{attempt} still runs");
                    self.stopping.remove(&attempt);
                }
                Action::Serve { .. } => {}
            }
        }
    }

    fn some_task(&mut self) -> Option<TaskId> {
        let all: Vec<TaskId> = self
            .alive
            .iter()
            .flat_map(|(attempt, ranks)| ranks.iter().map(|rank| TaskId { attempt: *attempt, rank: *rank }))
            .collect();
        (!all.is_empty()).then(|| all[self.dice.below(all.len() as u64) as usize])
    }

    fn end_task(&mut self, task: TaskId, how: End) {
        if let Some(ranks) = self.alive.get_mut(&task.attempt) {
            ranks.remove(&task.rank);
        }
        self.event(Event::TaskEnded { task, end: how });
    }

    fn submit(&mut self) {
        let dice = &mut self.dice;
        let service = dice.below(8) == 0;
        let slots_per_rank = 1 + dice.below(3) as u32;
        let part = match dice.below(6) {
            0 => Some(Part::Share { milli: 1 + dice.below(999) as u16, memory_bytes: None }),
            1 => Some(Part::Slice { profile: "3g.40gb".into(), milli: 428, size: 4, starts: 0b0001_0001 }),
            2 => Some(Part::Slice { profile: "1g.10gb".into(), milli: 142, size: 1, starts: 0b0111_1111 }),
            _ => None,
        };
        let spec = JobSpec {
            name: "storm".into(),
            command: vec!["true".into()],
            env: BTreeMap::new(),
            ranks: 1 + dice.below(6) as u32,
            slots_per_rank: if part.is_some() { 1 } else { slots_per_rank },
            part,
            queue: if dice.below(3) == 0 { "urgent".into() } else { "default".into() },
            priority: dice.below(4) as i32,
            retries: dice.below(3) as u32,
            time_limit: (dice.below(3) == 0).then(|| dh_core::time::Span::from_secs(1 + dice.below(30))),
            memory_bytes: None,
            kind: if service {
                JobKind::Service { service: "s".into(), model: "m".into(), protocol: Protocol::Chat }
            } else {
                JobKind::Batch
            },
            workload: None,
            ranks_min: None,
            within: None,
            datasets: Vec::new(),
            data_seed: None,
            checkpoints: None,
            secrets: BTreeMap::new(),
            nodes: Vec::new(),
            avoid_nodes: Vec::new(),
        };
        if self.hall.check(&spec).is_ok() {
            let key = (self.dice.below(4) == 0).then(|| format!("k{}", self.dice.below(20)));
            self.event(Event::Submitted { spec: Box::new(spec), by: "storm".into(), idempotency_key: key });
        }
    }

    fn crash_and_restart(&mut self) {
        self.event(Event::ServerStarted);
        for attempt in self.hall.open_attempts() {
            let ranks = self.hall.job(attempt.job).unwrap().spec.ranks;
            for rank in 0..ranks {
                // A task may have finished while nobody listened.
                let how =
                    if self.dice.below(5) == 0 { end(Some(0), EndCause::Exited) } else { end(None, EndCause::Lost) };
                self.end_task(TaskId { attempt, rank: Rank(rank) }, how);
            }
        }
        assert_eq!(self.hall.open_attempts(), []);
        let (nodes, slots) = (1 + self.dice.below(5), 1 + self.dice.below(8));
        self.event(configured(nodes, slots));
    }

    fn round(&mut self) {
        match self.dice.below(if self.faults { 14 } else { 9 }) {
            0..=2 if self.faults => self.submit(),
            0..=4 => {
                if let Some(task) = self.some_task() {
                    let code = i32::from(self.faults && self.dice.below(3) == 0);
                    let how = if self.stopping.contains(&task.attempt) {
                        end(None, EndCause::Stopped)
                    } else {
                        end(Some(code), EndCause::Exited)
                    };
                    self.end_task(task, how);
                }
            }
            5 => {
                if let Some(task) = self.some_task() {
                    self.event(Event::TaskStarted { task, pid: 7 });
                    self.event(Event::ServiceReady { task });
                }
            }
            6..=8 => self.event(Event::Tick),
            9 => {
                let job = JobId(1 + self.dice.below(30));
                self.event(Event::CancelRequested { job, by: "storm".into() });
            }
            10 => {
                let node = NodeId(self.dice.below(6) as u32);
                let drained = self.dice.below(2) == 0;
                self.event(Event::NodeDrained { node, drained });
            }
            11 => {
                // A report from an attempt that was fenced long ago must change nothing that lives.
                let attempt = AttemptId { job: JobId(1 + self.dice.below(10)), attempt: 1 };
                if !self.alive.contains_key(&attempt) {
                    let task = TaskId { attempt, rank: Rank(0) };
                    self.event(Event::TaskEnded { task, end: end(Some(1), EndCause::Exited) });
                }
            }
            12 if self.dice.below(6) == 0 => self.crash_and_restart(),
            _ => self.submit(),
        }
    }

    fn calm(&mut self) {
        self.faults = false;
        self.event(configured(8, 24));
        for node in 0..8 {
            self.event(Event::NodeDrained { node: NodeId(node), drained: false });
        }
        let services: Vec<JobId> =
            self.hall.jobs().filter(|job| job.spec.kind.is_service()).map(|job| job.id).collect();
        for job in services {
            self.event(Event::CancelRequested { job, by: "storm".into() });
        }
        for _ in 0..20_000 {
            if self.hall.jobs().all(|job| !job.open()) {
                return;
            }
            self.round();
            self.now += 1_000_000_000;
        }
        let open: Vec<_> = self.hall.jobs().filter(|job| job.open()).map(|job| self.hall.why(job.id)).collect();
        assert!(open.is_empty(), "never end: {open:?}");
    }
}

fn run(seed: u64) -> (Hall, Vec<(SimTime, Event)>) {
    let mut world = World::new(seed);
    for _ in 0..400 {
        world.round();
    }
    // Crash first, so that a smaller hall of an earlier configuration owns nothing any more.
    world.crash_and_restart();
    world.calm();
    let remembered: BTreeSet<JobId> = world.hall.jobs().map(|job| job.id).collect();
    assert_eq!(remembered, world.accepted, "an accepted job was lost");
    (world.hall, world.log)
}

#[test]
fn storms_break_nothing_and_replay_alike() {
    let seeds = match std::env::var("DH_SEED") {
        Ok(text) => {
            let seed = u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
            seed..seed + 1
        }
        Err(_) if std::env::var_os("DATAHALL_PROVE").is_some() => 0..20_000,
        Err(_) => 0..300,
    };
    let mut events = 0;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "replay: DH_SEED={seed:#x} cargo test --release -p dh-hall --test storm");
        let (hall, log) = outcome.unwrap();
        let mut again = Hall::default();
        for (number, (now, event)) in log.iter().enumerate() {
            if number == log.len() / 2 {
                let saved = serde_json::to_string(&again).unwrap();
                again = serde_json::from_str(&saved).unwrap();
            }
            let text = serde_json::to_string(event).unwrap();
            again.step(*now, serde_json::from_str(&text).unwrap(), &mut Vec::new());
        }
        assert_eq!(again.state_hash(), hall.state_hash(), "seed {seed:#x} replays to another state");
        events += log.len();
    }
    assert!(events > 300, "the storm was a calm");
}
