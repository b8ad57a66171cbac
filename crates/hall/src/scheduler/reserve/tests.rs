//! Promises are kept, and nobody starves.

use std::collections::{BTreeMap, BTreeSet};

use super::super::tests::{PRESENT, gang, settings, step, submission};
use super::super::*;

/// A stream of whole numbers from a seed.
pub(in crate::scheduler) struct Dice(pub(in crate::scheduler) u64);

impl Dice {
    pub(in crate::scheduler) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Whether the scheduler is told how long jobs run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Length,
    Nothing,
}

/// Seconds at which each job started, and the first promise it was given.
#[derive(Default)]
struct Story {
    started: BTreeMap<u64, u64>,
    promised: BTreeMap<u64, u64>,
    overtook: usize,
}

/// Runs `jobs` (submitted at, gang, seconds), numbered from 0, until `horizon`.
fn play(settings: Settings, jobs: &[(u64, Gang, u64)], told: Told, horizon: u64) -> Story {
    let mut scheduler = Scheduler::new(settings).unwrap();
    let mut story = Story::default();
    // At one moment ends come before ticks, and ticks before what is new.
    let mut agenda: BTreeSet<(u64, u8, u64)> =
        (0..).zip(jobs).map(|(job, (at, ..))| (*at, 2, job)).collect::<BTreeSet<_>>();
    let mut highest = 0;
    while let Some((at, kind, job)) = agenda.pop_first().filter(|(at, ..)| *at <= horizon) {
        let (_, gang, length) = jobs.get(usize::try_from(job).unwrap()).unwrap();
        let event = match kind {
            0 => Event::Ended { job: JobId(job), run: PRESENT },
            1 => Event::Tick,
            _ => Event::Submitted(Submission {
                length: (told == Told::Length).then(|| Span::from_secs(*length)),
                ..submission(job, *gang)
            }),
        };
        for action in step(&mut scheduler, at, &event) {
            if let Action::Start { job, .. } = action {
                story.started.insert(job.0, at);
                story.overtook += usize::from(job.0 < highest);
                highest = highest.max(job.0);
                agenda.insert((at + jobs.get(usize::try_from(job.0).unwrap()).unwrap().2, 0, job.0));
            }
        }
        for job in 0..u64::try_from(jobs.len()).unwrap() {
            if let Some(moment) = scheduler.promised(JobId(job)) {
                story.promised.entry(job).or_insert(moment.0 / 1_000_000_000);
            }
        }
        if let Some(wakeup) = scheduler.wakeup() {
            agenda.insert((wakeup.0.div_ceil(1_000_000_000).max(at + 1), 1, 0));
        }
    }
    story
}

fn random(dice: &mut Dice) -> Vec<(u64, Gang, u64)> {
    let mut at = 0;
    let mut jobs = Vec::new();
    for _ in 0..40 {
        at += dice.below(4);
        let accelerators = [1, 2, 4, 8][usize::try_from(dice.below(4)).unwrap()];
        let ranks = 1 + u32::try_from(dice.below(6) * dice.below(2)).unwrap();
        let mut gang = gang(ranks, accelerators);
        gang.need.within = u8::from(ranks <= 3 && dice.below(3) == 0);
        gang.need.rank.memory_mib = if dice.below(8) == 0 { 200_000 } else { 0 };
        jobs.push((at, gang, 1 + dice.below(30)));
    }
    jobs
}

#[test]
fn a_promised_start_never_slips_if_lengths_are_known() {
    let (mut promises, mut overtook) = (0, 0);
    for seed in 0..60 {
        for backfill in [Backfill::Easy, Backfill::Conservative { reservations: 4 }] {
            let jobs = random(&mut Dice(seed));
            let story = play(Settings { backfill, ..settings(2, 3, 8) }, &jobs, Told::Length, 100_000);
            assert_eq!(story.started.len(), jobs.len(), "a job never starts");
            for (job, promised) in &story.promised {
                assert!(story.started[job] <= *promised, "seed {seed}, {backfill:?}: job {job} is late");
            }
            promises += story.promised.len();
            overtook += story.overtook;
        }
    }
    assert!(promises > 200 && overtook > 200, "{promises} promises, {overtook} overtook");
}

#[test]
fn small_jobs_of_unknown_length_never_starve_a_large_one_beyond_its_patience() {
    let stream = |large: u64| -> Vec<(u64, Gang, u64)> {
        (0..400)
            .map(|second| if second == large { (second, gang(4, 8), 5) } else { (second, gang(1, 8), 10) })
            .collect()
    };
    let patience = Some(Span::from_secs(60));
    for backfill in [Backfill::Any, Backfill::Easy, Backfill::Conservative { reservations: 3 }] {
        let hall = Settings { backfill, ..settings(1, 4, 8) };
        let story = play(Settings { patience, ..hall.clone() }, &stream(20), Told::Nothing, 399);
        assert!(story.started[&20] <= 20 + 60 + 12, "{backfill:?}: it started at {}", story.started[&20]);
        let story = play(hall, &stream(20), Told::Nothing, 399);
        assert_eq!(story.started.get(&20), None, "it does not starve by itself, so the test says nothing");
    }
    let easy = Settings { backfill: Backfill::Easy, ..settings(1, 4, 8) };
    let story = play(easy, &stream(20), Told::Length, 399);
    // Twelve are ahead of it, 4 at a time, 10 s each.
    assert!(story.started[&20] <= 20 + 30 + 10, "it started at {}", story.started[&20]);
}

#[test]
fn a_reservation_does_not_outlive_the_node_it_was_made_on() {
    let mut scheduler = Scheduler::new(settings(1, 3, 8)).unwrap();
    let known = |job, ranks, seconds| {
        Event::Submitted(Submission { length: Some(Span::from_secs(seconds)), ..submission(job, gang(ranks, 8)) })
    };
    step(&mut scheduler, 0, &known(1, 1, 100));
    step(&mut scheduler, 0, &known(2, 1, 50));
    step(&mut scheduler, 0, &known(3, 2, 10));
    // It would end too late to overtake, and its try makes the plan.
    step(&mut scheduler, 1, &known(4, 1, 500));
    assert_eq!(scheduler.promised(JobId(3)), Some(SimTime(50_000_000_000)));
    let node = scheduler.fleet();
    let free = (0..3).map(NodeId).find(|at| node.idle(*at)).unwrap();
    step(&mut scheduler, 2, &Event::Node { node: free, service: dh_policy::fleet::Service::Down });
    assert_eq!(scheduler.promised(JobId(3)), Some(SimTime(100_000_000_000)));
    step(&mut scheduler, 3, &Event::Cancelled { job: JobId(3) });
    assert_eq!(scheduler.promised(JobId(3)), None);
    step(&mut scheduler, 4, &Event::Node { node: free, service: dh_policy::fleet::Service::Up });
    assert_eq!((scheduler.running(), scheduler.waiting()), (3, 0));
}
