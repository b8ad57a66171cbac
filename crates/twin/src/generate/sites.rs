//! Which nodes fail together: racks, power feeds, switches.
//!
//! Invariant: nodes are numbered so that those of one part stand together, as cables and racks have it; the last part of a
//! kind may be smaller.

use std::ops::Range;

use super::Error;

/// What can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// One node.
    Node,
    /// All nodes of a rack.
    Rack,
    /// All nodes of the racks of a power feed.
    Feed,
    /// All nodes behind a switch.
    Switch,
}

/// A part, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// What it is.
    pub part: Part,
    /// Which of them.
    pub number: u32,
}

/// How many nodes there are, and how many stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sites {
    /// All nodes.
    pub nodes: u32,
    /// Nodes of a rack.
    pub rack: u32,
    /// Nodes of a power feed.
    pub feed: u32,
    /// Nodes behind a switch.
    pub switch: u32,
}

impl Sites {
    /// Refuses parts without nodes.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.rack.min(self.feed).min(self.switch) == 0 {
            return Err(Error { what: "nodes of a rack, feed or switch", want: "1 at least" });
        }
        Ok(())
    }

    fn size(&self, part: Part) -> u32 {
        match part {
            Part::Node => 1,
            Part::Rack => self.rack,
            Part::Feed => self.feed,
            Part::Switch => self.switch,
        }
    }

    /// How many of a kind there are.
    pub fn count(&self, part: Part) -> u32 {
        self.nodes.div_ceil(self.size(part).max(1))
    }

    /// The nodes of a part.
    pub fn nodes(&self, scope: Scope) -> Range<u32> {
        let size = self.size(scope.part).max(1);
        let start = scope.number.saturating_mul(size).min(self.nodes);
        start..start.saturating_add(size).min(self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_in_one_part_of_each_kind() {
        let sites = Sites { nodes: 101, rack: 4, feed: 20, switch: 16 };
        for part in [Part::Node, Part::Rack, Part::Feed, Part::Switch] {
            let all: Vec<u32> = (0..sites.count(part)).flat_map(|number| sites.nodes(Scope { part, number })).collect();
            assert_eq!(all, (0..101).collect::<Vec<_>>(), "{part:?}");
            assert!(sites.nodes(Scope { part, number: u32::MAX }).is_empty());
        }
    }
}
