//! The event kernel: a scheduler, the jobs that come, the nodes that fail, and virtual time.
//!
//! The scheduler is the one that runs a live hall. The kernel only plays the world: it ends jobs when their work is done,
//! stops those that it is told to stop, and breaks nodes when the faults say so.
//!
//! Invariant: the same arrivals, faults and settings give the same run, to the last event. Memory follows the jobs that are
//! in the hall, not those that were. Cost: a few queue operations for each event.

mod contention;
mod interleave;
mod live;
mod moves;
mod observer;
mod queue;
mod warm;
mod world;

pub use contention::{Demand, Reach, Resource, Sharing};
pub use live::{Costs, Fate, Profile, Work};
pub use moves::{Idle, Moved};
pub use observer::{Happening, JobFacts, Observer};
pub use warm::{Caches, Fetched};
pub use world::{Arrival, Fault, Kernel, Stopped, WAKE};
