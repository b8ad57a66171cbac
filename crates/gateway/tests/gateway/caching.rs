//! Answers that are given again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dh_gateway::{CacheConfig, EngineTarget, GatewayConfig, Options, SemanticConfig};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::stage::*;

const ANSWER: &str = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;
const COLD: &str = r#"{"model":"m","temperature":0,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
const EVENTS: &str = "data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: [DONE]\n\n";

fn config(shared: bool) -> GatewayConfig {
    let cache = CacheConfig { bytes_max: 1 << 20, ttl: Duration::from_mins(10), shared };
    let options = Options { cache: Some(cache), ..Options::default() };
    GatewayConfig { options, ..GatewayConfig::default() }
}

async fn ask(stage: &Stage, key: &str, path: &str, fields: &[(&str, &str)], body: &str) -> (u16, HeaderMap, String) {
    let mut request =
        http::Request::post(format!("http://{}{path}", stage.address)).header("authorization", format!("Bearer {key}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = stage.request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await;
    let headers = response.headers().clone();
    let (status, body) = text(response).await;
    (status.as_u16(), headers, body)
}

/// How an answer came: `hit`, `miss`, or nothing.
async fn how(stage: &Stage, key: &str, fields: &[(&str, &str)], body: &str) -> String {
    let (status, headers, _) = ask(stage, key, CHAT, fields, body).await;
    assert_eq!(status, 200);
    headers.get("x-datahall-cache").map(|how| how.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn the_same_question_is_answered_once_whatever_its_order() {
    let stub = Stub::json(ANSWER).await;
    let stage = Stage::with(config(false), vec![stub.target("a")]).await;
    let turned = r#" {"messages":[{"content":"hi","role":"user"}],"max_tokens":9,"temperature":0, "model":"m"}"#;
    assert_eq!(how(&stage, CALLER, &[], COLD).await, "miss");
    for body in [COLD, turned] {
        let (status, headers, answer) = ask(&stage, CALLER, CHAT, &[], body).await;
        assert_eq!((status, answer.as_str()), (200, ANSWER));
        assert_eq!(
            (headers["x-datahall-cache"].as_bytes(), headers["content-type"].as_bytes()),
            (&b"hit"[..], &b"application/json"[..])
        );
        assert!(headers.contains_key("age") && headers.contains_key("x-request-id"));
    }
    assert_eq!(stub.asked(), 1);
    assert_eq!(how(&stage, &format!("{TENANT}other"), &[], COLD).await, "miss", "callers do not share");
    assert_eq!(how(&stage, CALLER, &[], &COLD.replace("hi", "ho")).await, "miss");
    stage.metric_becomes(r#"datahall_gateway_cache_events_total{event="hit"}"#, "2").await;
    stage.metric_becomes("datahall_gateway_cache_entries", "3").await;
    stage.metric_becomes(r#"datahall_gateway_requests_total{model="m",code="200"}"#, "5").await;
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
}

#[tokio::test]
async fn callers_share_only_where_that_is_wanted() {
    let stub = Stub::json(ANSWER).await;
    let stage = Stage::with(config(true), vec![stub.target("a")]).await;
    assert_eq!(how(&stage, CALLER, &[], COLD).await, "miss");
    assert_eq!(how(&stage, &format!("{TENANT}other"), &[], COLD).await, "hit");
    // A key that may not ask the model gets nothing from its cache either.
    let mut other = stub.target("o");
    other.model = "o".to_owned();
    stage.gateway.set_engines(vec![stub.target("a"), other]).unwrap();
    let body = COLD.replace("\"m\"", "\"o\"");
    assert_eq!(how(&stage, CALLER, &[], &body).await, "miss");
    assert_eq!(ask(&stage, BOUNDED, CHAT, &[], &body).await.0, 403);
}

#[tokio::test]
async fn only_what_comes_out_the_same_is_kept_unless_asked_for() {
    let stub = Stub::json(ANSWER).await;
    let stage = Stage::with(config(false), vec![stub.target("a")]).await;
    let warm = COLD.replace("\"temperature\":0", "\"temperature\":0.5");
    let none = COLD.replace("\"temperature\":0,", "");
    let seeded = COLD.replace("\"temperature\":0", "\"temperature\":0.5,\"seed\":1");
    let stored = COLD.replace("\"temperature\":0", "\"temperature\":0,\"store\":true");
    for _ in 0..2 {
        for body in [&warm, &none, &stored] {
            assert_eq!(how(&stage, CALLER, &[], body).await, "");
        }
        assert_eq!(how(&stage, CALLER, &[("x-datahall-cache", "off")], COLD).await, "");
        assert_eq!(how(&stage, CALLER, &[("cache-control", "max-age=0, no-store")], COLD).await, "");
    }
    assert_eq!(stub.asked(), 10);
    for (fields, body) in [(&[][..], seeded.as_str()), (&[("x-datahall-cache", "on")], &warm), (&[], COLD)] {
        assert_eq!(how(&stage, CALLER, fields, body).await, "miss");
        assert_eq!(how(&stage, CALLER, fields, body).await, "hit");
        let fresh = [fields, &[("cache-control", "no-cache")]].concat();
        assert_eq!(how(&stage, CALLER, &fresh, body).await, "miss", "it is asked afresh");
        assert_eq!(how(&stage, CALLER, fields, body).await, "hit");
    }
    assert_eq!(stub.asked(), 16);
    let embeddings = r#"{"model":"m","input":"x"}"#;
    for expected in ["miss", "hit"] {
        let (_, headers, _) = ask(&stage, CALLER, "/v1/embeddings", &[], embeddings).await;
        assert_eq!(headers["x-datahall-cache"], expected);
    }
    let response = r#"{"model":"m","input":"x","temperature":0}"#;
    assert!(!ask(&stage, CALLER, "/v1/responses", &[], response).await.1.contains_key("x-datahall-cache"));
    let response = r#"{"model":"m","input":"x","temperature":0,"store":false}"#;
    assert_eq!(ask(&stage, CALLER, "/v1/responses", &[], response).await.1["x-datahall-cache"], "miss");
}

#[tokio::test]
async fn what_fails_or_breaks_off_is_not_kept() {
    for (status, body) in [(500, "{}"), (400, "{}"), (200, "data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n")]
    {
        let kind = if status == 200 { "text/event-stream" } else { "application/json" };
        let stub = Stub::start(move |_| Box::pin(async move { reply(status, kind, body) })).await;
        let stage = Stage::with(config(false), vec![stub.target("a")]).await;
        for asked in 1..=2 {
            let (got, headers, answer) = ask(&stage, CALLER, CHAT, &[], COLD).await;
            assert_eq!((got, answer.as_str(), headers["x-datahall-cache"].as_bytes()), (status, body, &b"miss"[..]));
            assert_eq!(stub.asked(), asked);
        }
    }
    // An engine that breaks off: the caller is cut off too, and nothing stays.
    let stub = Stub::start(|_| {
        Box::pin(async {
            let pieces = futures::stream::unfold(0, |step| async move {
                // The head is out before it breaks off.
                tokio::time::sleep(Duration::from_millis(50 * step)).await;
                let piece = if step == 0 { Ok(Bytes::from("{\"id\":")) } else { Err(std::io::Error::other("gone")) };
                Some((piece, step + 1))
            });
            reply(200, "application/json", Body::from_stream(pieces))
        })
    })
    .await;
    let stage = Stage::with(config(false), vec![stub.target("a")]).await;
    for asked in 1..=2 {
        let response = stage.post(CHAT, COLD).await;
        assert!(response.into_body().collect().await.is_err());
        assert_eq!(stub.asked(), asked);
    }
    stage.metric_becomes("datahall_gateway_cache_entries", "0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_ask_the_same_at_once_are_one_request() {
    for (stream, kind, answer) in [(false, "application/json", ANSWER), (true, "text/event-stream", EVENTS)] {
        let (release, released) = watch::channel(false);
        let stub = Stub::start(move |_| {
            let mut released = released.clone();
            Box::pin(async move {
                released.wait_for(|go| *go).await.unwrap();
                reply(200, kind, answer)
            })
        })
        .await;
        let mut config = config(false);
        config.threads = 2;
        let stage = Arc::new(Stage::with(config, vec![stub.target("a")]).await);
        let body = COLD.replace("\"m\",", &format!("\"m\",\"stream\":{stream},"));
        let asking: Vec<_> = (0..1_000)
            .map(|_| {
                let (stage, body) = (Arc::clone(&stage), body.clone());
                tokio::spawn(async move { ask(&stage, CALLER, CHAT, &[], &body).await })
            })
            .collect();
        stage.metric_becomes(r#"datahall_gateway_cache_events_total{event="joined"}"#, "999").await;
        release.send(true).unwrap();
        let mut hits = 0;
        for one in asking {
            let (status, headers, got) = one.await.unwrap();
            assert_eq!((status, got.as_str()), (200, answer));
            hits += usize::from(headers["x-datahall-cache"] == "hit");
        }
        assert_eq!((hits, stub.asked()), (999, 1));
        stage.metric_becomes(r#"datahall_gateway_requests_total{model="m",code="200"}"#, "1000").await;
    }
}

#[tokio::test]
async fn who_asked_first_may_leave_and_the_others_read_on_as_it_comes() {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let receiver = Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let stub = Stub::start(move |_| {
        let receiver = Arc::clone(&receiver);
        Box::pin(async move {
            let receiver = receiver.lock().await.take().unwrap();
            let pieces = futures::stream::unfold(receiver, |mut all| async move { Some((all.recv().await?, all)) });
            reply(200, "text/event-stream", Body::from_stream(pieces))
        })
    })
    .await;
    let stage = Stage::with(config(false), vec![stub.target("a")]).await;
    sender.send(Ok(Bytes::from("data: one\n\n"))).await.unwrap();
    let mut first = stage.post(CHAT, COLD).await.into_body();
    assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "data: one\n\n");
    let mut second = stage.post(CHAT, COLD).await.into_body();
    assert_eq!(second.frame().await.unwrap().unwrap().into_data().unwrap(), "data: one\n\n");
    drop(first);
    sender.send(Ok(Bytes::from("data: two\n\n"))).await.unwrap();
    assert_eq!(second.frame().await.unwrap().unwrap().into_data().unwrap(), "data: two\n\n");
    // When the last one leaves too, the engine is told, and nothing is kept.
    drop(second);
    eventually(|| sender.is_closed(), || "the engine works on for nobody".to_owned()).await;
    stage.metric_becomes("datahall_gateway_cache_entries", "0").await;
    stage.metric_becomes(r#"datahall_gateway_engine_in_flight{engine="a",model="m"}"#, "0").await;
}

#[tokio::test]
async fn a_hit_takes_a_request_of_the_key_and_no_tokens() {
    let stub = Stub::json(ANSWER).await;
    let stage = Stage::with(config(false), vec![stub.target("a")]).await;
    // 18,000 of 20,000 tokens are reserved, 8 used: a thousand hits would be 8,000 more if they cost any.
    let body = COLD.replace("\"max_tokens\":9", "\"max_tokens\":18000");
    assert_eq!(how(&stage, BOUNDED, &[], &body).await, "miss");
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
    for _ in 0..1_000 {
        assert_eq!(how(&stage, BOUNDED, &[], &body).await, "hit");
    }
    // The next question reserves 19,900 tokens: it fits beside the first 8 alone.
    let other = COLD.replace("\"max_tokens\":9", "\"max_tokens\":19900");
    assert_eq!(how(&stage, BOUNDED, &[], &other).await, "miss");
    assert_eq!(stub.asked(), 2);
}

/// Embeds a text as how often `a`, `b` and `c` stand in it, and answers chats.
async fn embedder() -> Stub {
    Stub::start(|seen| {
        Box::pin(async move {
            if seen.path != "/v1/embeddings" {
                return reply(200, "application/json", ANSWER);
            }
            let asked: Value = serde_json::from_slice(&seen.body).unwrap();
            let text = asked["input"].as_str().unwrap();
            let counts = ['a', 'b', 'c'].map(|letter| text.matches(letter).count());
            let answer =
                json!({"data": [{"index": 0, "embedding": counts}], "usage": {"prompt_tokens": 1, "total_tokens": 1}});
            reply(200, "application/json", answer.to_string())
        })
    })
    .await
}

async fn semantic() -> (Stub, Stage) {
    let stub = embedder().await;
    let semantic = SemanticConfig { embeddings: "e".to_owned(), similar_milli: 950 };
    let options = Options { semantic: BTreeMap::from([("m".to_owned(), semantic)]), ..Options::default() };
    let config = GatewayConfig { options, ..GatewayConfig::default() };
    let embeddings = EngineTarget { model: "e".to_owned(), ..stub.target("e") };
    let stage = Stage::with(config, vec![stub.target("a"), embeddings]).await;
    (stub, stage)
}

fn question(text: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"system","content":"s"}},{{"role":"user","content":"{text}"}}]}}"#)
}

#[tokio::test]
async fn questions_that_mean_the_same_share_an_answer_of_one_caller() {
    let (stub, stage) = semantic().await;
    assert_eq!(how(&stage, CALLER, &[], &question("aaab")).await, "miss");
    assert_eq!(how(&stage, CALLER, &[], &question("aaaaaaab b")).await, "semantic");
    assert_eq!(how(&stage, CALLER, &[], &question("bbbb")).await, "miss");
    assert_eq!(how(&stage, CALLER, &[], &question("xyz")).await, "miss", "it means nothing");
    assert_eq!(how(&stage, &format!("{TENANT}other"), &[], &question("aaab")).await, "miss");
    // All else has to be the same.
    assert_eq!(how(&stage, CALLER, &[], &question("aaab").replace("\"s\"", "\"t\"")).await, "miss");
    assert_eq!(how(&stage, CALLER, &[], &question("aaab").replace("\"m\",", "\"m\",\"top_p\":0.5,")).await, "miss");
    assert_eq!(how(&stage, CALLER, &[("cache-control", "no-cache")], &question("aaab")).await, "miss");
    assert_eq!(how(&stage, CALLER, &[("cache-control", "no-store")], &question("aaab")).await, "");
    let chats = stub.seen().iter().filter(|seen| seen.path == CHAT).count();
    assert_eq!(chats, 8);
    stage.metric_becomes(r#"datahall_gateway_semantic_cache_total{event="hit"}"#, "1").await;
    stage.metric_becomes(r#"datahall_gateway_semantic_cache_total{event="no_embedding"}"#, "1").await;
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
}

#[tokio::test]
async fn tools_images_and_other_models_have_no_semantic_cache() {
    let (stub, stage) = semantic().await;
    let tools = question("aaab").replace("\"m\",", "\"m\",\"tools\":[{\"type\":\"function\"}],");
    let image = question("aaab")
        .replace("\"aaab\"", r#"[{"type":"image_url","image_url":{"url":"http://x"}},{"type":"text","text":"aaab"}]"#);
    let called = question("aaab").replace("\"content\":\"s\"", "\"content\":\"s\",\"tool_calls\":[]");
    let ends = question("aaab").replace("\"user\"", "\"assistant\"");
    for body in [&tools, &image, &called, &ends, &question("aaab").replace("\"m\"", "\"e\"")] {
        for _ in 0..2 {
            assert_eq!(how(&stage, CALLER, &[], body).await, "", "{body}");
        }
    }
    assert!(stub.seen().iter().all(|seen| seen.path == CHAT));
    let parts = question("aaab").replace("\"aaab\"", r#"[{"type":"text","text":"aaab"}]"#);
    assert_eq!(how(&stage, CALLER, &[], &parts).await, "miss");
    assert_eq!(how(&stage, CALLER, &[], &parts).await, "semantic");
}

#[tokio::test]
async fn without_the_model_of_embeddings_engines_answer_as_ever() {
    let (stub, stage) = semantic().await;
    stage.gateway.set_engines(vec![stub.target("a")]).unwrap();
    for _ in 0..2 {
        assert_eq!(how(&stage, CALLER, &[], &question("aaab")).await, "miss");
    }
    assert_eq!(stub.asked(), 2);
}
