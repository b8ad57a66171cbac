//! Where everything stands: each site's nodes in units, the leaf switches beside the nodes they serve, the rest behind them.
//!
//! Invariant: every node of every pool, every switch and every manager of every network has exactly one place.

use dh_blueprint::Site;
use dh_fabric::cables::{Hall, Place};
use dh_fabric::{Device, Port, Role, SegmentKind};
use dh_facility::floor::{self, Block, Floor, Form, Group, GroupId, Limits};
use dh_units::{Meters, Watts};

use crate::error::Error;
use crate::networks::{EndOf, NetworkPlan};
use crate::pools::PoolPlan;

/// Nodes that stand together where the blueprint names no unit: eight racks of four. Stated assumption.
const UNIT_NODES: u32 = 32;

/// Whole racks that stand together where the blueprint names no unit: GB200 NVL72 units have eight (vendor's design).
const UNIT_RACKS: u32 = 8;

/// A fabric manager: a server of one unit. Stated assumption.
pub(crate) const MANAGER_POWER: Watts = Watts(500.0);

/// Nodes of one pool that stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    pool: usize,
    first: u32,
    nodes: u32,
}

/// One site's floor.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteFloor {
    /// The site.
    pub site: String,
    /// Its racks and places.
    pub floor: Floor,
    /// The number of its first rack among those of all sites.
    pub first_rack: u32,
    /// What each group of the floor is, for names and drawings.
    pub groups: Vec<What>,
}

/// What a group of devices on a floor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Nodes of a pool, the first of which has this number.
    Nodes {
        /// The pool's place in the list.
        pool: usize,
        /// The first one's number in the pool.
        first: u32,
    },
    /// Switches of a network; leaves that stand beside their nodes, or the rest.
    Switches {
        /// The network's place in the list.
        network: usize,
        /// What they do.
        role: Role,
    },
    /// Fabric managers of a network.
    Managers {
        /// The network's place in the list.
        network: usize,
    },
}

/// Group and number in it of every switch of one role of one network.
#[derive(Debug, Clone, PartialEq)]
struct Switches {
    network: usize,
    role: Role,
    at: Vec<(GroupId, u32)>,
    /// The same as places: a cable list asks for each of them hundreds of times.
    places: Vec<Place>,
}

/// All sites, and where each device of each network stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Floors {
    /// By site, in the order of names.
    pub sites: Vec<SiteFloor>,
    rack_names: Vec<String>,
    /// For each pool: its site, the nodes of a unit, the group of its first unit, and groups from one unit to the next.
    pools: Vec<PoolPlace>,
    switches: Vec<Switches>,
    managers: Vec<Option<(usize, GroupId)>>,
    network_sites: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
struct PoolPlace {
    site: usize,
    unit: u32,
    groups: Vec<GroupId>,
    /// Of every node.
    places: Vec<Place>,
}

fn limits(site: &Site) -> Limits {
    Limits {
        power: site.rack_power,
        height_u: site.rack_height,
        // Half a rack unit of cables at each end and a place for a patch panel are within the height that is counted.
        reserved_bottom_u: 0,
        reserved_top_u: 0,
        racks_per_row: site.racks_per_row,
        ..Limits::default()
    }
}

/// A site's floor while it is filled.
struct Draft {
    blocks: Vec<Block>,
    groups: Vec<What>,
}

impl Draft {
    fn add(&mut self, block: usize, what: What, group: Group) -> GroupId {
        let id = GroupId(u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
        self.groups.push(what);
        if let Some(block) = self.blocks.get_mut(block) {
            block.groups.push(group);
        }
        id
    }

    fn block(&mut self, name: String) -> usize {
        self.blocks.push(Block { name, repeats: 1, groups: Vec::new() });
        self.blocks.len() - 1
    }
}

/// Plans the floors of all sites.
pub(crate) fn floors(
    settings: &dh_blueprint::Settings,
    pools: &[PoolPlan],
    networks: &[NetworkPlan],
) -> Result<Floors, Error> {
    let names: Vec<&String> = settings.sites.keys().collect();
    let site_of = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0);
    let units = units(settings, pools);
    let homes: Vec<Homes> = networks.iter().map(|network| homes(network, &units)).collect();
    let mut floors = Floors {
        sites: Vec::new(),
        rack_names: Vec::new(),
        pools: pools
            .iter()
            .map(|pool| PoolPlace { site: site_of(&pool.site), unit: 1, groups: Vec::new(), places: Vec::new() })
            .collect(),
        switches: Vec::new(),
        managers: vec![None; networks.len()],
        network_sites: networks.iter().map(|network| site_of(&network.site)).collect(),
    };
    for network in networks.iter().enumerate() {
        for tier in &network.1.design.tiers {
            let count = usize::try_from(tier.count).unwrap_or(usize::MAX);
            let at = vec![(GroupId(u32::MAX), 0); count];
            floors.switches.push(Switches { network: network.0, role: tier.role, at, places: Vec::new() });
        }
    }
    for (place, (name, site)) in settings.sites.iter().enumerate() {
        let mut draft = Draft { blocks: Vec::new(), groups: Vec::new() };
        for (number, unit) in units.all.iter().enumerate() {
            let Some(pool) = pools.get(unit.pool).filter(|pool| pool.site == *name) else { continue };
            fill_unit(&mut draft, &mut floors, number, *unit, pool, networks, &homes);
        }
        fill_rest(&mut draft, &mut floors, place, networks, &homes);
        let request = floor::Request { limits: limits(site), blocks: draft.blocks };
        let floor = Floor::plan(&request).map_err(|error| Error::Floor { site: name.clone(), error })?;
        let first_rack = u32::try_from(floors.rack_names.len()).unwrap_or(u32::MAX);
        let several = settings.sites.len() > 1;
        floors.rack_names.extend(
            (0..floor.racks())
                .map(|rack| if several { format!("{name}-{}", floor.rack_name(rack)) } else { floor.rack_name(rack) }),
        );
        floors.sites.push(SiteFloor { site: name.clone(), floor, first_rack, groups: draft.groups });
    }
    floors.look_up(pools);
    Ok(floors)
}

/// The units of all pools, in the order in which they stand.
struct Units {
    all: Vec<Unit>,
    /// For each pool, the number of its first unit and the nodes of a full one.
    pools: Vec<(usize, u32)>,
}

impl Units {
    /// The unit of a node; units of a pool follow each other, and all but the last are full.
    fn of(&self, pool: usize, node: u32) -> Option<usize> {
        let (first, size) = self.pools.get(pool)?;
        Some(first + usize::try_from(node.checked_div(*size)?).ok()?)
    }
}

/// Every pool cut into units; those with accelerators first, which is where most cables go.
fn units(settings: &dh_blueprint::Settings, pools: &[PoolPlan]) -> Units {
    let mut order: Vec<usize> = (0..pools.len()).collect();
    order.sort_by_key(|place| pools.get(*place).is_none_or(|pool| pool.accelerators == 0));
    let mut units = Vec::new();
    let mut starts = vec![(0, 0); pools.len()];
    for place in order {
        let Some(pool) = pools.get(place) else { continue };
        let size = unit_of(settings, pool);
        if let Some(start) = starts.get_mut(place) {
            *start = (units.len(), size);
        }
        let mut first = 0;
        while first < pool.nodes {
            let nodes = size.min(pool.nodes - first);
            units.push(Unit { pool: place, first, nodes });
            first += nodes;
        }
    }
    Units { all: units, pools: starts }
}

fn unit_of(settings: &dh_blueprint::Settings, pool: &PoolPlan) -> u32 {
    let written = settings.pools.get(&pool.name).and_then(|pool| pool.unit);
    written.unwrap_or(if pool.own_rack { UNIT_RACKS } else { UNIT_NODES }).max(1)
}

/// Where the leaves of a network stand.
struct Homes {
    /// For each unit, the leaves whose first node is in it.
    units: Vec<Vec<usize>>,
    /// Those that serve no node.
    none: Vec<usize>,
}

/// Each leaf of a network goes to the unit of the first node it serves.
fn homes(network: &NetworkPlan, units: &Units) -> Homes {
    let mut sorted = Homes { units: vec![Vec::new(); units.all.len()], none: Vec::new() };
    for (leaf, home) in units_of_leaves(network, units).into_iter().enumerate() {
        match home.and_then(|unit| sorted.units.get_mut(unit)) {
            Some(here) => here.push(leaf),
            None => sorted.none.push(leaf),
        }
    }
    sorted
}

/// For each leaf of a network, the unit of the first node it serves; none where it serves none.
fn units_of_leaves(network: &NetworkPlan, units: &Units) -> Vec<Option<usize>> {
    let leaf = first_tier(network);
    let count = usize::try_from(network.design.count(leaf)).unwrap_or(0);
    let mut homes = vec![None; count];
    for wire in network.design.wires().take_while(|wire| wire.segment == SegmentKind::NodeLeaf) {
        let (Device::Node(end), Device::Switch(role, index)) = (wire.from.device, wire.to.device) else { continue };
        let Some(home) = usize::try_from(index).ok().and_then(|index| homes.get_mut(index)) else { continue };
        if role != leaf || home.is_some() {
            continue;
        }
        if let Some((EndOf::Pool(pool), node, _)) = network.ends.device(end, wire.from.port) {
            *home = units.of(*pool, node);
        }
    }
    homes
}

fn first_tier(network: &NetworkPlan) -> Role {
    network.design.tiers.first().map_or(Role::Leaf, |tier| tier.role)
}

fn fill_unit(
    draft: &mut Draft,
    floors: &mut Floors,
    number: usize,
    unit: Unit,
    pool: &PoolPlan,
    networks: &[NetworkPlan],
    homes: &[Homes],
) {
    let block = draft.block(format!("{} from node {}", pool.name, unit.first + 1));
    let what = What::Nodes { pool: unit.pool, first: unit.first };
    let group = draft.add(
        block,
        what,
        Group {
            name: pool.title.clone(),
            per_block: unit.nodes,
            role: floor::Role::Nodes { total: unit.nodes },
            form: if pool.own_rack { Form::Rack } else { Form::Units(pool.height_u) },
            rated: pool.rated,
            expected: pool.expected,
            per_rack_max: pool.per_rack_max,
        },
    );
    if let Some(place) = floors.pools.get_mut(unit.pool) {
        // All units of a pool but the last are of one size.
        place.unit = place.unit.max(unit.nodes);
        place.groups.push(group);
    }
    for (place, network) in networks.iter().enumerate() {
        let here = homes.get(place).and_then(|homes| homes.units.get(number)).map_or(&[][..], Vec::as_slice);
        put(draft, floors, block, place, network, first_tier(network), here);
    }
}

/// Everything that serves no single unit.
fn fill_rest(draft: &mut Draft, floors: &mut Floors, site: usize, networks: &[NetworkPlan], homes: &[Homes]) {
    let block = draft.block("the network's middle".to_owned());
    for (place, network) in networks.iter().enumerate() {
        if floors.network_sites.get(place) != Some(&site) {
            continue;
        }
        for tier in &network.design.tiers {
            let count = usize::try_from(tier.count).unwrap_or(0);
            let rest: Vec<usize> = if tier.role == first_tier(network) {
                homes.get(place).map_or_else(Vec::new, |homes| homes.none.clone())
            } else {
                (0..count).collect()
            };
            put(draft, floors, block, place, network, tier.role, &rest);
        }
        if network.request.extra_ports > 0 {
            let group = draft.add(
                block,
                What::Managers { network: place },
                Group {
                    name: format!("{} managers", network.name),
                    per_block: network.request.extra_ports,
                    role: floor::Role::Network,
                    form: Form::Units(1),
                    rated: MANAGER_POWER,
                    expected: MANAGER_POWER,
                    per_rack_max: None,
                },
            );
            if let Some(managers) = floors.managers.get_mut(place) {
                *managers = Some((site, group));
            }
        }
    }
}

/// Puts `which` switches of one role into a block.
fn put(
    draft: &mut Draft,
    floors: &mut Floors,
    block: usize,
    place: usize,
    network: &NetworkPlan,
    role: Role,
    which: &[usize],
) {
    let Some(tier) = network.design.tiers.iter().find(|tier| tier.role == role) else { return };
    if which.is_empty() {
        return;
    }
    let group = draft.add(
        block,
        What::Switches { network: place, role },
        Group {
            name: tier.switch.name.clone(),
            per_block: u32::try_from(which.len()).unwrap_or(u32::MAX),
            role: floor::Role::Network,
            form: Form::Units(tier.switch.height_u.max(1)),
            rated: tier.switch.power,
            expected: tier.switch.power,
            per_rack_max: None,
        },
    );
    let all = floors.switches.iter_mut().find(|switches| switches.network == place && switches.role == role);
    let Some(all) = all else { return };
    for (number, switch) in (0_u32..).zip(which) {
        if let Some(at) = all.at.get_mut(*switch) {
            *at = (group, number);
        }
    }
}

/// No device is here, by the module's invariant; a cable that starts here would be seen in the list.
const NOWHERE: Place = Place { row: 0, rack: u32::MAX, u: 0, x: Meters(0.0), y: Meters(0.0) };

fn place_of(places: Option<&Vec<Place>>, index: u32) -> Place {
    let index = usize::try_from(index).ok();
    places.zip(index).and_then(|(places, index)| places.get(index)).copied().unwrap_or(NOWHERE)
}

impl Floors {
    /// All racks of all sites.
    pub fn racks(&self) -> u64 {
        self.sites.iter().map(|site| u64::from(site.floor.racks())).sum()
    }

    fn at(&self, site: usize, group: GroupId, number: u32) -> Place {
        let found = self.sites.get(site).and_then(|site| Some((site, site.floor.place(group, number)?)));
        match found {
            Some((site, slot)) => {
                Place { row: slot.row, rack: site.first_rack + slot.rack, u: slot.u, x: slot.x, y: slot.y }
            }
            None => NOWHERE,
        }
    }

    /// Looks up every place once: O(devices x log of units) and 32 bytes for each.
    fn look_up(&mut self, pools: &[PoolPlan]) {
        let of_pool = |(pool, place): (&PoolPlan, &PoolPlace)| {
            let at = |node: u32| {
                let unit = usize::try_from(node / place.unit).unwrap_or(usize::MAX);
                let group = place.groups.get(unit).copied().unwrap_or(GroupId(u32::MAX));
                self.at(place.site, group, node % place.unit)
            };
            (0..pool.nodes).map(at).collect()
        };
        let nodes: Vec<Vec<Place>> = pools.iter().zip(&self.pools).map(of_pool).collect();
        let of_switches = |switches: &Switches| {
            let site = self.network_sites.get(switches.network).copied().unwrap_or(0);
            switches.at.iter().map(|(group, number)| self.at(site, *group, *number)).collect()
        };
        let switches: Vec<Vec<Place>> = self.switches.iter().map(of_switches).collect();
        for (pool, places) in self.pools.iter_mut().zip(nodes) {
            pool.places = places;
        }
        for (tier, places) in self.switches.iter_mut().zip(switches) {
            tier.places = places;
        }
    }

    fn node(&self, pool: usize, node: u32) -> Place {
        let places = self.pools.get(pool).map(|pool| &pool.places);
        place_of(places, node)
    }

    fn switch(&self, network: usize, role: Role, index: u32) -> Place {
        let all = self.switches.iter().find(|switches| switches.network == network && switches.role == role);
        place_of(all.map(|all| &all.places), index)
    }

    /// The hall as the cables of `network` see it.
    pub fn hall<'a>(&'a self, network: usize, pools: &'a [PoolPlan], networks: &'a [NetworkPlan]) -> NetworkHall<'a> {
        NetworkHall { floors: self, network, pools, networks }
    }
}

/// Places and names of one network's devices.
#[derive(Debug, Clone, Copy)]
pub struct NetworkHall<'a> {
    floors: &'a Floors,
    network: usize,
    pools: &'a [PoolPlan],
    networks: &'a [NetworkPlan],
}

impl NetworkHall<'_> {
    fn end(&self, end: u32, port: u32) -> Option<(&EndOf, u32, u32)> {
        self.networks.get(self.network)?.ends.device(end, port)
    }
}

impl Hall for NetworkHall<'_> {
    fn place(&self, device: Device) -> Place {
        match device {
            Device::Node(end) => match self.end(end, 0) {
                Some((EndOf::Pool(pool), node, _)) => self.floors.node(*pool, node),
                Some((EndOf::Switches(network, role), index, _)) => self.floors.switch(*network, *role, index),
                None => self.floors.node(usize::MAX, 0),
            },
            Device::Manager(manager) => match self.floors.managers.get(self.network).copied().flatten() {
                Some((site, group)) => self.floors.at(site, group, manager),
                None => self.floors.node(usize::MAX, 0),
            },
            Device::Switch(role, index) => self.floors.switch(self.network, role, index),
            Device::Ocs(index) => self.floors.switch(self.network, Role::Ocs, index),
        }
    }

    fn rack_name(&self, rack: u32) -> &str {
        usize::try_from(rack).ok().and_then(|rack| self.floors.rack_names.get(rack)).map_or("", String::as_str)
    }

    fn write_name<W: std::fmt::Write>(&self, network: &str, device: Device, out: &mut W) -> std::fmt::Result {
        let (before, index) = match device {
            Device::Node(end) => match self.end(end, 0) {
                Some((EndOf::Pool(pool), node, _)) => {
                    out.write_str(self.pools.get(*pool).map_or("node", |pool| pool.name.as_str()))?;
                    ("-", node)
                }
                Some((EndOf::Switches(other, role), index, _)) => {
                    out.write_str(self.networks.get(*other).map_or("", |network| network.name.as_str()))?;
                    out.write_str("-")?;
                    (role.name(), index)
                }
                None => ("node-", end),
            },
            Device::Manager(manager) => {
                out.write_str(network)?;
                ("-manager-", manager)
            }
            Device::Switch(role, index) => {
                out.write_str(network)?;
                out.write_str("-")?;
                (role.name(), index)
            }
            Device::Ocs(index) => {
                out.write_str(network)?;
                ("-ocs-", index)
            }
        };
        out.write_str(before)?;
        if !before.ends_with('-') {
            out.write_str("-")?;
        }
        dh_fabric::cables::write_number(out, u64::from(index) + 1, 4)
    }

    fn port(&self, port: Port) -> u32 {
        match port.device {
            Device::Node(end) => self.end(end, port.port).map_or(port.port, |(_, _, port)| port),
            Device::Manager(_) | Device::Switch(..) | Device::Ocs(_) => port.port,
        }
    }
}
