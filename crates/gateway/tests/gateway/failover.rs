//! Engines that fail before their answer begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dh_gateway::{GatewayConfig, Timeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::stage::*;

const ANSWER: &str = r#"{"ok":true}"#;

/// Takes connections, reads a request, writes `answer`, closes; says how often it was asked.
async fn rude(answer: &'static str) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4_096];
            if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (address, asked)
}

#[tokio::test]
async fn another_engine_is_asked_before_the_first_byte() {
    let good = Stub::json(ANSWER).await;
    let refusing = target("dead", nowhere().await);
    for (bad, kind) in [
        (None, "connect"),
        (Some(Stub::status(503, "{}").await), "unavailable"),
        (Some(Stub::status(502, "{}").await), "unavailable"),
        (Some(Stub::status(429, "{}").await), "busy"),
        (Some(Stub::status(401, "{}").await), "refused"),
    ] {
        let first = bad.as_ref().map_or_else(|| refusing.clone(), |stub| stub.target("dead"));
        let stage = Stage::new(vec![first, good.target("good")]).await;
        for _ in 0..4 {
            let (status, body) = stage.chat().await;
            assert_eq!((status.as_u16(), body.as_str()), (200, ANSWER), "{kind}");
        }
        let name = format!("datahall_gateway_upstream_errors_total{{engine=\"dead\",kind=\"{kind}\"}}");
        assert_eq!(stage.metric(&name).as_deref(), Some("2"), "{}", stage.gateway.metrics());
    }
    assert_eq!(good.asked(), 20);
}

#[tokio::test]
async fn a_plain_error_of_an_engine_is_its_answer_and_is_not_retried() {
    for status in [400, 404, 422, 500, 504] {
        let (bad, other) = (Stub::status(status, "{}").await, Stub::json(ANSWER).await);
        let stage = Stage::new(vec![bad.target("a"), other.target("b")]).await;
        assert_eq!(stage.chat().await.0.as_u16(), status);
        assert_eq!((bad.asked(), other.asked()), (1, 0));
    }
}

#[tokio::test]
async fn when_all_decline_the_caller_gets_an_engines_own_words() {
    let busy = Stub::status(429, r#"{"error":{"message":"engine is full"}}"#).await;
    let stage = Stage::new(vec![busy.target("a"), target("dead", nowhere().await)]).await;
    for _ in 0..2 {
        let (status, body) = stage.chat().await;
        assert_eq!((status.as_u16(), body.as_str()), (429, r#"{"error":{"message":"engine is full"}}"#));
    }
    assert_eq!(busy.asked(), 2, "each engine is asked once per request");
}

#[tokio::test]
async fn an_engine_that_refuses_our_key_does_not_look_like_a_bad_caller() {
    for status in [401, 403, 307] {
        let engine = Stub::status(status, r#"{"error":"who are you"}"#).await;
        let stage = Stage::new(vec![engine.target("a")]).await;
        let (got, body) = stage.chat().await;
        assert_eq!(got, 502);
        assert!(error_of(&body)["message"].as_str().unwrap().contains(&status.to_string()), "{body}");
        assert!(!body.contains("who are you"));
    }
}

#[tokio::test]
async fn a_dead_engine_is_left_alone_and_comes_back_after_the_back_off() {
    let good = Stub::json(ANSWER).await;
    let address = nowhere().await;
    let stage = Stage::new(vec![target("dead", address), good.target("good")]).await;
    let tries = || stage.metric(r#"datahall_gateway_upstream_errors_total{engine="dead",kind="connect"}"#);
    for _ in 0..20 {
        assert_eq!(stage.chat().await.0, 200);
    }
    assert_eq!(tries().as_deref(), Some("3"), "three failures open the breaker");
    assert_eq!(stage.metric(r#"datahall_gateway_engine_healthy{engine="dead",model="m"}"#).as_deref(), Some("0"));

    stage.clock.advance(Duration::from_millis(1_001));
    for _ in 0..20 {
        assert_eq!(stage.chat().await.0, 200);
    }
    assert_eq!(tries().as_deref(), Some("4"), "one trial, which fails");

    let revived = Stub::start_on(address, |_| Box::pin(async { reply(200, "application/json", ANSWER) })).await;
    stage.clock.advance(Duration::from_millis(1_900));
    stage.chat().await;
    stage.chat().await;
    assert_eq!(revived.asked(), 0, "the back-off has doubled");
    stage.clock.advance(Duration::from_millis(200));
    for _ in 0..20 {
        assert_eq!(stage.chat().await.0, 200);
    }
    assert!((9..=11).contains(&revived.asked()), "it takes its share again: {}", revived.asked());
    assert_eq!(stage.metric(r#"datahall_gateway_engine_healthy{engine="dead",model="m"}"#).as_deref(), Some("1"));
}

#[tokio::test]
async fn with_no_engine_left_the_caller_learns_when_to_come_back() {
    let stage = Stage::new(vec![target("dead", nowhere().await)]).await;
    for _ in 0..3 {
        let (status, body) = stage.chat().await;
        assert_eq!((status.as_u16(), error_of(&body)["code"].as_str()), (502, Some("unreachable")));
    }
    let response = stage.post(CHAT, r#"{"model":"m"}"#).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(error_of(&text(response).await.1)["message"].as_str().unwrap().contains("no engine of model `m` is ready"));
}

#[tokio::test]
async fn a_request_that_kills_engines_kills_at_most_two() {
    let engines = [rude("").await, rude("").await, rude("").await, rude("").await];
    let targets =
        engines.iter().enumerate().map(|(index, (address, _))| target(&index.to_string(), *address)).collect();
    let stage = Stage::new(targets).await;
    assert_eq!(stage.chat().await.0, 502);
    let asked: usize = engines.iter().map(|(_, asked)| asked.load(Ordering::SeqCst)).sum();
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn an_engine_that_closes_kept_connections_without_a_word_loses_no_request() {
    let (address, asked) = rude("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let stage = Stage::new(vec![target("a", address)]).await;
    for round in 0..200 {
        let (status, body) = stage.chat().await;
        assert_eq!((status.as_u16(), body.as_str()), (200, "{}"), "round {round}");
    }
    assert!(asked.load(Ordering::SeqCst) >= 200);
}

#[tokio::test]
async fn a_slow_engine_is_given_up_and_not_replaced() {
    let slow = Stub::start(|_| Box::pin(std::future::pending())).await;
    let other = Stub::json(ANSWER).await;
    let timeouts = Timeouts { first_byte: Duration::from_millis(100), ..Timeouts::default() };
    let config = GatewayConfig { timeouts, ..GatewayConfig::default() };
    let stage = Stage::with(config, vec![slow.target("slow"), other.target("b")]).await;
    let (status, body) = stage.chat().await;
    assert_eq!((status.as_u16(), error_of(&body)["code"].as_str()), (504, Some("timeout")));
    assert_eq!(other.asked(), 0);
}
