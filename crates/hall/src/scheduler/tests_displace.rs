//! Preemption: short stories, each of which some scheduler got wrong, and storms in which nobody stops for nothing.

use std::collections::{BTreeMap, BTreeSet};

use dh_policy::fleet::Service;
use dh_policy::order::{Candidate, Displaces, Key, class_of};

use super::job::Phase;
use super::tests::*;
use super::*;

/// Shortest remaining time first.
#[derive(Debug)]
struct Shortest;

impl Order for Shortest {
    fn name(&self) -> &'static str {
        "shortest"
    }
    fn about(&self) -> &'static str {
        "shortest remaining time first"
    }
    fn key(&self, job: &Candidate) -> Key {
        let left = job.length.map_or(u64::MAX, |length| length.0.saturating_sub(job.attained.0));
        Key { class: class_of(job.priority), value: left }
    }
    fn displaces(&self) -> Displaces {
        Displaces::Later
    }
}

/// Jobs that ran less than 1,000 s, then the others; first in, first out among them.
#[derive(Debug)]
struct Least;

impl Order for Least {
    fn name(&self) -> &'static str {
        "least"
    }
    fn about(&self) -> &'static str {
        "least attained service first"
    }
    fn key(&self, job: &Candidate) -> Key {
        Key { class: i64::from(job.attained.as_secs() >= 1000), value: job.submitted.0 }
    }
    fn displaces(&self) -> Displaces {
        Displaces::Later
    }
    fn rises_after(&self, job: &Candidate) -> Option<Span> {
        Span::from_secs(1000).0.checked_sub(job.attained.0).filter(|left| *left > 0).map(Span)
    }
}

fn preempting(racks: u32, per_rack: u32) -> Settings {
    let rules = QueueRules { preempts: true, ..QueueRules::default() };
    Settings { queues: vec![rules], backfill: Backfill::Any, ..settings(racks, per_rack, 8) }
}

fn urgent(job: u64, gang: Gang, priority: i32) -> Submission {
    Submission { priority, ..submission(job, gang) }
}

fn of_length(job: u64, gang: Gang, seconds: u64) -> Submission {
    Submission { length: Some(Span::from_secs(seconds)), ..submission(job, gang) }
}

fn submit(scheduler: &mut Scheduler, at: u64, submission: Submission) -> (Vec<u64>, Vec<(u64, u64)>) {
    let submission = Submission { since: SimTime(at * 1_000_000_000), ..submission };
    let actions = step(scheduler, at, &Event::Submitted(submission));
    (started(&actions), stopped(&actions))
}

fn answer(scheduler: &mut Scheduler, at: u64, job: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let actions = step(scheduler, at, &Event::Stopped { job: JobId(job), run: PRESENT, attained: Span(0) });
    (started(&actions), stopped(&actions))
}

fn end(scheduler: &mut Scheduler, at: u64, job: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let actions = step(scheduler, at, &Event::Ended { job: JobId(job), run: PRESENT });
    (started(&actions), stopped(&actions))
}

const NOTHING: (Vec<u64>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());

#[test]
fn a_gang_takes_what_is_free_and_stops_only_whom_it_needs() {
    let mut hall = Scheduler::new(preempting(1, 4)).unwrap();
    for job in 1..=3 {
        assert_eq!(submit(&mut hall, job, submission(job, gang(1, 8))).0, [job]);
    }
    // One node is free and three are full: a gang of two stops one job, the one with least work at risk.
    assert_eq!(submit(&mut hall, 1000, urgent(10, gang(2, 8), 1)), (vec![], vec![(3, 10)]));
    assert_eq!(answer(&mut hall, 1001, 3), (vec![10], vec![]));
    assert_eq!((hall.running(), hall.waiting()), (3, 1));
}

#[test]
fn what_comes_free_for_a_gang_is_its_own_and_nobody_elses() {
    let mut hall = Scheduler::new(preempting(1, 2)).unwrap();
    submit(&mut hall, 1, submission(1, gang(1, 8)));
    submit(&mut hall, 2, submission(2, gang(1, 8)));
    assert_eq!(submit(&mut hall, 3, urgent(10, gang(2, 8), 1)).1, [(1, 10), (2, 10)]);
    // One victim answers. A small job would fit there, and one of higher priority too: it is the gang's.
    assert_eq!(answer(&mut hall, 4, 1), NOTHING);
    assert_eq!(submit(&mut hall, 5, submission(3, gang(1, 1))), NOTHING);
    assert_eq!(submit(&mut hall, 6, urgent(4, gang(1, 1), 9)), NOTHING);
    // The second ends by itself. Once the gang runs, the job of highest priority may displace it.
    assert_eq!(end(&mut hall, 7, 2), (vec![10], vec![(10, 4)]));
    assert_eq!(answer(&mut hall, 8, 10), (vec![4, 1, 3], vec![]));
}

#[test]
fn free_accelerators_of_a_node_are_claimed_at_once() {
    let mut hall = Scheduler::new(preempting(1, 1)).unwrap();
    submit(&mut hall, 1, submission(1, gang(1, 4)));
    assert_eq!(submit(&mut hall, 2, urgent(10, gang(1, 8), 1)).1, [(1, 10)]);
    assert_eq!(submit(&mut hall, 3, urgent(2, gang(1, 4), 1)), NOTHING, "four are free, and claimed");
    assert_eq!(answer(&mut hall, 4, 1), (vec![10], vec![]));
}

#[test]
fn eight_accelerators_on_four_nodes_are_no_reason_to_stop_anybody() {
    let mut hall = Scheduler::new(preempting(1, 4)).unwrap();
    let protected = Gang { grace: Grace::Protected, ..gang(1, 6) };
    for job in 1..=4 {
        submit(&mut hall, job, submission(job, protected));
        submit(&mut hall, job, submission(10 + job, gang(1, 2)));
    }
    assert_eq!(hall.running(), 8);
    assert_eq!(submit(&mut hall, 10, urgent(20, gang(1, 8), 5)), NOTHING);
    assert_eq!(submit(&mut hall, 11, urgent(21, gang(4, 2), 5)).1.len(), 4, "a gang that fits there has them stopped");
}

#[test]
fn a_head_that_could_not_displace_is_tried_again_when_what_it_lacked_comes_free() {
    let mut hall = Scheduler::new(preempting(1, 2)).unwrap();
    let protected = Gang { grace: Grace::Protected, ..gang(1, 8) };
    submit(&mut hall, 1, submission(1, protected));
    submit(&mut hall, 2, submission(2, gang(1, 8)));
    assert_eq!(submit(&mut hall, 3, urgent(10, gang(2, 8), 5)), NOTHING);
    assert_eq!(end(&mut hall, 4, 1), (vec![], vec![(2, 10)]), "half of it came free, the other half has a victim");
    assert_eq!(answer(&mut hall, 5, 2), (vec![10], vec![]));
}

#[test]
fn two_jobs_that_could_each_displace_the_other_do_not_take_turns() {
    let mut hall = Scheduler::new(preempting(1, 1)).unwrap();
    submit(&mut hall, 1, urgent(1, gang(1, 8), 3));
    assert_eq!(submit(&mut hall, 2, urgent(2, gang(1, 5), 3)), NOTHING, "equals");
    assert_eq!(submit(&mut hall, 3, urgent(3, gang(1, 5), 4)).1, [(1, 3)]);
    assert_eq!(answer(&mut hall, 4, 1).0, [3]);
    for at in 5..100 {
        assert!(step(&mut hall, at * 1000, &Event::Tick).is_empty());
    }
    assert_eq!(end(&mut hall, 200_000, 3).0, [1], "which was first");
}

#[test]
fn a_victim_that_never_answers_is_waited_for_only_so_long_and_asked_again_later_and_later() {
    let mut hall = Scheduler::new(preempting(1, 2)).unwrap();
    submit(&mut hall, 1, submission(1, gang(1, 8)));
    submit(&mut hall, 2, submission(2, gang(1, 8)));
    assert_eq!(submit(&mut hall, 3, urgent(10, gang(1, 8), 1)).1, [(2, 10)]);
    assert_eq!(hall.wakeup(), Some(SimTime(603_000_000_000)));
    assert_eq!(step(&mut hall, 603, &Event::Tick), []);
    assert_eq!((hall.running(), hall.waiting()), (2, 1));
    assert_eq!(hall.wakeup(), Some(SimTime(1_203_000_000_000)), "it does not ask the next at once");
    assert_eq!(stopped(&step(&mut hall, 1203, &Event::Tick)), [(1, 10)]);
    assert_eq!(step(&mut hall, 1803, &Event::Tick), []);
    assert_eq!(hall.wakeup(), None, "there is nobody left to ask");
    // The first answers at last: what is free is used.
    assert_eq!(answer(&mut hall, 1900, 2).0, [10]);
}

#[test]
fn a_claim_that_is_cancelled_leaves_everything_to_all() {
    let mut hall = Scheduler::new(preempting(1, 2)).unwrap();
    submit(&mut hall, 1, submission(1, gang(1, 8)));
    submit(&mut hall, 2, submission(2, gang(1, 4)));
    assert_eq!(submit(&mut hall, 3, urgent(10, gang(2, 8), 1)).1.len(), 2);
    assert_eq!(submit(&mut hall, 4, submission(3, gang(1, 4))), NOTHING);
    assert_eq!(started(&step(&mut hall, 5, &Event::Cancelled { job: JobId(10) })), [3]);
    assert_eq!(answer(&mut hall, 6, 1).0, [1], "the victim itself goes on");
    assert_eq!(step(&mut hall, 7, &Event::Cancelled { job: JobId(2) }), [], "it was told to stop already");
    assert!(end(&mut hall, 8, 2).0.is_empty());
    assert_eq!((hall.running(), hall.len()), (2, 2));
}

#[test]
fn a_claim_whose_node_is_drained_keeps_the_rest_and_finds_another_node() {
    let mut hall = Scheduler::new(preempting(1, 4)).unwrap();
    for job in 1..=4 {
        submit(&mut hall, job, submission(job, gang(1, 8)));
    }
    let mut victims = submit(&mut hall, 10, urgent(10, gang(2, 8), 1)).1;
    assert_eq!(victims, [(3, 10), (4, 10)]);
    let node = hall.ranks(JobId(3)).unwrap()[0].node;
    let actions = step(&mut hall, 11, &Event::Node { node, service: Service::Drained });
    victims.extend(stopped(&actions));
    assert_eq!(victims, [(3, 10), (4, 10), (2, 10)], "one more, not two");
    assert!(answer(&mut hall, 12, 3).0.is_empty(), "what the drained node gives back is nobody's");
    assert!(answer(&mut hall, 13, 2).0.is_empty());
    assert_eq!(answer(&mut hall, 14, 4).0, [10]);
}

#[test]
fn a_claim_that_finds_no_other_node_gives_up() {
    let mut hall = Scheduler::new(preempting(1, 2)).unwrap();
    submit(&mut hall, 1, submission(1, gang(1, 8)));
    assert_eq!(submit(&mut hall, 2, urgent(10, gang(2, 8), 1)).1, [(1, 10)]);
    step(&mut hall, 3, &Event::Node { node: NodeId(1), service: Service::Down });
    assert_eq!((hall.running(), hall.waiting()), (1, 1));
    assert_eq!(answer(&mut hall, 4, 1).0, [1], "the victim goes on where it was");
}

#[test]
fn without_leave_nobody_is_displaced_and_nobody_protected_ever_is() {
    let mut hall = Scheduler::new(Settings { backfill: Backfill::Any, ..settings(1, 1, 8) }).unwrap();
    submit(&mut hall, 1, submission(1, gang(1, 8)));
    assert_eq!(submit(&mut hall, 2, urgent(2, gang(1, 8), 9)), NOTHING);
    // The rules change: what waits is tried.
    let rules = QueueRules { preempts: true, ..QueueRules::default() };
    assert_eq!(stopped(&step(&mut hall, 3, &Event::Queue { queue: 0, rules })), [(1, 2)]);
    let mut hall = Scheduler::new(preempting(1, 1)).unwrap();
    submit(&mut hall, 1, submission(1, Gang { grace: Grace::Protected, ..gang(1, 8) }));
    assert_eq!(submit(&mut hall, 2, urgent(2, gang(1, 8), 9)), NOTHING);
}

#[test]
fn a_queue_takes_back_what_it_is_guaranteed_and_no_more_and_keeps_it() {
    let own = QueueRules { guarantee_milli: 16_000, ..QueueRules::default() };
    let queues = vec![own, QueueRules { priority: 5, preempts: true, ..own }];
    let mut hall = Scheduler::new(Settings { queues, ..preempting(1, 4) }).unwrap();
    let of = |queue, job| Submission { queue, ..submission(job, gang(1, 8)) };
    for job in 1..=4 {
        submit(&mut hall, job, of(1, job));
    }
    assert_eq!(submit(&mut hall, 5, of(0, 10)).1, [(4, 10)]);
    assert_eq!(submit(&mut hall, 6, of(0, 11)).1, [(3, 11)]);
    assert_eq!(submit(&mut hall, 7, of(0, 12)), NOTHING, "beyond its guarantee it has no claim");
    assert_eq!(answer(&mut hall, 8, 4), (vec![10], vec![]), "and the other does not take back by priority");
    assert_eq!(answer(&mut hall, 9, 3), (vec![11], vec![]));
    assert_eq!(submit(&mut hall, 10, Submission { priority: 9, ..of(1, 20) }).1, [(2, 20)], "it stays in its own");
}

#[test]
fn a_shorter_job_displaces_the_longest_after_its_quantum() {
    let mut hall = Scheduler::new(Settings { backfill: Backfill::Any, ..settings(1, 2, 8) }).unwrap();
    hall.order = &Shortest;
    hall.track();
    submit(&mut hall, 1, of_length(1, gang(1, 8), 5000));
    submit(&mut hall, 1, of_length(2, gang(1, 8), 3000));
    assert_eq!(submit(&mut hall, 2, of_length(3, gang(1, 8), 100)), NOTHING, "both have only begun");
    assert_eq!(hall.wakeup(), Some(SimTime(61_000_000_000)));
    assert_eq!(stopped(&step(&mut hall, 61, &Event::Tick)), [(1, 3)]);
    assert_eq!(answer(&mut hall, 62, 1).0, [3]);
    // 2 has less left by now than when it began: a job between the two displaces nobody.
    assert_eq!(submit(&mut hall, 2500, of_length(4, gang(1, 8), 600)), NOTHING);
    assert_eq!(submit(&mut hall, 2501, of_length(5, gang(1, 8), 400)).1, [(2, 5)]);
}

#[test]
fn a_job_that_has_run_long_makes_way_at_that_moment_and_once() {
    let mut hall = Scheduler::new(Settings { backfill: Backfill::Any, ..settings(1, 1, 8) }).unwrap();
    hall.order = &Least;
    hall.track();
    submit(&mut hall, 0, submission(1, gang(1, 8)));
    assert_eq!(submit(&mut hall, 100, submission(2, gang(1, 8))), NOTHING);
    assert_eq!(hall.wakeup(), Some(SimTime(1_000_000_000_000)));
    assert_eq!(stopped(&step(&mut hall, 1000, &Event::Tick)), [(1, 2)]);
    let event = Event::Stopped { job: JobId(1), run: PRESENT, attained: Span::from_secs(1000) };
    assert_eq!(started(&step(&mut hall, 1001, &event)), [2]);
    // When 2 rises too, 1 is the older: they change once more and then no key rises any more.
    assert_eq!(stopped(&step(&mut hall, 2001, &Event::Tick)), [(2, 1)]);
    let event = Event::Stopped { job: JobId(2), run: PRESENT, attained: Span::from_secs(1000) };
    assert_eq!(started(&step(&mut hall, 2002, &event)), [1]);
    assert_eq!(hall.wakeup(), None);
}

/// Carries actions out: gangs run for a while, and whoever is told to stop answers after a while.
struct Body {
    dice: u64,
    /// What will happen: by time, then by number.
    due: BTreeMap<(u64, u64), Event>,
    next: u64,
    started: BTreeMap<JobId, u64>,
    stopping: BTreeSet<JobId>,
    /// Accelerators that are claimed, by whom.
    claims: BTreeMap<JobId, Vec<Holding>>,
    stops: u64,
    starts: u64,
}

impl Body {
    fn roll(&mut self, end: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn at(&mut self, time: u64, event: Event) {
        self.next += 1;
        self.due.insert((time, self.next), event);
    }

    fn carry_out(&mut self, hall: &Scheduler, now: u64, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Start { job, run, ranks } => {
                    self.claims.remove(job);
                    for (claimant, claimed) in &self.claims {
                        let mine = ranks.iter().find(|rank| {
                            claimed.iter().any(|held| {
                                // Two parts may share an accelerator.
                                held.node == rank.node && held.mask & rank.mask != 0 && held.milli + rank.milli > 1000
                            })
                        });
                        assert!(mine.is_none(), "{job} started on {mine:?}, which {claimant} has claimed");
                    }
                    self.starts += 1;
                    self.started.insert(*job, now);
                    let length = 50 + self.roll(4000);
                    self.at(now + length, Event::Ended { job: *job, run: *run });
                }
                Action::Stop { job, cause } => {
                    assert!(self.stopping.insert(*job), "{job} is told to stop twice");
                    if let Cause::Preempted { by } = cause {
                        self.stops += 1;
                        let claimant = hall.state.jobs.get(hall.state.jobs.slot(*by).unwrap()).unwrap();
                        let Phase::Claiming(claim) = &claimant.phase else { panic!("{by} does not claim") };
                        self.claims.insert(*by, claim.ranks.clone());
                    }
                    let attained = Span::from_secs(now - self.started[job]);
                    let delay = self.roll(100);
                    let run = hall.run_of(*job).unwrap();
                    self.at(now + delay, Event::Stopped { job: *job, run, attained });
                }
                Action::Repair { .. }
                | Action::Resize { .. }
                | Action::Wake { .. }
                | Action::Sleep { .. }
                | Action::Quarantined { .. }
                | Action::NotApplied { .. }
                | Action::Refused { .. } => {}
            }
        }
    }
}

fn storm(seed: u64, order: Option<&'static dyn Order>, guarantee: u64) -> (u64, u64) {
    let own = QueueRules { preempts: true, guarantee_milli: guarantee, ..QueueRules::default() };
    let queues = vec![own, QueueRules { priority: 1, ..own }];
    let mut hall = Scheduler::new(Settings { queues, ..preempting(3, 3) }).unwrap();
    if let Some(order) = order {
        hall.order = order;
        hall.track();
    }
    let mut body = Body {
        dice: seed,
        due: BTreeMap::new(),
        next: 0,
        started: BTreeMap::new(),
        stopping: BTreeSet::new(),
        claims: BTreeMap::new(),
        stops: 0,
        starts: 0,
    };
    for job in 0..120 {
        let time = body.roll(20_000);
        let (ranks, accelerators) = (1 + body.roll(4), 1 + body.roll(8));
        let mut gang = gang(u32::try_from(ranks).unwrap(), u8::try_from(accelerators).unwrap());
        gang.need.rank.memory_mib = u32::try_from(body.roll(3) * 100_000).unwrap();
        gang.need.within = u8::try_from(body.roll(2)).unwrap();
        if accelerators == 1 {
            gang.need.rank.milli = 400;
        }
        if body.roll(4) == 0 {
            gang.least_ranks = 1;
        }
        if body.roll(6) == 0 {
            gang.grace = Grace::Protected;
        }
        // Aligned ranks stand on a node each, and a rack has three.
        if ranks <= 3 && body.roll(3) == 0 {
            gang.need.rails = dh_policy::placement::Rails::Aligned;
        }
        let submission = Submission {
            queue: u16::try_from(body.roll(2)).unwrap(),
            priority: i32::try_from(body.roll(4)).unwrap(),
            length: Some(Span::from_secs(50 + body.roll(4000))),
            ..submission(job, gang)
        };
        body.at(time, Event::Submitted(submission));
    }
    let mut events = 0;
    loop {
        let due = body.due.first_key_value().map(|((time, _), _)| *time);
        let tick = hall.wakeup().map(|at| at.0.div_ceil(1_000_000_000).max(hall.now().0 / 1_000_000_000));
        let (now, event) = match (due, tick) {
            (None, None) => break,
            (due, Some(tick)) if due.is_none_or(|due| tick < due) => (tick, Event::Tick),
            (_, _) => {
                let ((time, _), event) = body.due.pop_first().unwrap();
                (time, event)
            }
        };
        // A job that was stopped meanwhile runs anew, and what is told of its earlier run is ignored.
        if let Event::Stopped { job, run, .. } | Event::Ended { job, run } = &event
            && hall.run_of(*job) == Some(*run)
        {
            body.stopping.remove(job);
            body.started.remove(job);
        }
        let mut actions = Vec::new();
        hall.step(SimTime(now * 1_000_000_000), &event, &mut actions);
        hall.check();
        body.carry_out(&hall, now, &actions);
        assert!(hall.state.displacing.failed.is_empty(), "everybody answers, so no claim fails");
        events += 1;
        assert!(events < 20_000, "it goes on for ever");
        if order.is_none() && events % 50 == 0 {
            let saved = serde_json::to_vec(&hall).unwrap();
            hall = serde_json::from_slice(&saved).unwrap();
        }
    }
    assert!(body.claims.is_empty(), "stopped for nothing: {:?}", body.claims.keys());
    assert_eq!((hall.running(), hall.waiting(), hall.len()), (0, 0, 0), "all jobs ran to their end");
    (body.stops, body.starts)
}

#[test]
fn in_storms_nobody_stops_for_a_job_that_does_not_start_next_there() {
    let mut stops = 0;
    for seed in 0..4 {
        stops += storm(seed, None, 0).0;
        stops += storm(1000 + seed, None, 24_000).0;
        stops += storm(2000 + seed, Some(&Shortest), 0).0;
        stops += storm(3000 + seed, Some(&Least), 24_000).0;
    }
    assert!(stops > 200, "{stops}");
}

fn elastic(ranks: u32, least_ranks: u32, accelerators: u8) -> Gang {
    Gang { least_ranks, ..gang(ranks, accelerators) }
}

/// Who is told to give up ranks.
fn shrunk(actions: &[Action]) -> Vec<(u64, u64)> {
    let mut shrinks = Vec::new();
    for action in actions {
        if let Action::Stop { job, cause: Cause::Shrunk { by } } = action {
            shrinks.push((job.0, by.0));
        }
    }
    shrinks
}

#[test]
fn an_elastic_victim_gives_up_what_is_wanted_and_goes_on_with_the_rest() {
    let mut hall = Scheduler::new(preempting(1, 4)).unwrap();
    step(&mut hall, 0, &Event::Submitted(submission(1, elastic(4, 2, 8))));
    let actions = step(&mut hall, 100, &Event::Submitted(urgent(2, gang(1, 8), 5)));
    assert_eq!((shrunk(&actions), stopped(&actions)), (vec![(1, 2)], vec![]));
    // Both start in the step in which the victim answers: it never waits.
    let event = Event::Stopped { job: JobId(1), run: PRESENT, attained: Span::from_secs(100) };
    let actions = step(&mut hall, 101, &event);
    assert_eq!(started(&actions).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    assert_eq!((hall.ranks(JobId(1)).unwrap().len(), hall.ranks(JobId(2)).unwrap().len()), (3, 1));
    assert_eq!((hall.waiting(), hall.running()), (0, 2));
    // Another takes the next; then it has no rank to spare, and goes whole.
    let actions = step(&mut hall, 200, &Event::Submitted(urgent(3, gang(1, 8), 5)));
    assert_eq!(shrunk(&actions), [(1, 3)]);
    step(&mut hall, 201, &Event::Stopped { job: JobId(1), run: PRESENT, attained: Span::from_secs(100) });
    let actions = step(&mut hall, 300, &Event::Submitted(urgent(4, gang(1, 8), 5)));
    assert_eq!((shrunk(&actions), stopped(&actions)), (vec![], vec![(1, 4)]));
}

#[test]
fn a_rigid_victim_goes_whole_and_so_does_one_that_keeps_too_little() {
    for (least, wanted) in [(4, 1), (3, 2)] {
        let mut hall = Scheduler::new(preempting(1, 4)).unwrap();
        step(&mut hall, 0, &Event::Submitted(submission(1, elastic(4, least, 8))));
        let actions = step(&mut hall, 100, &Event::Submitted(urgent(2, gang(wanted, 8), 5)));
        assert_eq!((shrunk(&actions), stopped(&actions)), (vec![], vec![(1, 2)]), "{least} {wanted}");
    }
}

#[test]
fn of_two_victims_that_cost_the_same_the_elastic_one_gives_up_ranks() {
    let mut hall = Scheduler::new(preempting(1, 4)).unwrap();
    step(&mut hall, 0, &Event::Submitted(submission(1, gang(1, 8))));
    step(&mut hall, 0, &Event::Submitted(submission(2, elastic(3, 1, 8))));
    // Work that is not safe counts for either: a checkpoint just now makes the rigid one cheaper.
    let mut other = hall.clone();
    let actions = step(&mut hall, 10, &Event::Submitted(urgent(3, gang(2, 8), 1)));
    assert_eq!((shrunk(&actions), stopped(&actions)), (vec![(2, 3)], vec![]));
    step(&mut other, 90_000, &Event::Checkpointed { job: JobId(1), run: PRESENT });
    let actions = step(&mut other, 90_000, &Event::Submitted(urgent(3, gang(1, 8), 1)));
    assert_eq!((shrunk(&actions), stopped(&actions)), (vec![], vec![(1, 3)]));
}

#[test]
fn a_shrinking_victim_that_is_cancelled_or_loses_a_node_leaves_nothing_behind() {
    for lost in [false, true] {
        let mut hall = Scheduler::new(preempting(1, 4)).unwrap();
        step(&mut hall, 0, &Event::Submitted(submission(1, elastic(4, 3, 8))));
        let actions = step(&mut hall, 100, &Event::Submitted(urgent(2, gang(1, 8), 5)));
        assert_eq!(shrunk(&actions), [(1, 2)]);
        let saved = serde_json::to_string(&hall).unwrap();
        assert_eq!(serde_json::from_str::<Scheduler>(&saved).unwrap(), hall);
        if lost {
            // It keeps two of the three that it needs.
            let kept = hall.state.shrinking.values().next().unwrap()[0];
            let node = hall.ranks(JobId(1)).unwrap()[usize::try_from(kept).unwrap()].node;
            step(&mut hall, 101, &Event::Node { node, service: Service::Down });
        } else {
            step(&mut hall, 101, &Event::Cancelled { job: JobId(1) });
        }
        let event = Event::Stopped { job: JobId(1), run: PRESENT, attained: Span(0) };
        assert_eq!(started(&step(&mut hall, 102, &event)), [2]);
        assert_eq!((hall.waiting(), hall.running()), (usize::from(lost), 1));
        assert!(hall.state.shrinking.is_empty());
    }
}
