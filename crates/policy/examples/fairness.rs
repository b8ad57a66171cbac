//! Times the tree of queues: 1,000 leaves in 10 departments of 10 teams. `fairness [OPERATIONS]`.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example takes the time, and prints")]

use std::time::Instant;

use dh_core::SimTime;
use dh_core::time::Span;
use dh_policy::fairness::{Amounts, Part, Queue, QueueId, Tree, Usage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let operations: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let of = |milli| Amounts { accelerators_milli: milli, cpu_milli: milli * 16, memory_mib: milli * 100 };
    let mut tree = Tree::new(of(100_000_000), Span::from_secs(7 * 86_400));
    let mut leaves = Vec::new();
    for _ in 0..10 {
        let department = tree.add(QueueId(0), Queue { guaranteed: of(9_000_000), ..Queue::new("department") })?;
        for _ in 0..10 {
            let team = tree.add(department, Queue { guaranteed: of(500_000), ..Queue::new("team") })?;
            for weight in 1..=10 {
                leaves.push(tree.add(team, Queue { weight, ..Queue::new("user") })?);
            }
        }
    }
    for leaf in &leaves {
        tree.wake(*leaf);
    }
    let time = |index: u64| SimTime(1_800_000_000_000_000_000 + index * 700_000_000);
    let print = |what: &str, begin: Instant| {
        println!("{what:28} {:7.0} ns", begin.elapsed().as_secs_f64() * 1e9 / dh_units::real(operations));
    };
    let leaf_of = |index: u64| leaves[usize::try_from(index * 7919 % 1000).unwrap_or(0)];

    let begin = Instant::now();
    for index in 0..operations {
        tree.charge(leaf_of(index), &Usage { amounts: of(8000), from: time(index), to: time(index + 100) });
    }
    print("charge", begin);
    let begin = Instant::now();
    let mut admitted = 0;
    for index in 0..operations {
        admitted += u64::from(tree.admits(leaf_of(index), of(8000)).is_ok());
    }
    print("admits", begin);
    let begin = Instant::now();
    for index in 0..operations {
        if let Some(leaf) = tree.next(time(operations + index)) {
            tree.start(leaf, of(8000));
            let at = time(operations + index);
            tree.stop(leaf, &Usage { amounts: of(8000), from: at, to: at.after(Span::from_secs(3600)) });
        }
    }
    print("next, start, stop", begin);
    let begin = Instant::now();
    let mut claims = 0;
    for index in 0..operations {
        let part = |queue| Part { queue, amounts: of(8000) };
        claims += u64::from(tree.reclaims(&part(leaf_of(index)), &part(leaf_of(index + 1))).is_some());
    }
    print("reclaims", begin);
    println!("{admitted} admitted, {claims} claims");
    Ok(())
}
