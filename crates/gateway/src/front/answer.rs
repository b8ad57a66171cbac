//! Writes an answer: its head with the first piece if that is there already, each further piece as it comes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::Write as _;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use hyper::body::Body as _;
use tokio::time::Instant;

use super::head::Last;
use super::{Connection, poll_left};
use crate::link::poll_write_all;

/// How an answer went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    /// The client left, or the answer broke off: only closing the connection says so.
    Broken,
}

/// How the client knows the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Sized(u64),
    Chunked,
    None,
}

/// The next thing to do.
enum Step {
    Piece(Bytes),
    End,
    /// Nothing is there yet, and the head has not been sent.
    Waiting,
    Broken,
}

impl Connection {
    /// Sends `response`; with [`Last::Closes`] it says that the connection ends with it.
    pub(super) async fn send(&mut self, response: Response, last: Last) -> Sent {
        let (parts, mut body) = response.into_parts();
        let framing = framing(parts.status, &body);
        let mut before = Vec::with_capacity(512);
        head(&mut before, parts.status, &parts.headers, framing, last);
        let mut sent = 0_u64;
        loop {
            let mut ended = false;
            let (piece, after): (Bytes, &[u8]) = match self.step(&mut body, before.is_empty()).await {
                Step::Broken => return Sent::Broken,
                Step::Waiting => (Bytes::new(), b""),
                Step::End => {
                    ended = true;
                    (Bytes::new(), if framing == Framing::Chunked { b"0\r\n\r\n" } else { b"" })
                }
                Step::Piece(piece) => {
                    ended = body.is_end_stream();
                    sent = sent.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                    let mut after: &[u8] = b"";
                    if framing == Framing::Chunked {
                        // Writing to a vector cannot fail.
                        let _infallible = write!(before, "{:x}\r\n", piece.len());
                        after = if ended { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                    }
                    (piece, after)
                }
            };
            if matches!(framing, Framing::Sized(length) if sent > length || (ended && sent < length)) {
                return Sent::Broken;
            }
            if !self.write(&mut [&before, &piece, after]).await {
                return Sent::Broken;
            }
            if ended {
                return Sent::Whole;
            }
            before.clear();
        }
    }

    async fn step(&mut self, body: &mut Body, patient: bool) -> Step {
        let Self { stream, got, .. } = self;
        poll_fn(|cx| {
            loop {
                return match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(piece) if !piece.is_empty() => Poll::Ready(Step::Piece(piece)),
                        // Trailers are for one hop, and a chunk without content would end the body.
                        Ok(_) | Err(_) => continue,
                    },
                    Poll::Ready(Some(Err(_))) => Poll::Ready(Step::Broken),
                    Poll::Ready(None) => Poll::Ready(Step::End),
                    Poll::Pending if patient => poll_left(stream, got, cx).map(|()| Step::Broken),
                    Poll::Pending => Poll::Ready(Step::Waiting),
                };
            }
        })
        .await
    }

    /// Writes all parts; tells whether the client took them in time.
    async fn write(&mut self, parts: &mut [&[u8]; 3]) -> bool {
        let patience = self.gateway.shared.config.timeouts.write_stall;
        let Self { stream, timer, .. } = self;
        let mut since: Option<(usize, Instant)> = None;
        poll_fn(|cx| {
            if let Poll::Ready(result) = poll_write_all(stream, cx, parts) {
                return Poll::Ready(result.is_ok());
            }
            // Patience begins anew with every byte that goes.
            let left = parts.iter().map(|part| part.len()).sum();
            let (_, stalled) = *match since {
                Some((before, _)) if before == left => {
                    since.insert((left, since.map_or_else(Instant::now, |(_, at)| at)))
                }
                _ => since.insert((left, Instant::now())),
            };
            if timer.passed(cx, stalled + patience) { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }
}

fn framing(status: StatusCode, body: &Body) -> Framing {
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Framing::None;
    }
    body.size_hint().exact().map_or(Framing::Chunked, Framing::Sized)
}

fn head(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, framing: Framing, last: Last) {
    // Writing to a vector cannot fail.
    let _infallible = write!(out, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    for (name, value) in headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != CONNECTION {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    if !headers.contains_key(DATE) {
        date(out);
    }
    match framing {
        Framing::Sized(length) => {
            let _infallible = write!(out, "content-length: {length}\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None => {}
    }
    if last == Last::Closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The time, which changes once a second.
fn date(out: &mut Vec<u8>) {
    thread_local! {
        static PRESENT: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    PRESENT.with_borrow_mut(|(second, text)| {
        if *second != now {
            *second = now;
            *text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(now));
        }
        for part in ["date: ", text, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    });
}
