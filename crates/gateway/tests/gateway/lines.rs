//! Lines in front of engines that are full: who goes first, who is refused, who leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dh_gateway::{ClassConfig, GatewayConfig, LineConfig, Options};
use http::HeaderMap;
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::stage::*;

const ANSWER: &str = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;

fn config(line: LineConfig) -> GatewayConfig {
    let options = Options { line: Some(line), ..Options::default() };
    GatewayConfig { policy: "least_in_flight".to_owned(), options, ..GatewayConfig::default() }
}

/// An engine that answers as many requests as there are permits.
async fn gated() -> (Stub, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inner = Arc::clone(&gate);
    let stub = Stub::start(move |_| {
        let gate = Arc::clone(&inner);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            reply(200, "application/json", ANSWER)
        })
    })
    .await;
    (stub, gate)
}

/// Sends a chat that says `name`, as `key`, with more fields of the head and the body.
fn send(
    stage: &Arc<Stage>,
    key: &str,
    name: &str,
    class: Option<&str>,
    more: &str,
) -> JoinHandle<(u16, HeaderMap, String)> {
    let body = format!(r#"{{"model":"m","max_tokens":100,"messages":[{{"role":"user","content":"{name}"}}]{more}}}"#);
    let mut request =
        http::Request::post(format!("http://{}{CHAT}", stage.address)).header("authorization", format!("Bearer {key}"));
    if let Some(class) = class {
        request = request.header("x-datahall-class", class);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let stage = Arc::clone(stage);
    tokio::spawn(async move {
        let response = stage.request(request).await;
        let headers = response.headers().clone();
        let (status, body) = text(response).await;
        (status.as_u16(), headers, body)
    })
}

fn named(stub: &Stub) -> Vec<String> {
    let name = |seen: Seen| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        body["messages"][0]["content"].as_str().unwrap().to_owned()
    };
    stub.seen().into_iter().map(name).collect()
}

async fn depth(stage: &Stage, class: &str, depth: usize) {
    let name = format!(r#"datahall_gateway_queue_depth{{model="m",class="{class}"}}"#);
    stage.metric_becomes(&name, &depth.to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_never_work_on_more_than_their_bound_and_everybody_is_served() {
    let most = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut stubs = Vec::new();
    for place in 0..2 {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&most));
        let answer = move |_: Seen| -> futures::future::BoxFuture<'static, axum::response::Response> {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            Box::pin(async move {
                most[place].fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(3)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                reply(200, "application/json", ANSWER)
            })
        };
        stubs.push(Stub::start(answer).await);
    }
    let mut line = LineConfig::new(3);
    line.classes[1].wait_max = Duration::from_mins(1);
    let mut config = config(line);
    config.threads = 2;
    let stage = Arc::new(Stage::with(config, vec![stubs[0].target("a"), stubs[1].target("b")]).await);
    let all: Vec<_> = (0..200).map(|number| send(&stage, CALLER, &number.to_string(), None, "")).collect();
    for one in all {
        assert_eq!(one.await.unwrap().0, 200);
    }
    assert_eq!(stubs.iter().map(Stub::asked).sum::<usize>(), 200);
    let most = most.each_ref().map(|most| most.load(Ordering::SeqCst));
    assert!(most.iter().all(|most| (1..=3).contains(most)), "{most:?}");
    depth(&stage, "standard", 0).await;
    let waited = stage.metric(r#"datahall_gateway_queue_wait_seconds_count{model="m",class="standard"}"#).unwrap();
    assert!((1..=194).contains(&waited.parse::<u32>().unwrap()), "{waited}");
}

#[tokio::test]
async fn urgent_classes_go_first_and_tenants_take_turns_by_weight() {
    let (stub, gate) = gated().await;
    let stage = Arc::new(Stage::with(config(LineConfig::new(1)), vec![stub.target("a")]).await);
    let mut sent = vec![send(&stage, CALLER, "first", None, "")];
    eventually(|| stub.asked() == 1, || "the first did not go".to_owned()).await;
    let tenant = |name: &str| format!("{TENANT}{name}");
    for (place, (key, name, class, more)) in [
        (tenant("bulk"), "bulk", None, ""),
        (tenant("light"), "flex", None, r#","service_tier":"flex""#),
        (tenant("light"), "light-1", None, ""),
        (tenant("light"), "light-2", None, ""),
        (tenant("light"), "light-3", None, ""),
        (tenant("heavy"), "heavy-1", None, ""),
        (tenant("heavy"), "heavy-2", None, ""),
        (tenant("heavy"), "heavy-3", None, ""),
        (tenant("heavy"), "heavy-4", None, ""),
        (tenant("light"), "urgent", Some("interactive"), r#","service_tier":"flex""#),
        (tenant("light"), "priority", None, r#","service_tier":"priority""#),
    ]
    .into_iter()
    .enumerate()
    {
        sent.push(send(&stage, &key, name, class, more));
        let waiting = || -> usize {
            let depth = |class| stage.metric(&format!(r#"datahall_gateway_queue_depth{{model="m",class="{class}"}}"#));
            ["interactive", "standard", "batch"]
                .into_iter()
                .filter_map(|class| depth(class)?.parse::<usize>().ok())
                .sum()
        };
        eventually(|| waiting() == place + 1, || format!("{name} does not wait")).await;
    }
    for served in 1..=sent.len() {
        assert_eq!(stub.asked(), served);
        gate.add_permits(1);
        if served < sent.len() {
            eventually(|| stub.asked() > served, || "nobody was next".to_owned()).await;
        }
    }
    let order = named(&stub);
    assert_eq!(order[..3], ["first", "urgent", "priority"]);
    // Requests of equal size: three of the heavy tenant for one of the light, within one.
    let heavies = order[3..8].iter().filter(|name| name.starts_with("heavy")).count();
    assert!((3..=4).contains(&heavies), "{order:?}");
    assert_eq!(order[10..], ["bulk", "flex"]);
    for one in sent {
        assert_eq!(one.await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn a_caller_that_leaves_gives_its_place_up() {
    let (stub, gate) = gated().await;
    let stage = Arc::new(Stage::with(config(LineConfig::new(1)), vec![stub.target("a")]).await);
    let first = send(&stage, CALLER, "first", None, "");
    eventually(|| stub.asked() == 1, || "the first did not go".to_owned()).await;
    let leaver = send(&stage, CALLER, "leaver", None, "");
    depth(&stage, "standard", 1).await;
    let last = send(&stage, CALLER, "last", None, "");
    depth(&stage, "standard", 2).await;
    leaver.abort();
    depth(&stage, "standard", 1).await;
    gate.add_permits(2);
    assert_eq!((first.await.unwrap().0, last.await.unwrap().0), (200, 200));
    assert_eq!(named(&stub), ["first", "last"]);
    stage.metric_becomes(r#"datahall_gateway_queue_refused_total{model="m",class="standard",why="left"}"#, "1").await;
    // One under way that leaves makes room as well.
    let running = send(&stage, CALLER, "running", None, "");
    eventually(|| stub.asked() == 3, || "it did not go".to_owned()).await;
    let next = send(&stage, CALLER, "next", None, "");
    depth(&stage, "standard", 1).await;
    running.abort();
    eventually(|| stub.asked() == 4, || "nobody was next".to_owned()).await;
    gate.add_permits(2);
    assert_eq!(next.await.unwrap().0, 200);
}

#[tokio::test]
async fn who_would_wait_too_long_hears_it_early_and_when_to_come_back() {
    let (stub, gate) = gated().await;
    let mut line = LineConfig::new(1);
    line.length_max = 8;
    line.classes = vec![
        ClassConfig {
            name: "now".to_owned(),
            first_token: Duration::from_secs(1),
            wait_max: Duration::from_millis(40),
        },
        ClassConfig { name: "later".to_owned(), first_token: Duration::from_secs(9), wait_max: Duration::from_mins(5) },
    ];
    line.class = "later".to_owned();
    let stage = Arc::new(Stage::with(config(line), vec![stub.target("a")]).await);
    let bad = send(&stage, CALLER, "x", Some("never"), "").await.unwrap();
    assert_eq!((bad.0, bad.2.contains("now, later")), (400, true), "{}", bad.2);
    let mut waiting = vec![send(&stage, CALLER, "first", None, "")];
    eventually(|| stub.asked() == 1, || "the first did not go".to_owned()).await;
    // Nobody knows yet how fast it goes: the wait itself ends it.
    let refused = |(status, headers, body): (u16, HeaderMap, String)| {
        let retry: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert_eq!((status, error_of(&body)["code"].as_str()), (429, Some("queue_full")), "{body}");
        retry
    };
    refused(send(&stage, CALLER, "expires", Some("now"), "").await.unwrap());
    stage.metric_becomes(r#"datahall_gateway_queue_refused_total{model="m",class="now",why="expired"}"#, "1").await;
    for place in 1..=8 {
        waiting.push(send(&stage, CALLER, "waits", None, ""));
        depth(&stage, "later", place).await;
    }
    refused(send(&stage, CALLER, "full", None, "").await.unwrap());
    stage.metric_becomes(r#"datahall_gateway_queue_refused_total{model="m",class="later",why="full"}"#, "1").await;
    // Some go, a fifth of a second apart: then a class of 40 ms is refused as soon as anybody stands before it.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = stub.asked();
        gate.add_permits(1);
        eventually(|| stub.asked() > before, || "nobody was next".to_owned()).await;
    }
    depth(&stage, "later", 3).await;
    let urgent = send(&stage, CALLER, "urgent", Some("now"), "");
    refused(urgent.await.unwrap());
    gate.add_permits(100);
    for one in waiting {
        assert_eq!(one.await.unwrap().0, 200);
    }
    assert_eq!(stub.asked(), 9);
}

#[tokio::test]
async fn those_who_wait_go_on_when_an_engine_comes() {
    let (stuck, gate) = gated().await;
    let fresh = Stub::json(ANSWER).await;
    let stage = Arc::new(Stage::with(config(LineConfig::new(1)), vec![stuck.target("a")]).await);
    let first = send(&stage, CALLER, "first", None, "");
    eventually(|| stuck.asked() == 1, || "the first did not go".to_owned()).await;
    let waiting: Vec<_> = (0..5).map(|_| send(&stage, CALLER, "waits", None, "")).collect();
    depth(&stage, "standard", 5).await;
    stage.gateway.set_engines(vec![stuck.target("a"), fresh.target("b")]).unwrap();
    for one in waiting {
        assert_eq!(one.await.unwrap().0, 200);
    }
    assert_eq!((stuck.asked(), fresh.asked()), (1, 5));
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().0, 200);
}

#[tokio::test]
async fn first_tokens_in_time_are_counted_by_class() {
    let stub =
        Stub::start(|_| Box::pin(async { reply(200, "text/event-stream", "data: {}\n\ndata: [DONE]\n\n") })).await;
    let mut line = LineConfig::new(4);
    line.classes[0].first_token = Duration::ZERO;
    line.classes[1].first_token = Duration::from_mins(10);
    let stage = Arc::new(Stage::with(config(line), vec![stub.target("a")]).await);
    for class in ["interactive", "standard"] {
        assert_eq!(send(&stage, CALLER, "x", Some(class), r#","stream":true"#).await.unwrap().0, 200);
    }
    let name = |class: &str, in_time: bool| {
        format!(r#"datahall_gateway_class_first_tokens_total{{model="m",class="{class}",in_time="{in_time}"}}"#)
    };
    stage.metric_becomes(&name("interactive", false), "1").await;
    stage.metric_becomes(&name("standard", true), "1").await;
}
