//! A second try at another engine while the first has not begun its answer.
//!
//! Invariant: one answer is passed on, and the other try ends with its connection, before a byte of it could go anywhere; so a
//! caller pays once. A request is tried twice only if asking twice changes nothing, which a stored response would.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dh_core::time::{Clock, Span};
use dh_policy::hedging::Hedges;
use dh_policy::routing::{Route, View};
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Outcome, Outgoing, Target, Upstream, candidates};
use crate::breaker::Pass;
use crate::engines::{Load, Model};
use crate::metrics::{Trouble, family, line};
use crate::options::{HedgeAfter, HedgeConfig};
use crate::translate::Dialect;

/// Second tries, and how they went.
pub(super) struct Hedge {
    config: HedgeConfig,
    won: AtomicU64,
    lost: AtomicU64,
}

impl Hedge {
    pub(super) fn new(config: HedgeConfig) -> Self {
        Self { config, won: AtomicU64::new(0), lost: AtomicU64::new(0) }
    }

    pub(super) fn render(&self, out: &mut String) {
        family(out, "hedges_total", "counter", "Second tries before a first byte by whether theirs came first.");
        for (won, count) in [("true", &self.won), ("false", &self.lost)] {
            let name = format!("datahall_gateway_hedges_total{{won=\"{won}\"}}");
            line(out, &name, count.load(Ordering::Relaxed));
        }
    }

    /// How long the first engine has, if that is known.
    fn patience(&self, hedges: &Hedges) -> Option<Duration> {
        match self.config.after {
            HedgeAfter::Time(time) => Some(time),
            HedgeAfter::Percent(percent) => hedges.within(percent).map(|span| Duration::from_nanos(span.0)),
        }
    }
}

/// How far asking has come.
pub(super) struct Tries<'t> {
    pub(super) tried: &'t mut Vec<usize>,
    pub(super) asked: &'t mut usize,
    pub(super) lost: &'t mut Option<usize>,
    pub(super) bound: u32,
}

/// What of a body decides whether it may be sent twice.
#[derive(Deserialize)]
struct Twice {
    store: Option<bool>,
    background: Option<bool>,
}

impl Outgoing {
    /// Whether asking twice changes nothing.
    fn may_go_twice(&self) -> bool {
        let Target::Route(path) = self.target else { return false };
        let Ok(Twice { store, background }) = serde_json::from_slice(&self.body) else { return false };
        // Responses are stored unless the request says otherwise.
        let stored = store.unwrap_or(Dialect::of(path) == Some(Dialect::Responses));
        !stored && background != Some(true)
    }
}

impl Upstream {
    /// Asks the engine at `place`, and another one if that takes unusually long.
    pub(super) async fn ask_hedged(
        &self,
        hedge: &Hedge,
        model: &Model,
        (place, pass, load): (usize, Pass, Load),
        (outgoing, policy, clock): (&Outgoing, &dyn Route, &dyn Clock),
        tries: Tries<'_>,
    ) -> Outcome {
        let Some(engine) = model.engines.get(place) else { return Outcome::NotReached };
        let started = Instant::now();
        let came = |outcome: Outcome| {
            if matches!(outcome, Outcome::Answered(_)) {
                let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                model.knowledge.hedges().observe(Span(took));
            }
            outcome
        };
        let patience = {
            let mut hedges = model.knowledge.hedges();
            hedges.came(hedge.config.percent_max);
            hedge.patience(&hedges)
        };
        #[expect(clippy::needless_late_init, reason = "declared first, it ends after whichever try is given up")]
        let seat;
        let mut first = pin!(async {
            let outcome = self.ask_one(model, engine, pass, load, outgoing, clock).await;
            self.with_first_piece(outcome).await
        });
        let Some(patience) = patience else { return came(first.await) };
        if let Ok(outcome) = tokio::time::timeout(patience, first.as_mut()).await {
            return came(outcome);
        }
        let may = outgoing.may_go_twice() && model.knowledge.hedges().spend();
        if !may {
            return came(first.await);
        }
        seat = self.lines.as_ref().map(|lines| lines.try_enter(model));
        let candidates = candidates(model, tries.tried, &outgoing.work, tries.bound, clock);
        let picked = policy.pick(View { ask: outgoing.work.ask, candidates: &candidates });
        let second = picked.filter(|_| !matches!(seat, Some(None))).and_then(|picked| {
            let engine = model.engines.get(picked.engine)?;
            let load = Load::within(engine, outgoing.work.load_on(engine.state.slot), tries.bound)?;
            let pass = engine.state.breaker().admit(clock.now()).ok()?;
            Some((picked.engine, engine, load, pass))
        });
        let Some((other, engine, load, pass)) = second else {
            model.knowledge.hedges().give_back();
            return came(first.await);
        };
        tries.tried.push(other);
        *tries.asked += 1;
        let mut second = pin!(async {
            let outcome = self.ask_one(model, engine, pass, load, outgoing, clock).await;
            self.with_first_piece(outcome).await
        });
        let (outcome, by_second) = tokio::select! {
            outcome = first.as_mut() => (outcome, false),
            outcome = second.as_mut() => (outcome, true),
        };
        let count = |won: bool| {
            let counter = if won { &hedge.won } else { &hedge.lost };
            counter.fetch_add(1, Ordering::Relaxed);
        };
        if matches!(outcome, Outcome::Answered(_)) {
            count(by_second);
            return came(outcome);
        }
        // The other one is still at it.
        let rest = if by_second { first.await } else { second.await };
        count(!by_second && matches!(rest, Outcome::Answered(_)));
        if matches!((&outcome, &rest), (Outcome::Lost, Outcome::Lost)) {
            *tries.lost = Some(place);
        }
        came(match rest {
            Outcome::NotReached | Outcome::Lost => outcome,
            Outcome::Answered(_)
            | Outcome::Declined(_)
            | Outcome::Refused(_)
            | Outcome::TimedOut
            | Outcome::Untranslatable(_) => rest,
        })
    }

    /// A stream's head says nothing: it has begun with its first piece.
    async fn with_first_piece(&self, outcome: Outcome) -> Outcome {
        let Outcome::Answered(mut answer) = outcome else { return outcome };
        let kind = answer.response.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        if !kind.starts_with(b"text/event-stream") {
            return Outcome::Answered(answer);
        }
        let body = answer.response.body_mut();
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let trouble = match tokio::time::timeout(self.first_byte, frame).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    body.unread(piece);
                }
                return Outcome::Answered(answer);
            }
            Ok(None) => return Outcome::Answered(answer),
            Ok(Some(Err(_))) => Trouble::Lost,
            Err(_) => Trouble::Timeout,
        };
        answer.engine.metrics.trouble(trouble);
        if trouble == Trouble::Timeout { Outcome::TimedOut } else { Outcome::Lost }
    }
}
