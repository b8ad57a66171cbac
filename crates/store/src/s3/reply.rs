//! Answers: headers by name, bodies from memory or from the store.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use time::OffsetDateTime;
use time::macros::format_description;

use super::fault::Fault;
use crate::Error;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// An answer.
pub(super) type Answer = Result<Response<Body>, Fault>;

/// A body from memory.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The body of an answer to HEAD: nothing, whatever length the headers tell.
pub(super) fn empty_of_any_length() -> Body {
    // A stream has no length of its own that would contradict the header.
    streamed(futures::stream::empty())
}

/// A body that comes piece by piece.
pub(super) fn streamed(stream: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Body {
    StreamBody::new(stream.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// An answer that is put together.
#[derive(Debug)]
pub(super) struct Reply(Response<()>);

impl Reply {
    pub(super) fn new(status: StatusCode) -> Self {
        let mut response = Response::new(());
        *response.status_mut() = status;
        Self(response)
    }

    pub(super) fn ok() -> Self {
        Self::new(StatusCode::OK)
    }

    pub(super) fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT)
    }

    /// The same with another status.
    pub(super) fn status(mut self, status: StatusCode) -> Self {
        *self.0.status_mut() = status;
        self
    }

    /// Sets a header. A value that HTTP cannot carry is left out and logged.
    pub(super) fn set(&mut self, name: &str, value: impl AsRef<str>) {
        let name_value = HeaderName::try_from(name).ok().zip(HeaderValue::from_bytes(value.as_ref().as_bytes()).ok());
        if let Some((name, value)) = name_value {
            self.0.headers_mut().insert(name, value);
        } else {
            tracing::warn!(name, "a header cannot be sent");
        }
    }

    /// Sets a header.
    pub(super) fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a header if there is a value.
    pub(super) fn maybe(mut self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    pub(super) fn body(self, body: Body) -> Response<Body> {
        self.0.map(|()| body)
    }

    pub(super) fn empty(self) -> Response<Body> {
        self.body(full(Bytes::new()))
    }

    pub(super) fn xml(self, document: String) -> Response<Body> {
        self.with("content-type", "application/xml").body(full(document))
    }
}

/// Milliseconds of the Unix epoch as S3's documents show times.
pub(super) fn iso(ms: u64) -> String {
    let date =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    date.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"))
        .unwrap_or_default()
}

/// Milliseconds of the Unix epoch as HTTP's headers show times.
pub(super) fn http_date(ms: u64) -> String {
    let date =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    date.format(format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    ))
    .unwrap_or_default()
}

/// A time of a document or header in milliseconds of the Unix epoch.
pub(super) fn parse_time(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.contains(['T', 't'])
        && let Ok(date) = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
    {
        return u64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok();
    }
    if let Ok(day) = time::Date::parse(text.trim(), format_description!("[year]-[month]-[day]")) {
        let date = day.midnight().assume_utc();
        return u64::try_from(date.unix_timestamp()).ok()?.checked_mul(1_000);
    }
    u64::try_from(super::sign::http_seconds(text)?).ok()?.checked_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        assert_eq!(iso(1_795_677_067_123), "2026-11-26T07:11:07.123Z");
        assert_eq!(http_date(1_795_677_067_123), "Thu, 26 Nov 2026 07:11:07 GMT");
        for text in ["2026-11-26T07:11:07.123Z", "Thu, 26 Nov 2026 07:11:07 GMT", "2026-11-26T08:11:07+01:00"] {
            assert_eq!(parse_time(text).map(|ms| ms / 1_000), Some(1_795_677_067), "{text}");
        }
    }
}
