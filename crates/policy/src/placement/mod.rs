//! Where the ranks of a gang go. One file per policy, one line in [`POLICIES`].
//!
//! Invariant: all ranks or none; the same fleet and need give the same nodes. A policy never fails where counting on the
//! nodes themselves says that the gang fits.

mod best_fit;
mod boxes;
mod data_local;
mod energy;
mod heterogeneity;
mod misfit;
mod parts;
mod rails;
mod shaped;
mod single;
mod topology;

use dh_core::NodeId;
use serde::{Deserialize, Serialize};

pub use boxes::nearest as nearest_box;
pub(crate) use boxes::{accepts, split};
pub use heterogeneity::Speeds;
pub use misfit::{Misfit, misfit};
pub use shaped::Shaped;
pub use topology::within;

use crate::fleet::{Fleet, Level, Mask, Slice, View};
use crate::packing::{Request, WHOLE};
use crate::torus::Asked;

/// What a gang needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Need {
    /// Ranks of the gang.
    pub ranks: u32,
    /// What each rank needs, all on one node.
    pub rank: Request,
    /// All ranks in one domain of this level; 0 leaves the choice.
    pub within: Level,
    /// Which accelerators of a node the ranks get.
    pub rails: Rails,
}

impl Need {
    /// Whether each rank wants a part of one accelerator.
    pub fn is_part(&self) -> bool {
        self.rank.accelerators == 1 && self.rank.milli < WHOLE
    }

    /// The box that it asks for.
    pub const fn asked(&self) -> Option<&Asked> {
        match &self.rails {
            Rails::Box(asked) => Some(asked),
            Rails::Any | Rails::Aligned | Rails::Slice(_) => None,
        }
    }
}

/// Which accelerators the ranks get, of a node and beside each other. Accelerator `n` of every node hangs on rail `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rails {
    /// Any.
    #[default]
    Any,
    /// The same ones on every node, so that ranks talk within their rails.
    Aligned,
    /// Those that together are a box of a torus. Each rank gets the part of the box that is on one node.
    Box(Asked),
    /// Each rank gets a slice of one accelerator.
    Slice(Slice),
}

/// What else a placement may look at. Node lists are sorted.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What counts as free.
    pub view: View,
    /// Nodes where the job's data is warm.
    pub warm: &'a [NodeId],
    /// Nodes that must not be used.
    pub never: &'a [NodeId],
    /// Whether a node that sleeps costs more than spreading.
    pub wake: Wake,
    /// How fast the job and others run on each class of accelerators.
    pub speeds: Speeds<'a>,
}

/// Whether a placement looks at how fast gangs run on each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// It does.
    Asked,
    /// It does not.
    Ignored,
}

/// What a node that sleeps is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wake {
    /// As much as any.
    Freely,
    /// It is used only if the gang fits nowhere else.
    Last,
}

impl Context<'_> {
    /// Everything in `view`, and no preference.
    pub const fn plain(view: View) -> Self {
        Self { view, warm: &[], never: &[], wake: Wake::Freely, speeds: Speeds::UNKNOWN }
    }
}

/// Ranks on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The node.
    pub node: NodeId,
    /// Ranks of the gang that go there; at least one.
    pub ranks: u32,
    /// Which accelerators, a bit each, for the ranks together; 0 leaves the choice.
    pub accelerators: Mask,
}

impl Share {
    /// The accelerators of rank `rank` of those here, `per` of them: the lowest for the first. 0 leaves the choice.
    pub fn of_rank(&self, rank: u32, per: u8) -> Mask {
        let mut rest = self.accelerators;
        for _ in 0..rank.saturating_mul(u32::from(per)) {
            rest &= rest.wrapping_sub(1);
        }
        let mut later = rest;
        for _ in 0..per {
            later &= later.wrapping_sub(1);
        }
        rest & !later
    }
}

/// A placement policy.
pub trait Placement: Sync + std::fmt::Debug {
    /// The name used in blueprints.
    fn name(&self) -> &'static str;
    /// What it does, in a sentence.
    fn about(&self) -> &'static str;
    /// Whether it looks at [`Context::speeds`]: else nobody need tell them.
    fn asks_speeds(&self) -> Speed {
        Speed::Ignored
    }
    /// The nodes of the gang's ranks, in rank order.
    /// # Errors
    /// The first condition that fails. Nothing is ever placed in part.
    fn place(&self, fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit>;
}

/// Every placement policy there is, the default first.
pub const POLICIES: &[&dyn Placement] =
    &[&topology::Topology, &best_fit::BestFit, &data_local::DataLocal, &energy::Energy, &heterogeneity::Heterogeneity];

/// The placement policy called `name`; `best` is the one we recommend.
pub fn by_name(name: &str) -> Option<&'static dyn Placement> {
    if name == "best" {
        return POLICIES.first().copied();
    }
    POLICIES.iter().find(|policy| policy.name() == name).copied()
}

/// Ranks of `need` that fit on `node` in `context`.
fn ranks_on(fleet: &Fleet, node: NodeId, need: &Need, context: &Context<'_>) -> u32 {
    if context.never.binary_search(&node).is_ok() { 0 } else { fleet.ranks_of(node, need, context.view) }
}

#[cfg(test)]
mod every_place;
#[cfg(test)]
mod tests;
