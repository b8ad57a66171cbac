//! What placements that want something bring, on synthetic work: one hall, the same jobs, one policy beside another.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::too_many_lines, reason = "one player of all kinds of events, read from top to bottom")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_hall::scheduler::{Action, DatasetId, Event, Gang, Grace, Presence, Scheduler, Settings, Submission};
use dh_policy::fleet::{NodeFacts, Service};
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

/// Data sets that a node's cache holds.
const CACHED: usize = 4;

#[derive(Clone, Copy)]
struct Job {
    at: u64,
    /// Seconds on a class of speed 1,000,000.
    length: u64,
    ranks: u32,
    accelerators: u8,
    dataset: Option<DatasetId>,
    /// The place of its speeds, from 1.
    speeds: u16,
}

/// What came of a run.
#[derive(Debug, Default)]
struct Ran {
    jobs: u64,
    /// Seconds, summed over jobs.
    completion: u64,
    queueing: u64,
    /// Ranks that found their data, and all that wanted some.
    warm: u64,
    wanted: u64,
    /// Node-seconds awake.
    awake: u64,
    woken: u64,
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }

    /// A whole number with this mean whose chance falls geometrically.
    fn about(&mut self, mean: u64) -> u64 {
        (1..20 * mean).find(|_| self.below(mean) == 0).unwrap_or(mean)
    }
}

/// Racks of four nodes of eight; half of the racks are of the second class if there are two.
fn settings(nodes: u32, classes: u32, placement: &str) -> Settings {
    let node = |node: u32| NodeFacts {
        class: u8::try_from((node * classes) / nodes).unwrap(),
        accelerators: 8,
        cpu_milli: 1_000_000,
        memory_mib: 1_000_000,
        path: vec![node / 4],
    };
    Settings {
        levels: vec!["rack".to_owned()],
        nodes: (0..nodes).map(node).collect(),
        placement: placement.to_owned(),
        ..Settings::default()
    }
}

/// Plays jobs, in order of their time, on a hall with caches, sleep and classes of `speeds`.
fn play(settings: Settings, jobs: &[Job], speeds: &[Vec<u32>]) -> Ran {
    let nodes = u64::try_from(settings.nodes.len()).unwrap();
    let mut scheduler = Scheduler::new(settings).unwrap();
    let second = |seconds: u64| SimTime(seconds * 1_000_000_000);
    let mut actions = Vec::new();
    for (id, speeds) in (1..).zip(speeds) {
        scheduler.step(SimTime(0), &Event::Speeds { id, speeds: speeds.clone() }, &mut actions);
    }
    let mut caches: BTreeMap<NodeId, VecDeque<DatasetId>> = BTreeMap::new();
    let mut asleep: BTreeSet<NodeId> = BTreeSet::new();
    // What is to come: ends, and nodes that are awake; by time.
    let mut due: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    let (mut ran, mut now, mut next) = (Ran::default(), 0, 0);
    loop {
        let tick = scheduler.wakeup().map(|at| at.0.div_ceil(1_000_000_000)).filter(|_| next < jobs.len());
        let arrival = jobs.get(next).map(|job| job.at);
        let Some(then) = [arrival, due.first_key_value().map(|(at, _)| *at), tick].into_iter().flatten().min() else {
            return ran;
        };
        ran.awake += (nodes - u64::try_from(asleep.len()).unwrap()) * (then - now);
        now = then;
        let mut events: VecDeque<Event> = due.remove(&now).unwrap_or_default().into();
        while let Some(job) = jobs.get(next).filter(|job| job.at == now) {
            let rank = Request { cpu_milli: 0, memory_mib: 0, accelerators: job.accelerators, milli: WHOLE, models: 0 };
            let need = Need { ranks: job.ranks, rank, within: 0, rails: Rails::Any };
            let gang = Gang {
                need,
                least_ranks: job.ranks,
                dataset: job.dataset,
                speeds: job.speeds,
                rank_watts: 0,
                grace: Grace::Preemptible,
            };
            events.push_back(Event::Submitted(Submission {
                job: JobId(u64::try_from(next).unwrap()),
                gang,
                queue: 0,
                priority: 0,
                length: Some(Span::from_secs(job.length)),
                attained: Span(0),
                since: second(now),
                deadline: None,
                kind: 0,
            }));
            next += 1;
        }
        events.push_back(Event::Tick);
        while let Some(event) = events.pop_front() {
            if let Event::Node { node, service: Service::Up } = &event {
                asleep.remove(node);
            }
            actions.clear();
            scheduler.step(second(now), &event, &mut actions);
            for action in actions.drain(..) {
                match action {
                    Action::Sleep { node } => {
                        if scheduler.fleet().idle(node) && asleep.insert(node) {
                            events.push_back(Event::Node { node, service: Service::Asleep });
                        }
                    }
                    Action::Wake { node } => {
                        ran.woken += 1;
                        due.entry(now + 120).or_default().push(Event::Node { node, service: Service::Up });
                    }
                    Action::Start { job, run, ranks } => {
                        let job_of = &jobs[usize::try_from(job.0).unwrap()];
                        let own = usize::from(job_of.speeds).checked_sub(1).map(|at| &speeds[at]);
                        let speed = |node| own.map_or(1_000_000, |own| own[usize::from(scheduler.fleet().class(node))]);
                        let slowest = ranks.iter().map(|held| speed(held.node)).min().unwrap();
                        let end = now + job_of.length * 1_000_000 / u64::from(slowest);
                        due.entry(end.max(now + 1)).or_default().push(Event::Ended { job, run });
                        ran.jobs += 1;
                        ran.queueing += now - job_of.at;
                        ran.completion += end - job_of.at;
                        let Some(dataset) = job_of.dataset else { continue };
                        for held in &ranks {
                            ran.wanted += 1;
                            let cache = caches.entry(held.node).or_default();
                            if cache.contains(&dataset) {
                                ran.warm += 1;
                                cache.retain(|kept| *kept != dataset);
                            } else {
                                let held_now = Presence::Present;
                                events.push_back(Event::Warm { dataset, node: held.node, held: held_now });
                            }
                            cache.push_back(dataset);
                            if cache.len() > CACHED {
                                let gone = cache.pop_front().unwrap();
                                let held_now = Presence::Absent;
                                events.push_back(Event::Warm { dataset: gone, node: held.node, held: held_now });
                            }
                        }
                    }
                    Action::Stop { .. }
                    | Action::Repair { .. }
                    | Action::Resize { .. }
                    | Action::Quarantined { .. }
                    | Action::NotApplied { .. }
                    | Action::Refused { .. } => unreachable!("nobody is displaced, and no node fails"),
                }
            }
        }
        if next % 50 == 0 {
            scheduler.check();
        }
    }
}

/// Jobs that come for a while, one every `every` seconds on average.
fn work(seed: u64, count: usize, every: u64, mut job: impl FnMut(&mut Dice) -> Job) -> Vec<Job> {
    let mut dice = Dice(seed);
    let mut at = 0;
    let jobs = (0..count).map(|_| {
        at += dice.about(every);
        Job { at, ..job(&mut dice) }
    });
    jobs.collect()
}

fn small(dice: &mut Dice) -> Job {
    let accelerators = [1, 1, 2, 4, 8][usize::try_from(dice.below(5)).unwrap()];
    let length = 300 + dice.about(3_600);
    Job { at: 0, length, ranks: 1, accelerators, dataset: None, speeds: 0 }
}

#[test]
fn energy_keeps_fewer_nodes_awake_and_lets_nobody_wait_longer() {
    for seed in 1..=3 {
        let jobs = work(seed, 1_500, 120, small);
        let run = |placement: &str| {
            let settings = settings(64, 1, placement);
            play(Settings { sleep_after: Some(Span::from_secs(600)), ..settings }, &jobs, &[])
        };
        let (plain, tight, energy) = (run("topology"), run("best-fit"), run("energy"));
        assert!(2 * energy.awake < plain.awake.min(tight.awake), "{energy:?}\n{plain:?}\n{tight:?}");
        assert!(energy.woken < plain.woken, "{energy:?}\n{plain:?}");
        assert!(energy.queueing <= plain.queueing + 60 * plain.jobs, "{energy:?}\n{plain:?}");
    }
}

#[test]
fn data_local_finds_more_data_where_it_runs() {
    for seed in 1..=3 {
        let jobs = work(seed, 1_500, 120, |dice| {
            // A few data sets are wanted often: the smaller of two dice.
            let dataset = u32::try_from(dice.below(60).min(dice.below(60))).unwrap();
            let ranks = [1, 1, 2, 4][usize::try_from(dice.below(4)).unwrap()];
            Job { ranks, accelerators: 4, dataset: Some(dataset), ..small(dice) }
        });
        let run = |placement: &str| play(settings(64, 1, placement), &jobs, &[]);
        let (plain, local) = (run("topology"), run("data-local"));
        assert!(2 * local.warm > 3 * plain.warm, "{local:?}\n{plain:?}");
        assert!(local.queueing <= plain.queueing + 10 * plain.jobs, "{local:?}\n{plain:?}");
    }
}

#[test]
fn heterogeneity_ends_jobs_sooner() {
    // One kind gains much from the new accelerators, one a little, one hardly.
    let speeds = vec![vec![250_000, 1_000_000], vec![600_000, 1_000_000], vec![950_000, 1_000_000]];
    for seed in 1..=3 {
        let jobs = work(seed, 1_500, 300, |dice| {
            let speeds = u16::try_from(1 + dice.below(3)).unwrap();
            Job { speeds, length: 600 + dice.about(7_200), ..small(dice) }
        });
        let run = |placement: &str| play(settings(16, 2, placement), &jobs, &speeds);
        let (plain, best) = (run("topology"), run("heterogeneity"));
        assert!(best.completion * 10 < plain.completion * 9, "{best:?}\n{plain:?}");
    }
}
