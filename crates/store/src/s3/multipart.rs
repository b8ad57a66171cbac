//! Uploads in parts.

use super::bucket_ops::owner_element;
use super::conditions;
use super::copy::{self, Source};
use super::fault::Fault;
use super::get::range;
use super::intake::{Expected, element, header, sealed_with, shown, take, type_name};
use super::job::Job;
use super::list::Shown;
use super::put;
use super::reply::{Answer, Reply, iso};
use super::sse;
use super::xml::{Node, Xml};
use crate::{ChecksumKind, Checksums, CompletePart, Error, UploadInfo, UploadQuery, UploadStart};
use dh_core::limits::PARTS_MAX;

/// Uploads or parts of one page.
fn limit(job: &Job, name: &'static str) -> Result<usize, Fault> {
    let asked: Option<u32> = job.call.ask_number(name)?;
    Ok(asked.map_or(1_000, |asked| usize::try_from(asked).unwrap_or(1_000).min(1_000)))
}

fn upload_id(job: &Job) -> Result<&str, Fault> {
    job.call.ask("uploadId").ok_or_else(|| Fault::argument("the request names no upload"))
}

async fn upload(job: &Job) -> Result<UploadInfo, Fault> {
    Ok(job.store().upload(job.call.bucket()?, job.call.key()?, upload_id(job)?).await?)
}

fn part_number(job: &Job) -> Result<u32, Fault> {
    let number: Option<u32> = job.call.ask_number("partNumber")?;
    number.filter(|number| (1..=PARTS_MAX).contains(number)).ok_or_else(|| {
        Fault::argument("Part number must be an integer between 1 and 10000, inclusive")
            .with("ArgumentName", "partNumber")
    })
}

pub(super) async fn create(job: &mut Job) -> Answer {
    let mut meta = put::meta(job)?;
    let sealing = sse::start(job, sse::wish(&job.call, job.bucket()?)?)?;
    meta.sse.clone_from(&sealing.sse);
    let checksum = match job.call.header("x-amz-checksum-algorithm") {
        None => None,
        Some(name) => Some(
            ChecksumKind::parse(name).ok_or_else(|| Fault::request("Checksum algorithm provided is unsupported."))?,
        ),
    };
    let full_object = match (checksum, job.call.header("x-amz-checksum-type")) {
        (_, None) => checksum == Some(ChecksumKind::Crc64Nvme),
        (None, Some(_)) => {
            return Err(Fault::request(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            ));
        }
        (Some(kind), Some("FULL_OBJECT")) if kind.joins() => true,
        (Some(ChecksumKind::Crc64Nvme), Some("COMPOSITE")) => {
            return Err(Fault::request(
                "The COMPOSITE checksum type cannot be used with the crc64nvme checksum algorithm.",
            ));
        }
        (Some(_), Some("COMPOSITE")) => false,
        (Some(kind), Some("FULL_OBJECT")) => {
            return Err(Fault::request(format!(
                "The FULL_OBJECT checksum type cannot be used with the {} checksum algorithm.",
                kind.name().to_ascii_lowercase()
            )));
        }
        (Some(_), Some(_other)) => return Err(Fault::request("Value for x-amz-checksum-type header is invalid.")),
    };
    let (bucket, key) = (job.call.bucket()?.to_owned(), job.call.key()?.to_owned());
    let initiator = job.visitor.account().map(ToOwned::to_owned);
    let start = UploadStart { meta, checksum, full_object, initiator };
    let id = job.store().create_upload(&bucket, &key, start).await?;
    let document = Xml::answer("InitiateMultipartUploadResult", |xml| {
        xml.leaf("Bucket", &bucket);
        xml.leaf("Key", &key);
        xml.leaf("UploadId", &id);
    });
    let mut reply = Reply::ok();
    if let Some(kind) = checksum {
        reply.set("x-amz-checksum-algorithm", kind.name());
        reply.set("x-amz-checksum-type", if full_object { "FULL_OBJECT" } else { "COMPOSITE" });
    }
    sse::show(&mut reply, sealing.sse.as_ref());
    Ok(reply.xml(document))
}

/// The checksum that a part gets: the upload's, else what the client sent.
fn kind(upload: &UploadInfo, expected: &Expected) -> Result<ChecksumKind, Fault> {
    match (upload.checksum, expected.named()) {
        (Some(upload), Some(sent)) if upload != sent => Err(Fault::request(format!(
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            upload.name().to_ascii_lowercase(),
            sent.name().to_ascii_lowercase()
        ))),
        (Some(kind), _) | (None, Some(kind)) => Ok(kind),
        (None, None) => Ok(ChecksumKind::Crc64Nvme),
    }
}

pub(super) async fn part(job: &mut Job) -> Answer {
    put::length(job)?;
    let number = part_number(job)?;
    let upload = upload(job).await?;
    let expected = Expected::new(&job.call)?;
    let cipher = sse::open(&job.front.ring, &job.call, upload.meta.sse.as_ref(), sse::CUSTOMER)?;
    let writer = sealed_with(job.store().part_body(kind(&upload, &expected)?), cipher);
    let sealed = take(writer, &mut job.payload, &expected).await?;
    let info = job.store().put_part(job.call.bucket()?, job.call.key()?, &upload.upload, number, sealed).await?;
    let mut reply = Reply::ok().with("etag", format!("\"{}\"", info.etag));
    for (name, value) in shown(&info.checksums) {
        if name != "x-amz-checksum-type" {
            reply.set(&name, value);
        }
    }
    sse::show(&mut reply, upload.meta.sse.as_ref());
    Ok(reply.empty())
}

pub(super) async fn part_copy(job: &mut Job) -> Answer {
    let number = part_number(job)?;
    let source = Source::parse(job.call.header("x-amz-copy-source").unwrap_or_default())?;
    let upload = upload(job).await?;
    let reader = copy::open(job, &source).await?;
    let from = reader.info().clone();
    let bytes = match job.call.header("x-amz-copy-source-range") {
        None => 0..from.size,
        Some(text) => {
            let wrong = || {
                Fault::argument(
                    "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
                )
            };
            match range(text) {
                Some(crate::RangeRequest::Between(first, Some(last))) if first < from.size && last < from.size => {
                    first..last + 1
                }
                Some(crate::RangeRequest::Between(_, Some(_))) => {
                    return Err(Fault::from(Error::InvalidRange(from.size)));
                }
                Some(_) | None => return Err(wrong()),
            }
        }
    };
    let cipher = sse::open(&job.front.ring, &job.call, upload.meta.sse.as_ref(), sse::CUSTOMER)?;
    let writer = job.store().part_body(upload.checksum.unwrap_or(ChecksumKind::Crc64Nvme));
    let sealed = copy::body(reader, bytes, sealed_with(writer, cipher)).await?;
    let info = job.store().put_part(job.call.bucket()?, job.call.key()?, &upload.upload, number, sealed).await?;
    let document = Xml::answer("CopyPartResult", |xml| {
        xml.leaf("LastModified", iso(info.modified_ms));
        xml.leaf("ETag", format!("\"{}\"", info.etag));
        if let Some((kind, value)) = &info.checksums.value {
            xml.leaf(&element(*kind), value);
        }
    });
    let mut reply = copy::source_version(Reply::ok(), &from);
    sse::show(&mut reply, upload.meta.sse.as_ref());
    Ok(reply.xml(document))
}

pub(super) fn named_parts(root: &Node) -> Result<Vec<CompletePart>, Fault> {
    let mut parts = Vec::new();
    for node in root.all("Part") {
        let number: Option<u32> = node.number("PartNumber")?;
        let part = number.ok_or_else(|| Fault::malformed("a part has no number"))?;
        let etag = conditions::plain_tag(node.need("ETag")?).to_owned();
        let checksum = ChecksumKind::ALL
            .into_iter()
            .find_map(|kind| node.get(&element(kind)).map(|value| (kind, value.to_owned())));
        // Some clients name a part again that they sent again; the last counts.
        if parts.last().is_some_and(|last: &CompletePart| last.part == part) {
            parts.pop();
        }
        parts.push(CompletePart { part, etag, checksum });
    }
    if parts.is_empty() || parts.len() > usize::try_from(PARTS_MAX).unwrap_or(10_000) {
        return Err(Fault::malformed("a completion names 1 to 10000 parts"));
    }
    Ok(parts)
}

pub(super) async fn complete(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    let parts = named_parts(&Node::root(&body, "CompleteMultipartUpload")?)?;
    let (bucket, key, id) = (job.call.bucket()?.to_owned(), job.call.key()?.to_owned(), upload_id(job)?.to_owned());
    let condition = conditions::of_write(&job.call)?;
    let found = job.store().upload(&bucket, &key, &id).await;
    let upload = match found {
        Ok(upload) => upload,
        Err(error @ Error::NoSuchUpload(_)) => return repeated(job, &bucket, &key, &id, &parts, error).await,
        Err(error) => return Err(error.into()),
    };
    // Whoever completes an upload under a key of the client's own must have the key.
    sse::open(&job.front.ring, &job.call, upload.meta.sse.as_ref(), sse::CUSTOMER)?;
    let sent = ChecksumKind::ALL
        .into_iter()
        .find_map(|kind| job.call.header(&header(kind)).map(|value| (kind, value.to_owned())));
    if let Some(size) = job.call.header("x-amz-mp-object-size") {
        let size: u64 = size.parse().map_err(|_error| Fault::argument("x-amz-mp-object-size is no number"))?;
        let total = total(job, &bucket, &key, &id, &parts).await?;
        if total != size {
            return Err(Fault::request(format!(
                "The provided 'x-amz-mp-object-size' header value {size} does not match what was computed: {total}"
            )));
        }
    }
    if let Some((kind, value)) = &sent {
        // Checked before the upload is consumed: afterwards nothing could be mended.
        let computed = checksum_of(job, &upload, (&bucket, &key), &parts).await?;
        let plain = |value: &str| value.split_once('-').map_or(value, |(value, _parts)| value).to_owned();
        if computed.of(*kind).map(plain) != Some(plain(value)) {
            return Err(Fault::new(
                "BadDigest",
                format!(
                    "The {} you specified did not match the calculated checksum.",
                    kind.name().to_ascii_lowercase()
                ),
            ));
        }
    }
    let info = job.store().complete_upload(&bucket, &key, &id, parts, condition).await?;
    job.object = Some(info.clone());
    let document = completed(job, &bucket, &key, &info);
    let mut reply = Reply::ok();
    sse::show(&mut reply, upload.meta.sse.as_ref());
    Ok(put::version(reply, job, info.version).xml(document))
}

fn completed(job: &Job, bucket: &str, key: &str, info: &crate::ObjectInfo) -> String {
    let host = job.call.header("host").unwrap_or_default();
    Xml::answer("CompleteMultipartUploadResult", |xml| {
        xml.leaf("Location", format!("http://{host}/{bucket}/{}", super::call::encode(key, super::call::Slash::Kept)));
        xml.leaf("Bucket", bucket);
        xml.leaf("Key", key);
        xml.leaf("ETag", format!("\"{}\"", info.etag));
        if let Some((kind, value)) = &info.checksums.value {
            xml.leaf(&element(*kind), value);
            xml.leaf("ChecksumType", type_name(&info.checksums));
        }
    })
}

/// A completion that is asked for again, because its answer got lost, is told what the first was.
async fn repeated(job: &Job, bucket: &str, key: &str, _id: &str, parts: &[CompletePart], error: Error) -> Answer {
    let etag = crate::digest::multipart_etag(parts.iter().map(|part| part.etag.as_str()));
    match job.store().head(bucket, key).await {
        Ok(info) if info.etag == etag => Ok(Reply::ok().xml(completed(job, bucket, key, &info))),
        Ok(_) | Err(_) => Err(error.into()),
    }
}

/// The checksum that the object will have.
async fn checksum_of(
    job: &Job,
    upload: &UploadInfo,
    (bucket, key): (&str, &str),
    named: &[CompletePart],
) -> Result<Checksums, Fault> {
    let most = usize::try_from(PARTS_MAX).unwrap_or(10_000);
    let (parts, _more) = job.store().parts(bucket, key, &upload.upload, 0, most).await?;
    let chosen: Vec<_> = named.iter().filter_map(|named| parts.iter().find(|part| part.part == named.part)).collect();
    let sums: Vec<_> = chosen.iter().map(|part| (&part.checksums, part.size)).collect();
    let joined = upload.checksum.and_then(|kind| crate::digest::join_parts(kind, upload.full_object, &sums));
    Ok(joined.unwrap_or_default())
}

/// The bytes of the named parts.
async fn total(job: &Job, bucket: &str, key: &str, id: &str, named: &[CompletePart]) -> Result<u64, Fault> {
    let most = usize::try_from(PARTS_MAX).unwrap_or(10_000);
    let (parts, _more) = job.store().parts(bucket, key, id, 0, most).await?;
    Ok(parts.iter().filter(|part| named.iter().any(|named| named.part == part.part)).map(|part| part.size).sum())
}

pub(super) async fn abort(job: &mut Job) -> Answer {
    job.store().abort_upload(job.call.bucket()?, job.call.key()?, upload_id(job)?).await?;
    Ok(Reply::no_content().empty())
}

pub(super) async fn parts(job: &mut Job) -> Answer {
    let (bucket, key) = (job.call.bucket()?.to_owned(), job.call.key()?.to_owned());
    let upload = upload(job).await?;
    let marker: u32 = job.call.ask_number("part-number-marker")?.unwrap_or(0);
    let limit = limit(job, "max-parts")?;
    let shown_as = Shown::of(job)?;
    let (parts, more) = job.store().parts(&bucket, &key, &upload.upload, marker, limit).await?;
    let document = Xml::answer("ListPartsResult", |xml| {
        xml.leaf("Bucket", &bucket);
        xml.leaf("Key", shown_as.show(&key));
        xml.leaf("UploadId", &upload.upload);
        xml.leaf("PartNumberMarker", marker);
        xml.leaf("NextPartNumberMarker", parts.last().map_or(marker, |last| last.part));
        xml.leaf("MaxParts", limit);
        xml.leaf("IsTruncated", more);
        if let Some(kind) = upload.checksum {
            xml.leaf("ChecksumAlgorithm", kind.name());
            xml.leaf("ChecksumType", if upload.full_object { "FULL_OBJECT" } else { "COMPOSITE" });
        }
        let owner = upload.meta.owner.as_deref().unwrap_or(super::visitor::HOUSE);
        owner_element(job, xml, "Initiator", upload.initiator.as_deref().unwrap_or(owner));
        owner_element(job, xml, "Owner", owner);
        xml.leaf("StorageClass", upload.meta.storage_class.as_deref().unwrap_or("STANDARD"));
        for part in &parts {
            xml.element("Part", |xml| {
                xml.leaf("PartNumber", part.part);
                xml.leaf("LastModified", iso(part.modified_ms));
                xml.leaf("ETag", format!("\"{}\"", part.etag));
                xml.leaf("Size", part.size);
                if let Some((kind, value)) = &part.checksums.value {
                    xml.leaf(&element(*kind), value);
                }
            });
        }
    });
    Ok(Reply::ok().xml(document))
}

pub(super) async fn uploads(job: &mut Job) -> Answer {
    let text = |name: &str| job.call.ask(name).unwrap_or_default().to_owned();
    let (prefix, delimiter, key_marker, id_marker) =
        (text("prefix"), text("delimiter"), text("key-marker"), text("upload-id-marker"));
    let limit = limit(job, "max-uploads")?;
    let shown_as = Shown::of(job)?;
    let upload = (!id_marker.is_empty()).then(|| id_marker.clone());
    let after = (!key_marker.is_empty()).then(|| (key_marker.clone(), upload));
    let query = UploadQuery { prefix: prefix.clone(), delimiter: delimiter.clone(), after, limit };
    let bucket = job.call.bucket()?.to_owned();
    let page = job.store().list_uploads(&bucket, query).await?;
    let document = Xml::answer("ListMultipartUploadsResult", |xml| {
        xml.leaf("Bucket", &bucket);
        xml.leaf("KeyMarker", shown_as.show(&key_marker));
        xml.leaf("UploadIdMarker", &id_marker);
        if let Some((key, id)) = &page.next {
            xml.leaf("NextKeyMarker", shown_as.show(key));
            xml.leaf("NextUploadIdMarker", id);
        }
        xml.leaf("Prefix", shown_as.show(&prefix));
        if !delimiter.is_empty() {
            xml.leaf("Delimiter", shown_as.show(&delimiter));
        }
        xml.leaf("MaxUploads", limit);
        xml.leaf("IsTruncated", page.next.is_some());
        for upload in &page.uploads {
            xml.element("Upload", |xml| {
                xml.leaf("Key", shown_as.show(&upload.key));
                xml.leaf("UploadId", &upload.upload);
                let owner = upload.meta.owner.as_deref().unwrap_or(super::visitor::HOUSE);
                owner_element(job, xml, "Initiator", upload.initiator.as_deref().unwrap_or(owner));
                owner_element(job, xml, "Owner", owner);
                xml.leaf("StorageClass", upload.meta.storage_class.as_deref().unwrap_or("STANDARD"));
                xml.leaf("Initiated", iso(upload.created_ms));
            });
        }
        for prefix in &page.prefixes {
            xml.element("CommonPrefixes", |xml| xml.leaf("Prefix", shown_as.show(prefix)));
        }
    });
    Ok(Reply::ok().xml(document))
}
