//! The engines behind the gateway, as one immutable snapshot that is replaced as a whole.
//!
//! Invariant: a request keeps the snapshot it began with, so a replacement harms nothing under way; an engine that is in the
//! old and the new set keeps its breaker and its counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dh_core::time::Span;
use dh_core::{Secret, SimTime};
use dh_policy::routing::Rates;
use dh_policy::routing::chain::digest_of;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Uri};
use rustls::pki_types::ServerName;

use crate::Error;
use crate::breaker::{Breaker, BreakerConfig};
use crate::config::{ENGINES_MAX, MODEL_NAME_BYTES_MAX, Price};
use crate::error::shown;
use crate::facts::{self, EngineFacts, EngineRole, Part};
use crate::kv::KvEvents;
use crate::link::{Place, Pool};
use crate::metrics::{EngineMetrics, ModelMetrics, Registry};
use crate::plan::Knowledge;
use crate::pools;
use crate::translate::Dialect;

/// What an engine speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// The API of `OpenAI`: chat, completions, embeddings.
    Chat,
    /// Open Inference Protocol, version 2.
    Classifier,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chat => "chat model (under /v1)",
            Self::Classifier => "classifier (under /v2/models)",
        })
    }
}

/// One engine, as the server describes it.
#[derive(Debug, Clone)]
pub struct EngineTarget {
    /// Names the engine in metrics and logs; unique.
    pub id: String,
    /// The model name that requests ask for.
    pub model: String,
    /// What it speaks.
    pub kind: EngineKind,
    /// Its base URL, `http://host:port` or `https://...`, with or without a closing `/v1` or `/v2`.
    pub url: String,
    /// The key it wants, if any.
    pub key: Option<Secret<String>>,
    /// What else is known about it.
    pub facts: EngineFacts,
}

/// How an engine is doing, for dashboards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineStatus {
    /// The engine's id.
    pub id: String,
    /// Its model.
    pub model: String,
    /// Requests it is working on for this gateway.
    pub in_flight: u32,
    /// Tokens that it has still to compute for them, as estimated.
    pub tokens: u64,
    /// Whether its breaker is closed.
    pub healthy: bool,
}

/// How long an engine that has no route is not asked there: it may have been replaced by a newer version.
const ROUTE_LACKS: Span = Span::from_secs(600);
/// Fewer tokens of prompts teach no pace.
const PACE_TOKENS: u64 = 256;

/// What outlives a snapshot.
pub(crate) struct EngineState {
    in_flight: AtomicU32,
    /// Tokens that it has still to compute for them, as estimated.
    tokens: AtomicU64,
    /// Those of prompts whose first token has not come.
    queued: AtomicU64,
    /// What a thousand tokens of a prompt take it, in microseconds, as its answers teach; 0 until one did.
    prefill_us: AtomicU64,
    /// Its place in the indexes of prompts.
    pub(crate) slot: usize,
    /// A digest of its id.
    pub(crate) identity: u64,
    /// Connections to it that wait.
    pub(crate) pool: Arc<Pool>,
    breaker: Mutex<Breaker>,
    /// Until when it is known to have no route for a dialect, in the clock's nanoseconds.
    lacks: [AtomicU64; Dialect::COUNT],
}

impl EngineState {
    fn new(config: BreakerConfig, id: &str, slot: usize) -> Self {
        let identity = digest_of(0, id.as_bytes());
        Self {
            in_flight: AtomicU32::new(0),
            tokens: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            prefill_us: AtomicU64::new(0),
            slot,
            identity,
            pool: Arc::default(),
            breaker: Mutex::new(Breaker::new(config)),
            lacks: [const { AtomicU64::new(0) }; Dialect::COUNT],
        }
    }

    pub(crate) fn prefill_us(&self) -> u64 {
        self.prefill_us.load(Ordering::Relaxed)
    }

    /// The first token came `waited` after so many tokens of prompts stood before it, its own included. Short waits are mostly
    /// the way there and back. Moves by a quarter; races lose an observation.
    fn learn_pace(&self, tokens: u64, waited: Duration) {
        if tokens < PACE_TOKENS {
            return;
        }
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let pace = (micros.saturating_mul(1_000) / tokens).max(1);
        let before = self.prefill_us();
        let next = if before == 0 { pace } else { before - before / 4 + pace / 4 };
        self.prefill_us.store(next.max(1), Ordering::Relaxed);
    }

    // The breaker's steps cannot panic half-way, so a poisoned lock still guards a sound one.
    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it said lately that it has no route for `dialect`.
    pub(crate) fn lacks(&self, dialect: Dialect, now: SimTime) -> bool {
        self.lacks.get(dialect.place()).is_some_and(|until| until.load(Ordering::Relaxed) > now.0)
    }

    /// It said so at `now`; after [`ROUTE_LACKS`] it is asked again.
    pub(crate) fn set_lacks(&self, dialect: Dialect, now: SimTime) {
        if let Some(until) = self.lacks.get(dialect.place()) {
            until.store(now.after(ROUTE_LACKS).0, Ordering::Relaxed);
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    pub(crate) fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }
}

/// One request that an engine works on; counted until dropped.
pub(crate) struct Load {
    state: Arc<EngineState>,
    /// Of the prompt, until its first token has come.
    prompt: u64,
    answer: u64,
    /// Tokens of prompts that stood before its first token when it was sent, its own included.
    before: u64,
}

/// Tokens that a request makes an engine compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) prompt: u64,
    pub(crate) answer: u64,
}

impl Load {
    /// Counts a request on `engine`, unless it then would work on more than `bound` at once.
    pub(crate) fn within(engine: &Engine, tokens: Tokens, bound: u32) -> Option<Self> {
        if engine.state.in_flight.fetch_add(1, Ordering::Relaxed) >= bound {
            engine.state.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self::counted(engine, tokens))
    }

    fn counted(engine: &Engine, tokens: Tokens) -> Self {
        let Tokens { prompt, answer } = tokens;
        engine.state.tokens.fetch_add(prompt.wrapping_add(answer), Ordering::Relaxed);
        let before = engine.state.queued.fetch_add(prompt, Ordering::Relaxed).wrapping_add(prompt);
        Self { state: Arc::clone(&engine.state), prompt, answer, before }
    }

    /// The first token came so long after the request.
    pub(crate) fn first_token(&mut self, waited: Duration) {
        self.state.learn_pace(self.before, waited);
        self.prompt_done();
    }

    /// The prompt has been computed.
    fn prompt_done(&mut self) {
        let prompt = std::mem::take(&mut self.prompt);
        self.state.tokens.fetch_sub(prompt, Ordering::Relaxed);
        self.state.queued.fetch_sub(prompt, Ordering::Relaxed);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.prompt_done();
        self.state.tokens.fetch_sub(self.answer, Ordering::Relaxed);
    }
}

pub(crate) struct Engine {
    pub(crate) id: String,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) state: Arc<EngineState>,
    pub(crate) metrics: Arc<EngineMetrics>,
    pub(crate) facts: EngineFacts,
    /// Money and energy as routing counts them: the dearest of its model's if they are not known.
    pub(crate) rates: (Rates, Rates),
    address: Address,
}

#[derive(Clone, PartialEq, Eq)]
struct Address {
    place: Place,
    /// For the `host` field.
    authority: Authority,
    /// What comes before `/v1` or `/v2`; empty or `/...` with no closing slash.
    prefix: String,
}

impl Engine {
    /// Where it listens.
    pub(crate) fn place(&self) -> &Place {
        &self.address.place
    }

    /// Begins the head of a request for `path`, which is a valid path and begins with `/v1/` or `/v2/`.
    pub(crate) fn begin(&self, method: &Method, path: &str, head: &mut Vec<u8>) {
        let Address { authority, prefix, .. } = &self.address;
        for part in [method.as_str(), " ", prefix, path, " HTTP/1.1\r\nhost: ", authority.as_str(), "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }
}

pub(crate) struct Model {
    pub(crate) name: Arc<str>,
    pub(crate) kind: EngineKind,
    pub(crate) engines: Vec<Arc<Engine>>,
    pub(crate) turn: Arc<AtomicU64>,
    pub(crate) knowledge: Arc<Knowledge>,
    /// Slots there are in the index: one above the largest of an engine.
    pub(crate) slots: usize,
    pub(crate) metrics: Arc<ModelMetrics>,
    /// The dearest of its engines' own prices.
    pub(crate) dearest: Price,
    /// Whether some of its engines only read prompts and some only write answers.
    pub(crate) split: bool,
    /// Which engines whole requests are for.
    pub(crate) whole: Part,
    /// When it was first served, for `created`.
    pub(crate) since: SimTime,
}

#[derive(Default)]
pub(crate) struct Snapshot {
    models: BTreeMap<Arc<str>, Arc<Model>>,
}

impl Snapshot {
    pub(crate) fn model(&self, name: &str) -> Result<&Arc<Model>, Error> {
        self.models.get(name).ok_or_else(|| {
            if self.models.is_empty() {
                return Error::NotReady { model: shown(name, 80), wait: dh_core::time::Span::from_secs(5) };
            }
            let names: Vec<_> = self.models.keys().take(20).map(|name| shown(name, 80)).collect();
            let more = self.models.len() - names.len();
            let known = names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
            Error::UnknownModel { model: shown(name, 80), known }
        })
    }

    /// The model that `path` begins with, and the rest: `name/infer` gives `name` and `/infer`. Names may hold slashes.
    pub(crate) fn model_of_path<'p>(&self, path: &'p str) -> Result<(&Arc<Model>, &'p str), Error> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.filter_map(|end| path.split_at_checked(end))
            .filter_map(|(name, rest)| Some((self.models.get(name)?, rest)))
            .next_back()
            .map_or_else(|| Err(self.model(path).err().unwrap_or(Error::NoModel)), Ok)
    }

    pub(crate) fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }

    /// Closes connections to engines that waited too long.
    pub(crate) fn sweep(&self) {
        for engine in self.models().flat_map(|model| &model.engines) {
            engine.state.pool.sweep();
        }
    }

    pub(crate) fn statuses(&self) -> Vec<EngineStatus> {
        let of = |model: &Arc<Model>| {
            let model_name = model.name.to_string();
            model
                .engines
                .iter()
                .map(move |engine| EngineStatus {
                    id: engine.id.clone(),
                    model: model_name.clone(),
                    in_flight: engine.state.in_flight(),
                    tokens: engine.state.tokens(),
                    healthy: engine.state.breaker().is_closed(),
                })
                .collect::<Vec<_>>()
        };
        self.models().flat_map(of).collect()
    }

    /// The snapshot that serves `targets`, and knows the `expected` models even if they have no engine.
    pub(crate) fn next(
        &self,
        targets: Vec<EngineTarget>,
        expected: &[(String, EngineKind)],
        breaker: BreakerConfig,
        metrics: &Registry,
        now: SimTime,
    ) -> Result<Self, Error> {
        if targets.len() > ENGINES_MAX || expected.len() > ENGINES_MAX {
            return Err(Error::TooManyEngines(ENGINES_MAX));
        }
        let mut present: HashMap<&str, (&str, &Arc<Engine>)> = HashMap::new();
        for model in self.models() {
            present.extend(model.engines.iter().map(|engine| (engine.id.as_str(), (&*model.name, engine))));
        }
        let mut models: BTreeMap<Arc<str>, Model> = BTreeMap::new();
        for (name, kind) in expected {
            self.enlist(&mut models, name, *kind, metrics, now).map_err(|why| bad(name, why))?;
        }
        // Engines that stay keep their slots; others get the lowest free ones.
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        for EngineTarget { id, .. } in &targets {
            taken.extend(present.get(id.as_str()).map(|(_, engine)| engine.state.slot));
        }
        let mut rates: HashMap<String, (Rates, Rates)> = HashMap::new();
        for EngineTarget { model, facts, .. } in &targets {
            let all = rates.entry(model.clone()).or_default();
            all.0 = facts::dearest(all.0, facts.price_rates().unwrap_or_default());
            all.1 = facts::dearest(all.1, facts.energy_rates().unwrap_or_default());
        }
        let mut ids = std::collections::HashSet::new();
        for EngineTarget { id, model, kind, url, key, facts } in targets {
            if id.is_empty() || id.len() > MODEL_NAME_BYTES_MAX || !ids.insert(id.clone()) {
                return Err(bad(&id, "its id is empty, too long or not unique".to_owned()));
            }
            let address = parse_address(&url).map_err(|why| bad(&id, why))?;
            if let Some(why) = facts.kv_events.as_ref().and_then(KvEvents::problem) {
                return Err(bad(&id, why));
            }
            let authorization = key.as_ref().map(bearer_value).transpose().map_err(|why| bad(&id, why))?;
            let state = match present.get(id.as_str()) {
                Some((name, engine)) if *name == model && engine.address == address => Arc::clone(&engine.state),
                _ => {
                    let slot = (0..=taken.len()).find(|slot| !taken.contains(slot)).unwrap_or(0);
                    taken.insert(slot);
                    Arc::new(EngineState::new(breaker, &id, slot))
                }
            };
            let served = self.enlist(&mut models, &model, kind, metrics, now).map_err(|why| bad(&id, why))?;
            let fresh = Arc::strong_count(&state) == 1;
            let metrics = metrics.engine(&id);
            served.slots = served.slots.max(state.slot + 1);
            if fresh {
                served.knowledge.forget(state.slot);
            }
            let (price, energy) = rates.get(&model).copied().unwrap_or_default();
            let rates = (facts.price_rates().unwrap_or(price), facts.energy_rates().unwrap_or(energy));
            if let Some(Price { prompt, cached, answer }) = facts.price {
                let most = &mut served.dearest;
                *most = Price {
                    prompt: most.prompt.max(prompt),
                    cached: most.cached.max(cached),
                    answer: most.answer.max(answer),
                };
            }
            served.engines.push(Arc::new(Engine { id, authorization, state, metrics, facts, rates, address }));
        }
        for model in models.values_mut() {
            let has = |role: EngineRole| model.engines.iter().any(|engine| engine.facts.role == role);
            model.split = has(EngineRole::Prefill) && has(EngineRole::Decode);
            model.whole = pools::whole_part(model.engines.iter().map(|engine| engine.facts.role));
        }
        metrics.forget_all_but(models.keys().map(|name| &**name), ids.iter().map(String::as_str));
        Ok(Self { models: models.into_iter().map(|(name, model)| (name, Arc::new(model))).collect() })
    }

    fn enlist<'m>(
        &self,
        models: &'m mut BTreeMap<Arc<str>, Model>,
        name: &str,
        kind: EngineKind,
        metrics: &Registry,
        now: SimTime,
    ) -> Result<&'m mut Model, String> {
        if name.is_empty() || name.len() > MODEL_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!("a model name has 1 to {MODEL_NAME_BYTES_MAX} bytes and no control characters"));
        }
        let before = self.models.get(name);
        let model = models.entry(Arc::from(name)).or_insert_with_key(|name| Model {
            name: Arc::clone(name),
            kind,
            engines: Vec::new(),
            turn: before.map_or_else(Arc::default, |model| Arc::clone(&model.turn)),
            knowledge: before.map_or_else(Arc::default, |model| Arc::clone(&model.knowledge)),
            slots: 0,
            metrics: metrics.model(name),
            dearest: Price::default(),
            split: false,
            whole: Part::Whole,
            since: before.map_or(now, |model| model.since),
        });
        if model.kind == kind {
            Ok(model)
        } else {
            Err(format!("model `{}` is already served as a {}", shown(name, 80), model.kind))
        }
    }
}

/// Another door that is asked as engines are.
pub(crate) fn door(id: &str, url: &str, key: &Secret<String>) -> Result<Engine, Error> {
    let address = parse_address(url).map_err(|why| bad(id, why))?;
    let authorization = Some(bearer_value(key).map_err(|why| bad(id, why))?);
    let state = Arc::new(EngineState::new(BreakerConfig::default(), id, 0));
    let (facts, rates) = <(EngineFacts, (Rates, Rates))>::default();
    Ok(Engine { id: id.to_owned(), authorization, state, metrics: Arc::default(), facts, rates, address })
}

fn bad(id: &str, why: String) -> Error {
    Error::BadEngine { id: shown(id, 80), why }
}

fn bearer_value(key: &Secret<String>) -> Result<HeaderValue, String> {
    let text = Secret::new(format!("Bearer {}", key.expose()));
    let mut value = HeaderValue::from_str(text.expose()).map_err(|_| "its key cannot stand in a header".to_owned())?;
    // Keeps the value out of `Debug` output and of header compression tables.
    value.set_sensitive(true);
    Ok(value)
}

fn parse_address(url: &str) -> Result<Address, String> {
    let parts = url.parse::<Uri>().map_err(|error| format!("its URL cannot be read: {error}"))?.into_parts();
    let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let (Some(scheme), Some(authority)) = (scheme, parts.authority) else {
        return Err("its URL must begin with http:// or https:// and a host".to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("its URL holds a password; give the key apart".to_owned());
    }
    let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if path.query().is_some() {
        return Err("its URL has a query, and a base URL has none".to_owned());
    }
    let path = path.path().trim_end_matches('/');
    let prefix = path.strip_suffix("/v1").or_else(|| path.strip_suffix("/v2")).unwrap_or(path);
    let secure = scheme == Scheme::HTTPS;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let tls = secure.then(|| ServerName::try_from(host.clone())).transpose();
    let tls = tls.map_err(|error| format!("its host cannot bear a certificate: {error}"))?;
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    Ok(Address { place: Place { host, port, tls }, authority, prefix: prefix.trim_end_matches('/').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: &str, model: &str, url: &str) -> EngineTarget {
        EngineTarget {
            id: id.to_owned(),
            model: model.to_owned(),
            kind: EngineKind::Chat,
            url: url.to_owned(),
            key: None,
            facts: EngineFacts::default(),
        }
    }

    fn next(from: &Snapshot, targets: Vec<EngineTarget>) -> Result<Snapshot, Error> {
        from.next(targets, &[], BreakerConfig::default(), &Registry::default(), SimTime(0))
    }

    #[test]
    fn base_urls_join_with_and_without_their_version() {
        for (url, place, path) in [
            ("http://127.0.0.1:8000", ("127.0.0.1", 8000, false), "/v1/models"),
            ("http://127.0.0.1:8000/", ("127.0.0.1", 8000, false), "/v1/models"),
            ("http://127.0.0.1:8000/v1", ("127.0.0.1", 8000, false), "/v1/models"),
            ("http://host", ("host", 80, false), "/v1/models"),
            ("https://host/v1/", ("host", 443, true), "/v1/models"),
            ("https://host/api/openai/v1", ("host", 443, true), "/api/openai/v1/models"),
            ("http://[::1]:80/x", ("::1", 80, false), "/x/v1/models"),
        ] {
            let snapshot = next(&Snapshot::default(), vec![target("e", "m", url)]).unwrap();
            let engine = &snapshot.model("m").unwrap().engines[0];
            let Place { host, port, tls } = engine.place();
            assert_eq!((host.as_str(), *port, tls.is_some()), place, "{url}");
            let mut head = Vec::new();
            engine.begin(&Method::GET, "/v1/models", &mut head);
            let authority = url.split('/').nth(2).unwrap();
            assert_eq!(String::from_utf8(head).unwrap(), format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n"));
        }
        for url in ["", "host:80", "ftp://host", "/v1", "http://user:pw@host", "http://host/?a=b", "http://"] {
            assert!(
                matches!(next(&Snapshot::default(), vec![target("e", "m", url)]), Err(Error::BadEngine { .. })),
                "{url}"
            );
        }
    }

    #[test]
    fn engines_that_stay_keep_their_state_and_moved_ones_start_afresh() {
        let first =
            next(&Snapshot::default(), vec![target("a", "m", "http://h:1"), target("b", "m", "http://h:2")]).unwrap();
        let load = Load::within(&first.model("m").unwrap().engines[0], Tokens { prompt: 4, answer: 3 }, 1).unwrap();
        let second = next(&first, vec![target("b", "m", "http://h:3"), target("a", "m", "http://h:1")]).unwrap();
        let engines = &second.model("m").unwrap().engines;
        assert_eq!((engines[0].state.in_flight(), engines[1].state.in_flight(), engines[1].state.tokens()), (0, 1, 7));
        drop(load);
        assert_eq!(engines[1].state.in_flight(), 0);
        assert!(Arc::ptr_eq(&engines[1].state, &first.model("m").unwrap().engines[0].state));
        assert!(!Arc::ptr_eq(&engines[0].state, &first.model("m").unwrap().engines[1].state));
    }

    #[test]
    fn contradictions_are_refused() {
        let empty = Snapshot::default();
        let mut mixed = target("b", "m", "http://h:2");
        mixed.kind = EngineKind::Classifier;
        assert!(next(&empty, vec![target("a", "m", "http://h:1"), mixed]).is_err());
        assert!(next(&empty, vec![target("a", "m", "http://h:1"), target("a", "n", "http://h:1")]).is_err());
        assert!(next(&empty, vec![target("a", "m\n", "http://h:1")]).is_err());
        let mut bad_key = target("a", "m", "http://h:1");
        bad_key.key = Some(Secret::new("dh-secret\n".to_owned()));
        let error = next(&empty, vec![bad_key]).err().unwrap().to_string();
        assert!(!error.contains("dh-secret"), "{error}");
    }

    #[test]
    fn paths_find_the_longest_model_name() {
        let snapshot =
            next(&Snapshot::default(), vec![target("a", "org", "http://h:1"), target("b", "org/m", "http://h:2")])
                .unwrap();
        let find = |path: &str| snapshot.model_of_path(path).map(|(model, rest)| format!("{} {rest}", model.name)).ok();
        assert_eq!(find("org/m/infer").as_deref(), Some("org/m /infer"));
        assert_eq!(find("org/m").as_deref(), Some("org/m "));
        assert_eq!(find("org/infer").as_deref(), Some("org /infer"));
        assert_eq!(find("orgx/infer"), None);
        assert_eq!(find(""), None);
    }
}
