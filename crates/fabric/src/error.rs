//! Why a network cannot be built, and what could be.

use dh_core::{HasKind, Kind};
use dh_units::BitsPerSec;

/// Why a request has no design.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A count that must be at least one is zero.
    #[error("{what} must be more than zero")]
    Zero {
        /// Which count.
        what: String,
    },
    /// More than this crate counts.
    #[error("{what}: {value} is more than {limit}")]
    TooLarge {
        /// What.
        what: String,
        /// How much was asked for.
        value: u64,
        /// How much is possible.
        limit: u64,
    },
    /// Half of the ports must face down and half up.
    #[error("switch `{switch}` has {ports} ports; an even number is needed, leave one unused")]
    OddRadix {
        /// The model.
        switch: String,
        /// Its ports.
        ports: u32,
    },
    /// A ratio below one, or so thin that it joins nothing.
    #[error("an oversubscription of {down}:{up} is not between 1:1 and 1000:1")]
    BadRatio {
        /// Down share.
        down: u32,
        /// Up share.
        up: u32,
    },
    /// A switch port is slower than the link of a node.
    #[error("a port of switch `{switch}` carries {speed}, a node's link needs {needed}")]
    PortTooSlow {
        /// The model.
        switch: String,
        /// Speed of its ports.
        speed: BitsPerSec,
        /// Speed of a node port in one plane.
        needed: BitsPerSec,
    },
    /// Spare ports and oversubscription leave a switch without a port up or down.
    #[error(
        "switch `{switch}` has {ports} ports; {spare} spare and {down}:{up} leave none for nodes or none for uplinks"
    )]
    NoUplink {
        /// The model.
        switch: String,
        /// Its ports.
        ports: u32,
        /// Ports to be left free.
        spare: u32,
        /// Down share.
        down: u32,
        /// Up share.
        up: u32,
    },
    /// A leaf's uplink ports face up only: such switches need others above them.
    #[error("{ends} ends need spines above leaves `{switch}`, whose uplinks face up only: a spine model is needed")]
    NeedsSpine {
        /// The leaf model.
        switch: String,
        /// End ports of one plane.
        ends: u64,
    },
    /// A scalable unit has more nodes than a leaf has ports for.
    #[error("a unit of {unit_nodes} nodes does not fit a leaf with {down} ports for nodes")]
    UnitTooLarge {
        /// Nodes of the unit.
        unit_nodes: u64,
        /// Ports of a leaf that face nodes.
        down: u64,
    },
    /// Too many ends for the switches and tiers.
    #[error("{ends} ends do not fit {tiers} of `{switch}` with {ports} ports: {hint}")]
    DoesNotFit {
        /// End ports of one plane.
        ends: u64,
        /// Which tiers were tried: `3 tiers`.
        tiers: String,
        /// The leaf model.
        switch: String,
        /// Its ports.
        ports: u32,
        /// What would fit.
        hint: String,
    },
    /// The numbers of a shape contradict each other or the switch.
    #[error("{0}")]
    Shape(String),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Zero { .. } | Self::OddRadix { .. } | Self::BadRatio { .. } => Kind::Invalid,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::PortTooSlow { .. }
            | Self::NoUplink { .. }
            | Self::NeedsSpine { .. }
            | Self::UnitTooLarge { .. }
            | Self::DoesNotFit { .. }
            | Self::Shape(_) => Kind::Infeasible,
        }
    }
}
