//! Streams: relayed piece by piece, watched, ended properly.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dh_gateway::{GatewayConfig, Timeouts};
use futures::stream;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use crate::stage::*;

const SSE: &str = "text/event-stream; charset=utf-8";
const STREAM: &str = r#"{"model":"m","stream":true}"#;

type Pieces = mpsc::UnboundedSender<Result<Bytes, std::io::Error>>;

/// An engine whose stream is fed by the test, and tells when the gateway dropped it.
async fn fed(kind: &'static str) -> (Stub, Arc<Mutex<Option<Pieces>>>) {
    let feed = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&feed);
    let stub = Stub::start(move |_| {
        let (sender, receiver) = mpsc::unbounded_channel();
        *slot.lock().unwrap() = Some(sender);
        Box::pin(async move {
            let pieces = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
            reply(200, kind, Body::from_stream(pieces))
        })
    })
    .await;
    (stub, feed)
}

fn feed(to: &Mutex<Option<Pieces>>, text: &'static str) {
    to.lock().unwrap().as_ref().unwrap().send(Ok(Bytes::from_static(text.as_bytes()))).unwrap();
}

/// The next piece; a relay that holds it back fails here.
async fn next(body: &mut hyper::body::Incoming) -> Option<Result<Bytes, hyper::Error>> {
    let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("a piece was held back");
    frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn every_event_is_delivered_before_the_next_one_exists() {
    let (stub, pieces) = fed(SSE).await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let response = stage.post(CHAT, STREAM).await;
    assert_eq!(response.headers()["content-type"], SSE);
    let mut body = response.into_body();
    for event in ["data: {\"n\":1}\n\n", "data: {\"n\":2}\n\n", "data: {\"n\"", ":3}\n", "\n", "data: [DONE]\n\n"] {
        feed(&pieces, event);
        assert_eq!(next(&mut body).await.unwrap().unwrap(), event);
    }
    *pieces.lock().unwrap() = None;
    assert!(next(&mut body).await.is_none());
    stage.metric_becomes(r#"datahall_gateway_time_to_first_token_seconds_count{model="m"}"#, "1").await;
    stage.metric_becomes(r#"datahall_gateway_time_per_output_chunk_seconds_count{model="m"}"#, "2").await;
    stage.metric_becomes(r#"datahall_gateway_requests_total{model="m",code="200"}"#, "1").await;
}

#[tokio::test]
async fn any_split_of_the_bytes_gives_the_same_stream_and_the_same_count() {
    const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"caf\u{e9} \\\"usage\\\":{\"}}],\"usage\":null}\r\n\r\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";
    let stub = Stub::start(|seen| {
        Box::pin(async move {
            let cut: usize = seen.headers["x-cut"].to_str().unwrap().parse().unwrap();
            let (first, second) = TEXT.as_bytes().split_at(cut);
            let pieces = [first, second].map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece)));
            // A pause between them, so that they travel apart.
            let pieces = stream::unfold(pieces.into_iter(), |mut pieces| async {
                tokio::task::yield_now().await;
                Some((pieces.next()?, pieces))
            });
            reply(200, SSE, Body::from_stream(pieces))
        })
    })
    .await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    for cut in 0..=TEXT.len() {
        let request = http::Request::post(format!("http://{}{CHAT}", stage.address))
            .header("authorization", format!("Bearer {CALLER}"))
            .header("x-cut", cut)
            .body(STREAM.into())
            .unwrap();
        assert_eq!(text(stage.request(request).await).await.1, TEXT, "cut at {cut}");
    }
    let count = TEXT.len() + 1;
    stage.metric_becomes(r#"datahall_gateway_prompt_tokens_total{model="m"}"#, &(11 * count).to_string()).await;
    stage.metric_becomes(r#"datahall_gateway_completion_tokens_total{model="m"}"#, &(7 * count).to_string()).await;
    stage.metric_becomes(r#"datahall_gateway_time_to_first_token_seconds_count{model="m"}"#, &count.to_string()).await;
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_event_and_is_not_retried() {
    for (sent, expected_start) in
        [("data: 1\n\n", "data: 1\n\ndata: {\"error\""), ("data: 1", "data: 1\n\ndata: {\"error\"")]
    {
        let (stub, pieces) = fed(SSE).await;
        let other = Stub::json("{}").await;
        let stage = Stage::new(vec![stub.target("a"), other.target("b")]).await;
        let mut body = stage.post(CHAT, STREAM).await.into_body();
        feed(&pieces, sent);
        let mut got = next(&mut body).await.unwrap().unwrap().to_vec();
        pieces.lock().unwrap().take().unwrap().send(Err(std::io::Error::other("engine died"))).unwrap();
        while let Some(piece) = next(&mut body).await {
            got.extend_from_slice(&piece.unwrap());
        }
        let got = String::from_utf8(got).unwrap();
        assert!(got.starts_with(expected_start) && got.ends_with("\n\n") && !got.contains("[DONE]"), "{got}");
        let event = got.rsplit_once("data: ").unwrap().1;
        assert_eq!(error_of(event)["code"], "engine_lost");
        assert_eq!((stub.asked(), other.asked()), (1, 0));
        stage.metric_becomes(r#"datahall_gateway_upstream_errors_total{engine="a",kind="mid_stream"}"#, "1").await;
        stage.metric_becomes(r#"datahall_gateway_requests_total{model="m",code="502"}"#, "1").await;
    }
}

#[tokio::test]
async fn a_json_answer_that_breaks_is_cut_off_and_never_looks_whole() {
    let (stub, pieces) = fed("application/json").await;
    let other = Stub::json("{}").await;
    let stage = Stage::new(vec![stub.target("a"), other.target("b")]).await;
    let mut body = stage.post(CHAT, STREAM).await.into_body();
    feed(&pieces, "{\"half\":");
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "{\"half\":");
    pieces.lock().unwrap().take().unwrap().send(Err(std::io::Error::other("engine died"))).unwrap();
    assert!(next(&mut body).await.unwrap().is_err());
    assert_eq!(other.asked(), 0);
}

#[tokio::test]
async fn an_engine_that_goes_silent_is_given_up() {
    let (stub, pieces) = fed(SSE).await;
    let timeouts = Timeouts { chunk_gap: Duration::from_millis(200), ..Timeouts::default() };
    let stage = Stage::with(GatewayConfig { timeouts, ..GatewayConfig::default() }, vec![stub.target("a")]).await;
    let mut body = stage.post(CHAT, STREAM).await.into_body();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        feed(&pieces, "data: 1\n\n");
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: 1\n\n");
    }
    let error = next(&mut body).await.unwrap().unwrap();
    assert!(error.starts_with(b"data: {\"error\""), "{error:?}");
    assert!(next(&mut body).await.is_none());
    let sender = pieces.lock().unwrap().take().unwrap();
    tokio::time::timeout(Duration::from_secs(5), sender.closed()).await.expect("the engine still streams");
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_the_engine() {
    let (stub, pieces) = fed(SSE).await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let mut body = stage.post(CHAT, STREAM).await.into_body();
    feed(&pieces, "data: 1\n\n");
    next(&mut body).await.unwrap().unwrap();
    drop(body);
    let sender = pieces.lock().unwrap().take().unwrap();
    tokio::time::timeout(Duration::from_secs(1), sender.closed()).await.expect("the engine still streams");
    stage.metric_becomes(r#"datahall_gateway_requests_total{model="m",code="499"}"#, "1").await;
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_before_the_answer_cancels_the_engine_too() {
    let (left, mut leaving) = mpsc::unbounded_channel::<()>();
    let stub = Stub::start(move |_| {
        let left = left.clone();
        Box::pin(async move {
            struct Tell(mpsc::UnboundedSender<()>);
            impl Drop for Tell {
                fn drop(&mut self) {
                    self.0.send(()).expect("the test still listens");
                }
            }
            let _tell = Tell(left);
            std::future::pending().await
        })
    })
    .await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let call = stage.chat();
    tokio::select! {
        _ = call => panic!("answered by nobody"),
        () = eventually(|| stub.asked() == 1, || "not asked".to_owned()) => {}
    }
    tokio::time::timeout(Duration::from_secs(1), leaving.recv()).await.expect("the engine still works").unwrap();
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
    stage.metric_becomes(r#"datahall_gateway_engine_in_flight{engine="a",model="m"}"#, "0").await;
}

#[tokio::test]
async fn a_stopping_gateway_lets_streams_end() {
    let (stub, pieces) = fed(SSE).await;
    let mut stage = Stage::new(vec![stub.target("a")]).await;
    let mut body = stage.post(CHAT, STREAM).await.into_body();
    feed(&pieces, "data: 1\n\n");
    next(&mut body).await.unwrap().unwrap();
    stage.stop();
    eventually(|| std::net::TcpStream::connect(stage.address).is_err(), || "still accepts".to_owned()).await;
    feed(&pieces, "data: 2\n\n");
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: 2\n\n");
    *pieces.lock().unwrap() = None;
    assert!(next(&mut body).await.is_none());
    let served = stage.served.take().unwrap();
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("serve returns").unwrap();
}
