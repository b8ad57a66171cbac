//! The gateway under load, between the two ends of the rig.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dh_core::Secret;
use dh_gateway::GatewayConfig;
use dh_rig::engine::{Config, Engine};
use dh_rig::load::{Closed, Dress, Shape, closed};
use tokio::net::TcpListener;

use crate::stage::*;

fn dress(address: SocketAddr, stream: bool) -> Dress {
    let key = Some(Secret::new(CALLER.to_owned()));
    Dress { host: address.to_string(), path: CHAT.to_owned(), model: "m".to_owned(), key, stream }
}

/// An engine in a runtime of its own, so that it can die with all its connections.
fn mortal(config: Config) -> (Engine, SocketAddr, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::new(config);
    let serving = engine.clone();
    runtime.spawn(async move { serving.serve(TcpListener::from_std(listener).unwrap()).await });
    (engine, address, runtime)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_dies_under_load_fails_no_request() {
    let config = Config { decode: Duration::from_micros(300), answer: 4, ..Config::default() };
    let engines: Vec<_> = (0..3).map(|_| mortal(config.clone())).collect();
    let targets = engines.iter().map(|(_, address, _)| target(&address.to_string(), *address)).collect();
    let stage = Stage::new(targets).await;
    let requests: Vec<_> = (0..16)
        .map(|number| {
            dress(stage.address, false).request(&Shape { at: 0, prompt: 50, answer: 4, blocks: Vec::new() }, number)
        })
        .collect();
    let how = Closed { connections: 32, time: Duration::from_mins(2), requests: 6_000 };
    let mut engines = engines.into_iter();
    let (victim, _, runtime) = engines.next().unwrap();
    let killer = tokio::task::spawn_blocking(move || {
        while victim.requests() < 300 {
            std::thread::sleep(Duration::from_millis(1));
        }
        runtime.shutdown_background();
    });
    let report = closed(stage.address, Arc::new(requests), how).await.unwrap();
    killer.await.unwrap();
    assert_eq!(
        (report.good, report.refused, report.limited, report.broken),
        (6_000, 0, 0, 0),
        "{}",
        stage.gateway.metrics()
    );
    for (engine, _, runtime) in engines {
        assert!(engine.requests() > 1_000, "the others took over");
        runtime.shutdown_background();
    }
}

/// Prompt tokens and those of them that were cached, over four engines, under a policy.
async fn cached_under(policy: &str) -> (u64, u64, u64) {
    // Room for 10 of the 27 conversations each.
    let config = Config { blocks: 1_300, block_tokens: 16, ..Config::default() };
    let engines: Vec<_> = (0..4).map(|_| mortal(config.clone())).collect();
    let targets = engines.iter().map(|(_, address, _)| target(&address.to_string(), *address)).collect();
    let stage = Stage::with(GatewayConfig { policy: policy.to_owned(), ..GatewayConfig::default() }, targets).await;
    let dress = dress(stage.address, false);
    let shape = |talk: u64| Shape {
        at: 0,
        prompt: 2_048,
        answer: 2,
        blocks: vec![0, 100 * talk + 1, 100 * talk + 2, 100 * talk + 3],
    };
    let requests = (0..400).map(|number| dress.request(&shape(number * 5 % 27), number)).collect();
    let how = Closed { connections: 4, time: Duration::from_mins(2), requests: 400 };
    let report = closed(stage.address, Arc::new(requests), how).await.unwrap();
    assert_eq!(report.good, 400);
    let most = engines.iter().map(|(engine, ..)| engine.requests()).max().unwrap();
    for (.., runtime) in engines {
        runtime.shutdown_background();
    }
    (report.tokens.prompt, report.tokens.cached, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompts_go_where_their_beginning_is_cached() {
    let (prompt, cached, most) = cached_under("prefix_cache").await;
    let (_, other, _) = cached_under("round_robin").await;
    assert!(cached * 100 > prompt * 70, "{cached} of {prompt}");
    assert!(cached * 10 > other * 15, "{cached} beside {other}");
    assert!(most < 180, "one engine got {most} of 400");
}
