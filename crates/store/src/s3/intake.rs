//! Takes a request's body into the store and checks every digest that the client sent, in headers or in trailers.

use std::sync::Arc;

use super::call::Call;
use super::fault::Fault;
use super::payload::Payload;
use crate::crypto::Cipher;
use crate::digest::unbase64;
use crate::{BodyWriter, ChecksumKind, Checksums, SealedBody};

/// What the client says of its body.
#[derive(Debug, Default)]
pub(super) struct Expected {
    md5: Option<Vec<u8>>,
    checksum: Option<(ChecksumKind, String)>,
    /// The checksum that follows in a trailer.
    trailing: Option<ChecksumKind>,
    /// The checksum that was asked for without being sent.
    wanted: Option<ChecksumKind>,
}

/// The header of a checksum.
pub(super) fn header(kind: ChecksumKind) -> String {
    format!("x-amz-checksum-{}", kind.name().to_ascii_lowercase())
}

/// The element of a checksum in documents.
pub(super) fn element(kind: ChecksumKind) -> String {
    format!("Checksum{}", kind.name())
}

/// Whether a value could be a checksum of this kind at all.
fn fits(kind: ChecksumKind, value: &str) -> bool {
    let bytes = match kind {
        ChecksumKind::Crc32 | ChecksumKind::Crc32c => 4,
        ChecksumKind::Crc64Nvme => 8,
        ChecksumKind::Sha1 => 20,
        ChecksumKind::Sha256 => 32,
    };
    unbase64(value).is_some_and(|value| value.len() == bytes)
}

impl Expected {
    /// From the request's headers.
    pub(super) fn new(call: &Call) -> Result<Self, Fault> {
        let mut sent = ChecksumKind::ALL
            .into_iter()
            .filter_map(|kind| call.header(&header(kind)).map(|value| (kind, value.to_owned())));
        let checksum = sent.next();
        if sent.next().is_some() {
            return Err(Fault::request(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
        if let Some((kind, value)) = &checksum
            && !fits(*kind, value)
        {
            return Err(Fault::new("BadDigest", format!("Value for {} header is invalid.", header(*kind))));
        }
        let trailing = call.header("x-amz-trailer").and_then(|names| {
            let named =
                |kind: &ChecksumKind| names.split(',').any(|name| name.trim().eq_ignore_ascii_case(&header(*kind)));
            ChecksumKind::ALL.into_iter().find(named)
        });
        let algorithm = call.header("x-amz-sdk-checksum-algorithm").or_else(|| call.header("x-amz-checksum-algorithm"));
        let wanted = match algorithm {
            None => None,
            Some(name) => Some(ChecksumKind::parse(name).ok_or_else(|| {
                Fault::request("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
            })?),
        };
        let md5 = match call.header("content-md5") {
            None => None,
            Some(text) => Some(
                unbase64(text)
                    .filter(|md5| md5.len() == 16)
                    .ok_or_else(|| Fault::new("InvalidDigest", "The Content-MD5 you specified was invalid."))?,
            ),
        };
        Ok(Self { md5, checksum, trailing, wanted })
    }

    /// The checksum that the client named, if any.
    pub(super) fn named(&self) -> Option<ChecksumKind> {
        let sent = self.checksum.as_ref().map(|(kind, _value)| *kind);
        sent.or(self.trailing).or(self.wanted)
    }

    /// Checks what arrived against what was said.
    pub(super) fn check(&self, sealed: &SealedBody, payload: &Payload) -> Result<(), Fault> {
        if let Some(md5) = &self.md5
            && hex::encode(md5) != sealed.md5
        {
            return Err(Fault::new("BadDigest", "The Content-MD5 you specified did not match what we received."));
        }
        let trailing = self
            .trailing
            .map(|kind| (kind, super::call::header(payload.trailers(), &header(kind)).unwrap_or_default().to_owned()));
        for (kind, value) in self.checksum.iter().chain(trailing.as_ref()) {
            if !fits(*kind, value) {
                return Err(Fault::new("BadDigest", format!("Value for {} header is invalid.", header(*kind))));
            }
            if sealed.checksums.of(*kind) != Some(value.as_str()) {
                return Err(Fault::new(
                    "BadDigest",
                    format!("The {} you specified did not match the calculated checksum.", kind.name()),
                ));
            }
        }
        Ok(())
    }
}

/// Streams the payload into `writer` and checks it. The sealed body is durable and nobody sees it yet.
pub(super) async fn take(
    mut writer: BodyWriter,
    payload: &mut Payload,
    expected: &Expected,
) -> Result<SealedBody, Fault> {
    while let Some(bytes) = payload.next().await? {
        writer.write(bytes).await?;
    }
    let sealed = writer.finish().await?;
    expected.check(&sealed, payload)?;
    Ok(sealed)
}

/// The writer of a body that may be encrypted.
pub(super) fn sealed_with(writer: BodyWriter, cipher: Option<Arc<Cipher>>) -> BodyWriter {
    match cipher {
        Some(cipher) => writer.encrypted(cipher),
        None => writer,
    }
}

/// Header and value of an object's checksum, and of its type.
pub(super) fn shown(sums: &Checksums) -> Vec<(String, String)> {
    let Some((kind, value)) = &sums.value else { return Vec::new() };
    vec![(header(*kind), value.clone()), ("x-amz-checksum-type".to_owned(), type_name(sums).to_owned())]
}

/// Whether a checksum is over the bytes or over the parts' checksums, in S3's words.
pub(super) const fn type_name(sums: &Checksums) -> &'static str {
    if sums.composite { "COMPOSITE" } else { "FULL_OBJECT" }
}
