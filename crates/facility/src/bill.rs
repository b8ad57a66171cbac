//! Energy, money and carbon: of a job, and of a year.

use dh_blueprint::{Catalog, Settings, Site};
use dh_units::{Based, Grams, Joules, Seconds, Usd, Watts, real, significant};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::power::{HallPower, hall};

/// A year of 365 days.
const YEAR: Seconds = Seconds(365.0 * 86_400.0);

/// What something costs to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Mean power, with cooling and losses.
    pub power: Based<Watts>,
    /// Energy, with cooling and losses.
    pub energy: Based<Joules>,
    /// What that energy costs.
    pub cost: Based<Usd>,
    /// What that energy emits, where every site involved says so.
    pub carbon: Option<Based<Grams>>,
}

/// Power that one site delivers for something.
struct Draw<'a> {
    name: &'a str,
    site: &'a Site,
    power: Watts,
    why: String,
}

/// The bill of a job that holds `slots` slots for `duration`.
///
/// A job pays for its share of the nodes it is on: `slots` over the slots of the node, times the node's expected power.
/// Pools are filled in the order of their names.
/// # Errors
/// [`Error::TooLarge`] if the hall has fewer slots, [`Error::BadDuration`] if the duration is negative or not a number.
pub fn job(settings: &Settings, catalog: &Catalog, slots: u64, duration: Seconds) -> Result<Bill, Error> {
    if !(duration.0.is_finite() && duration.0 >= 0.0) {
        return Err(Error::BadDuration(significant(duration.0)));
    }
    let hall = hall(settings, catalog)?;
    let available = hall.slots.value;
    if slots > available {
        return Err(Error::TooLarge { needed: slots, available });
    }
    let mut left = slots;
    let mut draws = Vec::new();
    for pool in &hall.pools {
        let used = left.min(pool.slots.value);
        left -= used;
        if used == 0 {
            continue;
        }
        let (name, site) = site_of(settings, &pool.site, &pool.name)?;
        draws.push(Draw {
            name,
            site,
            power: pool.expected.value * (real(used) / real(pool.slots.value)),
            why: format!("{used} of {} slots of pool `{}` at {}", pool.slots.value, pool.name, pool.expected.value),
        });
    }
    Ok(bill(&draws, duration))
}

/// The bill of a year in which all nodes work all the time.
/// # Errors
/// As [`hall`].
pub fn year(settings: &Settings, catalog: &Catalog) -> Result<Bill, Error> {
    let HallPower { sites, .. } = hall(settings, catalog)?;
    let mut draws = Vec::new();
    for power in &sites {
        let (name, site) = site_of(settings, &power.name, &power.name)?;
        let why = format!("computers of site `{name}` at {}", power.computers.value);
        draws.push(Draw { name, site, power: power.computers.value, why });
    }
    Ok(bill(&draws, YEAR))
}

fn site_of<'s>(settings: &'s Settings, name: &str, pool: &str) -> Result<(&'s str, &'s Site), Error> {
    let found = settings.sites.get_key_value(name).map(|(name, site)| (name.as_str(), site));
    found.ok_or_else(|| Error::UnknownSite { pool: pool.to_owned(), site: name.to_owned() })
}

fn bill(draws: &[Draw<'_>], duration: Seconds) -> Bill {
    let energies: Vec<Joules> = draws.iter().map(|draw| draw.power * draw.site.pue * duration).collect();
    let each = || draws.iter().zip(&energies);
    let text = |line: &dyn Fn(&Draw<'_>, Joules) -> String| {
        let lines: Vec<String> = each().map(|(draw, energy)| line(draw, *energy)).collect();
        if lines.is_empty() { "nothing is used".to_owned() } else { lines.join(" + ") }
    };
    let power: Watts = draws.iter().map(|draw| draw.power * draw.site.pue).sum();
    let energy: Joules = energies.iter().copied().sum();
    let cost: Usd = each().map(|(draw, energy)| *energy * draw.site.price).sum();
    let carbon: Option<Grams> = each().map(|(draw, energy)| draw.site.carbon.map(|carbon| *energy * carbon)).sum();
    Bill {
        power: Based::new(
            power,
            text(&|draw, _| format!("{} = {} x PUE {}", draw.why, draw.power, significant(draw.site.pue))),
        ),
        energy: Based::new(energy, format!("{power} x {duration}")),
        cost: Based::new(cost, text(&|draw, energy| format!("{energy} x {} at site `{}`", draw.site.price, draw.name))),
        carbon: carbon.map(|carbon| {
            let line = |draw: &Draw<'_>, energy| match draw.site.carbon {
                Some(carbon) => format!("{energy} x {carbon} at site `{}`", draw.name),
                None => format!("site `{}` does not say", draw.name),
            };
            Based::new(carbon, text(&line))
        }),
    }
}

#[cfg(test)]
mod tests {
    use dh_blueprint::{Blueprint, template};
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Settings {
        Blueprint::parse("hall.toml", text).unwrap_or_else(|report| panic!("{report}"))
    }

    const SUPERPOD: &str = r#"
        schema = 1
        name = "superpod"
        [site.main]
        pue = 1.25
        price = "$0.08/kWh"
        carbon = "100 g/kWh"
        [pool.train]
        nodes = 127
        node = "dgx-h100"
    "#;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs(), "{value} is not {expected}");
    }

    /// 127 x 10.2 kW = 1,295.4 kW rated, as the design of that many nodes counts.
    #[test]
    fn a_hundred_and_twenty_seven_nodes_draw_what_the_tables_say() {
        let power = hall(&parse(SUPERPOD), Catalog::builtin()).unwrap();
        assert_eq!((power.nodes.value, power.slots.value), (127, 1_016));
        near(power.rated.value.0, 1_295_400.0);
        near(power.expected.value.0, 1_036_320.0);
        near(power.facility_expected.value.0, 1_295_400.0);
        near(power.facility_rated.value.0, 1_619_250.0);
        assert!(power.idle.is_none());
        // Between 76 % of rated and the measured maximum of 8.4 kW for each node.
        let measured_max = 127.0 * 8_400.0;
        assert!(power.expected.value.0 > 0.76 * 1_295_400.0 && power.expected.value.0 < measured_max);
    }

    #[test]
    fn a_year_is_8760_hours_of_expected_power() {
        let bill = year(&parse(SUPERPOD), Catalog::builtin()).unwrap();
        near(bill.energy.value.kwh(), 1_295.4 * 8_760.0);
        near(bill.cost.value.0, 1_295.4 * 8_760.0 * 0.08);
        near(bill.carbon.unwrap().value.0, 1_295.4 * 8_760.0 * 100.0);
    }

    #[test]
    fn a_job_pays_for_its_slots() {
        let hall = parse(template("first-hall").unwrap());
        // 2 of 4 slots of 0.8 x 65 W for an hour: 26 Wh at $0.15/kWh.
        let bill = job(&hall, Catalog::builtin(), 2, Seconds(3_600.0)).unwrap();
        near(bill.power.value.0, 26.0);
        near(bill.energy.value.kwh(), 0.026);
        near(bill.cost.value.0, 0.003_9);
        assert!(bill.carbon.is_none());
        expect_test::expect!["26 W (2 of 4 slots of pool `local` at 52 W = 26 W x PUE 1)"]
            .assert_eq(&bill.power.to_string());
        expect_test::expect!["26 Wh (26 W x 60 min)"].assert_eq(&bill.energy.to_string());
        expect_test::expect!["$0.0039 (26 Wh x $0.15/kWh at site `main`)"].assert_eq(&bill.cost.to_string());
    }

    #[test]
    fn a_job_that_does_not_fit_or_takes_no_time_is_told_so() {
        let hall = parse(template("first-hall").unwrap());
        let refused = |slots, seconds| job(&hall, Catalog::builtin(), slots, Seconds(seconds)).unwrap_err();
        assert_eq!(refused(5, 1.0), Error::TooLarge { needed: 5, available: 4 });
        assert!(matches!(refused(1, f64::NAN), Error::BadDuration(_)));
        assert!(matches!(refused(1, -1.0), Error::BadDuration(_)));
        let nothing = job(&hall, Catalog::builtin(), 0, Seconds(1.0)).unwrap();
        assert_eq!((nothing.power.value, nothing.cost.value), (Watts(0.0), Usd(0.0)));
    }

    #[test]
    fn what_the_blueprint_says_goes_before_the_catalogue() {
        let text = "schema = 1\nname = \"lab\"\n[pool.a]\nnodes = 3\nrated = \"100 W\"\nidle = \"20 W\"\n[pool.b]\nnodes = 1\n";
        let power = hall(&parse(text), Catalog::builtin()).unwrap();
        near(power.rated.value.0, 365.0);
        near(power.idle.unwrap().value.0, 75.0);
        assert!(power.pools[0].rated.basis.contains("blueprint"));
        assert!(power.pools[1].rated.basis.contains("stated assumption"));
    }

    #[test]
    fn sites_have_their_own_prices() {
        let text = "schema = 1\nname = \"lab\"\n[site.x]\npue = 2\nprice = \"$1/kWh\"\n[site.y]\nprice = \"$2/kWh\"\n\
            [pool.a]\nnodes = 1\nsite = \"x\"\nrated = \"1250 W\"\n[pool.b]\nnodes = 1\nsite = \"y\"\nrated = \"1250 W\"\n";
        // 1 kW x PUE 2 at $1 and 1 kW at $2 for an hour.
        let bill = job(&parse(text), Catalog::builtin(), 2, Seconds(3_600.0)).unwrap();
        near(bill.energy.value.kwh(), 3.0);
        near(bill.cost.value.0, 4.0);
    }

    proptest! {
        #[test]
        fn a_job_on_all_slots_draws_what_the_hall_draws(nodes in 1_u32..1000, slots in 1_u32..64, pue in 1.0..3.0_f64) {
            let text = format!("schema = 1\nname = \"lab\"\n[site.main]\npue = {pue}\n[pool.a]\nnodes = {nodes}\nslots = {slots}\n");
            let settings = parse(&text);
            let power = hall(&settings, Catalog::builtin()).unwrap();
            let bill = job(&settings, Catalog::builtin(), power.slots.value, Seconds(10.0)).unwrap();
            let (job, hall) = (bill.power.value.0, power.facility_expected.value.0);
            prop_assert!((job - hall).abs() <= 1e-9 * hall);
            prop_assert!(power.facility_expected.value < power.facility_rated.value);
        }
    }
}
