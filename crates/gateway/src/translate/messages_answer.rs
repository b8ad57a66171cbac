//! Chat completions as messages of Anthropic: the answer, whole or as events.

use serde_json::{Value, json};

use super::chat::{Call, Change, Part, Tokens, Turn};
use super::{Echo, set};

/// The answer as one object.
pub(super) fn whole(turn: &Turn, echo: &Echo) -> Value {
    let content: Vec<Value> = turn.parts.iter().filter(|part| shown(part, echo)).map(block).collect();
    let (reason, sequence) = stop(turn, echo);
    let mut message = begun(turn);
    set(&mut message, "content", Value::Array(content));
    set(&mut message, "stop_reason", reason);
    set(&mut message, "stop_sequence", sequence);
    set(&mut message, "usage", usage(turn.usage));
    message
}

fn begun(turn: &Turn) -> Value {
    json!({
        "id": format!("msg_{}", turn.id), "type": "message", "role": "assistant", "model": turn.model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(turn.usage),
    })
}

/// Cached tokens are counted apart.
fn usage(tokens: Tokens) -> Value {
    json!({
        "input_tokens": tokens.prompt() - tokens.cached(), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens.cached(), "output_tokens": tokens.answer(),
    })
}

fn shown(part: &Part, echo: &Echo) -> bool {
    echo.thinking || !matches!(part, Part::Thinking(_))
}

fn block(part: &Part) -> Value {
    match part {
        Part::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": ""}),
        Part::Text(text) | Part::Refusal(text) => json!({"type": "text", "text": text}),
        Part::Call(Call { id, name, arguments, .. }) => {
            let input = match serde_json::from_str::<Value>(arguments) {
                Ok(input @ Value::Object(_)) => input,
                _ if arguments.trim().is_empty() => json!({}),
                // The model wrote no object; the caller sees what it wrote.
                _ => json!({"raw_arguments": arguments}),
            };
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
    }
}

fn stop(turn: &Turn, echo: &Echo) -> (&'static str, Value) {
    let calls = turn.parts.iter().any(|part| matches!(part, Part::Call(_)));
    let refused = turn.parts.iter().any(|part| matches!(part, Part::Refusal(_)));
    let Some(finish) = &turn.finish else { return ("end_turn", Value::Null) };
    match finish.reason.as_str() {
        "length" => ("max_tokens", Value::Null),
        "content_filter" => ("refusal", Value::Null),
        "tool_calls" | "function_call" => ("tool_use", Value::Null),
        _ if calls => ("tool_use", Value::Null),
        _ if refused => ("refusal", Value::Null),
        _ => match finish.at.as_ref().filter(|at| echo.stops.contains(at)) {
            Some(at) => ("stop_sequence", at.as_str().into()),
            None => ("end_turn", Value::Null),
        },
    }
}

/// Writes the events of one answer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    begun: bool,
    /// Blocks that were shown: parts of thought may not be.
    blocks: usize,
}

fn event(out: &mut String, name: &str, mut data: Value) {
    set(&mut data, "type", name);
    out.push_str("event: ");
    out.push_str(name);
    out.push_str("\ndata: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

impl Writer {
    pub(super) fn changed(&mut self, turn: &Turn, changes: Vec<Change>, echo: &Echo, out: &mut String) {
        if !std::mem::replace(&mut self.begun, true) {
            event(out, "message_start", json!({"message": begun(turn)}));
        }
        for change in changes {
            let (Change::Opened(place) | Change::Grew(place, _) | Change::Closed(place)) = &change;
            let Some(part) = turn.parts.get(*place).filter(|part| shown(part, echo)) else { continue };
            match change {
                Change::Opened(_) => {
                    // Empty, as it was when it began.
                    let empty = match part {
                        Part::Thinking(_) => Part::Thinking(String::new()),
                        Part::Text(_) | Part::Refusal(_) => Part::Text(String::new()),
                        Part::Call(call) => Part::Call(Call { arguments: String::new(), ..call.clone() }),
                    };
                    event(out, "content_block_start", json!({"index": self.blocks, "content_block": block(&empty)}));
                    self.blocks += 1;
                }
                Change::Grew(_, more) => {
                    let delta = match part {
                        Part::Thinking(_) => json!({"type": "thinking_delta", "thinking": more}),
                        Part::Text(_) | Part::Refusal(_) => json!({"type": "text_delta", "text": more}),
                        Part::Call(_) => json!({"type": "input_json_delta", "partial_json": more}),
                    };
                    event(out, "content_block_delta", json!({"index": self.blocks.saturating_sub(1), "delta": delta}));
                }
                Change::Closed(_) => {
                    event(out, "content_block_stop", json!({"index": self.blocks.saturating_sub(1)}));
                }
            }
        }
    }

    pub(super) fn end(turn: &Turn, echo: &Echo, out: &mut String) {
        let (reason, sequence) = stop(turn, echo);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        event(out, "message_delta", json!({"delta": delta, "usage": usage(turn.usage)}));
        event(out, "message_stop", json!({}));
    }

    pub(super) fn failed(why: &str, out: &mut String) {
        event(out, "error", json!({"error": {"type": "api_error", "message": why}}));
    }
}
