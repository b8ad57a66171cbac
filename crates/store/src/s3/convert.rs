//! Between S3's words and ours: errors, times, tags, ranges, encodings.

use dh_core::{HasKind as _, Kind};
use s3s::dto::{ETag, ETagCondition, Range, Timestamp};
use s3s::{S3Error, S3ErrorCode, s3_error};
use time::OffsetDateTime;

use crate::{ChecksumKind, Checksums, Condition, Error, ObjectInfo, RangeRequest};

/// The owner of everything: one installation is one account.
pub(super) const OWNER: &str = "datahall";

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NoSuchBucket(_) => S3ErrorCode::NoSuchBucket,
            Error::NoSuchKey { .. } => S3ErrorCode::NoSuchKey,
            Error::NoSuchUpload(_) => S3ErrorCode::NoSuchUpload,
            Error::BucketExists(_) => S3ErrorCode::BucketAlreadyOwnedByYou,
            Error::BucketNotEmpty(_) => S3ErrorCode::BucketNotEmpty,
            Error::Precondition(_) => S3ErrorCode::PreconditionFailed,
            Error::InvalidPart(_) => S3ErrorCode::InvalidPart,
            Error::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            Error::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
            Error::BadDigest("x-amz-content-sha256") => S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            Error::BadDigest(_) => S3ErrorCode::BadDigest,
            Error::InvalidRange(_) => S3ErrorCode::InvalidRange,
            Error::Invalid(_) => S3ErrorCode::InvalidArgument,
            Error::TooLarge(_) => S3ErrorCode::EntityTooLarge,
            Error::BodyBroken(_) => S3ErrorCode::IncompleteBody,
            Error::Full(_) => S3ErrorCode::Custom("InsufficientStorage".into()),
            Error::Busy => S3ErrorCode::SlowDown,
            Error::Closed | Error::Sealed(_) => S3ErrorCode::ServiceUnavailable,
            Error::Corrupt { .. } | Error::Io { .. } | Error::Meta(_) | Error::Locked(_) | Error::Drives(_) => {
                S3ErrorCode::InternalError
            }
        };
        let kind = error.kind();
        // What is wrong inside of the machine is told in the log, not to clients.
        let message = match kind {
            Kind::Internal => "the store failed; see its log".to_owned(),
            Kind::Corrupt => "the object's bytes on the disk are not those that were written".to_owned(),
            Kind::Full => "no space left".to_owned(),
            Kind::Invalid
            | Kind::Blueprint
            | Kind::Infeasible
            | Kind::Unauthorized
            | Kind::Forbidden
            | Kind::NotFound
            | Kind::Conflict
            | Kind::TooLarge
            | Kind::Busy
            | Kind::Unreachable
            | Kind::Timeout
            | Kind::Interrupted => error.to_string(),
        };
        if matches!(kind, Kind::Internal | Kind::Corrupt | Kind::Full) {
            tracing::error!(%error, "a request failed");
        }
        let custom = match (&code, kind) {
            (S3ErrorCode::Custom(_), Kind::Full) => Some(http::StatusCode::INSUFFICIENT_STORAGE),
            (S3ErrorCode::Custom(_), _) => Some(http::StatusCode::BAD_REQUEST),
            (_, _) => None,
        };
        let mut error = Self::with_message(code, message);
        if let Some(status) = custom {
            error.set_status_code(status);
        }
        error
    }
}

/// Milliseconds of the Unix epoch as S3 shows times.
pub(super) fn timestamp(ms: u64) -> Timestamp {
    let nanos = i128::from(ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH).into()
}

/// A time of S3 in milliseconds of the Unix epoch.
pub(super) fn to_ms(time: &Timestamp) -> u64 {
    let time: OffsetDateTime = time.clone().into();
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// An `ETag` of ours.
pub(super) fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_owned())
}

/// A length as S3 shows it.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count as S3 shows it.
pub(super) fn count(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// A part's number as S3 shows it.
pub(super) fn part_number(part: u32) -> i32 {
    i32::try_from(part).unwrap_or(i32::MAX)
}

/// The limit of a page: what was asked for, at most S3's.
pub(super) fn limit(asked: Option<i32>) -> Result<usize, S3Error> {
    let most = dh_core::limits::LIST_KEYS_MAX;
    let asked = asked.map_or(Ok(most), u32::try_from);
    let asked = asked.map_err(|_negative| s3_error!(InvalidArgument, "the number of keys cannot be negative"))?;
    Ok(usize::try_from(asked.min(most)).unwrap_or(usize::MAX))
}

/// The condition of a write.
pub(super) fn condition(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> Result<Condition, S3Error> {
    let value = |tag: &ETag| tag.value().to_owned();
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (Some(ETagCondition::Any), None) => Ok(Condition::IfPresent),
        (Some(ETagCondition::ETag(tag)), None) => Ok(Condition::IfMatch(value(tag))),
        (None, Some(ETagCondition::Any)) => Ok(Condition::IfAbsent),
        (None, Some(ETagCondition::ETag(tag))) => Ok(Condition::IfNoneMatch(value(tag))),
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "If-Match and If-None-Match exclude each other")),
    }
}

/// The conditions of a read.
#[derive(Debug, Default)]
#[expect(clippy::struct_field_names, reason = "the names of the headers")]
pub(super) struct ReadConditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

impl ReadConditions<'_> {
    /// Checks them in the order of RFC 9110, section 13.2.2.
    pub(super) fn check(&self, info: &ObjectInfo, failed: &S3ErrorCode) -> Result<(), S3Error> {
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(tag) => tag.value() == info.etag,
        };
        // HTTP's dates have no fractions of seconds.
        let later_than = |time: &Timestamp| info.modified_ms / 1_000 > to_ms(time) / 1_000;
        let precondition = || S3Error::with_message(S3ErrorCode::PreconditionFailed, "a precondition does not hold");
        match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) if !matches(condition) => return Err(precondition()),
            (None, Some(time)) if later_than(time) => return Err(precondition()),
            (Some(_) | None, Some(_) | None) => {}
        }
        let unchanged = || {
            let mut error = S3Error::new(failed.clone());
            let mut headers = http::HeaderMap::new();
            if let Ok(value) = etag(&info.etag).to_http_header() {
                headers.insert(http::header::ETAG, value);
            }
            error.set_headers(headers);
            error
        };
        match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) if matches(condition) => Err(unchanged()),
            (None, Some(time)) if !later_than(time) => Err(unchanged()),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }
}

/// A range of ours.
pub(super) fn range(asked: Option<&Range>) -> RangeRequest {
    match asked {
        None => RangeRequest::Whole,
        Some(Range::Int { first, last }) => RangeRequest::Between(*first, *last),
        Some(Range::Suffix { length }) => RangeRequest::Suffix(*length),
    }
}

/// Percent-encoding as `encoding-type=url` wants it: everything but unreserved characters and the slash.
pub(super) fn url_encode(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(digit(byte >> 4));
            encoded.push(digit(byte & 15));
        }
    }
    encoded
}

/// Checksums as S3 shows them, in the fields that many answers share.
#[derive(Debug, Default)]
pub(super) struct ChecksumFields {
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) kind: Option<s3s::dto::ChecksumType>,
}

impl From<&Checksums> for ChecksumFields {
    fn from(sums: &Checksums) -> Self {
        let value = |kind: ChecksumKind| sums.of(kind).map(ToOwned::to_owned);
        let kind = if sums.composite { s3s::dto::ChecksumType::COMPOSITE } else { s3s::dto::ChecksumType::FULL_OBJECT };
        Self {
            crc32: value(ChecksumKind::Crc32),
            crc32c: value(ChecksumKind::Crc32c),
            crc64nvme: value(ChecksumKind::Crc64Nvme),
            sha1: value(ChecksumKind::Sha1),
            sha256: value(ChecksumKind::Sha256),
            kind: sums.value.as_ref().map(|_value| s3s::dto::ChecksumType::from_static(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_for_xml() {
        assert_eq!(url_encode("a/b c+d\u{1}é~"), "a/b%20c%2Bd%01%C3%A9~");
    }

    #[test]
    fn times_survive_the_way_there_and_back() {
        for ms in [0, 1_234, 1_795_000_000_123] {
            assert_eq!(to_ms(&timestamp(ms)), ms);
        }
    }

    #[test]
    fn a_page_is_never_larger_than_the_limit() {
        assert_eq!(limit(None).unwrap(), 1_000);
        assert_eq!(limit(Some(0)).unwrap(), 0);
        assert_eq!(limit(Some(i32::MAX)).unwrap(), 1_000);
        assert!(limit(Some(-1)).is_err());
    }
}
