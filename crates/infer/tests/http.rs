//! The listener, over real sockets on the loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use dh_core::Secret;
use dh_infer::standin::{self, Standin};
use dh_infer::{EngineConfig, LoadOptions, Model, serve};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const KEY: &str = "dh-test-key";

struct Engine {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), dh_infer::Error>>,
}

impl Engine {
    async fn start(model: Model, change: impl FnOnce(&mut EngineConfig)) -> Self {
        let mut config = EngineConfig::new(standin::NAME, model, Secret::new(KEY.to_owned()));
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(config, listener, async {
            let _asked = stopped.await;
        }));
        Self { address, stop, task }
    }

    async fn send(&self, method: &str, path: &str, key: Option<&str>, body: String) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "engine");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        sender.send_request(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self.send("POST", path, Some(KEY), body.to_string()).await;
        let status = response.status();
        (status, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = self.send("GET", path, Some(KEY), String::new()).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The events of a streamed answer; the last must be `[DONE]`.
    async fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let response = self.send("POST", path, Some(KEY), body.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let mut events: Vec<&str> =
            text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }

    /// The number of one line of `/metrics`.
    async fn metric(&self, start: &str) -> f64 {
        let (_, page) = self.get("/metrics").await;
        let line = page.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in\n{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn until(&self, metric: &str, wanted: f64) {
        let begun = Instant::now();
        while (self.metric(metric).await - wanted).abs() > 0.1 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{metric} never became {wanted}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

fn language_model(blocks: u32, context_tokens: u32) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    Standin { blocks, context_tokens, ..Standin::default() }.write(&path).unwrap();
    Model::open_gguf(&path, LoadOptions::default()).unwrap()
}

fn classifier() -> Model {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (weight, bias) = (bytes(&[4.0, 0.0, 0.0, 4.0]), bytes(&[0.0, 0.0]));
    let view =
        |shape: Vec<usize>, data| safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, data).unwrap();
    let metadata = [
        ("format", "datahall-dense-1"),
        ("activation", "relu"),
        ("normalisation", "pixels/255"),
        ("classes", r#"["left","right"]"#),
        ("accuracy", "0.5"),
    ];
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let tensors = [("layers.0.weight", view(vec![2, 2], &weight)), ("layers.0.bias", view(vec![2], &bias))];
    Model::dense(&safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap()
}

fn hello() -> Value {
    json!({ "model": standin::NAME, "messages": [{ "role": "user", "content": "hello" }], "seed": 5, "max_tokens": 40 })
}

fn with(mut body: Value, more: Value) -> Value {
    let (Some(object), Value::Object(more)) = (body.as_object_mut(), more) else { panic!("not objects") };
    object.extend(more);
    body
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_stream_joins_to_the_whole_answer_and_counts_the_same() {
    let engine = Engine::start(language_model(2, 512), |_| {}).await;
    let (status, whole) = engine.post(CHAT, &hello()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["message"]["role"], "assistant");
    assert!(
        whole["id"].as_str().unwrap().starts_with("chatcmpl-") && whole["created"].as_u64().unwrap() > 1_700_000_000
    );
    let usage = &whole["usage"];
    let completion = usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"].as_u64().unwrap(), usage["prompt_tokens"].as_u64().unwrap() + completion);
    let finish = whole["choices"][0]["finish_reason"].as_str().unwrap();
    assert!(finish == "stop" || completion == 40, "{whole}");

    let streamed = with(hello(), json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let mut events = engine.stream(CHAT, &streamed).await;
    let last = events.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(last["usage"][field], usage[field]);
    }
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], finish);
    assert!(events.iter().all(|event| event["id"] == events[0]["id"] && event["object"] == "chat.completion.chunk"));
    assert!(events.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());

    let plain = engine.stream(CHAT, &with(hello(), json!({ "stream": true }))).await;
    assert!(plain.iter().all(|event| event.get("usage").is_none()));

    let generated = engine.metric("datahall_engine_generated_tokens_total").await;
    assert!((generated - 3.0 * f64::from(u32::try_from(completion).unwrap())).abs() < 0.1, "{generated}");
    engine.end().await;
}

#[tokio::test]
async fn a_limit_at_the_models_own_end_is_a_stop_and_one_below_is_a_length() {
    let engine = Engine::start(language_model(2, 512), |_| {}).await;
    let ending = async |max_tokens: u64| {
        let (_, answer) = engine.post(CHAT, &with(hello(), json!({ "max_tokens": max_tokens }))).await;
        let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
        (tokens, answer["choices"][0]["finish_reason"].as_str().unwrap().to_owned())
    };
    // The seed fixes where the model itself ends.
    let (end, finish) = ending(400).await;
    assert!((2..400).contains(&end) && finish == "stop", "{end} {finish}: another seed is needed");
    assert_eq!(ending(end).await, (end, "stop".to_owned()));
    assert_eq!(ending(end - 1).await, (end - 1, "length".to_owned()));
    engine.end().await;
}

#[tokio::test]
async fn text_completions_continue_a_prompt() {
    let engine = Engine::start(language_model(2, 512), |_| {}).await;
    let body = json!({ "prompt": ["the "], "max_tokens": 8, "temperature": 0 });
    let (status, whole) = engine.post("/v1/completions", &body).await;
    assert_eq!((status, &whole["object"]), (StatusCode::OK, &json!("text_completion")));
    let events = engine.stream("/v1/completions", &with(body, json!({ "stream": true }))).await;
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(whole["choices"][0]["text"], text);
    engine.end().await;
}

#[tokio::test]
async fn nothing_but_healthz_answers_without_the_key() {
    let engine = Engine::start(language_model(1, 512), |_| {}).await;
    let routes = [
        ("GET", "/metrics"),
        ("GET", "/v1/models"),
        ("POST", CHAT),
        ("POST", "/v1/completions"),
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/health/live"),
        ("GET", "/v2/models/x"),
        ("POST", "/v2/models/x/infer"),
        ("GET", "/no/such/path"),
        ("DELETE", "/v1/models"),
        ("GET", "/healthz/"),
    ];
    for (method, path) in routes {
        for key in [None, Some(""), Some("wrong"), Some("dh-test-key2"), Some("dh-test-ke")] {
            let response = engine.send(method, path, key, String::new()).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{method} {path} {key:?}");
        }
    }
    let open = engine.send("GET", "/healthz", None, String::new()).await;
    assert_eq!(open.status(), StatusCode::OK);
    assert_eq!(open.into_body().collect().await.unwrap().to_bytes(), "ok");
    let (status, models) = engine.get("/v1/models").await;
    assert!(status.is_success() && models.contains(standin::NAME));
    assert_eq!(engine.get("/no/such/path").await.0, StatusCode::NOT_FOUND);
    assert_eq!(engine.get(CHAT).await.0, StatusCode::METHOD_NOT_ALLOWED);
    engine.end().await;
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let engine = Engine::start(language_model(1, 512), |_| {}).await;
    for (more, status, param, word) in [
        (json!({ "messages": [{ "role": "user", "content": "x".repeat(600) }] }), 400, "messages", "512"),
        (json!({ "messages": [] }), 400, "messages", "empty"),
        (
            json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "system", "content": "b" }] }),
            400,
            "messages",
            "first",
        ),
        (json!({ "model": "gpt-4" }), 404, "model", standin::NAME),
        (json!({ "n": 3 }), 400, "n", "one answer"),
        (json!({ "temperature": 3.0 }), 400, "temperature", "0 to 2"),
        (json!({ "max_tokens": 0 }), 400, "max_tokens", "1 or more"),
        (json!({ "stop": vec!["x"; 17] }), 400, "stop", "16"),
    ] {
        for stream in [false, true] {
            let body = with(with(hello(), more.clone()), json!({ "stream": stream }));
            let (got, answer) = engine.post(CHAT, &body).await;
            assert_eq!(got.as_u16(), status, "{answer}");
            assert_eq!(answer["error"]["param"], param, "{answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{answer}");
            assert!(answer["error"]["type"].is_string() && answer["error"]["code"].is_string());
        }
    }
    let broken = engine.send("POST", CHAT, Some(KEY), "{".to_owned()).await;
    assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
    let huge = engine.send("POST", CHAT, Some(KEY), " ".repeat(dh_core::limits::CHAT_BYTES_MAX + 1)).await;
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let (wrong_model, _) = engine.post(&format!("/v2/models/{}/infer", standin::NAME), &json!({ "inputs": [] })).await;
    assert_eq!(wrong_model, StatusCode::BAD_REQUEST);
    engine.end().await;
}

/// A request that keeps a slot for seconds.
fn long() -> Value {
    with(hello(), json!({ "temperature": 0, "max_tokens": 4_000, "stream": true }))
}

#[tokio::test]
async fn a_full_queue_is_429_and_a_client_that_hangs_up_frees_its_slot() {
    let engine = Engine::start(language_model(24, 4_096), |config| config.waiting_max = 1).await;
    let mut running = engine.send("POST", CHAT, Some(KEY), long().to_string()).await;
    assert_eq!(running.status(), StatusCode::OK);
    running.body_mut().frame().await.unwrap().unwrap();
    assert!((engine.metric("datahall_engine_running").await - 1.0).abs() < 0.1);

    let waiting = engine.send("POST", CHAT, Some(KEY), hello().to_string());
    let mut waiting = Box::pin(waiting);
    let turned_away = async {
        engine.until("datahall_engine_queue_depth", 1.0).await;
        engine.send("POST", CHAT, Some(KEY), hello().to_string()).await
    };
    let full = tokio::select! {
        full = turned_away => full,
        _ = &mut waiting => panic!("the waiting request was answered while the slot was taken"),
    };
    assert_eq!(full.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = full.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));

    drop(running);
    let answered = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the slot was not freed");
    assert_eq!(answered.status(), StatusCode::OK);
    let outcome =
        |outcome: &str| format!("datahall_engine_requests_total{{model=\"{}\",outcome=\"{outcome}\"}}", standin::NAME);
    engine.until(&outcome("cancelled"), 1.0).await;
    engine.until(&outcome("busy"), 1.0).await;
    engine.until(&outcome("ok"), 1.0).await;
    engine.end().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_before_a_whole_answer_frees_its_slot() {
    let engine = Engine::start(language_model(24, 4_096), |_| {}).await;
    let patient = engine.send("POST", CHAT, Some(KEY), with(long(), json!({ "stream": false })).to_string());
    tokio::select! {
        _ = patient => panic!("four thousand tokens cannot be that fast"),
        () = engine.until("datahall_engine_running", 1.0) => {}
    }
    engine.until("datahall_engine_running", 0.0).await;
    engine.end().await;
}

#[tokio::test]
async fn stopping_ends_answers_and_says_so() {
    let engine = Engine::start(language_model(24, 4_096), |_| {}).await;
    let mut running = engine.send("POST", CHAT, Some(KEY), long().to_string()).await;
    running.body_mut().frame().await.unwrap().unwrap();
    let begun = Instant::now();
    let (rest, ()) = tokio::join!(running.into_body().collect(), engine.end());
    assert!(begun.elapsed() < Duration::from_millis(dh_core::limits::STOP_GRACE_MS + 3_000));
    let text = String::from_utf8(rest.unwrap().to_bytes().to_vec()).unwrap();
    // A fast machine may finish within the grace; else the stream carries an error and no end mark.
    assert!(text.ends_with("data: [DONE]\n\n") != text.contains("\"code\":\"interrupted\""), "{text}");
}

#[tokio::test]
async fn a_stand_in_must_carry_its_mark() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = EngineConfig::new("smollm2", language_model(1, 64), Secret::new(KEY.to_owned()));
    let error = serve(config, listener, std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("made-up weights"), "{error}");
}

#[tokio::test]
async fn a_classifier_speaks_the_open_inference_protocol() {
    let engine = Engine::start(classifier(), |config| config.name = "sides".to_owned()).await;
    assert_eq!(engine.get("/v2/health/ready").await.0, StatusCode::OK);
    let (_, about) = engine.get("/v2/models/sides").await;
    let about: Value = serde_json::from_str(&about).unwrap();
    assert_eq!(about["inputs"][0]["shape"], json!([-1, 2]));
    assert_eq!(about["parameters"]["accuracy"], "0.5");
    let infer = "/v2/models/sides/infer";
    let input = |shape: Value, datatype: &str, data: Value| json!({ "id": "7", "inputs": [{ "name": "pixels", "shape": shape, "datatype": datatype, "data": data }] });
    for data in [json!([255, 0, 0, 255]), json!([[255, 0], [0, 255]])] {
        let (status, answer) = engine.post(infer, &input(json!([2, 2]), "UINT8", data)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["id"], "7");
        let [probabilities, label, class] = answer["outputs"].as_array().unwrap().as_slice() else {
            panic!("{answer}")
        };
        // Scores 4 and 0: the first probability is 1 / (1 + e^-4).
        let first = probabilities["data"][0].as_f64().unwrap();
        assert!((first - 1.0 / (1.0 + (-4.0f64).exp())).abs() < 1e-6, "{first}");
        assert_eq!(probabilities["shape"], json!([2, 2]));
        assert_eq!(label["data"], json!([0, 1]));
        assert_eq!(class["data"], json!(["left", "right"]));
    }
    for bad in [
        input(json!([2, 2]), "UINT8", json!([0, 0, 0])),
        input(json!([1, 2]), "UINT8", json!([0, 256])),
        input(json!([1, 2]), "UINT8", json!([0, 0.5])),
        input(json!([1, 2]), "INT64", json!([0, 0])),
        input(json!([1, 3]), "FP32", json!([0, 0, 0])),
        input(json!([0, 2]), "FP32", json!([])),
        input(json!([u64::MAX, 2]), "FP32", json!([])),
        json!({ "inputs": [] }),
    ] {
        let (status, answer) = engine.post(infer, &bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(engine.get("/v2/models/other").await.0, StatusCode::NOT_FOUND);
    assert_eq!(engine.post(CHAT, &hello()).await.0, StatusCode::BAD_REQUEST);
    assert!((engine.metric("datahall_engine_rows_total").await - 4.0).abs() < 0.1);
    engine.end().await;
}
