//! Halls of several sites: each with its own price and power, and cables inside one building only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use planned::{number, planned, refused};

const TWO: &str = r#"
schema = 1
name = "two"

[site.north]
pue = 1.1
price = "$0.05/kWh"

[site.south]
pue = 1.5
price = "$0.20/kWh"

[pool.a]
nodes = 8
node = "dgx-h100"
site = "north"

[pool.b]
nodes = 8
node = "dgx-h100"
site = "south"

[fabric.compute-a]
topology = "rail"
pools = ["a"]
switch = "qm9700"

[fabric.compute-b]
topology = "rail"
pools = ["b"]
switch = "qm9700"

[fabric.out-of-band]
topology = "fat-tree"
pools = ["b"]
switch = "sn2201"
"#;

#[test]
fn each_site_pays_its_own_price() {
    let plan = planned(TWO);
    for (site, pue, price) in [("north", 1.1, 0.05), ("south", 1.5, 0.20)] {
        let it = number(&plan, &format!("power.{site}.it.expected"));
        let cost = number(&plan, &format!("power.{site}.cost"));
        assert!((cost / (it / 1_000.0 * pue * 8_760.0 * price) - 1.0).abs() < 1e-9, "{site}: {cost}");
        assert!(plan.findings.iter().all(|finding| !finding.text.contains("PUE")));
    }
    let sum = number(&plan, "power.north.cost") + number(&plan, "power.south.cost");
    assert!((number(&plan, "power.cost") - sum).abs() < 1e-6);
    assert!((number(&plan, "cost.energy") - sum).abs() < 1e-6);
    // Half of the hall at three times the effort and four times the price.
    assert!(number(&plan, "power.south.cost") > 4.0 * number(&plan, "power.north.cost"));
}

#[test]
fn a_fabric_whose_pools_stand_at_different_sites_is_an_error() {
    let told = refused(&TWO.replace("pools = [\"a\"]\n", "pools = [\"a\", \"b\"]\n"));
    assert_eq!(
        told,
        "fabric `compute-a`: its pools stand at different sites: `a` at `north`, `b` at `south`; write a fabric for each \
         site and name its pools in `pools`"
    );
    // So is one that joins all pools because none is named.
    let told = refused(&TWO.replace("pools = [\"b\"]\nswitch = \"sn2201\"", "switch = \"sn2201\""));
    assert!(told.starts_with("fabric `out-of-band`: its pools stand at different sites"), "{told}");
}

#[test]
fn an_out_of_band_network_reaches_the_switches_of_its_own_site() {
    let plan = planned(TWO);
    let of = |network: &str| plan.networks.iter().find(|plan| plan.name == network).unwrap();
    let switches: u64 = of("compute-b").design.tiers.iter().map(|tier| tier.count).sum();
    // One service processor of each node, and the management port of each switch.
    assert_eq!(u64::from(of("out-of-band").request.nodes), 8 + switches);
    let mut list = String::new();
    plan.write_cables(&mut list).unwrap();
    let rows = || list.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    assert!(rows().count() > 0);
    for row in rows() {
        let site = |rack: &str| rack.split('-').next().unwrap().to_owned();
        assert_eq!(site(row[5]), site(row[9]), "{row:?}");
    }
}
