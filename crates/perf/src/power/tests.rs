//! What must hold of power whatever the profile has learned.

use dh_blueprint::Catalog;
use dh_units::{Bytes, Flop, Seconds, Watts};
use proptest::prelude::*;

use super::*;
use crate::hardware::Format;

fn h100() -> (Accelerator, Profile) {
    let catalog = Catalog::builtin();
    (Accelerator::named(catalog, "h100-80gb-sxm").unwrap(), Profile::of(catalog, "h100-80gb-sxm"))
}

fn activity() -> impl Strategy<Value = Activity> {
    let share = || 0.0..1.5_f64;
    (share(), share(), share(), share()).prop_map(|(compute, memory, links, busy)| Activity {
        compute,
        memory,
        links,
        busy,
    })
}

/// Any numbers within their bounds.
fn profile() -> impl Strategy<Value = Profile> {
    proptest::collection::vec(0.0..1.0_f64, Profile::NUMBERS.len()).prop_map(|places| {
        let mut profile = Profile::default();
        for ((name, _, low, high), place) in Profile::NUMBERS.iter().zip(places) {
            profile.set(name, low + place * (high - low));
        }
        profile
    })
}

#[test]
fn rest_and_full_work_are_where_they_should_be() {
    let (h100, profile) = h100();
    let rest = draw(&h100, Activity::default(), &profile).unwrap();
    // The 8 H100 of a node at rest draw 70 to 130 W each; the lower half of that with clocks down.
    assert!((50.0..150.0).contains(&rest.power.0), "{rest:?}");
    let training = draw(&h100, Activity::of_products(0.4, &profile), &profile).unwrap();
    assert!((550.0..700.0).contains(&training.power.0), "{training:?}");
    assert!(!training.outside_calibrated_range && training.high.0 <= 700.0 && training.low < training.power);
}

#[test]
fn an_accelerator_without_a_published_run_is_outside_the_range() {
    let catalog = Catalog::builtin();
    let trainium = Accelerator::named(catalog, "mi300x").unwrap();
    let profile = Profile::of(catalog, "mi300x");
    assert!(draw(&trainium, Activity::default(), &profile).unwrap().outside_calibrated_range);
    assert!(slowdown(Watts(700.0), Watts(600.0), Watts(750.0), &profile).unwrap().outside_calibrated_range);
    let v100 = Profile::of(catalog, "v100-32gb");
    assert!(!slowdown(Watts(220.0), Watts(150.0), Watts(250.0), &v100).unwrap().outside_calibrated_range);
}

#[test]
fn a_step_that_waits_for_the_host_draws_less() {
    let (h100, profile) = h100();
    let short = Decoding {
        accelerators: 1,
        layers: 32,
        step: Seconds(0.008),
        dense: Bytes(16_000_000_000),
        experts: Bytes(0),
        cache: Bytes(1_000_000_000),
        flop: Flop(1.3e11),
        format: Format::Bf16,
        routed: 0.0,
        rescaled: 0.0,
    };
    let long = Decoding { step: Seconds(0.032), ..short };
    let watts = |step: Decoding| draw(&h100, step.activity(&h100, &profile), &profile).unwrap().power.0;
    assert!(watts(long) < 0.7 * watts(short), "{} and {}", watts(long), watts(short));
    // Experts that few tokens reach leave most accelerators waiting for the busiest.
    let spread = |routed| Decoding { accelerators: 8, routed, ..short };
    assert!(watts(spread(4.0)) < 0.85 * watts(spread(4_000.0)));
}

#[test]
fn numbers_of_a_file_stay_in_their_bounds() {
    let mut profile = Profile::default();
    profile.set("idle", 7.0);
    profile.set("busy", f64::NAN);
    profile.set("no such number", 1.0);
    assert_eq!(profile, Profile { idle: 0.3, ..Profile::default() });
    assert_eq!((profile.get("idle"), profile.get("no such number")), (Some(0.3), None));
}

#[test]
fn powers_that_are_none_are_refused() {
    let profile = Profile::default();
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(slowdown(Watts(bad), Watts(1.0), Watts(1.0), &profile).is_err());
        assert!(slowdown(Watts(1.0), Watts(bad), Watts(1.0), &profile).is_err());
    }
}

proptest! {
    #[test]
    fn more_activity_never_draws_less(at in activity(), more in activity(), profile in profile()) {
        let both = Activity {
            compute: at.compute + more.compute,
            memory: at.memory + more.memory,
            links: at.links + more.links,
            busy: at.busy + more.busy,
        };
        prop_assert!(share(both, &profile) >= share(at, &profile) - 1e-12);
    }

    #[test]
    fn nothing_draws_more_than_its_limit(at in activity(), profile in profile()) {
        let (h100, _) = h100();
        let drawn = draw(&h100, at, &profile).unwrap();
        prop_assert!(drawn.power.0 <= 700.0 && drawn.high.0 <= 700.0 && drawn.low <= drawn.power);
        prop_assert!(drawn.power.0 > 0.0);
    }

    #[test]
    fn a_tighter_cap_is_never_faster(uncapped in 20.0..400.0_f64, cap in 20.0..400.0_f64, by in 0.0..200.0_f64, profile in profile()) {
        let at = |cap: f64| slowdown(Watts(uncapped), Watts(cap), Watts(300.0), &profile).unwrap();
        let (tight, loose) = (at(cap), at(cap + by));
        prop_assert!(tight.factor >= loose.factor - 1e-12, "{tight:?} {loose:?}");
        prop_assert!(tight.power.0 <= loose.power.0 + 1e-9 && tight.power.0 <= cap.min(uncapped));
        prop_assert!(tight.low <= tight.factor && tight.factor <= tight.high);
    }

    #[test]
    fn a_cap_above_what_is_drawn_costs_nothing(uncapped in 20.0..400.0_f64, above in 1.2..5.0_f64, profile in profile()) {
        let free = slowdown(Watts(uncapped), Watts(uncapped * above), Watts(300.0), &profile).unwrap();
        prop_assert!((free.factor - 1.0).abs() < 1e-12 && free.power.0 > 0.9 * uncapped);
    }
}
