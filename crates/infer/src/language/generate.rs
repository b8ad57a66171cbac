//! One answer: take the prompt in chunks, then token after token until the model, a limit or the caller ends it.
//!
//! A [`Session`] belongs to one slot and keeps the keys and values of its last prompt. The next prompt that begins with the
//! same whole chunks skips them; chunks begin at fixed positions, so that an answer does not depend on what was kept.

use std::time::{Duration, Instant};

use super::kv_cache::KvCache;
use super::llama::Want;
use super::sampler::{Sampler, Sampling};
use super::text_stream::TextStream;
use super::{Error, LanguageModel};

/// Tokens of a prompt that go through the model at once: what a client that hangs up can still cost.
const CHUNK_TOKENS: usize = 64;
/// Positions that a waiting session may hold. Beyond it the memory is given back.
const KEPT_POSITIONS_MAX: usize = 2_048;
/// Stop strings, and the bytes of one. `OpenAI` allows four; more costs little.
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1_024;

/// What to generate.
#[derive(Debug, Clone)]
pub struct Request {
    /// From [`LanguageModel::chat_prompt`] or [`LanguageModel::text_prompt`].
    pub prompt: Vec<u32>,
    /// Tokens of the answer at most. The room left in the context is a further limit.
    pub tokens_max: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The answer ends before any of these.
    pub stops: Vec<String>,
}

impl Request {
    /// Checks everything that does not need the model.
    /// # Errors
    /// [`Error::Parameter`].
    pub fn check(&self) -> Result<(), Error> {
        self.sampling.check()?;
        if self.tokens_max == 0 {
            return Err(Error::Parameter { name: "max_tokens", why: "must be 1 or more".to_owned() });
        }
        if self.stops.len() > STOPS_MAX || self.stops.iter().any(|stop| stop.len() > STOP_BYTES_MAX) {
            let why = format!("holds more than {STOPS_MAX} texts, or one of more than {STOP_BYTES_MAX} bytes");
            return Err(Error::Parameter { name: "stop", why });
        }
        Ok(())
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string came.
    Stop,
    /// The limit of tokens or the end of the context.
    Length,
}

/// What an answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, taken from the last prompt of the same session.
    pub cached_tokens: usize,
    /// Tokens that the model made, the one that ends the answer included.
    pub completion_tokens: usize,
    /// From the beginning of the work to the first token; waiting for a slot is not in it.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// Why it ended.
    pub finish: Finish,
}

/// Where an answer goes. Asked before every piece of work, so that nothing is computed for one who has gone.
pub trait Sink {
    /// Whether anybody still wants the answer.
    fn wanted(&self) -> bool;
    /// A token has been made; `text` is what it adds, which may be nothing yet.
    fn token(&mut self, text: String);
}

/// The working memory of one slot.
#[derive(Debug)]
pub struct Session {
    cache: KvCache,
    /// The tokens of the whole chunks of the last prompt, whose keys and values the cache holds.
    kept: Vec<u32>,
}

impl Session {
    /// An empty session for `model`.
    /// # Errors
    /// [`Error::Compute`] if memory cannot be had.
    pub fn new(model: &LanguageModel) -> Result<Self, Error> {
        Ok(Self { cache: model.llama.cache()?, kept: Vec::new() })
    }

    /// Generates one answer into `sink`.
    /// # Errors
    /// [`Error::Cancelled`] if the sink wants no more; otherwise if computing fails. The session stays usable.
    pub fn answer(&mut self, model: &LanguageModel, request: &Request, sink: &mut impl Sink) -> Result<Usage, Error> {
        request.check()?;
        let prompt = &request.prompt;
        let room = model.context.saturating_sub(prompt.len());
        if room == 0 || prompt.is_empty() {
            return Err(Error::PromptTooLong { prompt: prompt.len(), context: model.context });
        }
        let started = Instant::now();
        let (cached_tokens, mut scores) = self.prefill(model, prompt, sink)?;
        let mut sampler = Sampler::new(request.sampling);
        let mut text = TextStream::new(&request.stops);
        let tokens_max = request.tokens_max.min(room);
        let mut completion_tokens = 0;
        let mut first_token = started;
        let finish = loop {
            let token = sampler.choose(scores)?;
            completion_tokens += 1;
            if completion_tokens == 1 {
                first_token = Instant::now();
            }
            if model.vocabulary.is_end(token) {
                break Finish::Stop;
            }
            sink.token(text.push(model.vocabulary.bytes_of(token)));
            if text.stopped() {
                break Finish::Stop;
            }
            if completion_tokens >= tokens_max {
                break Finish::Length;
            }
            if !sink.wanted() {
                return Err(Error::Cancelled);
            }
            scores = model.llama.forward(&[token], &mut self.cache, Want::Scores)?;
        };
        let rest = text.finish();
        if !rest.is_empty() {
            sink.token(rest);
        }
        let finish = if text.stopped() { Finish::Stop } else { finish };
        Ok(Usage {
            prompt_tokens: prompt.len(),
            cached_tokens,
            completion_tokens,
            prefill: first_token.duration_since(started),
            decode: first_token.elapsed(),
            finish,
        })
    }

    /// Fills the cache with `prompt`. Gives the tokens that were there already, and the scores of the next.
    fn prefill(&mut self, model: &LanguageModel, prompt: &[u32], sink: &impl Sink) -> Result<(usize, Vec<f32>), Error> {
        if self.cache.capacity() > KEPT_POSITIONS_MAX && prompt.len() < KEPT_POSITIONS_MAX {
            *self = Self::new(model)?;
        }
        // The last token is always computed: its scores are what comes next.
        let (last, before_last) = prompt.split_last().ok_or(Error::NotFinite).map(|(_, rest)| (rest.len(), rest))?;
        let same = self.kept.iter().zip(before_last).take_while(|(old, new)| old == new).count();
        let cached = same.min(last) / CHUNK_TOKENS * CHUNK_TOKENS;
        self.kept.truncate(cached);
        self.cache.truncate(cached);
        let mut scores = Vec::new();
        let mut left = prompt.get(cached..).unwrap_or_default();
        while !left.is_empty() {
            if !sink.wanted() {
                return Err(Error::Cancelled);
            }
            let (chunk, rest) = left.split_at(left.len().min(CHUNK_TOKENS));
            let want = if rest.is_empty() { Want::Scores } else { Want::Cache };
            scores = model.llama.forward(chunk, &mut self.cache, want)?;
            if chunk.len() == CHUNK_TOKENS {
                self.kept.extend_from_slice(chunk);
            }
            left = rest;
        }
        Ok((cached, scores))
    }
}
