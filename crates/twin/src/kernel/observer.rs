//! Who watches a run: measures, a timeline, a log.

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_hall::scheduler::{Cause, Event, QueueId, Refusal, Scheduler};
use dh_policy::fleet::{Holding, Service};

use super::live::{Fate, Work};

/// What is known of a job from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobFacts {
    /// The job.
    pub job: JobId,
    /// Its queue.
    pub queue: QueueId,
    /// Accelerators of the whole gang, thousandths.
    pub milli: u64,
    /// When it was submitted.
    pub submitted: SimTime,
    /// How long it runs at full speed.
    pub length: Span,
    /// Ranks of the gang.
    pub ranks: u32,
}

/// Something that happened in the world.
#[derive(Debug, Clone, Copy)]
pub enum Happening<'a> {
    /// A job came.
    Submitted(&'a JobFacts),
    /// A job can never run here.
    Refused(&'a JobFacts, Refusal),
    /// A gang started, or goes on after a repair or with other ranks.
    Started {
        /// The job.
        job: &'a JobFacts,
        /// What each rank holds.
        ranks: &'a [Holding],
        /// Runs before this one.
        stops: u32,
    },
    /// Somebody came to a gang's accelerators, or left them: it has another share, and another speed.
    Shares {
        /// The job.
        job: &'a JobFacts,
        /// What each rank holds.
        ranks: &'a [Holding],
        /// Its share of the time of these accelerators from now on, in millionths; all of it if it is alone.
        share: u64,
        /// Its speed from now on, in millionths of that alone.
        speed: u64,
    },
    /// A gang stopped and will be back.
    Stopped {
        /// The job.
        job: &'a JobFacts,
        /// Why.
        cause: Cause,
        /// How long it held its accelerators this time.
        held: Span,
        /// Work of this time that is kept.
        kept: Span,
        /// Work of this time that is lost.
        lost: Span,
        /// What each rank held.
        ranks: &'a [Holding],
    },
    /// A job is done.
    Ended {
        /// The job.
        job: &'a JobFacts,
        /// When it first started.
        first_start: SimTime,
        /// How long it held its accelerators this time.
        held: Span,
        /// Work done this time.
        kept: Span,
        /// How often it was stopped.
        stops: u32,
        /// How it ended.
        fate: Fate,
        /// What each rank held.
        ranks: &'a [Holding],
    },
    /// The run is over, and a job is not.
    Unfinished {
        /// The job.
        job: &'a JobFacts,
        /// When it first started.
        first_start: Option<SimTime>,
        /// Since when it holds its accelerators; `None` if it waits.
        since: Option<SimTime>,
        /// Work of this time, safe or not.
        kept: Span,
        /// What each rank holds.
        ranks: &'a [Holding],
    },
    /// A node changed.
    Node {
        /// The node.
        node: NodeId,
        /// What it is from now on.
        service: Service,
    },
}

/// Who watches a run.
pub trait Observer {
    /// What a job has to do, before it is submitted.
    fn work(&mut self, _job: JobId, _work: Work) {}
    /// An event that the scheduler is about to be told.
    fn told(&mut self, _now: SimTime, _event: &Event, _scheduler: &Scheduler) {}
    /// Something happened; the scheduler has decided already.
    fn happened(&mut self, _now: SimTime, _what: Happening<'_>, _scheduler: &Scheduler) {}
    /// All that happened at this moment is over.
    fn settled(&mut self, _now: SimTime, _scheduler: &Scheduler) {}
}

/// Nobody watches.
impl Observer for () {}

impl<A: Observer, B: Observer> Observer for (A, B) {
    fn work(&mut self, job: JobId, work: Work) {
        self.0.work(job, work);
        self.1.work(job, work);
    }

    fn told(&mut self, now: SimTime, event: &Event, scheduler: &Scheduler) {
        self.0.told(now, event, scheduler);
        self.1.told(now, event, scheduler);
    }

    fn happened(&mut self, now: SimTime, what: Happening<'_>, scheduler: &Scheduler) {
        self.0.happened(now, what, scheduler);
        self.1.happened(now, what, scheduler);
    }

    fn settled(&mut self, now: SimTime, scheduler: &Scheduler) {
        self.0.settled(now, scheduler);
        self.1.settled(now, scheduler);
    }
}

impl<T: Observer> Observer for Option<T> {
    fn work(&mut self, job: JobId, work: Work) {
        if let Some(observer) = self {
            observer.work(job, work);
        }
    }

    fn told(&mut self, now: SimTime, event: &Event, scheduler: &Scheduler) {
        if let Some(observer) = self {
            observer.told(now, event, scheduler);
        }
    }

    fn happened(&mut self, now: SimTime, what: Happening<'_>, scheduler: &Scheduler) {
        if let Some(observer) = self {
            observer.happened(now, what, scheduler);
        }
    }

    fn settled(&mut self, now: SimTime, scheduler: &Scheduler) {
        if let Some(observer) = self {
            observer.settled(now, scheduler);
        }
    }
}

impl<T: Observer> Observer for &mut T {
    fn work(&mut self, job: JobId, work: Work) {
        (**self).work(job, work);
    }

    fn told(&mut self, now: SimTime, event: &Event, scheduler: &Scheduler) {
        (**self).told(now, event, scheduler);
    }

    fn happened(&mut self, now: SimTime, what: Happening<'_>, scheduler: &Scheduler) {
        (**self).happened(now, what, scheduler);
    }

    fn settled(&mut self, now: SimTime, scheduler: &Scheduler) {
        (**self).settled(now, scheduler);
    }
}
