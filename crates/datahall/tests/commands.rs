//! The command line against the real thing: the newcomer's path, jobs, doors, secrets, and what a restart keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

#[path = "commands/accuracy.rs"]
mod accuracy;
#[path = "commands/doors.rs"]
mod doors;
#[path = "commands/front.rs"]
mod front;
#[path = "commands/gateway.rs"]
mod gateway;
#[path = "commands/job_secrets.rs"]
mod job_secrets;
#[path = "commands/jobs.rs"]
mod jobs;
#[path = "commands/looking.rs"]
mod looking;
#[path = "commands/newcomer.rs"]
mod newcomer;
#[path = "commands/plan.rs"]
mod plan;
#[path = "commands/restart.rs"]
mod restart;
#[path = "commands/running.rs"]
mod running;
#[path = "commands/scaling.rs"]
mod scaling;
#[path = "commands/secrets.rs"]
mod secrets;
#[path = "commands/simulate.rs"]
mod simulate;
#[path = "commands/sockets.rs"]
mod sockets;
mod support;
#[path = "commands/traces.rs"]
mod traces;
