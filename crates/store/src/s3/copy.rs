//! Copying objects and ranges of them inside of the store.

use std::ops::Range;

use futures::StreamExt as _;

use super::acl;
use super::bucket::Bucket;
use super::call::decode;
use super::conditions;
use super::fault::Fault;
use super::intake::{element, sealed_with, type_name};
use super::job::{Access, Job};
use super::object_docs;
use super::put;
use super::reply::{Answer, iso};
use super::route::Grantable;
use super::sse;
use super::xml::Xml;
use crate::{BodyWriter, ChecksumKind, Error, ObjectInfo, ObjectReader, SealedBody, Version, VersionId};
use dh_policy::access::{Decision, Permission};

/// Where a copy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) version: Version,
}

impl Source {
    /// From the value of `x-amz-copy-source`.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = || {
            Fault::argument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
                .with("ArgumentName", "x-amz-copy-source")
        };
        let (path, version) = match text.rsplit_once("?versionId=") {
            Some((path, version)) => {
                let id = VersionId::parse(version).ok_or_else(|| Fault::argument("Invalid version id specified"))?;
                (path, Version::Id(id))
            }
            None => (text, Version::Latest),
        };
        let path = decode(path, '+').ok_or_else(wrong)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = path.split_once('/').ok_or_else(wrong)?;
        if bucket.is_empty() || key.is_empty() || key.contains('\0') {
            return Err(wrong());
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), version })
    }
}

/// Opens the source for reading, if the visitor may read it and it is the one that is meant.
pub(super) async fn open(job: &Job, source: &Source) -> Result<ObjectReader, Fault> {
    let bucket = job.front.bucket(&source.bucket).await?;
    let found = job.store().head_version(&source.bucket, &source.key, source.version).await;
    let action = if source.version == Version::Latest { "s3:GetObject" } else { "s3:GetObjectVersion" };
    let access = Access {
        action,
        grantable: Grantable::Object(Permission::Read),
        bucket: Some(&*bucket),
        key: Some(&source.key),
        object: found.as_ref().ok(),
    };
    let context = job.context(found.as_ref().ok());
    let decision = job.decide(access, &context);
    let info = match (found, decision) {
        (Ok(info), Decision::Allow) => info,
        (Ok(_), Decision::Implicit | Decision::Explicit) => return Err(Fault::denied()),
        (Err(error), Decision::Allow) => return Err(error.into()),
        (Err(error), Decision::Implicit | Decision::Explicit) => {
            let list = Access {
                action: "s3:ListBucket",
                grantable: Grantable::Bucket(Permission::Read),
                key: None,
                ..access_of(&bucket)
            };
            return Err(if job.decide(list, &context) == Decision::Allow { error.into() } else { Fault::denied() });
        }
    };
    conditions::of_copy(&job.call, &info)?;
    let cipher = sse::open(&job.front.ring, &job.call, info.meta.sse.as_ref(), sse::COPY_CUSTOMER)?;
    let version = if info.version == VersionId::Null { source.version } else { Version::Id(info.version) };
    Ok(job.store().object_version(&source.bucket, &source.key, version).await?.decrypted(cipher))
}

const fn access_of(bucket: &Bucket) -> Access<'_> {
    Access { action: "", grantable: Grantable::Never, bucket: Some(bucket), key: None, object: None }
}

/// Copies `range` of the source into `writer`.
pub(super) async fn body(reader: ObjectReader, range: Range<u64>, mut writer: BodyWriter) -> Result<SealedBody, Error> {
    let mut stream = std::pin::pin!(reader.stream(range));
    while let Some(bytes) = stream.next().await {
        writer.write(bytes?).await?;
    }
    writer.finish().await
}

/// Whether a directive says to take what the request says.
fn replaces(job: &Job, header: &str) -> Result<bool, Fault> {
    match job.call.header(header) {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_other) => Err(Fault::argument(format!("Unknown {header}"))),
    }
}

pub(super) async fn copy(job: &mut Job) -> Answer {
    let source = Source::parse(job.call.header("x-amz-copy-source").unwrap_or_default())?;
    let (replaces_meta, replaces_tags) =
        (replaces(job, "x-amz-metadata-directive")?, replaces(job, "x-amz-tagging-directive")?);
    let wish = sse::wish(&job.call, job.bucket()?)?;
    let same = source.bucket == job.call.bucket()? && source.key == job.call.key()?;
    let class = put::storage_class(&job.call)?;
    let changes = replaces_meta
        || source.version != Version::Latest
        || job.call.header("x-amz-storage-class").is_some()
        || sse::is_named(&job.call)
        || job.call.header("x-amz-website-redirect-location").is_some();
    if same && !changes {
        return Err(Fault::request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let reader = open(job, &source).await?;
    let from = reader.info().clone();
    let limit = dh_core::limits::OBJECT_PUT_BYTES_MAX;
    if from.size > limit {
        return Err(Fault::request(
            "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
        ));
    }
    let (owner, acl) = acl::of_new_object(job)?;
    let mut meta = crate::ObjectMeta {
        headers: if replaces_meta { put::headers(&job.call)? } else { from.meta.headers.clone() },
        owner,
        tags: if replaces_tags { put::tags(&job.call)? } else { from.meta.tags.clone() },
        acl,
        lock: object_docs::new_lock(job)?,
        sse: None,
        storage_class: class,
    };
    let sealing = sse::start(job, wish)?;
    meta.sse.clone_from(&sealing.sse);
    let asked = job.call.header("x-amz-checksum-algorithm").and_then(ChecksumKind::parse);
    let kept = from.checksums.value.as_ref().map(|(kind, _value)| *kind);
    let writer = job.store().body_with(asked.or(kept).unwrap_or(ChecksumKind::Crc64Nvme));
    let sealed = body(reader, 0..from.size, sealed_with(writer, sealing.cipher)).await?;
    let condition = conditions::of_write(&job.call)?;
    let info = job.store().put_sealed(job.call.bucket()?, job.call.key()?, sealed, meta, condition).await?;
    job.object = Some(info.clone());
    let document = Xml::answer("CopyObjectResult", |xml| result(xml, &info));
    let reply = put::written(job, &info);
    let reply = source_version(reply, &from);
    Ok(reply.xml(document))
}

/// Tells which version was copied.
pub(super) fn source_version(mut reply: super::reply::Reply, from: &ObjectInfo) -> super::reply::Reply {
    if from.version != VersionId::Null {
        reply.set("x-amz-copy-source-version-id", from.version.to_string());
    }
    reply
}

fn result(xml: &mut Xml, info: &ObjectInfo) {
    xml.leaf("LastModified", iso(info.modified_ms));
    xml.leaf("ETag", format!("\"{}\"", info.etag));
    if let Some((kind, value)) = &info.checksums.value {
        xml.leaf(&element(*kind), value);
        xml.leaf("ChecksumType", type_name(&info.checksums));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_with_or_without_a_slash_and_a_version() {
        let source = |text: &str| Source::parse(text).ok().map(|source| (source.bucket, source.key, source.version));
        let want = |key: &str, version| Some(("b".to_owned(), key.to_owned(), version));
        assert_eq!(source("b/k"), want("k", Version::Latest));
        assert_eq!(source("/b/a%20c/d+e"), want("a c/d+e", Version::Latest));
        assert_eq!(source("b/k?versionId=null"), want("k", Version::Id(VersionId::Null)));
        assert_eq!(source("b/k%3FversionId%3Dnull"), want("k?versionId=null", Version::Latest));
        for text in ["", "b", "/b", "b/", "b/k?versionId=zz"] {
            assert_eq!(source(text), None, "{text}");
        }
    }
}
