//! Prompts are read by one pool of engines and answers written by another, as vLLM's own proxy has them do it.

use std::sync::Arc;

use dh_gateway::{Energy, EngineFacts, EngineRole, EngineTarget, GatewayConfig};
use dh_rig::engine::{Config, Engine};
use serde_json::Value;

use crate::stage::*;

const READ: &str = r#"{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":10,"completion_tokens":1},"kv_transfer_params":{"remote_engine_id":"p1","remote_block_ids":[3,5],"do_remote_prefill":true}}"#;
const WRITTEN: &str =
    "data: {\"choices\":[{}]}\n\ndata: {\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";
const ASK: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":70,"own":1e3}"#;

fn role(mut target: EngineTarget, role: EngineRole) -> EngineTarget {
    target.facts = EngineFacts { role, ..target.facts };
    target
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[tokio::test]
async fn the_first_engine_reads_the_second_writes_and_the_caller_sees_one_answer() {
    let reads = Stub::json(READ).await;
    let writes = Stub::start(|_| Box::pin(async { reply(200, "text/event-stream", WRITTEN) })).await;
    let both = Stub::json("{}").await;
    let energy =
        |prompt: u64, answer: u64| EngineFacts { energy: Some(Energy { prompt, answer }), ..Default::default() };
    let mut first = role(reads.target("p"), EngineRole::Prefill);
    first.facts.energy = energy(1_000_000, 0).energy;
    let mut second = role(writes.target("d"), EngineRole::Decode);
    second.facts.energy = energy(0, 2_000_000).energy;
    let stage = Stage::new(vec![first, second, both.target("b")]).await;
    let (status, text) = text(stage.post(CHAT, ASK).await).await;
    assert_eq!((status.as_u16(), text.as_str()), (200, WRITTEN));
    let (read, written) = (reads.seen().remove(0), writes.seen().remove(0));
    assert_eq!(read.headers["x-request-id"], written.headers["x-request-id"]);
    let read = body(&read);
    assert_eq!((&read["max_tokens"], &read["stream"], &read["own"]), (&1.into(), &false.into(), &1e3.into()));
    assert_eq!(read["kv_transfer_params"]["do_remote_decode"], true);
    let written = body(&written);
    assert_eq!((&written["max_tokens"], &written["stream"]), (&70.into(), &true.into()));
    assert_eq!(written["kv_transfer_params"]["remote_block_ids"], serde_json::json!([3, 5]));
    assert_eq!(both.asked(), 0);
    // Ten joules of the one and fourteen of the other.
    stage.metric_becomes("datahall_gateway_joules_total{model=\"m\"}", "24").await;
    stage.metric_becomes("datahall_gateway_prompt_tokens_total{model=\"m\"}", "10").await;
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
    assert!(stage.gateway.engines().iter().all(|engine| (engine.in_flight, engine.tokens) == (0, 0)));
}

#[tokio::test]
async fn if_either_half_fails_an_engine_for_whole_requests_answers() {
    let both = Stub::json(r#"{"whole":true}"#).await;
    let reads = Stub::json(READ).await;
    let fails = Stub::status(503, "{}").await;
    for (first, second) in
        [(nowhere().await, reads.address), (fails.address, reads.address), (reads.address, fails.address)]
    {
        let stage = Stage::new(vec![
            role(target("p", first), EngineRole::Prefill),
            role(target("d", second), EngineRole::Decode),
            both.target("b"),
        ])
        .await;
        let before = both.asked();
        let (status, text) = text(stage.post(CHAT, ASK).await).await;
        assert_eq!((status.as_u16(), text.as_str()), (200, r#"{"whole":true}"#));
        assert_eq!(body(&both.seen()[before]), serde_json::from_str::<Value>(ASK).unwrap());
    }
    // A wrong request is wrong for all: the engine that says so is heard.
    let refuses = Stub::status(400, r#"{"error":{"message":"too long"}}"#).await;
    let stage = Stage::new(vec![
        role(refuses.target("p"), EngineRole::Prefill),
        role(reads.target("d"), EngineRole::Decode),
        both.target("b"),
    ])
    .await;
    let before = both.asked();
    let (status, said) = text(stage.post(CHAT, ASK).await).await;
    assert_eq!((status.as_u16(), error_of(&said)["message"].as_str()), (400, Some("too long")));
    assert_eq!(both.asked(), before);
    // Without engines that prefill, those that decode do all of it.
    let alone = Stub::json("{}").await;
    let stage = Stage::new(vec![role(alone.target("d"), EngineRole::Decode)]).await;
    assert_eq!(stage.chat().await.0, 200);
}

async fn engine(config: Config) -> (Engine, std::net::SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::new(config);
    let serving = engine.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    (engine, address)
}

#[tokio::test]
async fn prompts_go_where_their_beginnings_are_cached_and_answers_where_there_is_room() {
    let cached = Config { blocks: 4_096, ..Config::default() };
    let readers = [engine(cached.clone()).await, engine(cached).await];
    let writers = [engine(Config::default()).await, engine(Config::default()).await];
    let mut targets = Vec::new();
    for (place, (_, address)) in readers.iter().enumerate() {
        targets.push(role(target(&format!("p{place}"), *address), EngineRole::Prefill));
    }
    for (place, (_, address)) in writers.iter().enumerate() {
        targets.push(role(target(&format!("d{place}"), *address), EngineRole::Decode));
    }
    let stage = Arc::new(Stage::with(GatewayConfig::default(), targets).await);
    for round in 0..40 {
        let talk = "lorem ipsum ".repeat(400);
        let topic = round % 4;
        let ask = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"{topic} {talk} {round}"}}],"max_tokens":4}}"#
        );
        let (status, text) = text(stage.post(CHAT, ask).await).await;
        assert_eq!(status, 200, "{text}");
    }
    let sum = |pool: &[(Engine, std::net::SocketAddr)]| {
        pool.iter().fold((0, 0), |(all, cached), (engine, _)| {
            let (prompt, held) = engine.prompt_tokens();
            (all + prompt, cached + held)
        })
    };
    let (read, held) = sum(&readers);
    assert!(held * 10 > read * 7, "{held} of {read} tokens were cached");
    let (_, came) = sum(&writers);
    assert!(came * 100 > read * 95, "{came} of {read} tokens came with the request");
    assert!(writers.iter().all(|(engine, _)| engine.requests() >= 10), "both write");
}
