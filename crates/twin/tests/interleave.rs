//! Jobs of a small trace that share accelerators: how long they take, and what the measures say of it.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use dh_hall::scheduler::Scheduler;
use dh_twin::kernel::Costs;
use dh_twin::play::{Lengths, Ran, Rules, Scene, Wanted, play, settings};
use dh_twin::record::{Header, Log, Recorder};
use dh_twin::trace::{Options, Throughputs, by_name, read};

/// Three jobs of 8 on all 64 accelerators: one loads (columns accelerator, storage, other are input, compute, network), one
/// computes, and a third like the first comes later.
const TRACE: &str = "job_id,submit_s,duration_s,gpus,model,iterations,iter_ms,res_gpu_ms,res_io_ms,res_other_ms,priority\n\
    0,0,1000,64,loads,10000,100,90,10,0,0\n\
    1,0,1000,64,computes,10000,100,10,90,0,0\n\
    2,100,2000,64,loads,20000,100,90,10,0,0\n";

fn scene() -> Scene {
    let trace = read(by_name("muri").unwrap(), TRACE, Options { file: "t", ..Options::default() }).unwrap();
    Scene::of_trace(&trace, Costs::default()).unwrap()
}

fn ran(policy: &str) -> Ran {
    play(&scene(), &Rules::named(policy, Lengths::Exact).unwrap(), &Wanted::default(), &mut ()).unwrap()
}

#[test]
fn two_with_other_bottlenecks_are_faster_together_and_no_time_is_counted_twice() {
    let alone = ran("shortest-remaining-service+rounds").outcome;
    let shared = ran("shortest-remaining-service+rounds+interleave").outcome;
    assert_eq!((alone.makespan_s.round(), alone.jobs.completed), (4_000.0, 3));
    assert!(shared.makespan_s < 3_600.0, "{}", shared.makespan_s);
    assert!(shared.jct.unwrap().mean_s < alone.jct.unwrap().mean_s);
    // All accelerators are held all the time, whoever shares them, and all of it ran work.
    let hours = shared.accelerator_hours;
    assert!((hours.held - shared.makespan_s / 3600.0 * 64.0).abs() < 0.1, "{hours:?}");
    assert!(shared.utilisation.unwrap() <= 1.0 && shared.utilisation.unwrap() > 0.99, "{shared:?}");
    assert!((hours.useful + hours.lost + hours.starting - hours.held).abs() < 0.1, "{hours:?}");
}

#[test]
fn a_log_of_jobs_that_share_is_replayed_to_the_same_digest() {
    let (scene, rules) =
        (scene(), Rules::named("shortest-remaining-service+rounds+interleave", Lengths::Exact).unwrap());
    let header = Header::new(settings(&scene, &rules), scene.profiles.clone(), scene.queues.clone());
    let mut out = Vec::new();
    let mut recorder = Recorder::new(&mut out, &header).unwrap();
    let ran = play(&scene, &rules, &Wanted::default(), &mut recorder).unwrap();
    recorder.finish(u64::from_str_radix(&ran.digest, 16).unwrap()).unwrap();
    let text = String::from_utf8(out).unwrap();
    let log = Log::read(&text).unwrap();
    assert_eq!(log.header.profiles, scene.profiles);
    let mut scheduler = Scheduler::new(log.header.settings.clone()).unwrap();
    let replay = log.replay(&mut scheduler, dh_core::SimTime(u64::MAX), |_, _, _| ()).unwrap();
    assert_eq!((replay.differs, replay.digest), (None, ran.digest));
}

#[test]
fn jobs_go_where_a_table_says_that_they_are_fast_and_pairs_share_as_it_measured() {
    const TABLE: &str = "gpu,job,colocated_with,steps_per_s,steps_per_s_colocated\n\
        k80,\"('loads', 32)\",,1,\n\
        v100,\"('loads', 32)\",,10,\n\
        k80,\"('computes', 32)\",,5,\n\
        v100,\"('computes', 32)\",,6,\n\
        v100,\"('loads', 32)\",\"('computes', 32)\",9,5.4\n";
    let table = Throughputs::read(TABLE, "t").unwrap();
    let text = TRACE.replace(",64,", ",32,");
    let scene = |classes: &[&str]| {
        let mut trace = read(by_name("muri").unwrap(), &text, Options { file: "t", ..Options::default() }).unwrap();
        trace.cluster.classes = classes.iter().map(|class| (*class).to_owned()).collect();
        if classes.len() == 1 {
            trace.cluster.nodes[0].count = 4;
        }
        trace.rate(&table);
        Scene::of_trace(&trace, Costs::default()).unwrap()
    };
    let ran = |scene: &Scene, policy: &str| {
        play(scene, &Rules::named(policy, Lengths::Exact).unwrap(), &Wanted::default(), &mut ()).unwrap().outcome
    };
    // Half of the nodes are of each kind: who gains most from the fast ones gets them.
    let mixed = scene(&[]);
    assert_eq!(mixed.classes, ["k80", "v100"]);
    let (blind, seeing) = (ran(&mixed, "fifo+best-fit"), ran(&mixed, "fifo+heterogeneity"));
    assert!(seeing.jct.unwrap().mean_s < blind.jct.unwrap().mean_s, "{:?} {:?}", seeing.jct, blind.jct);
    // On the fast ones alone the first two share at 0.9 of their speed.
    let fast = scene(&["v100"]);
    let (alone, shared) =
        (ran(&fast, "shortest-remaining-service+rounds"), ran(&fast, "shortest-remaining-service+rounds+interleave"));
    assert_eq!((alone.makespan_s.round(), alone.jobs.completed), (4_000.0, 3));
    assert!(shared.makespan_s < 3_300.0, "{}", shared.makespan_s);
}
