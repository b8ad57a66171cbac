//! Gangs start inside one group of nodes whenever they can.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fmt::Write;

use dh_twin::kernel::Costs;
use dh_twin::measure::Locality;
use dh_twin::play::{Lengths, Rules, Scene, Wanted, play};
use dh_twin::trace::{Options, by_name, read};

/// Gangs of the sizes that large trainings have, at a load that keeps most of 2,048 accelerators busy.
fn jobs() -> String {
    let mut text = "job_id,submit_s,duration_s,gpus\n".to_owned();
    let mut seed = 9_u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for job in 0..1500 {
        let size = [1, 4, 8, 8, 16, 32, 32, 64, 64, 128, 256][usize::try_from(draw(11)).unwrap()];
        writeln!(text, "{job},{},{},{size}", job * 300, 1000 + draw(18_000)).unwrap();
    }
    text
}

fn locality(policy: &str) -> Locality {
    let text = jobs();
    let trace = read(by_name("crux").unwrap(), &text, Options::default()).unwrap();
    let mut scene = Scene::of_trace(&trace, Costs::default()).unwrap();
    for (node, number) in scene.base.nodes.iter_mut().zip(0_u32..) {
        node.path = vec![number / 16];
    }
    let rules = Rules::named(policy, Lengths::Exact).unwrap();
    let ran = play(&scene, &rules, &Wanted::default(), &mut ()).unwrap();
    ran.outcome.locality.last().unwrap().clone()
}

#[test]
fn topology_packing_starts_gangs_of_64_inside_one_group_where_it_can() {
    for policy in ["best", "best+any", "shortest-remaining-service+rounds"] {
        let found = locality(policy);
        assert!(found.up_to_64.starts > 500, "{found:?}");
        assert!(found.up_to_64.share().unwrap() >= 0.95, "{policy}: {found:?}");
    }
    let blind = locality("best-fit");
    assert!(blind.up_to_64.share().unwrap() < 0.9, "the measure tells: {blind:?}");
}
