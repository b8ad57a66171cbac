//! A job of a trace: what every trace has in 64 bytes, what few have beside it.
//!
//! Invariant: ranks of a gang are equal. Cost: 64 bytes a job, so that ten million fit in 640 MB; what is rare (deadlines,
//! times on several accelerators, stages, elastic ranges) is in [`Extra`] and costs only the jobs that have it.

use dh_core::time::{SimTime, Span};
use dh_policy::sharing::{self, Iteration};

use super::names::Name;

/// Accelerators of one job, at most.
pub(crate) const ACCELERATORS_MAX: u32 = 1_000_000;

/// Equal ranks that start all or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gang {
    /// How many.
    pub ranks: u32,
    /// Accelerators of each, in thousandths; below 1000 is a part of one accelerator.
    pub per_rank_milli: u32,
    /// Thousandths of a core of each; 0 if the trace does not say.
    pub cpu_milli: u32,
    /// Memory of each, MiB; 0 if the trace does not say.
    pub memory_mib: u32,
    /// Classes of accelerators that will do, a bit each; 0 is any. Bit 31 stands for all that the cluster does not have.
    pub classes: u32,
}

/// Accelerators of a whole job, and of one node.
#[derive(Debug, Clone, Copy)]
pub struct Divide {
    /// Of the job.
    pub accelerators: u32,
    /// Of a node.
    pub node: u32,
}

impl Gang {
    /// The fewest equal ranks of which each fits a node: 24 on nodes of 8 are 3 ranks of 8, 12 are 2 of 6, 59 are 59 of 1.
    /// A job without accelerators is one rank.
    pub fn divided(divide: Divide) -> Self {
        if divide.accelerators == 0 {
            return Self { ranks: 1, ..Self::default() };
        }
        let largest = divide.node.clamp(1, 1024);
        let each = if divide.accelerators <= largest {
            divide.accelerators
        } else {
            (1..=largest).rev().find(|each| divide.accelerators.is_multiple_of(*each)).unwrap_or(1)
        };
        Self { ranks: divide.accelerators / each, per_rank_milli: each.saturating_mul(1000), ..Self::default() }
    }

    /// Accelerators of all ranks, in thousandths.
    pub fn milli(&self) -> u64 {
        u64::from(self.ranks) * u64::from(self.per_rank_milli)
    }
}

/// How a job ended where the trace was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Fate {
    /// The trace does not say, or it had not ended.
    #[default]
    Unknown,
    /// It did what it was to do.
    Completed,
    /// It failed by itself.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It reached its limit.
    TimedOut,
    /// It lost its place: a node failed, or something more urgent came.
    Evicted,
}

/// Times of one iteration on each resource that a job alternates between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// Iterations of the whole job.
    pub iterations: u64,
    /// One iteration alone.
    pub iteration: Span,
    /// The parts of it, in the trace's order of resources; two may overlap, so their sum may exceed the iteration.
    pub parts: [Span; 3],
}

impl Stages {
    /// One iteration as sharing knows it. Traces call the parts accelerator, storage and other; in Muri's the language models,
    /// which compute most, have their time in the second, and the third is nothing on one accelerator: so they are input,
    /// compute and network. What a job keeps of memory is not known.
    pub fn iteration(&self) -> Iteration {
        let [input, compute, network] = self.parts;
        Iteration { stages: sharing::Stages { input, compute, network }, alone: self.iteration, memory_milli: 0 }
    }
}

/// Accelerators with which a job can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elastic {
    /// The fewest.
    pub least: u32,
    /// The most.
    pub most: u32,
}

/// The length of a job on accelerators of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnClass {
    /// Which class of the trace's cluster.
    pub class: u8,
    /// The run time there.
    pub length: Span,
}

/// What few jobs have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    /// When it should have ended.
    pub deadline: Option<SimTime>,
    /// Its length on each class; empty if it is the same on all.
    pub on_classes: Vec<OnClass>,
    /// Its stages.
    pub stages: Option<Stages>,
    /// Its range.
    pub elastic: Option<Elastic>,
    /// Samples of one step over all ranks, where the trace has it.
    pub batch: Option<u32>,
    /// Its type in a table of throughputs ([`super::Trace::rate`]).
    pub rated: Option<u16>,
    /// Tasks of the same application on one node, at most.
    pub per_node_max: Option<u32>,
}

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceJob {
    /// The trace's number of it; its row if the trace has no number.
    pub id: u64,
    /// When it was submitted, since the trace's start.
    pub submit: SimTime,
    /// Nanoseconds at full speed on the reference class; `u64::MAX` is unknown.
    length: u64,
    /// What it needs.
    pub gang: Gang,
    /// Seconds that were asked for; 0 is none.
    limit: u32,
    /// Higher is more urgent; 0 where the trace has none.
    pub priority: i32,
    /// One above the place of its [`Extra`]; 0 is none.
    extra: u32,
    /// The queue, team or virtual cluster, in the trace's table of queues.
    pub queue: Name,
    /// Who submitted it.
    pub user: Option<Name>,
    /// What it runs.
    pub model: Option<Name>,
    /// How it ended.
    pub fate: Fate,
}

impl TraceJob {
    /// A job of which nothing else is known.
    pub fn new(id: u64, submit: SimTime, gang: Gang, queue: Name) -> Self {
        Self {
            id,
            submit,
            length: u64::MAX,
            gang,
            limit: 0,
            priority: 0,
            extra: 0,
            queue,
            user: None,
            model: None,
            fate: Fate::Unknown,
        }
    }

    /// With a length at full speed on the reference class.
    #[must_use]
    pub fn with_length(mut self, length: Option<Span>) -> Self {
        self.length = length.map_or(u64::MAX, |span| span.0);
        self
    }

    /// With what was asked for, in whole seconds rounded up.
    #[must_use]
    pub fn with_limit(mut self, limit: Option<Span>) -> Self {
        let seconds = limit.map_or(0, |span| span.0.div_ceil(1_000_000_000).max(1));
        self.limit = u32::try_from(seconds).unwrap_or(u32::MAX);
        self
    }

    /// The run time at full speed on the reference class, if the trace knows it.
    pub fn length(&self) -> Option<Span> {
        (self.length != u64::MAX).then_some(Span(self.length))
    }

    /// The run time that was asked for.
    pub fn limit(&self) -> Option<Span> {
        (self.limit != 0).then(|| Span::from_secs(u64::from(self.limit)))
    }

    /// The place of what is rare about it.
    pub(crate) fn extra(&self) -> Option<usize> {
        usize::try_from(self.extra).ok().and_then(|one_above| one_above.checked_sub(1))
    }

    pub(crate) fn set_extra(&mut self, place: usize) {
        self.extra = u32::try_from(place.saturating_add(1)).unwrap_or(0);
    }
}

/// A job as a reader or a generator gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What all have.
    pub job: TraceJob,
    /// What is rare about it.
    pub extra: Option<Box<Extra>>,
    /// The trace's name of it, if that is no number.
    pub label: Option<String>,
}

impl From<TraceJob> for Entry {
    fn from(job: TraceJob) -> Self {
        Self { job, extra: None, label: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_takes_sixty_four_bytes() {
        assert_eq!(size_of::<TraceJob>(), 64);
    }

    #[test]
    fn ranks_are_equal_fit_a_node_and_lose_nothing() {
        for node in [1_u32, 4, 8] {
            for accelerators in 1..=600 {
                let gang = Gang::divided(Divide { accelerators, node });
                assert_eq!(gang.milli(), u64::from(accelerators) * 1000);
                assert!(gang.per_rank_milli <= node * 1000);
                let fewer = (1..gang.ranks).any(|r| accelerators.is_multiple_of(r) && accelerators / r <= node);
                assert!(!fewer, "{accelerators} on {node}: {gang:?}");
            }
        }
        assert_eq!(Gang::divided(Divide { accelerators: 0, node: 8 }).ranks, 1);
    }
}
