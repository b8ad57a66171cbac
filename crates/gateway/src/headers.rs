//! Which header fields pass, in each direction. Source: RFC 9110, section 7.6.1 (hop-by-hop fields).

use http::header::{
    ACCEPT_ENCODING, ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;

use crate::access::{self, REQUEST_ID};

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == TE
        || *name == TRAILER
        || *name == UPGRADE
        || *name == PROXY_AUTHENTICATE
        || *name == PROXY_AUTHORIZATION
        || name == "keep-alive"
        || name == "proxy-connection"
}

/// Whether a `Connection` field declares `name` to be meant for this hop only.
fn is_nominated(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(name.as_str()))
}

/// The fields for an engine: those of the caller without its credentials. A field of any name that holds the caller's token
/// is dropped. No encodings are accepted, because a compressed stream could not be watched and is held back by compressors.
pub(crate) fn for_engine(from: &HeaderMap, request_id: &HeaderValue) -> HeaderMap {
    let token = access::token(from).map(str::as_bytes).unwrap_or_default();
    let finder = memmem::Finder::new(token);
    let nominates = from.contains_key(CONNECTION);
    let mut to = HeaderMap::with_capacity(from.len() + 2);
    for (name, value) in from {
        let set_by_us = *name == HOST || *name == CONTENT_LENGTH || *name == EXPECT || *name == ACCEPT_ENCODING;
        let credential = *name == AUTHORIZATION || *name == COOKIE || name == "x-api-key" || name == "api-key";
        let leaks = !token.is_empty() && finder.find(value.as_bytes()).is_some();
        if !(set_by_us || credential || leaks || is_hop_by_hop(name) || (nominates && is_nominated(from, name))) {
            to.append(name.clone(), value.clone());
        }
    }
    to.insert(REQUEST_ID, request_id.clone());
    to
}

/// The fields for the caller: those of the engine that are about the answer and not about the engine's own door.
pub(crate) fn for_caller(from: &HeaderMap, to: &mut HeaderMap) {
    to.reserve(from.len() + 2);
    let nominates = from.contains_key(CONNECTION);
    for (name, value) in from {
        let of_its_door = *name == SET_COOKIE
            || *name == ALT_SVC
            || *name == STRICT_TRANSPORT_SECURITY
            || *name == WWW_AUTHENTICATE
            || *name == REQUEST_ID;
        if !(of_its_door || is_hop_by_hop(name) || (nominates && is_nominated(from, name))) {
            to.append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn credentials_and_hop_by_hop_fields_never_reach_an_engine() {
        let from = map(&[
            ("authorization", "Bearer dh-model-1"),
            ("cookie", "a=b"),
            ("x-api-key", "k"),
            ("x-copy", "token=dh-model-1;"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("content-length", "7"),
            ("host", "here"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json"),
            ("traceparent", "00-1-2-01"),
        ]);
        let to = for_engine(&from, &HeaderValue::from_static("r1"));
        let mut names: Vec<_> = to.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "traceparent", "x-request-id"]);
    }

    #[test]
    fn answers_keep_their_own_fields_in_order_and_number() {
        let from = map(&[
            ("content-type", "text/event-stream"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("set-cookie", "s=1"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
        ]);
        let mut to = HeaderMap::new();
        for_caller(&from, &mut to);
        assert_eq!(to.len(), 3);
        assert_eq!(to.get_all("x-a").iter().count(), 2);
    }
}
