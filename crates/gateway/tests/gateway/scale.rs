//! Models without a replica: requests wait for the first one, within bounds, and the gateway says how many it wants.

use std::sync::Arc;
use std::time::Duration;

use dh_core::time::Span;
use dh_gateway::{EngineKind, GatewayConfig, HoldConfig, ScaledModel};
use dh_policy::scaling::Targets;

use crate::stage::*;

fn scaled() -> Vec<ScaledModel> {
    let targets = Targets { min: 0, max: 3, ttft: Span::from_secs(1), idle_after: Span::from_secs(60) };
    vec![ScaledModel { model: "m".to_owned(), kind: EngineKind::Chat, targets, start: 0 }]
}

async fn stage(hold: HoldConfig) -> Arc<Stage> {
    let stage = Stage::with(GatewayConfig { hold, ..GatewayConfig::default() }, Vec::new()).await;
    stage.gateway.scale_models(&scaled()).unwrap();
    Arc::new(stage)
}

#[tokio::test]
async fn requests_wait_for_the_first_replica_and_none_is_lost() {
    let stub = Stub::json(r#"{"id":"x"}"#).await;
    let stage = stage(HoldConfig::default()).await;
    assert!(stage.get("/v1/models").await.1.contains("\"m\""), "it exists");
    assert_eq!(stage.gateway.scaling()[0].wanted.replicas, 0);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { stage.chat().await })
        })
        .collect();
    // The signal that whoever starts replicas waits for.
    eventually(|| stage.gateway.scaling()[0].wanted.replicas > 0, || format!("{:?}", stage.gateway.scaling())).await;
    stage.metric_becomes("datahall_gateway_held_requests{model=\"m\"}", "50").await;
    stage.gateway.set_engines(vec![stub.target("a")]).unwrap();
    for request in waiting {
        assert_eq!(request.await.unwrap().0, 200);
    }
    assert_eq!(stub.asked(), 50);
    let status = &stage.gateway.scaling()[0];
    assert_eq!((status.held, status.replicas), (0, 1));
    // Idle for long enough: none again.
    stage.clock.advance(Duration::from_secs(61));
    eventually(|| stage.gateway.scaling()[0].wanted.replicas == 0, || format!("{:?}", stage.gateway.scaling())).await;
    stage.metric_becomes("datahall_gateway_wanted_replicas{model=\"m\"}", "0").await;
}

#[tokio::test]
async fn those_that_wait_have_a_bound_in_number_bytes_and_time() {
    let hold = HoldConfig { requests: 2, bytes: 1 << 20, time: Duration::from_millis(300) };
    let few = stage(hold.clone()).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let stage = Arc::clone(&few);
            tokio::spawn(async move { stage.chat().await.0 })
        })
        .collect();
    few.metric_becomes("datahall_gateway_held_requests{model=\"m\"}", "2").await;
    let refused = few.post(CHAT, r#"{"model":"m"}"#).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "10"));
    for request in waiting {
        assert_eq!(request.await.unwrap(), 503, "its time is over");
    }
    let small = stage(HoldConfig { bytes: 10, ..hold }).await;
    assert_eq!(small.chat().await.0, 503);
    assert_eq!(small.gateway.scaling()[0].held, 0);
    assert_eq!(small.post(CHAT, r#"{"model":"other"}"#).await.status(), 404, "a model that nobody can start");
}

#[tokio::test]
async fn a_caller_that_leaves_holds_nothing() {
    let stage = stage(HoldConfig::default()).await;
    let asked = stage.chat();
    assert!(tokio::time::timeout(Duration::from_millis(200), asked).await.is_err());
    eventually(|| stage.gateway.scaling()[0].held == 0, || "held".to_owned()).await;
    stage.metric_becomes("datahall_gateway_in_flight", "0").await;
}
