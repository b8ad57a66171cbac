//! Every template has a plan, and every number of it can be followed down to what was given.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use dh_blueprint::{Blueprint, TEMPLATES, template};
use dh_plan::{Plan, Weight, plan};

fn planned(name: &str) -> Plan {
    let (settings, origins) = Blueprint::read("hall.toml", template(name).unwrap(), |_, _| Err(String::new())).unwrap();
    plan(&settings, &origins).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_template_has_a_plan_and_its_cables_a_list() {
    for (name, _) in TEMPLATES {
        let plan = planned(name);
        let mut list = String::new();
        plan.write_cables(&mut list).unwrap();
        let rows = u64::try_from(list.lines().count()).unwrap() - 1;
        assert!(rows >= plan.cable_count(), "{name}: {rows} rows for {} cables", plan.cable_count());
        // A device that stands nowhere has no rack and unit 0.
        assert!(!list.contains(",,0,"), "{name}");
    }
}

#[test]
fn every_number_is_given_or_computed_from_others() {
    for (name, _) in TEMPLATES {
        let plan = planned(name);
        for number in plan.ledger.numbers() {
            let given = number.source.as_ref().is_some_and(|source| !source.is_empty());
            assert!(given || !number.formula.is_empty(), "{name}: {}", number.id);
            if let Some(value) = number.value.number() {
                assert!(value.is_finite() && value >= 0.0, "{name}: {} is {value}", number.id);
            }
        }
    }
}

#[test]
fn what_templates_ask_for_can_be_had() {
    for (name, _) in TEMPLATES.iter().filter(|(name, _)| *name != "reference") {
        let plan = planned(name);
        let wrong: Vec<_> = plan.findings.iter().filter(|finding| finding.weight == Weight::Infeasible).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}
