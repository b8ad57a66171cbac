//! Files and batches as callers see them, over restarts too.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dh_gateway::{BatchConfig, EngineTarget, GatewayConfig, Price};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::stage::*;

const ANSWER: &str = "{\"id\":\"x\",\n\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}";

/// A folder that is gone after the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("dh-batch-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn config(&self) -> GatewayConfig {
        let batch = BatchConfig { per_engine: 4, ..BatchConfig::in_folder(self.0.clone()) };
        GatewayConfig { batch: Some(batch), policy: "least_in_flight".to_owned(), ..GatewayConfig::default() }
    }

    pub(crate) async fn stage(&self, targets: Vec<EngineTarget>) -> Stage {
        Stage::with(self.config(), targets).await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn line(name: &str, body: &Value) -> String {
    json!({ "custom_id": name, "method": "POST", "url": CHAT, "body": body }).to_string()
}

pub(crate) fn requests(count: usize) -> String {
    (0..count)
        .map(|number| line(&format!("r{number}"), &json!({ "model": "m", "messages": [], "max_tokens": 5 })) + "\n")
        .collect()
}

pub(crate) fn form(text: &str) -> String {
    format!(
        "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{text}\r\n--b--\r\n"
    )
}

async fn upload(stage: &Stage, key: &str, text: &str) -> Value {
    let request = http::Request::post(format!("http://{}/v1/files", stage.address))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "multipart/form-data; boundary=b");
    answer(stage.request(request.body(Full::new(form(text).into())).unwrap()).await).await
}

async fn answer(response: http::Response<hyper::body::Incoming>) -> Value {
    let (status, body) = text(response).await;
    assert!(status.is_success(), "{status}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn create(stage: &Stage, key: &str, input: &str) -> Value {
    let body =
        json!({ "input_file_id": input, "endpoint": CHAT, "completion_window": "24h", "metadata": { "a": "b" } });
    answer(stage.send("POST", "/v1/batches", Some(key), body.to_string()).await).await
}

async fn begin(stage: &Stage, key: &str, text: &str) -> String {
    let file = upload(stage, key, text).await;
    let batch = create(stage, key, file["id"].as_str().unwrap()).await;
    batch["id"].as_str().unwrap().to_owned()
}

async fn get(stage: &Stage, key: &str, path: &str) -> Value {
    answer(stage.send("GET", path, Some(key), "").await).await
}

async fn ends(stage: &Stage, key: &str, id: &str) -> Value {
    for _ in 0..4_000 {
        let batch = get(stage, key, &format!("/v1/batches/{id}")).await;
        if ["completed", "failed", "cancelled", "expired"].contains(&batch["status"].as_str().unwrap()) {
            return batch;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the batch does not end: {}", get(stage, key, &format!("/v1/batches/{id}")).await);
}

async fn results(stage: &Stage, key: &str, id: &Value) -> Vec<Value> {
    let path = format!("/v1/files/{}/content", id.as_str().unwrap());
    let (status, body) = text(stage.send("GET", &path, Some(key), "").await).await;
    assert_eq!(status, 200, "{body}");
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(results: &[Value]) -> BTreeSet<String> {
    results.iter().map(|one| one["custom_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_batch_becomes_a_file_of_answers_and_one_of_errors_and_nobody_else_sees_them() {
    let stub = Stub::start(|seen| {
        Box::pin(async move {
            let bad = seen.body.windows(3).any(|three| three == b"bad");
            let refusal = r#"{"error":{"message":"bad"}}"#;
            if bad { reply(400, "application/json", refusal) } else { reply(200, "application/json", ANSWER) }
        })
    })
    .await;
    let folder = Folder::new();
    let stage = folder.stage(vec![stub.target("a")]).await;
    let text = requests(20)
        + &line("wrong", &json!({ "model": "m", "messages": "bad" }))
        + "\n"
        + &line("nobody", &json!({ "model": "nobody" }));
    let file = upload(&stage, CALLER, &text).await;
    assert_eq!(
        (&file["object"], &file["filename"], &file["purpose"]),
        (&"file".into(), &"in.jsonl".into(), &"batch".into())
    );
    assert_eq!(file["bytes"], text.len());
    let input = file["id"].as_str().unwrap();
    let made = create(&stage, CALLER, input).await;
    assert_eq!(
        (&made["object"], &made["status"], &made["metadata"]["a"]),
        (&"batch".into(), &"validating".into(), &"b".into())
    );
    let id = made["id"].as_str().unwrap();
    let batch = ends(&stage, CALLER, id).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({ "total": 22, "completed": 20, "failed": 2 }));

    let good = results(&stage, CALLER, &batch["output_file_id"]).await;
    assert_eq!((good.len(), names(&good).len()), (20, 20));
    assert_eq!((&good[0]["response"]["status_code"], &good[0]["response"]["body"]["id"]), (&200.into(), &"x".into()));
    assert!(good[0]["error"].is_null() && good[0]["response"]["request_id"].is_string());
    let bad = results(&stage, CALLER, &batch["error_file_id"]).await;
    let status =
        |name: &str| bad.iter().find(|one| one["custom_id"] == name).unwrap()["response"]["status_code"].clone();
    assert_eq!((status("wrong"), status("nobody")), (400.into(), 404.into()));

    let all = get(&stage, CALLER, "/v1/files?purpose=batch_output").await;
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    assert_eq!(get(&stage, CALLER, "/v1/batches").await["data"][0]["id"], id);
    for path in [format!("/v1/files/{input}"), format!("/v1/files/{input}/content"), format!("/v1/batches/{id}")] {
        let status = stage.send("GET", &path, Some(BOUNDED), "").await.status();
        assert_eq!(status, 404, "{path}");
    }
    assert_eq!(stage.send("DELETE", &format!("/v1/files/{input}"), Some(BOUNDED), "").await.status(), 404);
    assert_eq!(get(&stage, BOUNDED, "/v1/files").await["data"], json!([]));
    assert_eq!(stage.send("POST", &format!("/v1/batches/{id}/cancel"), Some(CALLER), "").await.status(), 409);
    assert_eq!(
        answer(stage.send("DELETE", &format!("/v1/files/{input}"), Some(CALLER), "").await).await["deleted"],
        true
    );
    assert_eq!(stage.send("GET", &format!("/v1/files/{input}"), Some(CALLER), "").await.status(), 404);
    assert_eq!(stage.metric("datahall_gateway_batch_lines_total{end=\"answered\"}").as_deref(), Some("20"));
}

#[tokio::test]
async fn a_file_with_mistakes_fails_with_their_lines_before_any_request_goes_out() {
    let stub = Stub::json(ANSWER).await;
    let folder = Folder::new();
    let stage = folder.stage(vec![stub.target("a")]).await;
    let id = begin(&stage, CALLER, &(requests(2) + "{oops\n" + &requests(1))).await;
    let batch = ends(&stage, CALLER, &id).await;
    assert_eq!(batch["status"], "failed");
    let told: Vec<(u64, &str)> = batch["errors"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["line"].as_u64().unwrap(), one["code"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(3, "invalid_json_line"), (4, "duplicate_custom_id")]);
    assert_eq!(stub.asked(), 0);
    let off = Stage::new(vec![stub.target("a")]).await;
    let (status, body) = off.get("/v1/files").await;
    assert!(status == 404 && body.contains("--data"), "{body}");
    let refused =
        stage.send("POST", "/v1/batches", Some(CALLER), r#"{"input_file_id":"file-x","endpoint":"/v1/x"}"#).await;
    assert_eq!(refused.status(), 400);
    let refused = stage.send("POST", "/v1/files", Some(CALLER), "{}").await;
    assert!(text(refused).await.1.contains("multipart"));
}

/// An engine that answers when it is released.
async fn gated() -> (Stub, tokio::sync::watch::Sender<bool>) {
    let (release, released) = tokio::sync::watch::channel(false);
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

#[tokio::test]
async fn batches_fill_only_the_room_that_others_leave() {
    let (stub, release) = gated().await;
    let folder = Folder::new();
    let stage = Arc::new(folder.stage(vec![stub.target("a")]).await);
    let others: Vec<_> = (0..3)
        .map(|_| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { stage.chat().await.0 })
        })
        .collect();
    eventually(|| stub.asked() == 3, || format!("{} asked", stub.asked())).await;
    let id = begin(&stage, CALLER, &requests(50)).await;
    eventually(|| stub.asked() == 4, || format!("{} asked", stub.asked())).await;
    stage.metric_becomes("datahall_gateway_batch_requests{state=\"held\"}", "49").await;
    assert_eq!(stub.asked(), 4, "four is the mark: three of callers and one of the batch");
    // A caller that waits for its answer is not held.
    let more = tokio::spawn({
        let stage = Arc::clone(&stage);
        async move { stage.chat().await.0 }
    });
    eventually(|| stub.asked() == 5, || format!("{} asked", stub.asked())).await;
    release.send(true).unwrap();
    for task in others.into_iter().chain([more]) {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(ends(&stage, CALLER, &id).await["request_counts"]["completed"], 50);
}

#[tokio::test]
async fn a_cancelled_batch_keeps_what_it_has_and_a_late_one_says_what_it_left() {
    let answered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&answered);
    let stub = Stub::start(move |_| {
        let mine = count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            // In each run of 20 the first ten are answered.
            if mine % 20 >= 10 {
                std::future::pending::<()>().await;
            }
            reply(200, "application/json", ANSWER)
        })
    })
    .await;
    let folder = Folder::new();
    let stage = folder.stage(vec![stub.target("a")]).await;
    let id = begin(&stage, CALLER, &requests(30)).await;
    eventually(|| stub.asked() == 14, || format!("{} asked", stub.asked())).await;
    stage.metric_becomes("datahall_gateway_batch_lines_total{end=\"answered\"}", "10").await;
    let busy = get(&stage, CALLER, &format!("/v1/batches/{id}")).await;
    let path = format!("/v1/files/{}", busy["input_file_id"].as_str().unwrap());
    assert_eq!(stage.send("DELETE", &path, Some(CALLER), "").await.status(), 409, "it is being read");
    let cancelling = answer(stage.send("POST", &format!("/v1/batches/{id}/cancel"), Some(CALLER), "").await).await;
    assert_eq!(cancelling["status"], "cancelling");
    let batch = ends(&stage, CALLER, &id).await;
    assert_eq!((&batch["status"], &batch["request_counts"]["completed"]), (&"cancelled".into(), &10.into()));
    assert_eq!(results(&stage, CALLER, &batch["output_file_id"]).await.len(), 10);

    answered.store(0, Ordering::Relaxed);
    let id = begin(&stage, CALLER, &requests(30)).await;
    stage.metric_becomes("datahall_gateway_batch_lines_total{end=\"answered\"}", "20").await;
    stage.clock.advance(std::time::Duration::from_hours(25));
    let batch = ends(&stage, CALLER, &id).await;
    assert_eq!(batch["request_counts"], json!({ "total": 30, "completed": 10, "failed": 20 }));
    let late = results(&stage, CALLER, &batch["error_file_id"]).await;
    assert!(late.iter().all(|one| one["error"]["code"] == "batch_expired" && one["response"].is_null()));
    let good = names(&results(&stage, CALLER, &batch["output_file_id"]).await);
    assert_eq!(names(&late).union(&good).count(), 30);
}

#[tokio::test]
async fn budgets_hold_for_batches_and_what_no_longer_fits_is_an_error() {
    let stub = Stub::json(r#"{"usage":{"prompt_tokens":10,"completion_tokens":5}}"#).await;
    let folder = Folder::new();
    let price = Price { prompt: 1_000_000, cached: 0, answer: 1_000_000 };
    let config = GatewayConfig { prices: [("m".to_owned(), price)].into(), ..folder.config() };
    let stage = Stage::with(config, vec![stub.target("a")]).await;
    let id = begin(&stage, BOUNDED, &requests(30)).await;
    let batch = ends(&stage, BOUNDED, &id).await;
    let (good, bad) =
        (batch["request_counts"]["completed"].as_u64().unwrap(), batch["request_counts"]["failed"].as_u64().unwrap());
    // 100 millionths of a dollar, of which each answer takes 15.
    assert!((1..=6).contains(&good) && good + bad == 30, "{batch}");
    let refused = results(&stage, BOUNDED, &batch["error_file_id"]).await;
    assert_eq!(refused[0]["response"]["body"]["error"]["code"], "insufficient_quota");
}

#[tokio::test]
async fn a_batch_goes_on_where_a_killed_gateway_left_it_and_no_line_is_doubled() {
    let folder = Folder::new();
    let stub = Stub::start(|_| {
        Box::pin(async {
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            reply(200, "application/json", ANSWER)
        })
    })
    .await;
    let mut id = String::new();
    for life in 0..6 {
        let stage = folder.stage(vec![stub.target("a")]).await;
        if life == 0 {
            id = begin(&stage, CALLER, &requests(300)).await;
        }
        let (path, before) = (format!("/v1/batches/{id}"), stub.asked());
        eventually(|| stub.asked() >= before + 30, || format!("{} asked", stub.asked())).await;
        assert!(get(&stage, CALLER, &path).await["output_file_id"].is_null());
        // Nothing is told: the tasks are gone in the middle of what they do.
        let served = stage.served.as_ref().unwrap();
        served.abort();
        drop(stage);
        // Its tasks end when they are looked at; whoever opens the folder waits for its last holder, and blocks this thread.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let open = || dh_gateway::Gateway::new(folder.config(), Arc::new(Keys)).is_ok();
        eventually(open, || "the folder stays locked".to_owned()).await;
        // A line that was being written when the power went.
        let journal = folder.0.join(format!("batches/{id}.output"));
        let mut torn = std::fs::read(&journal).unwrap();
        torn.extend_from_slice(b"{\"id\":\"batch_req_x\",\"custom_id\":\"r299\"");
        std::fs::write(&journal, torn).unwrap();
    }
    let stage = folder.stage(vec![stub.target("a")]).await;
    let batch = ends(&stage, CALLER, &id).await;
    assert_eq!(batch["request_counts"], json!({ "total": 300, "completed": 300, "failed": 0 }));
    let good = results(&stage, CALLER, &batch["output_file_id"]).await;
    assert_eq!((good.len(), names(&good).len()), (300, 300));
    assert!(stub.asked() < 300 + 6 * 8, "{} asked: what was done is not asked again", stub.asked());
}
