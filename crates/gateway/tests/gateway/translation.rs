//! Messages and responses in front of engines that only have chat completions.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::clients::clients;
use crate::stage::*;

const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const HELLO: &str = r#"{"id":"chatcmpl-7","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;

/// An engine with chat completions alone: a tool is called if there are tools, else the answer is `hello`.
async fn chat_only() -> Stub {
    Stub::start(|seen| Box::pin(async move { only_chat(&seen) })).await
}

fn only_chat(seen: &Seen) -> axum::response::Response {
    if seen.path != CHAT {
        return reply(404, "application/json", r#"{"detail":"Not Found"}"#);
    }
    let asked: Value = serde_json::from_slice(&seen.body).unwrap();
    let choice =
        |part: &str, said: Value, finish: Option<&str>| json!([{"index": 0, part: said, "finish_reason": finish}]);
    let call = json!({"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}});
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 5});
    let tools = asked.get("tools").is_some();
    if asked["stream"] != true {
        let said = if tools { json!({"content": null, "tool_calls": [call]}) } else { json!({"content": "hello"}) };
        let finish = if tools { "tool_calls" } else { "stop" };
        let answer = json!({"id": "c1", "created": 1, "model": "m", "choices": choice("message", said, Some(finish)), "usage": usage});
        return reply(200, "application/json", answer.to_string());
    }
    assert_eq!(asked["stream_options"]["include_usage"], true);
    let says = if tools {
        vec![json!({"tool_calls": [call]})]
    } else {
        vec![json!({"content": "hel"}), json!({"content": "lo"})]
    };
    let mut events: Vec<Value> = says
        .into_iter()
        .map(|said| json!({"id": "c1", "created": 1, "model": "m", "choices": choice("delta", said, None)}))
        .collect();
    let finish = if tools { "tool_calls" } else { "stop" };
    events.push(json!({"choices": choice("delta", json!({}), Some(finish))}));
    events.push(json!({"choices": [], "usage": usage}));
    let mut lines: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    lines.push("data: [DONE]\n\n".to_owned());
    reply(200, "text/event-stream", lines.concat())
}

fn paths(stub: &Stub) -> Vec<String> {
    stub.seen().into_iter().map(|seen| seen.path).collect()
}

#[tokio::test]
async fn an_engine_is_asked_as_it_is_first_and_remembered_for_a_while() {
    let stub = chat_only().await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    for _ in 0..2 {
        let (status, text) = text(stage.post(MESSAGES, body).await).await;
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status.as_u16(), &message["content"][0]["text"]), (200, &json!("hello")));
        assert_eq!(message["usage"]["input_tokens"], 3);
    }
    assert_eq!(paths(&stub), [MESSAGES, CHAT, CHAT]);
    // The other dialect is another route.
    let (_, text_of) = text(stage.post(RESPONSES, r#"{"model":"m","input":"hi"}"#).await).await;
    let response: Value = serde_json::from_str(&text_of).unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "hello");
    assert_eq!(paths(&stub)[3..], [RESPONSES, CHAT]);
    stage.clock.advance(Duration::from_secs(601));
    text(stage.post(MESSAGES, body).await).await;
    assert_eq!(paths(&stub)[5..], [MESSAGES, CHAT]);
    stage.metric_becomes(r#"datahall_gateway_completion_tokens_total{model="m"}"#, "20").await;
    stage.metric_becomes(r#"datahall_gateway_engine_in_flight{engine="a",model="m"}"#, "0").await;
}

#[tokio::test]
async fn an_engine_that_has_the_route_is_passed_untouched() {
    for status in [200, 400, 422] {
        let stub = Stub::status(status, r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}"#).await;
        let stage = Stage::new(vec![stub.target("a")]).await;
        let body = "{\"model\":\"m\", \"mcp_servers\":[{}],\n\"n\":12345678901234567890123}";
        let (got, text) = text(stage.post(MESSAGES, body).await).await;
        assert_eq!(
            (got.as_u16(), text.as_str()),
            (status, r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}"#)
        );
        assert_eq!((stub.asked(), &stub.seen()[0].body[..]), (1, body.as_bytes()));
    }
}

#[tokio::test]
async fn an_engine_that_does_not_know_the_model_is_not_remembered() {
    let stub = Stub::status(404, r#"{"error":{"message":"no such model"}}"#).await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    for _ in 0..2 {
        let (status, text) = text(stage.post(MESSAGES, r#"{"model":"m","messages":[]}"#).await).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status.as_u16(), &error["type"], &error["error"]["message"]),
            (404, &json!("error"), &json!("no such model"))
        );
    }
    assert_eq!(paths(&stub), [MESSAGES, CHAT, MESSAGES, CHAT]);
}

#[tokio::test]
async fn what_cannot_be_said_in_chat_is_refused_unless_another_engine_can() {
    let stub = chat_only().await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let body = r#"{"model":"m","messages":[],"mcp_servers":[{"url":"x"}]}"#;
    let (status, refused) = text(stage.post(MESSAGES, body).await).await;
    let error: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(
        (status.as_u16(), &error["type"], &error["error"]["type"]),
        (400, &json!("error"), &json!("invalid_request_error"))
    );
    assert!(refused.contains("mcp_servers"), "{refused}");
    let (status, refused) =
        text(stage.post(RESPONSES, r#"{"model":"m","input":"x","previous_response_id":"r"}"#).await).await;
    assert_eq!((status.as_u16(), error_of(&refused)["code"].as_str()), (400, Some("unsupported_by_engine")));
    assert_eq!(paths(&stub), [MESSAGES, RESPONSES], "a refusal costs no engine anything");

    let native = Stub::json(r#"{"type":"message"}"#).await;
    stage.gateway.set_engines(vec![stub.target("a"), native.target("b")]).unwrap();
    for _ in 0..4 {
        assert_eq!(text(stage.post(MESSAGES, body).await).await.1, r#"{"type":"message"}"#);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_chat_completion_is_a_bad_gateway() {
    let stub = Stub::start(|seen| {
        Box::pin(async move {
            if seen.path == CHAT { reply(200, "application/json", "<html>") } else { reply(405, "text/plain", "no") }
        })
    })
    .await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let (status, text) = text(stage.post(RESPONSES, r#"{"model":"m","input":"x"}"#).await).await;
    assert_eq!((status.as_u16(), error_of(&text)["code"].as_str()), (502, Some("unreachable")));
}

#[tokio::test]
async fn translated_events_are_not_held_back_and_an_abort_reaches_the_engine() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let stub =
        Stub::start(move |seen| {
            let receiver = std::sync::Arc::clone(&receiver);
            Box::pin(async move {
                if seen.path != CHAT {
                    return reply(501, "text/plain", "");
                }
                let receiver = receiver.lock().await.take().unwrap();
                let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
                    Some((receiver.recv().await?, receiver))
                });
                reply(200, "text/event-stream", Body::from_stream(pieces))
            })
        })
        .await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let send = async |text: &str| {
        let event = json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]});
        sender.send(Ok(Bytes::from(format!("data: {event}\n\n")))).await
    };
    send("one").await.unwrap();
    let mut body = stage.post(MESSAGES, r#"{"model":"m","stream":true,"messages":[]}"#).await.into_body();
    let mut got = String::new();
    let mut until = async |what: &str| {
        while !got.contains(what) {
            let frame = body.frame().await.unwrap().unwrap();
            got.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    };
    until("one").await;
    send("two").await.unwrap();
    until("two").await;
    drop(body);
    drop(stage);
    for _ in 0..1_000 {
        if send("more").await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the engine was not told that the caller left");
}

#[tokio::test]
async fn quotas_settle_by_what_the_engine_counted() {
    let stub = Stub::start(|seen| {
        Box::pin(async move {
            if seen.path == CHAT { reply(200, "application/json", HELLO) } else { reply(404, "text/plain", "") }
        })
    })
    .await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    // Each reserves 18,000 of 20,000 tokens and uses 8.
    for _ in 0..5 {
        let body = r#"{"model":"m","max_tokens":18000,"messages":[]}"#;
        let request = http::Request::post(format!("http://{}{MESSAGES}", stage.address)).header("x-api-key", BOUNDED);
        let response = stage.request(request.body(Full::new(Bytes::from(body))).unwrap()).await;
        let (status, text) = text(response).await;
        assert_eq!(status, 200, "{text}");
        stage.metric_becomes("datahall_gateway_in_flight", "0").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_anthropic_and_openai_packages_work_unmodified_with_an_engine_that_only_chats() {
    let Some(clients) = clients() else { return };
    let stub = chat_only().await;
    let stage = Stage::new(vec![stub.target("a")]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/translated_clients.py");
    let mut command = Command::new(clients.join("bin/python"));
    command
        .arg(script)
        .env_clear()
        .env("LANG", "C.UTF-8")
        .env("GATEWAY", format!("http://{}", stage.address))
        .env("KEY", CALLER);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
}
