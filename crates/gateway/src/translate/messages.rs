//! Messages of Anthropic as chat completions: the request. Source: docs.anthropic.com, Messages API, version 2023-06-01.

use serde_json::{Value, json};

use super::{Dialect, Echo, Fields, set, string, text_of};

/// Fields that ask for what an engine behind chat completions does not have.
const CANNOT: [&str; 3] = ["mcp_servers", "container", "context_management"];

pub(super) fn request(mut fields: Fields) -> Result<(Fields, Echo), String> {
    if let Some(name) = CANNOT.into_iter().find(|name| fields.get(*name).is_some_and(asks)) {
        return Err(format!("`{name}`"));
    }
    let mut messages = Vec::new();
    if let Some(system) = fields.remove("system").filter(asks) {
        messages.push(json!({"role": "system", "content": texts(&system, "system")?}));
    }
    let Some(Value::Array(turns)) = fields.remove("messages") else {
        return Err("`messages` must be a list".to_owned());
    };
    for (number, turn) in turns.iter().enumerate() {
        message(turn, &mut messages).map_err(|why| format!("`messages[{number}]`: {why}"))?;
    }
    let begun = messages.last().is_some_and(|last| string(last, "role") == Some("assistant"));
    fields.insert("messages".to_owned(), Value::Array(messages));
    if begun {
        // The answer goes on where the caller began it.
        fields.insert("continue_final_message".to_owned(), Value::Bool(true));
        fields.insert("add_generation_prompt".to_owned(), Value::Bool(false));
    }
    let stops = fields.remove("stop_sequences").filter(asks).unwrap_or_else(|| json!([]));
    let words: Vec<String> =
        stops.as_array().into_iter().flatten().filter_map(|stop| Some(stop.as_str()?.to_owned())).collect();
    if !words.is_empty() {
        fields.insert("stop".to_owned(), stops);
    }
    tools(&mut fields)?;
    if let Some(user) = fields.remove("metadata").and_then(|metadata| metadata.get("user_id").cloned()).filter(asks) {
        fields.insert("user".to_owned(), user);
    }
    let thinking = thinking(&mut fields)?;
    format(&mut fields)?;
    Ok((fields, Echo { dialect: Dialect::Messages, fields: Fields::new(), stops: words, thinking }))
}

/// Whether a field that is there asks for anything.
fn asks(value: &Value) -> bool {
    !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
}

/// A text, or blocks of text, as one text.
fn texts(from: &Value, name: &str) -> Result<String, String> {
    let Value::Array(blocks) = from else {
        return from.as_str().map(ToOwned::to_owned).ok_or_else(|| format!("`{name}` must be text"));
    };
    let text = |block: &Value| match string(block, "type") {
        Some("text") => Ok(string(block, "text").unwrap_or_default().to_owned()),
        other => Err(format!("`{name}` with a block of type `{}`", other.unwrap_or_default())),
    };
    Ok(blocks.iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n\n"))
}

fn message(turn: &Value, to: &mut Vec<Value>) -> Result<(), String> {
    let role = string(turn, "role").ok_or("`role` is missing")?;
    match (role, turn.get("content")) {
        ("user" | "assistant" | "system", Some(Value::String(text))) => to.push(json!({"role": role, "content": text})),
        ("user", Some(Value::Array(blocks))) => user(blocks, to)?,
        ("assistant", Some(Value::Array(blocks))) => to.push(assistant(blocks)?),
        ("system", Some(blocks)) => to.push(json!({"role": "system", "content": texts(blocks, "content")?})),
        ("user" | "assistant" | "system", _) => return Err("`content` must be text or a list of blocks".to_owned()),
        (other, _) => return Err(format!("the role `{other}`")),
    }
    Ok(())
}

/// What the user says, after the results of tools, which are messages of their own.
fn user(blocks: &[Value], to: &mut Vec<Value>) -> Result<(), String> {
    let mut parts = Vec::new();
    for block in blocks {
        if string(block, "type") == Some("tool_result") {
            let (text, images) = tool_result(block)?;
            to.push(json!({
                "role": "tool",
                "tool_call_id": block.get("tool_use_id").unwrap_or(&Value::Null),
                "content": text,
            }));
            parts.extend(images);
        } else {
            parts.push(part(block)?);
        }
    }
    if !parts.is_empty() {
        to.push(json!({"role": "user", "content": plain(parts)}));
    }
    Ok(())
}

/// Text alone is sent as text: older templates know nothing else.
fn plain(mut parts: Vec<Value>) -> Value {
    if let [only] = parts.as_mut_slice()
        && string(only, "type") == Some("text")
    {
        return only.get_mut("text").map(Value::take).unwrap_or_default();
    }
    Value::Array(parts)
}

fn part(block: &Value) -> Result<Value, String> {
    match string(block, "type").unwrap_or_default() {
        "text" => Ok(json!({"type": "text", "text": block.get("text").unwrap_or(&Value::Null)})),
        "image" => {
            let source = block.get("source").unwrap_or(&Value::Null);
            let url = match (string(source, "type"), string(source, "url")) {
                (Some("url"), Some(url)) => url.to_owned(),
                (Some("base64"), _) => data_url(source),
                (other, _) => return Err(format!("an image from `{}`", other.unwrap_or_default())),
            };
            Ok(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        "document" => {
            let source = block.get("source").unwrap_or(&Value::Null);
            match string(source, "type").unwrap_or_default() {
                "text" => Ok(json!({"type": "text", "text": source.get("data").unwrap_or(&Value::Null)})),
                "base64" => {
                    let name = string(block, "title").unwrap_or("document.pdf");
                    Ok(json!({"type": "file", "file": {"filename": name, "file_data": data_url(source)}}))
                }
                other => Err(format!("a document from `{other}`")),
            }
        }
        other => Err(format!("a block of type `{other}`")),
    }
}

fn data_url(source: &Value) -> String {
    let data = string(source, "data").unwrap_or_default();
    format!("data:{};base64,{data}", string(source, "media_type").unwrap_or("application/octet-stream"))
}

/// The text of a tool's result, and its images: messages of tools hold only text.
fn tool_result(block: &Value) -> Result<(String, Vec<Value>), String> {
    let (mut text, mut images) = (Vec::new(), Vec::new());
    match block.get("content") {
        None | Some(Value::Null) => {}
        Some(Value::String(said)) => text.push(said.clone()),
        Some(Value::Array(blocks)) => {
            for inner in blocks {
                let part = part(inner)?;
                if string(&part, "type") == Some("text") {
                    text.push(part.get("text").map(text_of).unwrap_or_default().to_owned());
                } else {
                    images.push(part);
                }
            }
        }
        Some(_) => return Err("the `content` of a result must be text or a list of blocks".to_owned()),
    }
    let mut text = text.join("\n\n");
    if block.get("is_error") == Some(&Value::Bool(true)) && !text.to_ascii_lowercase().starts_with("error") {
        text.insert_str(0, "Error: ");
    }
    Ok((text, images))
}

fn assistant(blocks: &[Value]) -> Result<Value, String> {
    let (mut text, mut calls) = (Vec::new(), Vec::new());
    for block in blocks {
        match string(block, "type").unwrap_or_default() {
            "text" => text.push(string(block, "text").unwrap_or_default()),
            "tool_use" => {
                let input = block.get("input").cloned().unwrap_or_else(|| json!({}));
                calls.push(json!({
                    "id": block.get("id").unwrap_or(&Value::Null),
                    "type": "function",
                    "function": {"name": block.get("name").unwrap_or(&Value::Null), "arguments": input.to_string()},
                }));
            }
            // What a model thought in earlier turns is not read again.
            "thinking" | "redacted_thinking" => {}
            other => return Err(format!("a block of type `{other}`")),
        }
    }
    let mut message = json!({"role": "assistant"});
    set(
        &mut message,
        "content",
        if text.is_empty() && !calls.is_empty() { Value::Null } else { text.join("\n\n").into() },
    );
    if !calls.is_empty() {
        set(&mut message, "tool_calls", Value::Array(calls));
    }
    Ok(message)
}

fn tools(fields: &mut Fields) -> Result<(), String> {
    if let Some(Value::Array(tools)) = fields.remove("tools").filter(asks) {
        let function = |tool: &Value| match string(tool, "type") {
            None | Some("custom") => {
                let schema = tool.get("input_schema").cloned().unwrap_or_else(|| json!({"type": "object"}));
                let mut function = json!({"name": tool.get("name").unwrap_or(&Value::Null), "parameters": schema});
                for name in ["description", "strict"] {
                    if let Some(value) = tool.get(name) {
                        set(&mut function, name, value.clone());
                    }
                }
                Ok(json!({"type": "function", "function": function}))
            }
            Some(other) => Err(format!("a tool of type `{other}`, which the service itself would run")),
        };
        let tools = tools.iter().map(function).collect::<Result<Vec<_>, _>>()?;
        fields.insert("tools".to_owned(), Value::Array(tools));
    }
    let Some(choice) = fields.remove("tool_choice").filter(asks) else { return Ok(()) };
    let chosen = match string(&choice, "type").unwrap_or_default() {
        "auto" => json!("auto"),
        "any" => json!("required"),
        "none" => json!("none"),
        "tool" => json!({"type": "function", "function": {"name": choice.get("name").unwrap_or(&Value::Null)}}),
        other => return Err(format!("`tool_choice` of type `{other}`")),
    };
    fields.insert("tool_choice".to_owned(), chosen);
    if let Some(Value::Bool(alone)) = choice.get("disable_parallel_tool_use") {
        fields.insert("parallel_tool_calls".to_owned(), Value::Bool(!alone));
    }
    Ok(())
}

/// A budget of thought becomes the effort that chat completions know.
fn thinking(fields: &mut Fields) -> Result<bool, String> {
    let Some(thinking) = fields.remove("thinking").filter(asks) else { return Ok(false) };
    let effort = match string(&thinking, "type").unwrap_or_default() {
        "disabled" => return Ok(false),
        "adaptive" => "medium",
        "enabled" => match thinking.get("budget_tokens").and_then(Value::as_u64).unwrap_or(0) {
            0..=2_048 => "low",
            2_049..=8_192 => "medium",
            8_193.. => "high",
        },
        other => return Err(format!("`thinking` of type `{other}`")),
    };
    fields.entry("reasoning_effort").or_insert_with(|| effort.into());
    Ok(true)
}

/// A wanted shape of the answer.
fn format(fields: &mut Fields) -> Result<(), String> {
    let nested = fields.remove("output_config").and_then(|config| config.get("format").cloned());
    let Some(format) = nested.or_else(|| fields.remove("output_format")).filter(asks) else { return Ok(()) };
    match (string(&format, "type"), format.get("schema")) {
        (Some("json_schema"), Some(schema)) => {
            let shape = json!({"name": "answer", "schema": schema, "strict": true});
            fields.insert("response_format".to_owned(), json!({"type": "json_schema", "json_schema": shape}));
            Ok(())
        }
        (other, _) => Err(format!("an answer of the format `{}`", other.unwrap_or_default())),
    }
}
