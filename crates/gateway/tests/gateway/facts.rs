//! What is known about engines decides: where requests go, what they may carry, what they are said to cost.

use std::collections::BTreeMap;
use std::time::Duration;

use dh_core::DataClass;
use dh_gateway::{Energy, EngineFacts, EngineTarget, GatewayConfig, Price};
use http_body_util::Full;

use crate::stage::*;

const ANSWER: &str =
    r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}}"#;

fn knows(mut target: EngineTarget, facts: EngineFacts) -> EngineTarget {
    target.facts = facts;
    target
}

async fn routed(policy: &str, facts: [EngineFacts; 2]) -> (usize, usize) {
    let (one, other) = (Stub::json(ANSWER).await, Stub::json(ANSWER).await);
    let [first, second] = facts;
    let config = GatewayConfig { policy: policy.to_owned(), ..GatewayConfig::default() };
    let stage = Stage::with(config, vec![knows(one.target("a"), first), knows(other.target("b"), second)]).await;
    for _ in 0..6 {
        assert_eq!(stage.chat().await.0, 200);
    }
    (one.asked(), other.asked())
}

#[tokio::test]
async fn policies_go_by_the_figures_of_engines() {
    let price = |prompt: u64, answer: u64| EngineFacts {
        price: Some(Price { prompt, cached: 0, answer }),
        ..EngineFacts::default()
    };
    assert_eq!(routed("least_cost", [price(9, 9), price(5, 8)]).await, (0, 6));
    // What nobody says counts as the dearest that is known.
    assert_eq!(routed("least_cost", [EngineFacts::default(), price(5, 8)]).await.1, 3);
    let energy =
        |prompt: u64, answer: u64| EngineFacts { energy: Some(Energy { prompt, answer }), ..EngineFacts::default() };
    assert_eq!(routed("least_energy", [energy(100, 2_000_000), energy(100, 3_000_000)]).await, (6, 0));
    let far = |ms: u64| EngineFacts { round_trip: Duration::from_millis(ms), ..EngineFacts::default() };
    assert_eq!(routed("site", [far(90), far(2)]).await, (0, 6));
    // Egress is part of the cost.
    let away = EngineFacts { egress_micro_usd: 900_000, ..price(5, 8) };
    assert_eq!(routed("least_cost", [away, price(6, 9)]).await, (0, 6));
}

#[tokio::test]
async fn data_stays_behind_its_fence_and_headers_only_narrow() {
    let (open, closed) = (Stub::json("{}").await, Stub::json("{}").await);
    let cleared = |class: DataClass| EngineFacts { data_class: class, ..EngineFacts::default() };
    let stage =
        Stage::new(vec![open.target("open"), knows(closed.target("closed"), cleared(DataClass::Confidential))]).await;
    let send = async |key: &str, class: Option<&str>| {
        let mut request = http::Request::builder()
            .method("POST")
            .uri(format!("http://{}{CHAT}", stage.address))
            .header("authorization", format!("Bearer {key}"));
        if let Some(class) = class {
            request = request.header("x-datahall-data-class", class);
        }
        let body = Full::new(bytes::Bytes::from_static(br#"{"model":"m","messages":[]}"#));
        text(stage.request(request.body(body).unwrap()).await).await
    };
    for _ in 0..4 {
        assert_eq!(send(CALLER, Some("internal")).await.0, 200);
        assert_eq!(send(FENCED, None).await.0, 200);
        assert_eq!(send(FENCED, Some("public")).await.0, 200, "a key's class is not widened");
        assert_eq!(send(FENCED, Some("confidential")).await.0, 200);
    }
    assert_eq!((open.asked(), closed.asked()), (0, 16));
    let (status, body) = send(CALLER, Some("restricted")).await;
    assert_eq!(status, 403);
    assert_eq!(error_of(&body)["message"], "no engine of model `m` is cleared for restricted data");
    let (status, body) = send(CALLER, Some("secret")).await;
    assert_eq!(status, 400);
    assert!(error_of(&body)["message"].as_str().unwrap().contains("expected one of public"), "{body}");
    for _ in 0..4 {
        assert_eq!(send(CALLER, None).await.0, 200);
    }
    assert!(open.asked() > 0);
}

#[tokio::test]
async fn answers_say_what_they_cost_and_counters_sum_it_up() {
    let stub = Stub::json(ANSWER).await;
    let energy = Some(Energy { prompt: 400_000, answer: 2_000_000 });
    let mut plain = stub.target("plain");
    plain.model = "free".to_owned();
    let price = Price { prompt: 1_000_000, cached: 500_000, answer: 3_000_000 };
    let config = GatewayConfig { prices: BTreeMap::from([("m".to_owned(), price)]), ..GatewayConfig::default() };
    let stage =
        Stage::with(config, vec![knows(stub.target("a"), EngineFacts { energy, ..EngineFacts::default() }), plain])
            .await;
    for _ in 0..2 {
        let response = stage.post(CHAT, r#"{"model":"m"}"#).await;
        let said = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        // 6 read at 1, 4 cached at 0.5, 5 written at 3; 6 times 0.4 J and 5 times 2 J.
        assert_eq!(
            (said("x-datahall-cost-usd").as_str(), said("x-datahall-joules").as_str()),
            ("0.000023", "12.400000")
        );
        assert_eq!(text(response).await.1, ANSWER, "the body is the engine's");
    }
    stage.metric_becomes("datahall_gateway_cost_usd_total{model=\"m\"}", "0.000046").await;
    stage.metric_becomes("datahall_gateway_joules_total{model=\"m\"}", "24.8").await;
    let response = stage.post(CHAT, r#"{"model":"free"}"#).await;
    assert!(!response.headers().keys().any(|name| name.as_str().starts_with("x-datahall")));
}

#[tokio::test]
async fn streams_are_billed_at_their_end_and_broken_answers_are_errors() {
    let events = "data: {\"choices\":[]}\n\ndata: {\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
    let stub = Stub::start(move |_| Box::pin(async move { reply(200, "text/event-stream", events) })).await;
    let own = Some(Price { prompt: 2_000_000, cached: 0, answer: 1_000_000 });
    let priced = |target| knows(target, EngineFacts { price: own, ..EngineFacts::default() });
    let stage = Stage::new(vec![priced(stub.target("a"))]).await;
    let (status, body) = text(stage.post(CHAT, r#"{"model":"m","stream":true}"#).await).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, events));
    stage.metric_becomes("datahall_gateway_cost_usd_total{model=\"m\"}", "0.000025").await;
    // An engine that breaks off a whole answer, which is read before its head goes out.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = [0; 4_096];
        assert!(stream.read(&mut seen).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"usage\"";
        stream.write_all(head).await.unwrap();
    });
    let stage = Stage::new(vec![priced(target("breaks", address))]).await;
    let (status, body) = stage.chat().await;
    assert_eq!(status, 502, "{body}");
}
