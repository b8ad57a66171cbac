//! Plays a trace: events in the order of time, and after those of one moment one pass over the waiting jobs.
//!
//! A pass looks at the head of each size of gang, the earliest first. Where a gang can neither start nor displace, no larger
//! one behind it can: so a pass costs one attempt for each size at most, beside what it starts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_policy::fairness::{Amounts, FairClock, Load, Part as Share, Progress, Queue, QueueId, Stretch, Tree, Usage};
use dh_policy::order::{Candidate, Key, Order};
use dh_policy::prediction::{History, Settings, Statistic};

use super::cluster::{Cluster, Part, SLOTS};
use super::trace::Job;

/// What an order is told of how long jobs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lengths {
    Unknown,
    True,
    /// What the history of the jobs of this size says.
    Predicted(Statistic),
    /// What the history of the jobs of this virtual cluster and size says.
    PredictedByVc(Statistic),
}

/// Who may start, and at whose cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starts {
    /// The head of the line or nobody, when there is room.
    InOrder,
    /// Whoever is first of those that fit; what is later in the order gives way.
    Preemptive,
}

/// A way to run the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Discipline {
    pub(crate) name: &'static str,
    pub(crate) order: &'static dyn Order,
    pub(crate) lengths: Lengths,
    pub(crate) starts: Starts,
    pub(crate) bound: Option<Stretch>,
    /// Nodes that each virtual cluster is guaranteed; none has a guarantee if this is empty.
    pub(crate) guarantees: Vec<u32>,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) end: u64,
    /// Mean of the demand over the capacity while it was there, at least 1 at each moment.
    pub(crate) contention: f64,
    /// Mean number of jobs while it was there.
    pub(crate) jobs: f64,
}

/// What became of all.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) preemptions: u64,
    pub(crate) attempts: u64,
}

/// Before everybody.
const NOBODY: (Key, u32) = (Stretch::key(SimTime(0)), 0);

const SECOND: u64 = 1_000_000_000;

fn moment(seconds: u64) -> SimTime {
    SimTime(seconds * SECOND)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    End,
    Rises,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Ahead,
    Waits,
    Runs { since: u64, lead: u64 },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Starting {
    Starts,
    Stops,
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    attained: u64,
    key: Key,
    length: Option<u64>,
    /// Timers of an earlier phase are stale.
    version: u32,
    parts: Vec<Part>,
    runs_before: bool,
    at_submit: (f64, f64),
    /// When it was submitted, in fair time.
    entered: SimTime,
}

pub(crate) struct Replay<'a> {
    pub(crate) jobs: &'a [Job],
    pub(crate) how: &'a Discipline,
    restart: u64,
    pub(crate) cluster: Cluster,
    /// The latest key on each node, due jobs aside: nobody earlier in the order finds anything there.
    pub(crate) latest: Vec<(Key, u32)>,
    /// The nodes by their latest key.
    pub(crate) by_latest: BTreeSet<((Key, u32), u32)>,
    pub(crate) states: Vec<State>,
    /// Who waits, by group and size. Without guarantees all are one group.
    waiting: BTreeMap<(usize, u32), BTreeSet<(Key, u32)>>,
    /// The virtual clusters with what they are guaranteed, if they are.
    pub(crate) tree: Option<(Tree, Vec<QueueId>)>,
    timers: BinaryHeap<Reverse<(u64, Kind, u32, u32)>>,
    fair: FairClock,
    /// Who falls due when, in fair time.
    due: BinaryHeap<Reverse<(SimTime, u32, u32)>>,
    history: History,
    pub(crate) played: Played,
    demand: u64,
    present: u64,
    sums: (f64, f64),
    clock: u64,
}

/// Plays `jobs` on `nodes` nodes. A job that starts again does nothing for `restart` seconds.
pub(crate) fn replay(jobs: &[Job], how: &Discipline, nodes: u32, restart: u64) -> Played {
    let state = State {
        phase: Phase::Ahead,
        attained: 0,
        key: Key::default(),
        length: None,
        version: 0,
        parts: Vec::new(),
        runs_before: false,
        at_submit: (0.0, 0.0),
        entered: SimTime(0),
    };
    let mut replay = Replay {
        jobs,
        how,
        restart,
        cluster: Cluster::new(nodes),
        latest: vec![NOBODY; nodes as usize],
        by_latest: (0..nodes).map(|node| (NOBODY, node)).collect(),
        states: vec![state; jobs.len()],
        waiting: BTreeMap::new(),
        tree: guaranteed(how, nodes),
        timers: BinaryHeap::new(),
        fair: FairClock::new(SimTime(0), Load { demand: 0, capacity: 1 }),
        due: BinaryHeap::new(),
        history: History::new(Settings::default()),
        played: Played { outcomes: vec![Outcome::default(); jobs.len()], preemptions: 0, attempts: 0 },
        demand: 0,
        present: 0,
        sums: (0.0, 0.0),
        clock: 0,
    };
    replay.run();
    replay.played
}

/// A tree of one level, with the guarantees of `how`.
fn guaranteed(how: &Discipline, nodes: u32) -> Option<(Tree, Vec<QueueId>)> {
    let of = |nodes: u32| Amounts { accelerators_milli: u64::from(nodes * SLOTS) * 1000, ..Amounts::NONE };
    let mut tree = Tree::new(of(nodes), Span(0));
    let queues = how.guarantees.iter().map(|nodes| Queue { guaranteed: of(*nodes), ..Queue::new("vc") });
    let leaves: Result<Vec<_>, _> = queues.map(|queue| tree.add(QueueId(0), queue)).collect();
    leaves.ok().filter(|leaves| !leaves.is_empty()).map(|leaves| (tree, leaves))
}

impl Replay<'_> {
    fn run(&mut self) {
        let mut arrivals = 0..u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        loop {
            let arrival = self.jobs.get(arrivals.start as usize).map(|job| job.submit);
            let timer = self.timers.peek().map(|Reverse(timer)| timer.0);
            let due = self.due.peek().map(|Reverse(due)| self.fair.when(due.0).0.div_ceil(SECOND).max(self.clock));
            let Some(now) = arrival.into_iter().chain(timer).chain(due).min() else { break };
            self.advance(now);
            let mut moved = self.fall_due(now);
            while let Some(&Reverse((at, kind, job, version))) = self.timers.peek() {
                if at > now {
                    break;
                }
                self.timers.pop();
                if self.states[job as usize].version == version {
                    moved = true;
                    self.fire(kind, job, now);
                }
            }
            while let Some(job) = arrivals.clone().next().filter(|job| self.jobs[*job as usize].submit == now) {
                arrivals.next();
                moved = true;
                self.present += 1;
                self.asked(now, self.demand + u64::from(self.jobs[job as usize].size));
                self.states[job as usize].at_submit = self.sums;
                self.states[job as usize].entered = self.fair.read(moment(now));
                self.arrive(job);
            }
            if moved {
                self.pass(now);
            }
        }
        assert!(self.waiting.values().all(BTreeSet::is_empty), "a job never started");
    }

    fn advance(&mut self, now: u64) {
        let span = dh_units::real(now - self.clock);
        let capacity = dh_units::real(u64::from(self.cluster.nodes() * SLOTS));
        self.sums.0 += span * (dh_units::real(self.demand) / capacity).max(1.0);
        self.sums.1 += span * dh_units::real(self.present);
        self.clock = now;
    }

    /// Puts the jobs in front that have fallen due; says whether any has.
    fn fall_due(&mut self, now: u64) -> bool {
        let mut any = false;
        while let Some(&Reverse((due, job, version))) = self.due.peek() {
            if self.fair.read(moment(now)) < due {
                break;
            }
            self.due.pop();
            if self.states[job as usize].version == version {
                let at = (self.group(job), self.jobs[job as usize].size);
                let state = &mut self.states[job as usize];
                let line = self.waiting.entry(at).or_default();
                line.remove(&(state.key, job));
                state.key = Stretch::key(due);
                line.insert((state.key, job));
                any = true;
            }
        }
        any
    }

    fn progress(&self, job: u32, attained: u64) -> Progress {
        Progress { entered: self.states[job as usize].entered, attained: Span::from_secs(attained) }
    }

    fn asked(&mut self, now: u64, demand: u64) {
        self.demand = demand;
        let capacity = u64::from(self.cluster.nodes() * SLOTS);
        self.fair.set(moment(now), Load { demand, capacity });
    }

    fn fire(&mut self, kind: Kind, job: u32, now: u64) {
        match kind {
            Kind::End => self.end(job, now),
            Kind::Rises => self.refresh(job, now),
        }
    }

    /// Seconds of work done.
    fn attained(&self, job: u32, now: u64) -> u64 {
        let state = &self.states[job as usize];
        match state.phase {
            Phase::Runs { since, lead } => state.attained + (now - since).saturating_sub(lead),
            Phase::Ahead | Phase::Waits | Phase::Ended => state.attained,
        }
    }

    fn candidate(&self, job: u32, attained: u64) -> Candidate {
        let known = &self.jobs[job as usize];
        Candidate {
            job: JobId(u64::from(job)),
            priority: 0,
            submitted: moment(known.submit),
            milli: u64::from(known.size) * 1000,
            attained: Span::from_secs(attained),
            length: self.states[job as usize].length.map(Span::from_secs),
            deadline: None,
        }
    }

    fn groups(&self, job: u32) -> [u64; 3] {
        let known = &self.jobs[job as usize];
        let vc = known.vc.map_or(0, |vc| u64::from(vc) + 1);
        [1 << 32 | vc << 16 | u64::from(known.size), 2 << 32 | u64::from(known.size), 3 << 32]
    }

    /// Asks for the length anew.
    fn estimate(&mut self, job: u32, attained: u64) {
        let groups = self.groups(job);
        let (groups, statistic) = match self.how.lengths {
            Lengths::Unknown => return,
            Lengths::True => {
                self.states[job as usize].length = Some(self.jobs[job as usize].duration);
                return;
            }
            Lengths::Predicted(statistic) => (&groups[1..], statistic),
            Lengths::PredictedByVc(statistic) => (&groups[..], statistic),
        };
        let estimate = self.history.remaining(groups, Span::from_secs(attained), statistic);
        self.states[job as usize].length = estimate.map(|estimate| attained + estimate.remaining.as_secs());
    }

    fn arrive(&mut self, job: u32) {
        self.estimate(job, 0);
        let key = self.how.order.key(&self.candidate(job, 0));
        self.wait(job, key);
    }

    pub(crate) fn wait(&mut self, job: u32, key: Key) {
        let group = self.group(job);
        let progress = self.progress(job, self.states[job as usize].attained);
        let known = &self.jobs[job as usize];
        let state = &mut self.states[job as usize];
        state.phase = Phase::Waits;
        state.key = key;
        state.version += 1;
        let version = state.version;
        if let Some(bound) = self.how.bound {
            self.due.push(Reverse((bound.due_at(&progress), job, version)));
        }
        self.waiting.entry((group, known.size)).or_default().insert((key, job));
    }

    /// Sets the key of a running job, and the time when it rises.
    fn refresh(&mut self, job: u32, now: u64) {
        let attained = self.attained(job, now);
        let Phase::Runs { since, lead } = self.states[job as usize].phase else { return };
        let lead_left = (since + lead).saturating_sub(now);
        let progress = self.progress(job, attained);
        let state = &mut self.states[job as usize];
        // A job that was due keeps its place; one that was not does not gain it by running.
        if let Some(bound) = self.how.bound.filter(|_| Stretch::is_due(state.key)) {
            let holds = bound.holds_for(&progress, self.fair.read(moment(now + lead_left))).0.div_ceil(SECOND);
            if holds > 0 {
                self.timers.push(Reverse((now + lead_left + holds, Kind::Rises, job, state.version)));
                return;
            }
        }
        self.estimate(job, attained);
        let candidate = self.candidate(job, attained);
        let state = &mut self.states[job as usize];
        state.key = self.how.order.key(&candidate);
        if let Some(more) = self.how.order.rises_after(&candidate) {
            let at = now + lead_left + more.0.div_ceil(SECOND).max(1);
            self.timers.push(Reverse((at, Kind::Rises, job, state.version)));
        }
        self.renew(job, now);
    }

    fn start(&mut self, job: u32, parts: Vec<Part>, now: u64) {
        self.cluster.take(job, &parts);
        self.tell_tree(job, Starting::Starts);
        let known = &self.jobs[job as usize];
        let state = &mut self.states[job as usize];
        let lead = if state.runs_before { self.restart } else { 0 };
        state.phase = Phase::Runs { since: now, lead };
        state.parts = parts;
        state.runs_before = true;
        state.version += 1;
        let end = now + lead + known.duration - state.attained;
        self.timers.push(Reverse((end, Kind::End, job, state.version)));
        if self.how.starts == Starts::Preemptive {
            self.refresh(job, now);
        }
    }

    pub(crate) fn stop(&mut self, job: u32, now: u64) {
        let attained = self.attained(job, now);
        let state = &mut self.states[job as usize];
        state.attained = attained;
        let parts = std::mem::take(&mut state.parts);
        self.tell_tree(job, Starting::Stops);
        self.cluster.give(job, &parts);
        if self.how.starts == Starts::Preemptive {
            for part in parts {
                self.renew_node(part.node, now);
            }
        }
    }

    fn end(&mut self, job: u32, now: u64) {
        self.stop(job, now);
        let known = self.jobs[job as usize];
        let state = &mut self.states[job as usize];
        state.phase = Phase::Ended;
        state.version += 1;
        self.present -= 1;
        self.asked(now, self.demand - u64::from(known.size));
        let state = &self.states[job as usize];
        let there = dh_units::real((now - known.submit).max(1));
        self.played.outcomes[job as usize] = Outcome {
            end: now,
            contention: (self.sums.0 - state.at_submit.0) / there,
            jobs: (self.sums.1 - state.at_submit.1) / there,
        };
        if matches!(self.how.lengths, Lengths::Predicted(_) | Lengths::PredictedByVc(_)) {
            self.history.observe(&self.groups(job), Span::from_secs(known.duration));
        }
    }

    fn pass(&mut self, now: u64) {
        let groups = self.tree.as_ref().map_or(1, |(_, leaves)| leaves.len());
        let mut closed = vec![u32::MAX; groups];
        loop {
            let open = self.waiting.iter().filter(|((group, size), _)| *size < closed[*group]);
            let heads = open.filter_map(|(at, line)| {
                let (key, job) = *line.first()?;
                Some((Reverse(self.is_entitled(job)), key, job, *at))
            });
            let Some((_, key, job, (group, size))) = heads.min() else { return };
            self.played.attempts += 1;
            let parts = match (self.cluster.find(size), self.how.starts) {
                (Some(parts), _) => Some(parts),
                (None, Starts::InOrder) => return,
                (None, Starts::Preemptive) => self.displace(key, job, size, now),
            };
            if let Some(parts) = parts {
                if let Some(line) = self.waiting.get_mut(&(group, size)) {
                    line.remove(&(key, job));
                }
                self.start(job, parts, now);
            } else {
                closed[group] = size;
            }
        }
    }

    /// Jobs of one group compete by the order alone.
    fn group(&self, job: u32) -> usize {
        self.tree.as_ref().map_or(0, |_| self.jobs[job as usize].vc.map_or(0, usize::from))
    }

    /// What a job counts for in the tree, and where.
    pub(crate) fn part_in_tree(&self, leaves: &[QueueId], job: u32) -> Share {
        let milli = u64::from(self.jobs[job as usize].size) * 1000;
        let amounts = Amounts { accelerators_milli: milli, ..Amounts::NONE };
        Share { queue: leaves[self.jobs[job as usize].vc.map_or(0, usize::from)], amounts }
    }

    /// Whether its virtual cluster is within its guarantee with it.
    fn is_entitled(&self, job: u32) -> bool {
        self.tree.as_ref().is_some_and(|(tree, leaves)| {
            let part = self.part_in_tree(leaves, job);
            part.amounts.beyond(tree.deficit(part.queue)).is_none()
        })
    }

    /// Tells the tree that a job starts, or stops.
    fn tell_tree(&mut self, job: u32, starts: Starting) {
        let Some((mut tree, leaves)) = self.tree.take() else { return };
        let part = self.part_in_tree(&leaves, job);
        match starts {
            Starting::Starts => tree.start(part.queue, part.amounts),
            Starting::Stops => {
                let never = SimTime(0);
                tree.stop(part.queue, &Usage { amounts: part.amounts, from: never, to: never });
            }
        }
        self.tree = Some((tree, leaves));
    }

    /// Finds the latest keys on the nodes of `job` anew. Where lengths are true, keys fall as jobs run: then this is a bound.
    fn renew(&mut self, job: u32, now: u64) {
        for index in 0..self.states[job as usize].parts.len() {
            self.renew_node(self.states[job as usize].parts[index].node, now);
        }
    }

    fn renew_node(&mut self, node: u32, now: u64) {
        let keys = self.cluster.on[node as usize].iter().map(|(job, _)| self.running_key(*job, now));
        let latest = keys.filter(|(key, _)| !Stretch::is_due(*key)).max();
        let latest = latest.unwrap_or(NOBODY);
        let before = std::mem::replace(&mut self.latest[node as usize], latest);
        if before != latest {
            self.by_latest.remove(&(before, node));
            self.by_latest.insert((latest, node));
        }
    }

    /// The present key of a running job.
    pub(crate) fn running_key(&self, job: u32, now: u64) -> (Key, u32) {
        let state = &self.states[job as usize];
        if self.how.lengths == Lengths::True {
            return (self.how.order.key(&self.candidate(job, self.attained(job, now))), job);
        }
        (state.key, job)
    }
}
