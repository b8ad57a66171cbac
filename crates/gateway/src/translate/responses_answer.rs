//! Chat completions as responses of `OpenAI`: the object.

use serde_json::{Value, json};

use super::chat::{Call, Part, Tokens, Turn};
use super::{Echo, set};

/// How far a response is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Begun,
    Ended,
    Failed(String),
}

/// The response with the parts of `turn`.
pub(super) fn whole(turn: &Turn, echo: &Echo, stage: &Stage) -> Value {
    let repeated = |name: &str, otherwise: Value| {
        echo.fields.get(name).filter(|value| !value.is_null()).cloned().unwrap_or(otherwise)
    };
    let (status, missing) = match stage {
        Stage::Begun => ("in_progress", None),
        Stage::Failed(_) => ("failed", None),
        Stage::Ended => match turn.finish.as_ref().map(|finish| finish.reason.as_str()) {
            Some("length") => ("incomplete", Some("max_output_tokens")),
            Some("content_filter") => ("incomplete", Some("content_filter")),
            Some(_) | None => ("completed", None),
        },
    };
    let error = match stage {
        Stage::Failed(why) => json!({"code": "server_error", "message": why}),
        Stage::Begun | Stage::Ended => Value::Null,
    };
    let done = if status == "incomplete" { "incomplete" } else { "completed" };
    let output: Vec<Value> = match stage {
        Stage::Begun => Vec::new(),
        Stage::Ended | Stage::Failed(_) => {
            turn.parts.iter().enumerate().map(|(place, part)| item(turn, place, part, done)).collect()
        }
    };
    let mut response = json!({
        "id": id(turn), "object": "response", "created_at": turn.created, "status": status, "error": error,
        "incomplete_details": missing.map(|reason| json!({"reason": reason})), "model": turn.model, "output": output,
        "parallel_tool_calls": repeated("parallel_tool_calls", json!(true)), "previous_response_id": null,
        "store": false, "temperature": repeated("temperature", json!(1.0)),
        "text": repeated("text", json!({"format": {"type": "text"}})),
        "tool_choice": repeated("tool_choice", json!("auto")), "tools": repeated("tools", json!([])),
        "top_p": repeated("top_p", json!(1.0)), "truncation": repeated("truncation", json!("disabled")),
        "metadata": repeated("metadata", json!({})), "background": false,
        "usage": if *stage == Stage::Ended { usage(turn.usage) } else { Value::Null },
    });
    for (name, value) in &echo.fields {
        if response.get(name).is_none() {
            set(&mut response, name, value.clone());
        }
    }
    response
}

pub(super) fn id(turn: &Turn) -> String {
    format!("resp_{}", turn.id)
}

/// The id of the item of a part.
pub(super) fn item_id(turn: &Turn, place: usize, part: &Part) -> String {
    let kind = match part {
        Part::Thinking(_) => "rs",
        Part::Text(_) | Part::Refusal(_) => "msg",
        Part::Call(_) => "fc",
    };
    format!("{kind}_{}_{place}", turn.id)
}

/// A part as an item of the output.
pub(super) fn item(turn: &Turn, place: usize, part: &Part, status: &str) -> Value {
    let id = item_id(turn, place, part);
    match part {
        Part::Thinking(text) => json!({
            "id": id, "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}],
            "status": status,
        }),
        Part::Text(_) | Part::Refusal(_) => json!({
            "id": id, "type": "message", "role": "assistant", "status": status, "content": [content(part)],
        }),
        Part::Call(Call { id: call, name, arguments, .. }) => json!({
            "id": id, "type": "function_call", "call_id": call, "name": name, "arguments": arguments, "status": status,
        }),
    }
}

/// What a message holds.
pub(super) fn content(part: &Part) -> Value {
    match part {
        Part::Refusal(text) => json!({"type": "refusal", "refusal": text}),
        Part::Text(text) | Part::Thinking(text) => {
            json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
        }
        Part::Call(_) => Value::Null,
    }
}

fn usage(tokens: Tokens) -> Value {
    json!({
        "input_tokens": tokens.prompt(), "input_tokens_details": {"cached_tokens": tokens.cached()},
        "output_tokens": tokens.answer(), "output_tokens_details": {"reasoning_tokens": tokens.reasoning()},
        "total_tokens": tokens.prompt().saturating_add(tokens.answer()),
    })
}
