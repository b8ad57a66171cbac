//! What must hold of a training step whatever the numbers of its profile are: parts add up, better hardware is never slower,
//! nothing is exchanged alone.
//!
//! Invariant: no published figure enters; those are held against the model in the crate of accuracy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    clippy::tests_outside_test_module,
    reason = "tests fail by panicking"
)]

use dh_blueprint::Catalog;
use dh_perf::architecture::Architecture;
use dh_perf::collectives::ScaleOutProfile;
use dh_perf::hardware::{Accelerator, Format, Machine, Network};
use dh_perf::layout::{Layout, Precision, Recompute, Schedule, Sharding};
use dh_perf::pretraining::{Profile, Step, Work, step};
use dh_units::{BytesPerSec, FlopPerSec, real};
use proptest::prelude::*;

fn shape(name: &str) -> Architecture {
    Architecture::from(Catalog::builtin().model(name).expect("the catalogue has it"))
}

/// An accelerator of the catalogue with `faster` times its speed, `wider` times its memory bandwidth, and links and network
/// of `links` times theirs.
fn machine(name: &str, faster: f64, wider: f64, links: f64) -> Machine {
    let mut item = Catalog::builtin().accelerator(name).expect("the catalogue has it").clone();
    for peak in [&mut item.bf16, &mut item.fp16, &mut item.fp8].into_iter().flatten() {
        peak.value = FlopPerSec(peak.value.0 * faster);
    }
    if let Some(bandwidth) = &mut item.bandwidth {
        bandwidth.value = BytesPerSec(bandwidth.value.0 * wider);
    }
    let network = Network {
        bandwidth: BytesPerSec(50e9 * links),
        oversubscription: 1.0,
        in_network: false,
        profile: ScaleOutProfile::INFINIBAND,
    };
    let mut machine = Machine::new(Accelerator::of(&item).expect("the catalogue has its figures"), Some(network));
    machine.fabric.scale_up.bandwidth = BytesPerSec(machine.fabric.scale_up.bandwidth.0 * links);
    machine
}

fn run(shape: &Architecture, layout: &Layout, products: Format, machine: &Machine) -> Step {
    let profile = Profile::of(Catalog::builtin(), "h100-80gb-sxm");
    step(&Work { shape, layout, products }, machine, &profile).expect("the layout can be")
}

prop_compose! {
    /// Layouts of Llama 3 8B and of Qwen3 30B A3B, whose heads, layers and experts these degrees divide.
    fn work()(
        mixture in prop::bool::ANY,
        tp in 0_u32..3, pp in 0_u32..3, dp in 0_u32..6, cp in 0_u32..3, ep in 0_u32..4,
        vpp in 1_u64..3, micro_batch in 1_u64..5, rounds in 1_u64..9, sequence in 10_u32..16,
        sharding in prop::sample::select(vec![Sharding::None, Sharding::Optimizer, Sharding::Gradients, Sharding::Weights]),
        recompute in prop::sample::select(vec![Recompute::None, Recompute::Operators, Recompute::Full]),
        fp8 in prop::bool::ANY,
    ) -> (Architecture, Layout, Format) {
        let [tp, pp, dp, cp, ep] = [tp, pp, dp, cp, ep].map(|power| 1_u64 << power);
        let layout = Layout {
            tp, pp, dp, cp,
            ep: if mixture { ep.min(tp * dp * cp) } else { 1 },
            vpp: if pp > 1 { vpp } else { 1 },
            micro_batch,
            micro_batches: Some(rounds * pp),
            sequence: 1 << sequence,
            sharding,
            recompute,
            sequence_parallel: tp > 1,
            precision: Precision::MIXED,
            ..Layout::default()
        };
        let name = if mixture { "qwen3-30b-a3b" } else { "llama-3-8b" };
        (shape(name), layout, if fp8 { Format::Fp8 } else { Format::Bf16 })
    }
}

/// A part in 10^9: sums in another order.
const ROUNDING: f64 = 1.0 + 1e-9;

proptest! {
    #[test]
    fn parts_add_up_to_the_step_and_the_interval_holds_it((shape, layout, format) in work()) {
        let step = run(&shape, &layout, format, &machine("h100-80gb-sxm", 1.0, 1.0, 1.0));
        prop_assert!(step.time.0.is_finite() && step.time.0 > 0.0);
        prop_assert!((step.parts.total().0 / step.time.0 - 1.0).abs() < 1e-9);
        prop_assert!(step.low < step.time && step.time < step.high);
        let parts = step.parts;
        for part in [
            parts.products, parts.attention, parts.vector, parts.recompute, parts.tensor, parts.context, parts.expert,
            parts.pipeline, parts.data, parts.bubble, parts.optimizer, parts.offload, parts.host,
        ] {
            prop_assert!(part.0 >= 0.0, "{parts:?}");
        }
        prop_assert!(step.mfu > 0.0 && step.mfu < 1.0);
    }

    #[test]
    fn better_hardware_is_never_slower(
        (shape, layout, format) in work(),
        faster in 1.0..4.0_f64, wider in 1.0..4.0_f64, links in 1.0..4.0_f64,
    ) {
        let plain = run(&shape, &layout, format, &machine("h100-80gb-sxm", 1.0, 1.0, 1.0)).time.0;
        for (what, better) in [
            ("peak", machine("h100-80gb-sxm", faster, 1.0, 1.0)),
            ("memory", machine("h100-80gb-sxm", 1.0, wider, 1.0)),
            ("links", machine("h100-80gb-sxm", 1.0, 1.0, links)),
        ] {
            let time = run(&shape, &layout, format, &better).time.0;
            prop_assert!(time <= plain * ROUNDING, "{what}: {time} after {plain}");
        }
    }

    #[test]
    fn more_micro_batches_never_cost_more_for_each((shape, layout, format) in work(), more in 2_u64..6) {
        let machine = machine("h100-80gb-sxm", 1.0, 1.0, 1.0);
        let few = layout.micro_batches.unwrap_or(1);
        let many = Layout { micro_batches: Some(few * more), ..layout };
        let each = |layout: &Layout, of: u64| run(&shape, layout, format, &machine).time.0 / real(of);
        prop_assert!(each(&many, few * more) <= each(&layout, few) * ROUNDING);
    }

    #[test]
    fn what_is_computed_again_takes_its_time((shape, layout, format) in work()) {
        let machine = machine("h100-80gb-sxm", 1.0, 1.0, 1.0);
        let of = |recompute| run(&shape, &Layout { recompute, ..layout }, format, &machine).time.0;
        let (none, some, all) = (of(Recompute::None), of(Recompute::Operators), of(Recompute::Full));
        prop_assert!(none <= some * ROUNDING && some <= all * ROUNDING, "{none} {some} {all}");
    }

    #[test]
    fn one_accelerator_exchanges_nothing(mixture in prop::bool::ANY, micro_batch in 1_u64..9, sequence in 7_u32..16) {
        let shape = shape(if mixture { "qwen3-30b-a3b" } else { "llama-3-8b" });
        let layout = Layout { micro_batch, micro_batches: Some(4), sequence: 1 << sequence, ..Layout::default() };
        let parts = run(&shape, &layout, Format::Bf16, &machine("h100-80gb-sxm", 1.0, 1.0, 1.0)).parts;
        let exchanged = parts.tensor + parts.context + parts.expert + parts.pipeline + parts.data + parts.bubble;
        prop_assert!(exchanged.0.abs() < 1e-15, "{parts:?}");
    }
}

#[test]
fn the_bubble_of_a_pipeline_shrinks_with_its_micro_batches_and_with_interleaving() {
    let (shape, machine) = (shape("llama-3-8b"), machine("h100-80gb-sxm", 1.0, 1.0, 1.0));
    let share = |micro_batches, vpp| {
        let layout = Layout { pp: 4, vpp, dp: 2, micro_batches: Some(micro_batches), ..Layout::default() };
        let step = run(&shape, &layout, Format::Bf16, &machine);
        step.parts.bubble.0 / step.time.0
    };
    let shares: Vec<f64> = [4, 8, 16, 64, 256].into_iter().map(|micro_batches| share(micro_batches, 1)).collect();
    assert!(shares.is_sorted_by(|few, many| few > many), "{shares:?}");
    // Four stages and four micro-batches idle for three sevenths of the step, were all stages alike.
    assert!((0.3..0.6).contains(&shares[0]), "{shares:?}");
    assert!(share(16, 4) < share(16, 1));
}

#[test]
fn gradients_of_weights_fill_the_bubble_to_about_a_third() {
    let (shape, machine) = (shape("llama-3-8b"), machine("h100-80gb-sxm", 1.0, 1.0, 1.0));
    let bubble = |schedule| {
        let layout = Layout { pp: 4, dp: 2, micro_batches: Some(16), schedule, ..Layout::default() };
        run(&shape, &layout, Format::Bf16, &machine).parts.bubble.0
    };
    let (plain, filled) = (bubble(Schedule::OneForwardOneBackward), bubble(Schedule::ZeroBubble));
    // The last stage's head is uneven in both; attention and vector operations have no gradients of weights.
    assert!(filled > 0.3 * plain && filled < 0.8 * plain, "{filled} of {plain}");
    let interleaved = Layout { pp: 4, vpp: 2, schedule: Schedule::ZeroBubble, ..Layout::default() };
    assert!(interleaved.check(&shape).is_err());
}

#[test]
fn operations_are_counted_as_papers_do() {
    // Llama 3 8B at 8,192 tokens: 6 (8.03e9 less the input embedding's 0.53e9) and 6 L s h of causal attention.
    let (shape, machine) = (shape("llama-3-8b"), machine("h100-80gb-sxm", 1.0, 1.0, 1.0));
    let layout = Layout { sequence: 8192, micro_batches: Some(3), micro_batch: 2, dp: 4, ..Layout::default() };
    let step = run(&shape, &layout, Format::Bf16, &machine);
    let tokens = 8192.0 * 3.0 * 2.0 * 4.0;
    assert!((step.tokens - tokens).abs() < 0.5);
    let by_hand = (6.0 * (8.03e9 - 128_256.0 * 4096.0) + 6.0 * 32.0 * 8192.0 * 4096.0) * tokens;
    assert!((step.model_flop.0 / by_hand - 1.0).abs() < 0.01, "{} for {by_hand}", step.model_flop.0);
    assert!((step.mfu - step.model_flop.0 / step.time.0 / 4.0 / 989e12).abs() < 1e-9);
}

#[test]
fn domains_without_a_network_between_them_are_refused() {
    let shape = shape("llama-3-8b");
    let one = Machine::new(machine("h100-80gb-sxm", 1.0, 1.0, 1.0).accelerator, None);
    let profile = Profile::of(Catalog::builtin(), "h100-80gb-sxm");
    for (dp, can) in [(8, true), (16, false)] {
        let layout = Layout { dp, micro_batches: Some(1), ..Layout::default() };
        let work = Work { shape: &shape, layout: &layout, products: Format::Bf16 };
        assert_eq!(step(&work, &one, &profile).is_ok(), can, "{dp}");
    }
}

#[test]
fn a_format_that_the_accelerator_lacks_is_refused() {
    let shape = shape("llama-3-8b");
    let profile = Profile::of(Catalog::builtin(), "a100-80gb-sxm");
    let layout = Layout { micro_batches: Some(1), ..Layout::default() };
    let work = Work { shape: &shape, layout: &layout, products: Format::Fp8 };
    assert!(step(&work, &machine("a100-80gb-sxm", 1.0, 1.0, 1.0), &profile).is_err());
}
