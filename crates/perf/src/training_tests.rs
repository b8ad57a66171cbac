//! Cases computed by hand, and what must hold for every job and machine.

use dh_units::{BytesPerSec, FlopPerSec};
use proptest::prelude::*;

use super::*;
use crate::profile::GemmRate;

/// Round figures: 1 GFLOP/s, 1 GB/s, 1 us, 1 ms.
fn machine() -> MachineProfile {
    MachineProfile {
        ranks: 2,
        gemm: vec![GemmRate { m: 100, k: 100, n: 100, rate: FlopPerSec(1e9) }],
        memory: BytesPerSec(1e9),
        operation: Seconds(1e-6),
        message_latency: Seconds(1e-3),
        message_bandwidth: BytesPerSec(1e8),
        disk_write: BytesPerSec(1e6),
        disk_read: BytesPerSec(1e7),
    }
}

fn work() -> TrainingWork {
    TrainingWork {
        ranks: 2,
        batch: 64,
        steps: 100,
        epochs: 2,
        gemms: vec![Gemm { m: 100, k: 100, n: 100, count: 3 }],
        small_operations: 1_000,
        memory_bytes: Bytes(2_000_000),
        exchange_bytes: Bytes(500_000),
        exchange_messages: 1,
        collective: Collective::Ring,
        evaluation: Evaluation {
            gemms: vec![Gemm { m: 100, k: 100, n: 100, count: 1 }],
            small_operations: 500,
            batches: 20,
        },
        data_bytes_per_epoch: Bytes(20_000_000),
        cache_bytes: Bytes(64 << 20),
        checkpoint_bytes: Bytes(1_000_000),
        checkpoints: 3,
        losses: None,
    }
}

fn seconds(prediction: &Prediction, name: &str) -> f64 {
    prediction.parts.iter().find(|part| part.name == name).unwrap().seconds.0
}

fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
}

#[test]
fn every_part_is_what_a_pocket_calculator_says() {
    let prediction = predict(&work(), &machine()).unwrap();
    // 100 steps x 3 products x 2e6 FLOP / 1e9 FLOP/s.
    near(seconds(&prediction, "matrix products"), 0.6);
    // 100 x 1000 x 1e-6 s.
    near(seconds(&prediction, "small operations"), 0.1);
    // 100 x 2e6 B / 1e9 B/s.
    near(seconds(&prediction, "memory traffic"), 0.2);
    // 100 x (2 x 1e-3 s + 2 (1/2) x 5e5 B / 1e8 B/s).
    near(seconds(&prediction, "exchange of gradients"), 0.7);
    // 20 x (2e6 / 1e9 + 500 x 1e-6).
    near(seconds(&prediction, "evaluation"), 0.05);
    // A step takes 0.016 s, an epoch of 50 steps 0.8 s; reading 20 MB takes 2 s cold and 0.02 s warm.
    near(seconds(&prediction, "waiting for data"), 1.2);
    // 3 x 1e6 / 1e6.
    near(seconds(&prediction, "checkpoints"), 3.0);
    near(prediction.total.0, 5.85);
    near(prediction.samples_per_second.value, 64.0 / 0.016);
    assert_eq!(prediction.data_read.value, Bytes(40_000_000));
    assert_eq!(prediction.cache_hits.value, Bytes(20_000_000));
    near(prediction.high_ratio, HIGH_RATIO);
    // Overlap would save the small operations and the memory traffic: 0.3 s of 5.85 s; a tenth is more.
    near(prediction.low_ratio, LOW_RATIO);
    let (low, high) = prediction.interval();
    assert!(low < prediction.total && prediction.total < high);
}

#[test]
fn every_number_says_where_it_comes_from() {
    let prediction = predict(&TrainingWork { losses: Some(LOSSES), ..work() }, &machine()).unwrap();
    let text: String = prediction
        .parts
        .iter()
        .fold(String::new(), |text, part| text + &format!("{}: {}: {}\n", part.name, part.seconds, part.basis));
    let text = text
        + &format!(
            "samples: {}\ndata: {}\nhits: {}\ninterval: {}\n",
            prediction.samples_per_second, prediction.data_read, prediction.cache_hits, prediction.interval_basis
        );
    expect_test::expect![[r"
        matrix products: 600 ms: 100 steps x 6 MFLOP / 1 GFLOP/s (mean of 1 shapes, 1 of them measured)
        small operations: 100 ms: 100 steps x 1000 operations x 1 µs
        memory traffic: 200 ms: 100 steps x 2 MB / 1 GB/s
        exchange of gradients: 700 ms: 100 steps x (2 waits x 1 ms + 1 x 500 kB / 100 MB/s) with 2 ranks
        evaluation: 50 ms: 20 batches x (2 ms products + 500 operations x 1 µs)
        waiting for data: 1.2 s: reading an epoch takes 2 s (20 MB / 10 MB/s), computing it 800 ms; the longer counts, 1 of 2 epochs from memory
        checkpoints: 3 s: 3 x 1 MB / 1 MB/s durable
        lost ranks: 4.24 s: 1 x (half of 30 steps done again, 240 ms + restart 4 s)
        samples: 4000 (batch of 64 / step of 16 ms)
        data: 40 MB (2 epochs x 20 MB)
        hits: 20 MB (the set of 20 MB fits into 64 MiB of cache: 1 later epochs hit)
        interval: low: if products, operations and memory traffic overlapped perfectly the ratio were 0.97, and machines vary by a tenth; high: a machine that also does other things (stated assumption)
    "]].assert_eq(&text);
}

const LOSSES: Losses = Losses { count: 1, checkpoint_every: 30, restart: Seconds(4.0) };

#[test]
fn a_lost_rank_costs_half_an_interval_and_the_restart() {
    let prediction = predict(&TrainingWork { losses: Some(LOSSES), ..work() }, &machine()).unwrap();
    near(seconds(&prediction, "lost ranks"), 15.0 * 0.016 + 4.0);
    near(prediction.total.0, 5.85 + 4.24);
}

#[test]
fn one_rank_exchanges_nothing() {
    let prediction = predict(&TrainingWork { ranks: 1, ..work() }, &machine()).unwrap();
    near(seconds(&prediction, "exchange of gradients"), 0.0);
    near(prediction.high_ratio, HIGH_RATIO_UNLIKE);
}

#[test]
fn a_set_larger_than_the_cache_is_read_cold_every_time() {
    let prediction = predict(&TrainingWork { cache_bytes: Bytes(10), ..work() }, &machine()).unwrap();
    assert_eq!(prediction.cache_hits.value, Bytes(0));
    near(seconds(&prediction, "waiting for data"), 2.4);
}

#[test]
fn nothing_to_do_takes_no_time() {
    let nothing = TrainingWork {
        steps: 0,
        epochs: 0,
        batch: 0,
        gemms: vec![],
        evaluation: Evaluation::default(),
        checkpoints: 0,
        small_operations: 0,
        memory_bytes: Bytes(0),
        exchange_bytes: Bytes(0),
        ..work()
    };
    let prediction = predict(&nothing, &MachineProfile { gemm: vec![], ..machine() }).unwrap();
    near(prediction.total.0, 0.0);
    assert!(prediction.samples_per_second.value.abs() < 1e-12);
}

#[test]
fn figures_that_cannot_be_are_errors() {
    for broken in [
        MachineProfile { memory: BytesPerSec(0.0), ..machine() },
        MachineProfile { disk_read: BytesPerSec(f64::NAN), ..machine() },
        MachineProfile { operation: Seconds(-1.0), ..machine() },
        MachineProfile { message_latency: Seconds(f64::INFINITY), ..machine() },
    ] {
        assert!(matches!(predict(&work(), &broken), Err(Error::Profile { .. })));
    }
    assert_eq!(predict(&work(), &MachineProfile { gemm: vec![], ..machine() }), Err(Error::NoRates));
    assert!(matches!(
        predict(&TrainingWork { ranks: 0, ..work() }, &machine()),
        Err(Error::Work { figure: "ranks", .. })
    ));
}

#[test]
fn a_prediction_reads_back_from_json() {
    let prediction = predict(&work(), &machine()).unwrap();
    let read: Prediction = serde_json::from_str(&serde_json::to_string(&prediction).unwrap()).unwrap();
    assert_eq!(read.parts.len(), prediction.parts.len());
    near(read.total.0, prediction.total.0);
}

prop_compose! {
    fn any_work()(
        ranks in 1_u32..64, batch in 1_u32..4096, steps in 0_u64..10_000, epochs in 0_u32..20,
        shape in (1_u32..2000, 1_u32..2000, 1_u32..2000, 0_u32..10), operations in 0_u64..10_000,
        bytes in (0_u64..1 << 32, 0_u64..1 << 30, 0_u64..1 << 32, 0_u64..1 << 32, 0_u64..1 << 32),
        messages in 0_u32..100, ring: bool, checkpoints in 0_u64..50,
        losses in proptest::option::of((0_u32..5, 0_u64..1000, 0.0..1e3)),
    ) -> TrainingWork {
        let (m, k, n, count) = shape;
        let (memory, exchange, data, cache, checkpoint) = bytes;
        TrainingWork {
            ranks, batch, steps, epochs,
            gemms: vec![Gemm { m, k, n, count }],
            small_operations: operations,
            memory_bytes: Bytes(memory),
            exchange_bytes: Bytes(exchange),
            exchange_messages: messages,
            collective: if ring { Collective::Ring } else { Collective::Direct },
            evaluation: Evaluation { gemms: vec![Gemm { m: k, k: m, n, count }], small_operations: operations, batches: steps / 7 },
            data_bytes_per_epoch: Bytes(data),
            cache_bytes: Bytes(cache),
            checkpoint_bytes: Bytes(checkpoint),
            checkpoints,
            losses: losses.map(|(count, checkpoint_every, restart)| Losses { count, checkpoint_every, restart: Seconds(restart) }),
        }
    }
}

fn total(work: &TrainingWork, machine: &MachineProfile) -> f64 {
    predict(work, machine).unwrap().total.0
}

proptest! {
    #[test]
    fn more_work_is_never_faster(work in any_work(), more in 1_u64..1 << 30) {
        let machine = machine();
        let before = total(&work, &machine) * (1.0 - 1e-9);
        let plus = |bytes: Bytes| Bytes(bytes.0 + more);
        let small = u32::try_from(more % 1000).unwrap() + 1;
        for larger in [
            TrainingWork { memory_bytes: plus(work.memory_bytes), ..work.clone() },
            TrainingWork { exchange_bytes: plus(work.exchange_bytes), ..work.clone() },
            TrainingWork { data_bytes_per_epoch: plus(work.data_bytes_per_epoch), ..work.clone() },
            TrainingWork { checkpoint_bytes: plus(work.checkpoint_bytes), ..work.clone() },
            TrainingWork { checkpoints: work.checkpoints + 1, ..work.clone() },
            TrainingWork { steps: work.steps + more, ..work.clone() },
            TrainingWork { small_operations: work.small_operations + more, ..work.clone() },
            TrainingWork { exchange_messages: work.exchange_messages + small, ..work.clone() },
            TrainingWork { ranks: work.ranks + small, ..work.clone() },
            TrainingWork { cache_bytes: Bytes(work.cache_bytes.0 / 2), ..work.clone() },
            TrainingWork { gemms: [work.gemms.clone(), work.gemms.clone()].concat(), ..work.clone() },
            TrainingWork { losses: Some(Losses { count: 9, checkpoint_every: 1000, restart: Seconds(1e3) }), ..work.clone() },
        ] {
            prop_assert!(total(&larger, &machine) >= before, "{work:?}\n{larger:?}");
        }
    }

    #[test]
    fn a_slower_machine_is_never_faster(work in any_work(), factor in 1.0..100.0_f64) {
        let fast = machine();
        let before = total(&work, &fast) * (1.0 - 1e-9);
        for slow in [
            MachineProfile { memory: fast.memory / factor, ..fast.clone() },
            MachineProfile { operation: fast.operation * factor, ..fast.clone() },
            MachineProfile { message_latency: fast.message_latency * factor, ..fast.clone() },
            MachineProfile { message_bandwidth: fast.message_bandwidth / factor, ..fast.clone() },
            MachineProfile { disk_write: fast.disk_write / factor, ..fast.clone() },
            MachineProfile { disk_read: fast.disk_read / factor, ..fast.clone() },
            MachineProfile {
                gemm: fast.gemm.iter().map(|rate| GemmRate { rate: rate.rate / factor, ..*rate }).collect(),
                ..fast.clone()
            },
        ] {
            prop_assert!(total(&work, &slow) >= before);
        }
    }

    #[test]
    fn parts_add_up_and_the_interval_holds_the_total(work in any_work()) {
        let prediction = predict(&work, &machine()).unwrap();
        let sum: f64 = prediction.parts.iter().map(|part| part.seconds.0).sum();
        prop_assert!((sum - prediction.total.0).abs() <= 1e-9 * sum.max(1.0));
        prop_assert!(prediction.low_ratio > 0.0 && prediction.low_ratio < 1.0 && prediction.high_ratio > 1.0);
        prop_assert!(prediction.parts.iter().all(|part| part.seconds.0 >= 0.0 && !part.basis.is_empty()));
        prop_assert!(prediction.cache_hits.value <= prediction.data_read.value);
    }
}
