//! Runs by hand, and what must hold of any.

use proptest::prelude::*;

use super::checkpoint::{BYTES_PER_PARAMETER_WITHOUT_COPY, COPY_TO_HOST, Save, Store, size, times};
use super::*;

const DAY: f64 = 86_400.0;

fn plain() -> Run {
    Run {
        tokens: 1e12,
        tokens_per_step: 4e6,
        step: Seconds(2.0),
        accelerators: 1024,
        stragglers: None,
        reading: None,
        checkpoint: None,
        failures: None,
        power: None,
        prices: None,
    }
}

fn saved(save: Save, interval: Option<f64>) -> Checkpoint {
    let store = Store { bandwidth: BytesPerSec(100e9), node: Some(BytesPerSec(25e9)), writers: 128 };
    Checkpoint { size: size(70_000_000_000, 14.0), store, save, interval: interval.map(Seconds) }
}

#[test]
fn an_undisturbed_run_is_its_steps() {
    let outlook = outlook(&Run {
        power: Some(Power { at_work: Watts(600.0), at_rest: Watts(100.0), node: Watts(400.0), pue: 1.2 }),
        prices: Some(Prices { accelerator_hour: Usd(2.0), kilowatt_hour: Usd(0.1) }),
        ..plain()
    })
    .unwrap();
    assert_eq!(outlook.steps, 250_000);
    assert!((outlook.days() - 500_000.0 / DAY).abs() < 1e-9);
    assert!((outlook.goodput - 1.0).abs() < 1e-12);
    let energy = 1000.0 * 1.2 * 1024.0 * 500_000.0;
    assert!((outlook.energy.unwrap().0 / energy - 1.0).abs() < 1e-12);
    let dollars = 2.0 * 1024.0 * 500_000.0 / 3600.0 + energy / 3.6e6 * 0.1;
    assert!((outlook.dollars.unwrap().0 / dollars - 1.0).abs() < 1e-12);
    assert!((outlook.dollars_per_million_tokens().unwrap().0 / (dollars / 1e6) - 1.0).abs() < 1e-12);
}

#[test]
fn the_405_billion_run_keeps_what_its_ratio_says() {
    // 419 unexpected interruptions in 54 days, of 16,384 accelerators (arXiv 2407.21783, table 5); checkpoints of 10 s and
    // restarts of 6 min leave 92.5 % to first order, and exactly a little more.
    let failures = Failures { mtbf: Seconds(54.0 * DAY / 419.0), restart: Seconds(360.0) };
    let store = Store { bandwidth: BytesPerSec(567e9), node: None, writers: 1 };
    let checkpoint = Checkpoint { size: size(405_000_000_000, 14.0), store, save: Save::Blocking, interval: None };
    let run = Run { failures: Some(failures), checkpoint: Some(checkpoint), ..plain() };
    let outlook = outlook(&run).unwrap();
    assert!((outlook.checkpoint.unwrap().stall.0 - 10.0).abs() < 0.01);
    assert!((0.925..0.935).contains(&outlook.kept.ettr), "{:?}", outlook.kept);
    let young = interruptions::young(Seconds(10.0), failures.mtbf).0;
    assert!((outlook.kept.interval.unwrap().0 / young - 1.0).abs() < 0.02);
}

#[test]
fn a_checkpoint_takes_the_time_that_its_bytes_need() {
    // MT-NLG 530B at 20 Gb/s: 42 minutes (Wang et al. 2023, SOSP, their arithmetic).
    let bytes = size(530_000_000_000, BYTES_PER_PARAMETER_WITHOUT_COPY);
    let slow = Store { bandwidth: BytesPerSec(2.5e9), node: None, writers: 1 };
    assert!((times(bytes, &slow, Save::Blocking).unwrap().stall.0 / 60.0 - 42.4).abs() < 0.05);
    let ports = Store { bandwidth: BytesPerSec(1e12), node: Some(BytesPerSec(10e9)), writers: 4 };
    assert!((times(Bytes(80_000_000_000), &ports, Save::Blocking).unwrap().stall.0 - 2.0).abs() < 1e-9);
    let save = Save::Background { copy: COPY_TO_HOST, accelerators: 16 };
    let both = times(Bytes(80_000_000_000), &ports, save).unwrap();
    assert!((both.stall.0 - 1.0).abs() < 1e-9 && (both.durable.0 - 3.0).abs() < 1e-9);
}

#[test]
fn the_slowest_of_many_is_about_four_deviations_away() {
    // Means of the largest of n normal values: 1.4236, 2.5076, 3.8516 (tables of order statistics, Harter 1961).
    for (n, mean, off) in [(8, 1.4236, 0.11), (100, 2.5076, 0.05), (10_000, 3.8516, 0.03)] {
        assert!((slowest(n) - mean).abs() < off, "{n} {}", slowest(n));
    }
    assert!((Stragglers { spread: 0.01, measured_on: 8 }.factor(8) - 1.0).abs() < 1e-12);
}

#[test]
fn runs_that_cannot_be_are_refused() {
    let failures = Some(Failures { mtbf: Seconds(1000.0), restart: Seconds(10.0) });
    assert!(outlook(&Run { failures, ..plain() }).is_err(), "without checkpoints");
    let hopeless = Some(Failures { mtbf: Seconds(1e-3), restart: Seconds(1e4) });
    let checkpoint = Some(saved(Save::Blocking, None));
    assert!(outlook(&Run { failures: hopeless, checkpoint, ..plain() }).is_err());
    assert!(outlook(&Run { tokens: f64::NAN, ..plain() }).is_err());
    assert!(outlook(&Run { step: Seconds(0.0), ..plain() }).is_err());
    assert!(outlook(&Run { accelerators: 0, ..plain() }).is_err());
    let reading = Some(Reading { bytes_per_token: 4.0, bandwidth: BytesPerSec(0.0) });
    assert!(outlook(&Run { reading, ..plain() }).is_err());
}

proptest! {
    #[test]
    fn nothing_worse_makes_a_run_shorter(
        mtbf in 1e3..1e7, restart in 0.0..3e3, store in 1e9..1e13, bandwidth in 1e4..1e12, worse in 1.0..4.0,
        interval in proptest::option::of(60.0..1e4), background in any::<bool>(),
    ) {
        let save = if background { Save::Background { copy: COPY_TO_HOST, accelerators: 1024 } } else { Save::Blocking };
        let mut checkpoint = saved(save, interval);
        checkpoint.store.bandwidth = BytesPerSec(store);
        let run = Run {
            stragglers: Some(Stragglers { spread: SPREAD, measured_on: 64 }),
            reading: Some(Reading { bytes_per_token: TOKEN_BYTES, bandwidth: BytesPerSec(bandwidth) }),
            checkpoint: Some(checkpoint),
            failures: Some(Failures { mtbf: Seconds(mtbf), restart: Seconds(restart) }),
            power: Some(Power { at_work: Watts(600.0), at_rest: Watts(100.0), node: Watts(400.0), pue: 1.2 }),
            ..plain()
        };
        let Ok(here) = outlook(&run) else { return Ok(()) };
        prop_assert!(here.goodput > 0.0 && here.goodput <= 1.0);
        prop_assert!(here.kept.ettr > 0.0 && here.kept.ettr <= 1.0);
        let most = 1000.0 * 1.2 * 1024.0 * here.wall.0;
        let energy = here.energy.unwrap().0;
        prop_assert!(energy <= most * (1.0 + 1e-9) && energy >= most / 2.0);
        let mut slower = checkpoint;
        slower.store.bandwidth = BytesPerSec(store / worse);
        for other in [
            Run { failures: Some(Failures { mtbf: Seconds(mtbf / worse), restart: Seconds(restart) }), ..run },
            Run { failures: Some(Failures { mtbf: Seconds(mtbf), restart: Seconds(restart * worse) }), ..run },
            Run { checkpoint: Some(slower), ..run },
            Run { reading: Some(Reading { bytes_per_token: TOKEN_BYTES * worse, bandwidth: BytesPerSec(bandwidth) }), ..run },
            Run { step: run.step * worse, ..run },
            Run { tokens: run.tokens * worse, ..run },
        ] {
            if let Ok(there) = outlook(&other) {
                prop_assert!(there.wall.0 >= here.wall.0 * (1.0 - 1e-9), "{other:?}");
            }
        }
        let without = outlook(&Run { failures: None, checkpoint: None, reading: None, stragglers: None, ..run }).unwrap();
        prop_assert!(without.wall.0 <= here.wall.0 && (without.goodput - 1.0).abs() < 1e-12);
    }

    #[test]
    fn no_interval_keeps_more_than_the_best(mtbf in 1e3..1e6, stall in 0.1..1e3, other in 1.0..1e6) {
        let times = checkpoint::Times { stall: Seconds(stall), durable: Seconds(stall) };
        let failures = Failures { mtbf: Seconds(mtbf), restart: Seconds(60.0) };
        let of = |interval| interruptions::kept(Some(&failures), Some(&times), interval).map_or(0.0, |kept| kept.ettr);
        prop_assert!(of(None) >= of(Some(Seconds(other))) - 1e-12);
    }
}
