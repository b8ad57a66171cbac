//! A request's body on its way in: its framing, its hash, its trailers, its bounds.
//!
//! Invariant: [`Payload::next`] says that the body has ended only after everything that the request claims about it was
//! verified. Memory: what hyper hands over, nothing is gathered but by [`Payload::document`].

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ring::digest;

use super::fault::Fault;
use super::framing::Framing;
use super::sign::same;

/// How long a client may take to send the next piece of a body.
const PIECE_TIMEOUT: Duration = Duration::from_mins(1);

/// The largest document; a completion of 10,000 parts with checksums has about 2 MiB.
pub(super) const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// How the bytes are wrapped.
pub(super) enum Wrapping {
    Plain,
    Framed(Box<Framing>),
}

/// A body that is read.
pub(super) struct Payload {
    body: Incoming,
    wrapping: Option<Wrapping>,
    ready: VecDeque<Bytes>,
    /// The SHA-256 in hex that the request claims for the whole, and the one so far.
    claimed: Option<(String, digest::Context)>,
    /// Bytes that are to come, if the request says so.
    length: Option<u64>,
    received: u64,
    trailers: HeaderMap,
}

impl Payload {
    /// `claimed`: the SHA-256 that was signed. `length`: of the object's bytes, without framing.
    pub(super) fn new(body: Incoming, wrapping: Wrapping, claimed: Option<String>, length: Option<u64>) -> Self {
        let claimed = claimed.map(|hash| (hash, digest::Context::new(&digest::SHA256)));
        Self {
            body,
            wrapping: Some(wrapping),
            ready: VecDeque::new(),
            claimed,
            length,
            received: 0,
            trailers: HeaderMap::new(),
        }
    }

    /// Bytes that are to come, if the request says so.
    pub(super) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// The trailers; complete once the body has ended.
    pub(super) const fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    /// The next piece; `None` once everything is there and verified.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.received += piece.len() as u64;
                if self.length.is_some_and(|length| self.received > length) {
                    return Err(Fault::new("IncompleteBody", "more bytes arrived than were announced"));
                }
                if let Some((_hash, context)) = &mut self.claimed {
                    context.update(&piece);
                }
                return Ok(Some(piece));
            }
            if self.wrapping.is_none() {
                return Ok(None);
            }
            let frame = tokio::time::timeout(PIECE_TIMEOUT, self.body.frame())
                .await
                .map_err(|_elapsed| Fault::new("RequestTimeout", "the body stalled"))?;
            match frame {
                Some(Ok(frame)) => self.take(frame)?,
                Some(Err(error)) => return Err(Fault::new("IncompleteBody", format!("the body broke off: {error}"))),
                None => self.end()?,
            }
        }
    }

    fn take(&mut self, frame: hyper::body::Frame<Bytes>) -> Result<(), Fault> {
        match frame.into_data() {
            Ok(bytes) => match &mut self.wrapping {
                Some(Wrapping::Framed(framing)) => framing.push(bytes, |piece| self.ready.push_back(piece)),
                Some(Wrapping::Plain) | None => {
                    if !bytes.is_empty() {
                        self.ready.push_back(bytes);
                    }
                    Ok(())
                }
            },
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    self.trailers.extend(trailers);
                }
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Result<(), Fault> {
        if let Some(Wrapping::Framed(framing)) = self.wrapping.take() {
            self.trailers = framing.finish()?;
        }
        if self.length.is_some_and(|length| self.received != length) {
            return Err(Fault::new(
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length HTTP header",
            ));
        }
        if let Some((claimed, context)) = self.claimed.take()
            && !same(&claimed.to_ascii_lowercase(), &hex::encode(context.finish()))
        {
            return Err(Fault::new(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ));
        }
        Ok(())
    }

    /// The whole of a small body.
    pub(super) async fn document(&mut self) -> Result<Vec<u8>, Fault> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > DOCUMENT_BYTES_MAX {
                return Err(Fault::new("MaxMessageLengthExceeded", "Your request was too big."));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}
