//! Boxes and parts of accelerators through the whole machine.

use dh_policy::fleet::{Service, Slice, View};
use dh_policy::placement::Misfit;
use dh_policy::torus::{Asked, Links, Request as Sides, Wiring};

use super::*;

const WIRING: Wiring = Wiring { first: 0, dims: [4, 4, 2], node: [2, 2, 1], links: Links::Fixed };

/// Eight nodes of four accelerators, 4 x 4 x 2.
fn torus() -> Settings {
    Settings { tori: vec![WIRING], ..settings(1, 8, 4) }
}

fn boxed(asked: Asked) -> Gang {
    let split = WIRING.split(&asked).unwrap();
    let whole = gang(split.nodes, u8::try_from(split.each).unwrap());
    Gang { need: Need { rails: Rails::Box(asked), ..whole.need }, ..whole }
}

fn sides(shape: [u16; 3]) -> Gang {
    boxed(Asked::Sides(Sides::new(shape)))
}

fn share(milli: u16) -> Gang {
    let whole = gang(1, 1);
    Gang { need: Need { rank: Request { milli, ..whole.need.rank }, ..whole.need }, ..whole }
}

fn slice(size: u8, starts: u8, milli: u16) -> Gang {
    let part = share(milli);
    Gang { need: Need { rails: Rails::Slice(Slice { size, starts }), ..part.need }, ..part }
}

fn submit(scheduler: &mut Scheduler, at: u64, submission: Submission) -> Vec<u64> {
    started(&step(scheduler, at, &Event::Submitted(submission)))
}

fn nodes_of(scheduler: &Scheduler, job: u64) -> Vec<u32> {
    let mut nodes: Vec<u32> = scheduler.ranks(JobId(job)).unwrap().iter().map(|held| held.node.0).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_box_waits_for_neighbours_and_says_which_box_is_nearest() {
    let mut scheduler = Scheduler::new(torus()).unwrap();
    for node in 0..8_u64 {
        assert_eq!(submit(&mut scheduler, 1 + node, submission(1 + node, sides([2, 2, 1]))), [1 + node]);
    }
    // The nodes at (0, 0) and (1, 1) of the first layer come free: a box of two they are not.
    let on = |scheduler: &Scheduler, node: u32| (1..9).find(|job| nodes_of(scheduler, *job) == [node]).unwrap();
    let (corner, middle, beside) = (on(&scheduler, 0), on(&scheduler, 6), on(&scheduler, 1));
    step(&mut scheduler, 20, &Event::Ended { job: JobId(corner), run: PRESENT });
    step(&mut scheduler, 21, &Event::Ended { job: JobId(middle), run: PRESENT });
    assert_eq!(submit(&mut scheduler, 22, submission(20, sides([2, 2, 2]))), [0; 0]);
    let why = scheduler.why(JobId(20)).unwrap();
    assert_eq!(why.blockers, [Blocker::Room { misfit: Misfit::NoBox { places: 2, ranks: 2 } }]);
    let nearly = why.nearly.unwrap();
    assert_eq!((nearly.nodes.len(), nearly.busy), (2, 4));
    assert_eq!(why.holders.len(), 1);
    assert_eq!(started(&step(&mut scheduler, 23, &Event::Ended { job: JobId(beside), run: PRESENT })), [20]);
    assert_eq!(nodes_of(&scheduler, 20), [0, 1]);
}

#[test]
fn a_box_that_no_torus_holds_is_refused() {
    let mut scheduler = Scheduler::new(torus()).unwrap();
    let need = Need { rails: Rails::Box(Asked::Sides(Sides::new([3, 3, 3]))), ..gang(7, 4).need };
    let refused = step(&mut scheduler, 1, &Event::Submitted(submission(1, Gang { need, ..gang(7, 4) })));
    let because = Refusal::Never(Misfit::NoSuchBox { chips: 27 });
    assert_eq!(refused, [Action::Refused { job: JobId(1), because }]);
    let mut flat = Scheduler::new(settings(1, 8, 4)).unwrap();
    let refused = step(&mut flat, 1, &Event::Submitted(submission(1, sides([2, 2, 2]))));
    assert_eq!(refused, [Action::Refused { job: JobId(1), because: Refusal::Never(Misfit::NoTorus) }]);
}

#[test]
fn a_box_displaces_the_jobs_of_one_box() {
    let queues = vec![QueueRules { preempts: true, ..QueueRules::default() }];
    let mut scheduler = Scheduler::new(Settings { queues, ..torus() }).unwrap();
    for job in 1..=8 {
        submit(&mut scheduler, job, submission(job, sides([2, 2, 1])));
    }
    let urgent = Submission { priority: 5, ..submission(20, sides([2, 2, 2])) };
    let stopped: Vec<JobId> = step(&mut scheduler, 20, &Event::Submitted(urgent))
        .iter()
        .filter_map(|action| if let Action::Stop { job, .. } = action { Some(*job) } else { None })
        .collect();
    assert_eq!(stopped.len(), 2, "a box of two nodes needs two victims");
    step(&mut scheduler, 21, &Event::Stopped { job: stopped[0], run: PRESENT, attained: Span(0) });
    let last = step(&mut scheduler, 22, &Event::Stopped { job: stopped[1], run: PRESENT, attained: Span(0) });
    assert_eq!(started(&last), [20]);
}

#[test]
fn a_box_that_lost_a_node_moves_whole_or_waits_for_the_node() {
    let mut scheduler = Scheduler::new(torus()).unwrap();
    submit(&mut scheduler, 1, submission(1, sides([4, 2, 2])));
    let lost = nodes_of(&scheduler, 1)[0];
    let mut other = scheduler.clone();
    // The other half is free: it goes there at once, by way of the line.
    let down = Event::Node { node: NodeId(lost), service: Service::Down };
    let stopped = step(&mut scheduler, 2, &down);
    assert_eq!(stopped, [Action::Stop { job: JobId(1), cause: Cause::Broken }]);
    let moved = step(&mut scheduler, 3, &Event::Stopped { job: JobId(1), run: PRESENT, attained: Span(0) });
    assert_eq!(started(&moved), [1]);
    assert!(!nodes_of(&scheduler, 1).contains(&lost));
    // The other half is busy: it keeps what is left and goes on when the node is back, before a younger job.
    submit(&mut other, 2, submission(2, sides([4, 2, 2])));
    assert_eq!(step(&mut other, 3, &down), []);
    assert_eq!(submit(&mut other, 4, submission(3, sides([2, 2, 1]))), [0; 0]);
    let back = step(&mut other, 5, &Event::Node { node: NodeId(lost), service: Service::Up });
    assert!(matches!(&back[..], [Action::Repair { job: JobId(1), ranks }] if ranks.len() == 1), "{back:?}");
}

#[test]
fn shares_and_slices_fill_an_accelerator_and_return_it_whole() {
    let quota = QueueRules { quota_milli: Some(1900), ..QueueRules::default() };
    let mut scheduler = Scheduler::new(Settings { queues: vec![quota], ..settings(1, 1, 2) }).unwrap();
    let half = slice(4, 0b0001_0001, 428);
    let all = [share(600), share(400), half, slice(1, 0b0111_1111, 142), slice(4, 1, 571)];
    for (job, gang) in (1..).zip(all) {
        submit(&mut scheduler, job, submission(job, gang));
    }
    assert_eq!((scheduler.running(), scheduler.waiting()), (4, 1), "no four slots in a row are left");
    let masks: Vec<u128> = (1..=4).map(|job| scheduler.ranks(JobId(job)).unwrap()[0].mask).collect();
    assert_eq!(masks, [1, 1, 2, 2]);
    assert_eq!(submit(&mut scheduler, 10, submission(6, slice(2, 0b0101_0101, 285))), [6]);
    assert_eq!(submit(&mut scheduler, 11, submission(7, share(100))), [0; 0]);
    let blocked = scheduler.why(JobId(7)).unwrap().blockers;
    assert!(
        blocked.contains(&Blocker::Room { misfit: Misfit::Occupied { places: 0, ranks: 1, level: 0 } }),
        "{blocked:?}"
    );
    let saved = serde_json::to_vec(&scheduler).unwrap();
    let mut other: Scheduler = serde_json::from_slice(&saved).unwrap();
    for job in [1, 2, 3, 4, 6] {
        let event = Event::Ended { job: JobId(job), run: PRESENT };
        assert_eq!(step(&mut scheduler, 20 + job, &event), step(&mut other, 20 + job, &event));
    }
    for job in [5, 7] {
        step(&mut scheduler, 30 + job, &Event::Ended { job: JobId(job), run: PRESENT });
    }
    assert_eq!((scheduler.len(), scheduler.fleet().free_mask(NodeId(0))), (0, 3));
}

#[test]
fn a_whole_accelerator_is_claimed_slot_by_slot() {
    let queues = vec![QueueRules { preempts: true, ..QueueRules::default() }];
    let mut scheduler = Scheduler::new(Settings { queues, ..settings(1, 1, 1) }).unwrap();
    let quarter = slice(2, 0b0101_0101, 142);
    for job in 1..=4 {
        submit(&mut scheduler, job, submission(job, quarter));
    }
    let urgent = Submission { priority: 5, ..submission(20, gang(1, 1)) };
    assert_eq!(step(&mut scheduler, 5, &Event::Submitted(urgent)).len(), 4);
    for (at, job) in (6..).zip(1..=4) {
        let answered =
            started(&step(&mut scheduler, at, &Event::Stopped { job: JobId(job), run: PRESENT, attained: Span(0) }));
        assert_eq!(answered, if job == 4 { vec![20] } else { vec![] });
    }
}

#[test]
fn whatever_fits_has_started() {
    for seed in 1..40_u64 {
        let mut state = seed;
        let mut roll = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut scheduler = Scheduler::new(Settings { backfill: Backfill::Any, ..torus() }).unwrap();
        let mut known: Vec<u64> = Vec::new();
        for at in 1..120 {
            let event = if roll(5) < 3 {
                let shapes = [
                    sides([2, 2, 1]),
                    sides([2, 2, 2]),
                    sides([4, 2, 1]),
                    sides([4, 4, 1]),
                    boxed(Asked::Chips(16)),
                    sides([1, 1, 2]),
                    share(300),
                    share(700),
                    slice(1, 0b0111_1111, 142),
                    slice(4, 0b0001_0001, 428),
                    gang(1, 3),
                    gang(2, 2),
                ];
                known.push(at);
                Event::Submitted(submission(at, shapes[usize::try_from(roll(12)).unwrap()]))
            } else if known.is_empty() {
                Event::Tick
            } else {
                let job = known.swap_remove(usize::try_from(roll(known.len() as u64)).unwrap());
                if scheduler.ranks(JobId(job)).is_some() {
                    Event::Ended { job: JobId(job), run: PRESENT }
                } else {
                    Event::Cancelled { job: JobId(job) }
                }
            };
            step(&mut scheduler, at, &event);
            for job in &known {
                let slot = scheduler.state.jobs.slot(JobId(*job)).unwrap();
                if scheduler.ranks(JobId(*job)).is_none() {
                    let gang = *scheduler.gang(slot).unwrap();
                    assert!(scheduler.find(&gang, View::All).is_err(), "seed {seed}, {at}: job {job} fits and waits");
                }
            }
        }
    }
}
