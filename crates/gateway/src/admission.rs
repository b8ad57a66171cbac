//! How much work the gateway takes at once, and the reading of bodies within it.
//!
//! Invariant: requests under way and bytes of request bodies in memory each have a bound, whatever clients send. What does
//! not fit is refused at once, never queued here: a client that waits in a queue it cannot see only adds load.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::{Error, GatewayConfig};

/// Body bytes are counted in pieces of this size, so that the count fits a semaphore.
const UNIT_BYTES: usize = 1 << 10;

pub(crate) struct Admission {
    in_flight: Arc<Semaphore>,
    in_flight_max: usize,
    buffered: Arc<Semaphore>,
    body_bytes_max: usize,
    body_gap: Duration,
    body_total: Duration,
}

/// A request body, and its share of the memory.
#[derive(Default)]
pub(crate) struct Buffered {
    pub(crate) bytes: Bytes,
    share: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let in_flight_max = config.in_flight_max.min(Semaphore::MAX_PERMITS);
        Self {
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            in_flight_max,
            buffered: Arc::new(Semaphore::new((config.buffered_bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS))),
            body_bytes_max: config.body_bytes_max,
            body_gap: config.timeouts.body_gap,
            body_total: config.timeouts.body_total,
        }
    }

    /// A place for one more request, held until the answer has ended.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| Error::Busy("too many requests are under way"))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight_max - self.in_flight.available_permits().min(self.in_flight_max)
    }

    /// The length of a body that a request announces, if it may have that.
    pub(crate) fn fits(&self, length: u64) -> Result<usize, Error> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.body_bytes_max);
        length.ok_or(Error::TooLarge(self.body_bytes_max))
    }

    /// Reads a body within all bounds. A body that arrived in one piece is not copied.
    pub(crate) async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Buffered, Error> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = announced {
            self.fits(length)?;
        }
        let deadline = Instant::now() + self.body_total;
        let mut held = Buffered { bytes: Bytes::new(), share: None };
        let mut grown = BytesMut::new();
        loop {
            let next = timeout_at(deadline.min(Instant::now() + self.body_gap), body.frame());
            let Some(frame) = next.await.map_err(|_| Error::SlowBody)? else { break };
            let Ok(piece) = frame.map_err(|_| Error::BrokenBody)?.into_data() else { continue };
            let total = held.bytes.len() + grown.len() + piece.len();
            if total > self.body_bytes_max {
                return Err(Error::TooLarge(self.body_bytes_max));
            }
            self.reserve(&mut held, total)?;
            if held.bytes.is_empty() && grown.is_empty() {
                held.bytes = piece;
            } else {
                if grown.is_empty() {
                    grown.extend_from_slice(&std::mem::take(&mut held.bytes));
                }
                grown.extend_from_slice(&piece);
            }
            if body.is_end_stream() {
                break;
            }
        }
        if !grown.is_empty() {
            held.bytes = grown.freeze();
        }
        Ok(held)
    }

    /// Makes the share of `held` enough for `total` bytes.
    pub(crate) fn reserve(&self, held: &mut Buffered, total: usize) -> Result<(), Error> {
        let have = held.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(total.div_ceil(UNIT_BYTES).saturating_sub(have)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let share = Arc::clone(&self.buffered)
            .try_acquire_many_owned(more)
            .map_err(|_| Error::Busy("request bodies fill its memory"))?;
        match &mut held.share {
            Some(present) => present.merge(share),
            none => *none = Some(share),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dh_core::HasKind as _;
    use futures::stream;

    fn admission(body: usize, buffered: usize) -> Admission {
        let config = GatewayConfig {
            body_bytes_max: body,
            buffered_bytes_max: buffered,
            in_flight_max: 2,
            ..Default::default()
        };
        Admission::new(&config)
    }

    fn chunked(pieces: &[usize]) -> Body {
        let pieces: Vec<_> = pieces.iter().map(|&size| Ok::<_, std::io::Error>(vec![b'x'; size])).collect();
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn bodies_are_read_whole_up_to_the_limit() {
        let admission = admission(4_096, 1 << 20);
        let none = HeaderMap::new();
        assert_eq!(admission.read(&none, chunked(&[])).await.unwrap().bytes.len(), 0);
        assert_eq!(admission.read(&none, chunked(&[1, 0, 2_000, 2_095])).await.unwrap().bytes.len(), 4_096);
        let refused = admission.read(&none, chunked(&[4_000, 97])).await.err().unwrap();
        assert_eq!(refused.status().as_u16(), 413);
        let long = HeaderMap::from_iter([(CONTENT_LENGTH, 4_097.into())]);
        assert!(matches!(admission.read(&long, chunked(&[])).await, Err(Error::TooLarge(4_096))));
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_bound_and_give_their_share_back() {
        let admission = admission(8_192, 8_192);
        let first = admission.read(&HeaderMap::new(), chunked(&[5_000])).await.unwrap();
        let refused = admission.read(&HeaderMap::new(), chunked(&[2_000, 2_000])).await.err().unwrap();
        assert_eq!(refused.status().as_u16(), 429);
        assert!(refused.kind().retryable());
        drop(first);
        assert!(admission.read(&HeaderMap::new(), chunked(&[2_000, 2_000, 4_000])).await.is_ok());
        assert_eq!(admission.buffered.available_permits(), 8);
    }

    #[tokio::test]
    async fn places_are_counted() {
        let admission = admission(1, 1);
        let places = (admission.enter().unwrap(), admission.enter().unwrap());
        assert_eq!(admission.in_flight(), 2);
        assert_eq!(admission.enter().err().unwrap().status().as_u16(), 429);
        drop(places);
        assert_eq!(admission.in_flight(), 0);
    }
}
