//! The loop: the next thing that happens, what the scheduler makes of it, and what follows.

use std::collections::BTreeSet;
use std::iter::Peekable;

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_hall::scheduler::{Action, Cause, Event, RunId, Scheduler, Submission};
use dh_policy::fleet::{Holding, Service};

use super::contention::{Contention, Sharing};
use super::interleave::Interleaving;
use super::live::{Costs, Leaving, Live, Profile, Running, Work};
use super::moves::{self, Idle, Moved, Moves};
use super::observer::{Happening, Observer};
use super::queue::{Due, Queue};
use super::warm::{Caches, Fetched, Warm};
use crate::spread::ByJob;

/// A job that comes. Arrivals are in order of time, and their jobs' ids are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: SimTime,
    /// What it asks for, and what the scheduler is told of its length.
    pub submission: Submission,
    /// What it has to do, which the scheduler is not told.
    pub work: Work,
}

/// A node that fails or comes back. Faults are in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: SimTime,
    /// The node.
    pub node: NodeId,
    /// What it is from then on.
    pub service: Service,
}

/// Why a run stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything is done.
    Done,
    /// Jobs are left that never start: nothing is to come that could start them.
    Stuck {
        /// How many.
        jobs: usize,
    },
    /// The time given was over.
    Time,
}

/// From the decision to wake a node to the first process on it. Stated assumption: a server that was shut down boots in two
/// minutes.
pub const WAKE: Span = Span::from_secs(120);

/// A run.
#[derive(Debug)]
pub struct Kernel<A: Iterator<Item = Arrival>, F: Iterator<Item = Fault>> {
    pub(super) scheduler: Scheduler,
    arrivals: Peekable<A>,
    faults: Peekable<F>,
    profiles: Vec<Profile>,
    pub(super) live: ByJob<Live>,
    queue: Queue,
    pub(super) now: SimTime,
    events: u64,
    actions: Vec<Action>,
    /// What woke nodes and sent them to sleep takes.
    wake: Span,
    /// What jobs share beside nodes, if they do.
    contention: Option<Contention>,
    /// When plans of moves are asked for, if they are.
    pub(super) moves: Option<Moves>,
    /// What nodes have in their drives, if that is played.
    warm: Option<Warm>,
    /// Who is beside whom on the same accelerators, where that is done.
    interleaving: Option<Interleaving>,
}

impl<A: Iterator<Item = Arrival>, F: Iterator<Item = Fault>> Kernel<A, F> {
    /// A run of `arrivals` and `faults` under `scheduler`. A work's profile is its place in `profiles`; what is not there
    /// counts as the default.
    pub fn new(scheduler: Scheduler, arrivals: A, faults: F, profiles: Vec<Profile>) -> Self {
        let interleaving = scheduler.settings().interleave.map(|contention| Interleaving::new(&profiles, contention));
        Self {
            interleaving,
            scheduler,
            arrivals: arrivals.peekable(),
            faults: faults.peekable(),
            profiles,
            live: ByJob::default(),
            queue: Queue::default(),
            now: SimTime(0),
            events: 0,
            actions: Vec::new(),
            wake: WAKE,
            contention: None,
            moves: None,
            warm: None,
        }
    }

    /// The same run with storage and networks that running jobs share.
    #[must_use]
    pub fn sharing(self, sharing: Sharing) -> Self {
        Self { contention: Contention::new(sharing), ..self }
    }

    /// The same run with data sets that nodes read and keep.
    #[must_use]
    pub fn reading(self, caches: Caches) -> Self {
        Self { warm: Some(Warm::new(caches)), ..self }
    }

    /// What reading data sets came to, if it is played.
    pub fn fetched(&self) -> Option<Fetched> {
        self.warm.as_ref().map(|warm| warm.fetched)
    }

    /// The same run in which plans of moves are asked for at such times, and carried out if they pay.
    #[must_use]
    pub fn consolidating(self, every: Span, idle: Idle) -> Self {
        Self { moves: Some(Moves::new(every, idle)), ..self }
    }

    /// What moves came to, if there were any plans.
    pub fn moved(&self) -> Option<Moved> {
        self.moves.as_ref().map(|moves| moves.moved)
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// The time of the last event.
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// Events that the scheduler was told.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Tells the scheduler what holds before anything happens.
    pub fn open(&mut self, events: &[Event], observer: &mut impl Observer) {
        for event in events {
            if let Event::Node { node, service } = event {
                self.service(*node, *service, observer);
            } else {
                self.tell(event, observer);
            }
        }
    }

    /// Plays events until `until`, or until nothing is to come.
    pub fn run(&mut self, until: SimTime, observer: &mut impl Observer) -> Stopped {
        loop {
            let arrival = self.arrivals.peek().map(|arrival| arrival.at);
            // Faults alone keep nobody busy: once all work is done, they do not matter.
            let busy = arrival.is_some() || !self.live.is_empty();
            if !busy {
                // Ends that were set before a job became faster are no reason to let time pass.
                self.queue.pass_over_jobs();
            }
            let due = self.queue.peek();
            let fault = if busy { self.faults.peek().map(|fault| fault.at) } else { None };
            let tick = if busy { self.scheduler.wakeup() } else { None };
            let Some(next) = [due, fault, arrival, tick].into_iter().flatten().min() else {
                observer.settled(self.now, &self.scheduler);
                let jobs = self.live.len();
                return if jobs == 0 { Stopped::Done } else { Stopped::Stuck { jobs } };
            };
            // Where nothing is to come, nothing moves either.
            let plan = self.moves.as_ref().map(|moves| moves.next).filter(|plan| busy && *plan < next);
            let next = plan.unwrap_or(next);
            if next > until {
                return Stopped::Time;
            }
            if next > self.now {
                observer.settled(self.now, &self.scheduler);
            }
            self.now = self.now.max(next);
            if plan == Some(next) {
                self.consolidate(observer);
            } else if due == Some(next) {
                self.due(observer);
            } else if fault == Some(next) {
                if let Some(fault) = self.faults.next() {
                    self.fault(fault, observer);
                }
            } else if arrival == Some(next) {
                if let Some(arrival) = self.arrivals.next() {
                    self.arrive(&arrival, observer);
                }
            } else {
                self.tell(&Event::Tick, observer);
            }
        }
    }

    fn arrive(&mut self, arrival: &Arrival, observer: &mut impl Observer) {
        let live = Live::new(&arrival.submission, self.now, arrival.work);
        let facts = live.facts;
        self.live.insert(arrival.submission.job.0, live);
        observer.work(arrival.submission.job, arrival.work);
        observer.happened(self.now, Happening::Submitted(&facts), &self.scheduler);
        self.tell(&Event::Submitted(arrival.submission), observer);
    }

    fn due(&mut self, observer: &mut impl Observer) {
        match self.queue.pop() {
            Some((_, Due::End { job, generation })) if self.is(job, generation) => self.end(job, observer),
            Some((_, Due::Gone { job, generation })) => {
                if self.is(job, generation) {
                    self.gone(job, observer);
                }
            }
            Some((_, Due::Awake { node })) => self.service(node, Service::Up, observer),
            Some((_, Due::Asleep { node }))
                if self.scheduler.fleet().idle(node) && self.scheduler.fleet().service(node) == Service::Up =>
            {
                self.service(node, Service::Asleep, observer);
            }
            Some((_, Due::Warm { dataset, node, held })) => {
                self.tell(&Event::Warm { dataset, node, held }, observer);
            }
            Some((_, Due::End { .. } | Due::Asleep { .. })) | None => {}
        }
    }

    /// Whether a job is still in the run in which something was set.
    fn is(&self, job: JobId, generation: u32) -> bool {
        self.live.get(&job.0).is_some_and(|live| live.generation == generation)
    }

    /// A job that was told to stop is gone, and will be back.
    fn gone(&mut self, job: JobId, observer: &mut impl Observer) {
        let Some(live) = self.live.get_mut(&job.0) else { return };
        let (run, attained) = (live.started_as, live.kept);
        if let Some(leaving) = live.leaving.take() {
            let what = Happening::Stopped {
                job: &live.facts,
                cause: leaving.cause,
                held: self.now.since(leaving.since),
                kept: leaving.kept,
                lost: leaving.lost,
                ranks: &leaving.ranks,
            };
            observer.happened(self.now, what, &self.scheduler);
        }
        self.tell(&Event::Stopped { job, run, attained }, observer);
    }

    /// Tells `observer` what is not over: after [`Self::run`].
    pub fn close(&self, observer: &mut impl Observer) {
        #[expect(clippy::disallowed_methods, reason = "sorted by id before anything is told")]
        let mut jobs: Vec<&Live> = self.live.values().collect();
        jobs.sort_unstable_by_key(|live| live.facts.job);
        for live in jobs {
            let held = live.run.as_ref().map(|run| (run.since, run.ranks.as_slice()));
            let held = held.or_else(|| live.leaving.as_ref().map(|leaving| (leaving.since, leaving.ranks.as_slice())));
            let what = Happening::Unfinished {
                job: &live.facts,
                first_start: live.first_start,
                since: held.map(|(since, _)| since),
                kept: Span(live.done(self.now).0.saturating_sub(live.kept.0)),
                ranks: held.map_or(&[], |(_, ranks)| ranks),
            };
            observer.happened(self.now, what, &self.scheduler);
        }
    }

    fn end(&mut self, job: JobId, observer: &mut impl Observer) {
        let Some(live) = self.live.remove(&job.0) else { return };
        self.shares_no_more(job, observer);
        if let Some(run) = &live.run {
            let what = Happening::Ended {
                job: &live.facts,
                first_start: live.first_start.unwrap_or(self.now),
                held: self.now.since(run.since),
                kept: Span(live.length.0.saturating_sub(live.kept.0)),
                stops: live.stops,
                fate: live.fate,
                ranks: &run.ranks,
            };
            observer.happened(self.now, what, &self.scheduler);
        }
        self.tell(&Event::Ended { job, run: live.started_as }, observer);
    }

    fn fault(&mut self, fault: Fault, observer: &mut impl Observer) {
        if fault.service == Service::Down {
            self.freeze(fault.node, observer);
        }
        self.service(fault.node, fault.service, observer);
    }

    fn service(&mut self, node: NodeId, service: Service, observer: &mut impl Observer) {
        self.tell(&Event::Node { node, service }, observer);
        observer.happened(self.now, Happening::Node { node, service }, &self.scheduler);
    }

    /// Gangs on a node that fails stand still, and what they did since their last checkpoint is lost.
    fn freeze(&mut self, node: NodeId, observer: &mut impl Observer) {
        for job in self.scheduler.jobs_on(node) {
            let every = self.costs(job).checkpoint_every;
            let now = self.now;
            let Some(live) = self.live.get_mut(&job.0) else { continue };
            live.freeze(now, every);
            live.generation += 1;
            self.shares_no_more(job, observer);
        }
    }

    pub(super) fn costs(&self, job: JobId) -> Costs {
        let number = self.live.get(&job.0).map(|live| usize::from(live.profile));
        number.and_then(|number| self.profiles.get(number)).map(|profile| profile.costs).unwrap_or_default()
    }

    /// Tells the scheduler an event and carries out what it decides.
    pub(super) fn tell(&mut self, event: &Event, observer: &mut impl Observer) {
        self.events += 1;
        observer.told(self.now, event, &self.scheduler);
        let mut actions = std::mem::take(&mut self.actions);
        self.scheduler.step(self.now, event, &mut actions);
        for action in actions.drain(..) {
            self.carry_out(action, observer);
        }
        self.actions = actions;
    }

    fn carry_out(&mut self, action: Action, observer: &mut impl Observer) {
        match action {
            Action::Start { job, run, ranks } => self.start(job, run, ranks, observer),
            Action::Repair { job, ranks } => {
                let Some(mut held) =
                    self.live.get(&job.0).and_then(|live| live.run.as_ref()).map(|run| run.ranks.clone())
                else {
                    return;
                };
                for (rank, holding) in ranks {
                    if let Some(place) = usize::try_from(rank).ok().and_then(|rank| held.get_mut(rank)) {
                        *place = holding;
                    }
                }
                self.go_on(job, held, observer);
            }
            Action::Resize { job, ranks } => self.go_on(job, ranks, observer),
            Action::Stop { job, cause } => self.stop(job, cause, observer),
            Action::Wake { node } => self.queue.push(self.now.after(self.wake), Due::Awake { node }),
            Action::Sleep { node } => self.queue.push(self.now, Due::Asleep { node }),
            Action::Quarantined { .. } | Action::NotApplied { .. } => {}
            Action::Refused { job, because } => {
                if let Some(live) = self.live.remove(&job.0) {
                    observer.happened(self.now, Happening::Refused(&live.facts, because), &self.scheduler);
                }
            }
        }
    }

    /// How long a gang waits for its data on these nodes; the scheduler hears at once where it is from then on.
    fn fetch(&mut self, job: JobId, ranks: &[Holding]) -> Span {
        let dataset = self.live.get(&job.0).and_then(|live| live.dataset);
        let (Some(warm), Some(dataset)) = (&mut self.warm, dataset) else { return Span(0) };
        let (wait, changes) = warm.fetch(dataset, ranks);
        for (dataset, node, held) in changes {
            self.queue.push(self.now, Due::Warm { dataset, node, held });
        }
        wait
    }

    fn start(&mut self, job: JobId, run: RunId, ranks: Vec<Holding>, observer: &mut impl Observer) {
        let now = self.now;
        let reads = self.fetch(job, &ranks);
        let plain = Profile::default();
        let profile = self.live.get(&job.0).and_then(|live| self.profiles.get(usize::from(live.profile)));
        let profile = profile.unwrap_or(&plain);
        let asleep = ranks.iter().any(|held| self.scheduler.fleet().service(held.node) == Service::Asleep);
        let wake = if asleep { self.wake } else { Span(0) };
        let fleet = self.scheduler.fleet();
        if let Some(moves) = &mut self.moves {
            moves.started(now, job, moves::milli(&ranks));
        }
        let Some(live) = self.live.get_mut(&job.0) else { return };
        live.started_as = run;
        let overhead = if live.stops == 0 { profile.costs.launch } else { profile.costs.restart };
        let speed = profile.speed(&ranks, live.facts.ranks, |held| fleet.class(held.node)).max(1);
        live.generation += 1;
        live.first_start.get_or_insert(now);
        let what = Happening::Started { job: &live.facts, ranks: &ranks, stops: live.stops };
        observer.happened(now, what, &self.scheduler);
        live.run = Some(Running::new(now, now.after(wake).after(overhead).after(reads), speed, ranks));
        if let Some(at) = live.ends() {
            self.queue.push(at, Due::End { job, generation: live.generation });
        }
        self.shares(job, observer);
    }

    /// A gang goes on with `ranks`, from its last checkpoint.
    fn go_on(&mut self, job: JobId, ranks: Vec<Holding>, observer: &mut impl Observer) {
        let now = self.now;
        let reads = self.fetch(job, &ranks);
        let plain = Profile::default();
        let profile = self.live.get(&job.0).and_then(|live| self.profiles.get(usize::from(live.profile)));
        let profile = profile.unwrap_or(&plain);
        let fleet = self.scheduler.fleet();
        let Some(live) = self.live.get_mut(&job.0) else { return };
        let kept = live.safe(now, profile.costs.checkpoint_every);
        let lost = Span(live.done(now).0.saturating_sub(kept.0));
        let speed = profile.speed(&ranks, live.facts.ranks, |held| fleet.class(held.node)).max(1);
        let Some(run) = live.run.take() else { return };
        live.kept = kept;
        live.stops += 1;
        live.generation += 1;
        let what = Happening::Stopped {
            job: &live.facts,
            cause: Cause::Broken,
            held: now.since(run.since),
            kept: Span(0),
            lost,
            ranks: &run.ranks,
        };
        observer.happened(now, what, &self.scheduler);
        let what = Happening::Started { job: &live.facts, ranks: &ranks, stops: live.stops };
        observer.happened(now, what, &self.scheduler);
        live.run = Some(Running::new(now, now.after(profile.costs.restart).after(reads), speed, ranks));
        if let Some(at) = live.ends() {
            self.queue.push(at, Due::End { job, generation: live.generation });
        }
        self.shares(job, observer);
    }

    fn stop(&mut self, job: JobId, cause: Cause, observer: &mut impl Observer) {
        let now = self.now;
        let costs = self.costs(job);
        let Some(live) = self.live.get_mut(&job.0) else { return };
        let done = live.done(now);
        let before = live.kept;
        // A gang that is told to stop saves its work; one that a fault broke has only its last checkpoint.
        let kept = match cause {
            Cause::Preempted { .. } | Cause::Shrunk { .. } | Cause::Moved | Cause::Cancelled => done,
            Cause::Broken => live.safe(now, costs.checkpoint_every),
        };
        let Some(run) = live.run.take() else { return };
        live.kept = kept;
        live.stops += 1;
        live.generation += 1;
        let gone = match cause {
            Cause::Preempted { .. } | Cause::Shrunk { .. } | Cause::Moved => now.after(costs.save),
            Cause::Cancelled | Cause::Broken => now,
        };
        live.leaving = Some(Leaving {
            cause,
            since: run.since,
            kept: Span(kept.0.saturating_sub(before.0)),
            lost: Span(done.0.saturating_sub(kept.0)),
            ranks: run.ranks,
        });
        let generation = live.generation;
        self.queue.push(gone, Due::Gone { job, generation });
        self.shares_no_more(job, observer);
    }

    /// A gang that runs shares from now on.
    fn shares(&mut self, job: JobId, observer: &mut impl Observer) {
        let Some(live) = self.live.get(&job.0) else { return };
        let Some(run) = &live.run else { return };
        let fleet = self.scheduler.fleet();
        let mut changed = BTreeSet::new();
        if let Some(interleaving) = &mut self.interleaving {
            let class = run.ranks.first().map_or(0, |held| fleet.class(held.node));
            changed = interleaving.enter(job, live.profile, &run.ranks, class);
        }
        self.tell_shares(&changed, observer);
        if let (Some(contention), Some(live)) = (&mut self.contention, self.live.get(&job.0))
            && let Some(run) = &live.run
        {
            changed.extend(contention.enter(job, live.profile, &run.ranks, self.scheduler.fleet().tree()));
        }
        self.turn(&changed);
    }

    fn shares_no_more(&mut self, job: JobId, observer: &mut impl Observer) {
        let mut changed = self.interleaving.as_mut().map(|shared| shared.leave(job)).unwrap_or_default();
        self.tell_shares(&changed, observer);
        changed.extend(self.contention.as_mut().map(|contention| contention.leave(job)).unwrap_or_default());
        self.turn(&changed);
    }

    /// Tells who has another share of its accelerators.
    fn tell_shares(&self, jobs: &BTreeSet<u64>, observer: &mut impl Observer) {
        let Some(interleaving) = &self.interleaving else { return };
        for live in jobs.iter().filter_map(|job| self.live.get(job)) {
            let Some(run) = &live.run else { continue };
            let fare = interleaving.fare(live.facts.job);
            let what = Happening::Shares { job: &live.facts, ranks: &run.ranks, share: fare.share, speed: fare.speed };
            observer.happened(self.now, what, &self.scheduler);
        }
    }

    /// Jobs whose share is another get on at another speed, and end at another time.
    fn turn(&mut self, jobs: &BTreeSet<u64>) {
        for job in jobs.iter().copied().map(JobId) {
            let wire = self.contention.as_ref().map_or(1_000_000, |contention| contention.factor(job));
            let beside = self.interleaving.as_ref().map_or(1_000_000, |shared| shared.fare(job).speed);
            let Some(live) = self.live.get_mut(&job.0) else { continue };
            let Some(run) = live.run.as_ref().filter(|run| run.base > 0) else { continue };
            let wanted = u128::from(run.base) * u128::from(wire) / 1_000_000 * u128::from(beside) / 1_000_000;
            let speed = u64::try_from(wanted).unwrap_or(run.base).max(1);
            if speed == run.speed {
                continue;
            }
            let every = self.profiles.get(usize::from(live.profile)).map_or(Span(0), |p| p.costs.checkpoint_every);
            live.turn(self.now, every, speed);
            live.generation += 1;
            if let Some(at) = live.ends() {
                self.queue.push(at, Due::End { job, generation: live.generation });
            }
        }
    }
}

#[cfg(test)]
mod tests;
