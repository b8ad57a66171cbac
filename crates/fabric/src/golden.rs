//! Published switch and cable counts, and whether this crate computes the same.
//!
//! Invariant: what is expected never enters the request: source, nodes and their accelerators, units, ports and
//! planes go in, counts of switches and cables come out.
//!
//! A row becomes a rail-optimised [`Request`]: units of half a switch's end ports, one rail for each accelerator of a
//! node. Where nodes are exactly one short of full units, the missing place is that of the fabric managers, which have
//! four cables (DGX `SuperPOD` H100 reference architecture, table 4 and its footnote: 31 nodes, 252 cables). Where
//! accelerators are no multiple of nodes, the row contradicts itself; a node has eight then, and the row matches if all
//! counts of switches and cables that follow from its nodes do. The contradiction is told in [`Report::notes`].
//!
//! Designs of NVL72 racks are recognised by `GB200`, `GB300` or `NVL72` in the source. Their nodes are racks of 72
//! accelerators or compute trays of four; a rack is 18 trays, a tray has four rails. Cable columns of 0 are not compared
//! there, nor in any row without node cables.
//! - `GB200` (NVIDIA RA-11338-001, table 4.1): a rack is a unit, 18 ports down and 18 up; a pod is the eight racks of a
//!   scalable unit in one rail; three tiers, a core group for each spine of a pod.
//! - `Enterprise` (GB300 NVL72 Enterprise reference architecture, tables 6 and 11): two racks share a leaf, and cables are
//!   counted as links of one plane. Spines of a plane come in pairs: an observation that fits all published sizes, of which
//!   72 nodes (8 spines, where 6 would do) is the one that needs it.
//! - the others (DGX GB300) follow the general rule: units of half a switch's ports.

use dh_units::{BitsPerSec, Watts};
use serde::{Deserialize, Deserializer, Serialize};

use crate::design::{Design, design};
use crate::error::Error;
use crate::request::{CoreGroups, Request, Switch, Topology};
use crate::wire::{Role, SegmentKind};

/// Accelerators, and rails, of a DGX node.
const PER_NODE: u32 = 8;
/// Cables of the fabric managers in the H100 design.
const MANAGER_CABLES: u32 = 4;
/// Compute trays of an NVL72 rack.
const TRAYS: u32 = 18;
/// Accelerators, and rails, of a tray.
const PER_TRAY: u32 = 4;
/// Racks of a scalable unit of DGX GB200 and GB300.
const UNIT_RACKS: u32 = 8;
/// Racks that share a leaf in the Enterprise design.
const LEAF_RACKS: u32 = 2;

/// One published design. Columns that a table does not have are 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where it was published.
    pub source: String,
    /// Ports of a switch, at the speed of one plane's link.
    pub switch_radix_end_ports: u32,
    /// Planes.
    pub planes: u32,
    /// Scalable units.
    pub scalable_units: u32,
    /// Nodes.
    pub nodes: u32,
    /// Accelerators; 0 where not given.
    #[serde(default, deserialize_with = "blank_is_zero")]
    pub accelerators: u32,
    /// Leaf switches of all planes.
    #[serde(default, deserialize_with = "blank_is_zero")]
    pub leaf: u64,
    /// Spine switches of all planes.
    #[serde(default, deserialize_with = "blank_is_zero")]
    pub spine: u64,
    /// Core switches of all planes.
    #[serde(default, deserialize_with = "blank_is_zero")]
    pub core: u64,
    /// Cables at the nodes and managers.
    #[serde(default, deserialize_with = "blank_is_zero")]
    pub node_leaf_cables: u64,
    /// Cables between leaves and spines.
    #[serde(default, deserialize_with = "blank_is_zero")]
    pub leaf_spine_cables: u64,
    /// Cables between spines and cores.
    #[serde(default, deserialize_with = "blank_is_zero")]
    pub spine_core_cables: u64,
}

/// An empty cell is a part that a design does not have.
fn blank_is_zero<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(cell: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(cell)?.unwrap_or_default())
}

/// One number that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Which row, from 0.
    pub row: usize,
    /// Which column; `design` if there is no design at all.
    pub field: String,
    /// What was published.
    pub expected: u64,
    /// What this crate computes.
    pub computed: u64,
    /// Why there is no design, if there is none.
    pub error: Option<String>,
}

/// A published figure that the rest of its own row contradicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// Which row, from 0.
    pub row: usize,
    /// Which column.
    pub field: String,
    /// What was published.
    pub published: u64,
    /// What follows from the row's nodes.
    pub computed: u64,
    /// What contradicts what.
    pub note: String,
}

/// The outcome over all rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows looked at.
    pub rows: usize,
    /// Rows of which every number that follows from the nodes is the same.
    pub matched: usize,
    /// Every number that differs.
    pub mismatches: Vec<Mismatch>,
    /// Slips of the sources. Their rows count as matched where nothing else differs.
    pub notes: Vec<Contradiction>,
}

/// Which rules a source follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Nodes of eight accelerators, or as many as the row says.
    General,
    /// NVL72 racks in pods, three tiers.
    Gb200,
    /// NVL72 racks, two of them on a leaf.
    Enterprise,
    /// NVL72 racks by the general rule.
    Nvl72,
}

impl Family {
    fn of(source: &str) -> Self {
        let racks = ["GB200", "GB300", "NVL72"].iter().any(|name| source.contains(name));
        match (racks, source.contains("Enterprise"), source.contains("GB200")) {
            (false, ..) => Self::General,
            (true, true, _) => Self::Enterprise,
            (true, false, true) => Self::Gb200,
            (true, false, false) => Self::Nvl72,
        }
    }
}

/// The request that a row stands for.
pub fn request(row: &Row) -> Request {
    let speed = BitsPerSec(400e9);
    let leaf = Switch {
        name: format!("{} ports", row.switch_radix_end_ports),
        ports: row.switch_radix_end_ports,
        speed,
        power: Watts(0.0),
        price: None,
        height_u: 1,
        uplinks: None,
    };
    let family = Family::of(&row.source);
    let (nodes, per_node) = match family {
        Family::General => (row.nodes, per_node(row)),
        Family::Gb200 | Family::Enterprise | Family::Nvl72 => (trays(row, family), PER_TRAY),
    };
    let base = Request {
        planes: row.planes,
        port_speed: speed * f64::from(row.planes),
        ..Request::new("golden", Topology::RailOptimised, nodes, per_node, leaf)
    };
    match family {
        Family::General => Request { extra_ports: if has_managers(row) { MANAGER_CABLES } else { 0 }, ..base },
        Family::Gb200 => Request {
            unit_nodes: Some(TRAYS),
            pod_units: Some(UNIT_RACKS),
            core_groups: CoreGroups::EachSpine,
            tiers: Some(3),
            ..base
        },
        Family::Enterprise => Request { unit_nodes: Some(LEAF_RACKS * TRAYS), spine_multiple: Some(2), ..base },
        Family::Nvl72 => base,
    }
}

/// Accelerators of a node: what the row says where it is a whole number.
fn per_node(row: &Row) -> u32 {
    match row.accelerators.checked_div(row.nodes) {
        Some(each) if each > 0 && row.accelerators.is_multiple_of(row.nodes) => each,
        _ => PER_NODE,
    }
}

/// Whether one node's place is that of the fabric managers.
fn has_managers(row: &Row) -> bool {
    u64::from(row.nodes) + 1 == u64::from(row.scalable_units) * u64::from(row.switch_radix_end_ports / 2)
}

/// Compute trays of a row whose nodes are racks or trays. Without accelerators they are racks where a scalable unit has as
/// many nodes as racks: 8, in the Enterprise design 1.
fn trays(row: &Row, family: Family) -> u32 {
    let unit_racks = if family == Family::Enterprise { 1 } else { UNIT_RACKS };
    let are_racks = match row.accelerators {
        0 => row.nodes == row.scalable_units.saturating_mul(unit_racks),
        accelerators => row.nodes.checked_mul(TRAYS * PER_TRAY) == Some(accelerators),
    };
    if are_racks { row.nodes.saturating_mul(TRAYS) } else { row.nodes }
}

/// Computes every row and names each number that differs.
pub fn check(rows: &[Row]) -> Report {
    let mut report = Report { rows: rows.len(), ..Report::default() };
    for (index, row) in rows.iter().enumerate() {
        let before = report.mismatches.len();
        let request = request(row);
        compare(index, row, &request, design(&request), &mut report);
        if report.mismatches.len() == before {
            report.matched += 1;
        }
    }
    report
}

fn compare(row: usize, published: &Row, request: &Request, made: Result<Design, Error>, report: &mut Report) {
    let design = match made {
        Ok(design) => design,
        Err(error) => {
            let error = Some(error.to_string());
            report.mismatches.push(Mismatch { row, field: "design".to_owned(), expected: 1, computed: 0, error });
            return;
        }
    };
    let mut differs = |field: &str, expected: u64, computed: u64| {
        if expected != computed {
            report.mismatches.push(Mismatch { row, field: field.to_owned(), expected, computed, error: None });
        }
    };
    for (field, expected, role) in [
        ("leaf", published.leaf, Role::Leaf),
        ("spine", published.spine, Role::Spine),
        ("core", published.core, Role::Core),
    ] {
        differs(field, expected, design.count(role));
    }
    let family = Family::of(&published.source);
    for (field, expected, kind) in [
        ("node_leaf_cables", published.node_leaf_cables, SegmentKind::NodeLeaf),
        ("leaf_spine_cables", published.leaf_spine_cables, SegmentKind::LeafSpine),
        ("spine_core_cables", published.spine_core_cables, SegmentKind::SpineCore),
    ] {
        // A table without node cables has no cable columns; those of racks have no cables of cores either.
        let is_published = expected > 0 || (published.node_leaf_cables > 0 && family == Family::General);
        if is_published {
            let computed = match family {
                Family::Enterprise => design.segment(kind).map_or(0, |segment| segment.links),
                Family::General | Family::Gb200 | Family::Nvl72 => design.cables(kind),
            };
            differs(field, expected, computed);
        }
    }
    // A row without accelerators says nothing about them.
    let (accelerators, computed) = (u64::from(published.accelerators), request.node_ends());
    if accelerators == 0 || accelerators == computed {
        return;
    }
    if published.accelerators.is_multiple_of(published.nodes) {
        differs("accelerators", accelerators, computed);
    } else {
        report.notes.push(Contradiction {
            row,
            field: "accelerators".to_owned(),
            published: accelerators,
            computed,
            note: format!(
                "the source contradicts itself: {accelerators} accelerators are no multiple of {} nodes; {} of {} each \
                 are {computed}",
                published.nodes, request.nodes, request.ports_per_node
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, UnitDeserializer};

    use super::blank_is_zero;

    #[test]
    fn an_empty_cell_is_zero() {
        assert_eq!(blank_is_zero::<_, u64>(UnitDeserializer::<Error>::new()), Ok(0));
    }
}
