//! Executors: they run the tasks of a gang and report what became of them. They judge nothing; the hall does.
//!
//! Invariants of every executor: a gang starts whole or not at all; an attempt starts at most once, ever; whatever an
//! attempt started is gone before its end is reported; after [`Executor::recover`] what an earlier server had started is either
//! gone or in our hands again. Cost on one machine: one small warden process, two pipes and five files per rank.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

pub mod beside;
mod cgroup;
pub mod devices;
mod error;
mod executor;
mod gang;
pub mod kubernetes;
pub mod launch;
mod layout;
mod lifeline;
mod limits;
mod local;
pub mod logs;
mod ports;
mod process;
mod record;
mod sim;
mod slurm;
pub mod warden;

pub use error::Error;
pub use executor::{
    Beats, EXECUTORS, Entry, EventSink, Executor, Fate, HostView, Leads, NodeEvent, NodeSink, Open, Outcome, RankUsage,
    Recovered, Stop, TaskEvent, What, open,
};
pub use gang::{Devices, GangSpec, PartOf, RankSpec, TaskLimits};
pub use kubernetes::{Cluster, KubernetesExecutor, host_list};
pub use local::LocalExecutor;
pub use ports::{Ports, free_ports};
pub use record::{Bound, Enforcement, ExitReason};
pub use sim::SimExecutor;
pub use slurm::SlurmExecutor;
