//! From ends to a folded Clos: the fewest tiers, and in each the fewest switches that keep every pair of switches equal.
//!
//! Rules, for switches of R ports without oversubscription:
//! - a leaf has R/2 ports down and R/2 up; a scalable unit has a whole set of leaves even where nodes are absent, as the
//!   DGX `SuperPOD` H100 reference architecture asks (network-fabrics page);
//! - two tiers: the spines are the smallest divisor of a leaf's uplinks that is at least `ceil(leaves x uplinks / R)`;
//! - three tiers: a pod is a rail (rail-optimised) or consecutive leaves (fat tree), in as few pods as spines allow; its
//!   spines follow the same rule over R/2 down ports; each spine has as many uplinks as down links; cores are the fewest
//!   `groups x cores` with `groups` a divisor of a pod's spines and `cores` of a spine's uplinks that R ports can serve.
//!   The rule gives the published 128 + 128 + 64 switches for 16 units of DGX B200. It also gives 56 + 80 + 28 for 7 units
//!   of DGX A100 with 40-port switches, where spines are grouped by rail; that row is quoted from memory, not re-read.
//! - where the request fixes the units of a pod, spines are complete for a whole pod, and where it asks for it, spine `k` of
//!   every pod is joined to core group `k` only: with pods of 8 racks of a rail this gives the published DGX GB200 counts;
//! - a leaf with uplink ports of its own has the rest down; all uplinks are used, because the number of spines can always
//!   be one that divides them: with as many spines as uplinks each leaf takes one port of each.
//!
//! Why it is non-blocking (`tests/paths.rs` checks small ones by maximum flow): a pod with as much up as down is a two-tier Clos; each core group sees the same share of every
//! leaf, and within a group every pod has the same number of links to every core, which is Clos' condition again.

use dh_units::{BitsPerSec, real};

use crate::attach::{Attach, Managers};
use crate::clos::{Clos, Ends};
use crate::error::Error;
use crate::number::divisors;
use crate::request::{CoreGroups, Ratio, Request, Switch, Topology};

/// A Clos and the ends it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Solved {
    pub(crate) clos: Clos,
    pub(crate) ends: Ends,
}

/// The fat tree of k-port switches: k pods of k/2 edge and k/2 aggregation switches, (k/2)^2 cores, k^3/4 ends.
pub(crate) fn k_ary(request: &Request, k: u32) -> Result<Solved, Error> {
    let (nodes, ports, managers) = sizes(request);
    for model in [&request.leaf, request.spine_model(), request.core_model()] {
        if model.ports < k || k < 2 || !k.is_multiple_of(2) {
            return Err(Error::Shape(format!(
                "a k-ary fat tree needs an even k of at least 2 and switches of k ports: k is {k}, `{}` has {}",
                model.name, model.ports
            )));
        }
    }
    let half = u64::from(k / 2);
    let ends = nodes * ports + managers;
    let limit = 2 * half * half * half;
    if ends > limit {
        return Err(Error::DoesNotFit {
            ends,
            tiers: "3 tiers".to_owned(),
            switch: request.leaf.name.clone(),
            ports: k,
            hint: format!("k^3/4 is {limit}; the next k that fits is {}", next_k(ends)),
        });
    }
    let clos = Clos {
        planes: request.planes.into(),
        components: 1,
        lanes: 1,
        rows: 2 * half * half,
        down: half,
        up: half,
        up_port: half,
        pods: 2 * half,
        per_pod: half,
        spines: half,
        spine_limit: half,
        spine_up: half,
        groups: half,
        cores: half,
    };
    let attach = Attach::Packed { unit_nodes: nodes, unit_leaves: clos.rows, per_leaf: half, ports };
    let managers_at = Managers::LastUnit { first_leaf: 0, per_leaf: half, taken: nodes * ports };
    Ok(Solved { clos, ends: Ends { nodes, ports, managers, attach, managers_at } })
}

/// The smallest even k with at least `ends` ends.
fn next_k(ends: u64) -> u64 {
    let mut half = 1;
    while 2 * half * half * half < ends {
        half += 1;
    }
    2 * half
}

/// What the leaves of a network must be.
struct Leaves {
    components: u64,
    lanes: u64,
    rows: u64,
    down: u64,
    /// Leaves of a pod, where the request fixes it.
    pod: Option<u64>,
}

/// Solves a rail-optimised, fat-tree or rail-only request.
pub(crate) fn solve(request: &Request) -> Result<Solved, Error> {
    let (down, up) = leaf_ports(request)?;
    if let Some(unit) = request.unit_nodes
        && request.topology == Topology::RailOptimised
        && u64::from(unit) > down
    {
        return Err(Error::UnitTooLarge { unit_nodes: unit.into(), down });
    }
    match fit(request, down, up) {
        Some(solved) => Ok(solved),
        None if lacks_spine(request) => Err(Error::NeedsSpine {
            switch: request.leaf.name.clone(),
            ends: request.node_ends() + u64::from(request.extra_ports),
        }),
        None if !up.is_multiple_of(multiple(request)) => Err(Error::Shape(format!(
            "{up} uplinks of a leaf are not shared evenly by spines in multiples of {}",
            multiple(request)
        ))),
        None => Err(does_not_fit(request)),
    }
}

/// What the spines of a pod are a multiple of.
fn multiple(request: &Request) -> u64 {
    request.spine_multiple.map_or(1, u64::from)
}

/// The spines of a pod: the smallest divisor of a leaf's uplinks that is enough, in the multiples asked for.
fn spines(request: &Request, up: u64, enough: u64) -> Option<u64> {
    divisors(up).into_iter().find(|count| *count >= enough && count.is_multiple_of(multiple(request)))
}

/// Whether nothing can stand above the leaves: their model has ports that only face up.
const fn lacks_spine(request: &Request) -> bool {
    request.leaf.uplinks.is_some() && request.spine.is_none()
}

/// The design of the fewest tiers that fits.
fn fit(request: &Request, down: u64, up: u64) -> Option<Solved> {
    let tiers = request.tiers.map_or(1..=3, |tiers| tiers..=tiers);
    tiers.into_iter().find_map(|tiers| match tiers {
        1 => one_tier(request),
        2 | 3 if !lacks_spine(request) => joined(request, tiers, down, up),
        _ => None,
    })
}

/// Down ports and uplinks of a leaf: the most ports down for which the uplinks carry what the ratio asks.
fn leaf_ports(request: &Request) -> Result<(u64, u64), Error> {
    let leaf = &request.leaf;
    let none = || Error::NoUplink {
        switch: leaf.name.clone(),
        ports: leaf.ports,
        spare: request.spare_ports,
        down: request.oversubscription.down,
        up: request.oversubscription.up,
    };
    let ports = u64::from(leaf.ports.checked_sub(request.spare_ports).ok_or_else(none)?);
    if let Some(uplinks) = leaf.uplinks {
        let down = if ports == 0 { return Err(none()) } else { ports };
        let unit = request.unit_nodes.map_or(down, u64::from).min(down);
        let down = if request.topology == Topology::RailOptimised { unit } else { down };
        return Ok((down, uplinks.ports.into()));
    }
    let share = request.link_speed() / slower(leaf.speed, request.spine_model().speed);
    let (down, up) = split(ports, share, request.oversubscription).ok_or_else(none)?;
    match (request.topology, request.unit_nodes) {
        // A unit smaller than a leaf needs fewer uplinks.
        (Topology::RailOptimised, Some(unit)) if u64::from(unit) < down => {
            Ok((unit.into(), least_up(unit.into(), share, request.oversubscription)))
        }
        _ => Ok((down, up)),
    }
}

/// Speed of a link between two ports.
pub(crate) fn slower(lower: BitsPerSec, upper: BitsPerSec) -> BitsPerSec {
    if lower < upper { lower } else { upper }
}

/// Splits `ports` into down and up; a down link carries `share` of an uplink.
fn split(ports: u64, share: f64, ratio: Ratio) -> Option<(u64, u64)> {
    // The largest `down` for which it and its uplinks fit: both grow together, so halving the interval finds it.
    let (mut low, mut high) = (0, ports);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if middle + least_up(middle, share, ratio) <= ports { low = middle } else { high = middle - 1 }
    }
    (low > 0).then(|| (low, least_up(low, share, ratio)))
}

/// No switch has more ports; what needs more does not fit.
const MAX_UP: u64 = 1 << 20;

/// The fewest uplinks that carry `down` links at this ratio; at least one.
fn least_up(down: u64, share: f64, ratio: Ratio) -> u64 {
    let enough = |up: u64| real(up) * f64::from(ratio.down) >= real(down) * share * f64::from(ratio.up) * (1.0 - 1e-9);
    let (mut low, mut high) = (1, down.max(1));
    // A link up may be slower than one down where spines have faster ports than cores.
    while !enough(high) && high < MAX_UP {
        high *= 2;
    }
    while low < high {
        let middle = u64::midpoint(low, high);
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// All ends on one switch, or each rail on one.
fn one_tier(request: &Request) -> Option<Solved> {
    let ports = u64::from(request.leaf.ports - request.spare_ports);
    let (nodes, rails, extra) = sizes(request);
    // The last number is the ports taken of the fullest switch.
    let (components, attach, managers_at, taken) = match request.topology {
        Topology::RailOnly => (
            rails,
            Attach::RailOnly { per_leaf: ports, rows: 1 },
            Managers::Leaves { first: 0, stride: 1, rails, taken: nodes },
            nodes + extra.div_ceil(rails),
        ),
        Topology::RailOptimised if rails > 1 => return None,
        Topology::RailOptimised
        | Topology::FatTree
        | Topology::KAry { .. }
        | Topology::Dragonfly { .. }
        | Topology::DragonflyPlus { .. }
        | Topology::Torus { .. } => (
            1,
            Attach::Packed { unit_nodes: nodes, unit_leaves: 1, per_leaf: ports, ports: rails },
            Managers::LastUnit { first_leaf: 0, per_leaf: ports, taken: nodes * rails },
            nodes * rails + extra,
        ),
    };
    let clos = Clos {
        planes: request.planes.into(),
        components,
        lanes: 1,
        rows: 1,
        down: ports,
        up: 0,
        up_port: ports,
        pods: 1,
        per_pod: 1,
        spines: 0,
        spine_limit: 0,
        spine_up: 0,
        groups: 1,
        cores: 0,
    };
    (taken <= ports)
        .then_some(Solved { clos, ends: Ends { nodes, ports: rails, managers: extra, attach, managers_at } })
}

fn sizes(request: &Request) -> (u64, u64, u64) {
    (request.nodes.into(), request.ports_per_node.into(), request.extra_ports.into())
}

/// Two or three tiers. Managers take free ports of leaves, else of spines, else leaves of their own.
fn joined(request: &Request, tiers: u32, down: u64, up: u64) -> Option<Solved> {
    let (nodes, ports, extra) = sizes(request);
    let (leaves, attach, on_leaves, free) = leaves(request, tiers, down, 0);
    let clos = spread(request, tiers, &leaves, up);
    let ends = |attach, managers_at| Ends { nodes, ports, managers: extra, attach, managers_at };
    if let Some(clos) = clos {
        if extra <= free {
            return Some(Solved { clos, ends: ends(attach, on_leaves) });
        }
        let first_port = clos.spine_down() + clos.spine_up;
        let free = u64::from(request.spine_model().ports).saturating_sub(first_port) * clos.spine_count();
        if extra <= free {
            let managers_at = Managers::Spines { spines: clos.spine_count(), first_port };
            return Some(Solved { clos, ends: ends(attach, managers_at) });
        }
    }
    let (leaves, attach, on_leaves, free) = self::leaves(request, tiers, down, extra);
    if extra > free {
        return None;
    }
    Some(Solved { clos: spread(request, tiers, &leaves, up)?, ends: ends(attach, on_leaves) })
}

/// Leaves for the nodes and `room` manager ports; how ends plug in; how many managers find a free port there.
fn leaves(request: &Request, tiers: u32, down: u64, room: u64) -> (Leaves, Attach, Managers, u64) {
    let (nodes, ports, _) = sizes(request);
    match request.topology {
        Topology::RailOptimised => {
            let of_nodes = nodes.div_ceil(down);
            let free = (of_nodes * down - nodes) * ports;
            let more = if room > free { room.div_ceil(ports * down) } else { 0 };
            let (first_unit, taken) =
                if more > 0 { (of_nodes, 0) } else { (of_nodes - 1, nodes - (of_nodes - 1) * down) };
            let units = of_nodes + more;
            let managers = Managers::Leaves { first: first_unit * ports, stride: 1, rails: ports, taken };
            // More managers than one unit of leaves holds are refused: nobody has that many.
            let free = if more > 0 { down * ports } else { free };
            let (lanes, rows) = if tiers == 3 { (ports, units) } else { (1, units * ports) };
            let leaves = Leaves { components: 1, lanes, rows, down, pod: request.pod_units.map(u64::from) };
            (leaves, Attach::Rails { unit_nodes: down, rails: ports }, managers, free)
        }
        Topology::RailOnly => {
            let rows = (nodes + room.div_ceil(ports)).div_ceil(down);
            let last = nodes.div_ceil(down) - 1;
            let (row, taken) = if rows > last + 1 { (last + 1, 0) } else { (last, nodes - last * down) };
            let managers = Managers::Leaves { first: row, stride: rows, rails: ports, taken };
            let leaves = Leaves { components: ports, lanes: 1, rows, down, pod: request.pod_units.map(u64::from) };
            (leaves, Attach::RailOnly { per_leaf: down, rows }, managers, (down - taken) * ports)
        }
        Topology::FatTree
        | Topology::KAry { .. }
        | Topology::Dragonfly { .. }
        | Topology::DragonflyPlus { .. }
        | Topology::Torus { .. } => {
            let unit_nodes = request.unit_nodes.map_or(nodes, u64::from).min(nodes.max(1));
            let units = nodes.div_ceil(unit_nodes);
            let room = if units == 1 { room } else { 0 };
            let unit_leaves = (unit_nodes * ports + room).div_ceil(down);
            let taken = (nodes - (units - 1) * unit_nodes) * ports;
            let managers = Managers::LastUnit { first_leaf: (units - 1) * unit_leaves, per_leaf: down, taken };
            let pod_units = request.pod_units.or(request.unit_nodes.map(|_| 1));
            let pod = pod_units.map(|units| u64::from(units) * unit_leaves);
            let leaves = Leaves { components: 1, lanes: 1, rows: units * unit_leaves, down, pod };
            let attach = Attach::Packed { unit_nodes, unit_leaves, per_leaf: down, ports };
            (leaves, attach, managers, unit_leaves * down - taken)
        }
    }
}

/// Spines and cores over these leaves, if the switches have the ports.
fn spread(request: &Request, tiers: u32, leaves: &Leaves, up: u64) -> Option<Clos> {
    let spine_ports = u64::from(request.spine_model().ports);
    let base = Clos {
        planes: request.planes.into(),
        components: leaves.components,
        lanes: leaves.lanes,
        rows: leaves.rows,
        down: leaves.down,
        up,
        up_port: request.leaf.uplinks.map_or(leaves.down, |_| request.leaf.ports.into()),
        pods: 1,
        per_pod: leaves.rows,
        spines: 0,
        spine_limit: spine_ports,
        spine_up: 0,
        groups: 1,
        cores: 0,
    };
    if tiers == 2 {
        let need = (leaves.rows * up).div_ceil(spine_ports);
        return Some(Clos { spines: spines(request, up, need)?, ..base });
    }
    let core_ports = u64::from(request.core_model().ports);
    let spine_speed = request.spine_model().speed;
    let share = slower(request.leaf.up_speed(), spine_speed) / slower(spine_speed, request.core_model().speed);
    let ratio = request.spine_oversubscription;
    let (spine_down, _) = split(spine_ports, share, ratio)?;
    let pod = |per_pod: u64| {
        // A spine has a link to each leaf of its pod. It also bounds what a request may ask for, and the products below.
        if per_pod > spine_down {
            return None;
        }
        let pods = leaves.rows.div_ceil(per_pod) * leaves.lanes;
        let spines = spines(request, up, (per_pod * up).div_ceil(spine_down))?;
        let spine_up = least_up(per_pod * (up / spines), share, ratio);
        let (groups, cores) = core_groups(request.core_groups, pods, spines, spine_up, core_ports)?;
        Some(Clos { pods, per_pod, spines, spine_limit: spine_down, spine_up, groups, cores, ..base })
    };
    if let Some(per_pod) = leaves.pod {
        return pod(per_pod);
    }
    let fewest = leaves.rows.div_ceil(spine_down);
    // One pod a lane is what vendors build. Beyond it an uneven split can cost many spines, so a few more pods are tried.
    let most = if fewest == 1 { 1 } else { (2 * fewest).min(fewest + 64).min(leaves.rows) };
    (fewest..=most)
        .filter_map(|pods| pod(leaves.rows.div_ceil(pods)))
        .min_by_key(|clos| (clos.spine_count() + clos.core_count(), clos.pods))
}

/// Core groups and cores of a group: the fewest cores that serve all uplinks; of equals the fewest groups, so that a lost
/// core takes least from each spine.
fn core_groups(grouping: CoreGroups, pods: u64, spines: u64, spine_up: u64, core_ports: u64) -> Option<(u64, u64)> {
    let cores_of = divisors(spine_up);
    let mut best: Option<(u64, u64)> = None;
    let groupings = match grouping {
        CoreGroups::FewestCores => divisors(spines),
        CoreGroups::EachSpine => vec![spines],
    };
    for groups in groupings {
        let fits = |cores: &&u64| pods * (spines / groups) * (spine_up / **cores) <= core_ports;
        if let Some(cores) = cores_of.iter().find(fits)
            && best.is_none_or(|(many, each)| groups * cores < many * each)
        {
            best = Some((groups, *cores));
        }
    }
    best
}

/// The error, with what would fit.
fn does_not_fit(request: &Request) -> Error {
    let with_ports = |factor: u32| {
        let wider = |switch: &Switch| Switch { ports: switch.ports.saturating_mul(factor), ..switch.clone() };
        let wide = Request {
            leaf: wider(&request.leaf),
            spine: request.spine.as_ref().map(wider),
            core: request.core.as_ref().map(wider),
            ..request.clone()
        };
        leaf_ports(&wide).ok().and_then(|(down, up)| fit(&wide, down, up))
    };
    let mut hints = Vec::new();
    let loose = Request { pod_units: None, ..request.clone() };
    if request.pod_units.is_some() && leaf_ports(&loose).is_ok_and(|(down, up)| fit(&loose, down, up).is_some()) {
        hints.push("pods of another size would fit".to_owned());
    }
    let free = Request { tiers: None, ..request.clone() };
    if request.tiers.is_some()
        && let Ok((down, up)) = leaf_ports(&free)
        && let Some(solved) = fit(&free, down, up)
    {
        hints.push(format!("{} tiers would fit", solved.clos.tiers()));
    } else if request.tiers.is_none() && hints.is_empty() {
        // Each tier above the first multiplies the ends by half of the ports.
        let ends = request.node_ends() + u64::from(request.extra_ports);
        let half = u64::from(request.spine_model().ports / 2).max(2);
        let mut reach = if request.leaf.uplinks.is_some() { 2 } else { 1 } * u64::from(request.leaf.ports);
        let mut tiers = 1;
        while reach < ends {
            reach = reach.saturating_mul(half);
            tiers += 1;
        }
        hints.push(format!("needs {} tiers", tiers.max(4)));
    }
    if let Some(factor) = [2, 4, 8, 16, 32].into_iter().find(|factor| with_ports(*factor).is_some()) {
        let wider = u64::from(request.leaf.ports) * u64::from(factor);
        hints.push(if request.leaf.uplinks.is_some() {
            let spine = u64::from(request.spine_model().ports) * u64::from(factor);
            format!("leaves of {wider} ports under spines of {spine} would fit")
        } else {
            let planes = request.planes * factor;
            format!("a switch of {wider} ports would fit, or {planes} planes with each switch port split into {factor}")
        });
    }
    if hints.is_empty() {
        hints.push("fewer nodes, or several networks, are needed".to_owned());
    }
    Error::DoesNotFit {
        ends: request.node_ends() + u64::from(request.extra_ports),
        tiers: request.tiers.map_or_else(|| "3 tiers".to_owned(), |tiers| format!("{tiers} tiers")),
        switch: request.leaf.name.clone(),
        ports: request.leaf.ports,
        hint: hints.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_split_by_the_ratio() {
        for (ports, share, down, up, expected) in [
            (64, 1.0, 1, 1, Some((32, 32))),
            (63, 1.0, 1, 1, Some((31, 31))),
            (64, 1.0, 3, 1, Some((48, 16))),
            (64, 0.5, 1, 1, Some((42, 21))),
            (36, 1.0, 2, 1, Some((24, 12))),
            (1, 1.0, 1, 1, None),
            (0, 1.0, 1, 1, None),
        ] {
            assert_eq!(split(ports, share, Ratio { down, up }), expected, "{ports} {share} {down}:{up}");
        }
    }

    #[test]
    fn core_groups_are_the_fewest_cores() {
        assert_eq!(core_groups(CoreGroups::FewestCores, 8, 10, 14, 40), Some((2, 14)), "seven units of DGX A100");
        assert_eq!(core_groups(CoreGroups::FewestCores, 8, 16, 32, 64), Some((2, 32)), "16 units of DGX B200");
        assert_eq!(core_groups(CoreGroups::FewestCores, 65, 1, 8, 64), None);
        // DGX GB200, 2 and 16 units of four rails: 6 groups of 3 and of 24.
        assert_eq!(core_groups(CoreGroups::EachSpine, 8, 6, 24, 64), Some((6, 3)));
        assert_eq!(core_groups(CoreGroups::EachSpine, 64, 6, 24, 64), Some((6, 24)));
        assert_eq!(core_groups(CoreGroups::FewestCores, 4, 6, 24, 64), Some((3, 3)));
        assert_eq!(core_groups(CoreGroups::EachSpine, 4, 6, 24, 64), Some((6, 2)), "more cores, all of them in place");
    }
}
