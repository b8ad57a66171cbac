//! What a hall costs, part by part; and what has no price stays visible.

use dh_units::UsdPerKwh;

use super::*;
use crate::chain::worked_sizing;

fn item(name: &str, part: Part, count: u64, price: Option<f64>) -> Item {
    let price = price.map(|price| Based::new(Usd(price), "test"));
    Item { name: name.to_owned(), part, count, price, years: default_it_years() }
}

fn request() -> Request {
    Request {
        items: vec![
            item("node", Part::Compute, 10, Some(300_000.0)),
            item("switch", Part::Network, 4, Some(25_000.0)),
            item("drive", Part::Storage, 100, Some(1_000.0)),
        ],
        place: Place::Built {
            supply: Watts(150_000.0),
            per_kw: default_building_per_kw(),
            years: default_building_years(),
        },
        energy: Based::new(Usd(90_000.0), "test"),
        maintenance: default_maintenance(),
        staff: Based::new(2.0, "test"),
        staff_each: Based::new(Usd(150_000.0), "test"),
        network_share: Based::new(Usd(10_000.0), "test"),
        accelerators: 80,
        utilisation: default_utilisation(),
    }
}

fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() <= 1e-9 * expected.abs(), "{value} is not {expected}");
}

#[test]
fn a_year_is_the_sum_of_its_parts() {
    let mut ledger = Ledger::new();
    let cost = request().cost("cost", &mut ledger).unwrap();
    near(cost.build.it().0, 3_200_000.0);
    near(cost.build.total().0, 3_200_000.0 + 1_800_000.0);
    near(cost.capital.0, 3_200_000.0 / 5.0 + 1_800_000.0 / 20.0);
    near(cost.per_year.0, 640_000.0 + 90_000.0 + 90_000.0 + 96_000.0 + 300_000.0 + 10_000.0);
    near(cost.per_accelerator_hour.unwrap().0, 1_226_000.0 / (80.0 * 8_760.0 * 0.8));
    assert!(cost.missing.is_empty());
    let formula = &ledger.get("cost.year").unwrap().formula;
    assert!(formula.starts_with("$730000 + $90000 + $0.00 + $96000"), "{formula}");
    assert!(ledger.numbers().iter().all(|number| number.source.is_some() || !number.formula.is_empty()));
}

#[test]
fn energy_may_be_computed_from_the_power_of_the_site() {
    let mut ledger = Ledger::new();
    let site = worked_sizing().site("power", &mut ledger).unwrap();
    ledger.derived("cost.energy", "energy of a year", site.cost, "power.cost", &["power.cost"]);
    let energy = Based::new(site.cost, "power.cost");
    let cost = Request { energy, ..request() }.cost("cost", &mut ledger).unwrap();
    assert_eq!(cost.energy, site.cost);
    assert_eq!(ledger.get("cost.energy").unwrap().inputs, ["power.cost"]);
}

#[test]
fn what_has_no_price_is_missing_and_every_sum_says_so() {
    let mut request = request();
    request.items[1].price = None;
    let mut ledger = Ledger::new();
    let cost = request.cost("cost", &mut ledger).unwrap();
    assert_eq!(cost.missing, ["switch"]);
    near(cost.build.it().0, 3_100_000.0);
    for sum in ["build", "build.network", "capital", "maintenance", "year"] {
        let formula = &ledger.get(&format!("cost.{sum}")).unwrap().formula;
        assert!(formula.ends_with("; without switch"), "{sum}: {formula}");
    }
    assert_eq!(ledger.get("cost.build.compute").unwrap().formula, "sum of its items");
    assert_eq!(ledger.get("cost.item.switch.price").unwrap().value, "not known".into());
    assert!(ledger.get("cost.item.switch").is_none());
}

#[test]
fn rented_space_is_paid_by_the_year_and_built_by_nobody() {
    let racks = Place::RentedRacks { racks: 5, per_rack: Based::new(Usd(20_000.0), "test") };
    let power = Place::RentedPower { supply: Watts(150_000.0), per_kw: Based::new(Usd(1_500.0), "test") };
    for (place, rent) in [(racks, 100_000.0), (power, 225_000.0)] {
        let mut ledger = Ledger::new();
        let cost = Request { place, ..request() }.cost("cost", &mut ledger).unwrap();
        near(cost.space.0, rent);
        assert_eq!(cost.build.facility, Usd(0.0));
        assert!(ledger.get("cost.year").unwrap().inputs.contains(&"cost.space".to_owned()));
    }
}

/// Hundreds of dollars of power a year against tens of thousands to buy (stated assumption: $25,000 or more for one).
#[test]
fn capital_dominates_the_power_of_an_accelerator() {
    let site = worked_sizing().site("power", &mut Ledger::new()).unwrap();
    let power = site.cost / 10_000.0;
    assert!((500.0..1_000.0).contains(&power.0), "{power}");
    assert!(25_000.0 / default_it_years().value > 5.0 * power.0);
    let dearer = site.energy * UsdPerKwh(0.2) / 10_000.0;
    assert!(25_000.0 / default_it_years().value > 2.0 * dearer.0);
}

#[test]
fn prices_below_zero_and_years_of_none_are_refused() {
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = request();
        change(&mut request);
        let mut ledger = Ledger::new();
        let error = request.cost("cost", &mut ledger).unwrap_err().to_string();
        assert!(ledger.numbers().is_empty());
        error
    };
    assert_eq!(refused(&|r| r.items[0].years.value = 0.0), "the years of node cannot be 0; it must be 0.1 to 100");
    assert!(refused(&|r| r.items[0].price = Some(Based::new(Usd(-1.0), "test"))).starts_with("the price of node"));
    assert!(refused(&|r| r.items[1].name = "node".into()).starts_with("the name of an item cannot be `node`"));
    assert!(refused(&|r| r.utilisation.value = 0.0).starts_with("utilisation"));
    assert!(refused(&|r| r.maintenance.value = 1.5).starts_with("maintenance"));
    assert!(refused(&|r| r.energy.value = Usd(f64::NAN)).starts_with("the energy"));
}

#[test]
fn a_hall_without_accelerators_has_no_price_for_their_hours() {
    let cost = Request { accelerators: 0, ..request() }.cost("cost", &mut Ledger::new()).unwrap();
    assert!(cost.per_accelerator_hour.is_none());
}
