//! Reading an object: conditions, ranges, parts, and the headers that tell about it.

use std::ops::Range;

use futures::StreamExt as _;
use http::StatusCode;

use super::conditions;
use super::fault::Fault;
use super::intake;
use super::job::Job;
use super::reply::{Answer, Reply, http_date, iso, streamed};
use super::sse;
use crate::{Checksums, LegalHold, ObjectInfo, RangeRequest, RetentionMode, Version, VersionId, Versioning};

/// Headers that a query may replace in the answer.
const OVERRIDES: &[(&str, &str)] = &[
    ("response-content-type", "content-type"),
    ("response-content-language", "content-language"),
    ("response-expires", "expires"),
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
];

/// The range that a `Range` header asks for; one that cannot be read counts for nothing, as RFC 9110 says.
pub(super) fn range(text: &str) -> Option<RangeRequest> {
    let spec = text.trim().strip_prefix("bytes=")?;
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(count)) if first.is_empty() => Some(RangeRequest::Suffix(count)),
        (Some(first), None) if last.is_empty() => Some(RangeRequest::Between(first, None)),
        (Some(first), Some(last)) if first <= last => Some(RangeRequest::Between(first, Some(last))),
        (Some(_) | None, Some(_) | None) => None,
    }
}

/// The bytes of a part.
pub(super) fn part(info: &ObjectInfo, number: u32) -> Result<Range<u64>, Fault> {
    let wrong = || Fault::new("InvalidPart", "The requested partnumber is not satisfiable");
    if info.parts.is_empty() {
        return if number == 1 { Ok(0..info.size) } else { Err(wrong()) };
    }
    let mut start = 0;
    for part in &info.parts {
        if part.number == number {
            return Ok(start..start + part.size);
        }
        start += part.size;
    }
    Err(wrong())
}

/// Everything but the body.
fn head_of(job: &Job, status: StatusCode, info: &ObjectInfo) -> Result<Reply, Fault> {
    let call = &job.call;
    let bucket = job.bucket()?;
    let headers = &info.meta.headers;
    let mut reply = Reply::new(status)
        .with("etag", format!("\"{}\"", info.etag))
        .with("last-modified", http_date(info.modified_ms))
        .with("accept-ranges", "bytes")
        .with("content-type", headers.content_type.as_deref().unwrap_or("binary/octet-stream"))
        .maybe("cache-control", headers.cache_control.as_ref())
        .maybe("content-disposition", headers.content_disposition.as_ref())
        .maybe("content-encoding", headers.content_encoding.as_ref())
        .maybe("content-language", headers.content_language.as_ref())
        .maybe("expires", headers.expires_ms.map(http_date))
        .maybe("x-amz-storage-class", job.store().class_of(info));
    for (name, value) in &headers.user {
        reply.set(&format!("x-amz-meta-{name}"), value);
    }
    if info.version != VersionId::Null || bucket.info.versioning != Versioning::Unversioned {
        reply.set("x-amz-version-id", info.version.to_string());
    }
    if !info.meta.tags.is_empty() {
        reply.set("x-amz-tagging-count", info.meta.tags.len().to_string());
    }
    if let Some(retention) = info.meta.lock.retention {
        reply.set("x-amz-object-lock-mode", mode_name(retention.mode));
        reply.set("x-amz-object-lock-retain-until-date", iso(retention.until_ms));
    }
    if let Some(hold) = info.meta.lock.legal_hold {
        reply.set("x-amz-object-lock-legal-hold", if hold == LegalHold::On { "ON" } else { "OFF" });
    }
    sse::show(&mut reply, info.meta.sse.as_ref());
    if let Some((rule, expires_ms)) = super::lifecycle::expiration(job, info) {
        reply.set("x-amz-expiration", format!("expiry-date=\"{}\", rule-id=\"{rule}\"", http_date(expires_ms)));
    }
    for (asked, header) in OVERRIDES {
        if let Some(value) = call.ask(asked) {
            if job.visitor.version.is_none() {
                return Err(Fault::request(
                    "Request specific response headers cannot be used for anonymous GET requests.",
                ));
            }
            reply.set(header, value);
        }
    }
    Ok(reply)
}

pub(super) const fn mode_name(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => "GOVERNANCE",
        RetentionMode::Compliance => "COMPLIANCE",
    }
}

/// What of the object is wanted: status, bytes, headers.
fn wanted(job: &Job, info: &ObjectInfo) -> Result<(Reply, Range<u64>), Fault> {
    conditions::of_read(&job.call, info)?;
    let number: Option<u32> = job.call.ask_number("partNumber")?;
    let asked = job.call.header("range").and_then(range);
    let (status, bytes) = match (number, asked) {
        (Some(number), _) => {
            let bytes = part(info, number)?;
            (if bytes.end - bytes.start == info.size { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT }, bytes)
        }
        (None, None) => (StatusCode::OK, 0..info.size),
        (None, Some(asked)) => {
            let resolved = asked.resolve(info.size);
            (
                StatusCode::PARTIAL_CONTENT,
                resolved.map_err(|error| Fault::from(error).with("ActualObjectSize", info.size.to_string()))?,
            )
        }
    };
    let mut reply = head_of(job, status, info)?;
    reply.set("content-length", (bytes.end - bytes.start).to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        reply.set("content-range", format!("bytes {}-{}/{}", bytes.start, bytes.end.saturating_sub(1), info.size));
    }
    if number.is_some() && !info.parts.is_empty() {
        reply.set("x-amz-mp-parts-count", info.parts.len().to_string());
    }
    if job.call.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")) {
        let of_part = number.and_then(|number| info.parts.iter().find(|part| part.number == number));
        // A checksum of the whole says nothing about a part of it.
        let sums = match of_part {
            // Its type is the whole's.
            Some(part) => Some(Checksums { value: part.checksums.value.clone(), composite: info.checksums.composite }),
            None => (status == StatusCode::OK).then(|| info.checksums.clone()),
        };
        for (name, value) in sums.as_ref().map(intake::shown).unwrap_or_default() {
            reply.set(&name, value);
        }
    }
    Ok((reply, bytes))
}

pub(super) fn head(job: &Job) -> Answer {
    let info = job.object()?;
    sse::check_read(&job.call, info)?;
    sse::open(&job.front.ring, &job.call, info.meta.sse.as_ref(), sse::CUSTOMER)?;
    let (reply, _bytes) = wanted(job, info)?;
    Ok(reply.body(super::reply::empty_of_any_length()))
}

pub(super) async fn get(job: &mut Job) -> Answer {
    let info = job.object()?;
    sse::check_read(&job.call, info)?;
    let cipher = sse::open(&job.front.ring, &job.call, info.meta.sse.as_ref(), sse::CUSTOMER)?;
    // The version that was decided about, not one that has come meanwhile.
    let version = if info.version == VersionId::Null { job.version()? } else { Version::Id(info.version) };
    let reader = job.store().object_version(job.call.bucket()?, job.call.key()?, version).await?;
    let reader = reader.decrypted(cipher);
    let info = reader.info().clone();
    let (reply, bytes) = wanted(job, &info)?;
    if !reader.is_remote() {
        return Ok(reply.body(streamed(reader.stream(bytes))));
    }
    // Whether the other store answers is known before anything is said to the client.
    let mut pieces = Box::pin(reader.stream(bytes));
    let first = pieces.next().await.transpose()?;
    Ok(reply.body(streamed(futures::stream::iter(first.map(Ok)).chain(pieces))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_count_for_nothing() {
        for (text, want) in [
            ("bytes=0-9", Some(RangeRequest::Between(0, Some(9)))),
            ("bytes=5-", Some(RangeRequest::Between(5, None))),
            ("bytes=-3", Some(RangeRequest::Suffix(3))),
            ("bytes=9-0", None),
            ("bytes=-", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-b", None),
            ("lines=0-1", None),
            ("bytes=99999999999999999999-", Some(RangeRequest::Between(u64::MAX, None))),
        ] {
            assert_eq!(range(text), want, "{text}");
        }
    }

    #[test]
    fn random_ranges_never_panic_and_stay_inside() {
        let mut state = 11_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for _round in 0..50_000 {
            let length = next() % 12;
            let text: String = (0..length)
                .map(|_index| char::from(b"0123456789-,= a"[usize::try_from(next() % 15).unwrap()]))
                .collect();
            let size = next() % 100;
            if let Some(Ok(bytes)) = range(&format!("bytes={text}")).map(|asked| asked.resolve(size)) {
                assert!(bytes.start < bytes.end && bytes.end <= size, "{text} of {size}");
            }
        }
    }
}
