//! Responses of `OpenAI` as chat completions: the request. Source: platform.openai.com, Responses API.

use serde_json::{Value, json};

use super::{Dialect, Echo, Fields, set, string, text_of};

/// Fields that ask for what an engine behind chat completions does not have.
const CANNOT: [&str; 4] = ["previous_response_id", "conversation", "prompt", "background"];
/// Fields that the answer repeats.
const REPEATED: [&str; 16] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
    "max_tool_calls",
];

pub(super) fn request(mut fields: Fields) -> Result<(Fields, Echo), String> {
    if let Some(name) = CANNOT.into_iter().find(|name| fields.get(*name).is_some_and(asks)) {
        return Err(format!("`{name}`"));
    }
    let repeated = REPEATED.into_iter().filter_map(|name| Some((name.to_owned(), fields.get(name)?.clone())));
    let echo = Echo { dialect: Dialect::Responses, fields: repeated.collect(), stops: Vec::new(), thinking: true };
    let mut messages = Vec::new();
    if let Some(instructions) = fields.remove("instructions").filter(asks) {
        let text = instructions.as_str().ok_or("`instructions` that are no text")?;
        messages.push(json!({"role": "system", "content": text}));
    }
    match fields.remove("input") {
        Some(Value::String(text)) => messages.push(json!({"role": "user", "content": text})),
        Some(Value::Array(items)) => {
            for (number, item) in items.iter().enumerate() {
                take(item, &mut messages).map_err(|why| format!("`input[{number}]`: {why}"))?;
            }
        }
        Some(_) | None => return Err("`input` must be text or a list of items".to_owned()),
    }
    fields.insert("messages".to_owned(), Value::Array(messages));
    if let Some(most) = fields.remove("max_output_tokens").filter(asks) {
        fields.insert("max_tokens".to_owned(), most);
    }
    tools(&mut fields)?;
    shape(&mut fields)?;
    if let Some(reasoning) = fields.remove("reasoning").filter(asks)
        && let Some(effort) = reasoning.get("effort").filter(|effort| !effort.is_null())
    {
        fields.insert("reasoning_effort".to_owned(), effort.clone());
    }
    if fields.get("truncation").is_some_and(|truncation| truncation == "auto") {
        return Err("`truncation` that drops items".to_owned());
    }
    if fields.get("top_logprobs").is_some_and(|most| most.as_u64().is_some_and(|most| most > 0)) {
        return Err("`top_logprobs`".to_owned());
    }
    // Nothing is kept here, only tools of the service itself are bounded by the second, and the third names what
    // nobody computes here.
    for name in ["store", "background", "max_tool_calls", "include", "truncation", "top_logprobs", "stream_options"] {
        fields.remove(name);
    }
    for name in CANNOT {
        fields.remove(name);
    }
    Ok((fields, echo))
}

fn asks(value: &Value) -> bool {
    !value.is_null() && *value != Value::Bool(false)
}

/// Appends what an item says.
fn take(item: &Value, to: &mut Vec<Value>) -> Result<(), String> {
    match string(item, "type").unwrap_or("message") {
        "message" => message(item, to),
        "function_call" => {
            let call = json!({
                "id": item.get("call_id").unwrap_or(&Value::Null),
                "type": "function",
                "function": {
                    "name": item.get("name").unwrap_or(&Value::Null),
                    "arguments": item.get("arguments").unwrap_or(&Value::Null),
                },
            });
            // Calls of one turn stand in one message, with what was said before them.
            match to.last_mut().filter(|last| string(last, "role") == Some("assistant")) {
                Some(last) => match last.get_mut("tool_calls").and_then(Value::as_array_mut) {
                    Some(calls) => calls.push(call),
                    None => set(last, "tool_calls", json!([call])),
                },
                None => to.push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
            }
            Ok(())
        }
        "function_call_output" => {
            let text = match item.get("output") {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(parts)) => parts.iter().map(text_part).collect::<Result<Vec<_>, _>>()?.join("\n\n"),
                Some(_) | None => return Err("`output` must be text".to_owned()),
            };
            let id = item.get("call_id").unwrap_or(&Value::Null);
            to.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
            Ok(())
        }
        // What a model thought in earlier turns is not read again.
        "reasoning" => Ok(()),
        other => Err(format!("an item of type `{other}`")),
    }
}

fn text_part(part: &Value) -> Result<String, String> {
    match string(part, "type") {
        Some("input_text" | "output_text" | "text") => Ok(string(part, "text").unwrap_or_default().to_owned()),
        other => Err(format!("a part of type `{}` where only text can stand", other.unwrap_or_default())),
    }
}

fn message(item: &Value, to: &mut Vec<Value>) -> Result<(), String> {
    let role = match string(item, "role").ok_or("`role` is missing")? {
        // Templates of open models know one word for both.
        "system" | "developer" => "system",
        role @ ("user" | "assistant") => role,
        other => return Err(format!("the role `{other}`")),
    };
    let content = match item.get("content") {
        Some(Value::String(text)) => Value::String(text.clone()),
        Some(Value::Array(parts)) if role == "user" => {
            let mut parts = parts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
            match parts.as_mut_slice() {
                // Text alone is sent as text: older templates know nothing else.
                [only] if string(only, "type") == Some("text") => {
                    only.get_mut("text").map(Value::take).unwrap_or_default()
                }
                _ => Value::Array(parts),
            }
        }
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match string(part, "type") {
                Some("refusal") => Ok(string(part, "refusal").unwrap_or_default().to_owned()),
                _ => text_part(part),
            };
            Value::String(parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n\n"))
        }
        Some(_) | None => return Err("`content` must be text or a list of parts".to_owned()),
    };
    // Templates take one text of the system at the start.
    if let ("system", [only]) = (role, to.as_mut_slice())
        && string(only, "role") == Some("system")
    {
        let both = format!("{}\n\n{}", string(only, "content").unwrap_or_default(), text_of(&content));
        set(only, "content", both);
        return Ok(());
    }
    to.push(json!({"role": role, "content": content}));
    Ok(())
}

fn part(part: &Value) -> Result<Value, String> {
    match string(part, "type").unwrap_or_default() {
        "input_text" | "output_text" | "text" => {
            Ok(json!({"type": "text", "text": part.get("text").unwrap_or(&Value::Null)}))
        }
        "input_image" => {
            let url = string(part, "image_url").ok_or("an image that is no URL")?;
            let mut image = json!({"url": url});
            if let Some(detail) = part.get("detail").filter(|detail| !detail.is_null()) {
                set(&mut image, "detail", detail.clone());
            }
            Ok(json!({"type": "image_url", "image_url": image}))
        }
        "input_file" => {
            let data = string(part, "file_data").ok_or("a file that is not in the request")?;
            let name = string(part, "filename").unwrap_or("file");
            Ok(json!({"type": "file", "file": {"filename": name, "file_data": data}}))
        }
        "input_audio" => Ok(part.clone()),
        other => Err(format!("a part of type `{other}`")),
    }
}

fn tools(fields: &mut Fields) -> Result<(), String> {
    if let Some(Value::Array(tools)) = fields.remove("tools") {
        let function = |tool: &Value| match string(tool, "type") {
            Some("function") => {
                let mut function = tool.clone();
                if let Value::Object(inner) = &mut function {
                    inner.remove("type");
                }
                Ok(json!({"type": "function", "function": function}))
            }
            other => Err(format!("a tool of type `{}`", other.unwrap_or_default())),
        };
        let tools = tools.iter().map(function).collect::<Result<Vec<_>, _>>()?;
        if tools.is_empty() {
            // Engines refuse a choice among no tools.
            fields.remove("tool_choice");
            fields.remove("parallel_tool_calls");
        } else {
            fields.insert("tools".to_owned(), Value::Array(tools));
        }
    }
    if let Some(choice @ Value::Object(_)) = fields.get_mut("tool_choice") {
        let (kind, name) = (string(choice, "type").unwrap_or_default(), choice.get("name"));
        if kind != "function" {
            return Err(format!("`tool_choice` of type `{kind}`"));
        }
        *choice = json!({"type": "function", "function": {"name": name.unwrap_or(&Value::Null)}});
    }
    Ok(())
}

/// A wanted shape of the answer.
fn shape(fields: &mut Fields) -> Result<(), String> {
    let Some(text) = fields.remove("text").filter(asks) else { return Ok(()) };
    if let Some(verbosity) = text.get("verbosity").filter(|verbosity| !verbosity.is_null()) {
        fields.insert("verbosity".to_owned(), verbosity.clone());
    }
    let Some(format) = text.get("format").filter(|format| asks(format)) else { return Ok(()) };
    let shape = match string(format, "type").unwrap_or_default() {
        "text" => return Ok(()),
        "json_object" => json!({"type": "json_object"}),
        "json_schema" => {
            let mut inner = format.clone();
            if let Value::Object(inner) = &mut inner {
                inner.remove("type");
            }
            json!({"type": "json_schema", "json_schema": inner})
        }
        other => return Err(format!("`text.format` of type `{other}`")),
    };
    fields.insert("response_format".to_owned(), shape);
    Ok(())
}
