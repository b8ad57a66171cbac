//! Networks: what the blueprint says of a fabric and the catalogue of its switches and nodes, made into a request to the
//! model of topologies; and which device of the hall each end of the network is.

use dh_blueprint::{Fabric, Kind, NodeItem, Role, SwitchItem, Topology};
use dh_fabric::{Design, Ratio, Request, Switch, Uplinks};
use dh_units::{BitsPerSec, Watts};

use crate::asked::{asked, ports};
use crate::book::Book;
use crate::error::Error;
use crate::pools::PoolPlan;

/// A designed network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkPlan {
    /// Its name in the blueprint.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The site its switches stand at.
    pub site: String,
    /// What was asked of the model.
    pub request: Request,
    /// What it answered.
    pub design: Design,
    /// What its ends are.
    pub ends: Ends,
}

/// What the ends of a network are, in the order in which the design counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// How ends are counted.
    pub count: Counting,
    /// Devices one after the other.
    pub ranges: Vec<Range>,
}

/// How the design counts ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// An end is a node with all its ports.
    Nodes,
    /// An end is one port of a device.
    Ports,
    /// An end is an accelerator of a torus whose cubes are nodes.
    Chips {
        /// Accelerators along each dimension.
        dims: [u32; 3],
        /// Accelerators along the edge of a cube.
        cube: u32,
    },
}

/// Devices of one kind among the ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// What they are.
    pub of: EndOf,
    /// How many devices.
    pub devices: u32,
    /// Ports of each that are ends here.
    pub ports: u32,
}

/// A kind of device at the end of a cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndOf {
    /// Nodes of a pool, by its place in the list of pools.
    Pool(usize),
    /// Management ports of the switches of another network, by its place in the list of networks and its role there.
    Switches(usize, dh_fabric::Role),
}

impl Ends {
    /// The device, its number among its kind, and its first port, of end `end` and port `port` of the design.
    pub fn device(&self, end: u32, port: u32) -> Option<(&EndOf, u32, u32)> {
        match self.count {
            Counting::Nodes => {
                let mut before = 0;
                for range in &self.ranges {
                    if end < before + range.devices {
                        return Some((&range.of, end - before, port));
                    }
                    before += range.devices;
                }
                None
            }
            Counting::Ports => {
                let mut before = 0;
                for range in &self.ranges {
                    let ports = range.devices * range.ports;
                    if end < before + ports {
                        let at = end - before;
                        return Some((&range.of, at / range.ports, at % range.ports));
                    }
                    before += ports;
                }
                None
            }
            Counting::Chips { dims, cube } => {
                let [x, y, z] = [end % dims[0], end / dims[0] % dims[1], end / dims[0] / dims[1]];
                let cubes = [dims[0] / cube, dims[1] / cube];
                let node = x / cube + cubes[0] * (y / cube + cubes[1] * (z / cube));
                let within = x % cube + cube * (y % cube + cube * (z % cube));
                let range = self.ranges.first()?;
                Some((&range.of, node, within * 6 + port))
            }
        }
    }
}

/// Designs every fabric of the blueprint. Out-of-band networks come last, because they reach the switches of the others.
pub(crate) fn networks(book: &mut Book<'_>, pools: &[PoolPlan]) -> Result<Vec<NetworkPlan>, Error> {
    let settings = book.settings;
    let mut order: Vec<(&String, &Fabric)> = settings.fabrics.iter().collect();
    order.sort_by_key(|(_, fabric)| fabric.role);
    let mut plans: Vec<NetworkPlan> = Vec::new();
    for (name, fabric) in order {
        let plan = one(book, name, fabric, pools, &plans)?;
        plans.push(plan);
    }
    distinct(pools, &plans)?;
    Ok(plans)
}

/// Refuses names that would give two devices of the cable list one name: `compute-leaf-0001` may be a node or a switch.
fn distinct(pools: &[PoolPlan], networks: &[NetworkPlan]) -> Result<(), Error> {
    for network in networks {
        let roles = network.design.tiers.iter().map(|tier| tier.role.name());
        for kind in roles.chain((network.request.extra_ports > 0).then_some("manager")) {
            let taken = format!("{}-{kind}", network.name);
            if pools.iter().any(|pool| pool.name == taken) {
                return Err(Error::Inconsistent(format!(
                    "nodes of pool `{taken}` and {kind} devices of fabric `{}` would both be called `{taken}-0001`; give one of the two another name",
                    network.name
                )));
            }
        }
    }
    Ok(())
}

fn one(
    book: &mut Book<'_>,
    name: &str,
    fabric: &Fabric,
    pools: &[PoolPlan],
    others: &[NetworkPlan],
) -> Result<NetworkPlan, Error> {
    let unknown = |what: String| Error::Unknown { name: name.to_owned(), what };
    let members: Vec<(usize, &PoolPlan)> =
        pools.iter().enumerate().filter(|(_, pool)| fabric.pools.contains(&pool.name)).collect();
    let site = one_site(&members).map_err(unknown)?;
    let speed = port_speed(fabric, &members).ok_or_else(|| {
        unknown(format!(
            "the catalogue does not say how fast the {} ports of {} are; write `port_speed`",
            fabric.role.word(),
            members.iter().map(|(_, pool)| pool.item.name.as_str()).collect::<Vec<_>>().join(", ")
        ))
    })?;
    let ends = ends(name, fabric, &members, &site, others)?;
    let total: u32 = match ends.count {
        Counting::Nodes => ends.ranges.iter().map(|range| range.devices).sum(),
        Counting::Ports => ends.ranges.iter().map(|range| range.devices * range.ports).sum(),
        Counting::Chips { dims, .. } => dims.iter().product(),
    };
    let link = speed / f64::from(fabric.planes);
    let switch = |item: &str, link: BitsPerSec| -> Result<Switch, Error> {
        let found = book.settings.catalog.switch(item);
        Ok(split_to(found.ok_or_else(|| unknown(format!("the catalogue has no switch `{item}`")))?, link))
    };
    let leaf = switch(&fabric.switch, link)?;
    // Above a leaf with uplinks of its own, links are as fast as those.
    let up = leaf.uplinks.as_ref().map_or(link, |uplinks| uplinks.speed);
    let [spine, core] =
        [&fabric.spine, &fabric.core].map(|item| item.as_deref().map(|item| switch(item, up)).transpose());
    let (spine, core) = (spine?, core?);
    let unit = fabric.unit.or_else(|| {
        let units: Vec<Option<u32>> =
            members.iter().map(|(_, pool)| book.settings.pools.get(&pool.name).and_then(|pool| pool.unit)).collect();
        units.first().copied().flatten().filter(|unit| units.iter().all(|other| *other == Some(*unit)))
    });
    let request = Request {
        topology: topology(fabric),
        nodes: total,
        ports_per_node: match ends.count {
            Counting::Nodes => ends.ranges.first().map_or(1, |range| range.ports),
            Counting::Ports => 1,
            Counting::Chips { .. } => 6,
        },
        port_speed: speed,
        planes: fabric.planes,
        unit_nodes: if matches!(fabric.topology, Topology::Rail) { unit } else { None },
        extra_ports: fabric.managers,
        spine,
        core,
        tiers: fabric.tiers,
        oversubscription: ratio(fabric.oversubscription),
        spare_ports: fabric.spare_ports,
        ..Request::new(name, topology(fabric), total, 1, leaf)
    };
    let design = dh_fabric::design(&request).map_err(|error| Error::Network { name: name.to_owned(), error })?;
    enter(book, name, fabric, &request, &ends, pools, others);
    models(book, name, &design);
    let source = book.origin(&format!("fabric.{name}.topology"));
    design.record(&request, &source, &mut book.ledger);
    Ok(NetworkPlan { name: name.to_owned(), role: fabric.role, site, request, design, ends })
}

/// The site of all members: cables of a network run inside one building.
fn one_site(members: &[(usize, &PoolPlan)]) -> Result<String, String> {
    let Some((_, first)) = members.first() else { return Ok(String::new()) };
    match members.iter().find(|(_, pool)| pool.site != first.site) {
        None => Ok(first.site.clone()),
        Some((_, other)) => Err(format!(
            "its pools stand at different sites: `{}` at `{}`, `{}` at `{}`; write a fabric for each site and name its pools in `pools`",
            first.name, first.site, other.name, other.site
        )),
    }
}

fn topology(fabric: &Fabric) -> dh_fabric::Topology {
    match fabric.topology {
        Topology::Rail => dh_fabric::Topology::RailOptimised,
        Topology::FatTree => dh_fabric::Topology::FatTree,
        Topology::KAry { k } => dh_fabric::Topology::KAry { k },
        Topology::RailOnly => dh_fabric::Topology::RailOnly,
        Topology::Dragonfly { hosts, routers, global, groups } => {
            dh_fabric::Topology::Dragonfly { hosts, routers, global, groups: Some(groups) }
        }
        Topology::DragonflyPlus { hosts, routers, global, groups } => {
            dh_fabric::Topology::DragonflyPlus { hosts, leaves: routers, spines: routers, global, groups: Some(groups) }
        }
        Topology::Torus { dims, cube } => dh_fabric::Topology::Torus { dims, cube: Some(cube) },
    }
}

/// Ports and speed of a node for a role, as the catalogue has them.
fn of_role(item: &NodeItem, role: Role) -> (Option<u32>, Option<BitsPerSec>) {
    let (ports, speed) = match role {
        Role::Compute => (&item.compute_ports, item.compute_speed.as_ref()),
        Role::Storage => (&item.storage_ports, item.storage_speed.as_ref()),
        Role::InBand => (&item.in_band_ports, item.in_band_speed.as_ref()),
        // A service processor speaks 1 Gb/s; faster ones fall back to it.
        Role::OutOfBand => return (item.out_of_band_ports.as_ref().map(|ports| ports.value), Some(MANAGEMENT_SPEED)),
    };
    (ports.as_ref().map(|ports| ports.value), speed.map(|speed| speed.value))
}

/// Speed of management ports: IEEE 802.3ab.
pub(crate) const MANAGEMENT_SPEED: BitsPerSec = BitsPerSec(1e9);

/// What is written, else the slowest of the nodes' ports, to which the others fall back.
fn port_speed(fabric: &Fabric, members: &[(usize, &PoolPlan)]) -> Option<BitsPerSec> {
    let known = members.iter().filter_map(|(_, pool)| of_role(&pool.item, fabric.role).1);
    fabric.port_speed.or_else(|| known.min_by(|a, b| a.0.total_cmp(&b.0)))
}

fn ends(
    name: &str,
    fabric: &Fabric,
    members: &[(usize, &PoolPlan)],
    site: &str,
    others: &[NetworkPlan],
) -> Result<Ends, Error> {
    let unknown = |what: String| Error::Unknown { name: name.to_owned(), what };
    if let Topology::Torus { dims, cube } = fabric.topology {
        let accelerators: u64 = members.iter().map(|(_, pool)| pool.accelerators).sum();
        let joined: u64 = dims.iter().map(|dim| u64::from(*dim)).product();
        let [(place, pool)] = members else {
            return Err(unknown("a torus joins the accelerators of one pool; name it in `pools`".to_owned()));
        };
        if joined != accelerators {
            let [x, y, z] = dims;
            return Err(unknown(format!(
                "a torus of {x} x {y} x {z} joins {joined} accelerators, pool `{}` has {accelerators}; change `dims`, or `nodes` of the pool{}",
                pool.name,
                nodes_for(pool, joined)
            )));
        }
        let range = Range { of: EndOf::Pool(*place), devices: pool.nodes, ports: pool.accelerators_per_node * 6 };
        return Ok(Ends { count: Counting::Chips { dims, cube }, ranges: vec![range] });
    }
    let mut ranges = Vec::new();
    for (place, pool) in members {
        let ports = fabric.ports_per_node.or(of_role(&pool.item, fabric.role).0);
        let ports = ports.ok_or_else(|| {
            unknown(format!(
                "the catalogue does not say how many {} ports {} has; write `ports_per_node`",
                fabric.role.word(),
                pool.item.name
            ))
        })?;
        if ports > 0 {
            ranges.push(Range { of: EndOf::Pool(*place), devices: pool.nodes, ports });
        }
    }
    let rails = matches!(fabric.topology, Topology::Rail | Topology::RailOnly);
    if rails && ranges.windows(2).any(|pair| matches!(pair, [a, b] if a.ports != b.ports)) {
        return Err(unknown(
            "nodes of its pools have different numbers of ports, and each port is a rail; write `ports_per_node`, or a fabric for each pool"
                .to_owned(),
        ));
    }
    if fabric.role == Role::OutOfBand {
        for (place, other) in others.iter().enumerate().filter(|(_, other)| other.site == site) {
            for tier in &other.design.tiers {
                let devices = u32::try_from(tier.count).unwrap_or(u32::MAX);
                ranges.push(Range { of: EndOf::Switches(place, tier.role), devices, ports: 1 });
            }
        }
    }
    if ranges.is_empty() {
        return Err(unknown("it joins no port of any node".to_owned()));
    }
    Ok(Ends { count: if rails { Counting::Nodes } else { Counting::Ports }, ranges })
}

/// How many nodes have `accelerators`, where a whole number does.
fn nodes_for(pool: &PoolPlan, accelerators: u64) -> String {
    let each = u64::from(pool.accelerators_per_node);
    match accelerators.checked_div(each) {
        Some(nodes) if nodes * each == accelerators => format!(" to {nodes}"),
        Some(_) | None => String::new(),
    }
}

/// The switch with its ports split so that each carries one link, where they are faster by a whole factor.
fn split_to(item: &SwitchItem, link: BitsPerSec) -> Switch {
    let speed = item.speed.value;
    let ways = [8_u32, 4, 2].into_iter().find(|ways| link.0 * f64::from(*ways) <= speed.0 * (1.0 + 1e-9)).unwrap_or(1);
    Switch {
        name: item.name.clone(),
        ports: item.ports.value * ways,
        speed: speed / f64::from(ways),
        power: item.power.as_ref().map_or(Watts(0.0), |power| power.value),
        price: item.price.as_ref().map(|price| price.value),
        height_u: item.height_u.as_ref().map_or(1, |height| height.value),
        uplinks: item
            .uplinks
            .as_ref()
            .zip(item.uplink_speed.as_ref())
            .map(|(ports, speed)| Uplinks { ports: ports.value, speed: speed.value }),
    }
}

/// A ratio of small whole numbers nearest to `down`: 1.5 is 3:2.
fn ratio(down: f64) -> Ratio {
    for up in 1..=16_u32 {
        let exact = down * f64::from(up);
        let near = exact.round();
        if (exact - near).abs() < 1e-9 * exact {
            return Ratio { down: whole(near), up };
        }
    }
    Ratio { down: whole((down * 16.0).round()), up: 16 }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ratio is 1 to 64, so at most 1024")]
fn whole(value: f64) -> u32 {
    value as u32
}

/// Enters what the model starts from, followed down to blueprint and catalogue; the model itself enters what it computes.
fn enter(
    book: &mut Book<'_>,
    name: &str,
    fabric: &Fabric,
    request: &Request,
    ends: &Ends,
    pools: &[PoolPlan],
    others: &[NetworkPlan],
) {
    let id = |key: &str| format!("network.{name}.{key}");
    let mut inputs = Vec::new();
    let mut words = Vec::new();
    for range in &ends.ranges {
        match &range.of {
            EndOf::Pool(place) => {
                let Some(pool) = pools.get(*place) else { continue };
                inputs.push(pool.nodes_id.clone());
                words.push(match ends.count {
                    Counting::Nodes => format!("{} nodes of {}", range.devices, pool.name),
                    Counting::Ports => format!("{} nodes of {} x {} ports", range.devices, pool.name, range.ports),
                    Counting::Chips { dims: [x, y, z], .. } => format!("{x} x {y} x {z} accelerators of {}", pool.name),
                });
            }
            EndOf::Switches(place, role) => {
                let Some(other) = others.get(*place) else { continue };
                inputs.push(format!("network.{}.{}", other.name, role.name()));
                words.push(format!("{} {} switches of {}", range.devices, role.name(), other.name));
            }
        }
    }
    inputs.retain(|input| book.ledger.get(input).is_some());
    if ends.count != Counting::Nodes {
        inputs.extend(ports(book, name, fabric, ends, pools));
    }
    book.sum(&id("nodes"), "ends that are joined", request.nodes, words.join(" + "), &inputs);
    asked(book, name, fabric, request, ends, pools);
}

/// Enters ports, power and price of each tier's model as the catalogue has them, under the ids that the design knows them by.
fn models(book: &mut Book<'_>, name: &str, design: &Design) {
    for tier in &design.tiers {
        let (model, switch) = (tier.role.name(), &tier.switch);
        let Some(item) = book.settings.catalog.switch(&switch.name) else { continue };
        let ports = book.fact(Kind::Switch, &item.name, "ports", "ports of a switch", &item.ports);
        let speed = book.fact(Kind::Switch, &item.name, "speed", "speed of a switch port", &item.speed);
        let ways = switch.ports / item.ports.value.max(1);
        let formula = if ways > 1 {
            format!("{} x {ways}, split to {}", item.ports.value, switch.speed)
        } else {
            "of the catalogue".to_owned()
        };
        let id = format!("network.{name}.{model}-model.ports");
        book.sum(&id, "ports of a switch", switch.ports, formula, &[ports, speed]);
        if let (Some(_), Some(count), Some(speed)) = (&switch.uplinks, &item.uplinks, &item.uplink_speed) {
            let id = |key: &str| format!("network.{name}.{model}-model.{key}");
            let fact = book.fact(Kind::Switch, &item.name, "uplinks", "ports that face up only", count);
            book.sum(&id("uplinks"), "ports that face up only", count.value, "of the catalogue", &[fact]);
            let fact = book.fact(Kind::Switch, &item.name, "uplink_speed", "speed of such a port", speed);
            book.sum(&id("uplink-speed"), "speed of such a port", speed.value, "of the catalogue", &[fact]);
        }
        if let Some(power) = &item.power {
            given(book, item, model, name, "power", power);
        } else {
            let id = format!("network.{name}.{model}-model.power");
            let source = format!("the catalogue does not know the power of {}; counted as nothing", item.name);
            book.ledger.given(&id, "power of a switch", switch.power, &source);
        }
        if let Some(price) = &item.price {
            given(book, item, model, name, "price", price);
        }
    }
}

fn given<T: Copy + Into<dh_units::Value>>(
    book: &mut Book<'_>,
    item: &SwitchItem,
    model: &str,
    network: &str,
    key: &str,
    number: &dh_blueprint::Sourced<T>,
) {
    let title = format!("{key} of a switch");
    let fact = book.fact(Kind::Switch, &item.name, key, &title, number);
    book.sum(&format!("network.{network}.{model}-model.{key}"), &title, number.value, "of the catalogue", &[fact]);
}

impl NetworkPlan {
    /// Power of its switches, without what is plugged in.
    pub(crate) fn power(&self) -> Watts {
        self.design.power()
    }
}
