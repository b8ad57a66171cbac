//! Chat completions as responses of `OpenAI`: the events.

use serde_json::{Value, json};

use super::chat::{Call, Change, Part, Turn};
use super::responses_answer::{Stage, content, item, item_id, whole};
use super::{Echo, set};

/// Writes the events of one answer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    begun: bool,
    number: u64,
}

impl Writer {
    fn event(&mut self, out: &mut String, name: &str, mut data: Value) {
        set(&mut data, "type", name);
        set(&mut data, "sequence_number", self.number);
        self.number += 1;
        out.push_str("event: ");
        out.push_str(name);
        out.push_str("\ndata: ");
        out.push_str(&data.to_string());
        out.push_str("\n\n");
    }

    fn begin(&mut self, turn: &Turn, echo: &Echo, out: &mut String) {
        if !std::mem::replace(&mut self.begun, true) {
            for name in ["response.created", "response.in_progress"] {
                self.event(out, name, json!({"response": whole(turn, echo, &Stage::Begun)}));
            }
        }
    }

    pub(super) fn changed(&mut self, turn: &Turn, changes: Vec<Change>, echo: &Echo, out: &mut String) {
        self.begin(turn, echo, out);
        for change in changes {
            let (Change::Opened(place) | Change::Grew(place, _) | Change::Closed(place)) = change;
            let Some(part) = turn.parts.get(place) else { continue };
            match change {
                Change::Opened(_) => self.opened(turn, place, part, out),
                Change::Grew(_, more) => {
                    let mut data = at(turn, place, part);
                    set(&mut data, "delta", more);
                    let name = match part {
                        Part::Thinking(_) => "response.reasoning_text.delta",
                        Part::Text(_) => "response.output_text.delta",
                        Part::Refusal(_) => "response.refusal.delta",
                        Part::Call(_) => "response.function_call_arguments.delta",
                    };
                    if matches!(part, Part::Text(_)) {
                        set(&mut data, "logprobs", json!([]));
                    }
                    self.event(out, name, data);
                }
                Change::Closed(_) => self.closed(turn, place, part, out),
            }
        }
    }

    fn opened(&mut self, turn: &Turn, place: usize, part: &Part, out: &mut String) {
        let empty = match part {
            Part::Thinking(_) => Part::Thinking(String::new()),
            Part::Text(_) => Part::Text(String::new()),
            Part::Refusal(_) => Part::Refusal(String::new()),
            Part::Call(call) => Part::Call(Call { arguments: String::new(), ..call.clone() }),
        };
        let mut begun = item(turn, place, &empty, "in_progress");
        if !matches!(part, Part::Call(_)) {
            set(&mut begun, "content", json!([]));
        }
        self.event(out, "response.output_item.added", json!({"output_index": place, "item": begun}));
        if matches!(part, Part::Text(_) | Part::Refusal(_)) {
            let mut data = at(turn, place, part);
            set(&mut data, "part", content(&empty));
            self.event(out, "response.content_part.added", data);
        }
    }

    fn closed(&mut self, turn: &Turn, place: usize, part: &Part, out: &mut String) {
        let mut data = at(turn, place, part);
        let (name, field, text) = match part {
            Part::Thinking(text) => ("response.reasoning_text.done", "text", text),
            Part::Text(text) => ("response.output_text.done", "text", text),
            Part::Refusal(text) => ("response.refusal.done", "refusal", text),
            Part::Call(call) => {
                set(&mut data, "name", call.name.as_str());
                ("response.function_call_arguments.done", "arguments", &call.arguments)
            }
        };
        set(&mut data, field, text.as_str());
        if matches!(part, Part::Text(_)) {
            set(&mut data, "logprobs", json!([]));
        }
        self.event(out, name, data);
        if matches!(part, Part::Text(_) | Part::Refusal(_)) {
            let mut data = at(turn, place, part);
            set(&mut data, "part", content(part));
            self.event(out, "response.content_part.done", data);
        }
        let done = item(turn, place, part, "completed");
        self.event(out, "response.output_item.done", json!({"output_index": place, "item": done}));
    }

    pub(super) fn end(&mut self, turn: &Turn, echo: &Echo, out: &mut String) {
        let response = whole(turn, echo, &Stage::Ended);
        let name = if response.get("status").is_some_and(|status| status == "incomplete") {
            "response.incomplete"
        } else {
            "response.completed"
        };
        self.event(out, name, json!({"response": response}));
    }

    pub(super) fn failed(&mut self, turn: &Turn, echo: &Echo, why: &str, out: &mut String) {
        self.begin(turn, echo, out);
        let response = whole(turn, echo, &Stage::Failed(why.to_owned()));
        self.event(out, "response.failed", json!({"response": response}));
    }
}

/// Where in the response something happens.
fn at(turn: &Turn, place: usize, part: &Part) -> Value {
    let mut data = json!({"item_id": item_id(turn, place, part), "output_index": place});
    if !matches!(part, Part::Call(_)) {
        set(&mut data, "content_index", 0);
    }
    data
}
