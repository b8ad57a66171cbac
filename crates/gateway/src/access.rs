//! Who is calling: the one check in front of every route but `/healthz`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dh_core::{Authenticate, Principal};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Error;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A verified caller of models.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) request_id: HeaderValue,
}

/// The caller of a request with these headers.
pub(crate) fn caller(auth: &dyn Authenticate, headers: &HeaderMap) -> Result<Principal, Error> {
    let token = token(headers).ok_or(Error::NoKey)?;
    let principal = auth.bearer(token).ok_or(Error::UnknownKey)?;
    if principal.may_call_models() { Ok(principal) } else { Err(Error::Forbidden(principal.name)) }
}

/// The caller's token: a bearer token, or `x-api-key` as clients of Anthropic send it.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| {
        let mut values = headers.get_all("x-api-key").iter();
        let token = values.next()?.to_str().ok()?.trim_ascii();
        (values.next().is_none() && !headers.contains_key(AUTHORIZATION) && !token.is_empty()).then_some(token)
    })
}

/// The bearer token (RFC 6750, section 2.1); nothing if there are two such headers, which could disagree.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (scheme, rest) = values.next()?.to_str().ok()?.trim_ascii().split_once(' ')?;
    let token = rest.trim_ascii();
    let usable = values.next().is_none() && !token.is_empty() && scheme.eq_ignore_ascii_case("bearer");
    usable.then_some(token)
}

/// The request's own id if it is a plain short text, else a fresh one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let plain = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        !bytes.is_empty() && bytes.len() <= REQUEST_ID_BYTES_MAX && bytes.iter().all(u8::is_ascii_graphic)
    };
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
        let text = format!("req-{:016x}-{:x}", *PROCESS, COUNT.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("req"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_one_whole_bearer_token_counts() {
        assert_eq!(bearer(&with(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&with(&["bEARER  abc "])), Some("abc"));
        for bad in [&[][..], &["abc"], &["Bearer "], &["Bearer"], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&with(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn plain_request_ids_are_kept_and_others_replaced() {
        let id = |text: &str| {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            request_id(&HeaderMap::from_iter([(REQUEST_ID, value)])).to_str().unwrap().to_owned()
        };
        assert_eq!(id("abc-1"), "abc-1");
        for bad in ["", "a b", &"x".repeat(129)] {
            assert!(id(bad).starts_with("req-"));
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
