//! Operations on multipart uploads.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CopyPartResult,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, Initiator, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part, StorageClass,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Result, s3_error};

use super::body::{self, Expected};
use super::buckets::owner;
use super::convert::{ChecksumFields, OWNER, condition, count, etag, limit, part_number, signed, timestamp};
use super::list::Encoding;
use super::objects::{check_metadata, conditions, copy_body, copy_source, object_headers};
use crate::{ChecksumKind, CompletePart, PartInfo, RangeRequest, Store, UploadInfo, UploadQuery, UploadStart};

fn initiator() -> Initiator {
    Initiator { display_name: Some(OWNER.to_owned()), id: Some(OWNER.to_owned()) }
}

fn algorithm(info: &UploadInfo) -> Option<ChecksumAlgorithm> {
    info.checksum.map(|kind| ChecksumAlgorithm::from_static(kind.name()))
}

fn checksum_type(info: &UploadInfo) -> Option<ChecksumType> {
    let name = if info.full_object { ChecksumType::FULL_OBJECT } else { ChecksumType::COMPOSITE };
    info.checksum.map(|_kind| ChecksumType::from_static(name))
}

fn to_part(number: i32) -> S3Result<u32> {
    u32::try_from(number).map_err(|_negative| s3_error!(InvalidArgument, "part numbers start at 1"))
}

pub(super) async fn create(
    store: &Store,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<CreateMultipartUploadOutput> {
    let mut input = request.input;
    let headers = object_headers!(input);
    check_metadata(&headers)?;
    let checksum = match &input.checksum_algorithm {
        None => None,
        Some(name) => Some(
            ChecksumKind::parse(name.as_str())
                .ok_or_else(|| s3_error!(InvalidRequest, "the checksum algorithm is not one of S3's"))?,
        ),
    };
    let asked = input.checksum_type.as_ref().map(ChecksumType::as_str);
    let full_object = match (checksum, asked) {
        (Some(ChecksumKind::Sha1 | ChecksumKind::Sha256), Some(ChecksumType::FULL_OBJECT)) => {
            return Err(s3_error!(InvalidRequest, "SHA checksums of parts do not join into one of the whole"));
        }
        (Some(ChecksumKind::Crc64Nvme), Some(ChecksumType::COMPOSITE)) => {
            return Err(s3_error!(InvalidRequest, "CRC64NVME is a checksum of the whole object"));
        }
        (Some(ChecksumKind::Crc64Nvme), _) | (_, Some(ChecksumType::FULL_OBJECT)) => true,
        (_, _) => false,
    };
    let upload = store
        .create_upload(
            &input.bucket,
            &input.key,
            UploadStart { meta: headers.into(), checksum, full_object, initiator: None },
        )
        .await?;
    let kind = checksum.map(|_kind| {
        ChecksumType::from_static(if full_object { ChecksumType::FULL_OBJECT } else { ChecksumType::COMPOSITE })
    });
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload),
        checksum_algorithm: checksum.map(|kind| ChecksumAlgorithm::from_static(kind.name())),
        checksum_type: kind,
        ..CreateMultipartUploadOutput::default()
    })
}

pub(super) async fn part(store: &Store, request: S3Request<UploadPartInput>) -> S3Result<UploadPartOutput> {
    let S3Request { mut input, headers, trailing_headers, .. } = request;
    let number = to_part(input.part_number)?;
    let upload = store.upload(&input.bucket, &input.key, &input.upload_id).await?;
    let expected = Expected::new(&headers, input.content_length, input.content_md5.take())?;
    let writer = store.part_body(expected.kind(upload.checksum));
    let sealed = body::take(writer, input.body.take(), &expected, trailing_headers.as_ref()).await?;
    let info = store.put_part(&input.bucket, &input.key, &input.upload_id, number, sealed).await?;
    let sums = ChecksumFields::from(&info.checksums);
    Ok(UploadPartOutput {
        e_tag: Some(etag(&info.etag)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        ..UploadPartOutput::default()
    })
}

/// `bytes=first-last`, both of which a copied part must name.
fn copy_range(text: &str) -> Option<RangeRequest> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some(RangeRequest::Between(first.parse().ok()?, Some(last.parse().ok()?)))
}

pub(super) async fn part_copy(
    store: &Store,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<UploadPartCopyOutput> {
    let input = request.input;
    let number = to_part(input.part_number)?;
    let upload = store.upload(&input.bucket, &input.key, &input.upload_id).await?;
    let (bucket, key) = copy_source(&input.copy_source)?;
    let reader = store.object(bucket, key).await?;
    conditions(
        input.copy_source_if_match.as_ref(),
        input.copy_source_if_none_match.as_ref(),
        input.copy_source_if_modified_since.as_ref(),
        input.copy_source_if_unmodified_since.as_ref(),
    )
    .check(reader.info(), &S3ErrorCode::PreconditionFailed)?;
    let size = reader.info().size;
    let range = match input.copy_source_range.as_deref() {
        None => 0..size,
        Some(text) => {
            let asked = copy_range(text)
                .ok_or_else(|| s3_error!(InvalidArgument, "the range of a copied part is bytes=first-last"))?;
            match asked {
                RangeRequest::Between(_first, Some(last)) if last >= size => {
                    return Err(crate::Error::InvalidRange(size).into());
                }
                RangeRequest::Between(..) | RangeRequest::Whole | RangeRequest::Suffix(_) => asked.resolve(size)?,
            }
        }
    };
    let writer = store.part_body(upload.checksum.unwrap_or(ChecksumKind::Crc64Nvme));
    let sealed = copy_body(reader, range, writer).await?;
    let info = store.put_part(&input.bucket, &input.key, &input.upload_id, number, sealed).await?;
    let sums = ChecksumFields::from(&info.checksums);
    let result = CopyPartResult {
        e_tag: Some(etag(&info.etag)),
        last_modified: Some(timestamp(info.modified_ms)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
    };
    Ok(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() })
}

fn completed(part: CompletedPart) -> S3Result<CompletePart> {
    let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML, "a part without a number"))?;
    let tag = part.e_tag.ok_or_else(|| s3_error!(MalformedXML, "a part without an ETag"))?;
    let checksum = [
        (ChecksumKind::Crc32, part.checksum_crc32),
        (ChecksumKind::Crc32c, part.checksum_crc32c),
        (ChecksumKind::Crc64Nvme, part.checksum_crc64nvme),
        (ChecksumKind::Sha1, part.checksum_sha1),
        (ChecksumKind::Sha256, part.checksum_sha256),
    ]
    .into_iter()
    .find_map(|(kind, value)| value.map(|value| (kind, value)));
    Ok(CompletePart { part: to_part(number)?, etag: tag.into_value(), checksum })
}

pub(super) async fn complete(
    store: &Store,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<CompleteMultipartUploadOutput> {
    let input = request.input;
    let condition = condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    if parts.is_empty() {
        return Err(s3_error!(MalformedXML, "a completion names at least one part"));
    }
    let parts = parts.into_iter().map(completed).collect::<S3Result<Vec<_>>>()?;
    let info = store.complete_upload(&input.bucket, &input.key, &input.upload_id, parts, condition).await?;
    let sums = ChecksumFields::from(&info.checksums);
    Ok(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, super::convert::url_encode(&input.key))),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(&info.etag)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        checksum_type: sums.kind,
        ..CompleteMultipartUploadOutput::default()
    })
}

pub(super) async fn abort(
    store: &Store,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<AbortMultipartUploadOutput> {
    let input = request.input;
    store.abort_upload(&input.bucket, &input.key, &input.upload_id).await?;
    Ok(AbortMultipartUploadOutput::default())
}

fn shown_part(info: &PartInfo) -> Part {
    let sums = ChecksumFields::from(&info.checksums);
    Part {
        part_number: Some(part_number(info.part)),
        e_tag: Some(etag(&info.etag)),
        size: Some(signed(info.size)),
        last_modified: Some(timestamp(info.modified_ms)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
    }
}

pub(super) async fn parts(store: &Store, request: S3Request<ListPartsInput>) -> S3Result<ListPartsOutput> {
    let input = request.input;
    let limit = limit(input.max_parts)?;
    let after = to_part(input.part_number_marker.unwrap_or(0))?;
    let upload = store.upload(&input.bucket, &input.key, &input.upload_id).await?;
    let (parts, more) = store.parts(&input.bucket, &input.key, &input.upload_id, after, limit).await?;
    Ok(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: Some(count(limit)),
        part_number_marker: Some(part_number(after)),
        is_truncated: Some(more),
        next_part_number_marker: parts.last().map(|last| part_number(last.part)),
        parts: Some(parts.iter().map(shown_part).collect()),
        checksum_algorithm: algorithm(&upload),
        checksum_type: checksum_type(&upload),
        initiator: Some(initiator()),
        owner: Some(owner()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..ListPartsOutput::default()
    })
}

pub(super) async fn uploads(
    store: &Store,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<ListMultipartUploadsOutput> {
    let input = request.input;
    let encoding = Encoding::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_uploads)?;
    let marker = input.upload_id_marker.clone().filter(|upload| !upload.is_empty());
    let query = UploadQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        after: input.key_marker.clone().filter(|key| !key.is_empty()).map(|key| (key, marker)),
        limit,
    };
    let page = store.list_uploads(&input.bucket, query).await?;
    let shown = |info: UploadInfo| MultipartUpload {
        checksum_algorithm: algorithm(&info),
        checksum_type: checksum_type(&info),
        initiated: Some(timestamp(info.created_ms)),
        initiator: Some(initiator()),
        owner: Some(owner()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        upload_id: Some(info.upload),
        key: Some(encoding.text(info.key)),
    };
    let (next_key, next_upload) = page.next.unzip();
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix.map(|prefix| encoding.text(prefix)),
        delimiter: input.delimiter.map(|delimiter| encoding.text(delimiter)),
        key_marker: Some(encoding.text(input.key_marker.unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        max_uploads: Some(count(limit)),
        is_truncated: Some(next_key.is_some()),
        next_key_marker: next_key.map(|key| encoding.text(key)),
        next_upload_id_marker: next_upload,
        uploads: Some(page.uploads.into_iter().map(shown).collect()),
        common_prefixes: encoding.prefixes(page.prefixes),
        encoding_type: input.encoding_type,
        ..ListMultipartUploadsOutput::default()
    })
}
