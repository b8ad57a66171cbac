//! Listings: version 2, version 1, and versions (of which each object has one, called `null`).

use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput, ListObjectsOutput,
    ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass, ObjectVersion, ObjectVersionStorageClass,
    StorageClass,
};
use s3s::{S3Request, S3Result, s3_error};

use super::buckets::owner;
use super::convert::{ChecksumFields, count, etag, limit, signed, timestamp, url_encode};
use super::objects::NULL_VERSION;
use crate::digest::{base64, unbase64};
use crate::{ListEntry, ListPage, ListQuery, Store};

/// Whether keys are percent-encoded in the answer.
#[derive(Clone, Copy)]
pub(super) struct Encoding(bool);

impl Encoding {
    pub(super) fn new(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(_other) => Err(s3_error!(InvalidArgument, "encoding-type is `url` or absent")),
        }
    }

    pub(super) fn text(self, text: String) -> String {
        if self.0 { url_encode(&text) } else { text }
    }

    pub(super) fn prefixes(self, prefixes: Vec<String>) -> Option<Vec<CommonPrefix>> {
        let prefix = |prefix| CommonPrefix { prefix: Some(self.text(prefix)) };
        (!prefixes.is_empty()).then(|| prefixes.into_iter().map(prefix).collect())
    }

    fn objects(self, entries: Vec<ListEntry>, with_owner: bool) -> Option<Vec<Object>> {
        let object = |entry: ListEntry| {
            let algorithm = entry.info.checksums.value.as_ref().map(|(kind, _value)| kind.name());
            Object {
                e_tag: Some(etag(&entry.info.etag)),
                last_modified: Some(timestamp(entry.info.modified_ms)),
                size: Some(signed(entry.info.size)),
                storage_class: Some(ObjectStorageClass::from_static(StorageClass::STANDARD)),
                owner: with_owner.then(owner),
                checksum_algorithm: algorithm.map(|name| vec![s3s::dto::ChecksumAlgorithm::from_static(name)]),
                checksum_type: ChecksumFields::from(&entry.info.checksums).kind,
                key: Some(self.text(entry.key)),
                ..Object::default()
            }
        };
        (!entries.is_empty()).then(|| entries.into_iter().map(object).collect())
    }
}

/// Where a page of version 2 goes on; opaque to clients.
fn token(next: &str) -> String {
    base64(next.as_bytes())
}

fn read_token(token: &str) -> S3Result<String> {
    let text = unbase64(token).and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of ours"))
}

fn query(prefix: Option<&String>, delimiter: Option<&String>, after: Option<String>, limit: usize) -> ListQuery {
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    ListQuery {
        prefix: text(prefix),
        delimiter: text(delimiter),
        after: after.filter(|after| !after.is_empty()),
        limit,
    }
}

pub(super) async fn v2(store: &Store, request: S3Request<ListObjectsV2Input>) -> S3Result<ListObjectsV2Output> {
    let input = request.input;
    let encoding = Encoding::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let after = match &input.continuation_token {
        Some(token) => Some(read_token(token)?),
        None => input.start_after.clone(),
    };
    let query = query(input.prefix.as_ref(), input.delimiter.as_ref(), after, limit);
    let ListPage { entries, prefixes, next } = store.list(&input.bucket, query).await?;
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
        delimiter: input.delimiter.filter(|delimiter| !delimiter.is_empty()).map(|delimiter| encoding.text(delimiter)),
        start_after: input.start_after.map(|start| encoding.text(start)),
        max_keys: Some(count(limit)),
        key_count: Some(count(entries.len() + prefixes.len())),
        is_truncated: Some(next.is_some()),
        next_continuation_token: next.as_deref().map(token),
        continuation_token: input.continuation_token,
        contents: encoding.objects(entries, input.fetch_owner.unwrap_or(false)),
        common_prefixes: encoding.prefixes(prefixes),
        encoding_type: input.encoding_type,
        ..ListObjectsV2Output::default()
    })
}

pub(super) async fn v1(store: &Store, request: S3Request<ListObjectsInput>) -> S3Result<ListObjectsOutput> {
    let input = request.input;
    let encoding = Encoding::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let query = query(input.prefix.as_ref(), input.delimiter.as_ref(), input.marker.clone(), limit);
    let page = store.list(&input.bucket, query).await?;
    let delimiter = input.delimiter.filter(|delimiter| !delimiter.is_empty());
    Ok(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
        marker: Some(encoding.text(input.marker.unwrap_or_default())),
        max_keys: Some(count(limit)),
        is_truncated: Some(page.next.is_some()),
        // S3 says it only with a delimiter; without, clients take the last key.
        next_marker: page.next.filter(|_next| delimiter.is_some()).map(|next| encoding.text(next)),
        delimiter: delimiter.map(|delimiter| encoding.text(delimiter)),
        contents: encoding.objects(page.entries, true),
        common_prefixes: encoding.prefixes(page.prefixes),
        encoding_type: input.encoding_type,
        ..ListObjectsOutput::default()
    })
}

pub(super) async fn versions(
    store: &Store,
    request: S3Request<ListObjectVersionsInput>,
) -> S3Result<ListObjectVersionsOutput> {
    let input = request.input;
    let encoding = Encoding::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let query = query(input.prefix.as_ref(), input.delimiter.as_ref(), input.key_marker.clone(), limit);
    let page = store.list(&input.bucket, query).await?;
    let version = |entry: ListEntry| ObjectVersion {
        e_tag: Some(etag(&entry.info.etag)),
        is_latest: Some(true),
        last_modified: Some(timestamp(entry.info.modified_ms)),
        size: Some(signed(entry.info.size)),
        storage_class: Some(ObjectVersionStorageClass::from_static(StorageClass::STANDARD)),
        owner: Some(owner()),
        version_id: Some(NULL_VERSION.to_owned()),
        key: Some(encoding.text(entry.key)),
        ..ObjectVersion::default()
    };
    Ok(ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
        delimiter: input.delimiter.filter(|delimiter| !delimiter.is_empty()).map(|delimiter| encoding.text(delimiter)),
        key_marker: Some(encoding.text(input.key_marker.unwrap_or_default())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        max_keys: Some(count(limit)),
        is_truncated: Some(page.next.is_some()),
        next_version_id_marker: page.next.as_ref().map(|_next| NULL_VERSION.to_owned()),
        next_key_marker: page.next.map(|next| encoding.text(next)),
        versions: Some(page.entries.into_iter().map(version).collect()),
        common_prefixes: encoding.prefixes(page.prefixes),
        encoding_type: input.encoding_type,
        ..ListObjectVersionsOutput::default()
    })
}
