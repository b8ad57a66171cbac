//! `datahall chat`: talks to a model of a running hall, through the gateway.

use std::io::{BufRead, IsTerminal};

use clap::Args;
use dh_core::Kind;
use dh_hall::Protocol;
use dh_server::wire::ServiceView;
use serde_json::{Value, json};

use super::{Globals, Verb};
use crate::api::{Api, Flow, server_sent_events};
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// A question; without one, lines of standard input are asked one after the other
    question: Vec<String>,
    /// The model; by default the only one that chats
    #[arg(long)]
    model: Option<String>,
    /// The longest answer, in tokens
    #[arg(long, default_value_t = 512)]
    max_tokens: u32,
    /// 0 always gives the likeliest answer
    #[arg(long, default_value_t = 0.2)]
    temperature: f64,
}

impl Verb for Chat {
    const NAME: &'static str = "chat";
    const ABOUT: &'static str = "Talk to a model";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        let model = match &self.model {
            Some(model) => model.clone(),
            None => only_chat_model(&api)?,
        };
        let mut turns: Vec<Value> = Vec::new();
        if !self.question.is_empty() {
            self.turn(&api, &model, &mut turns, &self.question.join(" "))?;
            return Ok(0);
        }
        let interactive = std::io::stdin().is_terminal();
        if interactive && !globals.quiet {
            output::note(format!("talking to {model}; an empty line or Ctrl-D ends it"));
        }
        for line in std::io::stdin().lock().lines() {
            let line = line.or_fail("read standard input")?;
            if line.trim().is_empty() {
                break;
            }
            self.turn(&api, &model, &mut turns, &line)?;
        }
        Ok(0)
    }
}

impl Chat {
    fn turn(&self, api: &Api, model: &str, turns: &mut Vec<Value>, question: &str) -> Result<(), Failure> {
        turns.push(json!({ "role": "user", "content": question }));
        let answer = ask(api, model, turns, self.max_tokens, self.temperature, |piece| output::piece(piece))?;
        output::line("");
        turns.push(json!({ "role": "assistant", "content": answer.text }));
        Ok(())
    }
}

/// A streamed answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// Events with text in them.
    pub(crate) pieces: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) finish_reason: String,
}

/// Asks by the `OpenAI` protocol and hands each piece on as it comes.
pub(crate) fn ask(
    api: &Api,
    model: &str,
    messages: &[Value],
    max_tokens: u32,
    temperature: f64,
    mut each: impl FnMut(&str),
) -> Result<Answer, Failure> {
    let key = &api.model_key().unwrap_or(api.admin_key()).secret;
    let body = json!({
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let url = format!("{}/v1/chat/completions", api.endpoint.listeners.gateway);
    let mut answer = Answer::default();
    server_sent_events(&url, key, &body, |data| {
        if data == "[DONE]" {
            return Ok(Flow::Stop);
        }
        let event: Value = serde_json::from_str(data).or_fail("the model's answer makes no sense")?;
        if let Some(message) = event.pointer("/error/message").and_then(Value::as_str) {
            return Err(Failure::new(Kind::Unreachable, format!("the answer broke off: {message}")));
        }
        if let Some(piece) = event.pointer("/choices/0/delta/content").and_then(Value::as_str)
            && !piece.is_empty()
        {
            each(piece);
            answer.pieces += 1;
            answer.text.push_str(piece);
        }
        if let Some(reason) = event.pointer("/choices/0/finish_reason").and_then(Value::as_str) {
            reason.clone_into(&mut answer.finish_reason);
        }
        if let Some(tokens) = event.pointer("/usage/completion_tokens").and_then(Value::as_u64) {
            answer.completion_tokens = tokens;
        }
        Ok(Flow::Go)
    })?;
    Ok(answer)
}

fn only_chat_model(api: &Api) -> Result<String, Failure> {
    let services: Vec<ServiceView> = api.get("/v1/services")?;
    let mut models: Vec<&str> = services
        .iter()
        .filter(|view| view.protocol == Protocol::Chat && matches!(view.state.as_str(), "ready" | "external"))
        .map(|view| view.model.as_str())
        .collect();
    models.dedup();
    match models.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::new(Kind::NotFound, "no model chats here yet").hint("`datahall serve chat` starts one")),
        several => {
            Err(Failure::new(Kind::Invalid, "several models chat here")
                .hint(format!("--model {}", several.join(" | "))))
        }
    }
}
