//! Whether a request is of the plain kind that nearly all are, and its head if so.
//!
//! Plain: `POST` to a route that names its model in its body, HTTP/1.1, one length, nothing to negotiate. Everything else,
//! malformed heads above all, goes to hyper with its bytes untouched, so there is one place that knows how to refuse.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::HEADERS_MAX;
use crate::handlers;

/// A head that is not complete by then goes to hyper, which bounds it.
const PLAIN_BYTES_MAX: usize = 8 << 10;
const START: &[u8] = b"POST /v1/";

/// The head of a plain request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) path: &'static str,
    pub(crate) headers: HeaderMap,
    /// Bytes of the body.
    pub(crate) length: u64,
    pub(crate) last: Last,
}

/// Whether the client wants the connection to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    GoesOn,
    Closes,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A plain head of so many bytes.
    Plain(Head, usize),
    /// Too little has come to tell.
    Partial,
    /// For hyper.
    Other,
}

/// Looks at the first bytes of a request.
pub(crate) fn parse(got: &[u8]) -> Parsed {
    let common = START.len().min(got.len());
    if got.get(..common) != START.get(..common) {
        return Parsed::Other;
    }
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(got) {
        Ok(httparse::Status::Complete(length)) => match plain(&request, got.get(..length).unwrap_or_default()) {
            Some(head) => Parsed::Plain(head, length),
            None => Parsed::Other,
        },
        Ok(httparse::Status::Partial) if got.len() <= PLAIN_BYTES_MAX => Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(_) => Parsed::Other,
    }
}

fn plain(request: &httparse::Request<'_, '_>, text: &[u8]) -> Option<Head> {
    if request.version != Some(1) {
        return None;
    }
    let path = handlers::plain_route(request.path?)?;
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 2);
    // All values share one copy of the head.
    let shared = Bytes::copy_from_slice(text);
    let (mut length, mut last) = (None, Last::GoesOn);
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if name == TRANSFER_ENCODING || name == EXPECT || name == UPGRADE || name == TRAILER {
            return None;
        }
        if name == CONTENT_LENGTH {
            let digits = field.value.iter().all(u8::is_ascii_digit).then_some(field.value)?;
            let said: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
            if length.replace(said).is_some() {
                return None;
            }
        }
        if name == CONNECTION {
            if field.value.eq_ignore_ascii_case(b"close") {
                last = Last::Closes;
            } else if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                // It may nominate fields for this hop.
                return None;
            }
        }
        let from = field.value.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        let value = if field.value.is_empty() { Bytes::new() } else { shared.slice(from..from + field.value.len()) };
        headers.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(Head { path, headers, length: length?, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer k\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 13\r\n\r\n";

    #[test]
    fn a_plain_head_is_read_once_it_is_whole_and_never_before() {
        let bytes = PLAIN.as_bytes();
        let more = [bytes, b"{\"model\":\"m\"}"].concat();
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parsed::Partial, "cut at {end}");
        }
        for end in bytes.len()..=more.len() {
            let Parsed::Plain(head, length) = parse(&more[..end]) else { panic!("cut at {end}") };
            assert_eq!(
                (length, head.length, head.path, head.last),
                (bytes.len(), 13, "/v1/chat/completions", Last::GoesOn)
            );
            assert_eq!(head.headers.get_all("x-a").iter().count(), 2);
            assert_eq!(head.headers["authorization"], "Bearer k");
        }
    }

    #[test]
    fn what_is_not_plain_goes_to_hyper() {
        let with = |from: &str, to: &str| PLAIN.replace(from, to);
        for text in [
            with("POST", "GET"),
            with("POST", "post"),
            with("/v1/chat/completions", "/v1/models"),
            with("/v1/chat/completions", "/v1/chat/completions?x=1"),
            with("/v1/chat/completions", "/v1/chat/completions/"),
            with("HTTP/1.1", "HTTP/1.0"),
            with("HTTP/1.1", "HTTP/2.0"),
            with("Content-Length: 13\r\n", ""),
            with("Content-Length: 13", "Content-Length: +13"),
            with("Content-Length: 13", "Content-Length: 0xd"),
            with("Content-Length: 13", "Content-Length: 13, 13"),
            with("Content-Length: 13", "Content-Length: "),
            with("Content-Length: 13", "Content-Length: 99999999999999999999"),
            with("Content-Length: 13", "Content-Length: 13\r\nContent-Length: 13"),
            with("Content-Length: 13", "Content-Length : 13"),
            with("X-A: 1", "Transfer-Encoding: chunked"),
            with("X-A: 1", "Expect: 100-continue"),
            with("X-A: 1", "Upgrade: websocket"),
            with("X-A: 1", "Connection: X-A"),
            with("X-A: 1", "X-A: 1\r\n folded"),
            with("X-A: 1", "X-A: \0"),
            with("X-A: 1", "X A: 1"),
            with("X-A: 1", &"y: 1\r\n".repeat(HEADERS_MAX)),
            with("X-A: 1", &format!("X-A: {}", "y".repeat(1 << 20))).split_at(9_000).0.to_owned(),
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Other, "{text}");
        }
        let Parsed::Plain(head, _) = parse(with("X-A: 1", "Connection: Close").as_bytes()) else { panic!() };
        assert_eq!(head.last, Last::Closes);
    }
}
