//! Signatures: AWS version 4 in headers and in URLs, and version 2 for old clients.
//!
//! Invariant: the secret is looked up before anything is compared, and comparing takes the same time wherever two
//! signatures differ. Cost of version 4: five HMACs, of which four depend only on the day and are remembered.
//! Source: Amazon S3 API Reference, "Authenticating requests (AWS Signature Version 4)".

use std::cell::RefCell;
use std::collections::BTreeMap;

use dh_core::Secret;
use ring::{digest, hmac};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use super::call::{Call, Slash, encode};
use super::fault::Fault;

/// How far a client's clock may be off.
const SKEW_SECONDS: i64 = 15 * 60;

/// How long a presigned URL of version 4 may be valid; S3's own limit.
const PRESIGNED_SECONDS_MAX: i64 = 7 * 24 * 3_600;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Headers that whoever holds a presigned URL may add: they describe the body, and open nothing. A copy's source or an
/// access list would.
const LOOSE: &[&str] = &[
    "x-amz-meta-",
    "x-amz-checksum-",
    "x-amz-sdk-",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
    "x-amz-user-agent",
];

/// SHA-256 in hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn hmac256(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// What a request claims about who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nothing.
    None,
    V4(Box<V4>),
    V2(V2),
}

/// Where a signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    Header,
    Query,
}

/// A claim of version 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct V4 {
    pub(super) access_key: String,
    /// `date/region/service/aws4_request`.
    pub(super) scope: String,
    /// `YYYYMMDDTHHMMSSZ`.
    pub(super) date: String,
    signed: Vec<String>,
    pub(super) signature: String,
    pub(super) carrier: Carrier,
    pub(super) token: Option<String>,
}

/// A claim of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct V2 {
    pub(super) access_key: String,
    signature: String,
    /// The end of a presigned URL, in seconds of the Unix epoch.
    expires: Option<String>,
    pub(super) token: Option<String>,
}

fn header_fault(what: &str) -> Fault {
    Fault::new("AuthorizationHeaderMalformed", format!("The authorization header is malformed; {what}"))
}

fn query_fault(what: &str) -> Fault {
    Fault::new("AuthorizationQueryParametersError", what)
}

/// Access key and scope of a credential.
fn credential(text: &str) -> Option<(String, String)> {
    let mut parts = text.rsplitn(5, '/');
    let last = parts.next()?;
    let (service, region, date, key) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let dated = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    (last == "aws4_request" && dated && !key.is_empty())
        .then(|| (key.to_owned(), format!("{date}/{region}/{service}/{last}")))
}

/// What the request claims.
pub(super) fn claim(call: &Call) -> Result<Claim, Fault> {
    if let Some(value) = call.header("authorization").filter(|value| !value.is_empty()) {
        if let Some(rest) = value.strip_prefix(ALGORITHM) {
            return header_v4(call, rest).map(|claim| Claim::V4(Box::new(claim)));
        }
        if let Some(rest) = value.strip_prefix("AWS ") {
            let (key, signature) =
                rest.trim().rsplit_once(':').ok_or_else(|| Fault::argument("AWS authorization header is invalid"))?;
            return Ok(Claim::V2(V2 {
                access_key: key.to_owned(),
                signature: signature.to_owned(),
                expires: None,
                token: call.header("x-amz-security-token").map(ToOwned::to_owned),
            }));
        }
        return Err(Fault::argument("Unsupported Authorization Type"));
    }
    if call.has("X-Amz-Algorithm") || call.has("X-Amz-Signature") || call.has("X-Amz-Credential") {
        return query_v4(call).map(|claim| Claim::V4(Box::new(claim)));
    }
    if let Some(access_key) = call.ask("AWSAccessKeyId") {
        let need = |name: &str| {
            call.ask(name).map(ToOwned::to_owned).ok_or_else(|| {
                Fault::new(
                    "AccessDenied",
                    "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
                )
            })
        };
        return Ok(Claim::V2(V2 {
            access_key: access_key.to_owned(),
            signature: need("Signature")?,
            expires: Some(need("Expires")?),
            token: call.ask("x-amz-security-token").map(ToOwned::to_owned),
        }));
    }
    Ok(Claim::None)
}

fn header_v4(call: &Call, rest: &str) -> Result<V4, Fault> {
    let mut found: [Option<&str>; 3] = [None; 3];
    for part in rest.split(',') {
        let (name, value) = part.trim().split_once('=').ok_or_else(|| header_fault("a part has no value"))?;
        let [credential, signed, signature] = &mut found;
        let slot = match name {
            "Credential" => credential,
            "SignedHeaders" => signed,
            "Signature" => signature,
            _other => continue,
        };
        *slot = Some(value);
    }
    let [Some(credential_text), Some(signed), Some(signature)] = found else {
        return Err(header_fault("Credential, SignedHeaders and Signature are needed"));
    };
    let (access_key, scope) =
        credential(credential_text).ok_or_else(|| header_fault("the Credential is mal-formed"))?;
    let date = match call.header("x-amz-date") {
        Some(date) if basic_date(date).is_some() => date.to_owned(),
        Some(date) => http_date(date).ok_or_else(date_fault)?,
        None => http_date(call.header("date").unwrap_or_default()).ok_or_else(date_fault)?,
    };
    Ok(V4 {
        access_key,
        scope,
        date,
        signed: signed.split(';').map(str::to_ascii_lowercase).collect(),
        signature: signature.to_owned(),
        carrier: Carrier::Header,
        token: call.header("x-amz-security-token").map(ToOwned::to_owned),
    })
}

fn date_fault() -> Fault {
    Fault::new("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
}

fn query_v4(call: &Call) -> Result<V4, Fault> {
    let need = |name: &str| {
        call.ask(name).ok_or_else(|| {
            query_fault(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
                 X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            )
        })
    };
    if need("X-Amz-Algorithm")? != ALGORITHM {
        return Err(query_fault("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    let (access_key, scope) = credential(need("X-Amz-Credential")?)
        .ok_or_else(|| query_fault("Error parsing the X-Amz-Credential parameter"))?;
    let date = need("X-Amz-Date")?.to_owned();
    let start = basic_date(&date).ok_or_else(|| query_fault("X-Amz-Date must be in the ISO8601 Long Format"))?;
    let expires: i64 =
        need("X-Amz-Expires")?.parse().map_err(|_error| query_fault("X-Amz-Expires should be a number"))?;
    if !(1..=PRESIGNED_SECONDS_MAX).contains(&expires) {
        return Err(Fault::new("AccessDenied", "X-Amz-Expires must be between one second and one week"));
    }
    let now = now_seconds(call);
    if start > now.saturating_add(SKEW_SECONDS) {
        return Err(Fault::new("AccessDenied", "Request is not yet valid"));
    }
    if start.saturating_add(expires) < now {
        return Err(Fault::new("AccessDenied", "Request has expired"));
    }
    Ok(V4 {
        access_key,
        scope,
        date,
        signed: need("X-Amz-SignedHeaders")?.split(';').map(str::to_ascii_lowercase).collect(),
        signature: need("X-Amz-Signature")?.to_owned(),
        carrier: Carrier::Query,
        token: call.ask("X-Amz-Security-Token").map(ToOwned::to_owned),
    })
}

fn now_seconds(call: &Call) -> i64 {
    i64::try_from(call.now_ms / 1_000).unwrap_or(i64::MAX)
}

/// Seconds of the Unix epoch of `YYYYMMDDTHHMMSSZ`.
pub(super) fn basic_date(text: &str) -> Option<i64> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    time::PrimitiveDateTime::parse(text, format).ok().map(|date| date.assume_utc().unix_timestamp())
}

/// A date of HTTP as `YYYYMMDDTHHMMSSZ`.
fn http_date(text: &str) -> Option<String> {
    let seconds = http_seconds(text)?;
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    date.format(time::macros::format_description!("[year][month][day]T[hour][minute][second]Z")).ok()
}

/// Seconds of the Unix epoch of a date of HTTP, or of the other forms that clients write.
pub(super) fn http_seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(date) = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc2822) {
        return Some(date.unix_timestamp());
    }
    let gmt = text.replace("GMT", "+0000").replace("UTC", "+0000");
    if let Ok(date) = OffsetDateTime::parse(&gmt, &time::format_description::well_known::Rfc2822) {
        return Some(date.unix_timestamp());
    }
    if text.contains('T')
        && let Ok(date) = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
    {
        return Some(date.unix_timestamp());
    }
    basic_date(text)
}

/// The key that signs for one day, region and service.
pub(super) fn signing_key(secret: &str, scope: &str) -> Vec<u8> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = hmac256(&key, part).as_ref().to_vec();
    }
    key
}

/// Keys of version 4 that a thread remembers; beyond it, all are forgotten.
const REMEMBERED_MAX: usize = 1_024;

/// A key, and what it was derived from.
struct Remembered {
    secret: Secret<String>,
    scope: String,
    key: Secret<Vec<u8>>,
}

thread_local! {
    /// By access key; a client signs for one day, region and service at a time.
    static REMEMBERED: RefCell<BTreeMap<String, Remembered>> = const { RefCell::new(BTreeMap::new()) };
}

/// [`signing_key`], derived anew only if this thread has not just seen the same.
pub(super) fn remembered_key(access_key: &str, secret: &Secret<String>, scope: &str) -> Vec<u8> {
    REMEMBERED.with_borrow_mut(|all| {
        if let Some(known) = all.get(access_key)
            && known.scope == scope
            && known.secret.matches(secret.expose())
        {
            return known.key.expose().clone();
        }
        let key = signing_key(secret.expose(), scope);
        if all.len() >= REMEMBERED_MAX {
            all.clear();
        }
        let known = Remembered { secret: secret.clone(), scope: scope.to_owned(), key: Secret::new(key.clone()) };
        all.insert(access_key.to_owned(), known);
        key
    })
}

/// Signs a text of version 4.
pub(super) fn sign_v4(key: &[u8], text: &str) -> String {
    hex::encode(hmac256(key, text))
}

/// Whether two signatures are the same, in constant time.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn mismatch() -> Fault {
    Fault::new(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    )
}

impl V4 {
    /// Verifies the signature. `payload` is the hash that the request claims for its body.
    pub(super) fn verify(&self, call: &Call, key: &[u8], payload: &str) -> Result<(), Fault> {
        if self.carrier == Carrier::Header {
            let date = basic_date(&self.date).ok_or_else(date_fault)?;
            if (date - now_seconds(call)).abs() > SKEW_SECONDS {
                return Err(Fault::new(
                    "RequestTimeTooSkewed",
                    "The difference between the request time and the current time is too large.",
                ));
            }
        }
        if !self.scope.starts_with(self.date.get(..8).unwrap_or_default()) {
            return Err(mismatch());
        }
        // What is not signed may be changed on the way; S3 wants the host and its own headers among the signed.
        if !self.signed.iter().any(|name| name == "host") {
            return Err(Fault::new("AccessDenied", "There were headers present in the request which were not signed"));
        }
        let loose = |name: &str| self.carrier == Carrier::Query && LOOSE.iter().any(|prefix| name.starts_with(prefix));
        let unsigned =
            call.headers.keys().map(http::HeaderName::as_str).any(|name| {
                name.starts_with("x-amz-") && !loose(name) && !self.signed.iter().any(|signed| signed == name)
            });
        if unsigned {
            return Err(Fault::new("AccessDenied", "There were headers present in the request which were not signed"));
        }
        let path = super::call::decode(&call.path, '+').unwrap_or_default();
        let decoded = encode(&path, Slash::Kept);
        let signs = |path: &str| {
            let canonical = self.canonical(call, path, payload);
            let text = format!("{ALGORITHM}\n{}\n{}\n{}", self.date, self.scope, sha256_hex(canonical.as_bytes()));
            same(&sign_v4(key, &text), &self.signature)
        };
        // Clients that sign the path as they send it are right too, where the two differ.
        if signs(&decoded) || (call.path != decoded && signs(&call.path)) { Ok(()) } else { Err(mismatch()) }
    }

    fn canonical(&self, call: &Call, path: &str, payload: &str) -> String {
        let mut query: Vec<(String, String)> = call
            .query
            .iter()
            .filter(|(name, _value)| self.carrier == Carrier::Header || name != "X-Amz-Signature")
            .map(|(name, value)| (encode(name, Slash::Encoded), encode(value, Slash::Encoded)))
            .collect();
        query.sort();
        let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut text = format!("{}\n{path}\n{}\n", call.method, query.join("&"));
        for name in &self.signed {
            let values: Vec<String> = call
                .headers
                .get_all(name)
                .iter()
                .map(|value| {
                    super::call::lenient(value.as_bytes()).split_ascii_whitespace().collect::<Vec<_>>().join(" ")
                })
                .collect();
            text.push_str(name);
            text.push(':');
            text.push_str(&values.join(","));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.signed.join(";"));
        text.push('\n');
        text.push_str(payload);
        text
    }
}

/// Parameters of a query that version 2 signs.
const V2_SIGNED: &[&str] = &[
    "accelerate",
    "acl",
    "cors",
    "delete",
    "encryption",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "retention",
    "select",
    "select-type",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

impl V2 {
    /// The date of a presigned URL: its end.
    fn presigned(call: &Call, expires: &str) -> Result<String, Fault> {
        let end: i64 = expires
            .parse()
            .map_err(|_error| Fault::new("AccessDenied", "Invalid date (should be seconds since epoch)"))?;
        if end < now_seconds(call) {
            return Err(Fault::new("AccessDenied", "Request has expired"));
        }
        if end > now_seconds(call).saturating_add(PRESIGNED_SECONDS_MAX) {
            return Err(Fault::new("AccessDenied", "a presigned URL is valid for at most seven days"));
        }
        Ok(expires.to_owned())
    }

    /// The date of a signed request; empty where it is among the signed headers anyway.
    fn dated(call: &Call) -> Result<String, Fault> {
        let said = call.header("x-amz-date").or(call.header("date"));
        let seconds = said.and_then(http_seconds).filter(|seconds| *seconds > 0).ok_or_else(date_fault)?;
        if (seconds - now_seconds(call)).abs() > SKEW_SECONDS {
            return Err(Fault::new(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            ));
        }
        Ok(if call.header("x-amz-date").is_some() { String::new() } else { said.unwrap_or_default().to_owned() })
    }

    /// Verifies the signature.
    pub(super) fn verify(&self, call: &Call, secret: &str) -> Result<(), Fault> {
        let date = match &self.expires {
            Some(expires) => Self::presigned(call, expires)?,
            None => Self::dated(call)?,
        };
        let resource = |path: &str| {
            let mut sub: Vec<&(String, String)> =
                call.query.iter().filter(|(name, _value)| V2_SIGNED.contains(&name.as_str())).collect();
            sub.sort();
            let sub: Vec<String> = sub
                .into_iter()
                .map(|(name, value)| if value.is_empty() { name.clone() } else { format!("{name}={value}") })
                .collect();
            if sub.is_empty() { path.to_owned() } else { format!("{path}?{}", sub.join("&")) }
        };
        let mut amz = call.headers_from("x-amz-");
        amz.sort();
        let amz: Vec<String> = amz.iter().map(|(name, value)| format!("x-amz-{name}:{value}\n")).collect();
        let amz = amz.concat();
        let text = |path: &str| {
            format!(
                "{}\n{}\n{}\n{date}\n{amz}{}",
                call.method,
                call.header("content-md5").unwrap_or_default(),
                call.header("content-type").unwrap_or_default(),
                resource(path)
            )
        };
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let signs = |path: &str| {
            same(&crate::digest::base64(hmac::sign(&key, text(path).as_bytes()).as_ref()), &self.signature)
        };
        let with_slash = format!("{}/", call.path);
        if signs(&call.path) || (call.key.is_none() && signs(&with_slash)) { Ok(()) } else { Err(mismatch()) }
    }
}

/// Verifies a form's signature over its policy.
pub(super) fn form_signature_v2(secret: &str, policy: &str, signature: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    same(&crate::digest::base64(hmac::sign(&key, policy.as_bytes()).as_ref()), signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signing_key_is_the_documentations() {
        // Source: AWS General Reference, "Examples of how to derive a signing key".
        let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20120215/us-east-1/iam/aws4_request");
        assert_eq!(hex::encode(key), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    }

    #[test]
    fn a_remembered_key_is_that_of_its_secret_and_scope() {
        let secrets = ["one", "two"].map(|secret| Secret::new(secret.to_owned()));
        for round in 0..3 {
            for (secret, scope) in secrets.iter().zip(["20130524/r/s3/aws4_request", "20130525/r/s3/aws4_request"]) {
                // The same access key, as after its secret was changed.
                let key = remembered_key("key", secret, scope);
                assert_eq!(key, signing_key(secret.expose(), scope), "round {round}");
                assert_eq!(remembered_key("key", secret, scope), key);
            }
        }
    }

    #[test]
    fn dates_are_read_in_the_forms_that_clients_write() {
        for text in [
            "Thu, 26 Nov 2026 07:11:07 GMT",
            "20261126T071107Z",
            "2026-11-26T07:11:07Z",
            "Thu, 26 Nov 2026 07:11:07 +0000",
        ] {
            assert_eq!(http_seconds(text), Some(1_795_677_067), "{text}");
        }
        assert_eq!(http_seconds("yesterday"), None);
    }

    #[test]
    fn credentials_have_five_parts_the_first_with_slashes() {
        assert_eq!(
            credential("a/b/20130524/us-east-1/s3/aws4_request"),
            Some(("a/b".to_owned(), "20130524/us-east-1/s3/aws4_request".to_owned()))
        );
        for text in ["", "a", "a/2013/r/s/aws4_request", "/20130524/r/s/aws4_request", "a/20130524/r/s/aws5_request"] {
            assert_eq!(credential(text), None, "{text}");
        }
    }
}
