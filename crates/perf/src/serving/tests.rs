//! Facts of the model of serving: monotone where physics is, nothing exchanged alone, and sizes that are the least.

use dh_blueprint::Catalog;
use dh_units::{Bytes, BytesPerSec, Seconds};
use proptest::prelude::*;

use super::*;
use crate::architecture::tests::{deepseek_v3, llama_8b};
use crate::error::Error;
use crate::hardware::{Accelerator, Machine};

fn machine(name: &str) -> Machine {
    Machine::new(Accelerator::named(Catalog::builtin(), name).unwrap(), None)
}

fn layout(tp: u64) -> ServingLayout {
    ServingLayout { tp, tokens_per_pass: 8192, weight_bytes: 1.0, cache_bytes: 1.0, ..ServingLayout::default() }
}

fn deployment<'a>(shape: &'a Architecture, layout: &'a ServingLayout) -> Deployment<'a> {
    Deployment {
        shape,
        layout,
        attention_replicas: 1,
        products: Format::Fp8,
        dense_bytes: layout.weight_bytes,
        engine: "vllm 0.12",
    }
}

fn load(input: f64, output: f64, concurrency: f64) -> Load {
    Load { input, output, concurrency, prefix_hit: 0.0, accepted: 1.0 }
}

fn profile() -> Profile {
    Profile::of(Catalog::builtin(), "h200-141gb-sxm", "vllm")
}

fn of(shape: &Architecture, tp: u64, load: &Load, machine: &Machine) -> Result<Steady, Error> {
    let layout = layout(tp);
    steady(&deployment(shape, &layout), load, machine, &profile())
}

#[test]
fn one_sequence_reads_every_weight_once() {
    let shape = llama_8b();
    let machine = machine("h100-80gb-sxm");
    let steady = of(&shape, 1, &load(128.0, 4096.0, 1.0), &machine).unwrap();
    // 7.5e9 parameters in 8 bits and half a billion of the head in 16, at the data sheet's 3.35 TB/s: no faster than that.
    let least = (7.5e9 + 2.0 * 0.525e9 - 0.525e9) / 3.35e12;
    assert!(steady.tpot.value.0 > least && steady.tpot.value.0 < 3.0 * least, "{:?}", steady.tpot);
    assert!(steady.activity.memory > 0.3 && steady.activity.compute < 0.1, "{:?}", steady.activity);
    assert_eq!(steady.outside, Vec::<&str>::new());
}

#[test]
fn one_accelerator_exchanges_nothing() {
    let shape = llama_8b();
    for name in ["h100-80gb-sxm", "b200-sxm", "rtx-pro-6000-blackwell-se"] {
        let machine = machine(name);
        let alone = of(&shape, 1, &load(1024.0, 256.0, 16.0), &machine).unwrap();
        assert!(alone.activity.links.abs() < f64::EPSILON, "{name}");
        assert!(of(&shape, 2, &load(1024.0, 256.0, 16.0), &machine).unwrap().activity.links > 0.0, "{name}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = deepseek_v3();
    let h100 = machine("h100-80gb-sxm");
    assert_eq!(
        of(&shape, 4, &load(1024.0, 256.0, 1.0), &h100),
        Err(Error::Impossible("the weights do not fit into the accelerators' memory"))
    );
    assert!(of(&shape, 8, &load(1024.0, 256.0, 1.0), &machine("h200-141gb-sxm")).is_ok());
    let a100 = machine("a100-80gb-sxm");
    assert_eq!(
        of(&llama_8b(), 1, &load(1024.0, 256.0, 1.0), &a100),
        Err(Error::Impossible("the accelerator has no matrix products of this format"))
    );
    assert!(of(&llama_8b(), 0, &load(1024.0, 256.0, 1.0), &h100).is_err());
    assert!(of(&llama_8b(), 1, &load(f64::NAN, 256.0, 1.0), &h100).is_err());
    assert!(of(&llama_8b(), 1, &load(1024.0, 256.0, 0.0), &h100).is_err());
}

#[test]
fn a_full_cache_makes_requests_wait_and_no_more() {
    let (shape, machine) = (llama_8b(), machine("h100-80gb-sxm"));
    let full = of(&shape, 1, &load(4096.0, 4096.0, 1e6), &machine).unwrap();
    let most = of(&shape, 1, &load(4096.0, 4096.0, full.most), &machine).unwrap();
    assert!((full.batch - full.most).abs() < 1e-9);
    assert!((full.output_per_second / most.output_per_second - 1.0).abs() < 1e-9);
    assert!(full.ttft.value.0 > 10.0 * most.ttft.value.0);
    // 64 KiB of cache for a token in 8 bits, and some 67 GB beside the weights.
    assert!(full.most > 100.0 && full.most < 140.0, "{}", full.most);
}

#[test]
fn speculation_and_cached_prefixes_help() {
    let (shape, machine) = (llama_8b(), machine("h100-80gb-sxm"));
    let plain = load(2048.0, 512.0, 8.0);
    let base = of(&shape, 1, &plain, &machine).unwrap();
    let faster = of(&shape, 1, &Load { accepted: 1.8, ..plain }, &machine).unwrap();
    assert!(faster.tpot.value.0 < base.tpot.value.0 && faster.tpot.value.0 > base.tpot.value.0 / 1.8);
    let cached = of(&shape, 1, &Load { prefix_hit: 0.9, ..plain }, &machine).unwrap();
    assert!(cached.ttft.value.0 < base.ttft.value.0);
    assert_eq!(cached.outside, ["prompts that are cached in part"]);
}

#[test]
fn of_two_sides_the_slower_sets_the_rate() {
    let (shape, machine) = (llama_8b(), machine("h100-80gb-sxm"));
    let layout = layout(1);
    let side = deployment(&shape, &layout);
    let rate = |prefill_replicas: f64, decode_replicas: f64| {
        let sides = Disaggregated { prefill: side, prefill_replicas, decode: side, decode_replicas };
        let found = disaggregated(&sides, &load(8192.0, 64.0, 256.0), &machine, &profile()).unwrap();
        (found.output_per_second, found.ttft.value.0)
    };
    let (one, two, four) = (rate(1.0, 1.0), rate(2.0, 1.0), rate(4.0, 1.0));
    // Long prompts and short answers: prefill is the narrow side, and each of its replicas counts.
    assert!(two.0 > 1.5 * one.0 && four.0 > two.0, "{one:?} {two:?} {four:?}");
    assert!(two.1 < one.1);
    assert!(rate(1.0, 2.0).0 < 1.1 * one.0);
}

#[test]
fn a_static_batch_is_faster_together_than_one_by_one() {
    let (shape, machine) = (llama_8b(), machine("h100-80gb-sxm"));
    let layout = layout(1);
    let of = |batch: f64| {
        static_batch(&deployment(&shape, &layout), &load(128.0, 128.0, batch), &machine, &profile()).unwrap()
    };
    let (one, many) = (of(1.0), of(64.0));
    assert!(many.output_per_second > 10.0 * one.output_per_second);
    assert!(many.ttft.0 > one.ttft.0 && many.tpot.0 > one.tpot.0);
}

#[test]
fn no_smaller_number_of_replicas_meets_the_demand() {
    let (shape, machine) = (llama_8b(), machine("h100-80gb-sxm"));
    let layout = layout(1);
    let here = deployment(&shape, &layout);
    let asked = load(1024.0, 256.0, 1.0);
    let demand = Demand { requests_per_second: 100.0, ttft: Seconds(1.0), tpot: Seconds(0.02) };
    let found = replicas_for(&here, &demand, &asked, &machine, &profile()).unwrap();
    assert!(found.replicas > 1 && found.accelerators == found.replicas);
    assert!(found.each.tpot.value.0 <= demand.tpot.0 && found.ttft_99.0 <= demand.ttft.0);
    // What each has to do with one less does not go together with the targets: no concurrency does it.
    let share = demand.requests_per_second / dh_units::real(found.replicas - 1);
    for concurrency in (1..200).map(f64::from) {
        let one = steady(&here, &Load { concurrency, ..asked }, &machine, &profile()).unwrap();
        let enough = one.output_per_second / asked.output >= share * 1.001;
        assert!(!enough || one.tpot.value.0 > demand.tpot.0 * 0.999 || one.ttft.value.0 > demand.ttft.0 * 0.2);
    }
    let strict = Demand { tpot: Seconds(1e-4), ..demand };
    assert!(matches!(replicas_for(&here, &strict, &asked, &machine, &profile()), Err(Error::Impossible(_))));
    let stricter = Demand { tpot: Seconds(0.01), ..demand };
    assert!(replicas_for(&here, &stricter, &asked, &machine, &profile()).unwrap().replicas >= found.replicas);
}

#[test]
fn profiles_are_of_generations_and_families() {
    let catalog = Catalog::builtin();
    assert_eq!((generation("b200-sxm"), generation("tpu-v6e")), ("blackwell", "tpu-v6e"));
    assert_eq!((family("vllm 0.12.0"), family("TensorRT-LLM"), family("tgi")), ("vllm", "trtllm", ""));
    let hopper = Profile::of(catalog, "h100-80gb-sxm", "vllm");
    let blackwell = Profile::of(catalog, "b200-sxm", "vllm");
    let sglang = Profile::of(catalog, "h100-80gb-sxm", "sglang");
    assert!((hopper.gemm_8 - blackwell.gemm_8).abs() > 1e-6 && (hopper.first - blackwell.first).abs() < 1e-12);
    assert!((hopper.first - sglang.first).abs() > 1e-6 && (hopper.gemm_8 - sglang.gemm_8).abs() < 1e-12);
    for number in Profile::NUMBERS {
        let mut profile = Profile::START;
        profile.set(number.name, number.high * 2.0);
        assert_eq!(profile.get(number.name), Some(number.high), "{}", number.name);
        assert!((number.low..=number.high).contains(&number.start), "{}", number.name);
    }
    assert_eq!(Profile::START.get("nothing"), None);
}

/// A shape, accelerators of one replica, tokens of prompt and answer, and requests in flight.
fn asked() -> impl Strategy<Value = (Architecture, u64, Load)> {
    let shape = prop_oneof![Just((llama_8b(), 1_u64)), Just((llama_8b(), 4)), Just((deepseek_v3(), 8))];
    (shape, 16.0..12_000.0, 16.0..4096.0, 1.0..300.0)
        .prop_map(|((shape, tp), input, output, concurrency)| (shape, tp, load(input, output, concurrency)))
}

proptest! {
    #[test]
    fn more_bandwidth_is_never_slower((shape, tp, load) in asked(), more in 1.01..4.0) {
        let slow = machine("h200-141gb-sxm");
        let mut fast = slow.clone();
        fast.accelerator.bandwidth = BytesPerSec(fast.accelerator.bandwidth.0 * more);
        let (slow, fast) = (of(&shape, tp, &load, &slow).unwrap(), of(&shape, tp, &load, &fast).unwrap());
        prop_assert!(fast.tpot.value.0 <= slow.tpot.value.0 * (1.0 + 1e-9));
        prop_assert!(fast.ttft.value.0 <= slow.ttft.value.0 * (1.0 + 1e-9));
        prop_assert!(fast.output_per_second >= slow.output_per_second * (1.0 - 1e-9));
    }

    #[test]
    fn a_longer_prompt_never_answers_sooner((shape, tp, load) in asked(), longer in 1.001..3.0) {
        let machine = machine("h200-141gb-sxm");
        let short = of(&shape, tp, &load, &machine).unwrap();
        let long = of(&shape, tp, &Load { input: load.input * longer, ..load }, &machine).unwrap();
        prop_assert!(long.ttft.value.0 >= short.ttft.value.0 * (1.0 - 1e-9));
    }

    #[test]
    fn a_larger_batch_is_never_less_throughput((shape, tp, load) in asked(), more in 1.001..4.0) {
        let machine = machine("h200-141gb-sxm");
        let few = of(&shape, tp, &load, &machine).unwrap();
        let many = of(&shape, tp, &Load { concurrency: load.concurrency * more, ..load }, &machine).unwrap();
        prop_assert!(many.output_per_second >= few.output_per_second * (1.0 - 1e-9));
    }

    #[test]
    fn more_memory_never_holds_less((shape, tp, load) in asked(), more in 1.01..4.0) {
        let small = machine("h200-141gb-sxm");
        let mut large = small.clone();
        large.accelerator.memory = Bytes(dh_units::whole(large.accelerator.memory.as_f64() * more));
        prop_assert!(of(&shape, tp, &load, &large).unwrap().most >= of(&shape, tp, &load, &small).unwrap().most);
    }
}
