//! What a run gave: [`Measures`] is told what happens while it happens, and says at the end what it comes to.
//!
//! Invariant: memory does not grow with the jobs that have ended, and equal calls give an equal [`Outcome`] to the last bit.
//! Time and accelerators are whole numbers; only energy, money and what is reported are floats.
//! Cost: a call is a few multiplications; an unbroken run of 10 M jobs is a few hundred kilobytes of buckets.

mod breakdown;
mod energy;
mod facts;
mod levels;
mod locality;
mod measures;
mod outcome;
mod sketch;

pub(crate) use energy::seconds;
pub use energy::{Curve, Piece, Power, Tariff};
pub use facts::{Cause, End, Fate, JobFacts, NodeChange, NodeState, Pending, Start, Stop, Window};
pub use locality::{Inside, Locality};
pub use measures::{Measures, Setup};
pub(crate) use outcome::node_hours;
pub use outcome::{
    AcceleratorHours, Bar, Cost, Energy, Fairness, Group, Jobs, Outcome, PendingJobs, Ratios, Sleep, Stops, Times,
};
pub use sketch::{RELATIVE_ERROR, Sketch};
