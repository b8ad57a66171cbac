//! Passes an answer on as it comes, and watches it go by.
//!
//! Invariant: each piece that an engine sends is handed on at once, as the same bytes, before anything else is read. If the
//! engine fails midway the caller can tell: a stream of events gets an error event, any other answer is cut off. When the
//! caller goes away this body is dropped, and with it the connection to the engine. Whatever the end, it is counted once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dh_core::time::Clock;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use crate::access::Caller;
use crate::accounts::{Charge, Used};
use crate::bill;
use crate::breaker::Pass;
use crate::config::Price;
use crate::engines::{Engine, Load, Model};
use crate::headers;
use crate::lines::Seat;
use crate::link::AnswerBody;
use crate::metrics::Trouble;
use crate::plan::Belief;
use crate::pools::ReadBy;
use crate::sse::SseScanner;
use crate::upstream::Answer;
use crate::usage::{Usage, UsageFinder};

/// What happened before the answer came.
pub(crate) struct Begun {
    pub(crate) caller: Caller,
    pub(crate) model: Arc<Model>,
    pub(crate) started: Instant,
    pub(crate) stream: bool,
    /// Held until the answer has ended.
    pub(crate) _place: OwnedSemaphorePermit,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chunk_gap: Duration,
    /// What the caller reserved; settled when the answer has ended.
    pub(crate) charge: Option<Charge>,
    /// The right to be under way on the model.
    pub(crate) seat: Option<Seat>,
    /// Set when the answer has ended whole and well.
    pub(crate) whole: Option<Arc<AtomicBool>>,
    /// Who read the prompt, if another engine writes the answer.
    pub(crate) read_by: Option<ReadBy>,
    /// What the model costs, where that is said.
    pub(crate) price: Option<Price>,
}

pub(crate) struct Relay {
    inner: Option<AnswerBody>,
    /// Whether the length announced by the engine still holds.
    sized: bool,
    gap: Duration,
    last_piece: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    watch: Watch,
}

/// Counts and logs the answer when it is dropped, which is when the answer has ended, one way or another.
struct Watch {
    begun: Begun,
    engine: Arc<Engine>,
    load: Load,
    belief: Belief,
    pieces: u64,
    status: StatusCode,
    events: Option<SseScanner>,
    usage: Option<UsageFinder>,
    first_event: Option<Duration>,
    last_event: Instant,
    end: End,
    /// Dropped last: who is called then finds the engine with room.
    seat: Option<Seat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    CallerLeft,
    Whole,
    EngineFailed,
}

/// The answer for the caller.
pub(crate) fn relay(answer: Answer, mut begun: Begun) -> http::Response<axum::body::Body> {
    let Answer { response, engine, load, belief, .. } = answer;
    let (parts, inner) = response.into_parts();
    let is = |kind: &str| media_type(&parts.headers).is_some_and(|found| found.eq_ignore_ascii_case(kind));
    let events = is("text/event-stream").then(SseScanner::default);
    let usage = (events.is_some() || is("application/json")).then(UsageFinder::new);
    let mut headers = HeaderMap::new();
    headers::for_caller(&parts.headers, &mut headers);
    if events.is_some() {
        // An error event may lengthen the stream.
        headers.remove(CONTENT_LENGTH);
    }
    let relay = Relay {
        inner: Some(inner),
        sized: events.is_none(),
        gap: begun.chunk_gap,
        last_piece: Instant::now(),
        timer: None,
        watch: Watch {
            last_event: begun.started,
            seat: begun.seat.take(),
            begun,
            engine,
            load,
            belief,
            pieces: 0,
            status: parts.status,
            events,
            usage,
            first_event: None,
            end: End::CallerLeft,
        },
    };
    let mut response = http::Response::new(axum::body::Body::new(relay));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    response
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

impl Relay {
    /// The engine failed after its answer began.
    fn broken(&mut self, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        self.inner = None;
        self.timer = None;
        Poll::Ready(Some(self.watch.broken(why).map(Frame::data)))
    }

    /// Whether the engine has been silent for too long. The timer is set once and looked at again when it fires, since
    /// moving it for each piece would cost more than relaying the piece.
    fn silent_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.last_piece + self.gap;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
        false
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BrokenAnswer;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        let this = self.get_mut();
        loop {
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            match Pin::new(inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are for this hop.
                    let Ok(piece) = frame.into_data() else { continue };
                    this.last_piece = Instant::now();
                    this.watch.see(&piece, this.last_piece);
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Poll::Ready(Some(Err(_))) => return this.broken("the engine broke off its answer"),
                Poll::Ready(None) => {
                    this.inner = None;
                    this.watch.end = End::Whole;
                    return Poll::Ready(None);
                }
                Poll::Pending if this.silent_too_long(cx) => return this.broken("the engine went silent"),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) if self.sized => inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A body of known length is not always polled once more after its last piece.
        if self.inner.as_ref().is_some_and(Body::is_end_stream) {
            self.watch.end = End::Whole;
        }
    }
}

impl Watch {
    fn see(&mut self, piece: &[u8], now: Instant) {
        if let Some(usage) = &mut self.usage {
            usage.push(piece);
        }
        let Some(events) = &mut self.events else { return };
        let mut count = events.push(piece);
        self.pieces += count;
        if count > 0 && self.first_event.is_none() {
            let waited = now - self.begun.started;
            self.first_event = Some(waited);
            self.load.first_token(waited);
            self.begun.model.metrics.first_token(waited);
            if let Some(seat) = &self.seat {
                seat.first_token(waited);
            }
            self.last_event = now;
            count -= 1;
        }
        if let Some(each) = u32::try_from(count).ok().and_then(|count| (now - self.last_event).checked_div(count)) {
            self.begun.model.metrics.tokens(each, count);
            self.last_event = now;
        }
    }

    /// What the caller owes: what the engine counted; if it did not, what came, an event for a token, or all that was
    /// reserved for an answer that came whole.
    fn used(&self, usage: Option<Usage>) -> Used {
        match (usage, self.end) {
            (Some(usage), _) => Used::Counted(usage),
            // An engine's refusal costs nothing.
            (None, _) if !self.status.is_success() => Used::Nothing,
            (None, End::Whole) if self.events.is_none() => Used::All,
            (None, _) => Used::Pieces(self.pieces),
        }
    }

    fn broken(&mut self, why: &'static str) -> Result<Bytes, BrokenAnswer> {
        self.end = End::EngineFailed;
        self.engine.metrics.trouble(Trouble::MidStream);
        self.engine.state.breaker().failed(Pass::Normal, self.begun.clock.now());
        let Some(events) = &self.events else { return Err(BrokenAnswer(why)) };
        // What was begun is ended first, so that the error stands in an event of its own.
        let open = if events.at_boundary() { "" } else { "\n\n" };
        let event = format!(
            "{open}data: {{\"error\":{{\"message\":\"{why}\",\"type\":\"server_error\",\"param\":null,\"code\":\"engine_lost\"}}}}\n\n"
        );
        Ok(Bytes::from(event))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let model = &self.begun.model;
        if self.events.as_ref().is_some_and(SseScanner::is_done) {
            // Many clients hang up as soon as they have read `[DONE]`.
            self.end = End::Whole;
        }
        if let Some(whole) = self.begun.whole.take() {
            whole.store(self.end == End::Whole && self.status == StatusCode::OK, Ordering::Release);
        }
        let code = match self.end {
            End::Whole => self.status.as_u16(),
            End::CallerLeft => 499,
            End::EngineFailed => 502,
        };
        let took = self.begun.started.elapsed();
        model.metrics.answered(code);
        model.metrics.took(took);
        let usage = self.usage.as_ref().and_then(UsageFinder::found);
        if let Some(usage) = usage {
            model.metrics.used(usage);
            model.knowledge.learn(self.belief, usage);
        }
        let own = self.engine.facts.price.filter(|_| self.begun.price.is_none());
        if let Some(charge) = self.begun.charge.take() {
            charge.settle(self.used(usage), own);
        }
        let bill = usage.map(|usage| bill::bill(&self.engine, &self.begun, usage)).unwrap_or_default();
        model.metrics.billed(bill);
        tracing::info!(
            target: "dh_gateway::access",
            request_id = ?self.begun.caller.request_id,
            caller = self.begun.caller.name,
            model = &*model.name,
            engine = self.engine.id,
            stream = self.begun.stream,
            status = self.status.as_u16(),
            end = ?self.end,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            first_token_ms = self.first_event.map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
            prompt_tokens = usage.and_then(|usage| usage.prompt_tokens),
            cached_tokens = usage.and_then(|usage| usage.cached_tokens),
            completion_tokens = usage.and_then(|usage| usage.completion_tokens),
            cost_usd = bill.micro_usd.map(bill::decimal),
            joules = bill.micro_joules.map(bill::decimal),
            "answered"
        );
    }
}

/// Makes the server cut the connection, so that the caller does not take a part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BrokenAnswer(&'static str);
