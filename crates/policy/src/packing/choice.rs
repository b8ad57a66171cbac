//! Where a request went, where it may go, and why a place is refused.

use serde::{Deserialize, Serialize};

use super::{ACCELERATORS_MAX, Request, WHOLE};

/// A request as it was placed: what gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The node, by the order in which nodes were added.
    pub node: usize,
    /// The accelerators of the node, a bit each, the lowest for the first.
    pub accelerators: u16,
    /// What it takes there: of each accelerator as much.
    pub request: Request,
}

impl Place {
    /// Whether it has as many accelerators as its request asks for, and no more of each than there is.
    pub(super) fn is_sound(&self) -> bool {
        self.accelerators.count_ones() == u32::from(self.request.accelerators) && self.request.milli <= WHOLE
    }

    /// The numbers of its accelerators, from 0.
    pub fn indices(&self) -> impl Iterator<Item = usize> + use<> {
        let accelerators = self.accelerators;
        (0..ACCELERATORS_MAX).filter(move |at| accelerators & (1 << at) != 0)
    }
}

/// Where a request may go, and where it would rather go.
pub trait Choice {
    /// Whether it may go to `node`.
    fn allows(&self, node: usize) -> bool;

    /// Among nodes that the policy thinks equal, the one with the least rank is taken; then that of the fullest rack.
    fn rank(&self, _node: usize) -> u64 {
        0
    }
}

impl<F: Fn(usize) -> bool> Choice for F {
    fn allows(&self, node: usize) -> bool {
        self(node)
    }
}

/// Why a place is refused. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no such node.
    NoNode,
    /// The node is out of service, or in service already.
    Service,
    /// What is asked for is not free there.
    Taken,
    /// What is given back was never taken there.
    NotHeld,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoNode => "there is no such node",
            Self::Service => "the node is out of service, or in service already",
            Self::Taken => "what is asked for is not free on the node",
            Self::NotHeld => "what is given back was not taken on the node",
        })
    }
}

impl std::error::Error for Refused {}
