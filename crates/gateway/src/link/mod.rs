//! HTTP/1.1 towards engines, on connections that are driven by the task that relays.
//!
//! Invariant: a connection is kept only if its answer ended exactly where its framing said, and nothing stood behind it; so
//! no byte of one answer can be taken for another's. Interim answers (1xx) are skipped. An engine that answers before it has
//! read the whole request is heard, and its connection then closed.
//!
//! Why not a pooled client: such a client reads in a task of its own and hands pieces through channels, which wakes two tasks
//! for each. Here what one read brings is one piece, however many chunks it holds. Source: RFC 9112.

mod chunks;
mod pool;
mod stream;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{HEAD_BYTES_MAX, HEADERS_MAX};
use chunks::Chunks;
pub(crate) use pool::Pool;
use stream::Stream;
pub(crate) use stream::{poll_read, poll_read_some, poll_write_all};

/// Memory that a connection keeps between two answers.
const KEPT_BYTES: usize = 4 << 10;

/// Where an engine listens.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The name that its certificate must bear.
    pub(crate) tls: Option<ServerName<'static>>,
}

/// A connection to an engine.
pub(crate) struct Link {
    stream: Stream,
    /// Read, and not yet part of an answer.
    ahead: Vec<u8>,
    /// How long it is kept while nobody uses it.
    patience: Duration,
    /// Whether it served a request before.
    pub(crate) used: bool,
}

/// How long a connection may take to open, and to wait for its next request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) open: Duration,
    pub(crate) idle: Duration,
}

impl Link {
    /// # Errors
    /// What connecting or TLS say; [`io::ErrorKind::TimedOut`] when `patience` ends.
    pub(crate) async fn open(place: &Place, tls: &TlsConnector, patience: Patience) -> io::Result<Self> {
        let connect = async {
            let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
            stream.set_nodelay(true)?;
            io::Result::Ok(match &place.tls {
                None => Stream::Plain(stream),
                Some(name) => Stream::Tls(Box::new(tls.connect(name.clone(), stream).await?)),
            })
        };
        let stream = tokio::time::timeout(patience.open, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Self { stream, ahead: Vec::new(), patience: patience.idle, used: false })
    }

    /// Whether it is open and silent, as a connection between two answers has to be.
    fn is_quiet(&mut self) -> bool {
        poll_read(&mut self.stream, &mut Context::from_waker(Waker::noop()), |_| {}).is_pending()
    }

    /// Sends a request and waits for the head of its answer; the connection goes back to `pool` at the answer's end.
    /// # Errors
    /// Whatever kept the answer from coming.
    pub(crate) async fn ask(mut self, head: &[u8], body: &[u8], pool: &Arc<Pool>) -> io::Result<Response<AnswerBody>> {
        let mut reusable = true;
        let mut parts = [head, body, &[]];
        let written = poll_fn(|cx| match poll_write_all(&mut self.stream, cx, &mut parts) {
            // It may have answered already, and not be going to read the rest.
            Poll::Pending => match poll_read(&mut self.stream, cx, |bytes| self.ahead.extend_from_slice(bytes)) {
                Poll::Ready(Ok(1..)) => Poll::Ready(Ok(false)),
                Poll::Ready(Ok(_)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(done) => Poll::Ready(done.map(|()| true)),
        });
        match written.await {
            Ok(whole) => reusable &= whole,
            // It may have said why before it closed.
            Err(_) => reusable = false,
        }
        let head = loop {
            if let Some(head) = self.head()? {
                if head.status() == StatusCode::SWITCHING_PROTOCOLS || !head.status().is_informational() {
                    break head;
                }
                continue;
            }
            let more = poll_fn(|cx| poll_read(&mut self.stream, cx, |bytes| self.ahead.extend_from_slice(bytes)));
            if more.await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let framing = Framing::of(&head)?;
        reusable &= keeps_alive(&head);
        self.used = true;
        let mut body =
            AnswerBody { link: None, framing, pool: reusable.then(|| Arc::clone(pool)), unread: None, whole: None };
        if body.framing.is_over() {
            body.link = Some(self);
            body.end();
        } else {
            body.link = Some(self);
        }
        Ok(head.map(|()| body))
    }

    /// Takes the head of an answer off what was read, if all of it has come.
    fn head(&mut self) -> io::Result<Option<Response<()>>> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(&self.ahead).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial if self.ahead.len() > HEAD_BYTES_MAX => {
                return Err(io::Error::other("a head without end"));
            }
            httparse::Status::Partial => return Ok(None),
        };
        let mut head = Response::new(());
        *head.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        *head.status_mut() = StatusCode::from_u16(parsed.code.unwrap_or(0)).map_err(io::Error::other)?;
        let headers = head.headers_mut();
        headers.reserve(parsed.headers.len());
        // All values share one copy of the head.
        let text = self.ahead.get(..length).unwrap_or_default();
        let shared = Bytes::copy_from_slice(text);
        for field in parsed.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(io::Error::other)?;
            let from = field.value.as_ptr().addr().saturating_sub(text.as_ptr().addr());
            let end = from.saturating_add(field.value.len()).min(shared.len());
            let value = if field.value.is_empty() { Bytes::new() } else { shared.slice(from.min(end)..end) };
            headers.append(name, HeaderValue::from_maybe_shared(value).map_err(io::Error::other)?);
        }
        self.ahead.drain(..length);
        Ok(Some(head))
    }
}

/// How the end of a body is known. Source: RFC 9112, section 6.3.
enum Framing {
    Sized(u64),
    Chunked(Chunks),
    UntilClose,
    Over,
}

impl Framing {
    fn of(head: &Response<()>) -> io::Result<Self> {
        if matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS)
        {
            return Ok(Self::Over);
        }
        let headers = head.headers();
        if let Some(last) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
            let text = last.to_str().map_err(io::Error::other)?;
            let coding = text.rsplit(',').next().unwrap_or_default().trim();
            // An answer with both could be read in two ways by two readers.
            return match (coding.eq_ignore_ascii_case("chunked"), headers.contains_key(CONTENT_LENGTH)) {
                (true, false) => Ok(Self::Chunked(Chunks::new())),
                (false, false) => Ok(Self::UntilClose),
                (_, true) => Err(io::Error::other("an answer with a length and chunks")),
            };
        }
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let Some(first) = lengths.next() else { return Ok(Self::UntilClose) };
        let digits = first.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(length) if lengths.all(|other| other == first) => {
                Ok(if length == 0 { Self::Over } else { Self::Sized(length) })
            }
            _ => Err(io::Error::other("lengths that cannot be read")),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Over => true,
            Self::Sized(left) => *left == 0,
            Self::Chunked(chunks) => chunks.done(),
            Self::UntilClose => false,
        }
    }

    /// Appends the content of `bytes` to `out`; gives how many of them were the body's.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Over => Ok(0),
            Self::UntilClose => {
                out.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Self::Sized(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(bytes.get(..take).unwrap_or(bytes));
                *left = left.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
                Ok(take)
            }
            Self::Chunked(chunks) => {
                out.reserve(bytes.len());
                chunks.push(bytes, out).map_err(|_| io::Error::other("malformed chunks"))
            }
        }
    }
}

/// Whether the engine keeps the connection behind this answer.
fn keeps_alive(head: &Response<()>) -> bool {
    let says = |word: &str| {
        let values = head.headers().get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    if head.version() == Version::HTTP_11 { !says("close") } else { says("keep-alive") }
}

/// The body of an engine's answer. Dropped before its end, it takes its connection with it, which tells the engine.
pub(crate) struct AnswerBody {
    link: Option<Link>,
    framing: Framing,
    /// Where the connection goes at the end, if it can serve again.
    pool: Option<Arc<Pool>>,
    /// A piece that somebody looked at and gave back.
    unread: Option<Bytes>,
    /// What of it was read already.
    whole: Option<Bytes>,
}

impl AnswerBody {
    /// Gives back the piece that was read last.
    pub(crate) fn unread(&mut self, piece: Bytes) {
        self.unread = Some(piece);
    }

    /// One that was read to its end.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { link: None, framing: Framing::Sized(length), pool: None, unread: None, whole: Some(bytes) }
    }

    /// The answer is whole: its connection may serve another one.
    fn end(&mut self) {
        self.framing = Framing::Over;
        let Some(mut link) = self.link.take() else { return };
        if link.ahead.capacity() > KEPT_BYTES {
            link.ahead = Vec::new();
        }
        if let Some(pool) = self.pool.take().filter(|_| link.ahead.is_empty()) {
            pool.keep(link);
        }
    }

    fn broken(&mut self, why: io::Error) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.link = None;
        Poll::Ready(Some(Err(why)))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(piece) = this.unread.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(bytes) = this.whole.take() {
            this.framing = Framing::Over;
            return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
        }
        loop {
            if this.framing.is_over() {
                this.end();
                return Poll::Ready(None);
            }
            let Some(link) = &mut this.link else { return Poll::Ready(None) };
            let mut piece = Vec::new();
            let pushed = if link.ahead.is_empty() {
                let mut pushed = Ok(0);
                let (framing, ahead) = (&mut this.framing, &mut link.ahead);
                let read = poll_read(&mut link.stream, cx, |bytes| {
                    pushed = framing.push(bytes, &mut piece);
                    if let Ok(used) = pushed {
                        ahead.extend_from_slice(bytes.get(used..).unwrap_or_default());
                    }
                });
                match read {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return this.broken(error),
                    Poll::Ready(Ok(0)) if matches!(this.framing, Framing::UntilClose) => {
                        this.pool = None;
                        this.end();
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Ok(0)) => return this.broken(io::ErrorKind::UnexpectedEof.into()),
                    Poll::Ready(Ok(_)) => pushed,
                }
            } else {
                let pushed = this.framing.push(&link.ahead, &mut piece);
                if let Ok(used) = pushed {
                    link.ahead.drain(..used.min(link.ahead.len()));
                }
                pushed
            };
            if let Err(error) = pushed {
                return this.broken(error);
            }
            if this.framing.is_over() {
                this.end();
            }
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.framing.is_over() && self.unread.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let unread = self.unread.as_ref().map_or(0, |piece| u64::try_from(piece.len()).unwrap_or(u64::MAX));
        match &self.framing {
            Framing::Over => SizeHint::with_exact(unread),
            Framing::Sized(left) => SizeHint::with_exact(left.saturating_add(unread)),
            Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
        }
    }
}

/// The content of chunks, how many bytes were theirs, and whether they ended; nothing if they are malformed.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn decode_chunks(pieces: &[&[u8]]) -> Option<(Vec<u8>, usize, bool)> {
    let (mut chunks, mut out, mut used) = (Chunks::new(), Vec::new(), 0);
    for piece in pieces {
        used += chunks.push(piece, &mut out).ok()?;
    }
    Some((out, used, chunks.done()))
}
