//! What users may rely on, one short story each.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use dh_core::time::Span;
use dh_core::{AttemptId, HasKind, JobId, Kind, Rank, SimTime, TaskId};
use dh_hall::scheduler::{Backfill, Settings, Sharing};
use dh_hall::{
    Action, End, EndCause, Event, Hall, JobKind, JobSpec, NodeSpec, Outcome, Part, Phase, Protocol, QueueSpec,
};
use dh_policy::fleet::NodeFacts;

/// Nothing overtakes the line.
fn strict() -> Box<Settings> {
    Box::new(Settings { placement: "best-fit".into(), backfill: Backfill::None, ..Settings::default() })
}

fn hall(slots: &[u32]) -> Hall {
    let mut hall = Hall::default();
    let nodes = (0..)
        .zip(slots)
        .map(|(n, slots): (u32, _)| NodeSpec { name: format!("n{n}"), pool: "p".into(), slots: *slots, facts: None })
        .collect();
    let queues = BTreeMap::from([
        ("default".to_owned(), QueueSpec { priority: 0, max_jobs: None, ..QueueSpec::default() }),
        ("urgent".to_owned(), QueueSpec { priority: 10, max_jobs: None, ..QueueSpec::default() }),
    ]);
    hall.step(SimTime(0), Event::Configured { nodes, queues, policy: strict() }, &mut Vec::new());
    hall
}

/// Racks of two nodes with two slots and a GiB each.
fn racks(racks: u32) -> Hall {
    let facts = |node: u32| NodeFacts {
        class: 0,
        accelerators: 2,
        cpu_milli: u32::MAX,
        memory_mib: 1024,
        path: vec![node / 2],
    };
    let node = |n| NodeSpec { name: format!("n{n}"), pool: "p".into(), slots: 2, facts: Some(facts(n)) };
    let nodes = (0..2 * racks).map(node).collect();
    let policy = Box::new(Settings { levels: vec!["rack".into()], ..*strict() });
    let mut hall = hall(&[]);
    let queues = hall.queues().clone();
    hall.step(SimTime(0), Event::Configured { nodes, queues, policy }, &mut Vec::new());
    hall
}

fn spec(ranks: u32) -> JobSpec {
    JobSpec {
        name: "j".into(),
        command: vec!["true".into()],
        env: BTreeMap::new(),
        ranks,
        slots_per_rank: 1,
        part: None,
        queue: "default".into(),
        priority: 0,
        retries: 1,
        time_limit: None,
        memory_bytes: None,
        kind: JobKind::Batch,
        workload: None,
        ranks_min: None,
        within: None,
        datasets: Vec::new(),
        data_seed: None,
        checkpoints: None,
        secrets: BTreeMap::new(),
        nodes: Vec::new(),
        avoid_nodes: Vec::new(),
    }
}

fn step(hall: &mut Hall, at_ms: u64, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    hall.step(SimTime(at_ms * 1_000_000), event, &mut actions);
    actions
}

fn submit(hall: &mut Hall, at_ms: u64, spec: JobSpec) -> Vec<Action> {
    step(hall, at_ms, Event::Submitted { spec: Box::new(spec), by: "me".into(), idempotency_key: None })
}

fn ended(job: u64, attempt: u32, rank: u32, code: i32, cause: EndCause) -> Event {
    let task = TaskId { attempt: AttemptId { job: JobId(job), attempt }, rank: Rank(rank) };
    Event::TaskEnded { task, end: End { code: Some(code), signal: None, cause, message: String::new() } }
}

fn started(actions: &[Action]) -> Vec<(u64, u32)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Start { attempt, placement } => Some((attempt.job.0, u32::try_from(placement.len()).unwrap())),
            Action::Accepted { .. } | Action::Stop { .. } | Action::Serve { .. } | Action::Close { .. } => None,
        })
        .collect()
}

#[test]
fn a_gang_never_starts_partially_and_is_not_starved() {
    let mut hall = hall(&[2, 2]);
    assert_eq!(started(&submit(&mut hall, 1, spec(3))), [(1, 3)]);
    assert_eq!(started(&submit(&mut hall, 2, spec(2))), [], "one slot is free, two are needed");
    assert_eq!(started(&submit(&mut hall, 3, spec(1))), [], "a small job does not overtake the line");
    let why = hall.why(JobId(2)).unwrap();
    assert_eq!(why.because, "there is room for 1 of its 2 ranks beside what is running");
    assert!(hall.why(JobId(3)).unwrap().because.starts_with("1 jobs are ahead in the line, and the first, job/2,"));
    let mut actions = Vec::new();
    for rank in 0..3 {
        actions = step(&mut hall, 10, ended(1, 1, rank, 0, EndCause::Exited));
    }
    assert_eq!(started(&actions), [(2, 2), (3, 1)]);
}

#[test]
fn one_failed_rank_stops_the_gang_and_slots_return_with_the_last_task() {
    let mut hall = hall(&[2]);
    submit(&mut hall, 1, spec(2));
    submit(&mut hall, 1, spec(1));
    let attempt = AttemptId { job: JobId(1), attempt: 1 };
    let actions = step(&mut hall, 2, ended(1, 1, 0, 7, EndCause::Exited));
    assert_eq!(actions, [Action::Stop { attempt }], "job 2 must not start while rank 1 still runs");
    let actions = step(&mut hall, 3, ended(1, 1, 1, 0, EndCause::Stopped));
    assert_eq!(actions[0], Action::Close { attempt });
    assert_eq!(started(&actions), [(2, 1)], "job 1 is in back-off, so job 2 goes first");
    assert_eq!(hall.next_wakeup(), Some(SimTime(503_000_000)));
    step(&mut hall, 4, ended(2, 1, 0, 0, EndCause::Exited));
    let actions = step(&mut hall, 503, Event::Tick);
    assert_eq!(started(&actions), [(1, 2)]);
    step(&mut hall, 600, ended(1, 2, 1, 9, EndCause::Exited));
    step(&mut hall, 601, ended(1, 2, 0, 0, EndCause::Stopped));
    let Phase::Done { outcome: Outcome::Failed { because, code }, .. } = &hall.job(JobId(1)).unwrap().phase else {
        unreachable!("one retry was allowed")
    };
    assert_eq!((because.as_str(), *code), ("rank 1 exited with code 9", Some(9)));
}

#[test]
fn work_lost_with_the_server_is_not_the_jobs_fault() {
    let mut hall = hall(&[2]);
    submit(&mut hall, 1, JobSpec { retries: 0, ..spec(2) });
    // More often than a job may fail.
    for round in 1..=150 {
        step(&mut hall, 10 * u64::from(round), Event::ServerStarted);
        step(&mut hall, 10 * u64::from(round), ended(1, round, 0, 0, EndCause::Lost));
        let actions = step(&mut hall, 10 * u64::from(round), ended(1, round, 1, 0, EndCause::Lost));
        assert_eq!(started(&actions), [], "nothing starts before the server knows its nodes");
        let nodes = vec![NodeSpec { name: "n0".into(), pool: "p".into(), slots: 2, facts: None }];
        let queues = hall.queues().clone();
        let configured = Event::Configured { nodes, queues, policy: strict() };
        assert_eq!(started(&step(&mut hall, 10 * u64::from(round) + 1, configured)), [(1, 2)]);
    }
    assert_eq!(hall.job(JobId(1)).unwrap().failures, 0);
}

#[test]
fn a_job_that_finished_unseen_is_not_run_again() {
    let mut hall = hall(&[1]);
    submit(&mut hall, 1, spec(1));
    step(&mut hall, 2, Event::ServerStarted);
    step(&mut hall, 3, ended(1, 1, 0, 0, EndCause::Exited));
    assert_eq!(hall.job(JobId(1)).unwrap().word(), "succeeded");
}

#[test]
fn the_same_idempotency_key_is_the_same_job() {
    let mut hall = hall(&[1]);
    let event = || Event::Submitted { spec: Box::new(spec(1)), by: "me".into(), idempotency_key: Some("k".into()) };
    step(&mut hall, 1, event());
    assert_eq!(step(&mut hall, 2, event()), [Action::Accepted { job: JobId(1) }]);
    assert_eq!(hall.jobs().count(), 1);
}

#[test]
fn reports_of_a_fenced_attempt_have_no_effect() {
    let mut hall = hall(&[1]);
    submit(&mut hall, 1, spec(1));
    step(&mut hall, 2, ended(1, 1, 0, 1, EndCause::Exited));
    step(&mut hall, 1000, Event::Tick);
    let before = hall.job(JobId(1)).unwrap().clone();
    assert_eq!(before.active().unwrap().id.attempt, 2);
    assert_eq!(step(&mut hall, 1001, ended(1, 1, 0, 0, EndCause::Exited)), []);
    assert_eq!(*hall.job(JobId(1)).unwrap(), before);
}

#[test]
fn priorities_of_queue_and_job_add_up() {
    let mut hall = hall(&[1]);
    submit(&mut hall, 1, spec(1));
    submit(&mut hall, 2, JobSpec { priority: 5, ..spec(1) });
    submit(&mut hall, 3, JobSpec { queue: "urgent".into(), ..spec(1) });
    submit(&mut hall, 4, JobSpec { queue: "urgent".into(), priority: -6, ..spec(1) });
    let mut order = Vec::new();
    for job in [1, 3, 2, 4] {
        order.extend(started(&step(&mut hall, 10, ended(job, 1, 0, 0, EndCause::Exited))));
    }
    assert_eq!(order, [(3, 1), (2, 1), (4, 1)]);
}

#[test]
fn a_time_limit_ends_the_job_without_a_retry() {
    let mut hall = hall(&[1]);
    submit(&mut hall, 0, JobSpec { time_limit: Some(Span::from_secs(2)), ..spec(1) });
    assert_eq!(hall.next_wakeup(), Some(SimTime(2_000_000_000)));
    let attempt = AttemptId { job: JobId(1), attempt: 1 };
    assert_eq!(step(&mut hall, 2000, Event::Tick), [Action::Stop { attempt }]);
    step(&mut hall, 2100, ended(1, 1, 0, 0, EndCause::Stopped));
    assert_eq!(hall.job(JobId(1)).unwrap().word(), "failed");
    assert_eq!(hall.why(JobId(1)).unwrap().because, "its time limit of 2 s was over, and no retry was left");
}

#[test]
fn a_service_is_kept_alive_and_says_when_it_is_ready() {
    let mut hall = hall(&[1]);
    let kind = JobKind::Service { service: "chat".into(), model: "m".into(), protocol: Protocol::Chat };
    submit(&mut hall, 1, JobSpec { kind, retries: 0, ..spec(1) });
    let task = TaskId { attempt: AttemptId { job: JobId(1), attempt: 1 }, rank: Rank(0) };
    assert_eq!(step(&mut hall, 2, Event::ServiceReady { task }), [Action::Serve { task }]);
    assert_eq!(step(&mut hall, 3, Event::ServiceReady { task }), [], "once is enough");
    step(&mut hall, 4, ended(1, 1, 0, 0, EndCause::Exited));
    assert_eq!(hall.job(JobId(1)).unwrap().word(), "retrying");
    assert_eq!(started(&step(&mut hall, 2000, Event::Tick)), [(1, 1)]);
    step(&mut hall, 2001, Event::CancelRequested { job: JobId(1), by: "me".into() });
    step(&mut hall, 2002, ended(1, 2, 0, 0, EndCause::Stopped));
    assert_eq!(hall.job(JobId(1)).unwrap().word(), "cancelled");
}

#[test]
fn what_can_never_run_is_refused_with_the_numbers() {
    let hall = hall(&[2, 4]);
    let check = |spec: JobSpec| hall.check(&spec).map_err(|error| (error.kind(), error.to_string()));
    assert_eq!(check(spec(6)), Ok(()));
    assert_eq!(
        check(spec(7)),
        Err((
            Kind::Infeasible,
            "it can never run on this hall: the whole hall has room for 6 such ranks, and the gang has 7".into()
        ))
    );
    assert_eq!(check(JobSpec { slots_per_rank: 5, ..spec(1) }).unwrap_err().0, Kind::Infeasible);
    assert_eq!(
        check(JobSpec { queue: "nope".into(), ..spec(1) }).unwrap_err().1,
        "there is no queue `nope`; there is `default`, `urgent`"
    );
    for bad in [
        JobSpec { ranks: 0, ..spec(1) },
        JobSpec { command: vec![], ..spec(1) },
        JobSpec { name: String::new(), ..spec(1) },
        JobSpec { retries: 100, ..spec(1) },
        JobSpec { env: BTreeMap::from([("A=B".into(), "x".into())]), ..spec(1) },
    ] {
        assert_eq!(check(bad).unwrap_err().0, Kind::Invalid);
    }
}

#[test]
fn time_never_goes_back() {
    let mut hall = hall(&[1]);
    step(&mut hall, 5000, Event::Tick);
    submit(&mut hall, 10, spec(1));
    assert_eq!(hall.job(JobId(1)).unwrap().submitted, SimTime(5_000_000_000));
}

fn under(policy: Settings, queues: BTreeMap<String, QueueSpec>, slots: u32) -> Hall {
    let mut hall = Hall::default();
    let nodes = vec![NodeSpec { name: "n0".into(), pool: "p".into(), slots, facts: None }];
    hall.step(SimTime(0), Event::Configured { nodes, queues, policy: Box::new(policy) }, &mut Vec::new());
    hall
}

fn named(queues: &[(&str, QueueSpec)]) -> BTreeMap<String, QueueSpec> {
    queues.iter().map(|(name, queue)| ((*name).to_owned(), queue.clone())).collect()
}

#[test]
fn a_running_hall_backfills_only_what_is_over_before_the_first_in_line_can_start() {
    let limit = |ranks, seconds| JobSpec { time_limit: Some(Span::from_secs(seconds)), ..spec(ranks) };
    for (seconds, starts) in [(200, vec![]), (50, vec![(3, 1)])] {
        let mut hall = under(Settings::default(), named(&[("default", QueueSpec::default())]), 4);
        assert_eq!(started(&submit(&mut hall, 1, limit(3, 100))), [(1, 3)]);
        assert_eq!(started(&submit(&mut hall, 2, limit(4, 100))), []);
        assert_eq!(started(&submit(&mut hall, 3, limit(1, seconds))), starts);
    }
}

#[test]
fn a_running_hall_divides_itself_by_shares() {
    let queues = named(&[
        ("a", QueueSpec { share: 3, ..QueueSpec::default() }),
        ("b", QueueSpec { share: 1, ..QueueSpec::default() }),
    ]);
    let policy = Settings { sharing: Sharing::Fair { half_life: Span::from_secs(86_400) }, ..Settings::default() };
    let mut hall = under(policy, queues, 4);
    assert_eq!(started(&submit(&mut hall, 1, JobSpec { queue: "b".into(), ..spec(4) })), [(1, 4)]);
    for job in 0..8 {
        let queue = if job < 4 { "b" } else { "a" };
        assert_eq!(started(&submit(&mut hall, 2, JobSpec { queue: queue.into(), ..spec(1) })), []);
    }
    let mut actions = Vec::new();
    for rank in 0..4 {
        actions = step(&mut hall, 3, ended(1, 1, rank, 0, EndCause::Exited));
    }
    let of_a = started(&actions).iter().filter(|(job, _)| *job >= 6).count();
    assert_eq!((started(&actions).len(), of_a), (4, 3), "three to one: {actions:?}");
}

#[test]
fn a_queue_that_may_preempt_stops_what_is_less_urgent_and_that_goes_on_from_where_it_was() {
    let queues = named(&[
        ("default", QueueSpec::default()),
        ("urgent", QueueSpec { priority: 10, preempts: true, ..QueueSpec::default() }),
    ]);
    let mut hall = under(Settings::default(), queues, 2);
    assert_eq!(started(&submit(&mut hall, 1, spec(2))), [(1, 2)]);
    let victim = AttemptId { job: JobId(1), attempt: 1 };
    let actions = submit(&mut hall, 5_000, JobSpec { queue: "urgent".into(), ..spec(1) });
    assert!(actions.contains(&Action::Stop { attempt: victim }), "{actions:?}");
    step(&mut hall, 5_001, ended(1, 1, 0, 0, EndCause::Stopped));
    let actions = step(&mut hall, 5_001, ended(1, 1, 1, 0, EndCause::Stopped));
    assert_eq!(started(&actions), [(2, 1)]);
    assert_eq!(hall.job(JobId(1)).unwrap().attained, Span::from_secs(5));
    assert_eq!(hall.job(JobId(1)).unwrap().failures, 0);
    assert_eq!(started(&step(&mut hall, 6_000, ended(2, 1, 0, 0, EndCause::Exited))), [(1, 2)]);
}

#[test]
fn a_quota_holds_in_a_running_hall() {
    let queues = named(&[("default", QueueSpec { quota: Some(1), ..QueueSpec::default() })]);
    let mut hall = under(Settings::default(), queues, 4);
    assert_eq!(started(&submit(&mut hall, 1, spec(1))), [(1, 1)]);
    assert_eq!(started(&submit(&mut hall, 2, spec(1))), []);
    assert_eq!(hall.why(JobId(2)).unwrap().because, "queue `default` may hold 1 slots and holds 1; this job needs 1");
}

#[test]
fn a_log_from_before_there_was_a_choice_is_still_read() {
    let old = r#"{"event":"configured","nodes":[{"name":"n","pool":"p","slots":1}],
        "queues":{"default":{"priority":0,"max_jobs":null}},"order":"fifo","placement":"best-fit"}"#;
    let Event::Configured { queues, policy, .. } = serde_json::from_str(old).unwrap() else { unreachable!() };
    assert_eq!(queues, named(&[("default", QueueSpec::default())]));
    assert_eq!(policy, strict());
}

#[test]
fn two_halves_of_a_slot_run_at_once_and_a_third_waits() {
    let mut hall = hall(&[1]);
    let half = || JobSpec { part: Some(Part::Share { milli: 500, memory_bytes: None }), ..spec(1) };
    assert_eq!(started(&submit(&mut hall, 1, half())), [(1, 1)]);
    assert_eq!(started(&submit(&mut hall, 2, half())), [(2, 1)]);
    let (_, node) = hall.nodes().next().unwrap();
    assert_eq!((node.parts[&0].len(), node.busy.len(), node.free(), node.taken()), (2, 0, 0, 1));
    assert_eq!(started(&submit(&mut hall, 3, half())), []);
    assert_eq!(started(&step(&mut hall, 4, ended(1, 1, 0, 0, EndCause::Exited))), [(3, 1)]);
    // Who wants the whole waits for both.
    submit(&mut hall, 5, spec(1));
    assert_eq!(started(&step(&mut hall, 6, ended(2, 1, 0, 0, EndCause::Exited))), []);
    assert_eq!(started(&step(&mut hall, 7, ended(3, 1, 0, 0, EndCause::Exited))), [(4, 1)]);
}

#[test]
fn slices_of_a_slot_do_not_overlap_and_outlive_a_restart_of_the_server() {
    let mut hall = hall(&[1]);
    let slice = |profile: &str, size, starts, milli| JobSpec {
        part: Some(Part::Slice { profile: profile.into(), milli, size, starts }),
        ..spec(1)
    };
    let large = || slice("3g.40gb", 4, 0b0001_0001, 428);
    assert_eq!(started(&submit(&mut hall, 1, large())), [(1, 1)]);
    assert_eq!(started(&submit(&mut hall, 2, large())), [(2, 1)]);
    assert_eq!(started(&submit(&mut hall, 3, slice("1g.10gb", 1, 0b0111_1111, 142))), [], "all eight are taken");
    let cut = |hall: &Hall| {
        let (_, node) = hall.nodes().next().unwrap();
        node.parts[&0].iter().map(|owner| owner.held.cut).collect::<Vec<_>>()
    };
    let before = cut(&hall);
    assert_eq!(before.iter().fold(0, |all, cut| all | cut), 0xff, "{before:?}");
    // Configured anew, the hall adopts what runs.
    let nodes = vec![NodeSpec { name: "n0".into(), pool: "p".into(), slots: 1, facts: None }];
    let queues = hall.queues().clone();
    assert_eq!(started(&step(&mut hall, 4, Event::Configured { nodes, queues, policy: strict() })), []);
    assert_eq!(cut(&hall), before);
    assert_eq!(started(&step(&mut hall, 5, ended(1, 1, 0, 0, EndCause::Exited))), [(3, 1)]);
}

#[test]
fn a_part_that_is_none_is_refused() {
    let hall = hall(&[2]);
    let share = |milli| Some(Part::Share { milli, memory_bytes: None });
    for wrong in [
        JobSpec { part: share(0), ..spec(1) },
        JobSpec { part: share(1000), ..spec(1) },
        JobSpec { part: share(500), slots_per_rank: 2, ..spec(1) },
        JobSpec { part: Some(Part::Slice { profile: "x".into(), milli: 100, size: 9, starts: 1 }), ..spec(1) },
    ] {
        assert_eq!(hall.check(&wrong).unwrap_err().kind(), Kind::Invalid, "{wrong:?}");
    }
    assert!(hall.check(&JobSpec { part: share(1), ..spec(1) }).is_ok());
}

#[test]
fn a_gang_that_must_be_within_a_rack_waits_for_one() {
    let mut hall = racks(2);
    let within = |ranks, level: &str| JobSpec { within: Some(level.into()), ..spec(ranks) };
    assert_eq!(started(&submit(&mut hall, 1, spec(1))), [(1, 1)]);
    assert_eq!(started(&submit(&mut hall, 2, within(4, "rack"))), [(2, 4)], "the other rack is free");
    assert_eq!(started(&submit(&mut hall, 3, within(4, "rack"))), [], "three slots are left in the first");
    assert_eq!(started(&step(&mut hall, 4, ended(1, 1, 0, 0, EndCause::Exited))), [(3, 4)]);
    let never = hall.check(&within(5, "rack")).unwrap_err();
    assert_eq!(never.kind(), Kind::Infeasible, "{never}");
    let unknown = hall.check(&within(1, "row")).unwrap_err().to_string();
    assert_eq!(unknown, "there is no `row` to be within; this hall has `rack`");
}

/// The nodes of each start among `actions`, by their numbers.
fn places(actions: &[Action]) -> Vec<Vec<u32>> {
    let of = |action: &Action| match action {
        Action::Start { placement, .. } => Some(placement.iter().map(|placed| placed.node.0).collect()),
        Action::Accepted { .. } | Action::Stop { .. } | Action::Serve { .. } | Action::Close { .. } => None,
    };
    actions.iter().filter_map(of).collect()
}

fn on(nodes: &[&str], ranks: u32) -> JobSpec {
    JobSpec { nodes: nodes.iter().map(ToString::to_string).collect(), ..spec(ranks) }
}

fn off(nodes: &[&str], ranks: u32) -> JobSpec {
    JobSpec { avoid_nodes: nodes.iter().map(ToString::to_string).collect(), ..spec(ranks) }
}

#[test]
fn a_job_stands_on_the_nodes_that_it_names_and_on_none_that_it_avoids() {
    let mut hall = hall(&[2, 2, 2]);
    assert_eq!(places(&submit(&mut hall, 1, spec(1))), [[0]]);
    assert_eq!(places(&submit(&mut hall, 2, on(&["n2", "n1"], 3))), [[1, 1, 2]]);
    assert_eq!(places(&submit(&mut hall, 3, off(&["n0"], 1))), [[2]]);
    // Its only node has one slot left, and whoever runs there is not moved.
    let before = hall.open_attempts();
    assert!(places(&submit(&mut hall, 4, on(&["n0"], 2))).is_empty());
    assert_eq!(hall.open_attempts(), before);
    let why = hall.why(JobId(4)).unwrap();
    assert_eq!(why.because, "on the nodes that it may run on there is no place for it: n0 has 1 of 2 slots free");
    // A slot of another node is no place for it.
    for rank in 0..3 {
        assert!(places(&step(&mut hall, 5, ended(2, 1, rank, 0, EndCause::Exited))).is_empty());
    }
    assert_eq!(places(&step(&mut hall, 6, ended(1, 1, 0, 0, EndCause::Exited))), [[0, 0]]);
    step(&mut hall, 7, Event::NodeDrained { node: dh_core::NodeId(1), drained: true });
    assert!(places(&submit(&mut hall, 8, on(&["n1"], 1))).is_empty());
    let why = hall.why(JobId(5)).unwrap();
    assert_eq!(why.because, "on the nodes that it may run on there is no place for it: n1 is drained");
    assert_eq!(places(&step(&mut hall, 9, Event::NodeDrained { node: dh_core::NodeId(1), drained: false })), [[1]]);
}

#[test]
fn a_wish_that_nothing_can_fulfil_is_refused_with_its_reason() {
    let mut hall = hall(&[2, 4]);
    let refused = |hall: &Hall, spec: &JobSpec| {
        let rejection = hall.check(spec).unwrap_err();
        (rejection.kind(), rejection.to_string())
    };
    assert_eq!(refused(&hall, &on(&["n7"], 1)), (Kind::Invalid, "there is no node `n7`".to_owned()));
    assert_eq!(refused(&hall, &off(&["n7"], 1)).1, "there is no node `n7`");
    let none = JobSpec { nodes: vec!["n0".into()], ..off(&["n0"], 1) };
    assert_eq!(refused(&hall, &none).0, Kind::Invalid);
    assert_eq!(refused(&hall, &on(&["n0"], 3)).0, Kind::Infeasible);
    assert!(hall.check(&on(&["n1"], 3)).is_ok() && hall.check(&spec(6)).is_ok());
    // Nodes that were named and are gone after a change of the blueprint: it waits, and says so.
    submit(&mut hall, 1, spec(2));
    submit(&mut hall, 1, spec(4));
    submit(&mut hall, 2, on(&["n1"], 1));
    let (queues, nodes) = (hall.queues().clone(), hall.nodes().take(1).map(|(_, node)| node.spec.clone()).collect());
    step(&mut hall, 3, Event::Configured { nodes, queues, policy: strict() });
    let why = hall.why(JobId(3)).unwrap();
    assert!(why.because.ends_with("none of them is in this hall any more"), "{}", why.because);
}

#[test]
fn more_groups_of_nodes_than_can_be_told_apart_are_refused_and_none_is_mixed_up() {
    let mut hall = hall(&[1; 40]);
    submit(&mut hall, 0, spec(40));
    let mut accepted = 0;
    for node in 0..40 {
        let name = format!("n{node}");
        let wish = on(&[&name], 1);
        match hall.check(&wish) {
            Ok(()) => {
                submit(&mut hall, 1, wish);
                accepted += 1;
            }
            Err(rejection) => assert_eq!(rejection.kind(), Kind::Busy),
        }
    }
    assert_eq!(accepted, 30);
    let mut actions = Vec::new();
    for rank in 0..40 {
        actions.extend(step(&mut hall, 2, ended(1, 1, rank, 0, EndCause::Exited)));
    }
    let mut places = places(&actions);
    places.sort();
    assert_eq!(places, (0..30).map(|node| vec![node]).collect::<Vec<_>>());
}

#[test]
fn an_elastic_gang_starts_with_what_there_is_and_grows_later() {
    let mut hall = hall(&[4]);
    assert_eq!(started(&submit(&mut hall, 1, spec(2))), [(1, 2)]);
    let elastic = JobSpec { ranks_min: Some(1), ..spec(4) };
    assert_eq!(started(&submit(&mut hall, 2, elastic.clone())), [(2, 2)], "two of its four ranks");
    let done = [0, 1].map(|rank| step(&mut hall, 3, ended(1, 1, rank, 0, EndCause::Exited)));
    assert!(done.iter().all(|actions| started(actions).is_empty()), "it is not stopped every time that a slot is free");
    // Ten minutes after its start it is told to stop, and goes on with all.
    let at = hall.next_wakeup().unwrap();
    let grows = step(&mut hall, at.0.div_ceil(1_000_000), Event::Tick);
    let attempt = AttemptId { job: JobId(2), attempt: 1 };
    assert!(grows.contains(&Action::Stop { attempt }), "{grows:?}");
    step(&mut hall, 700_000, ended(2, 1, 0, 0, EndCause::Stopped));
    assert_eq!(started(&step(&mut hall, 700_000, ended(2, 1, 1, 0, EndCause::Stopped))), [(2, 4)]);
    for least in [0, 5] {
        let wrong = JobSpec { ranks_min: Some(least), ..spec(4) };
        assert_eq!(hall.check(&wrong).unwrap_err().kind(), Kind::Invalid);
    }
    assert!(hall.check(&elastic).is_ok());
}

#[test]
fn memory_is_held_and_what_ran_before_it_was_counted_keeps_its_slots() {
    let large = || JobSpec { memory_bytes: Some(700 << 20), ..spec(1) };
    let mut counted = racks(1);
    assert_eq!(started(&submit(&mut counted, 1, large())), [(1, 1)]);
    assert_eq!(started(&submit(&mut counted, 2, large())), [(2, 1)]);
    assert_eq!(started(&submit(&mut counted, 3, large())), [], "two slots are free, and too little memory");
    // Nothing was known of the memory of these nodes while both jobs came to the first of them.
    let mut hall = hall(&[2, 2]);
    assert_eq!(started(&submit(&mut hall, 1, large())), [(1, 1)]);
    assert_eq!(started(&submit(&mut hall, 2, large())), [(2, 1)]);
    let nodes: Vec<NodeSpec> = counted.nodes().map(|(_, node)| node.spec.clone()).collect();
    let policy = Box::new(Settings { levels: vec!["rack".into()], ..*strict() });
    let queues = hall.queues().clone();
    step(&mut hall, 3, Event::Configured { nodes, queues, policy });
    assert_eq!(started(&submit(&mut hall, 4, spec(2))), [(3, 2)], "on the other node");
    assert_eq!(started(&submit(&mut hall, 5, spec(1))), [], "nobody's slot is given away");
}
