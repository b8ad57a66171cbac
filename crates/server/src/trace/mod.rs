//! Traces: what the hall does, as spans in the W3C's context, sent to an OpenTelemetry collector if one is named.
//!
//! A job is one trace. Its context is the caller's (`traceparent` of the submission, which becomes the job's `TRACEPARENT`), or
//! follows from the hall and the job's number; the ids of its spans follow from that, so that a server which takes over goes on with
//! the same ones, and nothing of them is kept. Ranks get the context of their attempt as `TRACEPARENT`.
//!
//! Invariant: nobody waits for a collector. Spans go into a bounded queue; what does not fit is dropped and counted.

mod export;
mod jobs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dh_core::SimTime;
use dh_hall::Job;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{Sender, channel};

use crate::Error;
use crate::body::Handle;

/// Spans on their way to the collector.
const SPANS_WAITING: usize = 8_192;

/// The variable in which programs find the context that they are part of.
pub(crate) const VARIABLE: &str = "TRACEPARENT";

/// A place in a trace. Layout as in W3C Trace Context: 16 and 8 bytes, neither of them all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    trace: [u8; 16],
    /// The span that is meant; none at the root.
    span: Option<[u8; 8]>,
}

impl Context {
    /// Reads a `traceparent`; `None` if it is not one.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut fields = text.trim().split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let small = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        // Later versions may have more fields; the first has four.
        let known = version.len() == 2 && version != "ff" && (version != "00" || fields.next().is_none());
        if !known || !small(version) || !small(trace) || !small(span) || flags.len() != 2 || !small(flags) {
            return None;
        }
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        hex::decode_to_slice(trace, &mut trace_id).ok()?;
        hex::decode_to_slice(span, &mut span_id).ok()?;
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace: trace_id, span: Some(span_id) })
    }

    /// The trace of a job: its caller's, or its own.
    pub(crate) fn of_job(hall: &str, job: &Job) -> Self {
        let callers = job.spec.env.get(VARIABLE).and_then(|text| Self::read(text));
        callers.unwrap_or_else(|| {
            let digest =
                digest(&[b"datahall trace", hall.as_bytes(), &job.id.0.to_be_bytes(), &job.submitted.0.to_be_bytes()]);
            let mut trace = [0; 16];
            trace.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
            Self { trace, span: None }
        })
    }

    /// The span below this one that is called `name`; the same each time.
    pub(crate) fn below(&self, name: &str) -> Self {
        let digest = digest(&[b"datahall span", &self.trace, &self.span.unwrap_or_default(), name.as_bytes()]);
        let mut span = [0; 8];
        span.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self { span: Some(span), ..*self }
    }

    /// A trace that nobody has seen.
    fn fresh() -> Option<Self> {
        let mut trace = [0; 16];
        getrandom::fill(&mut trace).ok()?;
        Some(Self { trace, span: None })
    }

    /// A span below this one that nobody has seen.
    fn fresh_below(&self) -> Option<Self> {
        let mut span = [0; 8];
        getrandom::fill(&mut span).ok()?;
        Some(Self { span: Some(span), ..*self })
    }

    /// As programs and headers have it.
    pub(crate) fn text(&self) -> String {
        format!("00-{}-{}-01", hex::encode(self.trace), hex::encode(self.span.unwrap_or_default()))
    }
}

/// The context that the ranks of an attempt are part of.
pub(crate) fn of_attempt(hall: &str, job: &Job, attempt: u32) -> Context {
    Context::of_job(hall, job).below("job").below(&format!("attempt {attempt}"))
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// What kind of a span it is, by OpenTelemetry's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Work inside.
    Internal = 1,
    /// A request that was answered.
    Server = 2,
}

/// Something that took its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) at: Context,
    /// The span around it.
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) start: SimTime,
    pub(crate) end: SimTime,
    pub(crate) attributes: Vec<(&'static str, String)>,
    /// What went wrong.
    pub(crate) failure: Option<String>,
}

/// Where spans go. Without a collector they go nowhere.
#[derive(Clone, Default)]
pub(crate) struct Tracer {
    to: Option<Sender<Span>>,
    dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// Sends to the collector at `url`, from the async threads, until the server ends.
    pub(crate) fn begin(url: &str, hall: &str) -> Result<Self, Error> {
        let collector = export::Collector::at(url)?;
        let (to, spans) = channel(SPANS_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(export::run(collector, hall.to_owned(), spans, Arc::clone(&dropped)));
        Ok(Self { to: Some(to), dropped })
    }

    /// Whether anybody wants spans.
    pub(crate) const fn is_on(&self) -> bool {
        self.to.is_some()
    }

    /// Hands a span on, or drops it where the queue is full.
    pub(crate) fn send(&self, span: Span) {
        if let Some(to) = &self.to
            && to.try_send(span).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Begins to follow the jobs of a hall.
    pub(crate) fn follow(&self, hall: &Handle, name: &str) {
        if self.is_on() {
            tokio::spawn(jobs::follow(self.clone(), hall.clone(), name.to_owned()));
        }
    }

    /// Where a request is in its caller's trace, or in one of its own.
    pub(crate) fn request(&self, traceparent: Option<&str>) -> Option<(Context, Option<[u8; 8]>)> {
        if !self.is_on() {
            return None;
        }
        let around = match traceparent.and_then(Context::read) {
            Some(callers) => callers,
            None => Context::fresh()?,
        };
        Some((around.fresh_below()?, around.span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_read_as_the_standard_has_them_and_nothing_else() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(Context::read(text).unwrap().text(), text);
        assert!(Context::read("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
        for wrong in [
            "",
            "00-1-2-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert_eq!(Context::read(wrong), None, "{wrong}");
        }
        let at = Context::read(text).unwrap();
        assert_eq!(at.below("job"), at.below("job"));
        assert_ne!(at.below("job"), at.below("attempt 1"));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (to, mut spans) = channel(1);
        let tracer = Tracer { to: Some(to), dropped: Arc::default() };
        let at = Context::fresh().unwrap();
        let span = Span {
            at,
            parent: None,
            name: "x".to_owned(),
            kind: Kind::Internal,
            start: SimTime(1),
            end: SimTime(2),
            attributes: Vec::new(),
            failure: None,
        };
        tracer.send(span.clone());
        tracer.send(span.clone());
        assert_eq!(tracer.dropped.load(Ordering::Relaxed), 1);
        assert_eq!(spans.try_recv().unwrap(), span);
        Tracer::default().send(span);
    }
}
