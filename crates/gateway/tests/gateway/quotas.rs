//! Keys with bounds: nothing is over-admitted, whatever comes at once, and everything that was not used is given back.

use std::sync::Arc;
use std::time::Duration;

use dh_core::Secret;
use dh_gateway::{EngineKind, GatewayConfig, Price};
use dh_rig::engine::{Config, Engine};
use dh_rig::load::{Closed, Dress, Shape, closed};

use crate::stage::*;

fn dress(address: std::net::SocketAddr) -> Dress {
    Dress {
        host: address.to_string(),
        path: CHAT.to_owned(),
        model: "m".to_owned(),
        key: Some(Secret::new(BOUNDED.to_owned())),
        stream: false,
    }
}

async fn engine(config: Config) -> (Engine, std::net::SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::new(config);
    let serving = engine.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    (engine, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_requests_at_once_never_use_more_tokens_than_granted() {
    let (engine, address) = engine(Config { decode: Duration::from_millis(2), ..Config::default() }).await;
    for stream in [false, true] {
        let stage = Stage::new(vec![target("a", address)]).await;
        let before = engine.prompt_tokens().0;
        let dress = Dress { stream, ..dress(stage.address) };
        let shape = |number: u32| Shape { at: 0, prompt: 100 + number % 50, answer: 10, blocks: Vec::new() };
        let requests = (0..64_u32).map(|number| dress.request(&shape(number), u64::from(number))).collect();
        let how = Closed { connections: 1_000, time: Duration::from_mins(2), requests: 1_000 };
        let report = closed(stage.address, Arc::new(requests), how).await.unwrap();
        assert_eq!((report.good + report.limited, report.broken, report.refused), (1_000, 0, 0));
        assert!(report.good > 0 && report.limited > 0, "{} good", report.good);
        let used = engine.prompt_tokens().0 - before + report.good * 10;
        assert!(used <= 20_000, "{used} tokens");
        // What was reserved and not used is free again: more fits until the bound itself is near.
        let more = closed(stage.address, Arc::new(vec![dress.request(&shape(0), 0)]), Closed { connections: 1, ..how });
        let more = more.await.unwrap();
        let used = used + more.tokens.prompt + more.tokens.answer;
        assert!((19_000..=20_000).contains(&used), "{used} tokens");
        stage.clock.advance(Duration::from_secs(62));
        let (status, body) =
            text(stage.send("POST", CHAT, Some(BOUNDED), r#"{"model":"m","max_tokens":9}"#).await).await;
        assert_eq!(status, 200, "{body}");
    }
}

#[tokio::test]
async fn who_met_a_bound_is_told_which_and_when() {
    let stub = Stub::json(r#"{"usage":{"prompt_tokens":10,"completion_tokens":20}}"#).await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let ask = |most: u64| format!(r#"{{"model":"m","messages":[],"max_tokens":{most}}}"#);
    let response = stage.send("POST", CHAT, Some(BOUNDED), ask(30_000)).await;
    assert_eq!((response.status().as_u16(), response.headers().get("retry-after")), (429, None));
    let error = error_of(&text(response).await.1);
    assert_eq!(error["code"], "rate_limit_exceeded");
    assert!(error["message"].as_str().unwrap().contains("20000 tokens a minute"), "{error}");
    for _ in 0..10 {
        assert_eq!(
            stage.send("POST", CHAT, Some(BOUNDED), ask(10_000)).await.status(),
            200,
            "what is not used is free"
        );
    }
    let response = stage.send("POST", CHAT, Some(BOUNDED), ask(19_800)).await;
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (429, "61"));
    assert_eq!(stub.asked(), 10, "early: no engine was asked");
}

#[tokio::test]
async fn an_answer_that_never_comes_costs_nothing_and_one_that_breaks_costs_what_came() {
    let stage = Stage::new(vec![target("dead", nowhere().await)]).await;
    for _ in 0..3 {
        let response = stage.send("POST", CHAT, Some(BOUNDED), r#"{"model":"m","max_tokens":19000}"#).await;
        assert_eq!(response.status(), 502, "reserved and given back each time");
    }
    let hanging = Stub::start(|_| Box::pin(std::future::pending())).await;
    let stage = Stage::new(vec![hanging.target("a")]).await;
    for round in 1..=3 {
        let asked = stage.send("POST", CHAT, Some(BOUNDED), r#"{"model":"m","max_tokens":19000}"#);
        // The caller goes away.
        assert!(tokio::time::timeout(Duration::from_millis(300), asked).await.is_err());
        eventually(|| hanging.asked() == round, || format!("{} asked", hanging.asked())).await;
        eventually(|| stage.metric("datahall_gateway_in_flight").as_deref() == Some("0"), || "in flight".to_owned())
            .await;
    }
}

#[tokio::test]
async fn keys_are_for_their_models_and_their_money() {
    let stub = Stub::json(r#"{"usage":{"prompt_tokens":10,"completion_tokens":5}}"#).await;
    let mut targets = vec![stub.target("a"), stub.target("b"), stub.target("c")];
    targets[1].model = "other".to_owned();
    targets[2].model = "priced".to_owned();
    assert_eq!(targets[0].kind, EngineKind::Chat);
    // A token of the prompt costs a millionth of a dollar, one of the answer two.
    let price = Price { prompt: 1_000_000, cached: 0, answer: 2_000_000 };
    let config = GatewayConfig { prices: [("priced".to_owned(), price)].into(), ..GatewayConfig::default() };
    let stage = Stage::with(config, targets).await;
    let response = stage.send("POST", CHAT, Some(BOUNDED), r#"{"model":"other"}"#).await;
    assert_eq!(response.status(), 403);
    assert!(error_of(&text(response).await.1)["message"].as_str().unwrap().contains("may not ask model `other`"));
    assert_eq!(stage.send("POST", CHAT, Some(CALLER), r#"{"model":"other"}"#).await.status(), 200);
    let ask = r#"{"model":"priced","max_tokens":20}"#;
    let mut good = 0;
    let refused = loop {
        let response = stage.send("POST", CHAT, Some(BOUNDED), ask).await;
        if response.status() != 200 {
            break response;
        }
        drop(text(response).await);
        good += 1;
        assert!(good < 10);
    };
    // 20 of 100 each; a request is let out while its most, 56 and some, still fits.
    assert_eq!((good, refused.status().as_u16()), (3, 429));
    assert_eq!(error_of(&text(refused).await.1)["code"], "insufficient_quota");
}
