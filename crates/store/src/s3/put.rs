//! Writing an object, and what may be said about one that is written.

use super::acl;
use super::call::{Call, decode};
use super::conditions;
use super::fault::Fault;
use super::intake::{self, Expected, sealed_with, take};
use super::job::Job;
use super::object_docs::{self, check_tags};
use super::reply::{Answer, Reply, parse_time};
use super::sse;
use crate::{ChecksumKind, ObjectHeaders, ObjectInfo, ObjectMeta, VersionId, Versioning};

/// User metadata of one object; S3's own limit, names and values together.
const USER_META_BYTES_MAX: usize = 2 << 10;

/// The most bytes of one PUT; S3's own limit.
const PUT_BYTES_MAX: u64 = dh_core::limits::OBJECT_PUT_BYTES_MAX;

const STORAGE_CLASSES: &[&str] = &[
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
];

/// The object's headers that a request names.
pub(super) fn headers(call: &Call) -> Result<ObjectHeaders, Fault> {
    let text = |name: &str| call.header(name).filter(|value| !value.is_empty()).map(ToOwned::to_owned);
    let user: std::collections::BTreeMap<String, String> = call.headers_from("x-amz-meta-").into_iter().collect();
    if user.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > USER_META_BYTES_MAX {
        return Err(Fault::new("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size."));
    }
    Ok(ObjectHeaders {
        content_type: text("content-type"),
        cache_control: text("cache-control"),
        content_disposition: text("content-disposition"),
        content_encoding: content_encoding(text("content-encoding")),
        content_language: text("content-language"),
        expires_ms: call.header("expires").and_then(parse_time),
        user,
    })
}

/// `aws-chunked` is the framing of the request, not the object's encoding.
fn content_encoding(value: Option<String>) -> Option<String> {
    let value = value?;
    let kept: Vec<&str> =
        value.split(',').map(str::trim).filter(|one| !one.eq_ignore_ascii_case("aws-chunked")).collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// The tags of a header.
pub(super) fn tags(call: &Call) -> Result<Vec<(String, String)>, Fault> {
    let Some(text) = call.header("x-amz-tagging") else { return Ok(Vec::new()) };
    let read = |text: &str| decode(text, ' ').ok_or_else(|| Fault::argument("a tag is no UTF-8"));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((read(name)?, read(value)?))
    };
    let tags = text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Result<Vec<_>, Fault>>()?;
    check_tags(&tags, 10)?;
    Ok(tags)
}

/// The storage class that a request names.
pub(super) fn storage_class(call: &Call) -> Result<Option<String>, Fault> {
    match call.header("x-amz-storage-class") {
        None | Some("STANDARD") => Ok(None),
        Some(name) if STORAGE_CLASSES.contains(&name) => Ok(Some(name.to_owned())),
        Some(_other) => Err(Fault::new("InvalidStorageClass", "The storage class you specified is not valid")),
    }
}

/// Everything that a request says about the object it makes, but for its encryption.
pub(super) fn meta(job: &Job) -> Result<ObjectMeta, Fault> {
    let (owner, acl) = acl::of_new_object(job)?;
    Ok(ObjectMeta {
        headers: headers(&job.call)?,
        owner,
        tags: tags(&job.call)?,
        acl,
        lock: object_docs::new_lock(job)?,
        sse: None,
        storage_class: storage_class(&job.call)?,
    })
}

/// Sets the headers that tell which version was written.
pub(super) fn version(mut reply: Reply, job: &Job, version: VersionId) -> Reply {
    let versioned = job.bucket.as_ref().is_some_and(|bucket| bucket.info.versioning == Versioning::Enabled);
    if versioned || version != VersionId::Null {
        reply.set("x-amz-version-id", version.to_string());
    }
    reply
}

/// The bytes that a body says it has; zero where HTTP's own chunks tell its end.
pub(super) fn length(job: &Job) -> Result<u64, Fault> {
    let chunked = job.call.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    match job.payload.length() {
        Some(length) => Ok(length),
        None if chunked => Ok(0),
        None => Err(Fault::new("MissingContentLength", "You must provide the Content-Length HTTP header.")),
    }
}

pub(super) async fn put(job: &mut Job) -> Answer {
    if length(job)? > PUT_BYTES_MAX {
        return Err(Fault::new("EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size."));
    }
    let expected = Expected::new(&job.call)?;
    let mut meta = meta(job)?;
    let condition = conditions::of_write(&job.call)?;
    let sealing = sse::start(job, sse::wish(&job.call, job.bucket()?)?)?;
    meta.sse.clone_from(&sealing.sse);
    let writer = job.store().body_with(expected.named().unwrap_or(ChecksumKind::Crc64Nvme));
    let sealed = take(sealed_with(writer, sealing.cipher), &mut job.payload, &expected).await?;
    let (bucket, key) = (job.call.bucket()?, job.call.key()?);
    let info = job.store().put_sealed(bucket, key, sealed, meta, condition).await?;
    job.object = Some(info.clone());
    Ok(written(job, &info).empty())
}

/// The answer that tells of a written object.
pub(super) fn written(job: &Job, info: &ObjectInfo) -> Reply {
    let mut reply = Reply::ok().with("etag", format!("\"{}\"", info.etag));
    for (name, value) in intake::shown(&info.checksums) {
        reply.set(&name, value);
    }
    sse::show(&mut reply, info.meta.sse.as_ref());
    version(reply, job, info.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_framing_is_not_kept_as_the_objects_encoding() {
        let encoding = |value: &str| content_encoding(Some(value.to_owned()));
        assert_eq!(encoding("aws-chunked"), None);
        assert_eq!(encoding("gzip,aws-chunked"), Some("gzip".to_owned()));
        assert_eq!(encoding("gzip"), Some("gzip".to_owned()));
    }
}
