//! What a blueprint's hall is, needs, draws, costs and delivers.
//!
//! Invariant: pure; settings in, a [`Plan`] out. Every number of a plan is in its ledger under a stable id, with its formula and
//! the numbers it was computed from, down to a line of the blueprint, a row of the catalogue, or an assumption that says so.
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

mod asked;
mod book;
mod cabling;
mod costs;
mod error;
mod findings;
mod floors;
mod networks;
pub mod page;
mod plan;
mod pools;
mod power;
mod reliability;
mod services;
mod show;
mod storage;
mod trainings;

pub use cabling::{CableRow, Cabling};
pub use error::Error;
pub use findings::{Bottleneck, Finding, Weight};
pub use floors::{Floors, NetworkHall, SiteFloor, What};
pub use networks::{Counting, EndOf, Ends, NetworkPlan, Range};
pub use plan::{Outline, Plan, Standing, outline, plan, plan_with};
pub use pools::PoolPlan;
pub use services::{Interval, PoolDemand, ServicePlan, Way as ServiceWay};
pub use storage::StorePlan;
pub use trainings::{Degrees, Looked, Prediction, RunnerUp, Searcher, StepPart, TrainingPlan, Unfit, Way};
