//! Answers to questions that mean the same, by the cosine of embeddings.
//!
//! Only the last message of a user may differ; everything else has to be the same, the caller included. A flat search: the
//! questions with the same rest are few, and a bound keeps them so.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dh_policy::eviction::Sieve;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use tokio::time::Instant;

use super::Stored;
use super::key::Key;
use crate::Gateway;
use crate::access::Caller;
use crate::admission::Buffered;
use crate::detour::{self, Asked};
use crate::metrics::{family, line};
use crate::options::SemanticConfig;

/// Memory of all questions and their answers.
const BYTES_MAX: usize = 64 << 20;
/// Questions that are compared with one: a millisecond's work.
const BUCKET_MAX: usize = 2_048;
/// Of an answer of the model of embeddings.
const EMBEDDING_BYTES_MAX: usize = 1 << 20;
const DIMENSIONS_MAX: usize = 16_384;
/// How long an answer is good.
const TTL: Duration = Duration::from_hours(1);

/// A question whose answer may be kept.
pub(super) struct Question {
    /// What has to be the same.
    pub(super) bucket: Key,
    pub(super) text: String,
    pub(super) wanted: SemanticConfig,
}

struct Entry {
    number: usize,
    /// Of length 1.
    vector: Vec<f32>,
    stored: Arc<Stored>,
}

struct State {
    sieve: Sieve,
    buckets: HashMap<Key, Vec<Entry>>,
    /// The buckets of the entries' numbers.
    places: HashMap<usize, Key>,
}

pub(super) struct Semantic {
    by_model: BTreeMap<String, SemanticConfig>,
    state: Mutex<State>,
    hits: AtomicU64,
    misses: AtomicU64,
    failed: AtomicU64,
}

#[derive(Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Vec<f32>,
}

impl Semantic {
    pub(super) fn new(by_model: &BTreeMap<String, SemanticConfig>) -> Self {
        let state = State { sieve: Sieve::new(BYTES_MAX), buckets: HashMap::new(), places: HashMap::new() };
        Self {
            by_model: by_model.clone(),
            state: Mutex::new(state),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(super) fn wanted(&self, model: &str) -> Option<SemanticConfig> {
        self.by_model.get(model).cloned()
    }

    // No step under this lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the question lies among all meanings; nothing if the model of embeddings does not say.
    pub(super) async fn embed(&self, gateway: &Gateway, caller: &Caller, question: &Question) -> Option<Vec<f32>> {
        let vector = embed(gateway, caller, question).await;
        if vector.is_none() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        vector
    }

    /// The answer to the nearest question, if that is near enough.
    pub(super) fn nearest(&self, question: &Question, vector: &[f32]) -> Option<Arc<Stored>> {
        let mut state = self.lock();
        let State { sieve, buckets, .. } = &mut *state;
        let entries = buckets.get(&question.bucket).map(Vec::as_slice).unwrap_or_default();
        let good =
            entries.iter().filter(|entry| entry.stored.since.elapsed() < TTL && entry.vector.len() == vector.len());
        let best =
            good.map(|entry| (cosine(&entry.vector, vector), entry)).max_by(|one, other| one.0.total_cmp(&other.0));
        // Exact up to 2^24, and thousandths are below.
        let least = f32::from(u16::try_from(question.wanted.similar_milli).unwrap_or(1_000)) / 1_000.0;
        // Vectors of length 1 have a product a little below 1 with themselves.
        let found = best.filter(|(cosine, _)| cosine + 1e-5 >= least).map(|(_, entry)| entry);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        let entry = found?;
        sieve.used(entry.number);
        Some(Arc::clone(&entry.stored))
    }

    pub(super) fn keep(&self, question: &Question, vector: Vec<f32>, stored: Arc<Stored>) {
        let mut state = self.lock();
        let State { sieve, buckets, places } = &mut *state;
        let mut gone = Vec::new();
        let bucket = buckets.entry(question.bucket).or_default();
        if bucket.len() >= BUCKET_MAX
            && let Some(oldest) = bucket.first()
        {
            sieve.remove(oldest.number);
            gone.push(oldest.number);
        }
        let number = sieve.insert(stored.bytes() + vector.len() * size_of::<f32>(), &mut gone);
        for gone in gone {
            if let Some(place) = places.remove(&gone)
                && let Some(entries) = buckets.get_mut(&place)
            {
                entries.retain(|entry| entry.number != gone);
                if entries.is_empty() {
                    buckets.remove(&place);
                }
            }
        }
        if let Some(number) = number {
            places.insert(number, question.bucket);
            buckets.entry(question.bucket).or_default().push(Entry { number, vector, stored });
        } else if buckets.get(&question.bucket).is_some_and(Vec::is_empty) {
            buckets.remove(&question.bucket);
        }
    }

    pub(super) fn render(&self, out: &mut String) {
        family(
            out,
            "semantic_cache_total",
            "counter",
            "Questions by whether one that means the same was answered before.",
        );
        for (event, count) in [("hit", &self.hits), ("miss", &self.misses), ("no_embedding", &self.failed)] {
            let name = format!("datahall_gateway_semantic_cache_total{{event=\"{event}\"}}");
            line(out, &name, count.load(Ordering::Relaxed));
        }
        family(out, "semantic_cache_bytes", "gauge", "Memory that questions and their answers take.");
        line(out, "datahall_gateway_semantic_cache_bytes", self.lock().sieve.size());
    }
}

async fn embed(gateway: &Gateway, caller: &Caller, question: &Question) -> Option<Vec<f32>> {
    let place = gateway.shared.admission.enter().ok()?;
    let body =
        serde_json::json!({"model": question.wanted.embeddings, "input": question.text, "encoding_format": "float"});
    let mut body_read = Buffered::default();
    body_read.bytes = Bytes::from(body.to_string());
    let length = body_read.bytes.len();
    gateway.shared.admission.reserve(&mut body_read, length).ok()?;
    let asked = Asked {
        gateway: gateway.clone(),
        caller: caller.clone(),
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
        path: "/v1/embeddings",
        started: Instant::now(),
        place,
        body: body_read,
        whole: None,
    };
    let response = detour::direct(asked).await;
    if response.status() != StatusCode::OK {
        return None;
    }
    let bytes = Limited::new(response.into_body(), EMBEDDING_BYTES_MAX).collect().await.ok()?.to_bytes();
    let answer: Embeddings = serde_json::from_slice(&bytes).ok()?;
    unit(answer.data.into_iter().next()?.embedding)
}

/// `vector` with the length 1; nothing if it has none.
fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let length = vector.iter().map(|part| part * part).sum::<f32>().sqrt();
    if vector.len() > DIMENSIONS_MAX || !length.is_finite() || length <= 0.0 {
        return None;
    }
    for part in &mut vector {
        *part /= length;
    }
    Some(vector)
}

/// Of vectors of length 1.
fn cosine(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}
