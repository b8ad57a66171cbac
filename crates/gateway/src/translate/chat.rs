//! Chat completions as engines answer them, whole or in chunks: one turn of the model, growing part by part.

use serde::Deserialize;
use serde_json::Value;

use super::ANSWER_BYTES_MAX;

/// An answer, or a chunk of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk {
    id: Option<String>,
    created: Option<u64>,
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    #[serde(alias = "message")]
    delta: Option<Said>,
    finish_reason: Option<String>,
    /// The text that ended the answer, as some engines say.
    stop_reason: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    content: Option<Value>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Called>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Called {
    index: Option<usize>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    name: Option<String>,
    arguments: Option<Value>,
}

/// What a request took, as far as the engine says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the interface's own names")]
pub(super) struct Tokens {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<AnswerDetails>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct AnswerDetails {
    reasoning_tokens: Option<u64>,
}

impl Tokens {
    pub(super) fn prompt(&self) -> u64 {
        self.prompt_tokens.unwrap_or(0)
    }

    pub(super) fn answer(&self) -> u64 {
        self.completion_tokens.unwrap_or(0)
    }

    /// Of the prompt.
    pub(super) fn cached(&self) -> u64 {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0).min(self.prompt())
    }

    /// Of the answer.
    pub(super) fn reasoning(&self) -> u64 {
        self.completion_tokens_details.and_then(|details| details.reasoning_tokens).unwrap_or(0)
    }
}

/// A part of what the model says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Thinking(String),
    Text(String),
    Refusal(String),
    Call(Call),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The engine's number of the call.
    pub(super) place: usize,
    pub(super) id: String,
    pub(super) name: String,
    /// JSON as text.
    pub(super) arguments: String,
}

/// What a chunk did to the turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A part began, empty.
    Opened(usize),
    Grew(usize, String),
    /// It is whole.
    Closed(usize),
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finish {
    pub(super) reason: String,
    /// The text that it stopped at.
    pub(super) at: Option<String>,
}

/// One turn of the model.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) parts: Vec<Part>,
    pub(super) finish: Option<Finish>,
    pub(super) usage: Tokens,
    /// Whether the last part may still grow.
    open: bool,
    bytes: usize,
}

/// What kind of part some words belong to.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Thinking,
    Text,
    Refusal,
}

impl Turn {
    /// Takes the next chunk.
    /// # Errors
    /// What the engine says went wrong, or what makes no sense.
    pub(super) fn take(&mut self, chunk: Chunk) -> Result<Vec<Change>, String> {
        let Chunk { id, created, model, choices, usage, error } = chunk;
        if let Some(error) = error.filter(|error| !error.is_null()) {
            return Err(message_of(&error));
        }
        if let Some(id) = id.filter(|_| self.id.is_empty()) {
            id.trim_start_matches("chatcmpl-").clone_into(&mut self.id);
        }
        if let Some(model) = model.filter(|_| self.model.is_empty()) {
            self.model = model;
        }
        self.created = created.unwrap_or(self.created);
        self.usage = usage.unwrap_or(self.usage);
        let mut changes = Vec::new();
        // Other choices are not asked for.
        let Some(choice) = choices.and_then(|choices| choices.into_iter().next()) else { return Ok(changes) };
        if let Some(said) = choice.delta {
            let Said { content, reasoning_content, reasoning, refusal, tool_calls } = said;
            let words = [
                (Kind::Thinking, reasoning_content.or(reasoning).unwrap_or_default()),
                (Kind::Text, content.map(|content| flat(&content)).unwrap_or_default()),
                (Kind::Refusal, refusal.unwrap_or_default()),
            ];
            for (kind, words) in words {
                if !words.is_empty() {
                    self.say(kind, words, &mut changes)?;
                }
            }
            for (number, called) in tool_calls.unwrap_or_default().into_iter().enumerate() {
                self.call(number, called, &mut changes)?;
            }
        }
        if let Some(reason) = choice.finish_reason {
            let at = choice.stop_reason.and_then(|at| Some(at.as_str()?.to_owned()));
            self.finish = Some(Finish { reason, at });
            self.close(&mut changes);
        }
        Ok(changes)
    }

    fn say(&mut self, kind: Kind, words: String, changes: &mut Vec<Change>) -> Result<(), String> {
        self.count(words.len())?;
        let last = self.parts.last_mut().filter(|_| self.open);
        let text = match (kind, last) {
            (Kind::Thinking, Some(Part::Thinking(text)))
            | (Kind::Text, Some(Part::Text(text)))
            | (Kind::Refusal, Some(Part::Refusal(text))) => text,
            (_, Some(_) | None) => {
                self.begin(
                    match kind {
                        Kind::Thinking => Part::Thinking(String::new()),
                        Kind::Text => Part::Text(String::new()),
                        Kind::Refusal => Part::Refusal(String::new()),
                    },
                    changes,
                );
                match self.parts.last_mut() {
                    Some(Part::Thinking(text) | Part::Text(text) | Part::Refusal(text)) => text,
                    Some(Part::Call(_)) | None => return Ok(()),
                }
            }
        };
        text.push_str(&words);
        changes.push(Change::Grew(self.parts.len() - 1, words));
        Ok(())
    }

    fn call(&mut self, number: usize, called: Called, changes: &mut Vec<Change>) -> Result<(), String> {
        let place = called.index.unwrap_or(number);
        let function = called.function.unwrap_or_default();
        let known = self.parts.iter().any(|part| matches!(part, Part::Call(call) if call.place == place));
        if !known {
            let id = called.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}_{place}", self.id));
            let name = function.name.unwrap_or_default();
            self.count(name.len())?;
            self.begin(Part::Call(Call { place, id, name, arguments: String::new() }), changes);
        }
        let more = match function.arguments {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::String(text)) => text,
            Some(tree) => tree.to_string(),
        };
        if more.is_empty() {
            return Ok(());
        }
        self.count(more.len())?;
        match self.parts.last_mut().filter(|_| self.open) {
            Some(Part::Call(call)) if call.place == place => {
                call.arguments.push_str(&more);
                changes.push(Change::Grew(self.parts.len() - 1, more));
                Ok(())
            }
            Some(_) | None => Err("the engine went back to a call that it had ended".to_owned()),
        }
    }

    fn begin(&mut self, part: Part, changes: &mut Vec<Change>) {
        self.close(changes);
        self.parts.push(part);
        self.open = true;
        changes.push(Change::Opened(self.parts.len() - 1));
    }

    /// The last part is whole.
    pub(super) fn close(&mut self, changes: &mut Vec<Change>) {
        if std::mem::take(&mut self.open) {
            changes.push(Change::Closed(self.parts.len().saturating_sub(1)));
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > ANSWER_BYTES_MAX { Err("the engine's answer is too long".to_owned()) } else { Ok(()) }
    }
}

/// Content as one text; engines may send it in parts.
fn flat(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| super::string(part, "text")).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// What an error of an engine says, in whatever shape.
pub(super) fn message_of(error: &Value) -> String {
    let inner = error.get("error").unwrap_or(error);
    let said = [inner.get("message"), inner.get("detail"), Some(inner)];
    let said = said.into_iter().flatten().find_map(Value::as_str);
    said.map_or_else(|| inner.to_string(), ToOwned::to_owned)
}
