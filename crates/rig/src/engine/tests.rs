//! The engine asked over real connections: what is cached, streams, faults, and full slots.

use super::*;

async fn start(config: Config) -> (Engine, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let engine = Engine::new(config);
    let serving = engine.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    (engine, stream)
}

async fn ask(stream: &mut TcpStream, path: &str, fields: &str, body: &str) -> String {
    let text = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{fields}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let mut reader: Option<(usize, crate::message::BodyReader)> = None;
    loop {
        if stream.read_buf(&mut got).await.unwrap() == 0 {
            break;
        }
        if reader.is_none() {
            reader = head_end(&got).map(|end| (end, crate::message::BodyReader::of(&got[..end])));
        }
        if let Some((seen, body)) = &mut reader {
            *seen += body.push(&got[*seen..], |_| {});
            if body.done() {
                break;
            }
        }
    }
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn repeated_prompts_are_cached_and_reported() {
    let (engine, mut stream) = start(Config { blocks: 64, ..Config::default() }).await;
    let body = format!("{{\"messages\":\"{}\"}}", "x".repeat(1_000));
    let first = ask(&mut stream, "/v1/chat/completions", "", &body).await;
    assert!(first.contains("\"cached_tokens\":0"), "{first}");
    let second = ask(&mut stream, "/v1/chat/completions", "", &body).await;
    assert!(second.contains("\"prompt_tokens\":251") && second.contains("\"cached_tokens\":240"), "{second}");
    assert_eq!((engine.requests(), engine.prompt_tokens()), (2, (502, 240)));
}

#[tokio::test]
async fn streams_have_as_many_events_as_tokens_and_report_usage() {
    let (_, mut stream) = start(Config::default()).await;
    let body = r#"{"stream":true,"max_tokens":5,"stream_options":{"include_usage":true},"messages":[]}"#;
    let got = ask(&mut stream, "/v1/chat/completions", "", body).await;
    assert_eq!(got.matches("word ").count(), 5);
    assert!(got.contains("\"completion_tokens\":5") && got.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn faults_come_as_asked() {
    let (_, mut stream) = start(Config::default()).await;
    let got = ask(&mut stream, "/v1/chat/completions", "x-stub: status=503\r\n", "{}").await;
    assert!(got.starts_with("HTTP/1.1 503"), "{got}");
    let got = ask(&mut stream, "/v1/chat/completions", "x-stub: cut=20\r\n", "{}").await;
    assert_eq!(got.len(), 20);
}

#[tokio::test]
async fn a_full_engine_makes_requests_wait_and_loses_none() {
    let config = Config { blocks: 20, decode: Duration::from_micros(200), answer: 4, ..Config::default() };
    let (engine, stream) = start(config).await;
    let address = stream.peer_addr().unwrap();
    let asks = (0..20).map(|number| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, "/v1/completions", "", &format!("{{\"prompt\":\"{number}{}\"}}", "y".repeat(900))).await
    });
    let mut set = tokio::task::JoinSet::new();
    asks.for_each(|ask| drop(set.spawn(ask)));
    while let Some(answer) = set.join_next().await {
        assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    }
    assert_eq!((engine.requests(), lock(&engine.shared.cache).free()), (20, 20));
}
