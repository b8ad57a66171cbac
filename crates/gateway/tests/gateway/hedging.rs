//! Second tries before the first byte.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dh_gateway::{GatewayConfig, HedgeAfter, HedgeConfig, LineConfig, Options};
use futures::StreamExt as _;
use tokio::sync::watch;

use crate::stage::*;

const ANSWER: &str = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;
const ASK: &str = r#"{"model":"m","max_tokens":9,"messages":[]}"#;

fn config(after: HedgeAfter, percent_max: u8) -> GatewayConfig {
    let options = Options { hedge: Some(HedgeConfig { after, percent_max }), ..Options::default() };
    GatewayConfig { policy: "round_robin".to_owned(), options, ..GatewayConfig::default() }
}

fn soon(percent_max: u8) -> GatewayConfig {
    config(HedgeAfter::Time(Duration::from_millis(20)), percent_max)
}

/// An engine that begins no answer until it may.
async fn stuck() -> (Stub, watch::Sender<bool>) {
    let (release, released) = watch::channel(false);
    let stub = Stub::start(move |_| {
        let mut released = released.clone();
        Box::pin(async move {
            released.wait_for(|go| *go).await.unwrap();
            reply(200, "application/json", ANSWER)
        })
    })
    .await;
    (stub, release)
}

async fn settled(stage: &Stage) {
    for engine in ["a", "b"] {
        stage
            .metric_becomes(&format!(r#"datahall_gateway_engine_in_flight{{engine="{engine}",model="m"}}"#), "0")
            .await;
    }
}

#[tokio::test]
async fn a_stuck_engine_is_overtaken_and_the_caller_pays_once() {
    let (slow, _release) = stuck().await;
    let fast = Stub::json(ANSWER).await;
    let stage = Stage::with(soon(100), vec![slow.target("a"), fast.target("b")]).await;
    // Each reserves 9 and the prompt's estimate of 20,000 tokens, and uses 8.
    for number in 1..=4 {
        let (status, body) = text(stage.send("POST", CHAT, Some(BOUNDED), ASK).await).await;
        assert_eq!((status.as_u16(), body.as_str()), (200, ANSWER));
        // The loser is given up at once, though it never answered.
        settled(&stage).await;
        assert_eq!(fast.asked(), number);
    }
    assert!(slow.asked() >= 2, "every other request began there");
    assert_eq!(stage.metric(r#"datahall_gateway_hedges_total{won="true"}"#).as_deref(), Some("2"));
    stage.metric_becomes(r#"datahall_gateway_completion_tokens_total{model="m"}"#, "20").await;
    stage.metric_becomes(r#"datahall_gateway_requests_total{model="m",code="200"}"#, "4").await;
}

#[tokio::test]
async fn second_tries_have_a_share_and_stored_responses_none() {
    let (slow, release) = stuck().await;
    let other = Stub::json(ANSWER).await;
    let config = GatewayConfig { policy: "session".to_owned(), ..soon(5) };
    let stage = Stage::with(config, vec![slow.target("a"), other.target("b")]).await;
    // A session that belongs to the stuck engine.
    let mut session = 0;
    let stuck_session = loop {
        session += 1;
        let body = format!(r#"{{"model":"m","user":"s{session}","store":true}}"#);
        let answer = tokio::time::timeout(Duration::from_millis(300), stage.post(CHAT, body)).await;
        if answer.is_err() {
            break format!("s{session}");
        }
    };
    let (before, on_slow) = (other.asked(), slow.asked());
    assert_eq!(on_slow, 1, "a stored answer is asked for once");
    let body = format!(r#"{{"model":"m","user":"{stuck_session}"}}"#);
    // One second try is there from the start, and five more in a hundred requests.
    assert_eq!(text(stage.post(CHAT, body.clone()).await).await.0, 200);
    for refused in [
        (CHAT, body.clone()),
        ("/v1/responses", body.clone()),
        ("/v1/responses", body.replace('}', r#","store":true}"#)),
    ] {
        let answer = tokio::time::timeout(Duration::from_millis(200), stage.post(refused.0, refused.1)).await;
        assert!(answer.is_err(), "it waits for its engine");
    }
    assert_eq!(other.asked(), before + 1);
    release.send(true).unwrap();
    assert_eq!(text(stage.post(CHAT, body).await).await.0, 200);
}

#[tokio::test]
async fn a_stream_has_begun_with_its_first_piece_and_is_one_engines_alone() {
    let (slow_piece, release) = watch::channel(false);
    let slow = Stub::start(move |_| {
        let mut released = slow_piece.subscribe();
        Box::pin(async move {
            // The head comes at once, the first token does not.
            let pieces = futures::stream::once(async move {
                released.wait_for(|go| *go).await.unwrap();
                Ok::<_, std::io::Error>(Bytes::from("data: slow\n\n"))
            });
            reply(200, "text/event-stream", Body::from_stream(pieces))
        })
    })
    .await;
    let fast = Stub::start(|_| {
        Box::pin(async {
            let pieces = ["data: one\n\n", "data: two\n\n", "data: [DONE]\n\n"];
            let pieces = futures::stream::iter(pieces).then(|piece| async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok::<_, std::io::Error>(Bytes::from(piece))
            });
            reply(200, "text/event-stream", Body::from_stream(pieces))
        })
    })
    .await;
    let stage = Stage::with(soon(100), vec![slow.target("a"), fast.target("b")]).await;
    for _ in 0..4 {
        let (status, body) = text(stage.post(CHAT, r#"{"model":"m","stream":true}"#).await).await;
        assert_eq!((status.as_u16(), body.as_str()), (200, "data: one\n\ndata: two\n\ndata: [DONE]\n\n"));
        settled(&stage).await;
    }
    // On a busy machine the fast one may be found slow as well.
    assert!(slow.asked() >= 2 && fast.asked() == 4);
    drop(release);
}

#[tokio::test]
async fn what_is_usual_is_learned_before_anybody_is_overtaken() {
    let fast = [Stub::json(ANSWER).await, Stub::json(ANSWER).await];
    let stage = Stage::with(config(HedgeAfter::Percent(95), 100), vec![fast[0].target("a"), fast[1].target("b")]).await;
    for _ in 0..60 {
        assert_eq!(stage.chat().await.0, 200);
    }
    let (slow, _release) = stuck().await;
    stage.gateway.set_engines(vec![slow.target("c"), fast[1].target("b")]).unwrap();
    for _ in 0..4 {
        assert_eq!(stage.chat().await.0, 200);
    }
    assert!(slow.asked() > 0);
}

#[tokio::test]
async fn a_first_engine_that_fails_late_leaves_the_answer_to_the_second() {
    let failing = Stub::start(|_| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            reply(503, "application/json", "{}")
        })
    })
    .await;
    let good = Stub::start(|_| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            reply(200, "application/json", ANSWER)
        })
    })
    .await;
    let stage = Stage::with(soon(100), vec![failing.target("a"), good.target("b")]).await;
    for _ in 0..3 {
        assert_eq!(stage.chat().await.1, ANSWER);
    }
    settled(&stage).await;
}

#[tokio::test]
async fn a_second_try_takes_no_room_that_another_was_promised() {
    let (slow, release) = stuck().await;
    let (other, release_other) = stuck().await;
    let mut config = soon(100);
    config.options.line = Some(LineConfig::new(1));
    let stage = Stage::with(config, vec![slow.target("a"), other.target("b")]).await;
    let first = stage.chat();
    let rest = async {
        eventually(|| slow.asked() + other.asked() == 2, || "there is no second try".to_owned()).await;
        // Both engines are full: one more waits, and is not sent anywhere.
        let third = stage.chat();
        let release = async {
            let name = r#"datahall_gateway_queue_depth{model="m",class="standard"}"#;
            stage.metric_becomes(name, "1").await;
            assert_eq!(slow.asked() + other.asked(), 2);
            release.send(true).unwrap();
            release_other.send(true).unwrap();
        };
        futures::join!(third, release).0
    };
    let (first, third) = futures::join!(first, rest);
    assert_eq!((first.0.as_u16(), third.0.as_u16()), (200, 200));
    settled(&stage).await;
}
