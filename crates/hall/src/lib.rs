//! The hall: one deterministic machine that owns nodes, jobs, gangs and services, and decides.
//!
//! [`Hall::step`] takes the time and one [`Event`] and pushes [`Action`]s. It learns the time only as an argument and
//! never touches a file, a socket, a clock or a thread, so a live hall, its twin and a replay of its log run this code.
//!
//! Invariants, checked after every step:
//! - a gang holds all its slots or none, and no slot has two owners;
//! - slots return only when every task of the attempt has ended;
//! - an accepted job ends once; what a fenced attempt still reports has no effect.
#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::wildcard_enum_match_arm,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

mod ends;
mod event;
mod forecast;
mod invariants;
mod job;
mod jobs;
pub mod layout;
mod machine;
mod node;
pub mod rules;
mod schedule;
pub mod scheduler;
mod spec;
mod why;
mod wishes;

pub use event::{Action, End, EndCause, Event};
pub use forecast::{Forecast, When};
pub use job::{Attempt, Held, Job, Outcome, Phase, Placed, Record, Task, Verdict};
pub use machine::{Hall, Rejection};
pub use node::{Health, Node, NodeSpec, PartOwner, QueueSpec};
pub use spec::{JobKind, JobSpec, Part, Protocol};
pub use why::Why;
