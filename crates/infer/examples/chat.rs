//! Loads a GGUF model and answers one question, with figures: load time, memory, prefill and decode speed.
//!
//! `cargo run --release -p dh-infer --example chat -- MODEL.gguf "A question"`. Without a model it makes a stand-in with
//! random weights, whose answers are gibberish.
#![expect(clippy::print_stdout, reason = "an example speaks to the one who runs it")]

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use dh_infer::LoadOptions;
use dh_infer::language::{Error, LanguageModel, Message, Request, Sampling, Session, Sink};
use dh_infer::standin::Standin;

struct Terminal;

impl Sink for Terminal {
    fn wanted(&self) -> bool {
        true
    }

    fn token(&mut self, text: String) {
        print!("{text}");
        // A terminal that cannot be flushed shows the text a little later.
        let _flushed = std::io::stdout().flush();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = match arguments.next() {
        Some(path) => PathBuf::from(path),
        None => stand_in()?,
    };
    let question = arguments.next().unwrap_or_else(|| "What is a data center? Answer in one sentence.".to_owned());
    let model = LanguageModel::open(&path, LoadOptions::default())?;
    println!("model      {}", model.title());
    println!("load       {:.2} s", model.load_time().as_secs_f64());
    println!("memory     {} after loading, {} at the peak", memory("VmRSS"), memory("VmHWM"));
    let mut session = Session::new(&model)?;
    say(&model, &mut session, &question)?;
    let long = format!("Summarise this text. {}", "The hall has many racks, and each rack has many nodes. ".repeat(80));
    say(&model, &mut session, &long)?;
    println!("memory     {} now, {} at the peak", memory("VmRSS"), memory("VmHWM"));
    Ok(())
}

fn stand_in() -> Result<PathBuf, dh_infer::standin::Error> {
    let path = std::env::temp_dir().join("datahall-stand-in.gguf");
    Standin::default().write(&path)?;
    Ok(path)
}

fn say(model: &LanguageModel, session: &mut Session, question: &str) -> Result<(), Error> {
    let message = Message { role: "user".to_owned(), content: question.to_owned() };
    let prompt = match model.chat_prompt(&[message]) {
        Err(Error::PromptTooLong { prompt, context }) => {
            println!("skipped    a prompt of {prompt} tokens, too long for a context of {context}");
            return Ok(());
        }
        other => other?,
    };
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let request = Request { prompt, tokens_max: 128, sampling, stops: Vec::new() };
    print!("answer     ");
    let usage = session.answer(model, &request, &mut Terminal)?;
    println!();
    let computed = usage.prompt_tokens - usage.cached_tokens;
    println!("prefill    {computed} tokens, {:.1} tok/s", rate(computed, usage.prefill));
    println!(
        "decode     {} tokens, {:.1} tok/s",
        usage.completion_tokens,
        rate(usage.completion_tokens - 1, usage.decode)
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens are small")]
fn rate(tokens: usize, time: Duration) -> f64 {
    tokens as f64 / time.as_secs_f64()
}

/// A line of `/proc/self/status`, where there is one.
fn memory(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
}
