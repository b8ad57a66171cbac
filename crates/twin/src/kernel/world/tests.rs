//! Small worlds whose course is known.

use dh_hall::scheduler::{Backfill, Gang, Grace, Settings};
use dh_policy::fleet::NodeFacts;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

use super::super::live::{Costs, Fate};
use super::super::moves::Idle;
use super::super::warm::Caches;
use super::*;
use crate::record::{Header, Log, Recorder, is_log};

const SECOND: u64 = 1_000_000_000;

fn settings(nodes: u32) -> Settings {
    let node = NodeFacts { class: 0, accelerators: 8, cpu_milli: 64_000, memory_mib: 64_000, path: Vec::new() };
    Settings { nodes: (0..nodes).map(|_| node.clone()).collect(), backfill: Backfill::None, ..Settings::default() }
}

fn arrival(job: u64, at: u64, ranks: u32, seconds: u64) -> Arrival {
    let rank = Request { cpu_milli: 0, memory_mib: 0, accelerators: 8, milli: WHOLE, models: 0 };
    let need = Need { ranks, rank, within: 0, rails: Rails::Any };
    let gang = Gang { need, least_ranks: ranks, dataset: None, speeds: 0, rank_watts: 0, grace: Grace::Preemptible };
    let length = Span::from_secs(seconds);
    let submission = Submission {
        job: JobId(job),
        gang,
        queue: 0,
        priority: 0,
        length: Some(length),
        attained: Span(0),
        since: SimTime(at * SECOND),
        deadline: None,
        kind: 0,
    };
    Arrival { at: SimTime(at * SECOND), submission, work: Work { length, profile: 0, fate: Fate::Completed } }
}

/// Start and end of every job, in seconds.
#[derive(Debug, Default)]
struct Course(Vec<(u64, u64, u64)>);

impl Observer for Course {
    fn happened(&mut self, now: SimTime, what: Happening<'_>, _: &Scheduler) {
        if let Happening::Ended { job, first_start, .. } = what {
            self.0.push((job.job.0, first_start.0 / SECOND, now.0 / SECOND));
        }
    }
}

fn play(nodes: u32, arrivals: Vec<Arrival>, faults: Vec<Fault>, costs: Costs) -> (Course, Stopped) {
    let scheduler = Scheduler::new(settings(nodes)).unwrap();
    let profile = Profile { costs, ..Profile::default() };
    let mut kernel = Kernel::new(scheduler, arrivals.into_iter(), faults.into_iter(), vec![profile]);
    let mut course = Course::default();
    let stopped = kernel.run(SimTime(u64::MAX), &mut course);
    (course, stopped)
}

#[test]
fn jobs_wait_their_turn_and_run_their_length() {
    let arrivals = vec![arrival(1, 0, 2, 100), arrival(2, 10, 1, 50), arrival(3, 20, 2, 10), arrival(4, 30, 1, 5)];
    let (course, stopped) = play(2, arrivals, Vec::new(), Costs::default());
    assert_eq!(course.0, [(1, 0, 100), (2, 100, 150), (3, 150, 160), (4, 160, 165)]);
    assert_eq!(stopped, Stopped::Done);
}

#[test]
fn a_start_takes_its_launch() {
    let costs = Costs { launch: Span::from_secs(7), ..Costs::default() };
    let (course, _) = play(1, vec![arrival(1, 0, 1, 100)], Vec::new(), costs);
    assert_eq!(course.0, [(1, 0, 107)]);
}

#[test]
fn jobs_that_no_node_can_take_are_left() {
    let down = Fault { at: SimTime(5 * SECOND), node: NodeId(0), service: Service::Drained };
    let (course, stopped) = play(1, vec![arrival(1, 10, 1, 100)], vec![down], Costs::default());
    assert_eq!((course.0.len(), stopped), (0, Stopped::Stuck { jobs: 1 }));
}

#[test]
fn a_recorded_run_replays_to_its_digests_and_is_a_trace_for_another_policy() {
    let arrivals = vec![arrival(1, 0, 2, 100), arrival(2, 10, 1, 50), arrival(3, 20, 2, 10), arrival(4, 30, 1, 5)];
    let faults = vec![
        Fault { at: SimTime(40 * SECOND), node: NodeId(1), service: Service::Down },
        Fault { at: SimTime(60 * SECOND), node: NodeId(1), service: Service::Up },
    ];
    let profiles = vec![Profile::default()];
    let header = Header::new(settings(2), profiles.clone(), vec!["default".to_owned()]);
    let mut written = Vec::new();
    let mut recorder = Recorder::new(&mut written, &header).unwrap();
    let scheduler = Scheduler::new(settings(2)).unwrap();
    let mut kernel = Kernel::new(scheduler, arrivals.clone().into_iter(), faults.clone().into_iter(), profiles);
    let mut course = Course::default();
    assert_eq!(kernel.run(SimTime(u64::MAX), &mut (&mut recorder, &mut course)), Stopped::Done);
    recorder.finish(kernel.scheduler().digest()).unwrap();
    assert_eq!(course.0.first(), Some(&(1, 0, 160)), "what was done by the fault is lost");

    let text = String::from_utf8(written).unwrap();
    assert!(is_log(&text));
    let mut again = Scheduler::new(Log::read(&text).unwrap().header.settings).unwrap();
    let replay =
        Log::read(&text).unwrap().replay(&mut again, SimTime(u64::MAX), |scheduler, _, _| scheduler.check()).unwrap();
    assert_eq!((replay.differs, replay.marks, again.digest()), (None, 1, kernel.scheduler().digest()));
    assert_eq!(Log::read(&text).unwrap().trace(), Ok((arrivals, faults)));

    let changed = text.replace("\"at\":10000000000", "\"at\":10000000001");
    let mut other = Scheduler::new(settings(2)).unwrap();
    let replay = Log::read(&changed).unwrap().replay(&mut other, SimTime(u64::MAX), |_, _, _| {}).unwrap();
    assert_eq!(replay.differs.map(|(events, ..)| events), Some(replay.events), "a changed event is found");
    assert!(matches!(Log::read("{}"), Err(crate::Error::Line { line: 1, .. })));
}

/// `arrival` with so many accelerators for its one rank.
fn part(job: u64, at: u64, accelerators: u8, seconds: u64) -> Arrival {
    let mut arrival = arrival(job, at, 1, seconds);
    arrival.submission.gang.need.rank.accelerators = accelerators;
    arrival
}

#[test]
fn a_gang_starts_sooner_because_another_job_moves_if_that_pays() {
    // After 10 s each node is half free, and the gang of a whole node would wait until one of the long jobs ends.
    let arrivals =
        || vec![part(1, 0, 4, 10), part(2, 0, 4, 9_000), part(3, 0, 4, 10), part(4, 0, 4, 9_000), part(5, 5, 8, 100)];
    let run = |every: Option<u64>| {
        let scheduler = Scheduler::new(settings(2)).unwrap();
        let mut kernel = Kernel::new(scheduler, arrivals().into_iter(), std::iter::empty(), vec![Profile::default()]);
        if let Some(every) = every {
            kernel = kernel.consolidating(Span::from_secs(every), Idle::StaysUp);
        }
        let mut course = Course::default();
        assert_eq!(kernel.run(SimTime(u64::MAX), &mut course), Stopped::Done);
        let fifth = course.0.iter().find(|(job, ..)| *job == 5).unwrap().1;
        (fifth, kernel.moved())
    };
    assert_eq!(run(None), (9_000, None));
    let (started, moved) = run(Some(60));
    let moved = moved.unwrap();
    assert_eq!((started, moved.applied, moved.moves, moved.started), (60, 1, 1, 1), "{moved:?}");
    // 8 accelerators, 8,940 s sooner; 4 accelerators stop and start.
    assert_eq!((moved.sooner, moved.price), (8 * 8_940, 4 * 60), "{moved:?}");
}

#[test]
fn the_first_start_on_a_node_reads_the_data_and_placement_by_data_finds_it_again() {
    let run = |placement: &str| {
        let settings = Settings { placement: placement.to_owned(), ..settings(2) };
        let scheduler = Scheduler::new(settings).unwrap();
        let with = |job: u64, at, dataset, seconds| {
            let mut arrival = part(job, at, 4, seconds);
            arrival.submission.gang.dataset = Some(dataset);
            arrival
        };
        // Two data sets come to two nodes; then the second is wanted while both nodes are equally free.
        let arrivals = vec![with(1, 0, 0, 50), part(9, 0, 4, 50), with(2, 0, 1, 50), with(3, 100, 1, 50)];
        let caches = Caches { keep: vec![100; 2], take: vec![10; 2], store: 0, sizes: vec![100, 60] };
        let profiles = vec![Profile::default()];
        let mut kernel = Kernel::new(scheduler, arrivals.into_iter(), std::iter::empty(), profiles).reading(caches);
        let mut course = Course::default();
        assert_eq!(kernel.run(SimTime(u64::MAX), &mut course), Stopped::Done);
        (course.0, kernel.fetched().unwrap())
    };
    let (course, fetched) = run("data-local");
    assert_eq!(course, [(9, 0, 50), (2, 0, 56), (1, 0, 60), (3, 100, 150)]);
    assert_eq!((fetched.starts, fetched.cold_starts, fetched.warm_ranks, fetched.bytes), (3, 2, 1, 160));
    assert_eq!((fetched.waited_ms, fetched.lost), (16_000, 4 * 16));
    let (course, fetched) = run("best-fit");
    assert_eq!((course[3], fetched.cold_starts), ((3, 100, 156), 3), "who does not look for data reads it again");
}
