//! Bytes on the wire, on both sides: messages cut at every byte, pipelined, and connections that end when it hurts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dh_gateway::GatewayConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::*;

/// What the raw engine does with a request: writes pieces, a moment apart, then keeps the connection or closes it.
#[derive(Clone)]
struct Script {
    pieces: Vec<Vec<u8>>,
    keeps: Keeps,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Open,
    Closed,
}

fn script(pieces: &[&[u8]], keeps: Keeps) -> Script {
    Script { pieces: pieces.iter().map(|piece| piece.to_vec()).collect(), keeps }
}

/// An engine without a library: `answer` is asked with the number of the connection and that of the request on it.
struct Raw {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Raw {
    async fn start(answer: impl Fn(usize, usize) -> Script + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (opened, counted, answer) = (Arc::clone(&connections), Arc::clone(&asked), Arc::new(answer));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = opened.fetch_add(1, Ordering::SeqCst);
                let (answer, counted) = (Arc::clone(&answer), Arc::clone(&counted));
                tokio::spawn(async move {
                    let mut stream = stream;
                    for turn in 0.. {
                        if !request(&mut stream).await {
                            return;
                        }
                        counted.fetch_add(1, Ordering::SeqCst);
                        let Script { pieces, keeps } = answer(number, turn);
                        for (place, piece) in pieces.iter().enumerate() {
                            if place > 0 {
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                            // The gateway may have given this answer up.
                            if stream.write_all(piece).await.is_err() {
                                return;
                            }
                        }
                        if keeps == Keeps::Closed {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, connections, asked, task }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request with a length; tells whether there was one.
async fn request(stream: &mut TcpStream) -> bool {
    let mut got = Vec::new();
    loop {
        if let Some(at) = got.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&got[..at]).to_ascii_lowercase();
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            if got.len() >= at + 4 + length {
                return true;
            }
        }
        if stream.read_buf(&mut got).await.unwrap_or(0) == 0 {
            return false;
        }
    }
}

/// A chat as bytes; `fields` are further lines of its head.
fn chat(fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {CALLER}\r\n{fields}content-length: {length}\r\n\r\n{body}"
    )
}

const BODY: &str = r#"{"model":"m","messages":[]}"#;

/// Writes the pieces a moment apart, then reads to the end.
async fn exchange(stage: &Stage, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for (place, piece) in pieces.iter().enumerate() {
        if place > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stream.write_all(piece).await.unwrap();
    }
    let mut got = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut got)).await.expect("no end").unwrap();
    got
}

/// The status and the content of an answer; nothing if it is not whole.
fn whole(answer: &[u8]) -> Option<(u16, String)> {
    let text = std::str::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    if head.contains("transfer-encoding: chunked") {
        let (mut rest, mut content) = (body, String::new());
        loop {
            let (size, behind) = rest.split_once("\r\n")?;
            let size = usize::from_str_radix(size, 16).unwrap();
            content.push_str(behind.get(..size)?);
            rest = behind.get(size..)?.strip_prefix("\r\n")?;
            if size == 0 {
                assert_eq!(rest, "", "something stands behind the answer");
                return Some((status, content));
            }
        }
    }
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().unwrap();
    assert!(body.len() <= length);
    (body.len() == length).then(|| (status, body.to_owned()))
}

#[tokio::test]
async fn a_request_cut_at_every_byte_is_the_same_request() {
    let stub = Stub::json(r#"{"ok":1}"#).await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let text = chat("connection: close\r\nx-mine: 7\r\n", BODY);
    for cut in 0..=text.len() {
        let (first, second) = text.as_bytes().split_at(cut);
        let answer = exchange(&stage, &[first, second]).await;
        assert_eq!(whole(&answer).unwrap(), (200, r#"{"ok":1}"#.to_owned()), "cut at {cut}");
    }
    for seen in stub.seen() {
        assert_eq!((seen.headers["x-mine"].to_str().unwrap(), &*seen.body), ("7", BODY.as_bytes()));
    }
    assert_eq!(stub.asked(), text.len() + 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_by_whoever_serves_them() {
    let stub = Stub::start(|seen| {
        let text = String::from_utf8(seen.body.to_vec()).unwrap();
        Box::pin(async move { reply(200, "application/json", text) })
    })
    .await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let body = |number: u32| format!(r#"{{"model":"m","messages":[{number}]}}"#);
    let unknown = r#"{"model":"x"}"#;
    let text = [
        chat("", &body(1)),
        chat("", unknown),
        chat("", &body(2)),
        // From here on it is hyper's.
        format!("GET /v1/models HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {CALLER}\r\n\r\n"),
        chat("", &body(3)),
        chat("connection: close\r\n", &body(4)),
    ]
    .concat();
    for cut in [0, 1, 150, 200, 400, 650, text.len()] {
        let (first, second) = text.as_bytes().split_at(cut);
        let answer = exchange(&stage, &[first, second]).await;
        let answer = String::from_utf8(answer).unwrap();
        let places: Vec<_> = [&body(1), "model_not_found", &body(2), "\"object\":\"list\"", &body(3), &body(4)]
            .iter()
            .map(|part| answer.find(part).unwrap_or_else(|| panic!("{part} is not in {answer}")))
            .collect();
        assert!(places.is_sorted(), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 6);
    }
}

#[tokio::test]
async fn what_stands_behind_a_long_body_is_the_next_request() {
    let stub = Stub::start(|seen| {
        let length = seen.body.len();
        Box::pin(async move { reply(200, "application/json", format!(r#"{{"length":{length}}}"#)) })
    })
    .await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    // Longer than what is read with the head, so that their end is read where they stay.
    let body = |length: usize| format!(r#"{{"model":"m","messages":["{}"]}}"#, "x".repeat(length));
    let bodies = [body(40_000), body(70_000), body(5), body(16 << 10)];
    let texts: Vec<String> =
        bodies.iter().map(|body| chat("", body)).chain([chat("connection: close\r\n", BODY)]).collect();
    let ends: Vec<usize> = texts
        .iter()
        .scan(0, |end, text| {
            *end += text.len();
            Some(*end)
        })
        .collect();
    let text = texts.concat();
    for cut in ends.iter().flat_map(|end| [end - 1, *end, (end + 1).min(text.len())]).chain([1, 20_000]) {
        let (first, second) = text.as_bytes().split_at(cut);
        let answer = String::from_utf8(exchange(&stage, &[first, second]).await).unwrap();
        let places: Vec<_> = bodies
            .iter()
            .map(|body| format!(r#"{{"length":{}}}"#, body.len()))
            .map(|part| answer.find(&part).unwrap_or_else(|| panic!("{part} is not in {answer}")))
            .collect();
        assert!(places.is_sorted(), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 200").count(), texts.len(), "cut at {cut}");
    }
}

/// What engines send, and the status and content that a caller must get.
const ANSWERS: &[(&str, u16, &str, Keeps)] = &[
    ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, "hello", Keeps::Open),
    ("HTTP/1.1 200 OK\r\nContent-Length:0\r\n\r\n", 200, "", Keeps::Open),
    ("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", 404, "{}", Keeps::Closed),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=\"y\"\r\nllo\r\n0\r\nx-end: 1\r\n\r\n",
        200,
        "hello",
        Keeps::Open,
    ),
    (
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1",
        200,
        "1",
        Keeps::Open,
    ),
    ("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end", Keeps::Closed),
    ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold", 200, "old", Keeps::Closed),
];

#[tokio::test]
async fn an_answer_cut_at_every_byte_is_the_same_answer_and_one_that_ends_there_never_looks_whole() {
    for (text, status, content, keeps) in ANSWERS {
        let bytes = text.as_bytes();
        let ends_at = text.find("\r\n\r\nuntil").map_or(usize::MAX, |at| at + 4);
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let (parted, ended) = (script(&[first, second], *keeps), script(&[first], Keeps::Closed));
            let engine = Raw::start(move |_, _| parted.clone()).await;
            let stage = Stage::new(vec![target("a", engine.address)]).await;
            let request = chat("connection: close\r\n", BODY);
            let answer = exchange(&stage, &[request.as_bytes()]).await;
            assert_eq!(whole(&answer).unwrap(), (*status, (*content).to_owned()), "{text:?} cut at {cut}");
            if cut == bytes.len() || cut >= ends_at {
                continue;
            }
            let engine = Raw::start(move |_, _| ended.clone()).await;
            let stage = Stage::new(vec![target("a", engine.address)]).await;
            let answer = exchange(&stage, &[request.as_bytes()]).await;
            let honest = whole(&answer).is_none_or(|(status, _)| status == 502);
            assert!(honest, "{text:?} ends at {cut}: {}", String::from_utf8_lossy(&answer));
        }
    }
}

#[tokio::test]
async fn connections_to_engines_are_kept_and_one_that_the_engine_closed_costs_nothing() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    let kept = Raw::start(|_, _| script(&[ANSWER], Keeps::Open)).await;
    let stage = Stage::new(vec![target("a", kept.address)]).await;
    for _ in 0..20 {
        assert_eq!(stage.chat().await.0, 200);
    }
    assert_eq!((kept.connections.load(Ordering::SeqCst), kept.asked.load(Ordering::SeqCst)), (1, 20));

    // Closed behind each answer, which did not say so; and closed at the moment of the next request.
    for keeps in [Keeps::Closed, Keeps::Open] {
        let engine = Raw::start(move |_, turn| match turn {
            0 => script(&[ANSWER], keeps),
            _ => script(&[], Keeps::Closed),
        })
        .await;
        let stage = Stage::new(vec![target("a", engine.address)]).await;
        for number in 0..20 {
            assert_eq!(stage.chat().await.0, 200, "request {number}");
        }
        assert!(engine.connections.load(Ordering::SeqCst) >= 10);
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_are_never_taken_for_the_next_one() {
    const TWO: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let engine = Raw::start(|_, _| script(&[TWO], Keeps::Open)).await;
    let stage = Stage::new(vec![target("a", engine.address)]).await;
    for _ in 0..10 {
        let (status, text) = stage.chat().await;
        assert_eq!((status.as_u16(), text.as_str()), (200, "{}"));
    }
    assert_eq!(engine.connections.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn an_engine_that_answers_before_it_has_read_all_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut some = [0; 1_000];
                stream.read_exact(&mut some).await.unwrap();
                stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                // Closing with unread bytes would take the answer away.
                tokio::time::sleep(Duration::from_secs(5)).await;
            });
        }
    });
    let stage = Stage::new(vec![target("a", address)]).await;
    let body = format!(r#"{{"model":"m","messages":"{}"}}"#, "x".repeat(8 << 20));
    let (status, text) = text(stage.post(CHAT, body).await).await;
    assert_eq!((status.as_u16(), text.as_str()), (413, "{}"));
    engine.abort();
}

#[tokio::test]
async fn threads_serve_connections_and_end_with_the_gateway() {
    let stub = Stub::json("{}").await;
    let config = GatewayConfig { threads: 3, ..GatewayConfig::default() };
    let mut stage = Stage::with(config, vec![stub.target("a")]).await;
    let calls = (0..30).map(|_| stage.chat());
    for (status, _) in futures::future::join_all(calls).await {
        assert_eq!(status, 200);
    }
    assert_eq!(stub.asked(), 30);
    stage.stop();
    let served = stage.served.take().unwrap();
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("serve returns").unwrap();
}
