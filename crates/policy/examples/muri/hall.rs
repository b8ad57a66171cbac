//! Eight nodes of eight accelerators in virtual time: submissions, ends, and what a policy decides at each.

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_policy::order::Candidate;
use dh_policy::sharing::Contention;
use dh_units::real;

use crate::trace::Job;

/// Accelerators of the hall.
pub(crate) const CAPACITY: u32 = NODES * NODE;
const NODES: u32 = 8;
const NODE: u32 = 8;

/// What moving jobs about costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// As published: every decision restarts all jobs that run on, and profiling takes 1.5 % of every iteration.
    Published,
    /// Nothing.
    Free,
}

/// A job that has been submitted and has not ended.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) at: usize,
    pub(crate) width: u32,
    pub(crate) iteration: Span,
    pub(crate) submitted: SimTime,
    /// Run time alone that is done, and that is to do in all.
    pub(crate) attained: Span,
    pub(crate) length: Span,
    pub(crate) running: bool,
    /// Wall time spent running, restarts included.
    pub(crate) held: Span,
    period: Span,
    restart: Span,
    ends: SimTime,
}

impl Live {
    /// What an order may know; `length` is left to the policy.
    pub(crate) fn candidate(&self, length: Option<Span>) -> Candidate {
        Candidate {
            job: JobId(u64::try_from(self.at).unwrap()),
            priority: 0,
            submitted: self.submitted,
            milli: u64::from(self.width) * 1000,
            attained: self.attained,
            length,
            deadline: None,
        }
    }
}

/// Jobs on the same accelerators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Positions in the slice given, ascending.
    pub(crate) members: Vec<usize>,
    /// One iteration of each member takes this long.
    pub(crate) period: Span,
}

/// What a policy is told and asked.
pub(crate) trait Policy {
    /// `job` has ended.
    fn ended(&mut self, _job: &Live) {}
    /// The groups to run; a group of one shares with nobody. And when to ask again at the latest, if at all.
    fn decide(&mut self, now: SimTime, live: &[Live], jobs: &[Job]) -> (Vec<Group>, Option<SimTime>);
}

/// Measures of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) average_h: f64,
    pub(crate) p99_h: f64,
    pub(crate) makespan_h: f64,
    pub(crate) decisions: u64,
}

pub(crate) struct Hall<'a> {
    jobs: &'a [Job],
    cost: Cost,
    live: Vec<Live>,
    flow: Vec<u64>,
}

/// More than a restart of four jobs takes.
pub(crate) const RESTART: Span = Span::from_secs(200);

/// Seconds to restart `model` on `width` accelerators, as measured by the publication.
fn restart_seconds(model: &str, width: u32) -> u64 {
    let by_width: [u64; 6] = match model {
        "vgg16" => [7, 7, 8, 9, 9, 10],
        "vgg19" => [7, 7, 8, 9, 10, 10],
        "resnet18" => [4, 5, 5, 7, 7, 7],
        "shufflenet_v2_x1_0" => [4, 4, 5, 5, 7, 8],
        "a2c" => [38, 39, 39, 46, 46, 46],
        "dqn" => [5, 5, 6, 6, 8, 8],
        _ => [10; 6],
    };
    by_width[usize::try_from(width.ilog2()).unwrap()]
}

/// What the publication measured for groups, over the period of the stages: x 1.33, 1.5 and 1.37 for two, three and four
/// members, of which 1.015 is profiling.
pub(crate) const CONTENTION: Contention = Contention { millionths: [1_310_345, 1_477_833, 1_349_754] };

impl<'a> Hall<'a> {
    pub(crate) const fn new(jobs: &'a [Job], cost: Cost) -> Self {
        Self { jobs, cost, live: Vec::new(), flow: Vec::new() }
    }

    pub(crate) fn play(mut self, policy: &mut dyn Policy) -> Outcome {
        let (mut now, mut next, mut ask, mut decisions) = (SimTime(0), 0, None, 0);
        while next < self.jobs.len() || !self.live.is_empty() {
            let submit = self.jobs.get(next).map(|job| job.submitted);
            let end = self.live.iter().filter(|live| live.running).map(|live| live.ends).min();
            let then = [submit, end, ask].into_iter().flatten().min().unwrap();
            self.run_until(now, then, policy);
            now = then;
            while let Some(job) = self.jobs.get(next).filter(|job| job.submitted == now) {
                self.submit(next, job);
                next += 1;
            }
            let (groups, again) = policy.decide(now, &self.live, self.jobs);
            decisions += 1;
            self.apply(now, &groups);
            ask = again.map(|at| at.max(now.after(Span::from_secs(1))));
        }
        self.flow.sort_unstable();
        let hours = |ns: u64| real(ns) / 3.6e12;
        let count = self.flow.len();
        Outcome {
            average_h: self.flow.iter().copied().map(hours).sum::<f64>() / real(u64::try_from(count).unwrap()),
            p99_h: hours(self.flow[count * 99 / 100]),
            makespan_h: hours(now.0),
            decisions,
        }
    }

    fn submit(&mut self, at: usize, job: &Job) {
        let iteration = match self.cost {
            Cost::Published => Span(job.iteration.0 * 1015 / 1000),
            Cost::Free => job.iteration,
        };
        self.live.push(Live {
            at,
            width: job.width,
            iteration,
            submitted: job.submitted,
            attained: Span(0),
            length: Span(iteration.0 * job.iterations),
            running: false,
            held: Span(0),
            period: iteration,
            restart: Span(0),
            ends: SimTime(u64::MAX),
        });
    }

    fn run_until(&mut self, now: SimTime, then: SimTime, policy: &mut dyn Policy) {
        let held = then.since(now);
        for live in self.live.iter_mut().filter(|live| live.running) {
            live.held = Span(live.held.0 + held.0);
            if live.ends == then {
                live.attained = live.length;
                self.flow.push(then.since(live.submitted).0);
                policy.ended(live);
            } else {
                let run = u128::from(held.0.saturating_sub(live.restart.0));
                let done = u64::try_from(run * u128::from(live.iteration.0) / u128::from(live.period.0)).unwrap();
                live.attained = Span((live.attained.0 + done).min(live.length.0 - 1));
            }
        }
        self.live.retain(|live| live.attained < live.length);
    }

    /// Everything is placed anew, the widest first: an arrangement exists whenever one is found this way, as the widths of
    /// the traces divide one another.
    fn apply(&mut self, now: SimTime, groups: &[Group]) {
        for live in &mut self.live {
            live.running = false;
        }
        let mut widths: Vec<u32> = groups.iter().map(|group| self.live[group.members[0]].width).collect();
        widths.sort_unstable_by(|one, other| other.cmp(one));
        let mut free = [NODE; NODES as usize];
        for width in widths {
            let mut left = width;
            for node in &mut free {
                if *node >= left.min(NODE) && (left > 0) {
                    let taken = left.min(NODE);
                    *node -= taken;
                    left -= taken;
                }
            }
            assert_eq!(left, 0, "a gang does not fit its nodes");
        }
        for group in groups {
            let restart: u64 = match self.cost {
                Cost::Free => 0,
                Cost::Published => group
                    .members
                    .iter()
                    .map(|at| &self.live[*at])
                    .map(|live| restart_seconds(&self.jobs[live.at].model, live.width))
                    .sum(),
            };
            for at in &group.members {
                let live = &mut self.live[*at];
                assert!(!live.running, "a job is in two groups");
                let left = u128::from(live.length.0 - live.attained.0) * u128::from(group.period.0);
                live.running = true;
                live.period = group.period;
                live.restart = Span::from_secs(restart);
                // As in the publication, a restart is paid if another decision comes before the end.
                live.ends = now.after(Span(u64::try_from(left.div_ceil(u128::from(live.iteration.0))).unwrap()));
            }
        }
    }
}
