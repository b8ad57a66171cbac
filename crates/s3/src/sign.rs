//! Signatures of AWS version 4.
//!
//! Cost: one HMAC and one SHA-256 a request; the key of a day is derived once.
//! Source: Amazon S3 API Reference, "Authenticating requests (AWS Signature Version 4)".

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Method};
use ring::{digest, hmac};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::config::Credentials;
use crate::place::{Slash, encode_into};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The payload's hash where nobody signs it.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// The same where a checksum follows behind the body.
pub(crate) const TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// How long an address that is signed by the client itself is good.
const PRESIGNED_SECONDS: u64 = 300;

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn hmac256(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// What is signed of a request.
pub(crate) struct Signed<'r> {
    pub(crate) method: &'r Method,
    pub(crate) host: &'r str,
    /// Percent-encoded, with the slash in front.
    pub(crate) path: &'r str,
    /// Not encoded.
    pub(crate) query: &'r [(String, String)],
    /// The payload's hash or the word for it.
    pub(crate) payload: &'r str,
}

/// Signs for one key and region.
#[derive(Debug)]
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    /// The day, and its key.
    day: Mutex<Option<(String, Arc<hmac::Key>)>>,
}

fn stamp(now: OffsetDateTime) -> String {
    now.format(format_description!("[year][month][day]T[hour][minute][second]Z")).unwrap_or_default()
}

/// The canonical form of a query: encoded, and sorted by the encoded names.
pub(crate) fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| {
            let mut pair = String::with_capacity(name.len() + value.len() + 8);
            encode_into(&mut pair, name, Slash::Encoded);
            pair.push('=');
            encode_into(&mut pair, value, Slash::Encoded);
            pair
        })
        .collect();
    pairs.sort_unstable();
    pairs.join("&")
}

impl Signer {
    pub(crate) fn new(credentials: Credentials, region: String) -> Self {
        Self { credentials, region, day: Mutex::new(None) }
    }

    fn key(&self, day: &str) -> Arc<hmac::Key> {
        let mut known = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((have, key)) = &*known
            && have == day
        {
            return Arc::clone(key);
        }
        let mut bytes = format!("AWS4{}", self.credentials.secret.expose()).into_bytes();
        for part in [day, self.region.as_str(), "s3", "aws4_request"] {
            bytes = hmac256(&bytes, part).as_ref().to_vec();
        }
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        *known = Some((day.to_owned(), Arc::clone(&key)));
        key
    }

    fn signature(&self, stamp: &str, scope: &str, canonical: &str) -> String {
        let day = stamp.get(..8).unwrap_or_default();
        let text = format!("{ALGORITHM}\n{stamp}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
        hex::encode(hmac::sign(&self.key(day), text.as_bytes()))
    }

    fn scope(&self, stamp: &str) -> String {
        format!("{}/{}/s3/aws4_request", stamp.get(..8).unwrap_or_default(), self.region)
    }

    /// Signs `headers`: all that start with `x-amz-`, and the body's MD5 and type. Adds what belongs to it.
    pub(crate) fn headers(&self, signed: &Signed<'_>, headers: &mut HeaderMap, now: OffsetDateTime) {
        let stamp = stamp(now);
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set("x-amz-date", &stamp);
        set("x-amz-content-sha256", signed.payload);
        if let Some(token) = &self.credentials.token {
            set("x-amz-security-token", token.expose());
        }
        let mut lines: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(name, _value)| {
                let name = name.as_str();
                name.starts_with("x-amz-") || name == "content-md5" || name == "content-type"
            })
            .filter_map(|(name, value)| Some((name.as_str(), std::str::from_utf8(value.as_bytes()).ok()?)))
            .collect();
        lines.push(("host", signed.host));
        lines.sort_unstable();
        let mut canonical = format!("{}\n{}\n{}\n", signed.method, signed.path, canonical_query(signed.query));
        for (name, value) in &lines {
            canonical.push_str(name);
            canonical.push(':');
            canonical.push_str(value.trim());
            canonical.push('\n');
        }
        let names: Vec<&str> = lines.iter().map(|(name, _value)| *name).collect();
        let names = names.join(";");
        canonical.push('\n');
        canonical.push_str(&names);
        canonical.push('\n');
        canonical.push_str(signed.payload);
        let scope = self.scope(&stamp);
        let signature = self.signature(&stamp, &scope, &canonical);
        let value = format!(
            "{ALGORITHM} Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            self.credentials.id
        );
        if let Ok(mut value) = HeaderValue::from_str(&value) {
            value.set_sensitive(true);
            headers.insert(http::header::AUTHORIZATION, value);
        }
    }

    /// The query of an address that is good for some minutes; only the host is signed beside it.
    pub(crate) fn query(&self, signed: &Signed<'_>, now: OffsetDateTime) -> String {
        let stamp = stamp(now);
        let scope = self.scope(&stamp);
        let mut query = signed.query.to_vec();
        let mut add = |name: &str, value: String| query.push((name.to_owned(), value));
        add("X-Amz-Algorithm", ALGORITHM.to_owned());
        add("X-Amz-Credential", format!("{}/{scope}", self.credentials.id));
        add("X-Amz-Date", stamp.clone());
        add("X-Amz-Expires", PRESIGNED_SECONDS.to_string());
        add("X-Amz-SignedHeaders", "host".to_owned());
        if let Some(token) = &self.credentials.token {
            add("X-Amz-Security-Token", token.expose().clone());
        }
        let query = canonical_query(&query);
        let canonical =
            format!("{}\n{}\n{query}\nhost:{}\n\nhost\n{UNSIGNED}", signed.method, signed.path, signed.host);
        let signature = self.signature(&stamp, &scope, &canonical);
        format!("{query}&X-Amz-Signature={signature}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dh_core::Secret;

    // Source: Amazon S3 API Reference, the examples of signature calculations; the key is the documentation's own.
    fn signer() -> Signer {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        let credentials = Credentials { id: "AKIAIOSFODNN7EXAMPLE".to_owned(), secret, token: None };
        Signer::new(credentials, "us-east-1".to_owned())
    }

    fn now() -> OffsetDateTime {
        time::macros::datetime!(2013-05-24 0:00 UTC)
    }

    #[test]
    fn headers_are_signed_as_the_documentation_lists_a_bucket() {
        let query = [("max-keys".to_owned(), "2".to_owned()), ("prefix".to_owned(), "J".to_owned())];
        let payload = sha256_hex(b"");
        let signed = Signed {
            method: &Method::GET,
            host: "examplebucket.s3.amazonaws.com",
            path: "/",
            query: &query,
            payload: &payload,
        };
        let mut headers = HeaderMap::new();
        signer().headers(&signed, &mut headers, now());
        assert!(
            headers["authorization"]
                .to_str()
                .unwrap()
                .ends_with("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
        );
    }

    #[test]
    fn an_address_of_five_minutes_names_its_key_once_and_signs_the_host() {
        let signed = Signed { method: &Method::GET, host: "h:1", path: "/b/k", query: &[], payload: UNSIGNED };
        let query = signer().query(&signed, now());
        assert!(query.starts_with("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2013"));
        assert!(query.contains("X-Amz-Expires=300") && query.contains("&X-Amz-Signature="));
        let other = Signed { host: "h:2", ..signed };
        assert_ne!(signer().query(&other, now()), query);
    }
}
