//! What passes through, and how it is spread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dh_gateway::{EngineKind, GatewayConfig};
use http_body_util::Full;

use crate::stage::*;

const ANSWER: &str = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;

#[tokio::test]
async fn round_robin_spreads_evenly() {
    let stubs = [Stub::json(ANSWER).await, Stub::json(ANSWER).await, Stub::json(ANSWER).await];
    let stage = Stage::new(vec![stubs[0].target("a"), stubs[1].target("b"), stubs[2].target("c")]).await;
    for _ in 0..30 {
        assert_eq!(stage.chat().await, (200.try_into().unwrap(), ANSWER.to_owned()));
    }
    assert_eq!(stubs.each_ref().map(Stub::asked), [10; 3]);
}

#[tokio::test]
async fn least_in_flight_avoids_the_busy_engine() {
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = Stub::start(move |_| {
        let mut released = released.clone();
        Box::pin(async move {
            released.wait_for(|go| *go).await.unwrap();
            reply(200, "application/json", ANSWER)
        })
    })
    .await;
    let fast = Stub::json(ANSWER).await;
    let config = GatewayConfig { policy: "least_in_flight".to_owned(), ..GatewayConfig::default() };
    let stage = Stage::with(config, vec![slow.target("slow"), fast.target("fast")]).await;
    let stuck = stage.chat();
    let others = async {
        eventually(|| slow.asked() == 1, || "the first request went elsewhere".to_owned()).await;
        for _ in 0..8 {
            stage.chat().await;
        }
        release.send(true).unwrap();
    };
    futures::join!(stuck, others);
    assert_eq!((slow.asked(), fast.asked()), (1, 8));
}

#[tokio::test]
async fn bodies_pass_as_the_same_bytes_and_keys_do_not_pass() {
    let stub = Stub::json(ANSWER).await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let body =
        "{ \"unknown\" : 1e999 ,\n\"model\":\"m\", \"x\":\"\\u0000\u{1f600}\",\"n\":12345678901234567890123 } \n";
    let request = http::Request::post(format!("http://{}{CHAT}?api-version=1", stage.address))
        .header("authorization", format!("bearer {CALLER}"))
        .header("cookie", "session=1")
        .header("x-api-key", CALLER)
        .header("x-tag", format!("me {CALLER}"))
        .header("x-other", "kept")
        .header("x-request-id", "my-id-7")
        .header("content-type", "text/plain")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = stage.request(request).await;
    assert_eq!(response.headers()["x-request-id"], "my-id-7");
    assert_eq!(text(response).await.1, ANSWER);
    let seen = stub.seen().pop().unwrap();
    assert_eq!(seen.body, body);
    assert_eq!(seen.path, CHAT);
    assert_eq!(seen.headers["authorization"], format!("Bearer {ENGINE_KEY}"));
    assert_eq!(seen.headers["x-other"], "kept");
    assert_eq!(seen.headers["x-request-id"], "my-id-7");
    assert_eq!(seen.headers["host"], stub.address.to_string());
    let all = format!("{:?}", seen.headers.iter().map(|(name, value)| (name, value.as_bytes())).collect::<Vec<_>>());
    assert!(!format!("{:?}", seen.headers).contains(CALLER) && !all.contains(CALLER), "{all}");
    assert!(!seen.headers.contains_key("cookie"));
}

#[tokio::test]
async fn an_engine_without_a_key_gets_none() {
    let stub = Stub::json(ANSWER).await;
    let mut target = stub.target("a");
    target.key = None;
    let stage = Stage::new(vec![target]).await;
    assert_eq!(stage.chat().await.0, 200);
    assert!(!stub.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn completions_and_embeddings_pass_and_errors_of_engines_pass_untouched() {
    let stub = Stub::status(422, r#"{"error":{"message":"too long","extra":1}}"#).await;
    let mut target = stub.target("a");
    target.url = format!("http://{}/sub/v1/", stub.address);
    let stage = Stage::new(vec![target]).await;
    for path in ["/v1/completions", "/v1/embeddings"] {
        let (status, body) = text(stage.post(path, r#"{"model":"m"}"#).await).await;
        assert_eq!((status.as_u16(), body.as_str()), (422, r#"{"error":{"message":"too long","extra":1}}"#));
        assert_eq!(stub.seen().pop().unwrap().path, format!("/sub{path}"));
    }
}

#[tokio::test]
async fn models_are_listed_and_found_even_with_slashes() {
    let stub = Stub::json(ANSWER).await;
    let mut other = stub.target("b");
    other.model = "org/model-7b".to_owned();
    let stage = Stage::new(vec![stub.target("a"), other]).await;
    let (status, body) = stage.get("/v1/models").await;
    assert_eq!(status, 200);
    let list: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m", "org/model-7b"]);
    for path in ["/v1/models/org/model-7b", "/v1/models/org%2Fmodel-7b"] {
        let (status, body) = stage.get(path).await;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(r#""id":"org/model-7b""#));
    }
    assert_eq!(error_of(&stage.get("/v1/models/none").await.1)["code"], "model_not_found");
    assert_eq!(stub.asked(), 0);
}

#[tokio::test]
async fn the_open_inference_protocol_passes_to_classifiers_only() {
    let stub = Stub::json(r#"{"outputs":[]}"#).await;
    let mut classifier = stub.target("a");
    classifier.model = "org/spam".to_owned();
    classifier.kind = EngineKind::Classifier;
    let stage = Stage::new(vec![classifier, stub.target("b")]).await;
    let binary = Bytes::from_static(b"{\"inputs\":[]}\x00\xff\x01");
    let (status, body) = text(stage.post("/v2/models/org%2Fspam/infer", binary.clone()).await).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"outputs":[]}"#));
    assert_eq!(stub.seen()[0].path, "/v2/models/org%2Fspam/infer");
    assert_eq!(stub.seen()[0].body, binary);
    assert_eq!(stage.get("/v2/models/org/spam").await.0, 200);
    assert_eq!(stub.seen()[1].path, "/v2/models/org/spam");
    assert_eq!(stub.asked(), 2);

    for (path, status, code) in [
        ("/v2/models/m/infer", 400, "wrong_protocol"),
        ("/v2/models/none/infer", 404, "model_not_found"),
        ("/v2/models/org/spam/delete", 404, "not_found"),
        ("/v2/models/org/spam/../m/infer", 404, "not_found"),
    ] {
        let (got, body) = text(stage.post(path, "{}").await).await;
        assert_eq!((got.as_u16(), error_of(&body)["code"].as_str()), (status, Some(code)), "{path}: {body}");
    }
    let (status, body) = text(stage.post(CHAT, r#"{"model":"org/spam"}"#).await).await;
    assert_eq!((status.as_u16(), error_of(&body)["code"].as_str()), (400, Some("wrong_protocol")));
    assert_eq!(stub.asked(), 2);
}

#[tokio::test]
async fn engines_come_and_go_under_load_and_no_request_fails() {
    let stubs = [Stub::json(ANSWER).await, Stub::json(ANSWER).await];
    let stage = Arc::new(Stage::new(vec![stubs[0].target("a")]).await);
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (stage, done) = (Arc::clone(&stage), Arc::clone(&done));
            tokio::spawn(async move {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    let (status, body) = stage.chat().await;
                    assert_eq!((status.as_u16(), body.as_str()), (200, ANSWER));
                    count += 1;
                }
                count
            })
        })
        .collect();
    for round in 0..200 {
        let set = match round % 3 {
            0 => vec![stubs[1].target("b")],
            1 => vec![stubs[0].target("a"), stubs[1].target("b")],
            _ => vec![stubs[0].target("a2")],
        };
        stage.gateway.set_engines(set).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    done.store(true, Ordering::Relaxed);
    let mut total = 0;
    for caller in callers {
        total += caller.await.unwrap();
    }
    assert_eq!(stubs[0].asked() + stubs[1].asked(), total);
    assert!(stubs.iter().all(|stub| stub.asked() > 0));
}

#[tokio::test]
async fn metrics_count_requests_and_tokens_and_hold_no_key() {
    let stub = Stub::json(ANSWER).await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    for _ in 0..3 {
        stage.chat().await;
    }
    drop(stage.send("POST", CHAT, Some("dh-model-wrong-canary"), "{}").await);
    text(stage.post(CHAT, r#"{"model":"invented-by-a-caller"}"#).await).await;
    stage.metric_becomes(r#"datahall_gateway_requests_total{model="m",code="200"}"#, "3").await;
    stage.metric_becomes(r#"datahall_gateway_prompt_tokens_total{model="m"}"#, "9").await;
    stage.metric_becomes(r#"datahall_gateway_completion_tokens_total{model="m"}"#, "15").await;
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
    stage.metric_becomes(r#"datahall_gateway_engine_in_flight{engine="a",model="m"}"#, "0").await;
    stage.metric_becomes(r#"datahall_gateway_requests_total{model="",code="401"}"#, "1").await;
    stage.metric_becomes(r#"datahall_gateway_requests_total{model="",code="404"}"#, "1").await;
    let (status, metrics) = stage.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(!metrics.contains("canary") && !metrics.contains("invented"), "{metrics}");
    assert_eq!(stage.send("GET", "/metrics", None, "").await.status(), 401);
}
