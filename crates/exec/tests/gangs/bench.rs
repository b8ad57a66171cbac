//! Figures that the module headers promise, with generous bounds that still catch a mistake of kind.

use std::fs;
use std::time::{Duration, Instant};

use dh_exec::{Executor, Stop};

use crate::Test;
use crate::rig::{Rig, attempt, gang, recorded_pid, task};

pub(crate) const TESTS: &[Test] = &[
    ("a_gang_of_64_starts_and_stops_fast", a_gang_of_64_starts_and_stops_fast),
    ("one_task_is_cheap", one_task_is_cheap),
];

fn a_gang_of_64_starts_and_stops_fast() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    let start = Instant::now();
    rig.exec().start(gang(id, 64, &["sleep", "1000"])).unwrap();
    let up = start.elapsed();
    rig.started(64);
    let look = Instant::now();
    assert_eq!(rig.exec().usage(id).unwrap().len(), 64);
    let looked = look.elapsed();
    let stop = Instant::now();
    rig.exec().stop(id, Stop::Polite).unwrap();
    rig.exited(64);
    let down = stop.elapsed();
    println!("  64 ranks: start {} ms, usage {} ms, stop {} ms", up.as_millis(), looked.as_millis(), down.as_millis());
    assert!(up < Duration::from_secs(10) && down < Duration::from_secs(10));
    rig.assert_nothing_runs();
}

fn one_task_is_cheap() {
    let rig = Rig::new();
    let (mut starts, mut wholes) = (Vec::new(), Vec::new());
    for number in 1..=50 {
        let begin = Instant::now();
        rig.exec().start(gang(attempt(1, number), 1, &["true"])).unwrap();
        starts.push(begin.elapsed());
        rig.started(1);
        rig.exited(1);
        wholes.push(begin.elapsed());
    }
    starts.sort();
    wholes.sort();
    let id = attempt(2, 1);
    rig.exec().start(gang(id, 1, &["sleep", "1000"])).unwrap();
    rig.started(1);
    let warden = recorded_pid(rig.exec(), task(id, 0), "warden");
    let status = fs::read_to_string(format!("/proc/{warden}/status")).unwrap();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let (all, own, threads) = (kib("VmRSS:"), kib("RssAnon:"), kib("Threads:"));
    println!(
        "  one task: start median {} us, worst {} us; start to end median {} us; warden RSS {all} KiB, of it its own {own} KiB",
        starts[25].as_micros(),
        starts[49].as_micros(),
        wholes[25].as_micros()
    );
    assert!(threads == 1 && own < 2_048, "{status}");
    rig.exec().stop(id, Stop::Now).unwrap();
    rig.exited(1);
}
