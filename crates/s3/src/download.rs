//! Reading objects: piece by piece, or whole and checked.

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::checksum::{Running, md5_hex};
use crate::client::{Client, Request, Try, text};
use crate::{Crc64, Error, Head};

/// A stretch of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub offset: u64,
    /// How many bytes, at least one.
    pub length: u64,
}

impl Span {
    fn header(self) -> String {
        format!("bytes={}-{}", self.offset, self.offset.saturating_add(self.length.saturating_sub(1)))
    }
}

/// An object that is being read.
#[derive(Debug)]
pub struct Download {
    /// What is known of it; `bytes` counts what this answer brings.
    pub head: Head,
    action: String,
    body: Incoming,
    running: Running,
    received: u64,
    timeout: std::time::Duration,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

impl Download {
    /// The next piece; `None` once all is there.
    /// # Errors
    /// If the answer breaks off, stalls, or is not as long as announced.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = tokio::time::timeout(self.timeout, self.body.frame())
                .await
                .map_err(|_elapsed| Error::corrupt(&self.action, "the answer stalled"))?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.received += piece.len() as u64;
                        self.running.update(&piece);
                        return Ok(Some(piece));
                    }
                }
                Some(Err(error)) => {
                    let why = format!("the answer broke off after {} bytes: {error}", self.received);
                    return Err(Error::corrupt(&self.action, why));
                }
                None if self.received == self.head.bytes => return Ok(None),
                None => {
                    let why = format!("{} of {} bytes arrived", self.received, self.head.bytes);
                    return Err(Error::corrupt(&self.action, why));
                }
            }
        }
    }

    /// The checksum of what has arrived.
    pub fn crc(&self) -> Crc64 {
        self.running.finish(self.received)
    }
}

impl Client {
    /// Begins to read an object, or a stretch of it.
    /// # Errors
    /// A refusal with status 404 if there is none, and 416 if the stretch is behind its end.
    pub async fn get(&self, bucket: &str, key: &str, span: Option<Span>) -> Result<Download, Error> {
        let request = get_request(bucket, key, span, None);
        self.persist(&request.action, || self.begin(&request)).await
    }

    async fn begin(&self, request: &Request) -> Result<Download, Try> {
        let response = self.once(request).await?;
        let (parts, body) = response.into_parts();
        if text(&parts.headers, "content-length").is_none() {
            return Err(Try::Final(Error::corrupt(&request.action, "the answer does not say how long it is")));
        }
        Ok(Download {
            head: Head::read(&parts.headers),
            action: request.action.clone(),
            body,
            running: Running::new(),
            received: 0,
            timeout: self.piece_timeout(),
        })
    }

    /// Reads a stretch into memory, of the very object that has this entity tag. One that breaks off is read again.
    /// # Errors
    /// What the store says; a refusal with 412 if the object was written anew meanwhile.
    pub async fn get_span(&self, bucket: &str, key: &str, span: Span, etag: Option<&str>) -> Result<Bytes, Error> {
        let request = get_request(bucket, key, Some(span), etag);
        self.persist(&request.action, || async {
            let body = self.gather(self.begin(&request).await?, span.length).await?;
            if body.len() as u64 != span.length {
                let why = format!("asked for {} bytes and got {}", span.length, body.len());
                return Err(Try::Final(Error::corrupt(&request.action, why)));
            }
            Ok(body)
        })
        .await
    }

    /// Reads an object of at most `limit` bytes into memory and checks it against the checksum or MD5 that the store told.
    /// # Errors
    /// What the store says; [`Error::TooLarge`]; [`Error::Corrupt`] if a checksum does not fit twice.
    pub async fn get_whole(&self, bucket: &str, key: &str, limit: u64) -> Result<(Head, Bytes), Error> {
        let request = get_request(bucket, key, None, None);
        self.persist(&request.action, || async {
            let download = self.begin(&request).await?;
            let head = download.head.clone();
            let body = self.gather(download, limit).await?;
            match head.vouches(Crc64::of(&body), || md5_hex(&body)) {
                Vouched::No => Err(Try::Passing("the bytes do not have the checksum that the store told".to_owned())),
                Vouched::Yes | Vouched::Unknown => Ok((head, body)),
            }
        })
        .await
    }

    async fn gather(&self, mut download: Download, limit: u64) -> Result<Bytes, Try> {
        let expected = download.head.bytes;
        if expected > limit {
            return Err(Try::Final(Error::TooLarge { what: download.action.clone(), limit }));
        }
        let passing = |error: Error| Try::Passing(error.to_string());
        let Some(first) = download.next().await.map_err(passing)? else { return Ok(Bytes::new()) };
        if first.len() as u64 == expected {
            download.next().await.map_err(passing)?;
            return Ok(first);
        }
        let mut body = BytesMut::with_capacity(usize::try_from(expected).unwrap_or_default());
        body.extend_from_slice(&first);
        while let Some(piece) = download.next().await.map_err(passing)? {
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }
}

fn get_request(bucket: &str, key: &str, span: Option<Span>, etag: Option<&str>) -> Request {
    let mut request = Request::new("get", Method::GET, bucket, key);
    match span {
        Some(span) => request = request.header("range", span.header()),
        None => request = request.header("x-amz-checksum-mode", "ENABLED"),
    }
    match etag {
        Some(etag) => request.header("if-match", format!("\"{etag}\"")),
        None => request,
    }
}

/// Whether what the store told of an object fits to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vouched {
    Yes,
    No,
    /// The store told nothing that could be checked.
    Unknown,
}

impl Head {
    /// Compares the checksum, or else the entity tag where it is an MD5.
    pub(crate) fn vouches(&self, crc: Crc64, md5: impl FnOnce() -> String) -> Vouched {
        let fits = |fits| if fits { Vouched::Yes } else { Vouched::No };
        if let Some(told) = &self.crc64 {
            return fits(*told == crc.base64());
        }
        let plain = |etag: &&String| etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self.etag.as_ref().filter(plain) {
            // The tag of an encrypted object looks like an MD5 and is none, so that it differs proves nothing.
            Some(etag) if etag.eq_ignore_ascii_case(&md5()) => Vouched::Yes,
            Some(_) | None => Vouched::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_decides_and_an_entity_tag_only_agrees() {
        let crc = Crc64::of(b"x");
        let head = |crc64: Option<String>, etag: &str| Head { crc64, etag: Some(etag.to_owned()), ..Head::default() };
        let md5 = || "9dd4e461268c8034f5c8564e155c67a6".to_owned();
        assert_eq!(head(Some(crc.base64()), "").vouches(crc, md5), Vouched::Yes);
        assert_eq!(head(Some("AAAAAAAAAAA=".to_owned()), &md5()).vouches(crc, md5), Vouched::No);
        assert_eq!(head(None, &md5()).vouches(crc, md5), Vouched::Yes);
        assert_eq!(head(None, &"0".repeat(32)).vouches(crc, md5), Vouched::Unknown);
        assert_eq!(head(None, "abc-2").vouches(crc, md5), Vouched::Unknown);
        assert_eq!(md5_hex(b"x"), md5());
    }

    #[test]
    fn a_span_is_written_with_its_last_byte() {
        assert_eq!(Span { offset: 5, length: 3 }.header(), "bytes=5-7");
    }
}
