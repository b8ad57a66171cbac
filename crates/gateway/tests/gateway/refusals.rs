//! Every refusal: its status, its body, its headers.

use dh_gateway::{EngineKind, GatewayConfig};

use crate::stage::*;

async fn refused(
    stage: &Stage,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &'static str,
) -> (u16, serde_json::Value) {
    let response = stage.send(method, path, key, body).await;
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(response.headers()["content-type"], "application/json");
    let (status, text) = text(response).await;
    let error = error_of(&text);
    for field in ["message", "type", "code"] {
        assert!(error[field].is_string(), "{text} lacks {field}");
    }
    (status.as_u16(), error)
}

#[tokio::test]
async fn callers_are_checked_on_every_route_but_one() {
    let stub = Stub::json("{}").await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    for (method, path) in [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/m"),
        ("POST", CHAT),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v2/models/m"),
        ("POST", "/v2/models/m/infer"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
        ("DELETE", CHAT),
        ("GET", "/"),
    ] {
        let (status, error) = refused(&stage, method, path, None, "").await;
        assert_eq!((status, error["code"].as_str()), (401, Some("invalid_api_key")), "{method} {path}");
        let (status, error) = refused(&stage, method, path, Some("nobody"), "").await;
        assert_eq!((status, error["type"].as_str()), (401, Some("authentication_error")), "{method} {path}");
        let (status, error) = refused(&stage, method, path, Some(JOB), "").await;
        assert_eq!((status, error["type"].as_str()), (403, Some("permission_error")), "{method} {path}");
    }
    let response = stage.send("GET", "/healthz", None, "").await;
    assert_eq!(text(response).await, (200.try_into().unwrap(), "ok".to_owned()));
    assert_eq!(stub.asked(), 0);
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let stub = Stub::json("{}").await;
    let config = GatewayConfig { body_bytes_max: 100, ..GatewayConfig::default() };
    let stage = Stage::with(config, vec![stub.target("a")]).await;
    stage.gateway.expect_models(vec![("waiting".to_owned(), EngineKind::Chat)]).unwrap();
    let long: &'static str = Box::leak("x".repeat(101).into_boxed_str());
    for (method, path, body, status, code, says) in [
        ("POST", CHAT, r#"{"model":"none"}"#, 404, "model_not_found", "known models: m, waiting"),
        ("POST", CHAT, r#"{"model":"waiting"}"#, 503, "interrupted", "no engine of model `waiting` is ready"),
        ("POST", CHAT, r#"{"model":"#, 400, "invalid", "line 1 column 9"),
        ("POST", CHAT, r#"{"model":"m","model":"m"}"#, 400, "invalid", "duplicate field `model`"),
        ("POST", CHAT, "{}", 400, "missing_required_parameter", "no `model`"),
        ("POST", CHAT, "", 400, "invalid", "empty"),
        ("POST", CHAT, long, 413, "too_large", "100 bytes"),
        ("GET", "/nothing", "", 404, "not_found", "GET /nothing"),
        ("DELETE", CHAT, "", 405, "invalid", "DELETE"),
    ] {
        let (got, error) = refused(&stage, method, path, Some(CALLER), body).await;
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{path} {body}");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    }
    assert_eq!(stub.asked(), 0);
    assert_eq!(stage.chat().await.0, 200, "the next honest request works");
}

#[tokio::test]
async fn a_gateway_without_engines_says_not_ready() {
    let stage = Stage::new(Vec::new()).await;
    let response = stage.post(CHAT, r#"{"model":"m"}"#).await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn work_beyond_the_bound_is_refused_at_once() {
    let (release, released) = tokio::sync::watch::channel(false);
    let stub = Stub::start(move |_| {
        let mut released = released.clone();
        Box::pin(async move {
            released.wait_for(|go| *go).await.unwrap();
            reply(200, "application/json", "{}")
        })
    })
    .await;
    let config = GatewayConfig { in_flight_max: 2, ..GatewayConfig::default() };
    let stage = Stage::with(config, vec![stub.target("a")]).await;
    let third = async {
        eventually(|| stub.asked() == 2, || "not both arrived".to_owned()).await;
        let response = stage.post(CHAT, r#"{"model":"m"}"#).await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(error_of(&text(response).await.1)["type"], "rate_limit_error");
        release.send(true).unwrap();
    };
    let (first, second, ()) = futures::join!(stage.chat(), stage.chat(), third);
    assert_eq!((first.0.as_u16(), second.0.as_u16()), (200, 200));
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
    assert_eq!(stage.chat().await.0, 200, "places come back");
}

#[test]
fn a_wrong_policy_is_refused_with_the_names_there_are() {
    let config = GatewayConfig { policy: "fastest".to_owned(), ..GatewayConfig::default() };
    let error = dh_gateway::Gateway::new(config, std::sync::Arc::new(Keys)).err().unwrap();
    assert!(error.to_string().contains("round_robin"), "{error}");
}
