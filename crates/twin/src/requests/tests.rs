//! Requests, replicas and the scaler on small cases.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn call(at: u64, input: u32, output: u32) -> Call {
    Call { at: SimTime(at * SECOND), input, output }
}

/// One request at a time takes 10 ms a token, sixteen 25 ms, and the first token 100 and 400 ms.
fn service(most: u32) -> Service {
    let point =
        |requests, ttft: u64, tpot: u64| Speed { requests, ttft: Span(ttft * 1_000_000), tpot: Span(tpot * 1_000_000) };
    let speeds = vec![point(1, 100, 10), point(most, 400, 25)];
    let targets = Targets { ttft: Some(Span(SECOND)), tpot: Some(Span(SECOND / 50)) };
    Service { speeds, input: 1000, targets, in_flight: None }
}

fn stay(from: u64, to: u64) -> Stay {
    Stay { from: SimTime(from * SECOND), to: SimTime(to * SECOND) }
}

fn close(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() <= wanted * 0.02
}

#[test]
fn a_request_alone_takes_what_the_model_says() {
    let served = serve(&[call(5, 2000, 101)], &service(16), &[stay(0, 100)]);
    assert!(close(served.ttft.unwrap().mean_s, 0.2), "{served:?}");
    assert!(close(served.tpot.unwrap().mean_s, 0.01) && close(served.whole.unwrap().mean_s, 1.2), "{served:?}");
    assert_eq!((served.answered, served.within_targets), (1, Some(1.0)));
}

#[test]
fn requests_in_flight_slow_each_other_down_and_a_second_replica_helps() {
    let calls: Vec<Call> = (0..32).map(|_| call(1, 1000, 201)).collect();
    let one = serve(&calls, &service(16), &[stay(0, 100)]);
    assert!(one.tpot.unwrap().p50_s > 0.02 && one.line_most == 16, "{one:?}");
    let two = serve(&calls, &service(16), &[stay(0, 100), stay(0, 100)]);
    assert_eq!(two.line_most, 0);
    assert!(two.ttft.unwrap().max_s < one.ttft.unwrap().max_s / 4.0, "{one:?} {two:?}");
    assert_eq!((one.answered, two.answered, two.replicas_most), (32, 32, 2));
}

#[test]
fn nobody_answers_while_no_replica_runs() {
    let late = serve(&[call(1, 1000, 10)], &service(16), &[stay(30, 100)]);
    assert!(late.ttft.unwrap().mean_s > 29.0);
    assert_eq!(late.within_targets, Some(0.0));
    let never = serve(&[call(50, 1000, 10)], &service(16), &[stay(0, 40)]);
    assert_eq!((never.requests, never.answered, never.ttft), (1, 0, None));
}

#[test]
fn time_shared_by_all_is_what_a_player_in_small_steps_finds() {
    let mut seed = 4_u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let service = service(8);
    let mut calls: Vec<Call> = (0..60).map(|_| call(draw(60), 1000, 20 + u32::try_from(draw(400)).unwrap())).collect();
    calls.sort_by_key(|call| call.at);
    let served = serve(&calls, &service, &[stay(0, 10_000)]);
    // Milliseconds one by one: who is in, who has its first token, who is done.
    let (mut waiting, mut inside): (Vec<usize>, Vec<(usize, f64, f64)>) = (Vec::new(), Vec::new());
    let (mut next, mut whole, mut over) = (0, 0.0, 0);
    for now in 0_u32.. {
        let seconds = f64::from(now) / 1000.0;
        while calls.get(next).is_some_and(|call| dh_units::real(call.at.0) / 1e9 <= seconds) {
            waiting.push(next);
            next += 1;
        }
        while inside.len() < 8 && !waiting.is_empty() {
            let request = waiting.remove(0);
            let ttft = 0.1 + 0.3 * f64::from(u32::try_from(inside.len()).unwrap()) / 7.0;
            inside.push((request, seconds + ttft, f64::from(calls[request].output - 1)));
        }
        let step = 0.010 + 0.015 * f64::from(u32::try_from(inside.len().max(1) - 1).unwrap()) / 7.0;
        for (_, first, left) in &mut inside {
            if *first <= seconds {
                *left -= 0.001 / step;
            }
        }
        for (request, _, _) in inside.iter().filter(|(_, _, left)| *left <= 0.0) {
            whole += seconds - dh_units::real(calls[*request].at.0) / 1e9;
            over += 1;
        }
        inside.retain(|(_, _, left)| *left > 0.0);
        if over == calls.len() || now > 4_000_000 {
            break;
        }
    }
    assert_eq!((over, served.answered), (60, 60));
    assert!(close(served.whole.unwrap().mean_s, whole / 60.0), "{served:?} {}", whole / 60.0);
}

#[test]
fn replicas_follow_the_requests_up_at_once_and_down_after_a_while() {
    // One a second for ten minutes, ten a second for ten minutes, then one again.
    let mut calls: Vec<Call> = (0..600).map(|at| call(at, 1, 1)).collect();
    calls.extend((600..1200).flat_map(|at| (0..10).map(move |_| call(at, 1, 1))));
    calls.extend((1200..2400).map(|at| call(at, 1, 1)));
    let scale =
        Scale { least: 1, most: 4, per_replica: 2_500_000, every: Span::from_secs(60), patience: Span::from_secs(300) };
    let stays = replicas(&calls, &scale, SimTime(2400 * SECOND));
    assert_eq!(stays, [stay(0, 2400), stay(660, 1500), stay(660, 1500), stay(660, 1500)]);
}

#[test]
fn who_comes_when_too_many_are_there_is_refused() {
    let calls: Vec<Call> = (0..32).map(|_| call(1, 1000, 201)).collect();
    let bounded = Service { in_flight: Some(20), ..service(16) };
    let served = serve(&calls, &bounded, &[stay(0, 100)]);
    assert_eq!((served.requests, served.answered, served.refused, served.line_most), (32, 20, 12, 4));
    assert!(served.within_targets.unwrap() <= 20.0 / 32.0, "{served:?}");
}

#[test]
fn steps_of_time_sum_to_the_whole() {
    let calls: Vec<Call> = (0..500).map(|at| call(at, 1000, 50)).collect();
    let served = serve(&calls, &service(4), &[stay(0, 250), stay(100, 9_000)]);
    let steps = &served.over_time;
    assert!(steps.len() <= usize::try_from(MOMENTS).unwrap() && steps.len() > 100, "{}", steps.len());
    let sum = |of: fn(&Moment) -> f64| steps.iter().map(|step| of(step) * step.length_s).sum::<f64>();
    assert!(close(sum(|step| step.requests_per_second), 500.0));
    assert!(close(sum(|step| step.tokens_per_second), 25_000.0));
    assert!(close(sum(|step| step.replicas), served.replica_hours * 3_600.0), "{}", served.replica_hours);
    assert!(steps.iter().all(|step| step.ttft_p50_s <= step.ttft_p99_s && step.refused == 0));
}
