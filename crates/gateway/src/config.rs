//! Every setting of the gateway, with the reason for its default. Bounds shared with other crates come from
//! `dh_core::limits`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dh_core::limits;

use crate::breaker::BreakerConfig;
use crate::ledger::LedgerConfig;
use crate::options::Options;
use crate::scale::HoldConfig;

/// A JSON document deeper than this is no chat request; engines with recursive parsers fall over beyond it.
pub(crate) const JSON_DEPTH_MAX: usize = 128;
/// Model names become metric labels and map keys.
pub(crate) const MODEL_NAME_BYTES_MAX: usize = 256;
/// Engines behind one gateway.
pub(crate) const ENGINES_MAX: usize = 1_024;
/// Models whose counters are kept, those that left included; more would let metrics grow without end.
pub(crate) const MODEL_SERIES_MAX: usize = 1_024;
/// Engines whose error counters are kept.
pub(crate) const ENGINE_SERIES_MAX: usize = 4_096;
/// Beginnings of prompts that are remembered for one model: 64 bytes each, taken only as they come.
pub(crate) const PREFIX_LINKS: usize = 1 << 18;
/// Callers whose use is counted; as many as keys can be.
pub(crate) const ACCOUNTS_MAX: usize = 65_536;
/// Fields of one request head; hyper answers 431 beyond it.
pub(crate) const HEADERS_MAX: usize = 100;
/// Bytes of one request head.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Idle connections kept per engine by one thread: as many as one engine usefully serves at once.
pub(crate) const IDLE_PER_ENGINE_MAX: usize = 256;

/// How long each thing may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a client to send a request head, and for a kept connection to stay idle.
    pub head: Duration,
    /// For a client between two pieces of a request body.
    pub body_gap: Duration,
    /// For a client to send a whole request body. 16 MiB at 1 Mbit/s takes 134 s.
    pub body_total: Duration,
    /// For a client that does not read its answer.
    pub write_stall: Duration,
    /// To open a connection to an engine.
    pub connect: Duration,
    /// For an engine to the head of its answer.
    pub first_byte: Duration,
    /// For an engine between two pieces of its answer. A long prefill lies between the head and the first token.
    pub chunk_gap: Duration,
    /// For an idle upstream connection.
    pub upstream_idle: Duration,
    /// For answers under way when the gateway is asked to stop.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_millis(limits::HEAD_TIMEOUT_MS),
            body_gap: Duration::from_secs(10),
            body_total: Duration::from_mins(3),
            write_stall: Duration::from_mins(1),
            connect: Duration::from_secs(5),
            first_byte: Duration::from_millis(limits::UPSTREAM_FIRST_BYTE_MS),
            chunk_gap: Duration::from_millis(limits::UPSTREAM_FIRST_BYTE_MS),
            upstream_idle: Duration::from_millis(limits::UPSTREAM_IDLE_MS),
            drain: Duration::from_secs(30),
        }
    }
}

/// What a million tokens of a model cost, in millionths of a dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    /// Tokens of prompts that are computed.
    pub prompt: u64,
    /// Tokens of prompts that the engine had cached.
    pub cached: u64,
    /// Tokens of answers.
    pub answer: u64,
}

/// Files and batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchConfig {
    /// The folder that holds them, which is made if it is not there.
    pub data: PathBuf,
    /// Requests under way for each engine of a model, above which batches send no more.
    pub per_engine: u32,
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Bytes of all files that were uploaded or made.
    pub total_bytes_max: u64,
    /// Files of one caller.
    pub files_max: usize,
    /// Batches of one caller that have not ended.
    pub batches_max: usize,
    /// Requests of one batch.
    pub lines_max: usize,
}

impl BatchConfig {
    /// The bounds that the interface's own documents name, in this folder.
    pub fn in_folder(data: PathBuf) -> Self {
        Self {
            data,
            per_engine: 8,
            file_bytes_max: 200 << 20,
            total_bytes_max: 100 << 30,
            files_max: 1_000,
            batches_max: 100,
            lines_max: 50_000,
        }
    }
}

/// How a gateway behaves.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The name of a row of [`dh_policy::routing::POLICIES`].
    pub policy: String,
    /// Requests between admission and the end of their answer; one more is refused with 429.
    pub in_flight_max: usize,
    /// Bytes of one request body; a larger one is refused with 413.
    pub body_bytes_max: usize,
    /// Bytes of all request bodies held at once; a body that does not fit is refused with 429.
    pub buffered_bytes_max: usize,
    /// Open client connections; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// What tokens of a model cost, for budgets; a model that is not here costs nothing.
    pub prices: BTreeMap<String, Price>,
    /// Tokens that are reserved for an answer whose caller does not say how long it may be.
    pub answer_tokens: u64,
    /// Files and batches; without it there are none.
    pub batch: Option<BatchConfig>,
    /// What it does only when asked.
    pub options: Options,
    /// Who keeps what callers use, beyond this process; without it nobody does.
    pub ledger: Option<LedgerConfig>,
    /// Requests that wait for the first replica of a model that is scaled.
    pub hold: HoldConfig,
    /// When an engine is left alone.
    pub breaker: BreakerConfig,
    /// Threads that serve connections, each its own; with 0 they are served by the runtime that [`crate::Gateway::serve`]
    /// runs in.
    pub threads: usize,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            policy: "prefix_cache".to_owned(),
            in_flight_max: 2_048,
            body_bytes_max: limits::CHAT_BYTES_MAX,
            buffered_bytes_max: 512 << 20,
            connections_max: limits::CONNECTIONS_MAX,
            prices: BTreeMap::new(),
            answer_tokens: 4_096,
            batch: None,
            options: Options::default(),
            ledger: None,
            hold: HoldConfig::default(),
            breaker: BreakerConfig::default(),
            threads: 0,
            timeouts: Timeouts::default(),
        }
    }
}
