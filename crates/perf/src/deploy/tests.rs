//! Facts of the search: it finds what trying everything finds, and asking for more never needs less.

use dh_blueprint::Catalog;
use dh_units::{Bytes, Seconds, UsdPerHour, Watts, real};
use proptest::prelude::*;

use super::capacity::{HIGHEST, Replica, holds};
use super::*;
use crate::collectives::ScaleOutProfile;
use crate::hardware::{Accelerator, Network};
use crate::power;

const BF16: Formats = Formats { products: Format::Bf16, weight_bytes: 2.0, cache_bytes: 2.0 };
const FP8: Formats = Formats { products: Format::Fp8, weight_bytes: 1.0, cache_bytes: 1.0 };

/// What a test changes.
#[derive(Debug, Clone)]
struct Setting {
    model: &'static str,
    memory: f64,
    demand: Demand,
    space: Space,
}

const CHAT: Demand = Demand {
    rate: Some(10.0),
    input: 1024.0,
    output: 256.0,
    prefix_hit: 0.0,
    accepted: 1.0,
    ttft: Some(Seconds(1.0)),
    tpot: Some(Seconds(0.05)),
};

fn setting(model: &'static str) -> Setting {
    let space = Space {
        formats: vec![BF16],
        degrees: None,
        size: None,
        replicas: None,
        accelerators: 4096,
        node: 8,
        split: Split::Never,
    };
    Setting { model, memory: 1.0, demand: CHAT, space }
}

impl Setting {
    fn with<T>(&self, look: impl FnOnce(&Case<'_>) -> T) -> T {
        let catalog = Catalog::builtin();
        let mut accelerator = Accelerator::named(catalog, "h100-80gb-sxm").unwrap();
        accelerator.memory = Bytes(dh_units::whole(accelerator.memory.as_f64() * self.memory));
        let profile = Profile::of(catalog, &accelerator.name, "");
        let network = Network {
            bandwidth: dh_units::BytesPerSec(50e9),
            oversubscription: 1.0,
            in_network: false,
            profile: ScaleOutProfile::INFINIBAND,
        };
        let worth = Worth {
            accelerator_hour: Some(UsdPerHour(3.0)),
            overhead: Watts(400.0),
            pue: 1.25,
            power: power::Profile::of(catalog, &accelerator.name),
        };
        let machine = Machine::new(accelerator, Some(network));
        let shape = Architecture::from(catalog.model_called(self.model).unwrap());
        look(&Case {
            shape: &shape,
            machine: &machine,
            profile: &profile,
            engine: "",
            demand: self.demand,
            space: &self.space,
            worth: &worth,
        })
    }

    fn answer(&self) -> Answer {
        self.with(|case| search(case).unwrap())
    }

    fn needs(&self) -> f64 {
        self.answer().best.map_or(f64::INFINITY, |best| real(best.accelerators))
    }
}

/// The fewest accelerators over every layout, every number of replicas and every rung of the ladder.
fn by_trying_everything(case: &Case<'_>) -> f64 {
    let mut least = f64::INFINITY;
    for degrees in space::layouts(case) {
        let Some(replica) = Replica::new(case, degrees, BF16) else { continue };
        for level in (0..=HIGHEST).filter(|level| holds(case, degrees, BF16, *level)) {
            let Some(point) = replica.at(level) else { continue };
            if point.ttft_99 > case.demand.ttft.unwrap() || point.tpot_99 > case.demand.tpot.unwrap() {
                continue;
            }
            let mut replicas = 1;
            while real(replicas) * point.rate < case.demand.rate.unwrap() {
                replicas += 1;
            }
            least = least.min(real(replicas * degrees.accelerators()));
        }
    }
    least
}

#[test]
fn the_search_finds_what_trying_everything_finds() {
    for (model, rate, ttft, tpot) in [
        ("llama-3-8b", 3.0, 1.0, 0.05),
        ("llama-3-8b", 70.0, 0.4, 0.02),
        ("llama-3-70b", 9.0, 2.0, 0.06),
        ("llama-3-70b", 30.0, 0.5, 0.03),
        ("mixtral-8x7b", 20.0, 0.5, 0.05),
    ] {
        let mut small = setting(model);
        small.space.accelerators = 8;
        small.demand = Demand { rate: Some(rate), ttft: Some(Seconds(ttft)), tpot: Some(Seconds(tpot)), ..CHAT };
        let expected = small.with(by_trying_everything);
        assert!(expected.is_finite(), "{model} at {rate} can be served");
        assert!((small.needs() - expected).abs() < 0.5, "{model} at {rate}: {} for {expected}", small.needs());
    }
}

#[test]
fn what_is_chosen_serves_the_rate_within_targets_and_memory() {
    for (model, formats) in [("llama-3-8b", BF16), ("llama-3-70b", BF16), ("deepseek-v3", FP8)] {
        let mut asked = setting(model);
        asked.space.formats = vec![formats];
        let best = asked.answer().best.unwrap();
        assert!(best.keeps && best.capacity >= 10.0 && (best.rate - 10.0).abs() < 1e-9, "{model}: {best:?}");
        assert!(best.ttft_99 <= Seconds(1.0) && best.tpot_99 <= Seconds(0.05), "{model}: {best:?}");
        // Requests in flight are at least the rate times the time that a request stays (Little 1961), to a rung.
        let stays = best.ttft.value.0 + 255.0 * best.tpot.value.0;
        let in_flight = best.concurrency * real(best.replicas);
        assert!((in_flight / (10.0 * stays) - 1.0).abs() < 0.03, "{model}: {in_flight} for {}", 10.0 * stays);
    }
}

#[test]
fn a_model_too_large_says_what_it_lacks() {
    let mut one = setting("llama-3-405b");
    one.space.accelerators = 8;
    let Err(Obstacle::Memory { degrees, needed, available }) = one.answer().best else { panic!("it fits") };
    assert_eq!(degrees.accelerators(), 8);
    // 810 GB of weights over eight, and at most 72 GB of each.
    assert!(needed > Bytes(101_000_000_000) && available == Bytes(72_000_000_000), "{needed:?} {available:?}");
}

#[test]
fn a_target_that_nothing_keeps_says_how_near_it_comes() {
    let mut fast = setting("llama-3-70b");
    fast.demand.tpot = Some(Seconds(1e-4));
    let Err(Obstacle::Slow { tpot_99, .. }) = fast.answer().best else { panic!("it is kept") };
    assert!(tpot_99 > Seconds(1e-4) && tpot_99 < Seconds(0.1), "{tpot_99:?}");
}

#[test]
fn replicas_that_are_given_may_be_too_few() {
    let mut given = setting("llama-3-8b");
    given.space.accelerators = 8;
    given.space.replicas = Some(1);
    given.demand.rate = Some(500.0);
    let Err(Obstacle::Replicas { most }) = given.answer().best else { panic!("one replica serves it") };
    assert!(most > 1.0 && most < 500.0, "{most}");
    given.demand.rate = Some(most * 0.99);
    assert_eq!(given.answer().best.unwrap().replicas, 1);
}

#[test]
fn a_layout_that_is_given_is_the_one() {
    let mut given = setting("llama-3-70b");
    let degrees = Degrees { pp: 2, tp: 4, ep: 1, attention_replicas: 1 };
    given.space.degrees = Some(degrees);
    assert_eq!(given.answer().best.unwrap().degrees, degrees);
    given.space.degrees = Some(Degrees { tp: 3000, ..degrees });
    assert_eq!(given.answer().best, Err(Obstacle::NoLayout));
}

#[test]
fn without_a_rate_the_replicas_are_filled() {
    let mut full = setting("llama-3-8b");
    full.demand.rate = None;
    full.space.replicas = Some(3);
    let best = full.answer().best.unwrap();
    assert!(best.replicas == 3 && (best.rate / best.capacity - 1.0).abs() < 1e-9 && best.keeps, "{best:?}");
}

#[test]
fn two_sides_are_sized_by_their_own_capacities() {
    let mut apart = setting("llama-3-70b");
    apart.space.split = Split::Always;
    apart.demand.rate = Some(60.0);
    let best = apart.answer().best.unwrap();
    let prefill = best.prefill.unwrap();
    assert!(best.keeps && best.capacity >= 60.0 && prefill.transfer > Seconds(0.0), "{best:?}");
    let sides = best.degrees.accelerators() * best.replicas + prefill.degrees.accelerators() * prefill.replicas;
    assert_eq!(sides, best.accelerators);
    // Longer prompts need more of the side that reads them.
    apart.demand.input = 4096.0;
    apart.demand.ttft = Some(Seconds(4.0));
    let longer = apart.answer().best.unwrap();
    let reading = |way: &Choice| way.prefill.map_or(0, |side| side.degrees.accelerators() * side.replicas);
    assert!(reading(&longer) > reading(&best), "{longer:?}");
    // Where it may choose, it never needs more than one side.
    apart.space.split = Split::Never;
    let one = apart.needs();
    apart.space.split = Split::IfFewer;
    assert!(apart.needs() <= one);
}

#[test]
fn no_way_of_the_front_beats_another_and_none_of_all_beats_it() {
    let answer = setting("llama-3-70b").answer();
    assert!(answer.front.len() > 2, "{}", answer.front.len());
    let measures = |way: &Choice| {
        let each = real(way.accelerators) / way.tokens_per_second;
        [each, way.tpot_99.0, way.ttft_99.0, way.energy.map_or(0.0, |energy| energy.0)]
    };
    for (place, way) in answer.front.iter().enumerate() {
        for (other_place, other) in answer.front.iter().enumerate() {
            let beats = measures(other).iter().zip(measures(way)).all(|(other, own)| *other <= own);
            assert!(place == other_place || !beats, "{other:?} beats {way:?}");
        }
    }
    let best = answer.best.unwrap();
    let fewest = answer.front.iter().filter(|way| way.keeps).map(|way| way.accelerators).min();
    assert_eq!(fewest, Some(best.accelerators));
}

#[test]
fn the_same_question_has_the_same_answer() {
    let mut asked = setting("mixtral-8x7b");
    asked.space.split = Split::IfFewer;
    assert_eq!(asked.answer(), asked.answer());
}

#[test]
fn a_demand_that_is_none_is_refused_by_name() {
    let asked = setting("llama-3-8b");
    for (demand, figure) in [
        (Demand { rate: Some(0.0), ..CHAT }, "requests_per_second"),
        (Demand { output: f64::NAN, ..CHAT }, "output_tokens"),
        (Demand { ttft: Some(Seconds(0.0)), ..CHAT }, "ttft_p99"),
        (Demand { prefix_hit: 1.0, ..CHAT }, "prefix_hit"),
    ] {
        let refused = Setting { demand, ..asked.clone() }.with(|case| search(case).unwrap_err());
        assert!(matches!(refused, Error::Work { figure: f, .. } if f == figure), "{refused:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn asking_for_more_never_needs_fewer_accelerators(
        model in prop::sample::select(vec!["llama-3-8b", "llama-3-70b", "mixtral-8x7b"]),
        rate in 0.1_f64..200.0,
        input in 64.0_f64..8000.0,
        ttft in 0.2_f64..5.0,
        tpot in 0.01_f64..0.2,
        more in 1.0_f64..4.0,
        split in prop::sample::select(vec![Split::Never, Split::IfFewer]),
    ) {
        let mut asked = setting(model);
        asked.space.accelerators = 16;
        asked.space.split = split;
        asked.demand =
            Demand { rate: Some(rate), input, ttft: Some(Seconds(ttft)), tpot: Some(Seconds(tpot)), ..CHAT };
        let needs = asked.needs();
        let faster = Setting { demand: Demand { rate: Some(rate * more), ..asked.demand }, ..asked.clone() };
        prop_assert!(faster.needs() >= needs);
        let (ttft, tpot) = (Some(Seconds(ttft * more)), Some(Seconds(tpot * more)));
        for looser in [Demand { ttft, ..asked.demand }, Demand { tpot, ..asked.demand }] {
            let looser = Setting { demand: looser, ..asked.clone() };
            prop_assert!(looser.needs() <= needs, "{} {}", looser.needs(), needs);
        }
        let roomier = Setting { memory: more, ..asked.clone() };
        prop_assert!(roomier.needs() <= needs, "{} {}", roomier.needs(), needs);
    }
}

/// Experts dealt over replicas of attention serve less beyond some load: a looser target must not ask for that load.
#[test]
fn more_requests_in_flight_than_serve_best_are_not_chosen() {
    let mut asked = setting("mixtral-8x7b");
    asked.space.accelerators = 16;
    asked.demand = Demand {
        rate: Some(149.228_248_874_536_72),
        input: 1_466.235_976_239_313,
        ttft: Some(Seconds(2.858_668_060_563_826_6)),
        tpot: Some(Seconds(0.127_578_561_918_236_83)),
        ..CHAT
    };
    let looser = Demand { tpot: Some(Seconds(0.127_578_561_918_236_83 * 2.524_900_409_416_206_3)), ..asked.demand };
    let looser = Setting { demand: looser, ..asked.clone() };
    assert!(looser.needs() <= asked.needs(), "{} for {}", looser.needs(), asked.needs());
    looser.with(|case| {
        for degrees in space::layouts(case) {
            let Some(replica) = Replica::new(case, degrees, BF16) else { continue };
            let Some((level, most)) = replica.most(None, None) else { continue };
            let above = (0..=HIGHEST).filter(|rung| holds(case, degrees, BF16, *rung));
            let best = above.filter_map(|rung| replica.at(rung)).map(|point| point.rate).fold(0.0, f64::max);
            assert!((best - most).abs() <= 1e-3 * best, "{degrees:?}: {most} at rung {level}, {best} can be had");
        }
    });
}
