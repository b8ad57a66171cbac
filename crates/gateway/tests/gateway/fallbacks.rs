//! Other models in place of one whose engines do not answer.

use std::collections::BTreeMap;

use dh_gateway::{EngineTarget, GatewayConfig, LineConfig, Options, Price};
use http::HeaderMap;

use crate::stage::*;

const ANSWER: &str = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;

fn config(pairs: &[(&str, &[&str])]) -> GatewayConfig {
    let list =
        |(model, others): &(&str, &[&str])| ((*model).to_owned(), others.iter().map(ToString::to_string).collect());
    let options = Options { fallbacks: pairs.iter().map(list).collect(), ..Options::default() };
    GatewayConfig { options, ..GatewayConfig::default() }
}

fn of(model: &str, stub: &Stub) -> EngineTarget {
    EngineTarget { model: model.to_owned(), ..stub.target(&format!("{model}/{}", stub.address)) }
}

async fn ask(stage: &Stage, key: &str, body: &str) -> (u16, HeaderMap, String) {
    let response = stage.send("POST", CHAT, Some(key), body.to_owned()).await;
    let headers = response.headers().clone();
    let (status, body) = text(response).await;
    (status.as_u16(), headers, body)
}

#[tokio::test]
async fn another_model_answers_and_says_so_and_only_the_name_changes() {
    let body = r#"{ "x":1e999, "model" : "m", "messages":[{"content":"\"model\":\"m\""}] }"#;
    for bad in [429, 500, 502, 503, 504, 401] {
        let (broken, third, good) =
            (Stub::status(bad, "{}").await, Stub::status(503, "{}").await, Stub::json(ANSWER).await);
        let targets = vec![of("m", &broken), of("n", &third), of("o", &good)];
        let stage = Stage::with(config(&[("m", &["gone", "n", "o"])]), targets).await;
        let (status, headers, answer) = ask(&stage, CALLER, body).await;
        assert_eq!((status, answer.as_str()), (200, ANSWER), "{bad}");
        assert_eq!(headers["x-datahall-model"], "o");
        assert_eq!((broken.asked(), third.asked(), good.asked()), (1, 1, 1));
        assert_eq!(good.seen()[0].body, body.replace("\"model\" : \"m\"", "\"model\" : \"o\""));
        stage.metric_becomes(r#"datahall_gateway_requests_total{model="o",code="200"}"#, "1").await;
    }
}

#[tokio::test]
async fn a_model_that_answers_is_not_replaced() {
    for status in [200, 400, 404, 422] {
        let (first, other) = (Stub::status(status, ANSWER).await, Stub::json(ANSWER).await);
        let stage = Stage::with(config(&[("m", &["o"])]), vec![of("m", &first), of("o", &other)]).await;
        let (got, headers, _) = ask(&stage, CALLER, r#"{"model":"m","messages":[]}"#).await;
        assert_eq!((got, headers.contains_key("x-datahall-model"), other.asked()), (status, false, 0));
    }
}

#[tokio::test]
async fn dead_engines_and_models_without_engines_are_replaced_and_streams_too() {
    let stream = "data: {}\n\ndata: [DONE]\n\n";
    let good = Stub::start(move |_| Box::pin(async move { reply(200, "text/event-stream", stream) })).await;
    let dead = EngineTarget { model: "m".to_owned(), ..target("dead", nowhere().await) };
    let stage = Stage::with(config(&[("m", &["o"]), ("never", &["o"])]), vec![dead, of("o", &good)]).await;
    // The breaker of the dead engine opens on the way.
    for _ in 0..6 {
        let (status, headers, body) = ask(&stage, CALLER, r#"{"model":"m","stream":true}"#).await;
        assert_eq!((status, body.as_str(), headers["x-datahall-model"].as_bytes()), (200, stream, &b"o"[..]));
    }
    assert_eq!(ask(&stage, CALLER, r#"{"model":"never"}"#).await.0, 200);
    let (status, _, body) = ask(&stage, CALLER, r#"{"model":"other"}"#).await;
    assert_eq!((status, error_of(&body)["code"].as_str()), (404, Some("model_not_found")));
}

#[tokio::test]
async fn when_all_fail_the_caller_hears_of_the_model_it_asked() {
    let (first, other) = (Stub::status(503, r#"{"error":{"message":"mine"}}"#).await, Stub::status(500, "{}").await);
    let stage = Stage::with(config(&[("m", &["o"])]), vec![of("m", &first), of("o", &other)]).await;
    let (status, headers, body) = ask(&stage, CALLER, r#"{"model":"m"}"#).await;
    assert_eq!((status, body.as_str()), (503, r#"{"error":{"message":"mine"}}"#));
    assert!(!headers.contains_key("x-datahall-model"));
    assert_eq!(other.asked(), 1);
}

#[tokio::test]
async fn a_key_for_one_model_does_not_get_another() {
    let (first, other) = (Stub::status(503, "{}").await, Stub::json(ANSWER).await);
    // The key's models are `m` and `priced`.
    let stage = Stage::with(config(&[("m", &["o"])]), vec![of("m", &first), of("o", &other)]).await;
    assert_eq!(ask(&stage, BOUNDED, r#"{"model":"m","max_tokens":1}"#).await.0, 503);
    assert_eq!(other.asked(), 0);
}

#[tokio::test]
async fn the_model_that_answered_is_paid_and_once() {
    let (first, other) = (Stub::status(503, "{}").await, Stub::json(ANSWER).await);
    let mut config = config(&[("m", &["priced"])]);
    // Three and five tokens cost 8 millionths; the budget is 100.
    let price = Price { prompt: 1_000_000, cached: 1_000_000, answer: 1_000_000 };
    config.prices = BTreeMap::from([("priced".to_owned(), price)]);
    let stage = Stage::with(config, vec![of("m", &first), of("priced", &other)]).await;
    let mut served = 0;
    for _ in 0..20 {
        served += u32::from(ask(&stage, BOUNDED, r#"{"model":"m","max_tokens":5,"messages":[]}"#).await.0 == 200);
        stage.metric_becomes("datahall_gateway_in_flight", "0").await;
    }
    // A request reserves 5 and the estimate of its prompt, 17: the last ones no longer fit.
    assert!((9..=11).contains(&served), "{served}");
}

#[tokio::test]
async fn a_full_line_is_a_reason_to_ask_another_model() {
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = Stub::start(move |_| {
        let mut released = released.clone();
        Box::pin(async move {
            released.wait_for(|go| *go).await.unwrap();
            reply(200, "application/json", ANSWER)
        })
    })
    .await;
    let other = Stub::json(ANSWER).await;
    let mut config = config(&[("m", &["o"])]);
    config.options.line = Some(LineConfig { length_max: 0, ..LineConfig::new(1) });
    let stage = Stage::with(config, vec![of("m", &slow), of("o", &other)]).await;
    let first = ask(&stage, CALLER, r#"{"model":"m"}"#);
    let second = async {
        eventually(|| slow.asked() == 1, || "it did not go".to_owned()).await;
        let (status, headers, _) = ask(&stage, CALLER, r#"{"model":"m"}"#).await;
        assert_eq!((status, headers["x-datahall-model"].as_bytes()), (200, &b"o"[..]));
        release.send(true).unwrap();
    };
    let ((status, headers, _), ()) = futures::join!(first, second);
    assert_eq!((status, headers.contains_key("x-datahall-model")), (200, false));
}
