//! Random starts, stops and kills from several threads: every task that started ends exactly once, nothing is left.

use std::collections::BTreeMap;
use std::time::Duration;

use dh_exec::{Executor, Stop, TaskEvent, What};

use crate::Test;
use crate::rig::{Rig, attempt, sh, task};

pub(crate) const TESTS: &[Test] = &[("a_storm_leaves_nothing_and_reports_all", a_storm_leaves_nothing_and_reports_all)];

const SCRIPTS: [&str; 5] = [
    "exit 0",
    "sleep 0.05; exit 3",
    "sleep 1000",
    "trap '' TERM; (setsid sleep 1000 &) ; while :; do sleep 0.1; done",
    "(setsid sleep 1000 &) ; (setsid sleep 1000 &) ; exit 1",
];

/// A small generator, so that a run can be repeated: `DH_SEED=7 cargo test -p dh-exec --test gangs storm`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn a_storm_leaves_nothing_and_reports_all() {
    const THREADS: u64 = 4;
    const GANGS: u32 = 12;
    let seed = std::env::var("DH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x51ce_u64);
    println!("  DH_SEED={seed}");
    let rig = Rig::new();
    let exec = rig.exec();
    let started: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (thread + 1));
                    let mut started = 0;
                    for number in 1..=GANGS {
                        let id = attempt(thread + 1, number);
                        let ranks = u32::try_from(1 + dice.roll(5)).unwrap();
                        let script = SCRIPTS[usize::try_from(dice.roll(5)).unwrap()];
                        exec.start(sh(id, ranks, script)).unwrap();
                        started += ranks;
                        std::thread::sleep(Duration::from_millis(dice.roll(40)));
                        if dice.roll(2) == 0 {
                            let victim = u32::try_from(dice.roll(u64::from(ranks))).unwrap();
                            // It may have ended by itself.
                            exec.kill_rank(task(id, victim)).unwrap_or(());
                        }
                        exec.stop(id, if dice.roll(3) == 0 { Stop::Polite } else { Stop::Now }).unwrap();
                    }
                    started
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let mut seen: BTreeMap<_, Vec<bool>> = BTreeMap::new();
    for _ in 0..2 * started {
        let TaskEvent { task, what } = rig.event();
        seen.entry(task).or_default().push(matches!(what, What::Exited(_)));
    }
    rig.no_event();
    assert_eq!(seen.len(), usize::try_from(started).unwrap());
    assert!(seen.values().all(|events| events == &[false, true]), "{seen:?}");
    assert_eq!(exec.running(), []);
    rig.assert_nothing_runs();
}
