//! A request taken apart: what it is about, and what it says, with names and values decoded once.
//!
//! Invariant: a key is valid UTF-8 without zero bytes; nothing is decoded twice.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri};

use super::fault::Fault;

/// The longest query string, decoded or not. Presigned session tokens are the longest that clients make.
const QUERY_BYTES_MAX: usize = 16 << 10;

/// A request without its body.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The path as it came.
    pub(super) path: String,
    pub(super) bucket: Option<String>,
    pub(super) key: Option<String>,
    /// Decoded names and values, in order.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) peer: IpAddr,
    /// Names the request in answers and logs.
    pub(super) id: String,
    pub(super) now_ms: u64,
}

/// Percent-decodes; `None` if that is no UTF-8.
pub(super) fn decode(text: &str, plus: char) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let pair = [*high, *low];
                match std::str::from_utf8(&pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                    Some(byte) if high.is_ascii_hexdigit() => {
                        bytes.push(byte);
                        rest = after;
                    }
                    Some(_) | None => bytes.push(b'%'),
                }
            }
            (b'+', _) => bytes.extend_from_slice(plus.encode_utf8(&mut [0; 4]).as_bytes()),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes all but the unreserved characters, and slashes where `keep_slash` says so.
pub(super) fn encode(text: &str, slash: Slash) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let keep = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~')
            || (byte == b'/' && slash == Slash::Kept);
        if keep {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([byte]));
        }
    }
    out
}

/// What becomes of slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slash {
    Kept,
    Encoded,
}

/// The name of a virtual host's bucket, under one of the store's own names.
fn virtual_bucket(headers: &HeaderMap, uri: &Uri, domains: &[String]) -> Option<String> {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).or_else(|| uri.host())?;
    let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    domains.iter().find_map(|domain| {
        let bucket = host.strip_suffix(domain.as_str())?.strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    })
}

impl Call {
    pub(super) fn new(
        parts: &http::request::Parts,
        peer: IpAddr,
        id: String,
        domains: &[String],
        now_ms: u64,
    ) -> Result<Self, Fault> {
        let path = parts.uri.path().to_owned();
        let wrong = || Fault::new("InvalidURI", "Couldn't parse the specified URI.");
        let decoded = decode(&path, '+').ok_or_else(wrong)?;
        if decoded.contains('\0') {
            return Err(wrong());
        }
        let rest = decoded.strip_prefix('/').unwrap_or(&decoded);
        let (bucket, key) = if let Some(bucket) = virtual_bucket(&parts.headers, &parts.uri, domains) {
            (bucket, rest.to_owned())
        } else {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            (bucket.to_owned(), key.to_owned())
        };
        // An account before a colon, as some clients write it; the empty one is everybody's.
        let bucket = bucket.strip_prefix(':').map_or_else(|| bucket.clone(), ToOwned::to_owned);
        let raw = parts.uri.query().unwrap_or_default();
        if raw.len() > QUERY_BYTES_MAX {
            return Err(wrong());
        }
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        let query = pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(name, ' ')?, decode(value, ' ')?))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(wrong)?;
        Ok(Self {
            method: parts.method.clone(),
            path,
            bucket: (!bucket.is_empty()).then_some(bucket),
            key: (!key.is_empty()).then_some(key),
            query,
            headers: parts.headers.clone(),
            peer,
            id,
            now_ms,
        })
    }

    /// The bucket's name.
    pub(super) fn bucket(&self) -> Result<&str, Fault> {
        self.bucket.as_deref().ok_or_else(|| Fault::new("InvalidBucketName", "the request names no bucket"))
    }

    /// The object's key.
    pub(super) fn key(&self) -> Result<&str, Fault> {
        self.key.as_deref().ok_or_else(|| Fault::argument("the request names no object"))
    }

    /// Whether the query has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.query.iter().any(|(have, _value)| have == name)
    }

    /// The value of a query's name.
    pub(super) fn ask(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(have, _value)| have == name).map(|(_name, value)| value.as_str())
    }

    /// The same, a number.
    pub(super) fn ask_number<N: std::str::FromStr>(&self, name: &'static str) -> Result<Option<N>, Fault> {
        let parse = |text: &str| {
            text.parse().map_err(|_error| {
                Fault::argument(format!("`{name}` is no number in its range"))
                    .with("ArgumentName", name)
                    .with("ArgumentValue", text)
            })
        };
        self.ask(name).filter(|text| !text.is_empty()).map(parse).transpose()
    }

    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Names and values of the headers that start so, in small letters.
    pub(super) fn headers_from(&self, prefix: &str) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for name in self.headers.keys() {
            if let Some(rest) = name.as_str().strip_prefix(prefix) {
                let values = self.headers.get_all(name).iter();
                let values: Vec<_> = values.map(|value| lenient(value.as_bytes()).trim().to_owned()).collect();
                found.push((rest.to_owned(), values.join(",")));
            }
        }
        found
    }

    /// The path of the bucket or object for messages.
    pub(super) fn resource(&self) -> String {
        match (&self.bucket, &self.key) {
            (Some(bucket), Some(key)) => format!("/{bucket}/{key}"),
            (Some(bucket), None) => format!("/{bucket}"),
            (None, _) => "/".to_owned(),
        }
    }
}

/// A header's bytes as text: UTF-8, or else Latin-1, which old clients send.
pub(super) fn lenient(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes)
        .map_or_else(|_error| bytes.iter().map(|byte| char::from(*byte)).collect(), ToOwned::to_owned)
}

/// A header's value as text.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(uri: &str, host: &str) -> Result<Call, Fault> {
        let (parts, ()) = http::Request::get(uri).header("host", host).body(()).unwrap().into_parts();
        Call::new(&parts, IpAddr::from([127, 0, 0, 1]), "id".to_owned(), &["s3.example".to_owned()], 0)
    }

    #[test]
    fn paths_name_buckets_and_keys_in_both_styles() {
        for (uri, host, bucket, key) in [
            ("/", "h:1", None, None),
            ("/b", "h", Some("b"), None),
            ("/b/", "h", Some("b"), None),
            ("/b/a/c%20d+e%2Bf", "h", Some("b"), Some("a/c d+e+f")),
            ("/b//x", "h", Some("b"), Some("/x")),
            ("/a/c", "b.s3.example:80", Some("b"), Some("a/c")),
            ("/a", "s3.example", Some("a"), None),
        ] {
            let call = call(uri, host).unwrap();
            assert_eq!((call.bucket.as_deref(), call.key.as_deref()), (bucket, key), "{uri}");
        }
        assert!(call("/b/%ff", "h").is_err());
        assert!(call("/b/%00", "h").is_err());
        assert_eq!(call("/b?a=1+2&b&c=%26", "h").unwrap().ask("c"), Some("&"));
    }

    #[test]
    fn encoding_reads_back() {
        for text in ["a b+c/é%", "", "~-._", "\u{1f600}"] {
            assert_eq!(decode(&encode(text, Slash::Encoded), '+').as_deref(), Some(text));
        }
    }
}
