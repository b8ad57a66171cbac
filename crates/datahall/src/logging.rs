//! What the program says about its own work, on standard error: lines for people, or a line of JSON for each event.
//!
//! `RUST_LOG` chooses how much. Never holds a key: ours have no text form.

use std::fmt::Debug;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::output;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs: a JSON object a line.
    Json,
}

/// Begins to write. Only a second call could fail, and there is none in a process.
pub(crate) fn begin(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let lines = tracing_subscriber::fmt::layer().with_ansi(output::coloured()).with_writer(std::io::stderr);
            drop(tracing::subscriber::set_global_default(registry.with(lines)));
        }
        LogFormat::Json => drop(tracing::subscriber::set_global_default(registry.with(JsonLines))),
    }
}

/// Writes each event as a line of JSON: `at_ns` since the Unix epoch, `level`, `target`, `message`, and the event's own fields.
struct JsonLines;

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let line = line(event);
        // One call for a line, so that those of several threads do not mix. Nobody may read it; the work goes on.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
}

fn line(event: &Event<'_>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let about = event.metadata();
    let mut fields = Fields(Map::new());
    event.record(&mut fields);
    let Fields(mut fields) = fields;
    for (name, value) in [
        ("at_ns", Value::from(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))),
        ("level", Value::from(about.level().as_str())),
        ("target", Value::from(about.target())),
    ] {
        fields.insert(name.to_owned(), value);
    }
    let mut text = Value::Object(fields).to_string();
    text.push('\n');
    text
}

struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }
}
