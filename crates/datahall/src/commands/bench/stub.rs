//! `datahall bench stub`: stub engines on ports that follow each other.

use std::time::Duration;

use clap::Args;
use dh_core::Kind;
use dh_rig::engine::{Config, Engine};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::commands::Globals;
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Stub {
    /// How many engines
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    engines: u16,
    /// The port of the first one, on loopback
    #[arg(long, default_value_t = 9101)]
    port: u16,
    /// The model's name
    #[arg(long, default_value = "stub")]
    model: String,
    /// Microseconds for a token of a prompt that is not cached
    #[arg(long, default_value_t = 0)]
    prefill_us: u64,
    /// Microseconds for a token of an answer
    #[arg(long, default_value_t = 0)]
    decode_us: u64,
    /// Requests that an engine works on at once
    #[arg(long, default_value_t = 256)]
    slots: usize,
    /// Blocks of each cache; 0 for none
    #[arg(long, default_value_t = 0)]
    blocks: u32,
    /// Tokens of a block
    #[arg(long, default_value_t = 16)]
    block_tokens: usize,
    /// Tokens of an answer, if the request asks for no fewer
    #[arg(long, default_value_t = 16)]
    answer: u64,
    /// Requests in a thousand that are refused with 503
    #[arg(long, default_value_t = 0)]
    refuse_per_mille: u64,
    /// Requests in a thousand whose connection is cut in the middle of the answer
    #[arg(long, default_value_t = 0)]
    cut_per_mille: u64,
    /// The port on which the first one publishes what happens in its cache, as vLLM does; the others follow
    #[arg(long, value_name = "PORT", requires = "blocks")]
    kv_events: Option<u16>,
}

impl Stub {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let config = Config {
            model: self.model,
            prefill: Duration::from_micros(self.prefill_us),
            decode: Duration::from_micros(self.decode_us),
            slots: self.slots,
            blocks: self.blocks,
            block_tokens: self.block_tokens,
            answer: self.answer,
            refuse_per_mille: self.refuse_per_mille,
            cut_per_mille: self.cut_per_mille,
            seed: 1,
            kv_events: self.kv_events.is_some(),
        };
        let mut serving = JoinSet::new();
        for number in 0..self.engines {
            let port = self.port.saturating_add(number);
            let listener = TcpListener::bind(("127.0.0.1", port))
                .await
                .or_fail_as(Kind::Conflict, format!("listen on 127.0.0.1:{port}"))?;
            let engine = Engine::new(config.clone());
            if let Some(first) = self.kv_events {
                let port = first.saturating_add(number);
                let listener = TcpListener::bind(("127.0.0.1", port))
                    .await
                    .or_fail_as(Kind::Conflict, format!("listen on 127.0.0.1:{port}"))?;
                let engine = engine.clone();
                serving.spawn(async move { engine.publish(listener).await });
            }
            serving.spawn(async move { engine.serve(listener).await });
        }
        if !globals.quiet {
            output::note(format!("{} stub engines from 127.0.0.1:{} on", self.engines, self.port));
        }
        tokio::select! {
            ended = serving.join_next() => {
                let why = match ended {
                    Some(Ok(Err(error))) => error.to_string(),
                    Some(_) | None => "it ended".to_owned(),
                };
                Err(Failure::new(Kind::Internal, format!("a stub engine: {why}")))
            }
            _interrupted = tokio::signal::ctrl_c() => Ok(0),
        }
    }
}
