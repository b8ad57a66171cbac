//! Fuzz targets of the front: requests, signatures, framed bodies, ranges, documents.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::call::{Call, Slash, decode, encode};
use super::framing::{ChunkKey, Framing};
use super::sign::{Claim, claim, signing_key};
use super::xml::{Node, Xml};
use super::{conditions, copy, cors, delete, documents, form, get, job, lifecycle, multipart, put, query, route, sse};

/// 2026-11-26T07:11:07Z.
const NOW_MS: u64 = 1_795_677_067_000;

const SECRET: &str = "a-secret-of-tests-only";

/// A request: a line with method and address, then a line for each header.
fn call(bytes: &[u8]) -> Option<Call> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (method, uri) = first.split_at_checked(space)?;
    let mut request = http::Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(uri.get(1..)?).ok()?;
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    let (parts, ()) = request.into_parts();
    let domains = ["s3.example".to_owned()];
    Call::new(&parts, IpAddr::from([127, 0, 0, 1]), "id".to_owned(), &domains, NOW_MS).ok()
}

/// What a request says is found, or refused.
pub(crate) fn requests(bytes: &[u8]) {
    let Some(call) = call(bytes) else { return };
    assert!(call.bucket.as_deref() != Some("") && call.key.as_deref() != Some(""), "{call:?}");
    if let Some(key) = &call.key {
        assert!(!key.contains('\0'));
        assert_eq!(decode(&encode(key, Slash::Encoded), '+').as_deref(), Some(key.as_str()));
    }
    if let Ok(op) = route::route(&call) {
        assert!(!op.action().is_empty() && !op.name().is_empty());
    }
    assert!(!form::is_form(&call) || call.key.is_none());
    if query::is_query(&call) || sse::is_named(&call) {
        drop(call.resource());
    }
    drop(job::version(&call));
    drop(put::headers(&call));
    drop(put::tags(&call));
    drop(put::storage_class(&call));
    drop(conditions::of_write(&call));
    drop(super::intake::Expected::new(&call));
    for name in ["max-keys", "partNumber", "max-uploads"] {
        drop(call.ask_number::<u32>(name));
    }
    if let Some(Ok(source)) = call.header("x-amz-copy-source").map(copy::Source::parse) {
        assert!(!source.bucket.is_empty() && !source.key.is_empty() && !source.key.contains('\0'));
    }
}

/// A claim is read or refused; one that verifies does so under its own secret alone.
pub(crate) fn signatures(bytes: &[u8]) {
    let Some(call) = call(bytes) else { return };
    match claim(&call) {
        Ok(Claim::V4(claim)) => {
            let verifies =
                |secret: &str, payload: &str| claim.verify(&call, &signing_key(secret, &claim.scope), payload).is_ok();
            if verifies(SECRET, "UNSIGNED-PAYLOAD") {
                assert!(!verifies("another", "UNSIGNED-PAYLOAD") && !verifies(SECRET, "x"), "{call:?}");
            }
        }
        Ok(Claim::V2(claim)) => {
            if claim.verify(&call, SECRET).is_ok() {
                assert!(claim.verify(&call, "another").is_err(), "{call:?}");
            }
        }
        Ok(Claim::None) | Err(_) => {}
    }
}

fn unframe(text: &[u8], piece: usize, chain: Option<ChunkKey>) -> Result<(Vec<u8>, HeaderMap), ()> {
    let mut framing = Framing::new(chain, true);
    let mut body = Vec::new();
    for bytes in text.chunks(piece.max(1)) {
        framing.push(Bytes::copy_from_slice(bytes), |bytes| body.extend_from_slice(&bytes)).map_err(drop)?;
    }
    Ok((body, framing.finish().map_err(drop)?))
}

/// A framed body is the same however it is cut into pieces, and holds no more than arrived.
pub(crate) fn chunks(bytes: &[u8]) {
    let Some(([piece, signed], text)) = bytes.split_first_chunk::<2>() else { return };
    let scope = "20130524/us-east-1/s3/aws4_request".to_owned();
    let chain = (signed & 1 == 1).then(|| ChunkKey {
        key: signing_key(SECRET, &scope),
        date: "20130524T000000Z".to_owned(),
        scope,
        seed: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned(),
    });
    let whole = unframe(text, text.len(), chain.clone());
    let pieces = unframe(text, usize::from(*piece), chain.clone());
    assert_eq!(whole, pieces, "cut into pieces of {piece}");
    if let Ok((body, _trailers)) = whole {
        assert!(body.len() < text.len());
        // Without the secret nobody makes signed bytes.
        assert!(chain.is_none() || body.is_empty(), "{}", text.escape_ascii());
    }
}

/// A range that is understood is the one that its text names, inside of the object.
pub(crate) fn ranges(bytes: &[u8]) {
    let Some((size, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let size = u64::from(*size);
    let Some(asked) = get::range(text) else { return };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // What has more digits is more than any object has bytes.
    let number = |text: &str| text.parse::<u128>().unwrap_or(u128::MAX);
    let spec = text.trim().strip_prefix("bytes=").and_then(|spec| spec.split_once('-'));
    let wanted: Vec<u64> = (0..size)
        .filter(|at| match spec {
            Some(("", count)) => digits(count) && u128::from(size - at) <= number(count),
            Some((first, "")) => digits(first) && u128::from(*at) >= number(first),
            Some((first, last)) => (number(first)..=number(last)).contains(&u128::from(*at)),
            None => false,
        })
        .collect();
    match asked.resolve(size) {
        Ok(range) => assert_eq!(range.collect::<Vec<_>>(), wanted, "{text} of {size}"),
        Err(_unsatisfiable) => assert!(wanted.is_empty(), "{text} of {size}"),
    }
    assert!(conditions::plain_tag(text).len() <= text.len());
}

fn written(node: &Node) -> String {
    let mut xml = Xml::document();
    node.write(&mut xml);
    xml.finish()
}

/// A document that is read is, written and read again, the same; no reader of its content panics.
pub(crate) fn documents(bytes: &[u8]) {
    let Ok(mut root) = Node::parse(bytes) else { return };
    // One pass replaces characters that XML cannot carry.
    let once = written(&root);
    let again = Node::parse(once.as_bytes());
    assert_eq!(again.map(|again| written(&again)).as_ref().ok(), Some(&once), "it reads back as it was written");
    drop(cors::check(&root));
    drop(delete::wanted(&root));
    drop(documents::tags(&root));
    drop(documents::check_lock(&root));
    drop(sse::check_configuration(&root));
    drop(multipart::named_parts(&root));
    if lifecycle::check(&mut root).is_ok() {
        drop(lifecycle::rules(&root));
    }
}
