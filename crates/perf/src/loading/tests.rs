//! Loading by hand, and what must hold of any.

use proptest::prelude::*;

use super::*;

fn consumer(accelerators: u64) -> Consumer {
    Consumer { accelerators, hosts: 1, batch: 7.0, sample: 146_600_628.0, compute: Seconds(0.323), readers: 4 }
}

fn gigabytes(rate: f64) -> BytesPerSec {
    BytesPerSec(rate * 1e9)
}

#[test]
fn without_limits_only_the_handover_is_exposed() {
    let loading = steady(&consumer(3), &Supply::default(), &Profile::PRIOR).unwrap();
    let exposed = 0.9e-3 + 7.0 * 146_600_628.0 / 170e9;
    assert!((loading.exposed.0 - exposed).abs() < 1e-12, "{loading:?}");
    assert!((loading.utilisation - 0.323 / (0.323 + exposed)).abs() < 1e-12);
    assert!((loading.samples_per_second - 3.0 * 7.0 / (0.323 + exposed)).abs() < 1e-9);
    assert!(loading.load.abs() < 1e-12);
}

#[test]
fn a_store_far_too_slow_is_all_that_counts() {
    let supply = Supply { store: Some(gigabytes(1.0)), ..Supply::default() };
    let loading = steady(&consumer(100), &supply, &Profile::PRIOR).unwrap();
    assert!((loading.bandwidth.0 / 1e9 - 1.0).abs() < 1e-6, "{loading:?}");
    assert!(loading.load > 300.0);
}

#[test]
fn readers_that_wait_for_each_sample_are_a_limit() {
    // Four readers, 10 ms for each sample: 400 samples a second, where 7/0.001 are asked for.
    let small = Consumer { sample: 1e4, compute: Seconds(1e-3), ..consumer(1) };
    let supply = Supply { latency: Seconds(0.01), ..Supply::default() };
    let loading = steady(&small, &supply, &Profile::PRIOR).unwrap();
    assert!((loading.samples_per_second / 400.0 - 1.0).abs() < 0.01, "{loading:?}");
}

#[test]
fn a_load_is_found_again_from_what_it_leaves() {
    for sharpness in [1.0, 2.1, 8.0] {
        for share in [0.2, 0.5, 0.9, 0.99] {
            assert!((held(load_that_leaves(share, sharpness), sharpness) - share).abs() < 1e-9);
        }
    }
}

#[test]
fn figures_that_cannot_be_are_refused() {
    let refused = |consumer: Consumer, supply: Supply| steady(&consumer, &supply, &Profile::PRIOR).is_err();
    assert!(refused(consumer(0), Supply::default()));
    assert!(refused(Consumer { hosts: 0, ..consumer(1) }, Supply::default()));
    assert!(refused(Consumer { compute: Seconds(0.0), ..consumer(1) }, Supply::default()));
    assert!(refused(consumer(1), Supply { store: Some(gigabytes(0.0)), ..Supply::default() }));
    assert!(refused(consumer(1), Supply { stream: Some(gigabytes(f64::NAN)), ..Supply::default() }));
    assert!(refused(consumer(1), Supply { latency: Seconds(-1.0), ..Supply::default() }));
}

proptest! {
    #[test]
    fn more_supply_never_hurts_and_bounds_hold(
        n in 1_u64..500, hosts in 1_u64..20, store in 0.1..500.0, host in 0.1..100.0, stream in 0.01..10.0, latency in 0.0..0.1,
        more in 1.0..10.0,
    ) {
        let consumer = Consumer { hosts, ..consumer(n) };
        let supply = Supply {
            store: Some(gigabytes(store)), host: Some(gigabytes(host)), stream: Some(gigabytes(stream)), latency: Seconds(latency),
        };
        let of = |supply: &Supply| steady(&consumer, supply, &Profile::PRIOR).unwrap();
        let here = of(&supply);
        prop_assert!(here.utilisation > 0.0 && here.utilisation <= here.alone);
        prop_assert!(here.bandwidth.0 <= store * 1e9 * (1.0 + 1e-9));
        prop_assert!(here.bandwidth.0 <= host * 1e9 * real(hosts) * (1.0 + 1e-9));
        for better in [
            Supply { store: Some(gigabytes(store * more)), ..supply },
            Supply { host: Some(gigabytes(host * more)), ..supply },
            Supply { stream: Some(gigabytes(stream * more)), ..supply },
            Supply { latency: Seconds(latency / more), ..supply },
        ] {
            prop_assert!(of(&better).utilisation >= here.utilisation * (1.0 - 1e-12));
        }
        let fewer = steady(&Consumer { accelerators: n.div_ceil(2), ..consumer }, &supply, &Profile::PRIOR).unwrap();
        prop_assert!(fewer.utilisation >= here.utilisation * (1.0 - 1e-12));
        let share = here.steady_share(consumer.compute, 500.0);
        prop_assert!(share > 0.0 && share < 1.0 && here.steady_share(consumer.compute, 1000.0) > share);
    }

    #[test]
    fn reading_is_exposed_only_beyond_the_step(bytes in 0_u64..1_000_000_000_000, rate in 1e6..1e12, step in 0.0..100.0) {
        let exposed = exposed_reading(Bytes(bytes), BytesPerSec(rate), Seconds(step)).0;
        let reading = real(bytes) / rate;
        prop_assert!((exposed + step.min(reading) - reading).abs() <= 1e-9 * reading.max(1.0));
    }
}
