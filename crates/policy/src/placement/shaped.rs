//! A placement policy that knows every shape: boxes and parts of accelerators have a placement of their own, whatever the
//! policy for whole accelerators.

use super::{Context, Misfit, Need, Placement, Rails, Share, boxes, parts};
use crate::fleet::Fleet;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Shaped(pub &'static dyn Placement);

impl Shaped {
    /// The nodes of the gang's ranks, in rank order.
    /// # Errors
    /// The first condition that fails. Nothing is ever placed in part.
    pub fn place(&self, fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
        match need.rails {
            Rails::Box(asked) => boxes::place(fleet, need, &asked, context),
            Rails::Slice(_) => parts::place(fleet, need, context),
            Rails::Any | Rails::Aligned if need.is_part() => parts::place(fleet, need, context),
            Rails::Any | Rails::Aligned => self.0.place(fleet, need, context),
        }
    }
}
