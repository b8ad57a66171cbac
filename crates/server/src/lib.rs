//! The live body of a hall: the event log, the hands that carry decisions out, and the HTTP API.
//!
//! *Invariant*: an event is in the durable log before anybody acts on it or hears of it, and every route that reads or
//! changes anything passes one check of one key ring. No domain decision is taken here: the hall decides.
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

mod actuator;
mod api;
mod body;
mod devices;
mod endpoint;
mod error;
mod executor;
mod gateway_settings;
mod job_access;
pub mod launch;
mod log;
mod meter;
mod metrics;
mod nodes;
mod scaling;
mod secrets;
mod server;
mod services;
pub mod store_place;
mod trace;
mod views;
pub mod wire;

pub use endpoint::Endpoint;
pub use error::Error;
pub use log::{LOG_FILE, LogPlace, Replay, copy_log, replay, restore_log};
pub use server::{ACCOUNTS, ADMIN_KEY, KEYS_FILE, MODEL_KEY, Server, ServerConfig};
