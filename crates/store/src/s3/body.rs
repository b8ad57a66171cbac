//! Takes a request's body into the store and checks every digest that the client sent, in headers or in trailers.

use std::time::Duration;

use futures::StreamExt as _;
use http::HeaderMap;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};

use crate::digest::unbase64;
use crate::{BodyWriter, ChecksumKind, Error, SealedBody};

/// How long a client may take to send the next piece of a body.
const PIECE_TIMEOUT: Duration = Duration::from_mins(1);

/// What the client says of its body.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) length: Option<u64>,
    pub(super) md5: Option<String>,
    pub(super) checksum: Option<(ChecksumKind, String)>,
    /// The checksum that follows in a trailer.
    pub(super) trailing: Option<ChecksumKind>,
    /// The checksum that was asked for without being sent.
    pub(super) wanted: Option<ChecksumKind>,
}

/// The header of a checksum.
fn header(kind: ChecksumKind) -> String {
    format!("x-amz-checksum-{}", kind.name().to_ascii_lowercase())
}

impl Expected {
    /// From the request's headers.
    pub(super) fn new(headers: &HeaderMap, length: Option<i64>, md5: Option<String>) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let mut sent =
            ChecksumKind::ALL.into_iter().filter_map(|kind| text(&header(kind)).map(|value| (kind, value.to_owned())));
        let checksum = sent.next();
        if sent.next().is_some() {
            return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header"));
        }
        let trailing = text("x-amz-trailer").and_then(|names| {
            let named =
                |kind: &ChecksumKind| names.split(',').any(|name| name.trim().eq_ignore_ascii_case(&header(*kind)));
            ChecksumKind::ALL.into_iter().find(named)
        });
        let wanted = text("x-amz-sdk-checksum-algorithm").and_then(ChecksumKind::parse);
        let length = length.and_then(|length| u64::try_from(length).ok());
        Ok(Self { length, md5, checksum, trailing, wanted })
    }

    /// The checksum to compute: what the client named, else what the upload wants, else the store's own.
    pub(super) fn kind(&self, upload: Option<ChecksumKind>) -> ChecksumKind {
        let sent = self.checksum.as_ref().map(|(kind, _value)| *kind);
        sent.or(self.trailing).or(upload).or(self.wanted).unwrap_or(ChecksumKind::Crc64Nvme)
    }

    fn check(&self, sealed: &SealedBody, trailers: Option<&TrailingHeaders>) -> S3Result<()> {
        if let Some(length) = self.length
            && length != sealed.size
        {
            return Err(Error::BodyBroken(format!("{} of {length} bytes arrived", sealed.size)).into());
        }
        if let Some(md5) = &self.md5 {
            let md5 = unbase64(md5).filter(|md5| md5.len() == 16);
            let md5 = md5.ok_or_else(|| S3Error::with_message(S3ErrorCode::InvalidDigest, "Content-MD5 is not one"))?;
            if hex::encode(md5) != sealed.md5 {
                return Err(Error::BadDigest("Content-MD5").into());
            }
        }
        let trailing = self.trailing.map(|kind| {
            let value = trailers.and_then(|trailers| {
                trailers.read(|map| map.get(header(kind)).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned))
            });
            (kind, value.flatten().unwrap_or_default())
        });
        for (kind, value) in self.checksum.iter().chain(trailing.as_ref()) {
            if sealed.checksums.of(*kind) != Some(value.as_str()) {
                return Err(Error::BadDigest(kind.name()).into());
            }
        }
        Ok(())
    }
}

/// Streams `body` into `writer` and checks it. The sealed body is durable and nobody sees it yet.
pub(super) async fn take(
    mut writer: BodyWriter,
    body: Option<StreamingBlob>,
    expected: &Expected,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<SealedBody> {
    if let Some(mut body) = body {
        loop {
            let piece = tokio::time::timeout(PIECE_TIMEOUT, body.next())
                .await
                .map_err(|_elapsed| S3Error::with_message(S3ErrorCode::RequestTimeout, "the body stalled"))?;
            match piece {
                None => break,
                Some(Ok(bytes)) => writer.write(bytes).await?,
                Some(Err(error)) => return Err(broken(error.as_ref()).into()),
            }
        }
    }
    let sealed = writer.finish().await?;
    expected.check(&sealed, trailers)?;
    Ok(sealed)
}

/// s3s hands its own verification failures through the body as errors of private types; their text tells them apart.
fn broken(error: &(dyn std::error::Error + 'static)) -> Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") { Error::BadDigest("x-amz-content-sha256") } else { Error::BodyBroken(text) }
}
