//! What is known of an object, in one document.

use super::fault::Fault;
use super::intake::{element, type_name};
use super::job::Job;
use super::reply::{Answer, Reply, http_date};
use super::sse;
use super::xml::Xml;
use crate::{Checksums, VersionId};

const PARTS_MAX: usize = 1_000;

fn checksum(xml: &mut Xml, sums: &Checksums) {
    if let Some((kind, value)) = &sums.value {
        xml.leaf(&element(*kind), value);
    }
}

pub(super) fn get(job: &Job) -> Answer {
    let info = job.object()?;
    sse::check_read(&job.call, info)?;
    sse::open(&job.front.ring, &job.call, info.meta.sse.as_ref(), sse::CUSTOMER)?;
    let lists = job.call.headers.get_all("x-amz-object-attributes").iter();
    let wanted: Vec<String> = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|one| one.trim().to_owned())
        .filter(|one| !one.is_empty())
        .collect();
    if wanted.is_empty() {
        return Err(Fault::argument("The x-amz-object-attributes header is needed"));
    }
    let known = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
    if wanted.iter().any(|one| !known.contains(&one.as_str())) {
        return Err(Fault::argument("Invalid attribute name specified."));
    }
    let wants = |name: &str| wanted.iter().any(|one| one == name);
    let number = |name: &str| {
        job.call
            .header(name)
            .map(|text| text.parse::<u32>().map_err(|_error| Fault::argument(format!("{name} is no number"))))
            .transpose()
    };
    let marker = number("x-amz-part-number-marker")?.unwrap_or(0);
    let most =
        number("x-amz-max-parts")?.map_or(PARTS_MAX, |most| usize::try_from(most).unwrap_or(PARTS_MAX).min(PARTS_MAX));
    let document = Xml::answer("GetObjectAttributesResponse", |xml| {
        if wants("ETag") {
            xml.leaf("ETag", &info.etag);
        }
        if wants("Checksum") && info.checksums.value.is_some() {
            xml.element("Checksum", |xml| {
                checksum(xml, &info.checksums);
                xml.leaf("ChecksumType", type_name(&info.checksums));
            });
        }
        if wants("ObjectParts") && !info.parts.is_empty() {
            xml.element("ObjectParts", |xml| {
                xml.leaf("PartsCount", info.parts.len());
                let behind: Vec<_> = info.parts.iter().filter(|part| part.number > marker).collect();
                let shown = behind.get(..most).unwrap_or(&behind);
                xml.leaf("PartNumberMarker", marker);
                xml.leaf("NextPartNumberMarker", shown.last().map_or(marker, |last| last.number));
                xml.leaf("MaxParts", most);
                xml.leaf("IsTruncated", shown.len() < behind.len());
                // S3 lists parts of objects whose checksum is over the parts'.
                for part in shown.iter().filter(|part| part.checksums.value.is_some()) {
                    xml.element("Part", |xml| {
                        xml.leaf("PartNumber", part.number);
                        xml.leaf("Size", part.size);
                        checksum(xml, &part.checksums);
                    });
                }
            });
        }
        if wants("StorageClass") {
            xml.leaf("StorageClass", job.store().class_of(info).as_deref().unwrap_or("STANDARD"));
        }
        if wants("ObjectSize") {
            xml.leaf("ObjectSize", info.size);
        }
    });
    let mut reply = Reply::ok().with("last-modified", http_date(info.modified_ms));
    if info.version != VersionId::Null {
        reply.set("x-amz-version-id", info.version.to_string());
    }
    Ok(reply.xml(document))
}
