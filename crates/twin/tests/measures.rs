//! Measures against the same figures counted from lists of intervals.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use dh_core::JobId;
use dh_core::time::{SimTime, Span};
use dh_twin::measure::{
    Cause, Curve, End, Fate, JobFacts, Measures, NodeChange, NodeState, Outcome, Pending, Piece, Power, RELATIVE_ERROR,
    Setup, Start, Stop, Tariff, Window,
};
use dh_units::{UsdPerHour, Watts, real};

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Debug, Clone)]
struct Attempt {
    from: u64,
    to: u64,
    kept: u64,
    lost: u64,
    checkpoints: u64,
    cause: Cause,
}

#[derive(Debug, Clone)]
struct Life {
    facts: JobFacts,
    attempts: Vec<Attempt>,
    fate: Fate,
    end: u64,
    alone: u64,
}

#[derive(Debug)]
struct Run {
    lives: Vec<Life>,
    nodes: Vec<(u64, NodeChange)>,
    window: Window,
    over: u64,
}

const SECOND: u64 = 1_000_000_000;

fn random_run(seed: u64) -> Run {
    let mut dice = Dice(seed);
    let over = 2_000 * SECOND;
    let mut lives = Vec::new();
    for job in 0..=dice.below(30) {
        let submit = dice.below(1_000) * SECOND;
        let mut at = submit;
        let mut attempts = Vec::new();
        let mut fate = [Fate::Completed, Fate::Failed, Fate::Cancelled][usize::try_from(dice.below(3)).unwrap()];
        for attempt in 0..=dice.below(4) {
            let from = at + dice.below(100) * SECOND;
            let held = (1 + dice.below(200)) * SECOND + dice.below(7);
            let kept = dice.below(held + 1);
            let lost = dice.below(held - kept + 1);
            let checkpoints = dice.below(held - kept - lost + 1);
            at = from + held;
            let cause = if attempt.is_multiple_of(2) { Cause::Preempted } else { Cause::Evicted };
            attempts.push(Attempt { from, to: at, kept, lost, checkpoints, cause });
        }
        match dice.below(6) {
            0 => {
                attempts.clear();
                fate = Fate::Rejected;
                at = submit;
            }
            1 => {
                attempts.last_mut().unwrap().cause = Cause::Unfinished;
                fate = Fate::Unfinished;
            }
            _ => attempts.last_mut().unwrap().cause = Cause::Ended,
        }
        let milli = [250, 1_000, 2_000, 5_000, 8_000][usize::try_from(dice.below(5)).unwrap()];
        let queue = usize::try_from(dice.below(3)).unwrap();
        let length = Span::from_secs(dice.below(50));
        let facts = JobFacts { job: JobId(job + 1), queue, milli, length, submit: SimTime(submit) };
        lives.push(Life { facts, attempts, fate, end: at, alone: dice.below(300) * SECOND });
    }
    let states = [NodeState::Up, NodeState::Down, NodeState::Asleep];
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let (mut at, mut from) = (0, NodeState::Absent);
        for _ in 0..=dice.below(4) {
            let to = states[usize::try_from(dice.below(3)).unwrap()];
            nodes.push((at, NodeChange { milli: 8_000, from, to }));
            from = to;
            at += dice.below(500) * SECOND;
        }
    }
    let from = dice.below(2) * dice.below(600) * SECOND;
    let to = if dice.below(2) == 0 { u64::MAX } else { from + dice.below(1_000) * SECOND };
    Run { lives, nodes, window: Window { from: SimTime(from), to: SimTime(to) }, over }
}

/// The run, told in the order of time.
fn told(run: &Run) -> Outcome {
    #[derive(Clone, Copy)]
    enum Told {
        Node(NodeChange),
        Submit,
        Start(usize),
        Stop(usize),
        End,
    }
    let mut events: Vec<(u64, usize, Told)> = Vec::new();
    events.extend(run.nodes.iter().map(|(at, change)| (*at, 0, Told::Node(*change))));
    for (place, life) in run.lives.iter().enumerate() {
        events.push((life.facts.submit.0, place, Told::Submit));
        for (number, attempt) in life.attempts.iter().enumerate() {
            events.push((attempt.from, place, Told::Start(number)));
            events.push((attempt.to, place, Told::Stop(number)));
        }
        events.push((life.end, place, Told::End));
    }
    // Stable: what happens at once keeps its order.
    events.sort_by_key(|event| event.0);
    let queues = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let mut measures = Measures::new(Setup { queues, window: run.window, ..Setup::default() });
    for (at, place, event) in events {
        let now = SimTime(at);
        let life = &run.lives[place];
        match event {
            Told::Node(change) => measures.node_changed(now, change),
            Told::Submit => measures.submitted(now, &life.facts),
            Told::Start(number) => {
                let before = number.checked_sub(1).map_or(life.facts.submit.0, |last| life.attempts[last].to);
                let attempt = u32::try_from(number).unwrap() + 1;
                measures.started(now, &life.facts, Start { attempt, waited: Span(at - before) });
            }
            Told::Stop(number) => {
                let Attempt { from, kept, lost, checkpoints, cause, .. } = life.attempts[number];
                let stop = Stop {
                    cause,
                    since: SimTime(from),
                    kept: Span(kept),
                    lost: Span(lost),
                    checkpoints: Span(checkpoints),
                };
                measures.stopped(now, &life.facts, stop);
            }
            Told::End => {
                let first_start = life.attempts.first().map(|attempt| SimTime(attempt.from));
                let alone = (life.alone > 0).then_some(Span(life.alone));
                measures.ended(now, &life.facts, End { fate: life.fate, first_start, alone });
            }
        }
    }
    measures.finish(SimTime(run.over.max(run.lives.iter().map(|life| life.end).max().unwrap_or(0))))
}

fn near(seen: f64, expected: f64, what: &str, seed: u64) {
    let most = expected.abs().max(1e-9) * 1e-9;
    assert!((seen - expected).abs() <= most, "seed {seed}, {what}: {seen}, expected {expected}");
}

/// Length of the part of `from..to` inside the window.
fn inside(window: Window, from: u64, to: u64) -> u64 {
    to.min(window.to.0).saturating_sub(from.max(window.from.0))
}

#[test]
fn figures_are_those_counted_from_intervals() {
    for seed in 0..400 {
        let run = random_run(seed);
        let outcome = told(&run);
        let counts = |at: u64| run.window.from.0 <= at && at < run.window.to.0;
        let jobs: Vec<&Life> = run.lives.iter().filter(|life| counts(life.facts.submit.0)).collect();
        let started: Vec<&&Life> = jobs.iter().filter(|life| !life.attempts.is_empty()).collect();
        let over: Vec<&&&Life> = started.iter().filter(|life| life.fate != Fate::Unfinished).collect();

        assert_eq!(outcome.jobs.submitted, u64::try_from(jobs.len()).unwrap());
        assert_eq!(outcome.jobs.started, u64::try_from(started.len()).unwrap());
        let of = |fate| u64::try_from(jobs.iter().filter(|life| life.fate == fate).count()).unwrap();
        assert_eq!(outcome.jobs.rejected, of(Fate::Rejected));
        assert_eq!(outcome.jobs.unfinished, of(Fate::Unfinished));
        let sum = outcome.jobs.completed + outcome.jobs.failed + outcome.jobs.cancelled;
        assert_eq!(sum, u64::try_from(over.len()).unwrap());

        let mut jct: Vec<u64> = over.iter().map(|life| life.end - life.facts.submit.0).collect();
        jct.sort_unstable();
        assert_eq!(outcome.jct.is_some(), !jct.is_empty());
        if let Some(times) = outcome.jct {
            let count = real(u64::try_from(jct.len()).unwrap());
            near(times.mean_s, real(jct.iter().sum::<u64>()) / 1e9 / count, "mean JCT", seed);
            let rank = |percent: usize| real(jct[(jct.len() * percent).div_ceil(100) - 1]) / 1e9;
            for (seen, exact) in [(times.p50_s, rank(50)), (times.p90_s, rank(90)), (times.p99_s, rank(99))] {
                assert!((seen - exact).abs() <= exact * RELATIVE_ERROR, "seed {seed}: {seen}, {exact}");
            }
            near(times.max_s, rank(100), "max JCT", seed);
            assert_eq!(outcome.jct_histogram.iter().map(|bar| bar.jobs).sum::<u64>(), times.count);
            let last = over.iter().map(|life| life.end).max().unwrap();
            let first = jobs.iter().map(|life| life.facts.submit.0).min().unwrap();
            near(outcome.makespan_s, real(last - first) / 1e9, "makespan", seed);
            assert_eq!(outcome.queues.iter().map(|group| group.jobs).sum::<u64>(), times.count);
            assert_eq!(outcome.sizes.iter().map(|group| group.jobs).sum::<u64>(), times.count);
            let slowdown = over.iter().map(|life| {
                let length = real(life.facts.length.0.max(10 * SECOND));
                (real(life.end - life.facts.submit.0) / length).max(1.0)
            });
            let slowdown = slowdown.sum::<f64>() / count;
            assert!((outcome.slowdown.unwrap().mean / slowdown - 1.0).abs() < 1e-5, "seed {seed}");
        }
        if let Some(queueing) = outcome.queueing {
            let count = real(u64::try_from(started.len()).unwrap());
            let first = started.iter().map(|life| life.attempts[0].from - life.facts.submit.0);
            near(queueing.mean_s * count, real(first.sum::<u64>()) / 1e9, "queueing", seed);
            let gaps = started.iter().map(|life| {
                let held: u64 = life.attempts.iter().map(|attempt| attempt.to - attempt.from).sum();
                life.end - life.facts.submit.0 - held
            });
            near(outcome.waiting_mean_s.unwrap() * count, real(gaps.sum::<u64>()) / 1e9, "waiting", seed);
        }
        assert_eq!(outcome.queueing.is_some(), !started.is_empty());
        let fair: Vec<f64> = over
            .iter()
            .filter(|life| life.alone > 0)
            .map(|life| real(life.end - life.facts.submit.0) / real(life.alone))
            .collect();
        if let Some(fairness) = outcome.fairness {
            assert!((fairness.ratio.max - fair.iter().copied().fold(0.0, f64::max)).abs() < 2e-6, "seed {seed}");
            let unfair = fair.iter().filter(|ratio| **ratio > 1.0).count();
            near(fairness.unfair_share * real(fairness.ratio.count), real(unfair.try_into().unwrap()), "unfair", seed);
        }
        assert_eq!(outcome.fairness.is_some(), !fair.is_empty());
    }
}

#[test]
fn accelerator_time_is_that_of_the_intervals() {
    let mut seen = (0, 0, 0);
    for seed in 0..400 {
        let run = random_run(seed);
        let outcome = told(&run);
        let over = run.over.max(run.lives.iter().map(|life| life.end).max().unwrap());
        let mut time = [0.0; 3];
        for (place, (at, change)) in run.nodes.iter().enumerate() {
            let next = run.nodes.get(place + 1).filter(|(_, next)| next.from != NodeState::Absent);
            let length = real(inside(run.window, *at, next.map_or(over, |(at, _)| *at)));
            let state =
                [NodeState::Up, NodeState::Down, NodeState::Asleep].iter().position(|state| *state == change.to);
            time[state.unwrap()] += length * real(change.milli);
        }
        let hours = |time: f64| time / 1_000.0 / 3.6e12;
        let spent = &outcome.accelerator_hours;
        near(spent.down, hours(time[1]), "down", seed);
        near(spent.asleep, hours(time[2]), "asleep", seed);
        near(spent.in_service, hours(time[0] + time[2]), "in service", seed);
        near(spent.installed, hours(time.iter().sum()), "installed", seed);

        let (mut held, mut kept, mut lost, mut checkpoints) = (0.0, 0.0, 0.0, 0.0);
        let (mut preemptions, mut evictions, mut restarts) = (0, 0, 0);
        let counts = |at: u64| run.window.from.0 <= at && at < run.window.to.0;
        for life in &run.lives {
            for (number, attempt) in life.attempts.iter().enumerate() {
                let part = inside(run.window, attempt.from, attempt.to);
                let share = real(part) / real(attempt.to - attempt.from);
                held += real(part) * real(life.facts.milli);
                kept += real(attempt.kept) * share * real(life.facts.milli);
                lost += real(attempt.lost) * share * real(life.facts.milli);
                checkpoints += real(attempt.checkpoints) * share * real(life.facts.milli);
                preemptions += u64::from(attempt.cause == Cause::Preempted && counts(attempt.to));
                evictions += u64::from(attempt.cause == Cause::Evicted && counts(attempt.to));
                restarts += u64::from(number > 0 && counts(attempt.from));
            }
        }
        near(spent.held, hours(held), "held", seed);
        // Shares of attempts across an edge are rounded down to a nanosecond.
        let close = |seen: f64, expected: f64| (seen - hours(expected)).abs() < 1e-9;
        assert!(
            close(spent.useful, kept) && close(spent.lost, lost) && close(spent.checkpoints, checkpoints),
            "seed {seed}: {spent:?}"
        );
        near(spent.useful + spent.lost + spent.checkpoints + spent.starting, spent.held, "parts of held", seed);
        let stops = outcome.stops;
        assert_eq!((stops.preemptions, stops.evictions, stops.restarts), (preemptions, evictions, restarts));
        seen = (seen.0 + preemptions, seen.1 + evictions, seen.2 + restarts);
        if time[0] + time[2] > 0.0 {
            assert!((outcome.utilisation.unwrap() - (kept + lost) / (time[0] + time[2])).abs() < 1e-6, "seed {seed}");
            assert!((outcome.goodput.unwrap() - kept / (time[0] + time[2])).abs() < 1e-6, "seed {seed}");
        }
        if held > 0.0 {
            assert!((outcome.ettr.unwrap() - kept / held).abs() < 1e-6, "seed {seed}");
        }
    }
    assert!(seen.0 > 100 && seen.1 > 100 && seen.2 > 100, "{seen:?}");
}

#[test]
fn an_outcome_reads_back_as_it_was_written_and_is_the_same_again() {
    let outcome = told(&random_run(11));
    let text = serde_json::to_string(&outcome).unwrap();
    let back: Outcome = serde_json::from_str(&text).unwrap();
    assert_eq!((back.jobs, back.stops, back.queues.len()), (outcome.jobs, outcome.stops, outcome.queues.len()));
    assert_eq!(serde_json::to_string(&told(&random_run(11))).unwrap(), text);
    for name in ["\"p99_s\"", "\"facility_mwh\"", "\"utilisation\"", "\"unfair_share\""] {
        assert_eq!(text.contains(name), name != "\"facility_mwh\"", "{name}");
    }
}

/// The first hour is free.
struct Free;

impl Curve for Free {
    fn at(&self, moment: SimTime) -> Piece {
        let hour = SimTime(3_600 * SECOND);
        if moment < hour { Piece { value: 0.0, until: hour } } else { Piece { value: 0.5, until: SimTime(u64::MAX) } }
    }
}

#[test]
fn energy_and_money_are_counted_inside_of_the_window() {
    let hour = |hours: u64| SimTime(hours * 3_600 * SECOND);
    let tariff = Tariff { price: Some(&Free), carbon: Some(&Free), capital: Some(UsdPerHour(10.0)) };
    let window = Window { from: SimTime(0), to: hour(3) };
    let mut measures = Measures::new(Setup { window, tariff, ..Setup::default() });
    measures.node_changed(hour(0), NodeChange { milli: 4_000, from: NodeState::Absent, to: NodeState::Up });
    measures.power(hour(0), Power { it: Watts(1_000.0), facility: Watts(1_200.0), ..Power::default() });
    measures.pending(hour(1), Pending { jobs: 6, milli: 9_000 });
    measures.power(hour(2), Power { it: Watts(2_000.0), facility: Watts(2_700.0), ..Power::default() });
    measures.fragmented(hour(2), 2_000);
    let outcome = measures.finish(hour(9));
    let energy = outcome.energy.unwrap();
    near(energy.it_mwh, 0.004, "IT", 0);
    near(energy.facility_mwh, 0.005_1, "facility", 0);
    near(energy.pue.unwrap(), 5.1 / 4.0, "PUE", 0);
    near(energy.peak_kw, 2.7, "peak", 0);
    near(energy.carbon_kg.unwrap(), 0.5 * 3.9 / 1_000.0, "carbon", 0);
    let cost = outcome.cost.unwrap();
    near(cost.energy_usd.unwrap(), 0.5 * 3.9, "energy", 0);
    near(cost.total_usd, 30.0 + 0.5 * 3.9, "total", 0);
    near(outcome.pending.mean, 4.0, "pending", 0);
    near(outcome.pending.accelerators_mean, 6.0, "wanted", 0);
    near(outcome.fragmentation.unwrap(), 0.5 / 3.0, "fragmentation", 0);
    assert_eq!((outcome.pending.max, outcome.counted_s), (6, 10_800.0));
}

#[test]
fn a_job_that_takes_what_it_would_alone_is_treated_fairly() {
    let outcome = |alone: u64| {
        let mut measures = Measures::new(Setup::default());
        let length = Span::from_secs(100);
        let facts = JobFacts { job: JobId(1), queue: 0, milli: 1_000, length, submit: SimTime(0) };
        measures.submitted(SimTime(0), &facts);
        measures.started(SimTime(0), &facts, Start { attempt: 1, waited: Span(0) });
        let end = SimTime(0).after(length);
        let alone = Some(Span::from_secs(alone));
        measures.ended(end, &facts, End { fate: Fate::Completed, first_start: Some(SimTime(0)), alone });
        measures.finish(end).fairness.unwrap()
    };
    for (alone, ratio, unfair) in [(100, 1.0, 0.0), (99, 100.0 / 99.0, 1.0), (200, 0.5, 0.0)] {
        let fairness = outcome(alone);
        assert!((fairness.ratio.max - ratio).abs() < 1e-6 && (fairness.unfair_share - unfair).abs() < 1e-12, "{alone}");
    }
}
