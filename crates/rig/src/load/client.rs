//! One connection of the load generator: writes a request, follows its answer to the end.

use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Tokens;
use crate::message::{BodyReader, field, head_end, number_after, status};

/// The end of an answer is kept for its usage: longer than any usage object.
const TAIL: usize = 2 << 10;
const READ: usize = 16 << 10;

pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    tail: Vec<u8>,
    goes_on: bool,
}

/// How an answer ended.
pub(super) enum End {
    Whole { status: u16, first: Instant, last: Instant, events: u64, bytes: u64, tokens: Tokens },
    Broken,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ), tail: Vec::with_capacity(2 * TAIL), goes_on: true })
    }

    /// Whether it is open and silent, as a connection between two answers has to be.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Whether the server keeps the connection.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }

    pub(super) async fn ask(&mut self, request: &[u8]) -> std::io::Result<End> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        self.tail.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(End::Broken);
            }
            if let Some(end) = head_end(&self.buffer) {
                break end;
            }
        };
        let (first_bytes, rest) = self.buffer.split_at_checked(head).unwrap_or_default();
        let Some(status) = status(first_bytes) else { return Ok(End::Broken) };
        let streamed = field(first_bytes, "content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        self.goes_on = !field(first_bytes, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let mut body = BodyReader::of(first_bytes);
        let mut seen = Seen { tail: &mut self.tail, events: 0, bytes: 0, first: None };
        body.push(rest, |content| seen.take(content));
        let mut piece = Vec::with_capacity(READ);
        while !body.done() {
            piece.clear();
            if self.stream.read_buf(&mut piece).await? == 0 {
                return Ok(End::Broken);
            }
            body.push(&piece, |content| seen.take(content));
        }
        let last = Instant::now();
        let Seen { events, bytes, first, .. } = seen;
        if streamed && memmem::rfind(&self.tail, b"data: [DONE]").is_none() {
            return Ok(End::Broken);
        }
        let count = |key: &[u8]| number_after(&self.tail, key).unwrap_or(0);
        let tokens = Tokens {
            prompt: count(b"\"prompt_tokens\""),
            cached: count(b"\"cached_tokens\""),
            answer: count(b"\"completion_tokens\""),
        };
        // The last event says `[DONE]`.
        Ok(End::Whole { status, first: first.unwrap_or(last), last, events: events.saturating_sub(1), bytes, tokens })
    }
}

/// What has come of an answer.
struct Seen<'t> {
    tail: &'t mut Vec<u8>,
    events: u64,
    bytes: u64,
    first: Option<Instant>,
}

impl Seen<'_> {
    fn take(&mut self, content: &[u8]) {
        if self.first.is_none() {
            self.first = Some(Instant::now());
        }
        self.bytes += u64::try_from(content.len()).unwrap_or(0);
        // An event that is cut in two counts once: only its beginning holds this.
        let before = self.tail.len();
        self.tail.extend_from_slice(content);
        let from = before.saturating_sub(b"data: ".len() - 1);
        let fresh = self.tail.get(from..).unwrap_or_default();
        self.events += u64::try_from(memmem::find_iter(fresh, b"data: ").count()).unwrap_or(0);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
    }
}
