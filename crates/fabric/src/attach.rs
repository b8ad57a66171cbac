//! Where the ends of a Clos plug in: which leaf and port each node port and each manager has.
//!
//! Invariant: two ends of one plane never share a port; nodes come first, managers take what is free after them.

/// How node ports are spread over the leaves of one plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attach {
    /// Port `r` of a unit's nodes goes to leaf `r` of the unit.
    Rails { unit_nodes: u64, rails: u64 },
    /// Node ports of a unit fill its leaves one after the other.
    Packed { unit_nodes: u64, unit_leaves: u64, per_leaf: u64, ports: u64 },
    /// Port `r` goes to network `r`, whose leaves nodes fill one after the other.
    RailOnly { per_leaf: u64, rows: u64 },
}

/// What the manager ports plug into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Managers {
    /// Free down ports of the last leaves: `rails` leaves from `first` on, from port `taken` on.
    Leaves { first: u64, stride: u64, rails: u64, taken: u64 },
    /// Down ports of the leaves after the last node's, one leaf after the other, from end `taken` of the last unit on.
    LastUnit { first_leaf: u64, per_leaf: u64, taken: u64 },
    /// Free ports of the spines, one each in turn, from port `first_port` on.
    Spines { spines: u64, first_port: u64 },
}

impl Attach {
    /// Leaf and port of a node's port, within one plane.
    pub(crate) fn leaf(self, node: u64, port: u64) -> (u64, u64) {
        match self {
            Self::Rails { unit_nodes, rails } => (node / unit_nodes * rails + port, node % unit_nodes),
            Self::Packed { unit_nodes, unit_leaves, per_leaf, ports } => {
                let end = node % unit_nodes * ports + port;
                (node / unit_nodes * unit_leaves + end / per_leaf, end % per_leaf)
            }
            Self::RailOnly { per_leaf, rows } => (port * rows + node / per_leaf, node % per_leaf),
        }
    }
}

impl Managers {
    /// Whether it is a leaf, the switch's index within one plane, and the port.
    pub(crate) fn place(self, manager: u64) -> (bool, u64, u64) {
        match self {
            Self::Leaves { first, stride, rails, taken } => {
                (true, first + manager % rails * stride, taken + manager / rails)
            }
            Self::LastUnit { first_leaf, per_leaf, taken } => {
                let end = taken + manager;
                (true, first_leaf + end / per_leaf, end % per_leaf)
            }
            Self::Spines { spines, first_port } => (false, manager % spines, first_port + manager / spines),
        }
    }
}
