//! What is said in chat completions, and what is read out of them.

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;

fn chat_of(dialect: Dialect, body: &Value) -> Value {
    let (bytes, _) = request(dialect, body.to_string().as_bytes()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn refused(dialect: Dialect, body: &Value) -> String {
    match request(dialect, body.to_string().as_bytes()) {
        Err(why) => why,
        Ok((chat, _)) => panic!("{chat:?}"),
    }
}

#[test]
fn messages_become_a_chat() {
    let chat = chat_of(
        Dialect::Messages,
        &json!({
            "model": "m", "max_tokens": 9, "stream": true, "top_k": 4, "novel": {"x": 1},
            "system": [{"type": "text", "text": "be"}, {"type": "text", "text": "brief", "cache_control": {"type": "ephemeral"}}],
            "stop_sequences": ["END"], "metadata": {"user_id": "u"},
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "thinking": {"type": "enabled", "budget_tokens": 4096},
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "I call"},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [
                        {"type": "text", "text": "no"},
                        {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}},
                    ]},
                    {"type": "text", "text": "go on"},
                ]},
            ],
        }),
    );
    assert_eq!(
        chat,
        json!({
            "model": "m", "max_tokens": 9, "stream": true, "stream_options": {"include_usage": true}, "top_k": 4,
            "novel": {"x": 1}, "stop": ["END"], "user": "u", "reasoning_effort": "medium",
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
            "tool_choice": "required", "parallel_tool_calls": false,
            "messages": [
                {"role": "system", "content": "be\n\nbrief"},
                {"role": "user", "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ]},
                {"role": "assistant", "content": "I call", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                ]},
                {"role": "tool", "tool_call_id": "t1", "content": "Error: no"},
                {"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "http://x/y.png"}},
                    {"type": "text", "text": "go on"},
                ]},
            ],
        })
    );
    let begun = json!({"model": "m", "messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "{"},
    ]});
    let chat = chat_of(Dialect::Messages, &begun);
    assert_eq!((&chat["continue_final_message"], &chat["add_generation_prompt"]), (&json!(true), &json!(false)));
}

#[test]
fn a_response_request_becomes_a_chat() {
    let chat = chat_of(
        Dialect::Responses,
        &json!({
            "model": "m", "instructions": "be brief", "max_output_tokens": 7, "store": true, "seed": 3,
            "reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
            "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": false}],
            "tool_choice": {"type": "function", "name": "f"},
            "input": [
                {"role": "developer", "content": "in rhyme"},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "reasoning", "id": "rs", "summary": []},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "well"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "one"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
                {"role": "user", "content": [
                    {"type": "input_text", "text": "see"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
                ]},
            ],
        }),
    );
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    assert_eq!(
        chat,
        json!({
            "model": "m", "max_tokens": 7, "seed": 3, "reasoning_effort": "low",
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}, "strict": false}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "messages": [
                {"role": "system", "content": "be brief\n\nin rhyme"},
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "well", "tool_calls": [call("c1"), call("c2")]},
                {"role": "tool", "tool_call_id": "c1", "content": "one"},
                {"role": "tool", "tool_call_id": "c2", "content": "two"},
                {"role": "user", "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
                ]},
            ],
        })
    );
    let chat = chat_of(Dialect::Responses, &json!({"model": "m", "input": "x", "tools": [], "tool_choice": "auto"}));
    assert_eq!(chat, json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}));
}

#[test]
fn what_chat_cannot_say_is_refused_by_name() {
    let messages = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(Dialect::Messages, &body)
    };
    let block = |block: Value| messages(json!({"messages": [{"role": "user", "content": [block]}]}));
    assert_eq!(messages(json!({"mcp_servers": [{}]})), "`mcp_servers`");
    assert!(messages(json!({"tools": [{"type": "web_search_20250305", "name": "w"}]})).contains("web_search"));
    assert!(messages(json!({"messages": "x"})).contains("must be a list"));
    assert!(block(json!({"type": "server_tool_use"})).contains("`messages[0]`: a block of type `server_tool_use`"));
    assert!(
        block(json!({"type": "image", "source": {"type": "file", "file_id": "f"}})).contains("an image from `file`")
    );

    let responses = |more: Value| {
        let mut body = json!({"model": "m", "input": "x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(Dialect::Responses, &body)
    };
    for name in ["previous_response_id", "conversation", "prompt", "background"] {
        assert_eq!(
            responses(json!({name: if name == "background" { json!(true) } else { json!("x") }})),
            format!("`{name}`")
        );
    }
    assert!(responses(json!({"tools": [{"type": "web_search"}]})).contains("`web_search`"));
    assert!(responses(json!({"input": [{"type": "item_reference", "id": "x"}]})).contains("`input[0]`"));
    assert!(
        responses(json!({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}))
            .contains("image")
    );
    assert!(responses(json!({"truncation": "auto"})).contains("truncation"));
    assert!(responses(json!({"text": {"format": {"type": "grammar"}}})).contains("grammar"));
}

async fn told(dialect: Dialect, body: &Value, status: u16, kind: &str, answer: &str, cut: usize) -> String {
    let (_, echo) = request(dialect, body.to_string().as_bytes()).unwrap();
    let (first, second) = answer.as_bytes().split_at(cut.min(answer.len()));
    let pieces = [Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)];
    let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
    let body = axum::body::Body::from_stream(futures::stream::iter(pieces));
    let response = http::Response::builder().status(status).header("content-type", kind).body(body).unwrap();
    match super::answer(response, echo, "m").await {
        Ok(response) => String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        Err(error) => error.to_string(),
    }
}

const CHAT_ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":5,"model":"m","choices":[{"index":0,"message":{"role":"assistant","reasoning_content":"hm","content":"yes","tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4}}}"#;

fn asked(dialect: Dialect) -> Value {
    match dialect {
        Dialect::Messages => {
            json!({"model": "m", "messages": [], "stop_sequences": ["END"], "thinking": {"type": "adaptive"}})
        }
        Dialect::Responses => json!({"model": "m", "input": [], "temperature": 0.5}),
    }
}

#[tokio::test]
async fn a_whole_chat_becomes_a_message_and_a_response() {
    let read = async |dialect: Dialect, status: u16, text: &str| -> Value {
        let told = told(dialect, &asked(dialect), status, "application/json", text, 40).await;
        serde_json::from_str(&told).unwrap_or(Value::String(told))
    };
    let message = read(Dialect::Messages, 200, CHAT_ANSWER).await;
    assert_eq!(
        message,
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "yes"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 5},
        })
    );
    let response = read(Dialect::Responses, 200, CHAT_ANSWER).await;
    assert_eq!(
        (&response["id"], &response["status"], &response["temperature"]),
        (&json!("resp_1"), &json!("completed"), &json!(0.5))
    );
    let kinds: Vec<_> =
        response["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    assert_eq!(
        (&response["output"][2]["call_id"], &response["output"][2]["arguments"]),
        (&json!("t"), &json!("{\"a\":1}"))
    );
    assert_eq!(response["usage"]["input_tokens_details"]["cached_tokens"], 4);

    let stop =
        CHAT_ANSWER.replace("tool_calls\"}]", "stop\",\"stop_reason\":\"END\"}]").replace("\"tool_calls\":", "\"x\":");
    let message = read(Dialect::Messages, 200, &stop).await;
    assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("stop_sequence"), &json!("END")));
    let long = stop.replace("\"stop\",", "\"length\",");
    assert_eq!(read(Dialect::Messages, 200, &long).await["stop_reason"], "max_tokens");
    let response = read(Dialect::Responses, 200, &long).await;
    assert_eq!(
        (&response["status"], &response["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );

    let refusal = r#"{"error":{"message":"too long","type":"x"}}"#;
    let said = read(Dialect::Messages, 400, refusal).await;
    assert_eq!(said, json!({"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}));
    assert_eq!(read(Dialect::Responses, 400, refusal).await["error"]["message"], "too long");
    let bad = read(Dialect::Messages, 200, "<html>").await;
    assert!(bad.as_str().unwrap().contains("no chat completion"), "{bad}");
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    format!("data: {}\n\n", json!({"id": "chatcmpl-1", "created": 5, "model": "m", "choices": [choice], "usage": null}))
}

fn stream() -> String {
    let call = |place: usize, id: Option<&str>, name: Option<&str>, arguments: &str| {
        let mut call = json!({"index": place, "function": {"arguments": arguments}});
        if let (Some(id), Some(name)) = (id, name) {
            call["id"] = id.into();
            call["function"]["name"] = name.into();
        }
        chunk(&json!({"tool_calls": [call]}), None)
    };
    [
        chunk(&json!({"role": "assistant", "content": ""}), None),
        chunk(&json!({"content": "caf\u{e9} "}), None),
        chunk(&json!({"content": "yes"}), None),
        call(0, Some("a"), Some("f"), ""),
        call(0, None, None, "{\"x\":"),
        call(0, None, None, "1}"),
        call(1, Some("b"), Some("g"), "{}"),
        chunk(&json!({}), Some("tool_calls")),
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat()
}

fn events(text: &str) -> Vec<(String, Value)> {
    let read = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
        (name.strip_prefix("event: ").unwrap().to_owned(), data)
    };
    text.trim_end().split("\n\n").map(read).collect()
}

#[tokio::test]
async fn streams_become_events_whatever_the_split() {
    let answer = stream();
    for dialect in [Dialect::Messages, Dialect::Responses] {
        let mut body = asked(dialect);
        body["stream"] = true.into();
        let whole = told(dialect, &body, 200, "text/event-stream", &answer, answer.len()).await;
        for cut in 0..answer.len() {
            assert_eq!(told(dialect, &body, 200, "text/event-stream", &answer, cut).await, whole, "cut at {cut}");
        }
        let events = events(&whole);
        let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
        match dialect {
            Dialect::Messages => {
                let block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"];
                let last = [
                    "content_block_start",
                    "content_block_delta",
                    "content_block_stop",
                    "message_delta",
                    "message_stop",
                ];
                assert_eq!(names, [&["message_start"][..], &block, &block, &last].concat());
                assert_eq!(events[4].1["index"], 0);
                assert_eq!(
                    events[5].1["content_block"],
                    json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})
                );
                assert_eq!(events[7].1["delta"], json!({"type": "input_json_delta", "partial_json": "1}"}));
                let (_, delta) = &events[events.len() - 2];
                assert_eq!(
                    (&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]),
                    (&json!("tool_use"), &json!(4))
                );
            }
            Dialect::Responses => {
                assert_eq!(
                    names[..4],
                    [
                        "response.created",
                        "response.in_progress",
                        "response.output_item.added",
                        "response.content_part.added"
                    ]
                );
                assert_eq!(names.last(), Some(&"response.completed"));
                let numbers: Vec<_> =
                    events.iter().map(|(_, data)| data["sequence_number"].as_u64().unwrap()).collect();
                assert_eq!(numbers, (0..u64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
                let response = &events.last().unwrap().1["response"];
                assert_eq!(response["output"][0]["content"][0]["text"], "caf\u{e9} yes");
                assert_eq!(
                    (&response["output"][1]["arguments"], &response["output"][2]["name"]),
                    (&json!("{\"x\":1}"), &json!("g"))
                );
                assert_eq!(response["usage"]["total_tokens"], 13);
            }
        }
    }
}

#[tokio::test]
async fn streams_that_fail_say_so() {
    let cut = chunk(&json!({"content": "a"}), None);
    let broken = format!("{cut}data: {{\"error\":{{\"message\":\"gone\"}}}}\n\n");
    let nonsense = format!("{cut}data: <html>\n\n");
    for (answer, says) in [(cut.as_str(), "without saying"), (&broken, "gone"), (&nonsense, "no chunk")] {
        let told_messages =
            told(Dialect::Messages, &asked(Dialect::Messages), 200, "text/event-stream", answer, 9).await;
        let (name, data) = events(&told_messages).pop().unwrap();
        assert_eq!((name.as_str(), &data["error"]["type"]), ("error", &json!("api_error")));
        assert!(data["error"]["message"].as_str().unwrap().contains(says), "{data}");
        let told_responses =
            told(Dialect::Responses, &asked(Dialect::Responses), 200, "text/event-stream", answer, 9).await;
        let (name, data) = events(&told_responses).pop().unwrap();
        assert_eq!((name.as_str(), &data["response"]["status"]), ("response.failed", &json!("failed")));
        assert!(data["response"]["error"]["message"].as_str().unwrap().contains(says), "{data}");
    }
}
