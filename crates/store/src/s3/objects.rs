//! Operations on whole objects.

use futures::TryStreamExt as _;
use s3s::dto::{
    ChecksumMode, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, GetObjectInput, GetObjectOutput,
    HeadObjectInput, HeadObjectOutput, MetadataDirective, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};

use super::body::{self, Expected};
use super::convert::{ChecksumFields, ReadConditions, condition, count, etag, range, signed, timestamp};
use crate::{BodyWriter, ChecksumKind, Condition, ObjectHeaders, ObjectInfo, ObjectReader, RangeRequest, Store};

/// S3's own limit of a request to delete many.
const DELETES_MAX: usize = 1_000;

/// S3's own limit of all user metadata together.
const USER_METADATA_BYTES_MAX: usize = 2 << 10;

/// The only version that an object of an unversioned bucket has.
pub(super) const NULL_VERSION: &str = "null";

fn check_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("" | NULL_VERSION) => Ok(()),
        Some(_other) => Err(s3_error!(NoSuchVersion, "buckets have no versions; the only one is `null`")),
    }
}

/// `aws-chunked` is how the request was framed, not what the object is.
pub(super) fn content_encoding(value: Option<String>) -> Option<String> {
    let value = value?;
    let kept: Vec<&str> =
        value.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) fn check_metadata(headers: &ObjectHeaders) -> S3Result<()> {
    let bytes: usize = headers.user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > USER_METADATA_BYTES_MAX {
        return Err(s3_error!(MetadataTooLarge, "user metadata has at most 2 KiB"));
    }
    Ok(())
}

/// The headers that several inputs have under the same names.
macro_rules! object_headers {
    ($input:expr) => {
        $crate::ObjectHeaders {
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $crate::s3::objects::content_encoding($input.content_encoding.take()),
            content_language: $input.content_language.take(),
            expires_ms: $input.expires.take().as_ref().map($crate::s3::convert::to_ms),
            user: $input.metadata.take().unwrap_or_default().into_iter().collect(),
        }
    };
}
pub(super) use object_headers;

pub(super) async fn put(store: &Store, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
    let S3Request { mut input, headers, trailing_headers, .. } = request;
    crate::store::check_key(&input.key)?;
    store.bucket(&input.bucket).await?;
    let condition = condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let object_headers = object_headers!(input);
    check_metadata(&object_headers)?;
    let expected = Expected::new(&headers, input.content_length, input.content_md5.take())?;
    let writer = store.body_with(expected.kind(None));
    let sealed = body::take(writer, input.body.take(), &expected, trailing_headers.as_ref()).await?;
    let info = store.put_sealed(&input.bucket, &input.key, sealed, object_headers, condition).await?;
    let sums = ChecksumFields::from(&info.checksums);
    Ok(PutObjectOutput {
        e_tag: Some(etag(&info.etag)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        checksum_type: sums.kind,
        ..PutObjectOutput::default()
    })
}

/// Which bytes a read wants: a range, a part, or all.
fn wanted(
    info: &ObjectInfo,
    asked: Option<&s3s::dto::Range>,
    part: Option<i32>,
) -> S3Result<(std::ops::Range<u64>, bool)> {
    let Some(part) = part else {
        let range = range(asked);
        return Ok((range.resolve(info.size)?, range != RangeRequest::Whole));
    };
    if asked.is_some() {
        return Err(s3_error!(InvalidRequest, "a range and a part number exclude each other"));
    }
    let index = usize::try_from(part).ok().and_then(|part| part.checked_sub(1));
    let index = index.ok_or_else(|| s3_error!(InvalidArgument, "part numbers start at 1"))?;
    let lengths = info.part_lengths();
    let Some(length) = lengths.get(index) else {
        let code = S3ErrorCode::Custom("InvalidPartNumber".into());
        let mut error = S3Error::with_message(code, "the object has no such part");
        error.set_status_code(http::StatusCode::RANGE_NOT_SATISFIABLE);
        return Err(error);
    };
    let start: u64 = lengths.iter().take(index).sum();
    Ok((start..start + length, true))
}

fn content_range(range: &std::ops::Range<u64>, size: u64, partial: bool) -> Option<String> {
    (partial && range.start < range.end).then(|| format!("bytes {}-{}/{size}", range.start, range.end - 1))
}

fn shown_sums(info: &ObjectInfo, mode: Option<&ChecksumMode>, whole: bool) -> ChecksumFields {
    let asked = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    if asked && whole { ChecksumFields::from(&info.checksums) } else { ChecksumFields::default() }
}

fn parts_count(info: &ObjectInfo, part: Option<i32>) -> Option<i32> {
    part.and_then(|_part| info.part_count()).map(count)
}

/// The fields that GET and HEAD answer alike.
macro_rules! described {
    ($output:ident, $info:expr, $sums:expr, $range:expr, $partial:expr, $part:expr, { $($field:ident: $value:expr),* $(,)? }) => {
        $output {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(signed($range.end - $range.start)),
            content_range: content_range(&$range, $info.size, $partial),
            e_tag: Some(etag(&$info.etag)),
            last_modified: Some(timestamp($info.modified_ms)),
            parts_count: parts_count(&$info, $part),
            checksum_crc32: $sums.crc32,
            checksum_crc32c: $sums.crc32c,
            checksum_crc64nvme: $sums.crc64nvme,
            checksum_sha1: $sums.sha1,
            checksum_sha256: $sums.sha256,
            checksum_type: $sums.kind,
            content_type: Some($info.meta.headers.content_type.unwrap_or_else(|| "binary/octet-stream".to_owned())),
            cache_control: $info.meta.headers.cache_control,
            content_disposition: $info.meta.headers.content_disposition,
            content_encoding: $info.meta.headers.content_encoding,
            content_language: $info.meta.headers.content_language,
            expires: $info.meta.headers.expires_ms.map(timestamp),
            metadata: Some($info.meta.headers.user.into_iter().collect()),
            $($field: $value,)*
            ..$output::default()
        }
    };
}

pub(super) async fn get(store: &Store, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
    let input = request.input;
    check_version(input.version_id.as_deref())?;
    let reader = store.object(&input.bucket, &input.key).await?;
    let info = reader.info().clone();
    conditions(
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
        input.if_modified_since.as_ref(),
        input.if_unmodified_since.as_ref(),
    )
    .check(&info, &S3ErrorCode::NotModified)?;
    let (range, partial) = wanted(&info, input.range.as_ref(), input.part_number)?;
    let sums = shown_sums(&info, input.checksum_mode.as_ref(), range == (0..info.size));
    let body = StreamingBlob::wrap(reader.stream(range.clone()));
    Ok(described!(GetObjectOutput, info, sums, range, partial, input.part_number, { body: Some(body) }))
}

pub(super) async fn head(store: &Store, request: S3Request<HeadObjectInput>) -> S3Result<HeadObjectOutput> {
    let input = request.input;
    check_version(input.version_id.as_deref())?;
    let info = store.head(&input.bucket, &input.key).await?;
    conditions(
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
        input.if_modified_since.as_ref(),
        input.if_unmodified_since.as_ref(),
    )
    .check(&info, &S3ErrorCode::NotModified)?;
    let (range, partial) = wanted(&info, input.range.as_ref(), input.part_number)?;
    let sums = shown_sums(&info, input.checksum_mode.as_ref(), range == (0..info.size));
    Ok(described!(HeadObjectOutput, info, sums, range, partial, input.part_number, {}))
}

pub(super) fn conditions<'a>(
    if_match: Option<&'a s3s::dto::ETagCondition>,
    if_none_match: Option<&'a s3s::dto::ETagCondition>,
    if_modified_since: Option<&'a Timestamp>,
    if_unmodified_since: Option<&'a Timestamp>,
) -> ReadConditions<'a> {
    ReadConditions { if_match, if_none_match, if_modified_since, if_unmodified_since }
}

pub(super) async fn delete(store: &Store, request: S3Request<DeleteObjectInput>) -> S3Result<DeleteObjectOutput> {
    let input = request.input;
    check_version(input.version_id.as_deref())?;
    store.delete(&input.bucket, &input.key, condition(input.if_match.as_ref(), None)?).await?;
    Ok(DeleteObjectOutput::default())
}

/// Whether XML 1.0 can hold `text`.
fn fits_xml(text: &str) -> bool {
    text.chars()
        .all(|char| matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
}

pub(super) async fn delete_many(
    store: &Store,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<DeleteObjectsOutput> {
    let input = request.input;
    if input.delete.objects.is_empty() || input.delete.objects.len() > DELETES_MAX {
        return Err(s3_error!(MalformedXML, "from 1 to {DELETES_MAX} keys"));
    }
    store.bucket(&input.bucket).await?;
    let quiet = input.delete.quiet.unwrap_or(false);
    let bucket = &input.bucket;
    // All at once, so that they share a commit.
    let results = futures::future::join_all(input.delete.objects.into_iter().map(|object| async move {
        let condition =
            object.e_tag.as_ref().map_or(Condition::Always, |tag| Condition::IfMatch(tag.value().to_owned()));
        let result = match check_version(object.version_id.as_deref()) {
            Ok(()) => store.delete(bucket, &object.key, condition).await.map_err(S3Error::from),
            Err(error) => Err(error),
        };
        (object.key, object.version_id, result)
    }))
    .await;
    let mut output = DeleteObjectsOutput::default();
    for (key, version_id, result) in results {
        match result {
            // XML cannot say such a key, and an answer that no client can read would hide the deletes that were done.
            Ok(_existed) if quiet || !fits_xml(&key) => {}
            Ok(_existed) => output.deleted.get_or_insert_default().push(DeletedObject {
                key: Some(key),
                version_id,
                ..DeletedObject::default()
            }),
            Err(error) => output.errors.get_or_insert_default().push(s3s::dto::Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(key).filter(|key| fits_xml(key)),
                message: error.message().map(ToOwned::to_owned),
                version_id,
            }),
        }
    }
    Ok(output)
}

/// Bucket and key that a copy reads.
pub(super) fn copy_source(source: &CopySource) -> S3Result<(&str, &str)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            check_version(version_id.as_deref())?;
            Ok((bucket, key))
        }
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => {
            Err(s3_error!(NotImplemented, "a copy's source is a bucket and a key"))
        }
    }
}

/// Streams `range` of an object into a new body, without holding more than a few blocks.
pub(super) async fn copy_body(
    reader: ObjectReader,
    range: std::ops::Range<u64>,
    mut writer: BodyWriter,
) -> S3Result<crate::SealedBody> {
    let mut stream = std::pin::pin!(reader.stream(range));
    while let Some(bytes) = stream.try_next().await? {
        writer.write(bytes).await?;
    }
    Ok(writer.finish().await?)
}

pub(super) async fn copy(store: &Store, request: S3Request<CopyObjectInput>) -> S3Result<CopyObjectOutput> {
    let mut input = request.input;
    let (bucket, key) = copy_source(&input.copy_source)?;
    let replace =
        input.metadata_directive.as_ref().is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
    if !replace && bucket == input.bucket && key == input.key {
        return Err(s3_error!(InvalidRequest, "a copy onto itself must replace the metadata"));
    }
    store.bucket(&input.bucket).await?;
    let reader = store.object(bucket, key).await?;
    let info = reader.info().clone();
    conditions(
        input.copy_source_if_match.as_ref(),
        input.copy_source_if_none_match.as_ref(),
        input.copy_source_if_modified_since.as_ref(),
        input.copy_source_if_unmodified_since.as_ref(),
    )
    .check(&info, &S3ErrorCode::PreconditionFailed)?;
    let headers = if replace { object_headers!(input) } else { info.meta.headers };
    check_metadata(&headers)?;
    let asked = input.checksum_algorithm.as_ref().and_then(|name| ChecksumKind::parse(name.as_str()));
    let kept = info.checksums.value.as_ref().map(|(kind, _value)| *kind);
    let writer = store.body_with(asked.or(kept).unwrap_or(ChecksumKind::Crc64Nvme));
    let sealed = copy_body(reader, 0..info.size, writer).await?;
    let info = store.put_sealed(&input.bucket, &input.key, sealed, headers, Condition::Always).await?;
    let sums = ChecksumFields::from(&info.checksums);
    let result = CopyObjectResult {
        e_tag: Some(etag(&info.etag)),
        last_modified: Some(timestamp(info.modified_ms)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        checksum_type: sums.kind,
    };
    Ok(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
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

    #[test]
    fn control_characters_do_not_fit_into_xml() {
        assert!(fits_xml("a/b <&> é \u{1f600}"));
        assert!(!fits_xml("a\u{1}") && !fits_xml("\u{ffff}"));
    }
}
