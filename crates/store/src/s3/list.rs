//! Listings of objects and versions.
//!
//! The token of a page is its last key, so a listing needs no state and goes on where it stopped, whatever came and went.

use super::bucket_ops::owner_element;
use super::call::{Slash, encode};
use super::fault::Fault;
use super::job::{Job, object_owner};
use super::reply::{Answer, Reply, iso};
use super::route::Op;
use super::xml::Xml;
use crate::digest::{base64, unbase64};
use crate::{ListEntry, ListPage, ListQuery, VersionEntry, VersionId, VersionQuery};

/// Keys of one page.
fn limit(job: &Job) -> Result<usize, Fault> {
    let most = dh_core::limits::LIST_KEYS_MAX;
    let asked: Option<i64> = job.call.ask_number("max-keys")?;
    let asked = asked.unwrap_or_else(|| i64::from(most));
    let asked = u32::try_from(asked).map_err(|_range| {
        Fault::argument("Argument maxKeys must be an integer between 0 and 2147483647").with("ArgumentName", "maxKeys")
    })?;
    Ok(usize::try_from(asked.min(most)).unwrap_or(1_000))
}

/// How names are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Plain,
    Url,
}

impl Shown {
    pub(super) fn of(job: &Job) -> Result<Self, Fault> {
        match job.call.ask("encoding-type") {
            None | Some("") => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(_other) => Err(Fault::argument("Invalid Encoding Method specified in Request")),
        }
    }

    pub(super) fn show(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            // S3 leaves slashes in keys as they are.
            Self::Url => encode(text, Slash::Kept),
        }
    }
}

fn entry(job: &Job, xml: &mut Xml, shown: Shown, entry: &ListEntry, with_owner: bool) {
    let ListEntry { key, info } = entry;
    xml.element("Contents", |xml| {
        xml.leaf("Key", shown.show(key));
        xml.leaf("LastModified", iso(info.modified_ms));
        xml.leaf("ETag", format!("\"{}\"", info.etag));
        xml.leaf("Size", info.size);
        if let Some((kind, _value)) = &info.checksums.value {
            xml.leaf("ChecksumAlgorithm", kind.name());
            xml.leaf("ChecksumType", super::intake::type_name(&info.checksums));
        }
        if let (true, Some(bucket)) = (with_owner, &job.bucket) {
            owner_element(job, xml, "Owner", object_owner(info, bucket));
        }
        xml.leaf("StorageClass", job.store().class_of(info).as_deref().unwrap_or("STANDARD"));
    });
}

fn prefixes(xml: &mut Xml, shown: Shown, prefixes: &[String]) {
    for prefix in prefixes {
        xml.element("CommonPrefixes", |xml| xml.leaf("Prefix", shown.show(prefix)));
    }
}

struct Asked {
    prefix: String,
    delimiter: String,
    limit: usize,
    shown: Shown,
}

fn asked(job: &Job) -> Result<Asked, Fault> {
    // Order costs nothing here, so leave to give it up changes nothing; but it does not go with rolling up.
    let unordered = job.call.ask("allow-unordered").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if unordered && job.call.ask("delimiter").is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(Fault::argument("allow-unordered cannot be used with a delimiter"));
    }
    let text = |name: &str| job.call.ask(name).unwrap_or_default().to_owned();
    Ok(Asked { prefix: text("prefix"), delimiter: text("delimiter"), limit: limit(job)?, shown: Shown::of(job)? })
}

async fn page(job: &Job, asked: &Asked, after: Option<String>) -> Result<ListPage, Fault> {
    let query =
        ListQuery { prefix: asked.prefix.clone(), delimiter: asked.delimiter.clone(), after, limit: asked.limit };
    Ok(job.store().list(&job.bucket()?.info.name, query).await?)
}

fn opening(xml: &mut Xml, job: &Job, asked: &Asked, truncated: bool) {
    xml.maybe("Name", job.call.bucket.as_ref());
    // Clients of the first listing decode no prefix.
    let shown = if job.op == Op::ListObjects { Shown::Plain } else { asked.shown };
    xml.leaf("Prefix", shown.show(&asked.prefix));
    if !asked.delimiter.is_empty() {
        xml.leaf("Delimiter", asked.shown.show(&asked.delimiter));
    }
    xml.leaf("MaxKeys", asked.limit);
    xml.maybe("EncodingType", (asked.shown == Shown::Url).then_some("url"));
    xml.leaf("IsTruncated", truncated);
}

pub(super) async fn v1(job: &mut Job) -> Answer {
    let asked = asked(job)?;
    let marker = job.call.ask("marker").unwrap_or_default().to_owned();
    let page = page(job, &asked, (!marker.is_empty()).then(|| marker.clone())).await?;
    let document = Xml::answer("ListBucketResult", |xml| {
        opening(xml, job, &asked, page.next.is_some());
        xml.leaf("Marker", asked.shown.show(&marker));
        if let Some(next) = page.next.as_ref().filter(|_next| !asked.delimiter.is_empty()) {
            xml.leaf("NextMarker", asked.shown.show(next));
        }
        for one in &page.entries {
            entry(job, xml, asked.shown, one, true);
        }
        prefixes(xml, asked.shown, &page.prefixes);
    });
    Ok(Reply::ok().xml(document))
}

pub(super) async fn v2(job: &mut Job) -> Answer {
    let asked = asked(job)?;
    let token = job.call.ask("continuation-token").map(ToOwned::to_owned);
    let start = job.call.ask("start-after").map(ToOwned::to_owned);
    let after = match token.as_ref().filter(|token| !token.is_empty()) {
        None => start.clone().filter(|start| !start.is_empty()),
        Some(token) => {
            let key = unbase64(token).and_then(|bytes| String::from_utf8(bytes).ok());
            Some(
                key.filter(|key| !key.is_empty())
                    .ok_or_else(|| Fault::argument("The continuation token provided is incorrect"))?,
            )
        }
    };
    let with_owner = job.call.ask("fetch-owner").is_some_and(|fetch| fetch.eq_ignore_ascii_case("true"));
    let page = page(job, &asked, after).await?;
    let document = Xml::answer("ListBucketResult", |xml| {
        opening(xml, job, &asked, page.next.is_some());
        xml.leaf("KeyCount", page.entries.len() + page.prefixes.len());
        xml.maybe("ContinuationToken", token.as_ref());
        xml.maybe("NextContinuationToken", page.next.as_ref().map(|next| base64(next.as_bytes())));
        xml.maybe("StartAfter", start.as_ref().map(|start| asked.shown.show(start)));
        for one in &page.entries {
            entry(job, xml, asked.shown, one, with_owner);
        }
        prefixes(xml, asked.shown, &page.prefixes);
    });
    Ok(Reply::ok().xml(document))
}

pub(super) async fn versions(job: &mut Job) -> Answer {
    let asked = asked(job)?;
    let key_marker = job.call.ask("key-marker").unwrap_or_default().to_owned();
    let version_marker = job.call.ask("version-id-marker").filter(|marker| !marker.is_empty()).map(ToOwned::to_owned);
    let version = match &version_marker {
        None => None,
        Some(marker) => Some(VersionId::parse(marker).ok_or_else(|| Fault::argument("Invalid version id specified"))?),
    };
    let after = (!key_marker.is_empty()).then(|| (key_marker.clone(), version));
    let query =
        VersionQuery { prefix: asked.prefix.clone(), delimiter: asked.delimiter.clone(), after, limit: asked.limit };
    let page = job.store().list_versions(&job.bucket()?.info.name, query).await?;
    let shown = asked.shown;
    let document = Xml::answer("ListVersionsResult", |xml| {
        opening(xml, job, &asked, page.next.is_some());
        xml.leaf("KeyMarker", shown.show(&key_marker));
        xml.leaf("VersionIdMarker", version_marker.as_deref().unwrap_or_default());
        if let Some((key, version)) = &page.next {
            xml.leaf("NextKeyMarker", shown.show(key));
            xml.maybe("NextVersionIdMarker", *version);
        }
        for one in &page.entries {
            show_version(job, xml, shown, one);
        }
        prefixes(xml, shown, &page.prefixes);
    });
    Ok(Reply::ok().xml(document))
}

fn show_version(job: &Job, xml: &mut Xml, shown: Shown, entry: &VersionEntry) {
    match entry {
        VersionEntry::Object { key, latest, info } => xml.element("Version", |xml| {
            xml.leaf("Key", shown.show(key));
            xml.leaf("VersionId", info.version);
            xml.leaf("IsLatest", latest);
            xml.leaf("LastModified", iso(info.modified_ms));
            xml.leaf("ETag", format!("\"{}\"", info.etag));
            xml.leaf("Size", info.size);
            if let Some((kind, _value)) = &info.checksums.value {
                xml.leaf("ChecksumAlgorithm", kind.name());
                xml.leaf("ChecksumType", super::intake::type_name(&info.checksums));
            }
            if let Some(bucket) = &job.bucket {
                owner_element(job, xml, "Owner", object_owner(info, bucket));
            }
            xml.leaf("StorageClass", job.store().class_of(info).as_deref().unwrap_or("STANDARD"));
        }),
        VersionEntry::Marker { key, latest, info } => xml.element("DeleteMarker", |xml| {
            xml.leaf("Key", shown.show(key));
            xml.leaf("VersionId", info.version);
            xml.leaf("IsLatest", latest);
            xml.leaf("LastModified", iso(info.modified_ms));
            if let Some(bucket) = &job.bucket {
                owner_element(job, xml, "Owner", info.owner.as_deref().unwrap_or(&bucket.owner));
            }
        }),
    }
}
