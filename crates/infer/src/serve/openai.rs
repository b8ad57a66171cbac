//! The wire format of `OpenAI`'s chat and text completions, as its clients read and write it.
//!
//! Unknown fields are ignored; known ones that this engine cannot honour are refused rather than dropped, so that nobody
//! gets another answer than the one asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Engine;
use super::reply::Refusal;
use crate::language::{Finish, Message, Sampling, Usage};

/// Parameters that chat and text completions share.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    pub(super) model: Option<String>,
    pub(super) stream: Option<bool>,
    #[serde(rename = "stream_options")]
    streaming: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    /// Not `OpenAI`'s, but every open engine has it; -1 and 0 are all tokens.
    top_k: Option<i64>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    n: Option<u64>,
    best_of: Option<u64>,
    logprobs: Option<Value>,
    logit_bias: Option<Value>,
    echo: Option<bool>,
    suffix: Option<String>,
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
    response_format: Option<ResponseFormat>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    r#type: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Options {
    /// Refuses what this engine cannot honour.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let one = |value: Option<u64>| value.is_none_or(|value| value == 1);
        let empty = |value: &Option<Vec<Value>>| value.as_ref().is_none_or(Vec::is_empty);
        let nothing = |value: &Option<Value>| match value {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::Object(entries)) => entries.is_empty(),
            Some(Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Array(_)) => false,
        };
        for (name, fine, why) in [
            ("n", one(self.n), "this engine gives one answer per request; send several requests"),
            ("best_of", one(self.best_of), "this engine gives one answer per request"),
            ("logprobs", nothing(&self.logprobs), "this engine does not report probabilities"),
            ("logit_bias", nothing(&self.logit_bias), "this engine has no biases on tokens"),
            ("echo", !self.echo.unwrap_or(false), "this engine does not repeat the prompt"),
            ("suffix", self.suffix.as_ref().is_none_or(String::is_empty), "this engine does not fill gaps"),
            ("tools", empty(&self.tools), "the models of this engine call no tools"),
            ("functions", empty(&self.functions), "the models of this engine call no functions"),
            (
                "response_format",
                self.response_format.as_ref().is_none_or(|format| format.r#type == "text"),
                "this engine answers in plain text only",
            ),
        ] {
            if !fine {
                return Err(Refusal::param(name, format!("`{name}`: {why}")));
            }
        }
        Ok(())
    }

    pub(super) fn wants_stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn wants_usage_in_stream(&self) -> bool {
        self.streaming.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// Tokens of the answer at most.
    pub(super) fn tokens_max(&self, default: usize) -> usize {
        let asked = self.max_completion_tokens.or(self.max_tokens);
        asked.map_or(default, |asked| usize::try_from(asked).unwrap_or(usize::MAX))
    }

    pub(super) fn sampling(&self) -> Result<Sampling, Refusal> {
        let seed = match self.seed {
            Some(seed) => u64::from_le_bytes(seed.to_le_bytes()),
            None => random_word()?,
        };
        Ok(Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
            top_k: self.top_k.map_or(0, |k| usize::try_from(k).unwrap_or(0)),
            seed,
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
        })
    }

    pub(super) fn stops(&mut self) -> Vec<String> {
        match self.stop.take() {
            None => Vec::new(),
            Some(OneOrMany::One(stop)) => vec![stop],
            Some(OneOrMany::Many(stops)) => stops,
        }
    }
}

/// Eight bytes from the system's source of randomness.
pub(super) fn random_word() -> Result<u64, Refusal> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Refusal::new(dh_core::Kind::Internal, format!("the system has no random numbers: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}

/// The body of `POST /v1/chat/completions`.
#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    pub(super) messages: Vec<WireMessage>,
    #[serde(flatten)]
    pub(super) options: Options,
}

/// A message as it comes.
#[derive(Debug, Deserialize)]
pub(super) struct WireMessage {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    r#type: String,
    #[serde(default)]
    text: Option<String>,
}

/// The messages as templates know them: one text each, `developer` under its older name `system`.
pub(super) fn messages(wire: Vec<WireMessage>) -> Result<Vec<Message>, Refusal> {
    if wire.is_empty() {
        return Err(Refusal::param("messages", "`messages` is empty"));
    }
    let one = |(index, message): (usize, WireMessage)| {
        let role = match message.role.as_str() {
            "developer" => "system".to_owned(),
            "system" | "user" | "assistant" | "tool" => message.role,
            other => {
                let why = format!(
                    "`messages[{index}].role` is `{other}`; it may be system, developer, user, assistant or tool"
                );
                return Err(Refusal::param("messages", why));
            }
        };
        let content = match message.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => parts
                .into_iter()
                .map(|part| match (part.r#type.as_str(), part.text) {
                    ("text", Some(text)) => Ok(text),
                    (kind, _) => {
                        let why = format!(
                            "`messages[{index}].content` has a part of the type `{kind}`; this model reads text only"
                        );
                        Err(Refusal::param("messages", why))
                    }
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Message { role, content })
    };
    wire.into_iter().enumerate().map(one).collect()
}

/// The body of `POST /v1/completions`.
#[derive(Debug, Deserialize)]
pub(super) struct CompletionRequest {
    prompt: OneOrMany,
    #[serde(flatten)]
    pub(super) options: Options,
}

impl CompletionRequest {
    /// The one text to continue.
    pub(super) fn prompt(self) -> Result<(String, Options), Refusal> {
        match self.prompt {
            OneOrMany::One(text) => Ok((text, self.options)),
            OneOrMany::Many(texts) => match <[String; 1]>::try_from(texts) {
                Ok([text]) => Ok((text, self.options)),
                Err(texts) => {
                    let why = format!("`prompt` holds {} texts; this engine continues one per request", texts.len());
                    Err(Refusal::param("prompt", why))
                }
            },
        }
    }
}

/// Which of the two formats an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Text,
}

/// What all pieces of one answer have in common.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) shape: Shape,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    /// Whether pieces of a stream carry `usage`, which is null in all but the last.
    pub(super) usage_in_stream: bool,
}

#[derive(Serialize)]
struct Piece<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

impl Envelope {
    pub(super) fn new(shape: Shape, model: &str, created: u64, usage_in_stream: bool) -> Result<Self, Refusal> {
        let prefix = match shape {
            Shape::Chat => "chatcmpl",
            Shape::Text => "cmpl",
        };
        let id = format!("{prefix}-{:016x}{:016x}", random_word()?, random_word()?);
        Ok(Self { shape, id, created, model: model.to_owned(), usage_in_stream })
    }

    /// The whole answer.
    pub(super) fn whole(&self, text: &str, usage: &Usage) -> Value {
        let finish = finish_word(usage.finish);
        let (object, choice) = match self.shape {
            Shape::Chat => {
                let message = json!({ "role": "assistant", "content": text, "refusal": null });
                (
                    "chat.completion",
                    json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish }),
                )
            }
            Shape::Text => {
                ("text_completion", json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }))
            }
        };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "choices": [choice], "usage": usage_value(usage),
        })
    }

    /// The first event of a stream: who speaks. Text completions have none.
    pub(super) fn opening(&self) -> Option<String> {
        match self.shape {
            Shape::Chat => Some(self.piece(&json!({ "role": "assistant", "content": "" }), None)),
            Shape::Text => None,
        }
    }

    /// An event with more text.
    pub(super) fn more(&self, text: &str) -> String {
        match self.shape {
            Shape::Chat => self.piece(&json!({ "content": text }), None),
            Shape::Text => self.piece(&json!(text), None),
        }
    }

    /// The event with the reason for the end, and the one with the usage if it was asked for.
    pub(super) fn closing(&self, usage: &Usage) -> String {
        let nothing = match self.shape {
            Shape::Chat => json!({}),
            Shape::Text => json!(""),
        };
        let mut events = self.piece(&nothing, Some(finish_word(usage.finish)));
        if self.usage_in_stream {
            events += &self.event([(); 0], Some(usage_value(usage)));
        }
        events
    }

    fn piece(&self, content: &Value, finish: Option<&str>) -> String {
        let choice = match self.shape {
            Shape::Chat => json!({ "index": 0, "delta": content, "logprobs": null, "finish_reason": finish }),
            Shape::Text => json!({ "index": 0, "text": content, "logprobs": null, "finish_reason": finish }),
        };
        self.event([choice], self.usage_in_stream.then_some(Value::Null))
    }

    fn event<C: Serialize>(&self, choices: C, usage: Option<Value>) -> String {
        let object = match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        };
        let piece = Piece { id: &self.id, object, created: self.created, model: &self.model, choices, usage };
        sse(&json!(piece))
    }
}

/// One server-sent event. JSON has no raw line breaks, so one `data` line holds it.
pub(super) fn sse(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

fn usage_value(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
    })
}

/// `GET /v1/models`.
pub(super) async fn list_models(State(engine): State<Arc<Engine>>) -> Json<Value> {
    let model = json!({ "id": engine.name, "object": "model", "created": engine.created, "owned_by": "datahall" });
    Json(json!({ "object": "list", "data": [model] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(json: &str) -> ChatRequest {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn content_is_a_text_or_parts_and_developer_is_system() {
        let request = chat(
            r#"{"messages":[{"role":"developer","content":"a"},
                {"role":"user","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}],"name":"x"}],"unknown":{"x":1}}"#,
        );
        let got = messages(request.messages).unwrap();
        assert_eq!((got[0].role.as_str(), got[1].content.as_str()), ("system", "bc"));
        let image = chat(r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}"#);
        assert!(messages(image.messages).unwrap_err().message.contains("image_url"));
        let role = chat(r#"{"messages":[{"role":"robot","content":"x"}]}"#);
        assert!(messages(role.messages).unwrap_err().message.contains("robot"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (field, name) in [
            (r#""n":2"#, "n"),
            (r#""logprobs":true"#, "logprobs"),
            (r#""logprobs":3"#, "logprobs"),
            (r#""tools":[{}]"#, "tools"),
            (r#""response_format":{"type":"json_object"}"#, "response_format"),
            (r#""logit_bias":{"7":1}"#, "logit_bias"),
        ] {
            let refusal = chat(&format!(r#"{{"messages":[],{field}}}"#)).options.check().unwrap_err();
            assert_eq!(refusal.param, Some(name));
        }
        let fine = r#"{"messages":[],"n":1,"logprobs":false,"tools":[],"response_format":{"type":"text"},"logit_bias":{},"stop":null}"#;
        assert!(chat(fine).options.check().is_ok());
    }

    #[test]
    fn options_are_read_and_seeds_may_be_negative() {
        let mut options =
            chat(r#"{"messages":[],"stop":["a","b"],"max_completion_tokens":3,"max_tokens":9,"top_k":-1,"seed":-1}"#)
                .options;
        assert_eq!(options.stops(), ["a", "b"]);
        assert_eq!(options.tokens_max(5), 3);
        let sampling = options.sampling().unwrap();
        assert_eq!((sampling.top_k, sampling.seed), (0, u64::MAX));
    }
}
