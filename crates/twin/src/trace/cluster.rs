//! The cluster that a trace brings with it, or that its publication states.
//!
//! Invariant: a class or a pool of a node group is a place in the table beside it; the source of the numbers is named.

use super::error::Fault;
use super::names::{Name, Names};

/// Classes of accelerators, at most: one bit each, and one for all that no node has.
pub(crate) const CLASSES_MAX: usize = 31;

/// The bit of the classes that no node has.
pub(crate) const ELSEWHERE: u32 = 1 << 31;

/// Equal nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeGroup {
    /// How many.
    pub count: u32,
    /// Accelerators of each.
    pub accelerators: u32,
    /// Thousandths of a core of each; 0 if the trace does not say.
    pub cpu_milli: u32,
    /// Memory of each, MiB; 0 if the trace does not say.
    pub memory_mib: u32,
    /// Which class its accelerators are; none if there are none, or the trace does not say.
    pub class: Option<u8>,
    /// Whose they are (a virtual cluster), if they are not for all.
    pub pool: Option<Name>,
}

/// Nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Classes of accelerators by place; lengths of jobs are those on the first unless a note says otherwise.
    pub classes: Vec<String>,
    /// Pools by place.
    pub pools: Names,
    /// Groups in the order in which nodes are numbered.
    pub nodes: Vec<NodeGroup>,
    /// Nodes of one rack, where it is known.
    pub rack_nodes: Option<u32>,
    /// Where the numbers come from; empty if there is no cluster.
    pub source: &'static str,
}

impl Cluster {
    /// Equal nodes of a class without a name.
    pub(crate) fn equal(source: &'static str, count: u32, accelerators: u32) -> Self {
        let group = NodeGroup { count, accelerators, cpu_milli: 0, memory_mib: 0, class: None, pool: None };
        Self { nodes: vec![group], source, ..Self::default() }
    }

    /// The class called `name`, which is added if it is new.
    pub(crate) fn class(&mut self, name: &str) -> Result<u8, Fault> {
        let place = match self.classes.iter().position(|known| known == name) {
            Some(place) => place,
            None if self.classes.len() >= CLASSES_MAX => return Err(Fault::Names(CLASSES_MAX)),
            None => {
                self.classes.push(name.to_owned());
                self.classes.len() - 1
            }
        };
        Ok(u8::try_from(place).unwrap_or(u8::MAX))
    }

    /// The bit of a class that is known, or that of all others.
    pub(crate) fn bit(&self, name: &str) -> u32 {
        self.classes.iter().position(|known| known == name).map_or(ELSEWHERE, |place| 1_u32 << place.min(31))
    }

    /// Adds a node; one that equals the last is counted with it.
    pub(crate) fn add(&mut self, node: NodeGroup) {
        match self.nodes.last_mut() {
            Some(last) if (NodeGroup { count: node.count, ..*last }) == node => {
                last.count = last.count.saturating_add(node.count);
            }
            Some(_) | None => self.nodes.push(node),
        }
    }

    /// Nodes.
    pub fn count(&self) -> u64 {
        self.nodes.iter().map(|group| u64::from(group.count)).sum()
    }

    /// Accelerators.
    pub fn accelerators(&self) -> u64 {
        self.nodes.iter().map(|group| u64::from(group.count) * u64::from(group.accelerators)).sum()
    }

    /// Accelerators of the largest node; `otherwise` if there is none.
    pub fn largest_node(&self, otherwise: u32) -> u32 {
        self.nodes.iter().map(|group| group.accelerators).max().filter(|most| *most > 0).unwrap_or(otherwise)
    }
}
