//! The worked sizing and our own, by one formula.

use proptest::prelude::*;

use super::*;

fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() <= 1e-9 * expected.abs(), "{value} is not {expected}");
}

#[test]
fn ten_thousand_accelerators_order_thirteen_megawatts() {
    let mut ledger = Ledger::new();
    let site = worked_sizing().site("power", &mut ledger).unwrap();
    near(site.it_rated.0, 9.1e6);
    near(site.rated.0, 11.83e6);
    near(site.supply.0, 13.013e6);
    near(site.energy.kwh(), 11_830.0 * 8_760.0);
    assert_eq!(format!("{:.1} GWh", site.energy.kwh() / 1e6), "103.6 GWh");
    assert_eq!(format!("{:.1} M$", site.cost.0 / 1e6), "8.3 M$");
    near((site.it_expected + site.cooling + site.conversion + site.rest).0, site.expected.0);
    assert_eq!(ledger.get("power.supply").unwrap().inputs, ["power.site.rated", "power.margin"]);
}

#[test]
fn nodes_with_switches_are_the_same_chain_with_other_factors() {
    let word = |text: &str| text.to_owned();
    let chain = Chain {
        computers: vec![Group {
            name: word("train"),
            computers: Computers::Nodes { count: 127, rated: Based::new(Watts(10_200.0), "data sheet") },
            load: default_load(),
        }],
        beside: vec![Beside {
            name: word("network"),
            rated: Based::new(Watts(80_000.0), "48 switches"),
            expected: Based::new(Watts(70_000.0), "48 switches"),
        }],
        overhead: Overhead { cooling: 0.15, conversion: 0.08, rest: 0.02, basis: word("test") },
        margin: Based::new(1.0, "test"),
        price: Based::new(UsdPerKwh(0.1), "test"),
        carbon: Some(Based::new(GramsPerKwh(100.0), "test")),
    };
    let mut ledger = Ledger::new();
    let site = chain.site("site.main.power", &mut ledger).unwrap();
    near(site.it_rated.0, 1_295_400.0 + 80_000.0);
    near(site.it_expected.0, 1_036_320.0 + 70_000.0);
    near(site.rated.0, site.it_rated.0 * 1.25);
    near(site.supply.0, site.rated.0);
    near(site.expected.0, site.it_expected.0 * 1.25);
    near(site.carbon.unwrap().0, site.energy.kwh() * 100.0);
    assert!(ledger.numbers().iter().all(|number| number.source.is_some() == number.inputs.is_empty()));
}

#[test]
fn factors_outside_of_their_range_are_refused_before_anything_is_entered() {
    let good = worked_sizing();
    let with = |change: &dyn Fn(&mut Chain)| {
        let mut chain = good.clone();
        change(&mut chain);
        let mut ledger = Ledger::new();
        let refused = chain.site("power", &mut ledger).unwrap_err();
        assert!(ledger.numbers().is_empty());
        refused.to_string()
    };
    assert_eq!(with(&|chain| chain.computers[0].load.value = 1.2), "the load ratio cannot be 1.2; it must be 0 to 1");
    assert!(with(&|chain| chain.overhead.cooling = -0.1).starts_with("the share of cooling"));
    assert!(with(&|chain| chain.margin.value = 0.9).starts_with("the margin"));
    assert!(with(&|chain| chain.margin.value = f64::NAN).starts_with("the margin"));
    assert!(with(&|chain| chain.price.value.0 = -1.0).starts_with("the price"));
    let twice = |chain: &mut Chain| chain.computers.push(chain.computers[0].clone());
    assert!(with(&twice).starts_with("the name of a part cannot be `computers`"));
    assert!(with(&|chain| chain.computers[0].name = "site".into()).starts_with("the name of a part"));
}

proptest! {
    #[test]
    fn expected_never_exceeds_rated_nor_rated_the_supply(
        count in 0_u64..1_000_000, load in 0.0_f64..=1.0, pue in 1.0_f64..3.0, margin in 1.0_f64..2.0,
    ) {
        let mut chain = worked_sizing();
        chain.computers[0].computers = Computers::Nodes { count, rated: Based::new(Watts(10_200.0), "test") };
        chain.computers[0].load.value = load;
        chain.overhead = Overhead::split(&Based::new(pue, "test"));
        chain.margin.value = margin;
        let site = chain.site("power", &mut Ledger::new()).unwrap();
        prop_assert!(site.expected <= site.rated && site.rated <= site.supply);
        prop_assert!((site.expected.0 - site.it_expected.0 * pue).abs() <= 1e-9 * site.expected.0);
    }
}
