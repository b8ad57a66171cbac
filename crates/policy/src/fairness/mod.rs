//! Fairness between queues, and a bound on unfairness to a job.
//!
//! - [`Tree`]: queues in a tree (root, department, team, person) with weights, guarantees, limits, lending and borrowing; what
//!   each holds and has held; who goes next, who may start, and who may take from whom.
//! - [`Stretch`] on a [`FairClock`]: however an order sets a job back, its finish time stays within a factor of the fair one.
//!
//! Invariant: whole numbers only, no clock; time is an argument. Nothing is touched because time passes.

mod clock;
mod queue;
mod reclaim;
mod scaled;
mod stretch;
mod tree;

pub use clock::{FairClock, Load};
pub use queue::{Amounts, Blocked, Error, Queue, QueueId, Quota, Resource};
pub use reclaim::{Part, Right};
pub use stretch::{Progress, Stretch};
pub use tree::{Tree, Usage};
