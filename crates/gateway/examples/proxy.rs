//! The gateway alone, or the two ends of its bench, each in a process of its own: what `bench/gateway.sh` needs without the
//! whole program, and something small to count instructions of.
//!
//! ```text
//! cargo build --release -p dh-gateway --example proxy
//! proxy stub 9101 9102                          # two engines that compute nothing, with answers of up to 65 tokens
//! proxy gateway 9202 THREADS 9101 9102          # the gateway, with a key that has quotas
//! proxy load 9202 short 64 5                    # shape, connections, seconds; shapes: short stream 64k fresh
//! valgrind --tool=callgrind proxy gateway 9202 0 9101 9102
//! ```
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dh_core::{Authenticate, Grant, Principal, Role, Secret};
use dh_gateway::{EngineFacts, EngineKind, EngineTarget, Gateway, GatewayConfig};
use dh_rig::engine::{Config, Engine};
use dh_rig::load::{Closed, Dress, Shape, closed, fresh};
use tokio::net::TcpListener;

const KEY: &str = "dh-model-proxy";
/// Requests that a load takes in turn, and beginnings that they share.
const ROTATION: u64 = 64;
const PREFIXES: u64 = 16;

struct OneKey(Arc<Grant>);

impl Authenticate for OneKey {
    fn bearer(&self, token: &str) -> Option<Principal> {
        (token == KEY).then(|| Principal { name: "load".to_owned(), role: Role::Model })
    }

    fn grant(&self, _: &str) -> Option<Arc<Grant>> {
        Some(Arc::clone(&self.0))
    }

    fn signing_key(&self, _: &str) -> Option<(Secret<String>, Principal)> {
        None
    }
}

fn at(port: &str) -> Result<SocketAddr, Box<dyn Error>> {
    Ok(SocketAddr::from(([127, 0, 0, 1], port.parse()?)))
}

async fn stub(ports: &[String]) -> Result<(), Box<dyn Error>> {
    let mut serving = tokio::task::JoinSet::new();
    for port in ports {
        let engine = Engine::new(Config { answer: 65, ..Config::default() });
        let listener = TcpListener::bind(at(port)?).await?;
        serving.spawn(async move { engine.serve(listener).await });
    }
    while let Some(ended) = serving.join_next().await {
        ended??;
    }
    Ok(())
}

async fn gateway(port: &str, threads: usize, engines: &[String]) -> Result<(), Box<dyn Error>> {
    let grant = Grant {
        models: Vec::new(),
        requests_per_minute: Some(1_000_000_000),
        tokens_per_minute: Some(1_000_000_000_000),
        budget_micro_usd: Some(1_000_000_000_000),
        ..Grant::default()
    };
    let config = GatewayConfig { threads, in_flight_max: 20_000, connections_max: 20_000, ..GatewayConfig::default() };
    let gateway = Gateway::new(config, Arc::new(OneKey(Arc::new(grant))))?;
    let target = |port: &String| EngineTarget {
        id: format!("stub/{port}"),
        model: "stub".to_owned(),
        kind: EngineKind::Chat,
        url: format!("http://127.0.0.1:{port}"),
        key: None,
        facts: EngineFacts::default(),
    };
    gateway.set_engines(engines.iter().map(target).collect())?;
    let stopped = async { drop(tokio::signal::ctrl_c().await) };
    gateway.serve(TcpListener::bind(at(port)?).await?, stopped).await?;
    Ok(())
}

async fn load(port: &str, shape: &str, connections: usize, time: Duration) -> Result<(), Box<dyn Error>> {
    let (prompt, answer, stream) = match shape {
        "stream" => (40, 65, true),
        "64k" | "fresh" => (16_384, 16, false),
        _ => (40, 16, false),
    };
    let dress = Dress {
        host: format!("127.0.0.1:{port}"),
        path: "/v1/chat/completions".to_owned(),
        model: "stub".to_owned(),
        key: Some(Secret::new(KEY.to_owned())),
        stream,
    };
    let of = |number: u64| dress.request(&Shape { at: 0, prompt, answer, blocks: vec![number % PREFIXES] }, number);
    let requests = Arc::new((0..ROTATION).map(of).collect());
    let how = Closed { connections, time, requests: u64::MAX };
    let report = if shape == "fresh" {
        fresh(at(port)?, requests, how).await?
    } else {
        closed(at(port)?, requests, how).await?
    };
    println!(
        "{} requests/s, p50 {} us, p99 {} us, {} good, {} refused, {} broken",
        report.per_kilosecond() / 1_000,
        report.latency.quantile(5_000) / 1_000,
        report.latency.quantile(9_900) / 1_000,
        report.good,
        report.refused + report.limited,
        report.broken
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [what, ports @ ..] if what == "stub" => stub(ports).await,
        [what, port, threads, engines @ ..] if what == "gateway" => gateway(port, threads.parse()?, engines).await,
        [what, port, shape, connections, seconds] if what == "load" => {
            load(port, shape, connections.parse()?, Duration::from_secs(seconds.parse()?)).await
        }
        _ => Err("stub PORT..., gateway PORT THREADS ENGINE..., or load PORT SHAPE CONNECTIONS SECONDS".into()),
    }
}
