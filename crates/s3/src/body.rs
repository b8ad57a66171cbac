//! Bodies of requests: pieces that are already in memory, sent without a copy, as often as needed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body of some pieces. A clone shares their bytes.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The bytes that are left.
    pub const fn len(&self) -> u64 {
        self.left
    }

    /// Whether no byte is left.
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The pieces.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.left += piece.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    /// The same in the framing `aws-chunked`: one chunk, then a trailer.
    pub(crate) fn framed(&self, trailer: &str, value: &str) -> Self {
        let mut framed = Self::empty();
        if self.left > 0 {
            framed.push(Bytes::from(format!("{:x}\r\n", self.left)));
            for piece in &self.pieces {
                framed.push(piece.clone());
            }
            framed.push(Bytes::from_static(b"\r\n"));
        }
        framed.push(Bytes::from(format!("0\r\n{trailer}:{value}\r\n\r\n")));
        framed
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        let mut pieces = Self::empty();
        pieces.push(bytes);
        pieces
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Pieces {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl FromIterator<Bytes> for Pieces {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let mut all = Self::empty();
        pieces.into_iter().for_each(|piece| all.push(piece));
        all
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        if let Some(piece) = &piece {
            self.left -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_follows_the_one_chunk() {
        let body: Pieces =
            [Bytes::from_static(b"hello"), Bytes::new(), Bytes::from_static(b" you")].into_iter().collect();
        assert_eq!(body.len(), 9);
        let framed = body.framed("x-amz-checksum-crc64nvme", "AAA=");
        let text: Vec<u8> = framed.iter().flat_map(|piece| piece.iter().copied()).collect();
        assert_eq!(text, b"9\r\nhello you\r\n0\r\nx-amz-checksum-crc64nvme:AAA=\r\n\r\n");
        assert_eq!(framed.len(), text.len() as u64);
        assert_eq!(Pieces::empty().framed("a", "b").len(), 10);
    }
}
