//! A hall on one machine: it stands where it stands, and costs what it draws.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use dh_plan::Weight;
use planned::{number, planned, text_of};

#[test]
fn a_hall_on_a_desk_costs_its_energy_only() {
    for name in ["laptop", "first-hall"] {
        let plan = planned(text_of(name));
        let close = |id: &str, expected: f64| {
            let value = number(&plan, id);
            assert!((value - expected).abs() <= 1e-9 * expected.abs(), "{name}: {id} is {value}, expected {expected}");
        };
        for id in ["cost.build", "cost.build.facility", "cost.capital", "cost.staff", "cost.maintenance"] {
            close(id, 0.0);
        }
        // The charger of a laptop, at 0.8 of its rating, for a year at $0.15/kWh.
        close("power.rated", 65.0);
        close("power.expected", 52.0);
        close("cost.year", 52.0 / 1_000.0 * 8_760.0 * 0.15);
        close("count.nodes", 1.0);
        close("count.accelerators", 0.0);
        assert!(plan.networks.is_empty() && plan.cable_count() == 0, "{name}");
        assert!(plan.failures.is_none() && plan.trainings.is_empty() && plan.unfit.is_empty(), "{name}");
        assert!(plan.ledger.get("cost.accelerator_hour").is_none(), "{name}");
        assert!(plan.findings.iter().all(|finding| finding.weight == Weight::Warning), "{name}: {:?}", plan.findings);
        assert!(!plan.findings.iter().any(|finding| finding.text.contains("PUE")), "{name}");
    }
}

#[test]
fn a_building_written_for_a_desk_is_paid() {
    let text = text_of("laptop").replace("[pool.local]", "[site.main]\nbuild_per_kw = \"$10000\"\n\n[pool.local]");
    let plan = planned(&text);
    // 65 W with a margin of a tenth.
    assert!((number(&plan, "cost.build.facility") - 0.0715 * 10_000.0).abs() < 1e-6);
}
