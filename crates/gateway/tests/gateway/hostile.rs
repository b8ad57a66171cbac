//! Peers that do not speak HTTP as they should, over raw sockets.

use std::time::Duration;

use dh_gateway::{GatewayConfig, Timeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::*;

async fn stage(stub: &Stub) -> Stage {
    let timeouts = Timeouts {
        head: Duration::from_millis(300),
        body_gap: Duration::from_millis(300),
        body_total: Duration::from_millis(900),
        ..Timeouts::default()
    };
    Stage::with(GatewayConfig { timeouts, connections_max: 64, ..GatewayConfig::default() }, vec![stub.target("a")])
        .await
}

/// Writes `text`, then reads until the gateway closes or answers; an open connection without answer fails the test.
async fn raw(stage: &Stage, text: &str) -> String {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    // The gateway may close while we still write.
    drop(stream.write_all(text.as_bytes()).await);
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> String {
    let mut got = vec![0; 4_096];
    let read =
        tokio::time::timeout(Duration::from_secs(5), stream.read(&mut got)).await.expect("neither answer nor close");
    got.truncate(read.unwrap_or(0));
    String::from_utf8_lossy(&got).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("closed")
}

#[tokio::test]
async fn malformed_heads_get_a_4xx_or_a_close_and_reach_no_engine() {
    let stub = Stub::json("{}").await;
    let stage = stage(&stub).await;
    let auth = format!("Authorization: Bearer {CALLER}\r\n");
    let post = format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\n{auth}");
    let flood = "x-header: y\r\n".repeat(200);
    let body = r#"{"model":"m"}"#;
    for (name, text) in [
        ("no http", "hello\r\n\r\n".to_owned()),
        ("nul", format!("{post}x: \0\r\n\r\n")),
        ("space before colon", format!("{post}content-length : 13\r\n\r\n{body}")),
        ("folded line", format!("{post}x: a\r\n b\r\ncontent-length: 13\r\n\r\n{body}")),
        ("signed length", format!("{post}content-length: +13\r\n\r\n{body}")),
        ("hex length", format!("{post}content-length: 0xd\r\n\r\n{body}")),
        ("two lengths", format!("{post}content-length: 13\r\ncontent-length: 14\r\n\r\n{body}")),
        ("endless length", format!("{post}content-length: 99999999999999999999\r\n\r\n{body}")),
        ("bad chunk size", format!("{post}transfer-encoding: chunked\r\n\r\n-d\r\n{body}\r\n0\r\n\r\n")),
        ("huge chunk size", format!("{post}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{body}")),
        ("unknown encoding", format!("{post}transfer-encoding: xchunked\r\n\r\nd\r\n{body}\r\n0\r\n\r\n")),
        ("many headers", format!("{post}{flood}\r\n")),
        ("long header", format!("{post}x: {}\r\n\r\n", "y".repeat(100_000))),
        ("long line", format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(100_000))),
        ("two keys", format!("{post}{auth}content-length: 13\r\n\r\n{body}")),
        ("short body", format!("{post}content-length: 14\r\n\r\n{body}")),
    ] {
        let answer = raw(&stage, &text).await;
        let code = status(&answer);
        assert!(code.starts_with('4') || code == "closed", "{name}: {answer}");
        assert_eq!(stub.asked(), 0, "{name} reached the engine");
    }
    assert_eq!(stage.chat().await.0, 200, "the next honest request works");
}

#[tokio::test]
async fn slow_heads_are_closed_and_slow_bodies_get_408() {
    let stub = Stub::json("{}").await;
    let stage = stage(&stub).await;
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    let answer = read(&mut stream).await;
    assert!(answer.is_empty() || status(&answer) == "408", "{answer}");

    let head =
        format!("POST {CHAT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {CALLER}\r\ncontent-length: 13\r\n\r\n");
    let answer = raw(&stage, &format!("{head}{{\"mod")).await;
    assert_eq!(status(&answer), "408", "a body that stops: {answer}");

    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    for byte in b"{\"model\":\"m" {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
    }
    assert_eq!(status(&read(&mut stream).await), "408", "a body that drips");
    assert_eq!(stub.asked(), 0);
}

#[tokio::test]
async fn a_body_too_large_is_refused_before_it_is_sent() {
    let stub = Stub::json("{}").await;
    let stage = stage(&stub).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {CALLER}\r\nExpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        dh_core::limits::CHAT_BYTES_MAX + 1
    );
    assert_eq!(status(&raw(&stage, &head).await), "413");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_are_served_when_one_ends() {
    let stub = Stub::json("{}").await;
    let stage =
        Stage::with(GatewayConfig { connections_max: 2, ..GatewayConfig::default() }, vec![stub.target("a")]).await;
    let health = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        stream.write_all(health.as_bytes()).await.unwrap();
        assert_eq!(status(&read(&mut stream).await), "200");
        held.push(stream);
    }
    let mut third = TcpStream::connect(stage.address).await.unwrap();
    third.write_all(health.as_bytes()).await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(200), third.peek(&mut byte)).await;
    assert!(early.is_err(), "served beyond the bound");
    drop(held.pop());
    assert_eq!(status(&read(&mut third).await), "200");
}
