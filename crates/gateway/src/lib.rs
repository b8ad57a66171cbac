//! The model gateway: one OpenAI-compatible door in front of any number of inference engines.
//!
//! *Invariant*: request and response bodies pass as the bytes they came as. The gateway reads a request's
//! fields and an answer's `usage`, and writes neither; but for an engine that only has chat completions it translates, and for
//! a model that stands in for another it writes the name. A caller's key never reaches an engine, an engine's key never
//! reaches a caller, and neither reaches a log or a metric.
//!
//! Cost of a request: one buffered copy of its body, one pass over it, one pooled upstream connection; answers are relayed
//! read by read, never held back.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
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

mod access;
mod accounts;
mod admission;
mod batch;
mod bill;
mod breaker;
mod cache;
mod clock;
mod config;
mod detour;
mod engines;
mod error;
mod facts;
mod fence;
mod front;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod gateway;
mod handlers;
mod headers;
mod kv;
mod ledger;
mod lines;
mod link;
mod metrics;
mod options;
mod plan;
mod pools;
mod relay;
mod request;
mod scale;
mod scan;
mod serve;
mod sse;
mod stall;
mod translate;
mod upstream;
mod usage;
mod whole;

pub use breaker::BreakerConfig;
pub use clock::SystemClock;
pub use config::{BatchConfig, GatewayConfig, Price, Timeouts};
pub use engines::{EngineKind, EngineStatus, EngineTarget};
pub use error::{Error, Limit};
pub use facts::{Energy, EngineFacts, EngineRole};
pub use gateway::Gateway;
pub use kv::KvEvents;
pub use ledger::{LEDGER_FILE, LedgerConfig};
pub use options::{CacheConfig, ClassConfig, HedgeAfter, HedgeConfig, LineConfig, Options, SemanticConfig};
pub use scale::{HoldConfig, ScaledModel, ScalingStatus};
