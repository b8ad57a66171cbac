//! The named conditions, and no others, keep a job from starting.

use super::super::tests::{PRESENT, gang, settings, started, step, submission};
use super::super::*;
use super::*;

fn blockers(scheduler: &Scheduler, job: u64) -> Vec<Blocker> {
    scheduler.why(JobId(job)).unwrap().blockers
}

#[test]
fn idle_nodes_that_a_job_may_not_use_are_never_called_a_matter_of_priority() {
    let mut scheduler = Scheduler::new(Settings { backfill: Backfill::Any, ..settings(2, 2, 8) }).unwrap();
    step(&mut scheduler, 0, &Event::Submitted(submission(1, gang(1, 8))));
    let mut rack = gang(2, 8);
    rack.need.within = 1;
    step(&mut scheduler, 1, &Event::Submitted(submission(2, rack)));
    step(&mut scheduler, 2, &Event::Submitted(submission(3, rack)));
    let why = scheduler.why(JobId(3)).unwrap();
    assert_eq!(why.blockers, [Blocker::Room { misfit: Misfit::Occupied { places: 1, ranks: 2, level: 0 } }]);
    assert_eq!(why.nearest.first(), Some(&(Domain { level: 1, number: 0 }, 1)));
    assert_eq!(why.holders, [Holder { job: JobId(1), accelerators: 8, ends: None }]);
    assert_eq!(scheduler.why(JobId(1)), None);
}

#[test]
fn a_node_that_takes_no_work_is_named_if_it_alone_is_missing() {
    let mut scheduler = Scheduler::new(settings(1, 2, 8)).unwrap();
    step(&mut scheduler, 0, &Event::Node { node: NodeId(1), service: Service::Quarantined });
    step(&mut scheduler, 1, &Event::Submitted(submission(1, gang(2, 8))));
    let nodes = Blocker::Nodes { drained: 0, quarantined: 1, spare: 0, down: 0 };
    assert_eq!(blockers(&scheduler, 1), std::slice::from_ref(&nodes));
    assert!(nodes.to_string().contains("1 quarantined"));
    assert_eq!(started(&step(&mut scheduler, 2, &Event::Node { node: NodeId(1), service: Service::Up })), [1]);
}

#[test]
fn quota_power_and_room_are_named_together_and_each_is_enough_to_block() {
    let mut scheduler = Scheduler::new(settings(1, 2, 8)).unwrap();
    step(&mut scheduler, 0, &Event::Submitted(submission(1, gang(2, 8))));
    step(
        &mut scheduler,
        1,
        &Event::Queue { queue: 0, rules: QueueRules { quota_milli: Some(7000), ..QueueRules::default() } },
    );
    step(&mut scheduler, 1, &Event::PowerCap { watts: Some(10) });
    let mut hot = gang(1, 8);
    hot.rank_watts = 100;
    step(&mut scheduler, 2, &Event::Submitted(submission(2, hot)));
    assert_eq!(blockers(&scheduler, 2).len(), 3);
    let mut remove = [
        Event::Queue { queue: 0, rules: QueueRules::default() },
        Event::PowerCap { watts: None },
        Event::Ended { job: JobId(1), run: PRESENT },
    ];
    for _ in 0..remove.len() {
        remove.rotate_left(1);
        let mut other = scheduler.clone();
        for (removed, event) in remove.iter().enumerate() {
            let started = started(&step(&mut other, 3, event));
            assert_eq!(started, if removed == 2 { vec![2] } else { vec![] });
        }
    }
}

#[test]
fn what_is_kept_for_another_is_named_with_its_moment() {
    let mut scheduler = Scheduler::new(settings(1, 2, 8)).unwrap();
    let known = |job, ranks, seconds| {
        Event::Submitted(Submission { length: Some(Span::from_secs(seconds)), ..submission(job, gang(ranks, 8)) })
    };
    step(&mut scheduler, 0, &known(1, 1, 100));
    step(&mut scheduler, 1, &known(2, 2, 10));
    step(&mut scheduler, 2, &known(3, 1, 500));
    let at = SimTime(100_000_000_000);
    assert_eq!(blockers(&scheduler, 3), [Blocker::Reserved { for_job: JobId(2), at: Some(at) }]);
    assert_eq!(scheduler.why(JobId(2)).unwrap().earliest, Some(at));
    assert_eq!(started(&step(&mut scheduler, 3, &Event::Cancelled { job: JobId(2) })), [3]);
}

/// Takes away what a blocker names, as an event would; who goes first is cancelled, who runs ends.
fn remove(scheduler: &mut Scheduler, blocker: &Blocker, running: &[u64]) {
    let mut now = |event: &Event| {
        step(scheduler, 1000, event);
    };
    match blocker {
        Blocker::Quota { queue, .. } => now(&Event::Queue { queue: *queue, rules: QueueRules::default() }),
        Blocker::Power { .. } => now(&Event::PowerCap { watts: None }),
        Blocker::Order { ahead } => now(&Event::Cancelled { job: *ahead }),
        Blocker::Reserved { for_job, .. } => now(&Event::Cancelled { job: *for_job }),
        Blocker::Nodes { .. } => (0..6).for_each(|node| now(&Event::Node { node: NodeId(node), service: Service::Up })),
        Blocker::Room { .. } => running.iter().for_each(|job| now(&Event::Ended { job: JobId(*job), run: PRESENT })),
    }
}

#[test]
fn without_the_named_conditions_a_lone_job_starts_and_with_any_of_them_it_does_not() {
    let mut seed = 5_u64;
    let mut below = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let mut checked = [0; 4];
    for _ in 0..1500 {
        let mut scheduler =
            Scheduler::new(Settings { queues: vec![QueueRules::default(); 2], ..settings(2, 3, 8) }).unwrap();
        let mut running = Vec::new();
        for job in 0..below(6) {
            let ranks = 1 + u32::try_from(below(2)).unwrap();
            let size = 1 + u8::try_from(below(8)).unwrap();
            let own = Submission { queue: u16::try_from(below(2)).unwrap(), ..submission(job, gang(ranks, size)) };
            running.extend(started(&step(&mut scheduler, job, &Event::Submitted(own))));
            if !running.contains(&job) {
                step(&mut scheduler, job, &Event::Cancelled { job: JobId(job) });
            }
        }
        for _ in 0..below(4) {
            let service = [Service::Drained, Service::Quarantined, Service::Spare][usize::try_from(below(3)).unwrap()];
            let node = NodeId(u32::try_from(below(6)).unwrap());
            step(&mut scheduler, 20, &Event::Node { node, service });
        }
        if below(3) == 0 {
            let rules = QueueRules { quota_milli: Some(below(30) * 1000), ..QueueRules::default() };
            step(&mut scheduler, 21, &Event::Queue { queue: 0, rules });
        }
        if below(3) == 0 {
            step(&mut scheduler, 22, &Event::PowerCap { watts: Some(below(300)) });
        }
        let mut wanted = gang(1 + u32::try_from(below(4)).unwrap(), 1 + u8::try_from(below(8)).unwrap());
        wanted.need.within = u8::from(wanted.need.ranks <= 3 && below(2) == 0);
        wanted.rank_watts = 50;
        if !started(&step(&mut scheduler, 30, &Event::Submitted(submission(99, wanted)))).is_empty() {
            continue;
        }
        let named = blockers(&scheduler, 99);
        let without = |left: Option<usize>| {
            let mut other = scheduler.clone();
            for (at, blocker) in named.iter().enumerate() {
                if Some(at) != left {
                    remove(&mut other, blocker, &running);
                }
            }
            other.ranks(JobId(99)).is_some()
        };
        // Jobs that end give their queue's quota back too: then it needs no removal of its own.
        let room = named.iter().any(|blocker| matches!(blocker, Blocker::Room { .. }));
        assert!(without(None), "{named:?}");
        for (at, blocker) in named.iter().enumerate() {
            if !(room && matches!(blocker, Blocker::Quota { .. })) {
                assert!(!without(Some(at)), "{blocker:?} of {named:?} blocks nothing");
            }
        }
        checked[named.len().min(3)] += 1;
    }
    assert!(checked[0] == 0 && checked.iter().skip(1).all(|count| *count > 10), "{checked:?}");
}

#[test]
fn those_who_hold_most_are_named_whatever_their_gangs_look_like() {
    for seed in 0..60_u64 {
        let mut scheduler = Scheduler::new(Settings { backfill: Backfill::Any, ..settings(4, 8, 8) }).unwrap();
        let mut dice = seed;
        let mut roll = |most: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % most
        };
        for job in 1..80 {
            let mut wanted = gang(u32::try_from(1 + roll(6)).unwrap(), [1, 2, 4, 8][usize::try_from(roll(4)).unwrap()]);
            if seed % 3 == 0 && wanted.need.rank.accelerators == 1 {
                wanted.need.rank.milli = 250;
            }
            step(&mut scheduler, job, &Event::Submitted(submission(job, wanted)));
        }
        let mut rack = gang(8, 8);
        rack.need.within = 1;
        step(&mut scheduler, 80, &Event::Submitted(submission(80, rack)));
        step(&mut scheduler, 80, &Event::Submitted(submission(81, gang(32, 8))));
        for job in [80, 81] {
            let why = scheduler.why(JobId(job)).unwrap();
            let (domain, _) = why.nearest.first().copied().unwrap();
            let nodes = scheduler.fleet().tree().nodes_of(domain);
            let mut all: Vec<(std::cmp::Reverse<u32>, Slot, JobId)> = Vec::new();
            for id in (1..80).map(JobId) {
                let here: Vec<u32> = scheduler
                    .ranks(id)
                    .unwrap_or(&[])
                    .iter()
                    .filter(|held| nodes.contains(&held.node.0))
                    .map(|held| held.mask.count_ones())
                    .collect();
                if !here.is_empty() {
                    all.push((std::cmp::Reverse(here.iter().sum()), scheduler.state.jobs.slot(id).unwrap(), id));
                }
            }
            all.sort_unstable();
            all.truncate(NAMED);
            let named: Vec<(u32, JobId)> = why.holders.iter().map(|holder| (holder.accelerators, holder.job)).collect();
            assert_eq!(
                named,
                all.iter().map(|(held, _, id)| (held.0, *id)).collect::<Vec<_>>(),
                "seed {seed}, job {job}"
            );
        }
    }
}
