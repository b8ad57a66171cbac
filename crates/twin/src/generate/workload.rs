//! A workload of any length: jobs drawn one after another, each property from a stream of its own.
//!
//! Invariant: nothing is held of a job that was given out; another law of one property leaves all others as they were. Cost:
//! some ten draws a job.

use dh_core::time::Span;

use super::arrivals::{Arrivals, Moments};
use super::draw::{Draw, span};
use super::durations::Durations;
use super::mix::{Published, Weights, powers_of_two};
use super::{Error, Week};
use crate::trace::{Divide, Elastic, Entry, Extra, Gang, Name, Trace, TraceJob};

/// What users ask for over what they need: uniform between the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// At least.
    pub least: f64,
    /// At most.
    pub most: f64,
}

/// Jobs that can run with fewer or more accelerators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elasticity {
    /// Which share of jobs with more than one accelerator.
    pub share: f64,
    /// The fewest are the asked over this.
    pub down: u32,
    /// The most are the asked times this.
    pub up: u32,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// When jobs come.
    pub arrivals: Arrivals,
    /// Accelerators of a job.
    pub sizes: Weights<u32>,
    /// Accelerators of a node, into which a job is divided.
    pub node_accelerators: u32,
    /// Thousandths of a core for each accelerator.
    pub cpu_milli: u32,
    /// Memory for each accelerator, MiB.
    pub memory_mib: u32,
    /// How long a job runs.
    pub durations: Durations,
    /// Whose they are.
    pub users: Weights<u16>,
    /// Where they wait.
    pub queues: Weights<u16>,
    /// How urgent they are.
    pub priorities: Weights<i32>,
    /// What is asked for over what is needed; none asks for nothing.
    pub limits: Option<Stretch>,
    /// Who can shrink or grow.
    pub elasticity: Option<Elasticity>,
}

/// Users of a workload by default, and how unequal they are: assumptions.
const USERS: u16 = 400;
const ZIPF: f64 = 1.0;

impl Workload {
    /// A workload like a published cluster's, `per_hour` jobs an hour: sizes and lengths as published, the hours of a working
    /// week, 400 users by Zipf. Sizes and lengths are drawn apart, which is an assumption.
    pub fn like(published: Published, per_hour: f64) -> Self {
        Self {
            arrivals: Arrivals { week: Some(Week::WORKING), ..Arrivals::poisson(per_hour) },
            sizes: powers_of_two(published),
            node_accelerators: 8,
            cpu_milli: 0,
            memory_mib: 0,
            durations: Durations::like(published),
            users: Weights::zipf(USERS, ZIPF).unwrap_or_else(|| Weights::always(0)),
            queues: Weights::always(0),
            priorities: Weights::always(0),
            limits: None,
            elasticity: None,
        }
    }

    /// The jobs, from a seed, without end.
    /// # Errors
    /// If the arrivals cannot be, or a share or stretch is not between its bounds.
    pub fn jobs(&self, seed: u64) -> Result<Synthetic<'_>, Error> {
        if let Some(stretch) = self.limits
            && !(stretch.least > 0.0 && stretch.least <= stretch.most && stretch.most <= 1e6)
        {
            return Err(Error { what: "a stretch of limits", want: "above 0, rising, and at most a million" });
        }
        if self.elasticity.is_some_and(|e| !(0.0..=1.0).contains(&e.share) || e.down == 0 || e.up == 0) {
            return Err(Error { what: "elasticity", want: "a share up to 1 and factors of 1 at least" });
        }
        let draw = |name| Draw::of(seed, &[name]);
        Ok(Synthetic {
            workload: self,
            moments: self.arrivals.moments(seed)?,
            sizes: draw(1),
            durations: draw(2),
            users: draw(3),
            queues: draw(4),
            priorities: draw(5),
            limits: draw(6),
            elastic: draw(7),
            id: 0,
        })
    }

    /// The first `count` jobs as a trace without a cluster.
    /// # Errors
    /// As [`Workload::jobs`].
    pub fn trace(&self, seed: u64, count: usize) -> Result<Trace, Error> {
        let names = |weights: &Weights<u16>| weights.shares().map(|(place, _)| place).max().unwrap_or(0);
        let mut trace = Trace::numbered(names(&self.queues), names(&self.users));
        for entry in self.jobs(seed)?.take(count) {
            trace.push(entry);
        }
        Ok(trace)
    }
}

/// Jobs without end.
#[derive(Debug, Clone)]
pub struct Synthetic<'a> {
    workload: &'a Workload,
    moments: Moments,
    sizes: Draw,
    durations: Draw,
    users: Draw,
    queues: Draw,
    priorities: Draw,
    limits: Draw,
    elastic: Draw,
    id: u64,
}

impl Synthetic<'_> {
    fn gang(&mut self) -> (u32, Gang) {
        let accelerators = self.workload.sizes.draw(&mut self.sizes).unwrap_or(1);
        let gang = Gang::divided(Divide { accelerators, node: self.workload.node_accelerators });
        let each = (gang.per_rank_milli / 1000).max(1);
        let cpu_milli = self.workload.cpu_milli.saturating_mul(each);
        (accelerators, Gang { cpu_milli, memory_mib: self.workload.memory_mib.saturating_mul(each), ..gang })
    }

    fn limit(&mut self, length: Span) -> Option<Span> {
        let stretch = self.workload.limits?;
        let by = stretch.least + (stretch.most - stretch.least) * self.limits.unit();
        Some(span(dh_units::real(length.0) * by))
    }

    fn extra(&mut self, accelerators: u32) -> Option<Box<Extra>> {
        let elasticity = self.workload.elasticity.filter(|_| accelerators > 1)?;
        // Drawn for every such job, so that the share of one leaves the next as it was.
        let elastic = self.elastic.happens(elasticity.share).then(|| Elastic {
            least: (accelerators / elasticity.down).max(1),
            most: accelerators.saturating_mul(elasticity.up),
        })?;
        Some(Box::new(Extra { elastic: Some(elastic), ..Extra::default() }))
    }
}

impl Iterator for Synthetic<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let submit = self.moments.next()?;
        let (accelerators, gang) = self.gang();
        let length = self.workload.durations.draw(&mut self.durations);
        let queue = self.workload.queues.draw(&mut self.queues).and_then(Name::at)?;
        let job = TraceJob::new(self.id, submit, gang, queue);
        let mut job = job.with_length(Some(length)).with_limit(self.limit(length));
        job.user = self.workload.users.draw(&mut self.users).and_then(Name::at);
        job.priority = self.workload.priorities.draw(&mut self.priorities).unwrap_or(0);
        self.id += 1;
        Some(Entry { job, extra: self.extra(accelerators), label: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::published;

    fn workload() -> Workload {
        Workload {
            queues: Weights::new([(0, 3), (1, 1)]).unwrap(),
            priorities: Weights::new([(-1, 1), (5, 1)]).unwrap(),
            limits: Some(Stretch { least: 1.0, most: 3.0 }),
            elasticity: Some(Elasticity { share: 0.5, down: 2, up: 4 }),
            ..Workload::like(published("philly").unwrap(), 100.0)
        }
    }

    #[test]
    fn a_seed_is_the_same_jobs_and_another_is_not() {
        let workload = workload();
        let jobs = |seed| workload.jobs(seed).unwrap().take(1000).collect::<Vec<_>>();
        assert_eq!(jobs(3), jobs(3));
        assert_ne!(jobs(3), jobs(4));
    }

    #[test]
    fn a_seed_is_the_same_jobs_on_every_machine() {
        let workload = workload();
        let mut sum = 0_u64;
        for entry in workload.jobs(3).unwrap().take(1000) {
            let length = entry.job.length().unwrap_or_default().0;
            for part in [entry.job.submit.0, length, entry.job.gang.milli()] {
                sum = sum.rotate_left(5) ^ part;
            }
        }
        assert_eq!(sum, SUM);
    }

    /// What the first thousand jobs of seed 3 come to. It changes only with the laws above.
    const SUM: u64 = 6_520_199_878_134_603_504;

    #[test]
    fn another_law_of_lengths_leaves_all_else_as_it_was() {
        let (first, second) = (workload(), Workload { durations: Durations::Fixed(Span::from_secs(1)), ..workload() });
        for (one, two) in first.jobs(3).unwrap().zip(second.jobs(3).unwrap()).take(1000) {
            assert_eq!((one.job.submit, one.job.gang, one.extra), (two.job.submit, two.job.gang, two.extra));
            assert_eq!(
                (one.job.user, one.job.queue, one.job.priority),
                (two.job.user, two.job.queue, two.job.priority)
            );
        }
    }

    #[test]
    fn limits_cover_lengths_and_ranges_the_size() {
        let trace = workload().trace(3, 5000).unwrap();
        assert_eq!((trace.queues.list().len(), trace.users.list().len()), (2, 400));
        let mut elastic = 0;
        for job in &trace.jobs {
            assert!(job.limit().unwrap() >= job.length().unwrap());
            assert!(job.priority == -1 || job.priority == 5);
            let size = u32::try_from(job.gang.milli() / 1000).unwrap();
            if let Some(range) = trace.extra(job).and_then(|extra| extra.elastic) {
                elastic += 1;
                assert_eq!((range.least, range.most), (size / 2, size * 4));
            }
        }
        let many = trace.jobs.iter().filter(|job| job.gang.milli() > 1000).count();
        assert!((many * 45 / 100..=many * 55 / 100).contains(&elastic), "{elastic} of {many}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let stretch = Some(Stretch { least: 2.0, most: 1.0 });
        assert!(Workload { limits: stretch, ..workload() }.jobs(1).is_err());
        let elasticity = Some(Elasticity { share: 0.5, down: 0, up: 1 });
        assert!(Workload { elasticity, ..workload() }.jobs(1).is_err());
    }
}
