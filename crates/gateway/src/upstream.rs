//! Asks an engine, and another one if that cannot hurt.
//!
//! Invariant: nothing is retried after the first byte of an answer, and no engine is asked twice, with one exception: a
//! request lost on a kept connection that the engine was closing at that moment may go out once more. A request is lost at
//! most twice, so one that kills engines cannot kill them all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dh_core::time::{Clock, Span};
use dh_policy::routing::{Candidate, Route, View};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::Error;
use crate::breaker::Pass;
use crate::config::{IDLE_PER_ENGINE_MAX, Timeouts};
use crate::engines::{Engine, Load, Model};
use crate::metrics::Trouble;
use crate::plan::{Belief, Work};

pub(crate) struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    first_byte: Duration,
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
}

/// The head of an engine's answer; its body is still to come.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) load: Load,
    pub(crate) belief: Belief,
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
}

impl Upstream {
    pub(crate) fn new(timeouts: &Timeouts) -> Result<Self, Error> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(timeouts.connect));
        http.set_keepalive(Some(timeouts.upstream_idle));
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| Error::Tls(error.to_string()))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(timeouts.upstream_idle)
            .pool_max_idle_per_host(IDLE_PER_ENGINE_MAX)
            .build(https);
        Ok(Self { client, first_byte: timeouts.first_byte })
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
        loop {
            let candidates = candidates(model, &tried, &outgoing.work, clock);
            let Some((place, engine)) = policy
                .pick(View { ask: outgoing.work.ask, candidates: &candidates })
                .and_then(|picked| Some((picked.engine, model.engines.get(picked.engine)?)))
            else {
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
            tried.push(place);
            let Ok(pass) = engine.state.breaker().admit(clock.now()) else { continue };
            asked += 1;
            match self.ask_one(model, engine, pass, outgoing, clock).await {
                Outcome::Answered(answer) => return Ok(answer),
                Outcome::Declined(answer) => declined = Some(answer),
                Outcome::Refused(status) => refused = Some(status),
                Outcome::NotReached => {}
                Outcome::Lost if lost.is_none() => lost = Some(place),
                Outcome::Lost => break,
                Outcome::TimedOut => return Err(Error::EngineTimeout(model.name.to_string())),
            }
        }
        if let Some(answer) = declined {
            return Ok(answer);
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
        outgoing: &Outgoing,
        clock: &dyn Clock,
    ) -> Outcome {
        let attempt = Attempt { engine, pass, clock, settled: false };
        let slot = engine.state.slot;
        let load = Load::on(engine, outgoing.work.load_on(slot));
        let belief = model.knowledge.sent(&outgoing.work, slot);
        let Ok(request) = outgoing.request_for(engine) else {
            return attempt.failed(Trouble::Connect, Outcome::NotReached);
        };
        match tokio::time::timeout(self.first_byte, self.client.request(request)).await {
            Err(_) => attempt.failed(Trouble::Timeout, Outcome::TimedOut),
            Ok(Err(error)) if error.is_connect() => attempt.failed(Trouble::Connect, Outcome::NotReached),
            Ok(Err(_)) => attempt.failed(Trouble::Lost, Outcome::Lost),
            Ok(Ok(response)) => {
                let status = response.status();
                let answer = Answer { response, engine: Arc::clone(engine), load, belief };
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

impl Outgoing {
    fn request_for(&self, engine: &Engine) -> Result<Request<Full<Bytes>>, http::Error> {
        let uri = match &self.target {
            Target::Route(path) => engine.uri(path)?,
            Target::Path(path) => engine.uri_of(path)?,
        };
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        if let Some(authorization) = &engine.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
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

fn candidates(model: &Model, tried: &[usize], work: &Work, clock: &dyn Clock) -> Vec<Candidate> {
    let now = clock.now();
    let may = |(place, engine): (usize, &Arc<Engine>)| {
        let open = !tried.contains(&place) && engine.state.breaker().wait(now).is_none();
        let state = &engine.state;
        open.then(|| Candidate {
            engine: place,
            identity: state.identity,
            in_flight: state.in_flight(),
            tokens: state.tokens(),
            queued: state.queued(),
            recent: work.recent(state.slot),
            cached: work.cached(state.slot),
            ..Candidate::default()
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
