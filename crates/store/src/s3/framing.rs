//! The `aws-chunked` framing: sizes, bytes, a signature for each chunk, and trailers behind the last.
//!
//! Invariant: bytes are handed on before their chunk's signature is known, so the reader must believe nothing before
//! [`Framing::finish`] said yes. Memory: one line. Source: Amazon S3 API Reference, "Signature calculations for the
//! Authorization header: transferring a payload in multiple chunks", and the same with trailers.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use ring::digest;

use super::fault::Fault;
use super::sign::{same, sha256_hex, sign_v4};

/// The longest line: a size, an extension, a trailer.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Trailers of a body.
const TRAILERS_MAX: usize = 32;

/// The largest chunk; S3's clients send at most a few MiB.
const CHUNK_BYTES_MAX: u64 = 5 << 30;

/// What signs the chunks.
#[derive(Debug, Clone)]
pub(super) struct ChunkKey {
    pub(super) key: Vec<u8>,
    pub(super) date: String,
    pub(super) scope: String,
    /// The signature of the request, the first link of the chain.
    pub(super) seed: String,
}

/// Where the reader stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    /// Before or in a line with a chunk's size.
    Size,
    /// Inside of a chunk.
    Data {
        left: u64,
        signature: Option<String>,
    },
    /// The line end behind a chunk.
    AfterData {
        signature: Option<String>,
    },
    /// In the trailers.
    Trailers,
    End,
}

/// A framed body on its way.
pub(super) struct Framing {
    at: At,
    line: Vec<u8>,
    chain: Option<ChunkKey>,
    hash: digest::Context,
    trailers: HeaderMap,
    canonical: String,
    trailer_signature: Option<String>,
    expects_trailers: bool,
}

fn broken(what: &str) -> Fault {
    Fault::new("IncompleteBody", format!("the framing of the body is broken: {what}"))
}

impl Framing {
    /// `chain` if chunks are signed.
    pub(super) fn new(chain: Option<ChunkKey>, expects_trailers: bool) -> Self {
        Self {
            at: At::Size,
            line: Vec::new(),
            chain,
            hash: digest::Context::new(&digest::SHA256),
            trailers: HeaderMap::new(),
            canonical: String::new(),
            trailer_signature: None,
            expects_trailers,
        }
    }

    /// Takes what arrived; hands on the bytes of the object in it.
    pub(super) fn push(&mut self, mut bytes: Bytes, mut out: impl FnMut(Bytes)) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Data { left, signature } => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let piece = bytes.split_to(take);
                    if self.chain.is_some() {
                        self.hash.update(&piece);
                    }
                    *left -= piece.len() as u64;
                    if *left == 0 {
                        self.at = At::AfterData { signature: signature.take() };
                    }
                    out(piece);
                }
                At::Size | At::AfterData { .. } | At::Trailers => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let take = end.map_or(bytes.len(), |end| end + 1);
                    if self.line.len() + take > LINE_BYTES_MAX {
                        return Err(broken("a line is too long"));
                    }
                    self.line.extend_from_slice(&bytes.split_to(take));
                    if end.is_some() {
                        let line = std::mem::take(&mut self.line);
                        let line = String::from_utf8(line).map_err(|_error| broken("a line is no text"))?;
                        self.line(line.trim_end_matches(['\r', '\n']))?;
                    }
                }
                At::End => return Err(broken("bytes behind its end")),
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), Fault> {
        match std::mem::replace(&mut self.at, At::Size) {
            At::Size => {
                let (size, extension) = line.split_once(';').unwrap_or((line, ""));
                let size = size.trim();
                let plain = !size.is_empty() && size.len() <= 16 && size.bytes().all(|byte| byte.is_ascii_hexdigit());
                let size = plain.then(|| u64::from_str_radix(size, 16).ok()).flatten();
                let size = size.filter(|size| *size <= CHUNK_BYTES_MAX).ok_or_else(|| broken("a chunk's size"))?;
                let signature = extension.trim().strip_prefix("chunk-signature=").map(ToOwned::to_owned);
                if size > 0 {
                    self.at = At::Data { left: size, signature };
                    return Ok(());
                }
                self.check(signature.as_deref())?;
                // An empty line or trailers follow.
                self.at = At::Trailers;
                Ok(())
            }
            At::AfterData { signature } => {
                if !line.is_empty() {
                    return Err(broken("a chunk is longer than it says"));
                }
                self.check(signature.as_deref())
            }
            At::Trailers => {
                if line.is_empty() {
                    // Some clients put an empty line before the trailers' signature, so the end is where bytes end.
                    self.at =
                        if self.trailer_signature.is_some() || self.chain.is_none() { At::End } else { At::Trailers };
                    return Ok(());
                }
                let (name, value) = line.split_once(':').ok_or_else(|| broken("a trailer has no value"))?;
                let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
                if name == "x-amz-trailer-signature" {
                    self.trailer_signature = Some(value.to_owned());
                } else {
                    if self.trailers.len() >= TRAILERS_MAX {
                        return Err(broken("too many trailers"));
                    }
                    self.canonical.push_str(&name);
                    self.canonical.push(':');
                    self.canonical.push_str(value);
                    self.canonical.push('\n');
                    let name = HeaderName::try_from(name).map_err(|_error| broken("a trailer's name"))?;
                    let value = HeaderValue::try_from(value).map_err(|_error| broken("a trailer's value"))?;
                    self.trailers.insert(name, value);
                }
                self.at = At::Trailers;
                Ok(())
            }
            At::Data { .. } | At::End => Err(broken("a line inside of a chunk")),
        }
    }

    /// Checks the signature of the chunk that has ended, the next link of the chain.
    fn check(&mut self, signature: Option<&str>) -> Result<(), Fault> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        let hash = std::mem::replace(&mut self.hash, digest::Context::new(&digest::SHA256)).finish();
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{}\n{}",
            chain.date,
            chain.scope,
            chain.seed,
            sha256_hex(b""),
            hex::encode(hash)
        );
        let want = sign_v4(&chain.key, &text);
        if !signature.is_some_and(|have| same(have, &want)) {
            return Err(Fault::new("SignatureDoesNotMatch", "the signature of a chunk does not match"));
        }
        chain.seed = want;
        Ok(())
    }

    /// Checks that the body has ended; returns its trailers.
    pub(super) fn finish(self) -> Result<HeaderMap, Fault> {
        if !matches!(self.at, At::End | At::Trailers) || !self.line.is_empty() {
            return Err(broken("it ends early"));
        }
        if let Some(chain) = &self.chain
            && self.expects_trailers
        {
            let text = format!(
                "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
                chain.date,
                chain.scope,
                chain.seed,
                sha256_hex(self.canonical.as_bytes())
            );
            let have = self.trailer_signature.as_deref().unwrap_or_default();
            if !same(have, &sign_v4(&chain.key, &text)) {
                return Err(Fault::new("SignatureDoesNotMatch", "the signature of the trailers does not match"));
            }
        }
        Ok(self.trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], piece: usize, chain: Option<ChunkKey>) -> Result<(Vec<u8>, HeaderMap), Fault> {
        let mut framing = Framing::new(chain, false);
        let mut body = Vec::new();
        for bytes in text.chunks(piece.max(1)) {
            framing.push(Bytes::copy_from_slice(bytes), |bytes| body.extend_from_slice(&bytes))?;
        }
        Ok((body, framing.finish()?))
    }

    #[test]
    fn chunks_and_trailers_come_out_however_they_are_cut() {
        let text = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
        for piece in 1..text.len() {
            let (body, trailers) = read(text, piece, None).unwrap();
            assert_eq!(body, b"hello world");
            assert_eq!(trailers["x-amz-checksum-crc32"], "DUoRhQ==");
        }
        for cut in 0..text.len() - 40 {
            assert!(read(&text[..cut], 7, None).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_documentations_signed_chunks_verify_and_a_changed_one_does_not() {
        // Source: Amazon S3 API Reference, the example of a chunked upload: 66,560 bytes `a`.
        let key = super::super::sign::signing_key(
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "20130524/us-east-1/s3/aws4_request",
        );
        let chain = || ChunkKey {
            key: key.clone(),
            date: "20130524T000000Z".to_owned(),
            scope: "20130524/us-east-1/s3/aws4_request".to_owned(),
            seed: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned(),
        };
        let mut text = Vec::new();
        for (size, signature) in [
            (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1_024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            text.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
            text.extend(std::iter::repeat_n(b'a', size));
            text.extend_from_slice(b"\r\n");
        }
        assert_eq!(read(&text, 1_000, Some(chain())).unwrap().0.len(), 66_560);
        let at = 30_000;
        text[at] = b'b';
        assert_eq!(read(&text, 1_000, Some(chain())).unwrap_err().code, "SignatureDoesNotMatch");
    }

    #[test]
    fn broken_framing_never_panics_and_hands_on_no_more_than_arrived() {
        let good = b"5;chunk-signature=00\r\nhello\r\n3\r\nabc\r\n0\r\nx-amz-a:b\r\n\r\n";
        let mut state = 5_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap()
        };
        let mut fine = 0;
        for _round in 0..20_000 {
            let mut bytes = good.to_vec();
            for _change in 0..=next() % 3 {
                let at = next() % bytes.len();
                match next() % 3 {
                    0 => bytes[at] = u8::try_from(next() % 256).unwrap(),
                    1 => {
                        bytes.remove(at);
                    }
                    _insert => bytes.insert(at, b"\r\n0f;:="[next() % 7]),
                }
            }
            if let Ok((body, _trailers)) = read(&bytes, 1 + next() % 9, None) {
                assert!(body.len() <= bytes.len());
                fine += 1;
            }
        }
        assert!(fine > 1_000, "{fine}");
    }
}
