//! Objects: put, head, copy, delete.

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::body::Pieces;
use crate::checksum::content_md5;
use crate::client::{CRC_HEADER, Client, DOCUMENT_BYTES_MAX, Request, Vouch, text};
use crate::document::{Node, escape};
use crate::{Crc64, Error, Place};

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Its size.
    pub bytes: u64,
    /// Its entity tag, without quotes.
    pub etag: Option<String>,
    /// Its version, if the bucket has versions.
    pub version: Option<String>,
    /// Its CRC-64/NVME over all bytes, in base64, if the store has it.
    pub crc64: Option<String>,
    /// When it was written, as HTTP writes dates.
    pub modified: Option<String>,
    /// Its media type.
    pub content_type: Option<String>,
}

impl Head {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let get = |name| text(headers, name).map(ToOwned::to_owned);
        let composite = text(headers, "x-amz-checksum-type").is_some_and(|kind| kind == "COMPOSITE");
        Self {
            bytes: text(headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or_default(),
            etag: get("etag").map(|etag| etag.trim_matches('"').to_owned()),
            version: get("x-amz-version-id"),
            crc64: get(CRC_HEADER).filter(|value| !composite && !value.contains('-')),
            modified: get("last-modified"),
            content_type: get("content-type"),
        }
    }
}

/// How a body is vouched for on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Payload {
    /// Its SHA-256 is part of the signature.
    #[default]
    Signed,
    /// Nothing is known of it beforehand.
    Unsigned,
    /// Its CRC-64/NVME is sent in a header beside the signature.
    Checksum,
    /// Its CRC-64/NVME follows it in a trailer.
    Trailer,
}

/// An object to be written.
#[derive(Debug, Clone, Default)]
pub struct Put {
    /// Its bytes.
    pub body: Pieces,
    /// How they are vouched for.
    pub payload: Payload,
    /// Its media type.
    pub content_type: Option<String>,
}

impl Put {
    pub(crate) fn into(self, mut request: Request) -> Request {
        if let Some(kind) = self.content_type {
            request = request.header("content-type", kind);
        }
        request.vouch = match self.payload {
            Payload::Signed => Vouch::Hash,
            Payload::Unsigned => Vouch::Nothing,
            Payload::Trailer => Vouch::Trailer,
            Payload::Checksum => {
                let crc = self.body.iter().fold(Crc64::empty(), |crc, piece| crc.then(Crc64::of(piece)));
                request = request.header(CRC_HEADER, crc.base64());
                Vouch::Nothing
            }
        };
        request.body = self.body;
        request
    }
}

/// A key that was not deleted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeleted {
    /// The key.
    pub key: String,
    /// S3's code.
    pub code: String,
}

impl Client {
    /// Writes an object whole. Afterwards it is as durable as the store promises.
    /// # Errors
    /// What the store says, or that it does not answer.
    pub async fn put(&self, bucket: &str, key: &str, put: Put) -> Result<Head, Error> {
        let request = put.into(Request::new("put", Method::PUT, bucket, key));
        let (headers, _body) = self.whole(&request, DOCUMENT_BYTES_MAX).await?;
        Ok(Head::read(&headers))
    }

    /// Size, tag and checksum of an object.
    /// # Errors
    /// A refusal with status 404 if there is none.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Head, Error> {
        let request = Request::new("head", Method::HEAD, bucket, key).header("x-amz-checksum-mode", "ENABLED");
        let response = self.send(&request).await?;
        Ok(Head::read(response.headers()))
    }

    /// Deletes an object, or puts a delete marker on it. That there is none is no error.
    /// # Errors
    /// What the store says, or that it does not answer.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), Error> {
        let request = Request::new("delete", Method::DELETE, bucket, key);
        self.whole(&request, DOCUMENT_BYTES_MAX).await.map(drop)
    }

    /// Deletes up to 1,000 objects with one call. Returns those that were not.
    /// # Errors
    /// What the store says to the call as a whole.
    pub async fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<Vec<Undeleted>, Error> {
        let mut document = String::from("<Delete><Quiet>true</Quiet>");
        for key in keys {
            document.push_str("<Object><Key>");
            document.push_str(&escape(key));
            document.push_str("</Key></Object>");
        }
        document.push_str("</Delete>");
        let request = Request::new("delete from", Method::POST, bucket, "")
            .ask("delete", "")
            .header("content-md5", content_md5(document.as_bytes()))
            .body(document);
        let (_headers, body) = self.whole(&request, DOCUMENT_BYTES_MAX).await?;
        let root = Node::root(&request.action, &body, &["DeleteResult"])?;
        let text = |node: &Node, name: &str| node.get(name).unwrap_or_default().to_owned();
        Ok(root.all("Error").map(|node| Undeleted { key: text(node, "Key"), code: text(node, "Code") }).collect())
    }

    /// Copies an object of at most 5 GiB inside of the store.
    /// # Errors
    /// What the store says, also when it says so behind a status of 200.
    pub async fn copy(&self, from: &Place, to: &Place) -> Result<(), Error> {
        let source = crate::place::encode(&format!("{}/{}", from.bucket, from.key), crate::place::Slash::Kept);
        let request = Request::new("copy to", Method::PUT, &to.bucket, &to.key).header("x-amz-copy-source", source);
        let (headers, body) = self.whole(&request, DOCUMENT_BYTES_MAX).await?;
        late_refusal(&request.action, &headers, &body)?;
        Node::root(&request.action, &body, &["CopyObjectResult"]).map(drop)
    }
}

/// Long calls answer 200 at once, and may say in the document that they failed.
pub(crate) fn late_refusal(action: &str, headers: &HeaderMap, body: &Bytes) -> Result<(), Error> {
    if Node::parse(body).is_some_and(|root| root.name == "Error") {
        return match crate::client::refusal(action, http::StatusCode::OK, headers, body) {
            crate::client::Try::Final(error) | crate::client::Try::Busy(error) => Err(error),
            crate::client::Try::Passing(why) => Err(Error::corrupt(action, why)),
        };
    }
    Ok(())
}
