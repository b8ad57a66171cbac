//! A design in the ledger: every count with the formula that made it, numbers filled in, down to what was asked for.
//!
//! Ids: `network.NAME.leaf`, `.spine`, `.core`, `.cables.node-leaf`, `.cables.leaf-spine`, `.bisection`, `.power`, `.price`,
//! `.loss.spine.bisection`, and so on.
//! Invariant: values come from the [`Design`]; this module computes nothing but its texts.

use dh_units::{Ledger, Value, real};

use crate::attach::Attach;
use crate::clos::Clos;
use crate::design::{Design, Shape};
use crate::groups::Groups;
use crate::request::{CoreGroups, Request, Topology};
use crate::solve::Solved;
use crate::torus::Torus;
use crate::wire::{Role, SegmentKind};

/// The ledger, and the network that is written into it.
struct Page<'a> {
    ledger: &'a mut Ledger,
    prefix: String,
    source: &'a str,
}

impl Page<'_> {
    fn id(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn given<T: Copy + Into<Value>>(&mut self, name: &str, title: &str, value: T) {
        let id = self.id(name);
        self.ledger.given(&id, title, value, self.source);
    }

    fn derived<T: Copy + Into<Value>>(&mut self, name: &str, title: &str, value: T, formula: String, inputs: &[&str]) {
        let ids: Vec<String> = inputs.iter().map(|input| self.id(input)).collect();
        // What a shape does not have is not an input of its counts.
        let known: Vec<&str> = ids.iter().map(String::as_str).filter(|id| self.ledger.get(id).is_some()).collect();
        let id = self.id(name);
        self.ledger.derived(&id, title, value, formula, &known);
    }
}

impl Design {
    /// Writes its numbers into `ledger` under `network.NAME`; `source` says where the request was written.
    /// # Panics
    /// If a network of this name is in the ledger: a mistake of the program.
    pub fn record(&self, request: &Request, source: &str, ledger: &mut Ledger) {
        let mut page = Page { ledger, prefix: format!("network.{}", self.name), source };
        page.given("nodes", "nodes", request.nodes);
        page.given("ports-per-node", "ports of a node", request.ports_per_node);
        page.given("port-speed", "speed of a node port", request.port_speed);
        page.given("planes", "planes", request.planes);
        if request.leaf.uplinks.is_none() {
            page.given("oversubscription", "down to up at the leaf", request.oversubscription.as_f64());
        }
        page.given("spine-oversubscription", "down to up at the spine", request.spine_oversubscription.as_f64());
        if let Some(units) = request.pod_units {
            page.given("pod-units", "scalable units of a pod", units);
        }
        if let Some(multiple) = request.spine_multiple {
            page.given("spine-multiple", "what the spines of a pod are a multiple of", multiple);
        }
        page.given("manager-ports", "ports of fabric managers", request.extra_ports);
        page.given("spare-ports", "ports left free on each leaf", request.spare_ports);
        for tier in &self.tiers {
            let role = tier.role.name();
            let from = format!("model {}", tier.switch.name);
            let id = |name: &str| format!("{}.{role}-model.{name}", page.prefix);
            page.ledger.given(&id("ports"), "ports of a switch", tier.switch.ports, &from);
            page.ledger.given(&id("power"), "rated power of a switch", tier.switch.power, &from);
            if let Some(uplinks) = tier.switch.uplinks.filter(|_| tier.role == Role::Leaf) {
                page.ledger.given(&id("uplinks"), "uplink ports of a switch", uplinks.ports, &from);
                page.ledger.given(&id("uplink-speed"), "speed of an uplink port", uplinks.speed, &from);
            }
            if let Some(price) = tier.switch.price {
                page.ledger.given(&id("price"), "price of a switch", price, &from);
            }
        }
        match &self.shape {
            Shape::Clos(solved, _) => self.record_clos(request, solved, &mut page),
            Shape::Groups(groups) => self.record_groups(groups, &mut page),
            Shape::Torus(torus) => record_torus(torus, &mut page),
        }
        self.record_sums(request, &mut page);
        self.record_losses(&mut page);
    }

    fn record_clos(&self, request: &Request, solved: &Solved, page: &mut Page<'_>) {
        let (clos, ends) = (&solved.clos, &solved.ends);
        let planes = planes_of(clos.planes);
        self.record_leaf_ports(request, clos, page);
        let all = ends.nodes * ends.ports + ends.managers;
        let leaf = match (request.topology, ends.attach) {
            (Topology::KAry { k }, _) => format!("{k} pods x {k} / 2 edge switches{planes}"),
            (_, Attach::Rails { unit_nodes, rails }) => {
                format!("{} units of {unit_nodes} nodes x {rails} rails{planes}", clos.leaf_count() / rails)
            }
            (_, Attach::Packed { unit_nodes, unit_leaves, ports, .. }) => {
                let units = clos.leaf_count() / unit_leaves;
                if units == 1 {
                    format!("ceil({all} ends / {} down){planes}", clos.down)
                } else {
                    format!("{units} units x ceil({unit_nodes} nodes x {ports} ports / {} down){planes}", clos.down)
                }
            }
            (_, Attach::RailOnly { per_leaf, rows }) => {
                format!("{} rails x {rows} leaves of {per_leaf} nodes{planes}", ends.ports)
            }
        };
        let sizes = ["nodes", "ports-per-node", "manager-ports", "planes", "leaf-down"];
        page.derived("leaf", "leaf switches", self.count(Role::Leaf), leaf, &sizes);
        if clos.spines > 0 {
            let pods = clos.components * clos.pods;
            let (name, role, formula) = if let Topology::KAry { k } = request.topology {
                ("aggregation", Role::Aggregation, format!("{k} pods x {k} / 2{planes}"))
            } else {
                let multiple =
                    request.spine_multiple.map_or(String::new(), |multiple| format!("a multiple of {multiple} and "));
                let formula = format!(
                    "{pods} pods x {} spines, the smallest divisor of {} that is {multiple}at least ceil({} leaves x {} \
                     uplinks / {} ports){planes}",
                    clos.spines, clos.up, clos.per_pod, clos.up, clos.spine_limit
                );
                ("spine", Role::Spine, formula)
            };
            let inputs = [
                "leaf",
                "leaf-down",
                "leaf-model.uplinks",
                "pod-units",
                "spine-multiple",
                "planes",
                "spine-model.ports",
                "spine-oversubscription",
            ];
            page.derived(name, "spine switches", self.count(role), formula, &inputs);
        }
        if clos.cores > 0 {
            let grouping = match request.core_groups {
                CoreGroups::EachSpine if !matches!(request.topology, Topology::KAry { .. }) => {
                    ", one for each spine of a pod,"
                }
                CoreGroups::EachSpine | CoreGroups::FewestCores => "",
            };
            let formula = format!(
                "{} groups{grouping} x {} cores, the fewest of {} ports for {} spines x {} uplinks{planes}",
                clos.components * clos.groups,
                clos.cores,
                request.core_model().ports,
                clos.spine_count(),
                clos.spine_up
            );
            let inputs = ["spine", "aggregation", "planes", "core-model.ports", "spine-oversubscription"];
            page.derived("core", "core switches", self.count(Role::Core), formula, &inputs);
        }
        let per_cable = if clos.planes == 1 { String::new() } else { format!(" / {} links of a cable", clos.planes) };
        page.derived(
            "cables.node-leaf",
            "cables at nodes and managers",
            self.cables(SegmentKind::NodeLeaf),
            format!("{} nodes x {} ports + {} managers", ends.nodes, ends.ports, ends.managers),
            &["nodes", "ports-per-node", "manager-ports"],
        );
        if clos.spines > 0 {
            let leaves = self.count(Role::Leaf);
            page.derived(
                "cables.leaf-spine",
                "cables from leaves to spines",
                self.cables(SegmentKind::LeafSpine),
                format!("{leaves} leaves x {} uplinks{per_cable}", clos.up),
                &["leaf", "leaf-down", "leaf-model.uplinks", "planes"],
            );
        }
        if clos.cores > 0 {
            let spines = clos.planes * clos.spine_count();
            page.derived(
                "cables.spine-core",
                "cables from spines to cores",
                self.cables(SegmentKind::SpineCore),
                format!("{spines} spines x {} uplinks{per_cable}", clos.spine_up),
                &["spine", "aggregation", "planes"],
            );
        }
    }

    /// How a leaf's ports are shared between nodes and the tier above.
    fn record_leaf_ports(&self, request: &Request, clos: &Clos, page: &mut Page<'_>) {
        let radix = request.leaf.ports;
        page.derived(
            "leaf-down",
            "ports of a leaf that face nodes",
            clos.down,
            match request.leaf.uplinks {
                Some(_) => {
                    format!("of {radix} ports beside the uplinks, {} spare: {} down", request.spare_ports, clos.down)
                }
                None => {
                    format!("of {radix} ports, {} spare: {} down and {} up", request.spare_ports, clos.down, clos.up)
                }
            },
            &["leaf-model.ports", "oversubscription", "spare-ports"],
        );
        if let (Some(uplinks), Some(segment)) = (request.leaf.uplinks, self.segment(SegmentKind::LeafSpine)) {
            let (down, up) = (request.link_speed() * real(clos.down), segment.speed * real(clos.up));
            page.derived(
                "oversubscription",
                "down to up at the leaf",
                down / up,
                format!(
                    "{} x {} / ({} x {}, the slower of {} and a spine's port)",
                    clos.down,
                    request.link_speed(),
                    clos.up,
                    segment.speed,
                    uplinks.speed
                ),
                &["leaf-down", "port-speed", "planes", "leaf-model.uplinks", "leaf-model.uplink-speed"],
            );
        }
    }

    fn record_groups(&self, groups: &Groups, page: &mut Page<'_>) {
        let ends = groups.nodes * groups.ports + groups.managers;
        let sizes = ["nodes", "ports-per-node", "manager-ports", "planes"];
        page.derived(
            "groups",
            "groups of one plane",
            groups.count,
            format!("{ends} ends, {} switches of {} ends in a group", groups.lower, groups.hosts),
            &sizes,
        );
        for tier in &self.tiers {
            let each = if tier.role == Role::Spine { groups.upper } else { groups.lower };
            let role = tier.role.name();
            page.derived(
                role,
                &format!("{role} switches"),
                tier.count,
                format!("{} groups x {each} x {} planes", groups.count, groups.planes),
                &["groups", "planes"],
            );
        }
        for segment in &self.segments {
            let formula = match segment.kind {
                SegmentKind::NodeLeaf => format!("{ends} ends"),
                SegmentKind::Global => format!(
                    "{} groups x {} others / 2 x {} links x {} planes",
                    groups.count,
                    groups.count - 1,
                    groups.between,
                    groups.planes
                ),
                SegmentKind::LeafSpine
                | SegmentKind::SpineCore
                | SegmentKind::Local
                | SegmentKind::NodeNode
                | SegmentKind::NodeOcs => format!(
                    "{} groups x {} links x {} planes",
                    groups.count,
                    segment.links / groups.count / groups.planes,
                    groups.planes
                ),
            };
            let name = segment.kind.name();
            page.derived(
                &format!("cables.{name}"),
                &format!("cables, {name}"),
                segment.cables,
                formula,
                &["groups", "nodes", "ports-per-node", "planes"],
            );
        }
    }

    fn record_sums(&self, request: &Request, page: &mut Page<'_>) {
        let bisection = self.bisection();
        let roles: Vec<&str> = self.tiers.iter().map(|tier| tier.role.name()).collect();
        let mut cables: Vec<String> =
            self.segments.iter().map(|segment| format!("cables.{}", segment.kind.name())).collect();
        cables.extend(["nodes", "ports-per-node", "port-speed", "leaf-model.uplink-speed"].map(str::to_owned));
        let of_cut: Vec<&str> = cables.iter().map(String::as_str).collect();
        page.derived(
            "bisection.full",
            "what half of the node ports can send",
            bisection.full,
            format!("{} nodes x {} ports x {} / 2", request.nodes, request.ports_per_node, request.port_speed),
            &["nodes", "ports-per-node", "port-speed"],
        );
        page.derived(
            "bisection",
            "bandwidth between halves, one direction",
            bisection.bandwidth,
            self.cut_formula(),
            &of_cut,
        );
        page.derived(
            "bisection.ratio",
            "share of full bisection",
            bisection.ratio,
            format!("{} / {}", bisection.bandwidth, bisection.full),
            &["bisection", "bisection.full"],
        );
        let hops = self.hops();
        page.derived(
            "hops.worst",
            "switches between the farthest ends",
            hops.worst,
            format!("{} tiers of switches", self.tiers.len()),
            &roles,
        );
        if let Some(mean) = hops.mean {
            page.derived(
                "hops.mean",
                "switches between two ends, mean",
                mean,
                "mean over all pairs of node ports".to_owned(),
                &roles,
            );
        }
        let sum = |each: &dyn Fn(&crate::design::Tier) -> String| {
            let terms: Vec<String> = self.tiers.iter().map(each).collect();
            if terms.is_empty() { "no switches".to_owned() } else { terms.join(" + ") }
        };
        let inputs = |field: &str| -> Vec<String> {
            let models = roles.iter().map(|role| format!("{role}-model.{field}"));
            roles.iter().map(|role| (*role).to_owned()).chain(models).collect()
        };
        let of_power = inputs("power");
        let of_power: Vec<&str> = of_power.iter().map(String::as_str).collect();
        let formula = sum(&|tier| format!("{} x {}", tier.count, tier.switch.power));
        page.derived("power", "rated power of the switches, without optics", self.power(), formula, &of_power);
        if let Some(price) = self.price() {
            let of_price = inputs("price");
            let of_price: Vec<&str> = of_price.iter().map(String::as_str).collect();
            let formula =
                sum(&|tier| tier.switch.price.map_or_else(String::new, |price| format!("{} x {price}", tier.count)));
            page.derived("price", "price of the switches", price, formula, &of_price);
        }
    }

    /// What crosses a cut into halves, tier by tier.
    fn cut_formula(&self) -> String {
        match &self.shape {
            Shape::Clos(..) => {
                let terms = self
                    .segments
                    .iter()
                    .map(|segment| format!("{} {} x {}", segment.links, segment.kind.name(), segment.speed));
                format!("least of {} links / 2", terms.collect::<Vec<_>>().join(", "))
            }
            Shape::Groups(groups) => {
                format!("{} links cross a cut into halves of {} groups", groups.cut_links(), groups.count)
            }
            Shape::Torus(torus) => format!("{} links cross a cut of the longest axis", torus.cut_links()),
        }
    }

    fn record_losses(&self, page: &mut Page<'_>) {
        for loss in self.losses() {
            let part = loss.part.name();
            let inputs = ["bisection", "leaf", "spine", "core", "aggregation", "router", "ocs", "nodes", "planes"];
            page.derived(
                &format!("loss.{part}.nodes"),
                &format!("nodes that lose bandwidth with one {part}"),
                loss.nodes,
                format!("nodes that send through one {part}"),
                &inputs,
            );
            page.derived(
                &format!("loss.{part}.bandwidth"),
                "share that each of them loses",
                loss.bandwidth_lost,
                "its traffic spread evenly over what remains".to_owned(),
                &inputs,
            );
            page.derived(
                &format!("loss.{part}.bisection"),
                "share of the bisection that is left",
                loss.bisection_left,
                "the least tier's share without it".to_owned(),
                &inputs,
            );
        }
    }
}

fn record_torus(torus: &Torus, page: &mut Page<'_>) {
    let [x, y, z] = torus.dims;
    if let Some(side) = torus.cube {
        page.derived(
            "ocs",
            "optical circuit switches",
            torus.switches(),
            format!("3 axes x {side} x {side} links of a cube's face; {} ports of each in use", 2 * torus.cubes()),
            &["nodes"],
        );
        page.derived(
            "cables.node-ocs",
            "optical cables",
            torus.optical(),
            format!("{} cubes x 6 faces x {side} x {side}", torus.cubes()),
            &["nodes"],
        );
    }
    page.derived(
        "cables.node-node",
        "electrical cables",
        torus.electrical(),
        format!("links of a {x} x {y} x {z} torus that stay within a cube, or all where there are no cubes"),
        &["nodes"],
    );
}

/// ` x 2 planes`, where there are several.
fn planes_of(planes: u64) -> String {
    if planes == 1 { String::new() } else { format!(" x {planes} planes") }
}

#[cfg(test)]
mod tests {
    use dh_units::{BitsPerSec, Usd, Watts};
    use expect_test::expect;

    use super::*;
    use crate::{Switch, design};

    fn written(topology: Topology, nodes: u32, ports: u32) -> Ledger {
        let leaf = Switch {
            name: "qm9700".to_owned(),
            ports: 64,
            speed: BitsPerSec(4e11),
            power: Watts(1_000.0),
            price: Some(Usd(30_000.0)),
            height_u: 1,
            uplinks: None,
        };
        let request = Request::new("compute", topology, nodes, ports, leaf);
        let mut ledger = Ledger::new();
        design(&request).unwrap().record(&request, "hall.toml:12", &mut ledger);
        ledger
    }

    #[test]
    fn counts_come_with_their_formula() {
        let ledger = written(Topology::RailOptimised, 512, 8);
        let told: Vec<String> = ledger
            .numbers()
            .iter()
            .filter(|number| !number.formula.is_empty() && !number.id.contains(".loss."))
            .map(|number| format!("{} = {} = {}", number.id, number.value, number.formula))
            .collect();
        expect![[r"
            network.compute.leaf-down = 32 = of 64 ports, 0 spare: 32 down and 32 up
            network.compute.leaf = 128 = 16 units of 32 nodes x 8 rails
            network.compute.spine = 128 = 8 pods x 16 spines, the smallest divisor of 32 that is at least ceil(16 leaves x 32 uplinks / 32 ports)
            network.compute.core = 64 = 2 groups x 32 cores, the fewest of 64 ports for 128 spines x 32 uplinks
            network.compute.cables.node-leaf = 4,096 = 512 nodes x 8 ports + 0 managers
            network.compute.cables.leaf-spine = 4,096 = 128 leaves x 32 uplinks
            network.compute.cables.spine-core = 4,096 = 128 spines x 32 uplinks
            network.compute.bisection.full = 819 Tb/s = 512 nodes x 8 ports x 400 Gb/s / 2
            network.compute.bisection = 819 Tb/s = least of 4096 node-leaf x 400 Gb/s, 4096 leaf-spine x 400 Gb/s, 4096 spine-core x 400 Gb/s links / 2
            network.compute.bisection.ratio = 1 = 819 Tb/s / 819 Tb/s
            network.compute.hops.worst = 5 = 3 tiers of switches
            network.compute.hops.mean = 4.74 = mean over all pairs of node ports
            network.compute.power = 320 kW = 128 x 1 kW + 128 x 1 kW + 64 x 1 kW
            network.compute.price = $9.6 M = 128 x $30000 + 128 x $30000 + 64 x $30000"]].assert_eq(&told.join("\n"));
    }

    #[test]
    fn formulas_name_planes_only_where_there_are_several() {
        assert_eq!(planes_of(1), "");
        assert_eq!(planes_of(2), " x 2 planes");
    }

    #[test]
    fn every_shape_can_be_followed_to_what_was_given() {
        for (topology, nodes, ports) in [
            (Topology::RailOptimised, 40, 8),
            (Topology::FatTree, 500, 1),
            (Topology::RailOnly, 100, 4),
            (Topology::KAry { k: 8 }, 100, 1),
            (Topology::Dragonfly { hosts: 4, routers: 8, global: 4, groups: None }, 500, 1),
            (Topology::DragonflyPlus { hosts: 4, leaves: 4, spines: 4, global: 4, groups: None }, 60, 1),
            (Topology::Torus { dims: [8, 8, 4], cube: Some(4) }, 256, 6),
        ] {
            let ledger = written(topology, nodes, ports);
            for number in ledger.numbers() {
                assert!(number.source.is_some() || !number.inputs.is_empty(), "{} rests on nothing", number.id);
            }
            assert!(ledger.get("network.compute.bisection").is_some());
        }
    }
}
