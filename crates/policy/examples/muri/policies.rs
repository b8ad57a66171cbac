//! The policies that are compared: what each knows of a job's length, its order, whether it takes jobs in order or the set
//! of the greatest worth, and whether jobs share.

use std::cmp::Reverse;

use dh_core::SimTime;
use dh_core::time::Span;
use dh_policy::order::gittins::{History, Likeness};
use dh_policy::order::knapsack::{Item, knapsack};
use dh_policy::order::{Order, by_name};
use dh_policy::sharing::{Foresight, Iteration, Kind, Sharer, Terms, Together, group, period, worth};

use crate::hall::{CAPACITY, CONTENTION, Group, Live, Policy, RESTART};
use crate::trace::Job;

/// Name, the published policies to compare with, and the policy.
type Row = (&'static str, &'static [&'static str], Box<dyn Policy>);

/// Every policy, freshly made.
pub(crate) fn all() -> Vec<Row> {
    let order = |name| by_name(name).unwrap();
    vec![
        ("shortest-remaining", &["SRTF"], Box::new(InOrder(order("shortest-remaining")))),
        ("shortest-remaining-service", &["SRSF"], Box::new(InOrder(order("shortest-remaining-service")))),
        ("known, set of greatest worth", &["SRSF"], Box::new(Known { sharing: Sharing::Never })),
        ("known, stages interleaved", &["Muri_S"], Box::new(Known { sharing: Sharing::Stages })),
        ("as Tiresias-L", &["Tiresias_L"], Box::new(Tiresias::default())),
        ("least-attained", &["Tiresias_L"], Box::new(InOrder(order("least-attained")))),
        ("gittins, set of greatest worth", &["Tiresias_L", "themis"], Box::new(Learned::new(Sharing::Never))),
        ("gittins, stages interleaved", &["Muri_L"], Box::new(Learned::new(Sharing::Stages))),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Never,
    Stages,
}

/// Jobs in the order of their keys, each that still fits.
struct InOrder(&'static dyn Order);

impl Policy for InOrder {
    fn decide(&mut self, now: SimTime, live: &[Live], _jobs: &[Job]) -> (Vec<Group>, Option<SimTime>) {
        let candidates: Vec<_> = live.iter().map(|live| live.candidate(Some(live.length))).collect();
        let mut line: Vec<usize> = (0..live.len()).collect();
        // Among equals those that run go on.
        line.sort_by_key(|at| {
            let key = self.0.key(&candidates[*at]);
            (key.class, key.value, Reverse(live[*at].running), candidates[*at].job)
        });
        let mut free = CAPACITY;
        let mut groups = Vec::new();
        for at in line {
            if let Some(rest) = free.checked_sub(live[at].width) {
                free = rest;
                groups.push(Group { members: vec![at], period: live[at].iteration });
            }
        }
        let rises = next_rise(self.0, now, live, &groups);
        let waits = groups.len() < live.len();
        (groups, rises.filter(|_| waits))
    }
}

/// The published baseline without durations: three queues by attained service, first come first served within each,
/// who runs before who waits.
#[derive(Default)]
struct Tiresias {
    queues: [Vec<usize>; 3],
}

/// Where the first two queues end, in accelerator-seconds.
const LIMITS: [u64; 2] = [3250, 7200];

impl Policy for Tiresias {
    fn decide(&mut self, now: SimTime, live: &[Live], _jobs: &[Job]) -> (Vec<Group>, Option<SimTime>) {
        let place = |job: usize| live.binary_search_by_key(&job, |live| live.at).ok();
        let limit =
            |queue: usize, live: &Live| Some(Span::from_secs(LIMITS.get(queue)?.div_ceil(u64::from(live.width))));
        for live in live {
            if !self.queues.iter().flatten().any(|job| *job == live.at) {
                self.queues[0].push(live.at);
            }
        }
        for queue in 0..3 {
            self.queues[queue].retain(|job| place(*job).is_some());
            let over =
                |job: &usize| place(*job).is_some_and(|at| limit(queue, &live[at]).is_some_and(|l| live[at].held >= l));
            let (down, stay): (Vec<usize>, Vec<usize>) = self.queues[queue].iter().copied().partition(|job| over(job));
            self.queues[queue] = stay;
            if let Some(next) = self.queues.get_mut(queue + 1) {
                next.extend(down);
            }
        }
        let (mut free, mut groups, mut again) = (CAPACITY, Vec::new(), None);
        for (queue, jobs) in self.queues.iter_mut().enumerate() {
            let mut taken = Vec::new();
            for job in jobs.iter() {
                let at = place(*job).unwrap();
                if let Some(rest) = free.checked_sub(live[at].width) {
                    free = rest;
                    taken.push(*job);
                    groups.push(Group { members: vec![at], period: live[at].iteration });
                    let jump = limit(queue, &live[at]).map(|limit| now.after(Span(limit.0 - live[at].held.0)));
                    again = [again, jump].into_iter().flatten().min();
                }
            }
            jobs.sort_by_key(|job| !taken.contains(job));
        }
        (groups, again)
    }
}

/// When the key of a running job rises next. A restart comes before any progress, so asking earlier would find nothing.
fn next_rise(order: &dyn Order, now: SimTime, live: &[Live], groups: &[Group]) -> Option<SimTime> {
    let rise = |group: &Group, at: usize| {
        let span = order.rises_after(&live[at].candidate(None))?;
        let wall = u128::from(span.0) * u128::from(group.period.0) / u128::from(live[at].iteration.0);
        Some(now.after(Span(u64::try_from(wall).unwrap() + RESTART.0)))
    };
    groups.iter().flat_map(|group| group.members.iter().filter_map(move |at| rise(group, *at))).min()
}

/// The set of the greatest worth by what remains of each job; with or without sharing.
fn choose(live: &[Live], jobs: &[Job], remaining: &[Span], foresight: Foresight, sharing: Sharing) -> Vec<Group> {
    match sharing {
        Sharing::Never => {
            let item = |(live, remaining): (&Live, &Span)| Item {
                width: live.width,
                worth: (1 << 96) / u128::from(remaining.0.max(1)),
            };
            let items: Vec<Item> = live.iter().zip(remaining).map(item).collect();
            knapsack(&items, CAPACITY)
                .into_iter()
                .map(|at| Group { members: vec![at], period: live[at].iteration })
                .collect()
        }
        Sharing::Stages => {
            let mut iterations: Vec<Iteration> = Vec::new();
            let mut sharers = Vec::new();
            for (live, remaining) in live.iter().zip(remaining) {
                let iteration = Iteration { stages: jobs[live.at].stages, alone: live.iteration, memory_milli: 0 };
                let known = iterations.iter().position(|known| *known == iteration);
                let kind = known.unwrap_or_else(|| {
                    iterations.push(iteration);
                    iterations.len() - 1
                });
                let kind = Kind::try_from(kind + 1).unwrap();
                let worth = worth(*remaining, foresight);
                sharers.push(Sharer { width: live.width, shape: live.width, kind, worth });
            }
            let mut together = Together::default();
            for (kind, iteration) in (1..).zip(iterations) {
                together.tell(kind, Some(iteration));
            }
            let timed = |members: Vec<usize>| {
                let stages: Vec<_> = members.iter().map(|at| jobs[live[*at].at].stages).collect();
                let alone = || live[members[0]].iteration;
                let period = period(&stages).map_or_else(alone, |period| CONTENTION.of(stages.len(), period));
                Group { members, period }
            };
            let groups = group(&sharers, CAPACITY, Terms { together: &together, contention: &CONTENTION });
            groups.into_iter().map(|group| timed(group.members)).collect()
        }
    }
}

/// Durations are known.
struct Known {
    sharing: Sharing,
}

impl Policy for Known {
    fn decide(&mut self, _now: SimTime, live: &[Live], jobs: &[Job]) -> (Vec<Group>, Option<SimTime>) {
        let remaining: Vec<Span> = live.iter().map(|live| Span(live.length.0 - live.attained.0)).collect();
        (choose(live, jobs, &remaining, Foresight::Known, self.sharing), None)
    }
}

/// Durations are learned from jobs that ended.
struct Learned {
    sharing: Sharing,
    history: History,
    /// What the history has been told of each job, by its number.
    told: Vec<Option<Span>>,
}

impl Learned {
    fn new(sharing: Sharing) -> Self {
        Self { sharing, history: History::default(), told: Vec::new() }
    }

    fn tell(&mut self, live: &Live) {
        if self.told.len() <= live.at {
            self.told.resize(live.at + 1, None);
        }
        let mut job = live.candidate(None);
        job.attained = self.told[live.at].unwrap_or_else(|| {
            self.history.submitted(likeness(live), &job);
            Span(0)
        });
        self.history.ran(likeness(live), &job, live.attained);
        self.told[live.at] = Some(live.attained);
    }
}

fn likeness(live: &Live) -> Likeness {
    Likeness { group: 0, milli: u64::from(live.width) * 1000 }
}

impl Policy for Learned {
    fn ended(&mut self, live: &Live) {
        self.tell(live);
        self.history.ended(likeness(live), &live.candidate(None));
    }

    fn decide(&mut self, now: SimTime, live: &[Live], jobs: &[Job]) -> (Vec<Group>, Option<SimTime>) {
        for live in live {
            self.tell(live);
        }
        let remaining: Vec<Span> =
            live.iter().map(|live| self.history.remaining(likeness(live), &live.candidate(None))).collect();
        let groups = choose(live, jobs, &remaining, Foresight::Predicted, self.sharing);
        let waits = groups.iter().map(|group| group.members.len()).sum::<usize>() < live.len();
        let rises = next_rise(by_name("gittins").unwrap(), now, live, &groups);
        (groups, rises.filter(|_| waits))
    }
}
