//! An answer on its way to everybody who asked for it: one task reads it, all others read along.
//!
//! Invariant: the engine is asked as long as anybody reads, and given up when nobody does. Each reader gets every piece from the
//! first one on, as it comes. An answer that is too long to be kept is no longer joined, and its reader in front waits for the
//! one behind, so that memory has a bound.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;

/// The head of an answer.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whether another try would not change it.
    pub(super) hopeless: bool,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

#[derive(Debug, Default)]
struct Reader {
    /// Pieces that it has read.
    pieces: usize,
    bytes: usize,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct State {
    head: Option<Head>,
    pieces: Vec<Bytes>,
    /// Pieces that all have read and that are gone.
    dropped: usize,
    bytes: usize,
    end: Option<End>,
    readers: BTreeMap<u64, Reader>,
    next_reader: u64,
    /// Nobody may join any more.
    closed: bool,
    producer: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Flight {
    state: Mutex<State>,
    /// Bytes of an answer that is kept.
    bytes_max: usize,
}

impl Flight {
    /// A new one, and its first reader.
    pub(super) fn start(bytes_max: usize) -> (Arc<Self>, Reading) {
        let state = State { readers: BTreeMap::from([(0, Reader::default())]), next_reader: 1, ..State::default() };
        let flight = Arc::new(Self { state: Mutex::new(state), bytes_max });
        let reading = Reading { flight: Arc::clone(&flight), number: 0 };
        (flight, reading)
    }

    // No step under this lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more reader, unless it is too late.
    pub(super) fn join(self: &Arc<Self>) -> Option<Reading> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let number = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(number, Reader::default());
        drop(state);
        Some(Reading { flight: Arc::clone(self), number })
    }

    /// Ready when nobody reads; then nobody may join either.
    pub(super) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.readers.is_empty() {
            state.closed = true;
            return Poll::Ready(());
        }
        state.producer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when there is room for the next piece, or nobody reads.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let slowest = state.readers.values().map(|reader| reader.bytes).min();
        let ahead = slowest.map_or(0, |slowest| state.bytes - slowest);
        if ahead <= self.bytes_max {
            return Poll::Ready(());
        }
        state.producer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn begin(&self, head: Head) {
        let mut state = self.lock();
        state.head = Some(head);
        state.wake_readers();
    }

    pub(super) fn push(&self, piece: Bytes) {
        let mut state = self.lock();
        state.bytes += piece.len();
        state.pieces.push(piece);
        if state.bytes > self.bytes_max {
            state.closed = true;
            state.forget();
        }
        state.wake_readers();
    }

    /// The end, unless it has ended. Gives the answer as one piece if it is whole and not too long.
    pub(super) fn end(&self, whole: bool) -> Option<(Head, Bytes)> {
        let mut state = self.lock();
        if state.end.is_some() {
            return None;
        }
        state.end = Some(if whole { End::Whole } else { End::Broken });
        state.closed = true;
        state.wake_readers();
        let all = whole && state.dropped == 0 && state.bytes <= self.bytes_max;
        let head = state.head.clone().filter(|_| all)?;
        Some((head, Bytes::from(state.pieces.concat())))
    }
}

impl State {
    fn wake_readers(&mut self) {
        for reader in self.readers.values_mut() {
            if let Some(waker) = reader.waker.take() {
                waker.wake();
            }
        }
    }

    /// Drops the pieces that everybody has read.
    fn forget(&mut self) {
        let read = self.readers.values().map(|reader| reader.pieces).min().unwrap_or(self.dropped);
        let over = read.saturating_sub(self.dropped).min(self.pieces.len());
        self.pieces.drain(..over);
        self.dropped += over;
    }
}

/// One who reads; leaves when dropped.
#[derive(Debug)]
pub(super) struct Reading {
    flight: Arc<Flight>,
    number: u64,
}

impl Reading {
    /// The head, once it has come; nothing if it never will.
    pub(super) async fn head(&self) -> Option<Head> {
        std::future::poll_fn(|cx| {
            let mut state = self.flight.lock();
            if state.head.is_some() || state.end.is_some() {
                return Poll::Ready(state.head.clone());
            }
            if let Some(reader) = state.readers.get_mut(&self.number) {
                reader.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// The answer broke off, and so does what is read.
#[derive(Debug, thiserror::Error)]
#[error("the engine broke off its answer")]
pub(super) struct BrokenOff;

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut state = self.flight.lock();
        let State { pieces, dropped, end, readers, closed, producer, .. } = &mut *state;
        let Some(reader) = readers.get_mut(&self.number) else { return Poll::Ready(None) };
        let piece = reader.pieces.checked_sub(*dropped).and_then(|place| pieces.get(place)).cloned();
        let Some(piece) = piece else {
            return match end {
                Some(End::Whole) => Poll::Ready(None),
                Some(End::Broken) => Poll::Ready(Some(Err(BrokenOff))),
                None => {
                    reader.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        reader.pieces += 1;
        reader.bytes += piece.len();
        if *closed && end.is_none() {
            if let Some(producer) = producer.take() {
                producer.wake();
            }
            state.forget();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.readers.remove(&self.number);
        if let Some(producer) = state.producer.take() {
            producer.wake();
        }
    }
}
