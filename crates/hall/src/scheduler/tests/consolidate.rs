//! Plans of moves: what they say, what they cost, and that nothing moves by itself; against brute force on small halls.
#![expect(clippy::cast_possible_truncation, reason = "the numbers of small halls are small")]

use std::collections::BTreeMap;

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::{Holding, NodeFacts, Service, View};
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

use super::super::{
    Action, Backfill, Cause, Event, Gain, Gang, Goal, Grace, Plan, Scheduler, Settings, Stale, Submission,
};
use super::{PRESENT, named};

const SECOND: u64 = 1_000_000_000;

struct World {
    hall: Scheduler,
    now: u64,
    wants: BTreeMap<JobId, u8>,
    ranks: BTreeMap<JobId, Vec<Holding>>,
}

impl World {
    fn new(nodes: u32, accelerators: u8) -> Self {
        let facts =
            |node| NodeFacts { class: 0, accelerators, cpu_milli: 64_000, memory_mib: 64_000, path: vec![node / 2] };
        let settings = Settings {
            levels: vec!["rack".to_owned()],
            nodes: (0..nodes).map(facts).collect(),
            backfill: Backfill::Any,
            ..Settings::default()
        };
        let hall = Scheduler::new(settings).unwrap();
        Self { hall, now: 0, wants: BTreeMap::new(), ranks: BTreeMap::new() }
    }

    fn tell(&mut self, event: &Event) -> Vec<Action> {
        let event = named(&self.hall, event);
        self.now += SECOND;
        let mut actions = Vec::new();
        self.hall.step(SimTime(self.now), &event, &mut actions);
        self.hall.check();
        for action in &actions {
            if let Action::Start { job, ranks, .. } = action {
                self.ranks.insert(*job, ranks.clone());
            }
        }
        actions
    }

    fn submit(&mut self, job: u64, accelerators: u8) -> Vec<Action> {
        let rank = Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models: 0 };
        let need = Need { ranks: 1, rank, within: 0, rails: Rails::Any };
        let gang = Gang { need, least_ranks: 1, dataset: None, speeds: 0, rank_watts: 0, grace: Grace::Preemptible };
        self.wants.insert(JobId(job), accelerators);
        self.tell(&Event::Submitted(Submission {
            job: JobId(job),
            gang,
            queue: 0,
            priority: 0,
            length: None,
            attained: Span(0),
            since: SimTime(self.now),
            deadline: None,
            kind: 0,
        }))
    }

    fn end(&mut self, job: u64) -> Vec<Action> {
        self.ranks.remove(&JobId(job));
        self.tell(&Event::Ended { job: JobId(job), run: PRESENT })
    }

    fn node_of(&self, job: u64) -> u32 {
        self.ranks[&JobId(job)][0].node.0
    }

    fn free(&self) -> Vec<u8> {
        (0..self.hall.fleet().len() as u32).map(|node| self.hall.fleet().free(NodeId(node), View::All)).collect()
    }
}

/// Two nodes of two with a job of one on each, and a job of two that waits.
fn broken() -> World {
    let mut world = World::new(2, 2);
    for job in 1..=4 {
        world.submit(job, 1);
    }
    let (first, second): (Vec<u64>, Vec<u64>) = (1..=4).partition(|job| world.node_of(*job) == 0);
    world.end(first[0]);
    world.end(second[0]);
    assert_eq!(world.submit(5, 2), []);
    world
}

fn plan(world: &World) -> Plan {
    world.hall.consolidate(Goal::Start { job: JobId(5) }).unwrap()
}

#[test]
fn a_job_that_waits_starts_when_another_has_moved_and_both_have_their_place() {
    let mut world = broken();
    let plan = plan(&world);
    assert_eq!(plan.moves.len(), 1);
    let Gain::Starts { job: JobId(5), .. } = plan.gain else { panic!("{plan:?}") };
    let moved = &plan.moves[0];
    assert_eq!((moved.to.len(), moved.from[0].node == moved.to[0].node), (1, false));
    // A restart, and what was done since the start.
    assert!(moved.price >= 60 && moved.price < 80 && plan.price == moved.price, "{plan:?}");
    let by = JobId(5);
    let actions = world.tell(&Event::Apply { goal: plan.goal, plan: plan.id });
    assert_eq!(actions, [Action::Stop { job: moved.job, cause: Cause::Preempted { by } }]);
    // Nobody else gets the place that is kept.
    assert_eq!(world.submit(6, 1), []);
    let actions = world.tell(&Event::Stopped { job: moved.job, run: PRESENT, attained: Span(7) });
    let start = |action: &Action| {
        let Action::Start { job, ranks, .. } = action else { panic!("{action:?}") };
        (*job, ranks[0].node.0)
    };
    let started: BTreeMap<JobId, u32> = actions.iter().map(start).collect();
    assert_eq!(started, BTreeMap::from([(by, moved.from[0].node.0), (moved.job, moved.to[0].node.0)]));
    assert_eq!(world.free(), [0, 0]);
}

#[test]
fn nothing_moves_by_itself_and_a_stale_plan_changes_nothing() {
    let mut world = broken();
    let plan = plan(&world);
    assert_eq!(world.tell(&Event::Tick), []);
    // The place is taken by another in the meantime.
    assert!(matches!(world.submit(6, 1)[..], [Action::Start { .. }]));
    let before = world.free();
    let refused = |because| vec![Action::NotApplied { goal: plan.goal, plan: plan.id, because }];
    assert_eq!(world.tell(&Event::Apply { goal: plan.goal, plan: plan.id }), refused(Stale::NoPlan));
    assert_eq!(world.free(), before);
    assert_eq!(world.hall.consolidate(plan.goal), None);
    // With its job gone, it says that.
    let Gain::Starts { job, .. } = plan.gain else { panic!("{plan:?}") };
    world.tell(&Event::Cancelled { job });
    assert_eq!(world.tell(&Event::Apply { goal: plan.goal, plan: plan.id }), refused(Stale::NotWaiting));
    // A plan with another number is not the one that would be made.
    let world = &mut broken();
    let plan = self::plan(world);
    let because = Stale::Replaced { by: plan.id };
    let wrong = plan.id ^ 1;
    let refused = vec![Action::NotApplied { goal: plan.goal, plan: wrong, because }];
    assert_eq!(world.tell(&Event::Apply { goal: plan.goal, plan: wrong }), refused);
    assert!(because.to_string().ends_with("would be made now"), "{because}");
}

#[test]
fn what_was_kept_is_free_again_if_the_job_ends_or_its_place_is_lost() {
    let mut world = broken();
    let first = plan(&world);
    world.tell(&Event::Apply { goal: first.goal, plan: first.id });
    let job = first.moves[0].job;
    let actions = world.tell(&Event::Ended { job, run: PRESENT });
    assert!(matches!(actions[..], [Action::Start { job: JobId(5), .. }]), "{actions:?}");
    assert_eq!(world.free().iter().sum::<u8>(), 1);
    let mut world = broken();
    let first = plan(&world);
    world.tell(&Event::Apply { goal: first.goal, plan: first.id });
    let node = first.moves[0].to[0].node;
    world.tell(&Event::Node { node, service: Service::Drained });
    let actions = world.tell(&Event::Stopped { job: first.moves[0].job, run: PRESENT, attained: Span(0) });
    assert!(matches!(actions[..], [Action::Start { job: JobId(5), .. }]), "{actions:?}");
    assert_eq!((world.hall.waiting(), world.hall.running()), (1, 2));
}

#[test]
fn a_plan_in_the_making_is_saved_and_read_back() {
    let mut world = broken();
    let first = plan(&world);
    world.tell(&Event::Apply { goal: first.goal, plan: first.id });
    let text = serde_json::to_string(&world.hall).unwrap();
    let mut other: Scheduler = serde_json::from_str(&text).unwrap();
    let event = named(&world.hall, &Event::Stopped { job: first.moves[0].job, run: PRESENT, attained: Span(7) });
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    world.hall.step(SimTime(world.now + SECOND), &event, &mut ours);
    other.step(SimTime(world.now + SECOND), &event, &mut theirs);
    assert_eq!((ours, world.hall.digest()), (theirs, other.digest()));
}

#[test]
fn nodes_and_racks_come_free() {
    let mut world = World::new(4, 4);
    for job in 1..=16 {
        world.submit(job, 1);
    }
    // One job stays on each node.
    let mut stays: BTreeMap<u32, u64> = BTreeMap::new();
    for job in 1..=16 {
        let node = world.node_of(job);
        if *stays.entry(node).or_insert(job) != job {
            world.end(job);
        }
    }
    let plan = world.hall.consolidate(Goal::FreeDomains { level: 1, domains: 1 }).unwrap();
    let Gain::Frees { nodes } = &plan.gain else { panic!("{plan:?}") };
    assert_eq!((nodes.len(), plan.moves.len()), (2, 2));
    let actions = world.tell(&Event::Apply { goal: plan.goal, plan: plan.id });
    assert_eq!(actions.len(), 2);
    for action in actions {
        let Action::Stop { job, cause: Cause::Moved } = action else { panic!("{action:?}") };
        world.tell(&Event::Stopped { job, run: PRESENT, attained: Span(0) });
    }
    assert!(nodes.iter().all(|node| world.hall.fleet().idle(*node)));
    assert_eq!(world.hall.running(), 4);
    let three = world.hall.consolidate(Goal::FreeNodes { nodes: 3 }).unwrap();
    let Gain::Frees { nodes } = &three.gain else { panic!("{three:?}") };
    assert_eq!((nodes.len(), three.moves.len()), (1, 1), "the one of the two busy nodes that holds less");
}

/// Whether moving some jobs, all to what is free at this moment, makes room for `wanted` on one node: the least that moves.
fn brute(world: &World, wanted: u8) -> Option<u32> {
    let jobs: Vec<(u8, u32)> = world.ranks.iter().map(|(job, ranks)| (world.wants[job], ranks[0].node.0)).collect();
    let mut least = None;
    for set in 0_u32..1 << jobs.len() {
        let goes: Vec<(u8, u32)> = (0..jobs.len()).filter(|at| set >> at & 1 == 1).map(|at| jobs[at]).collect();
        for node in 0..world.free().len() as u32 {
            let mut free = world.free();
            let gives: u8 = goes.iter().filter(|(_, from)| *from == node).map(|(size, _)| size).sum();
            if gives + free[node as usize] < wanted || goes.iter().any(|(_, from)| *from != node) {
                continue;
            }
            // What the gang needs of what is free on its node is not there for those who move.
            free[node as usize] = 0;
            if fits(&goes, &mut free) {
                let size: u32 = goes.iter().map(|(size, _)| u32::from(*size)).sum();
                least = Some(least.map_or(size, |least: u32| least.min(size)));
            }
        }
    }
    least
}

fn fits(goes: &[(u8, u32)], free: &mut [u8]) -> bool {
    let Some(((size, from), rest)) = goes.split_first() else { return true };
    for node in 0..free.len() {
        if node as u32 != *from && free[node] >= *size {
            free[node] -= size;
            let all = fits(rest, free);
            free[node] += size;
            if all {
                return true;
            }
        }
    }
    false
}

#[test]
fn plans_are_sound_and_nearly_all_that_there_are_against_brute_force() {
    let (mut possible, mut found, mut least) = (0_u32, 0_u32, 0_u32);
    let mut dice = 7_u64;
    let mut roll = |bound: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % bound
    };
    for _ in 0..1_000 {
        let mut world = World::new(2 + roll(3) as u32, 2 + roll(3) as u8);
        let widest = world.hall.fleet().accelerators(NodeId(0));
        let mut job = 0;
        while world.hall.waiting() == 0 {
            job += 1;
            let size = 1 + roll(u64::from(widest)) as u8;
            world.submit(job, size);
        }
        // The one that waits goes; some of the others end.
        world.tell(&Event::Cancelled { job: JobId(job) });
        for other in 1..job {
            if roll(3) == 0 {
                world.end(other);
            }
        }
        if world.ranks.len() > 10 || world.hall.waiting() > 0 {
            continue;
        }
        let wanted = world.free().iter().max().unwrap() + 1;
        if wanted > widest {
            continue;
        }
        let (id, goal) = (JobId(job + 1), Goal::Start { job: JobId(job + 1) });
        world.submit(job + 1, wanted);
        let plan = world.hall.consolidate(goal);
        let best = brute(&world, wanted);
        assert!(plan.is_none() || best.is_some(), "there is no plan but {plan:?}");
        possible += u32::from(best.is_some());
        let Some(plan) = plan else { continue };
        found += 1;
        let moved: u32 = plan.moves.iter().map(|each| u32::from(world.wants[&each.job])).sum();
        least += u32::from(Some(moved) == best);
        let stops = world.tell(&Event::Apply { goal, plan: plan.id });
        assert_eq!(stops.len(), plan.moves.len());
        for each in &plan.moves {
            world.tell(&Event::Stopped { job: each.job, run: PRESENT, attained: Span(0) });
            assert_eq!(world.hall.ranks(each.job), Some(each.to.as_slice()));
        }
        assert!(world.hall.ranks(id).is_some(), "{id} did not start");
    }
    assert!(possible > 50, "only {possible} halls of which something is to be said");
    assert!(found * 20 >= possible * 19, "{found} of {possible} plans were found");
    assert!(least * 10 >= found * 8, "{least} of {found} move no more than they must");
}
