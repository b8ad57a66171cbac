//! Asks an engine, and another one if that cannot hurt.
//!
//! Invariant: nothing is retried after the first byte of an answer, and no engine is asked twice, with one exception: a
//! request lost on a kept connection that the engine was closing at that moment may go out once more. A request is lost at
//! most twice, so one that kills engines cannot kill them all.

mod hedge;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use dh_core::time::{Clock, Span};
use dh_policy::routing::{Candidate, Route, View};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Response, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::breaker::Pass;
use crate::config::Timeouts;
use crate::engines::{Engine, Load, Model};
use crate::kv::Kv;
use crate::lines::Lines;
use crate::link::{AnswerBody, Link, Patience};
use crate::metrics::Trouble;
use crate::plan::{Belief, Work};
use crate::translate::{self, Dialect, Echo};
use crate::{Error, GatewayConfig};
use hedge::{Hedge, Tries};

pub(crate) struct Upstream {
    tls: TlsConnector,
    patience: Patience,
    first_byte: Duration,
    /// Requests that one engine works on at once.
    engine_in_flight: u32,
    lines: Option<Arc<Lines>>,
    hedge: Option<Hedge>,
    kv: Arc<Kv>,
}

/// Where on an engine a request goes.
pub(crate) enum Target {
    Route(&'static str),
    /// As the client sent it: a valid path whose model name was found.
    Path(String),
}

/// A request as every engine of its model gets it.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) work: Work,
    pub(crate) chat: AsChat,
}

/// The request as a chat completion, made when the first engine needs it; an error says what cannot be said.
pub(crate) type AsChat = OnceLock<Box<Result<(Bytes, Echo), String>>>;

/// The head of an engine's answer; its body is still to come.
pub(crate) struct Answer {
    pub(crate) response: Response<AnswerBody>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) load: Load,
    pub(crate) belief: Belief,
    /// Whether it is a chat completion where the caller asked for something else.
    pub(crate) as_chat: bool,
}

/// How asking one engine ended.
enum Outcome {
    Answered(Answer),
    /// Another engine may do better; else this is the answer.
    Declined(Answer),
    Refused(StatusCode),
    NotReached,
    Lost,
    TimedOut,
    /// The engine has only chat completions, which cannot say this.
    Untranslatable(String),
}

impl Upstream {
    pub(crate) fn new(config: &GatewayConfig, lines: Option<Arc<Lines>>, kv: Arc<Kv>) -> Result<Self, Error> {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect::<RootCertStore>();
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let Timeouts { connect: open, upstream_idle: idle, first_byte, .. } = config.timeouts;
        let engine_in_flight = config.options.line.as_ref().map_or(u32::MAX, |line| line.engine_in_flight);
        let (tls, patience) = (TlsConnector::from(Arc::new(tls)), Patience { open, idle });
        let hedge = config.options.hedge.map(Hedge::new);
        Ok(Self { tls, patience, first_byte, engine_in_flight, lines, hedge, kv })
    }

    /// Appends the metrics.
    pub(crate) fn render(&self, out: &mut String) {
        if let Some(hedge) = &self.hedge {
            hedge.render(out);
        }
    }

    /// The answer of one of `model`'s engines.
    pub(crate) async fn ask(
        &self,
        model: &Model,
        outgoing: &Outgoing,
        policy: &dyn Route,
        clock: &dyn Clock,
    ) -> Result<Answer, Error> {
        let mut tried: Vec<usize> = Vec::new();
        let mut lost: Option<usize> = None;
        let mut asked = 0;
        let mut declined: Option<Answer> = None;
        let mut refused: Option<StatusCode> = None;
        let mut untranslatable: Option<String> = None;
        // Who passed the line finds an engine with room, unless one has failed since: then any may be asked.
        let mut bound = self.engine_in_flight;
        loop {
            let candidates = candidates(model, &tried, &outgoing.work, bound, clock);
            let Some((place, engine)) = policy
                .pick(View { ask: outgoing.work.ask, candidates: &candidates })
                .and_then(|picked| Some((picked.engine, model.engines.get(picked.engine)?)))
            else {
                if bound < u32::MAX {
                    bound = u32::MAX;
                    continue;
                }
                // The engine that lost the request may have it once more if there is no other.
                let again = lost.filter(|_| asked == 1 && declined.is_none());
                match again {
                    Some(place) if tried.contains(&place) => {
                        tried.clear();
                        continue;
                    }
                    _ => break,
                }
            };
            // Another thread may have taken the last room meanwhile.
            let Some(load) = Load::within(engine, outgoing.work.load_on(engine.state.slot), bound) else { continue };
            tried.push(place);
            let Ok(pass) = engine.state.breaker().admit(clock.now()) else { continue };
            asked += 1;
            let outcome = match &self.hedge {
                // What was lost or declined is on its way anyhow.
                Some(hedge) if asked == 1 => {
                    let tries = Tries { tried: &mut tried, asked: &mut asked, lost: &mut lost, bound };
                    // On the heap, so that other requests do not carry its room.
                    Box::pin(self.ask_hedged(hedge, model, (place, pass, load), (outgoing, policy, clock), tries)).await
                }
                Some(_) | None => self.ask_one(model, engine, pass, load, outgoing, clock).await,
            };
            match outcome {
                Outcome::Answered(answer) => return Ok(answer),
                Outcome::Declined(answer) => declined = Some(answer),
                Outcome::Refused(status) => refused = Some(status),
                Outcome::NotReached => {}
                Outcome::Lost if lost.is_none() => lost = Some(place),
                Outcome::Lost => break,
                Outcome::TimedOut => return Err(Error::EngineTimeout(model.name.to_string())),
                Outcome::Untranslatable(why) => untranslatable = Some(why),
            }
        }
        if let Some(answer) = declined {
            return Ok(answer);
        }
        if let Some(why) = untranslatable {
            return Err(Error::Untranslatable(why));
        }
        let model_name = model.name.to_string();
        Err(match refused {
            Some(status) => Error::Refused { model: model_name, status: status.as_u16() },
            None if asked > 0 => Error::Unreachable { model: model_name, tried: asked },
            None => Error::NotReady { model: model_name, wait: soonest(model, clock) },
        })
    }

    async fn ask_one(
        &self,
        model: &Model,
        engine: &Arc<Engine>,
        pass: Pass,
        load: Load,
        outgoing: &Outgoing,
        clock: &dyn Clock,
    ) -> Outcome {
        let attempt = Attempt { engine, pass, clock, settled: false };
        let slot = engine.state.slot;
        let belief = model.knowledge.sent(&outgoing.work, slot);
        let mut as_chat = outgoing.lacking(engine, clock);
        let mut answer = match self.try_as(engine, outgoing, as_chat).await {
            Ok(answer) => answer,
            Err(why) => return attempt.succeeded(Outcome::Untranslatable(why)),
        };
        if let (Ok(Ok(response)), Some(dialect), false) = (&answer, outgoing.dialect(), as_chat)
            && lacks_route(response.status())
        {
            as_chat = true;
            answer = match self.try_as(engine, outgoing, as_chat).await {
                Ok(answer) => answer,
                Err(why) => return attempt.succeeded(Outcome::Untranslatable(why)),
            };
            // An engine that refuses both does not know the model.
            if matches!(&answer, Ok(Ok(response)) if !lacks_route(response.status())) {
                engine.state.set_lacks(dialect, clock.now());
                tracing::debug!(engine = engine.id, ?dialect, "engine has only chat completions");
            }
        }
        match answer {
            Err(_) => attempt.failed(Trouble::Timeout, Outcome::TimedOut),
            Ok(Err(Missed::NotReached)) => attempt.failed(Trouble::Connect, Outcome::NotReached),
            Ok(Err(Missed::Lost)) => attempt.failed(Trouble::Lost, Outcome::Lost),
            Ok(Ok(response)) => {
                let status = response.status();
                if engine.facts.kv_events.is_some()
                    && status == StatusCode::OK
                    && let Some(fresh) = outgoing.work.fresh_on(slot)
                {
                    self.kv.asker.computed(engine, outgoing.path(), &outgoing.body, fresh);
                }
                let answer = Answer { response, engine: Arc::clone(engine), load, belief, as_chat };
                match status {
                    StatusCode::TOO_MANY_REQUESTS => {
                        engine.metrics.trouble(Trouble::Busy);
                        attempt.succeeded(Outcome::Declined(answer))
                    }
                    StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
                        attempt.failed(Trouble::Unavailable, Outcome::Declined(answer))
                    }
                    // The engine does not accept our key: passed on, it would read as if the caller's key were wrong.
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                        attempt.failed(Trouble::Refused, Outcome::Refused(status))
                    }
                    // A redirect would lead the caller past the gateway.
                    _ if status.is_redirection() || status.is_informational() => {
                        attempt.failed(Trouble::Refused, Outcome::Refused(status))
                    }
                    _ => attempt.succeeded(Outcome::Answered(answer)),
                }
            }
        }
    }
}

/// Why no answer came.
pub(crate) enum Missed {
    NotReached,
    Lost,
}

/// What engines say to a route that they do not have.
fn lacks_route(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

/// An answer's head, or why there is none, or that it was waited for too long.
type Head = Result<Result<Response<AnswerBody>, Missed>, tokio::time::error::Elapsed>;

impl Upstream {
    /// Asks as the caller asked, or in chat completions; an error says what those cannot say.
    async fn try_as(&self, engine: &Engine, outgoing: &Outgoing, as_chat: bool) -> Result<Head, String> {
        let (path, body) = if as_chat {
            match outgoing.as_chat() {
                Ok((body, _)) => (translate::CHAT, body),
                Err(why) => return Err(why.clone()),
            }
        } else {
            (outgoing.path(), &outgoing.body)
        };
        let head = outgoing.head_for(engine, path, body.len());
        Ok(tokio::time::timeout(self.first_byte, self.exchange(engine, &head, body)).await)
    }

    /// Sends one request on a kept connection, or on a new one.
    pub(crate) async fn exchange(
        &self,
        engine: &Engine,
        head: &[u8],
        body: &[u8],
    ) -> Result<Response<AnswerBody>, Missed> {
        let pool = &engine.state.pool;
        let link = match pool.take() {
            Some(link) => link,
            None => Link::open(engine.place(), &self.tls, self.patience).await.map_err(|error| {
                tracing::debug!(engine = engine.id, %error, "engine is not reached");
                Missed::NotReached
            })?,
        };
        let used = link.used;
        link.ask(head, body, pool).await.map_err(|error| {
            tracing::debug!(engine = engine.id, %error, "request is lost");
            if used {
                // The engine closes what it kept, or is gone: the next try begins afresh.
                pool.forget();
            }
            Missed::Lost
        })
    }
}

impl Outgoing {
    fn path(&self) -> &str {
        match &self.target {
            Target::Route(path) => path,
            Target::Path(path) => path.as_str(),
        }
    }

    /// What the caller speaks, if it can be said in chat completions.
    fn dialect(&self) -> Option<Dialect> {
        Dialect::of(self.path())
    }

    /// Whether `engine` is known not to have its route.
    fn lacking(&self, engine: &Engine, clock: &dyn Clock) -> bool {
        self.dialect().is_some_and(|dialect| engine.state.lacks(dialect, clock.now()))
    }

    fn as_chat(&self) -> &Result<(Bytes, Echo), String> {
        self.chat.get_or_init(|| {
            let unknown = || Err("this route".to_owned());
            Box::new(self.dialect().map_or_else(unknown, |dialect| translate::request(dialect, &self.body)))
        })
    }

    fn head_for(&self, engine: &Engine, path: &str, length: usize) -> Vec<u8> {
        let mut head = Vec::with_capacity(512);
        engine.begin(&self.method, path, &mut head);
        let own = engine.authorization.as_ref().map(|value| (&AUTHORIZATION, value));
        for (name, value) in self.headers.iter().chain(own) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        if self.method == Method::POST || length > 0 {
            head.extend_from_slice(b"content-length: ");
            head.extend_from_slice(length.to_string().as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// One try, whose verdict the breaker must learn; a caller that goes away in between leaves none.
struct Attempt<'a> {
    engine: &'a Engine,
    pass: Pass,
    clock: &'a dyn Clock,
    settled: bool,
}

impl Attempt<'_> {
    fn succeeded(mut self, outcome: Outcome) -> Outcome {
        self.settled = true;
        self.engine.state.breaker().succeeded(self.pass);
        outcome
    }

    fn failed(mut self, trouble: Trouble, outcome: Outcome) -> Outcome {
        self.settled = true;
        self.engine.metrics.trouble(trouble);
        let mut breaker = self.engine.state.breaker();
        let was_closed = breaker.is_closed();
        breaker.failed(self.pass, self.clock.now());
        if was_closed && !breaker.is_closed() {
            tracing::warn!(engine = self.engine.id, ?trouble, "engine is left alone for a while");
        }
        drop(breaker);
        outcome
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.engine.state.breaker().abandoned(self.pass, self.clock.now());
        }
    }
}

fn candidates(model: &Model, tried: &[usize], work: &Work, bound: u32, clock: &dyn Clock) -> Vec<Candidate> {
    let now = clock.now();
    let may = |(place, engine): (usize, &Arc<Engine>)| {
        let state = &engine.state;
        let open = !tried.contains(&place)
            && work.admits(&engine.facts)
            && state.in_flight() < bound
            && state.breaker().wait(now).is_none();
        open.then(|| Candidate {
            engine: place,
            identity: state.identity,
            in_flight: state.in_flight(),
            tokens: state.tokens(),
            queued: state.queued(),
            recent: work.recent(state.slot),
            cached: work.cached(state.slot),
            round_trip_us: u64::try_from(engine.facts.round_trip.as_micros()).unwrap_or(u64::MAX),
            prefill_us: state.prefill_us(),
            price: engine.rates.0,
            energy: engine.rates.1,
        })
    };
    model.engines.iter().enumerate().filter_map(may).collect()
}

/// When the first breaker lets a request through; some seconds if no engine is there at all.
fn soonest(model: &Model, clock: &dyn Clock) -> Span {
    let now = clock.now();
    let waits = model.engines.iter().map(|engine| engine.state.breaker().wait(now).unwrap_or(Span(0)));
    waits.min().unwrap_or(Span::from_secs(5))
}
