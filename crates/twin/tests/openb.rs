//! The protocol on a small trace of our own: its marks, its order, and that the recommended policy is no worse.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::allow_attributes, reason = "a test")]

use std::fmt::Write as _;

use dh_policy::packing::by_name;
use dh_twin::openb::{MARKS, Moves, Protocol, Run, Summary, Trace, read};

/// Twenty nodes of eight and ten of two; pods in halves, ones, and eights, some that insist on a model.
fn trace() -> Trace {
    let mut nodes = "sn,cpu_milli,memory_mib,gpu,model\n".to_owned();
    for n in 0..30 {
        let (cpu, gpu, model) = if n < 20 { (96_000, 8, "G2") } else { (64_000, 2, "T4") };
        writeln!(nodes, "n{n},{cpu},393216,{gpu},{model}").unwrap();
    }
    let mut pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n".to_owned();
    for n in 0..120 {
        let (cpu, gpu, milli, spec) = match n % 10 {
            0 => (32_000, 8, 1000, ""),
            1 | 2 => (6000, 1, 1000, "T4"),
            3..=6 => (11_000, 1, 500, ""),
            7 => (20_000, 0, 0, ""),
            _ => (8000, 1, 1000, ""),
        };
        writeln!(pods, "p{n},{cpu},16384,{gpu},{milli},{spec}").unwrap();
    }
    read(&nodes, &pods).unwrap()
}

fn played(policy: &str, seeds: std::ops::Range<u64>) -> Summary {
    let trace = trace();
    let protocol = Protocol::new(&trace, by_name(policy).unwrap(), 1.3).unwrap();
    protocol.summary(seeds.map(|seed| protocol.run(seed)).collect())
}

#[test]
fn every_mark_is_met_and_nothing_is_allocated_twice() {
    let summary = played("best", 42..44);
    assert_eq!((summary.nodes, summary.accelerators), (30, 180));
    assert_eq!(summary.allocation_pct.keys().copied().collect::<Vec<_>>(), MARKS);
    let values: Vec<f64> = summary.allocation_pct.values().copied().collect();
    assert!(values.windows(2).all(|pair| pair[0] <= pair[1]), "nothing leaves: {values:?}");
    // A mark is read at the pod that reaches it: what is allocated then is at most that pod more.
    for (mark, value) in &summary.allocation_pct {
        assert!(*value <= f64::from(*mark) + 100.0 * 8.0 / 180.0 && *value <= 100.0, "{mark}: {value}");
    }
    for run in &summary.runs {
        assert!(run.placed > 0 && run.dropped > 0);
    }
}

#[test]
fn a_seed_repeats_itself_and_another_does_not() {
    assert_eq!(played("fragmentation", 7..8), played("fragmentation", 7..8));
    assert_ne!(played("fragmentation", 7..8).allocation_pct, played("fragmentation", 8..9).allocation_pct);
}

#[test]
fn the_recommended_policy_packs_no_worse_than_best_fit() {
    let at_full = |policy: &str| played(policy, 0..10).allocation_pct[&100];
    let (best, fit) = (at_full("best"), at_full("best-fit"));
    assert!(best >= fit, "{best} against {fit}");
}

#[test]
fn a_ratio_that_cannot_be_is_refused() {
    let trace = trace();
    for ratio in [0.0, -1.0, f64::NAN, 11.0] {
        assert!(Protocol::new(&trace, by_name("best").unwrap(), ratio).is_err(), "{ratio}");
    }
}

#[test]
fn moves_stay_within_their_share_and_let_more_in() {
    let trace = trace();
    let run = |per_million| {
        let protocol = Protocol::new(&trace, by_name("best-fit").unwrap(), 1.3).unwrap();
        let moving = protocol.moving(Moves { per_million, price: 200 });
        (0..10).map(|seed| moving.run(seed)).collect::<Vec<_>>()
    };
    let (without, with) = (run(0), run(50_000));
    assert!(without.iter().all(|run| run.moves == 0));
    assert!(with.iter().all(|run| run.moves * 20 <= run.placed), "one in twenty at most");
    assert!(with.iter().map(|run| run.moves).sum::<u64>() > 0);
    let allocated = |runs: &[Run]| runs.iter().map(|run| run.allocation_pct[&100]).sum::<f64>();
    assert!(allocated(&with) > allocated(&without), "{} against {}", allocated(&with), allocated(&without));
}
