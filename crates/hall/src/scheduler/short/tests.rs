//! Short jobs behind long ones of their shape, and ends on accelerators of several speeds, against trying every job that waits.

use std::collections::{BTreeMap, BTreeSet};

use dh_policy::fleet::View;
use dh_policy::order;
use dh_policy::packing::Request;
use dh_policy::placement::Need;

use super::super::job::Phase;
use super::super::reserve::tests::Dice;
use super::super::tests::{PRESENT, gang, settings, started, step, submission};
use super::super::*;

fn submit(hall: &mut Scheduler, at: u64, job: u64, gang: Gang, seconds: u64) -> Vec<u64> {
    let length = (seconds > 0).then(|| Span::from_secs(seconds));
    started(&step(hall, at, &Event::Submitted(Submission { length, ..submission(job, gang) })))
}

fn easy(nodes: u32, accelerators: u8) -> Settings {
    Settings { backfill: Backfill::Easy, ..settings(1, nodes, accelerators) }
}

#[test]
fn a_short_job_passes_a_long_one_of_its_shape_beside_a_reservation() {
    let mut hall = Scheduler::new(easy(1, 4)).unwrap();
    assert_eq!(submit(&mut hall, 0, 1, gang(1, 3), 100), [1]);
    assert_eq!(submit(&mut hall, 0, 2, gang(1, 4), 100), [0; 0]);
    // The first of its shape is too long, and so is the next; those that end by 100 s go, one after the other.
    assert_eq!(submit(&mut hall, 1, 3, gang(1, 1), 500), [0; 0]);
    assert_eq!(submit(&mut hall, 1, 4, gang(1, 1), 0), [0; 0]);
    assert_eq!(submit(&mut hall, 1, 5, gang(1, 1), 100), [0; 0]);
    assert_eq!(submit(&mut hall, 1, 6, gang(1, 1), 40), [6]);
    assert_eq!(submit(&mut hall, 2, 7, gang(1, 1), 50), [0; 0]);
    assert_eq!(submit(&mut hall, 2, 8, gang(1, 1), 55), [0; 0]);
    assert_eq!(started(&step(&mut hall, 41, &Event::Ended { job: JobId(6), run: PRESENT })), [7]);
    assert_eq!(hall.promised(JobId(2)), Some(SimTime(100_000_000_000)));
    assert_eq!(started(&step(&mut hall, 91, &Event::Ended { job: JobId(7), run: PRESENT })), [0; 0]);
    assert_eq!(started(&step(&mut hall, 100, &Event::Ended { job: JobId(1), run: PRESENT })), [2]);
}

#[test]
fn a_long_job_that_turns_out_to_be_short_passes_the_one_before_it() {
    let mut hall = Scheduler::new(easy(1, 4)).unwrap();
    submit(&mut hall, 0, 1, gang(1, 3), 100);
    submit(&mut hall, 0, 2, gang(1, 4), 100);
    submit(&mut hall, 0, 3, gang(1, 1), 500);
    assert_eq!(submit(&mut hall, 0, 4, gang(1, 1), 500), [0; 0]);
    let shorter = Event::Predicted { job: JobId(4), length: Some(Span::from_secs(50)) };
    assert_eq!(started(&step(&mut hall, 1, &shorter)), [4]);
}

#[test]
fn what_is_kept_longer_lets_longer_ones_pass() {
    let mut hall = Scheduler::new(easy(1, 4)).unwrap();
    submit(&mut hall, 0, 1, gang(1, 3), 100);
    submit(&mut hall, 0, 2, gang(1, 4), 100);
    submit(&mut hall, 0, 3, gang(1, 1), 5_000);
    assert_eq!(submit(&mut hall, 0, 4, gang(1, 1), 200), [0; 0]);
    // The running one is to take longer: so is the promise.
    let longer = Event::Predicted { job: JobId(1), length: Some(Span::from_secs(900)) };
    let mut starts = started(&step(&mut hall, 1, &longer));
    starts.extend(started(&step(&mut hall, 2, &Event::Tick)));
    assert_eq!((starts, hall.promised(JobId(2))), (vec![4], Some(SimTime(900_000_000_000))));
}

fn of_classes(classes: &[u8], accelerators: u8) -> Settings {
    let mut settings = easy(u32::try_from(classes.len()).unwrap(), accelerators);
    for (node, class) in settings.nodes.iter_mut().zip(classes) {
        node.class = *class;
    }
    settings
}

fn told(hall: &mut Scheduler, id: u16, speeds: &[u32]) {
    step(hall, 0, &Event::Speeds { id, speeds: speeds.to_vec() });
}

#[test]
fn a_promise_is_made_for_when_slow_accelerators_are_done() {
    let mut hall = Scheduler::new(of_classes(&[1], 4)).unwrap();
    told(&mut hall, 1, &[100, 25]);
    // 100 s of work at a quarter of the speed.
    assert_eq!(submit(&mut hall, 0, 1, Gang { speeds: 1, ..gang(1, 3) }, 100), [1]);
    assert_eq!(submit(&mut hall, 0, 2, gang(1, 4), 10), [0; 0]);
    // This one is over after 200 s, also at a quarter; that one is not.
    assert_eq!(submit(&mut hall, 0, 3, Gang { speeds: 1, ..gang(1, 1) }, 101), [0; 0]);
    assert_eq!(hall.promised(JobId(2)), Some(SimTime(400_000_000_000)));
    assert_eq!(submit(&mut hall, 0, 4, Gang { speeds: 1, ..gang(1, 1) }, 50), [4]);
    // Told anew, the promise follows.
    told(&mut hall, 1, &[100, 50]);
    step(&mut hall, 1, &Event::Tick);
    assert_eq!(hall.promised(JobId(2)), Some(SimTime(200_000_000_000)));
}

#[test]
fn a_job_that_is_in_time_only_on_fast_accelerators_passes_only_there() {
    for (classes, starts) in [(&[0, 1][..], vec![3]), (&[1, 1], vec![])] {
        let mut hall = Scheduler::new(of_classes(classes, 2)).unwrap();
        told(&mut hall, 1, &[100, 10]);
        assert_eq!(submit(&mut hall, 0, 1, gang(1, 1), 100), [1]);
        assert_eq!(submit(&mut hall, 0, 2, gang(2, 2), 100), [0; 0]);
        assert_eq!(submit(&mut hall, 0, 3, Gang { speeds: 1, ..gang(1, 1) }, 90), starts);
        if let Some(ranks) = hall.ranks(JobId(3)) {
            assert_eq!(ranks[0].node, NodeId(0));
        }
    }
}

/// What a job is.
#[derive(Clone, Copy)]
struct Truth {
    gang: Gang,
    /// Nothing if nobody knows.
    seconds: u64,
}

/// Waiting jobs that fit now on some classes, and are over there before anything that is kept is needed.
fn could_start(hall: &Scheduler, speeds: &[[u32; 2]]) -> Vec<JobId> {
    let first = hall.state.reservations.first();
    let could = |slot: Slot, job: &job::Job| {
        let gang = hall.gang(slot)?;
        let own = gang.speeds.checked_sub(1).map_or([1, 1], |at| speeds[usize::from(at)]);
        let fits = (1..4_u32).any(|models| {
            let slowest = (0..2).filter(|class| models >> class & 1 == 1).map(|class| own[class]).min().unwrap();
            let in_time = first.is_none_or(|first| {
                let takes = job.remaining().map(|left| u128::from(left.0) * u128::from(own.into_iter().max().unwrap()));
                let left = u128::from(first.0.saturating_sub(hall.now().0)) * u128::from(slowest);
                takes.is_some_and(|takes| takes <= left)
            });
            let rank = Request { models, ..gang.need.rank };
            in_time && hall.find(&Gang { need: Need { rank, ..gang.need }, ..*gang }, View::All).is_ok()
        });
        fits.then_some(job.id)
    };
    let waiting = hall.state.jobs.iter().filter(|(_, job)| matches!(job.phase, Phase::Waiting { .. }));
    waiting.filter_map(|(slot, job)| could(slot, job)).collect()
}

#[test]
fn whatever_could_start_without_delaying_a_promise_starts() {
    let (mut behind, mut waited) = (0, 0);
    for seed in 0..400_u64 {
        let mut dice = Dice(seed);
        let classes: Vec<u8> = (0..2 + dice.below(3)).map(|_| u8::try_from(dice.below(2)).unwrap()).collect();
        let mut settings = of_classes(&classes, 1 + u8::try_from(dice.below(4)).unwrap());
        let fifo = dice.below(2) == 0;
        if !fifo {
            let at = usize::try_from(dice.below(u64::try_from(order::POLICIES.len()).unwrap())).unwrap();
            order::POLICIES[at].name().clone_into(&mut settings.order);
        }
        if dice.below(3) == 0 {
            settings.backfill = Backfill::Conservative { reservations: 2 };
        }
        let easy = settings.backfill == Backfill::Easy;
        let mut hall = Scheduler::new(settings).unwrap();
        let speeds = [[1_000_000, 500_000], [250_000, 1_000_000]];
        for (id, speeds) in (1..).zip(&speeds) {
            told(&mut hall, id, speeds);
        }
        let shapes: Vec<Gang> = (0..=dice.below(3))
            .map(|_| {
                let mut shape =
                    gang(1 + u32::try_from(dice.below(3)).unwrap(), 1 + u8::try_from(dice.below(3)).unwrap());
                shape.speeds = u16::try_from(dice.below(3)).unwrap();
                shape.need.rank.cpu_milli = if dice.below(4) == 0 { 20_000 } else { 0 };
                shape
            })
            .collect();
        let mut truth: BTreeMap<JobId, Truth> = BTreeMap::new();
        let mut ends: BTreeSet<(u64, JobId)> = BTreeSet::new();
        let mut promised: BTreeMap<JobId, SimTime> = BTreeMap::new();
        let (mut now, mut next) = (0, 0);
        for _ in 0..60 {
            // Ends are told when they come.
            let later = now + dice.below(20);
            let due = ends.first().copied().filter(|(at, _)| *at <= later || dice.below(3) == 0);
            let event = if let Some((at, job)) = due {
                ends.remove(&(at, job));
                now = at;
                truth.remove(&job);
                Event::Ended { job, run: PRESENT }
            } else if let Some(job) = truth
                .keys()
                .next()
                .copied()
                .filter(|job| dice.below(12) == 0 && ends.iter().all(|(_, other)| other != job))
            {
                now = later;
                truth.remove(&job);
                promised.clear();
                Event::Cancelled { job }
            } else {
                now = later;
                next += 1;
                let shape = shapes[usize::try_from(dice.below(u64::try_from(shapes.len()).unwrap())).unwrap()];
                let seconds = if dice.below(6) == 0 {
                    0
                } else {
                    {
                        let bits = 2 + dice.below(8);
                        1 + dice.below(1 << bits)
                    }
                };
                truth.insert(JobId(next), Truth { gang: shape, seconds });
                let length = (seconds > 0).then(|| Span::from_secs(seconds));
                Event::Submitted(Submission { length, ..submission(next, shape) })
            };
            for action in step(&mut hall, now, &event) {
                let Action::Start { job, ranks, .. } = action else { continue };
                let of = truth[&job];
                let own = of.gang.speeds.checked_sub(1).map_or([1_000_000; 2], |at| speeds[usize::from(at)]);
                let slowest = ranks.iter().map(|held| own[usize::from(hall.fleet().class(held.node))]).min().unwrap();
                let seconds = if of.seconds == 0 { 70 } else { of.seconds };
                ends.insert((now + (seconds * 1_000_000).div_ceil(u64::from(slowest)), job));
                let before = truth
                    .range(..job)
                    .filter(|(other, of)| hall.ranks(**other).is_none() && of.gang == truth[&job].gang);
                behind += before.count().min(1);
                promised.remove(&job);
            }
            // Promises are kept among those that rest on known ends.
            for (job, before) in promised.clone() {
                let present = hall.promised(job);
                assert!(
                    !fifo || !easy || present.is_none_or(|present| present <= before.max(hall.now())),
                    "seed {seed}: {job} was to start at {before:?}, and is to at {present:?}"
                );
            }
            promised = truth.keys().filter_map(|job| Some((*job, hall.promised(*job)?))).collect();
            let (backfill, order) = (hall.settings().backfill, &hall.settings().order);
            assert_eq!(could_start(&hall, &speeds), [], "seed {seed} at {now}: {backfill:?} {order} after {event:?}");
            waited += hall.waiting();
        }
    }
    assert!(behind > 300 && waited > 30_000, "{behind} passed one of their shape, {waited} waited");
}
