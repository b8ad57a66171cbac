//! Workloads, failures and requests drawn from a seed, for any length and size, one at a time.
//!
//! Times are drawn with floats and rounded to whole nanoseconds. Only `+`, `-`, `*`, `/` and the square root are used, which
//! IEEE 754 rounds the same everywhere; logarithm and exponential are our own (`elementary`), since those of machines'
//! libraries differ in the last bit. So a seed gives the same trace on every machine.
//!
//! Invariant: nothing is held but the state of the generators: memory does not grow with what was drawn. Each source of
//! chance (a node, a client, a property of jobs) has a stream of its own, named by numbers: one more leaves the others as
//! they were.

mod arrivals;
mod draw;
mod durations;
mod elementary;
mod failures;
mod maintenance;
mod mix;
mod requests;
mod sites;
mod workload;

use dh_core::{HasKind, Kind};

pub use arrivals::{Arrivals, Bursts, Gap, Moments, Week};
pub use draw::Draw;
pub use durations::Durations;
pub use failures::{Cause, Effect, Failures, Law, Lemons, Outage, Reason};
pub use maintenance::Maintenance;
pub use mix::{Published, Weights, powers_of_two, published};
pub use requests::{Arrived, Client, RequestSource, Tokens, Window, clients};
pub use sites::{Part, Scope, Sites};
pub use workload::{Elasticity, Stretch, Synthetic, Workload};

/// What a generator cannot be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {want}")]
pub struct Error {
    /// Which value.
    pub what: &'static str,
    /// What it must be.
    pub want: &'static str,
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        None
    }
}
