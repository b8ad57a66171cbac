//! Network design: how many switches and cables a fabric needs, where each wire goes, and what a lost part costs.
//!
//! Invariant: pure; a [`Request`] in, a [`Design`] out. Every count follows from the request alone, and the wires that
//! [`Design::wires`] lists are exactly the links that the counts state.
#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

mod attach;
pub mod cables;
mod clos;
mod csv;
mod design;
mod error;
pub mod golden;
mod groups;
mod hops;
mod losses;
mod number;
mod record;
mod request;
mod solve;
mod torus;
mod wire;

pub use design::{Design, Segment, Tier, design};
pub use error::Error;
pub use hops::Hops;
pub use losses::{Bisection, Loss, Part};
pub use request::{CoreGroups, Ratio, Request, Switch, Topology, Uplinks};
pub use wire::{Device, Port, Role, SegmentKind, Wire};
