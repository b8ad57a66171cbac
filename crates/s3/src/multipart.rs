//! Uploads in parts.

use http::Method;

use crate::client::{Client, DOCUMENT_BYTES_MAX, Request, text};
use crate::document::{Node, escape};
use crate::object::late_refusal;
use crate::{Error, Head, Payload, Place, Put};

/// An upload that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Where the object will be.
    pub at: Place,
    /// The store's name for the upload.
    pub id: String,
}

/// A part that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Its CRC-64/NVME, if the store told one back.
    pub crc64: Option<String>,
}

impl Client {
    /// Begins an upload whose whole gets a CRC-64/NVME.
    /// # Errors
    /// What the store says.
    pub async fn create_upload(&self, at: &Place, content_type: Option<&str>) -> Result<Upload, Error> {
        let mut request = Request::new("begin an upload of", Method::POST, &at.bucket, &at.key)
            .ask("uploads", "")
            .header("x-amz-checksum-algorithm", "CRC64NVME")
            .header("x-amz-checksum-type", "FULL_OBJECT");
        if let Some(kind) = content_type {
            request = request.header("content-type", kind);
        }
        let (_headers, body) = self.whole(&request, DOCUMENT_BYTES_MAX).await?;
        let root = Node::root(&request.action, &body, &["InitiateMultipartUploadResult"])?;
        let id = root.get("UploadId").ok_or_else(|| Error::corrupt(&request.action, "the upload has no id"))?;
        Ok(Upload { at: at.clone(), id: id.to_owned() })
    }

    /// Sends part `number` (from 1); all but the last have at least 5 MiB.
    /// # Errors
    /// What the store says.
    pub async fn put_part(&self, upload: &Upload, number: u32, put: Put) -> Result<Part, Error> {
        let request = Request::new(&format!("put part {number} of"), Method::PUT, &upload.at.bucket, &upload.at.key)
            .ask("partNumber", number.to_string())
            .ask("uploadId", &upload.id);
        // Parts have no type of their own.
        let request = Put { content_type: None, ..put }.into(request);
        let (headers, _body) = self.whole(&request, DOCUMENT_BYTES_MAX).await?;
        let etag = text(&headers, "etag").ok_or_else(|| Error::corrupt(&request.action, "the part got no tag"))?;
        Ok(Part { number, etag: etag.trim_matches('"').to_owned(), crc64: Head::read(&headers).crc64 })
    }

    /// Puts the parts together. `crc64` is that of the whole, in base64, if the store shall check it.
    /// # Errors
    /// What the store says, also when it says so behind a status of 200.
    pub async fn complete(&self, upload: &Upload, parts: &[Part], crc64: Option<String>) -> Result<Head, Error> {
        let mut document = String::from("<CompleteMultipartUpload>");
        for part in parts {
            document.push_str("<Part><PartNumber>");
            document.push_str(&part.number.to_string());
            document.push_str("</PartNumber><ETag>&quot;");
            document.push_str(&escape(&part.etag));
            document.push_str("&quot;</ETag>");
            if let Some(crc) = &part.crc64 {
                document.push_str("<ChecksumCRC64NVME>");
                document.push_str(&escape(crc));
                document.push_str("</ChecksumCRC64NVME>");
            }
            document.push_str("</Part>");
        }
        document.push_str("</CompleteMultipartUpload>");
        let mut request = Request::new("complete", Method::POST, &upload.at.bucket, &upload.at.key)
            .ask("uploadId", &upload.id)
            .header("content-type", "application/xml")
            .body(document);
        if let Some(crc) = crc64 {
            request = request.header("x-amz-checksum-crc64nvme", crc).header("x-amz-checksum-type", "FULL_OBJECT");
        }
        let (headers, body) = self.whole(&request, DOCUMENT_BYTES_MAX).await?;
        late_refusal(&request.action, &headers, &body)?;
        let root = Node::root(&request.action, &body, &["CompleteMultipartUploadResult"])?;
        let get = |name: &str| root.get(name).map(|text| text.trim().trim_matches('"').to_owned());
        Ok(Head {
            etag: get("ETag"),
            crc64: get("ChecksumCRC64NVME").filter(|value| !value.contains('-')),
            version: text(&headers, "x-amz-version-id").map(ToOwned::to_owned),
            ..Head::default()
        })
    }

    /// Gives an upload up and frees what was sent.
    /// # Errors
    /// What the store says.
    pub async fn abort(&self, upload: &Upload) -> Result<(), Error> {
        let request =
            Request::new("give up", Method::DELETE, &upload.at.bucket, &upload.at.key).ask("uploadId", &upload.id);
        self.whole(&request, DOCUMENT_BYTES_MAX).await.map(drop)
    }
}

/// How a part is vouched for by default.
pub(crate) const PART_PAYLOAD: Payload = Payload::Checksum;
