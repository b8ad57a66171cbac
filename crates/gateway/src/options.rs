//! Settings of what a gateway does only when asked: lines, other models, second tries, caches.

use std::collections::BTreeMap;
use std::time::Duration;

/// A class of requests: how soon they want their first token, and how long they wait for an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassConfig {
    /// What requests call it.
    pub name: String,
    /// When its first token should come. Metrics tell how often it does.
    pub first_token: Duration,
    /// The longest wait for an engine; who would wait longer is refused at once.
    pub wait_max: Duration,
}

/// Lines in front of engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineConfig {
    /// Requests that one engine works on at once; further ones wait.
    pub engine_in_flight: u32,
    /// Requests that wait for one model.
    pub length_max: usize,
    /// The most urgent class first; at least one.
    pub classes: Vec<ClassConfig>,
    /// The class of requests that name none, whose key has none.
    pub class: String,
}

impl LineConfig {
    /// Three classes in front of engines that work on `engine_in_flight` requests each.
    pub fn new(engine_in_flight: u32) -> Self {
        let class = |name: &str, first_token_ms: u64, wait_s: u64| ClassConfig {
            name: name.to_owned(),
            first_token: Duration::from_millis(first_token_ms),
            wait_max: Duration::from_secs(wait_s),
        };
        Self {
            engine_in_flight,
            length_max: 1_024,
            classes: vec![class("interactive", 500, 2), class("standard", 2_000, 10), class("batch", 60_000, 600)],
            class: "standard".to_owned(),
        }
    }
}

/// When a second engine is asked though the first has not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// When a first byte usually has come: this percentage of the model's requests had theirs by then.
    Percent(u8),
    /// After a fixed time.
    Time(Duration),
}

/// Second tries before the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgeConfig {
    /// When the second engine is asked.
    pub after: HedgeAfter,
    /// Of a hundred requests, how many may go to a second engine.
    pub percent_max: u8,
}

/// The cache of exact answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Memory for answers, in bytes.
    pub bytes_max: usize,
    /// How long an answer is good.
    pub ttl: Duration,
    /// Whether callers share answers; else each sees only its own.
    pub shared: bool,
}

/// The cache of answers to questions that mean the same, for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SemanticConfig {
    /// The model of embeddings, behind the same gateway.
    pub embeddings: String,
    /// Thousandths of cosine similarity from which on two questions mean the same.
    pub similar_milli: u32,
}

/// All of them; with none a request takes the shortest way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Lines in front of engines.
    pub line: Option<LineConfig>,
    /// For a model those that are asked in its place when none of its engines answers, in order.
    pub fallbacks: BTreeMap<String, Vec<String>>,
    /// Second tries.
    pub hedge: Option<HedgeConfig>,
    /// Exact answers.
    pub cache: Option<CacheConfig>,
    /// Answers to similar questions, by model.
    pub semantic: BTreeMap<String, SemanticConfig>,
}

impl Options {
    /// What is wrong with them, if anything is.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(line) = &self.line {
            if line.engine_in_flight == 0 || line.classes.is_empty() {
                return Some("a line needs a class and engines that work on at least one request".to_owned());
            }
            if !line.classes.iter().any(|class| class.name == line.class) {
                return Some(format!("there is no class `{}`", line.class));
            }
        }
        if let Some(HedgeConfig { after, percent_max }) = self.hedge
            && (percent_max > 100 || matches!(after, HedgeAfter::Percent(percent) if !(1..=99).contains(&percent)))
        {
            return Some("percentages of second tries are from 1 to 99".to_owned());
        }
        let odd = self.semantic.iter().find(|(_, semantic)| !(1..=1_000).contains(&semantic.similar_milli));
        odd.map(|(model, _)| format!("the similarity for model `{model}` is not between 0 and 1"))
    }
}
