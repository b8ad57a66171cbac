//! The server side of a connection: plain requests are read, answered and relayed by one task without anything between.
//!
//! Invariant: whatever is not plain (see [`head`]) goes to hyper and the router, with every byte that was read; from then on
//! the connection is theirs. A caller that leaves ends its request at once, and so the engine's. Every wait has a bound.
//! Requests may be pipelined: what came early waits.
//!
//! Why not hyper alone: half of the instructions of a short request were spent between it, the router and the handler, and its
//! buffers alone took 16 KB of each open stream.

mod answer;
mod buffer;
mod head;
mod rewind;
mod timer;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use bytes::{BufMut as _, Bytes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::{self, Caller, REQUEST_ID};
use crate::admission::Buffered;
use crate::config::{HEAD_BYTES_MAX, HEADERS_MAX};
use crate::link::{poll_read, poll_read_some};
use crate::stall::StallGuard;
use crate::{Error, Gateway, handlers};
use answer::Sent;
use buffer::Buffer;
use head::{Head, Last, Parsed};
use rewind::Rewind;
use timer::Timer;

/// Enough for the head of nearly every request, and the whole of a short one.
const FIRST_BYTES: usize = 16 << 10;
/// Where the last body was longer than that, the next one is likely, too: its head alone, so that little of it is copied twice.
const HEAD_BYTES: usize = 2 << 10;
/// Bytes of further requests that are read while one is answered.
const AHEAD_MAX: usize = 64 << 10;
/// Memory that a connection keeps between two requests.
const KEPT_BYTES: usize = 4 << 10;
/// A client whose body is refused may read why for so long.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// One connection of a client.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Read: the head of the present request, if any, and what stands behind it.
    got: Vec<u8>,
    /// Bytes of that head.
    begun: usize,
    /// Bytes that the first read of the next request takes.
    first: usize,
    timer: Timer,
    gateway: Gateway,
    /// Its sender is dropped when the gateway stops.
    stopped: watch::Receiver<()>,
}

/// What comes next.
enum Next {
    Request(Head),
    Other,
    Closed,
}

/// How a request ended for its connection.
enum Done {
    GoesOn,
    Closes,
    /// As `Closes`, and the client may still be sending.
    Unread,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, gateway: Gateway, stopped: watch::Receiver<()>) -> Self {
        Self { stream, got: Vec::new(), begun: 0, first: FIRST_BYTES, timer: Timer::default(), gateway, stopped }
    }

    /// Serves it to its end.
    pub(crate) async fn serve(mut self, router: &Router) {
        if let Err(error) = self.stream.set_nodelay(true) {
            // The peer is gone already; serving it would fail likewise.
            tracing::debug!(%error, "connection ended before it began");
            return;
        }
        let mut stopped = self.stopped.clone();
        // One future for all waits, since making one costs a lock.
        let mut stop = pin!(async move { drop(stopped.changed().await) });
        loop {
            let next = self.next(|cx| stop.as_mut().poll(cx)).await;
            let done = match next {
                Next::Request(head) => self.request(head).await,
                Next::Other => return self.by_hyper(router.clone()).await,
                Next::Closed => return,
            };
            match done {
                Done::GoesOn if self.stopped.has_changed().is_ok() => {}
                Done::GoesOn | Done::Closes => return,
                Done::Unread => return self.linger().await,
            }
            if self.got.capacity() > KEPT_BYTES && self.got.len() <= KEPT_BYTES {
                self.got.shrink_to(KEPT_BYTES);
            }
        }
    }

    /// Waits for the head of the next request.
    async fn next(&mut self, mut stop: impl FnMut(&mut Context<'_>) -> Poll<()>) -> Next {
        let deadline = Instant::now() + self.gateway.shared.config.timeouts.head;
        loop {
            if !self.got.is_empty() {
                match head::parse(&self.got) {
                    Parsed::Plain(head, length) => {
                        self.begun = length;
                        return Next::Request(head);
                    }
                    Parsed::Other => return Next::Other,
                    Parsed::Partial => {}
                }
            }
            let Self { stream, got, timer, first, .. } = self;
            let more = poll_fn(|cx| {
                // A long body is read where it will stay.
                if let Poll::Ready(read) = poll_read_some(stream, *first, cx, |bytes| got.extend_from_slice(bytes)) {
                    return Poll::Ready(read.unwrap_or(0));
                }
                if timer.passed(cx, deadline) {
                    return Poll::Ready(0);
                }
                // A request whose head has begun is still served.
                if got.is_empty() { stop(cx).map(|()| 0) } else { Poll::Pending }
            });
            if more.await == 0 {
                return Next::Closed;
            }
        }
    }

    async fn request(&mut self, head: Head) -> Done {
        let started = Instant::now();
        let gateway = self.gateway.clone();
        let request_id = access::request_id(&head.headers);
        let mut unread = true;
        let mut response = match access::caller(&*gateway.shared.auth, &head.headers) {
            Err(error) => {
                let nobody = Caller { name: String::new(), request_id: request_id.clone() };
                handlers::refuse(&gateway, error, &nobody, None, started)
            }
            Ok(principal) => {
                let caller = Caller { name: principal.name, request_id: request_id.clone() };
                let read = self.body(&gateway, head.length).await;
                if self.got.is_empty() && self.got.capacity() > KEPT_BYTES {
                    self.got = Vec::new();
                }
                unread = read.is_err();
                // On the heap and gone before the answer is relayed, so that an open stream does not carry its room.
                let answer = Box::pin(handlers::answer(&gateway, caller, &head.headers, head.path, started, read));
                let Some(response) = self.unless_left(answer).await else { return Done::Closes };
                response
            }
        };
        response.headers_mut().insert(REQUEST_ID, request_id);
        let last = if unread || self.stopped.has_changed().is_err() { Last::Closes } else { head.last };
        match self.send(response, last).await {
            Sent::Whole if unread => Done::Unread,
            Sent::Whole if last == Last::GoesOn => Done::GoesOn,
            Sent::Whole | Sent::Broken => Done::Closes,
        }
    }

    /// What `answer` gives; nothing if the client leaves before.
    async fn unless_left(&mut self, answer: impl Future<Output = Response>) -> Option<Response> {
        let mut answer = pin!(answer);
        let Self { stream, got, .. } = self;
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => poll_left(stream, got, cx).map(|()| None),
        })
        .await
    }

    /// Admits a request and reads its body, within all bounds.
    async fn body(&mut self, gateway: &Gateway, length: u64) -> Result<handlers::Admitted, Error> {
        let admission = &gateway.shared.admission;
        let place = admission.enter()?;
        let length = admission.fits(length)?;
        self.first = if length > FIRST_BYTES { HEAD_BYTES } else { FIRST_BYTES };
        let mut body = Buffered::default();
        let begun = std::mem::take(&mut self.begun);
        let end = begun.saturating_add(length);
        if let Some(bytes) = self.got.get(begun..end) {
            admission.reserve(&mut body, length)?;
            body.bytes = Bytes::copy_from_slice(bytes);
            self.got.drain(..end);
            return Ok((place, body));
        }
        let timeouts = &gateway.shared.config.timeouts;
        let start = Instant::now();
        // With room for one byte more, a read that ends the body is not full, so nobody has to ask whether more is there.
        let mut buffer = Buffer::new(length.saturating_add(1));
        let bytes = &mut buffer.0;
        bytes.extend_from_slice(self.got.get(begun..).unwrap_or_default());
        self.got.clear();
        while bytes.len() < length {
            admission.reserve(&mut body, bytes.len())?;
            let deadline = (start + timeouts.body_total).min(Instant::now() + timeouts.body_gap);
            let room = length.saturating_add(1) - bytes.len();
            let Self { stream, timer, .. } = self;
            let mut into = (&mut *bytes).limit(room);
            let mut read = pin!(stream.read_buf(&mut into));
            let count = poll_fn(|cx| match read.as_mut().poll(cx) {
                Poll::Ready(read) => Poll::Ready(read.map_err(|_| Error::BrokenBody)),
                Poll::Pending if timer.passed(cx, deadline) => Poll::Ready(Err(Error::SlowBody)),
                Poll::Pending => Poll::Pending,
            });
            if count.await? == 0 {
                return Err(Error::BrokenBody);
            }
        }
        // What is beyond is the next request's.
        self.got.extend(bytes.drain(length..));
        admission.reserve(&mut body, length)?;
        body.bytes = Bytes::from_owner(buffer);
        Ok((place, body))
    }

    /// Lets a client that is still sending read why it was refused: closing now would take the answer from it.
    async fn linger(mut self) {
        let rest = async {
            self.stream.shutdown().await?;
            let mut seen = 0;
            while seen < LINGER_BYTES {
                match poll_fn(|cx| poll_read(&mut self.stream, cx, |_| {})).await? {
                    0 => break,
                    count => seen += count,
                }
            }
            std::io::Result::Ok(())
        };
        drop(tokio::time::timeout(LINGER, rest).await);
    }

    async fn by_hyper(self, router: Router) {
        let Self { stream, got, gateway, mut stopped, .. } = self;
        let timeouts = &gateway.shared.config.timeouts;
        let io = TokioIo::new(StallGuard::new(Rewind { first: got, stream }, timeouts.write_stall));
        // On the heap, so that plain connections do not carry its room.
        let mut connection = Box::pin(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(timeouts.head)
                .max_headers(HEADERS_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(io, TowerToHyperService::new(router)),
        );
        let result = tokio::select! {
            result = connection.as_mut() => result,
            // The sender says nothing; it is dropped when the gateway stops.
            _ = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// Ready when the client has gone; what it sends meanwhile is kept for later.
fn poll_left(stream: &mut TcpStream, got: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<()> {
    while got.len() < AHEAD_MAX {
        match ready!(poll_read(stream, cx, |bytes| got.extend_from_slice(bytes))) {
            Ok(1..) => {}
            Ok(_) | Err(_) => return Poll::Ready(()),
        }
    }
    Poll::Pending
}

/// Bytes of the plain head that `got` begins with.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn parse_head(got: &[u8]) -> Option<usize> {
    match head::parse(got) {
        Parsed::Plain(_, length) => Some(length),
        Parsed::Partial | Parsed::Other => None,
    }
}
