//! The gateway as its callers and engines see it: real sockets on loopback, stub engines, no timing assumptions beyond
//! generous upper bounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_imports,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod batch;
mod caching;
mod clients;
mod facts;
mod failover;
mod fallbacks;
mod hedging;
mod hostile;
mod killed;
mod kv_events;
mod ledger;
mod lines;
mod load;
mod other_clients;
mod passing;
mod pools;
mod quotas;
mod refusals;
mod scale;
mod stage;
mod streams;
mod translation;
mod wire;
