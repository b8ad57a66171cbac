//! HTTP/1.1 messages, as far as the two ends of a test need them: heads, lengths, chunks. Works for any split of the bytes.

use memchr::memmem;

/// Where a message's head ends: behind its blank line.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a field in a head, by its name in lower case.
pub(crate) fn field<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (left, right) = line.split_at_checked(name.len())?;
        let value = right.strip_prefix(b":").filter(|_| left.eq_ignore_ascii_case(name.as_bytes()))?;
        std::str::from_utf8(value).ok().map(str::trim)
    })
}

/// The status of an answer's head.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// The number behind the first `key` in `text`, blanks between allowed: `"max_tokens": 12`.
pub(crate) fn number_after(text: &[u8], key: &[u8]) -> Option<u64> {
    let at = memmem::find(text, key)? + key.len();
    let digits = text.get(at..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(digits.get(..length)?).ok()?.parse().ok()
}

/// Whether `"key": true` stands in `text`.
pub(crate) fn is_true(text: &[u8], key: &[u8]) -> bool {
    memmem::find(text, key)
        .and_then(|at| text.get(at + key.len()..))
        .and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"))
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"true"))
}

/// How the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Sized(u64),
    /// So many bytes of the present chunk are left.
    Chunk(u64),
    /// In the line with a chunk's size: what was read of it, and whether a digit came.
    Size(u64, Digits),
    /// In the line break behind a chunk.
    Break,
    /// Behind the last chunk: bytes of the closing line break that are still to come.
    Trailer(u8),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digits {
    Read,
    /// An extension or the line break follows.
    Over,
}

/// Follows the body of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyReader(Body);

impl BodyReader {
    /// The reader for the body behind `head`; without any length the answer has none.
    pub(crate) fn of(head: &[u8]) -> Self {
        let chunked = field(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = field(head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        Self(match (chunked, length) {
            (true, _) => Body::Size(0, Digits::Read),
            (false, 0) => Body::Done,
            (false, length) => Body::Sized(length),
        })
    }

    pub(crate) fn done(&self) -> bool {
        self.0 == Body::Done
    }

    /// Follows the next bytes and hands their content on; gives how many belonged to this body.
    pub(crate) fn push(&mut self, bytes: &[u8], mut content: impl FnMut(&[u8])) -> usize {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            match self.0 {
                Body::Done => break,
                Body::Sized(left) | Body::Chunk(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let (now, later) = rest.split_at_checked(take).unwrap_or((rest, &[]));
                    content(now);
                    rest = later;
                    let left = left - u64::try_from(take).unwrap_or(left);
                    self.0 = match (self.0, left) {
                        (Body::Sized(_), 0) => Body::Done,
                        (Body::Sized(_), left) => Body::Sized(left),
                        (_, 0) => Body::Break,
                        (_, left) => Body::Chunk(left),
                    };
                    continue;
                }
                Body::Break if byte == b'\n' => self.0 = Body::Size(0, Digits::Read),
                Body::Size(0, _) if byte == b'\n' => self.0 = Body::Trailer(2),
                Body::Size(size, _) if byte == b'\n' => self.0 = Body::Chunk(size),
                Body::Size(size, Digits::Read) => {
                    let digit = char::from(byte).to_digit(16);
                    self.0 = digit.map_or(Body::Size(size, Digits::Over), |digit| {
                        Body::Size(size.saturating_mul(16).saturating_add(u64::from(digit)), Digits::Read)
                    });
                }
                Body::Break | Body::Size(_, Digits::Over) => {}
                Body::Trailer(2) => self.0 = Body::Trailer(1),
                Body::Trailer(_) => self.0 = Body::Done,
            }
            rest = behind;
        }
        bytes.len() - rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_end_where_they_say_whatever_the_split() {
        for (head, body, content) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "hello", "hello"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", ""),
            ("HTTP/1.1 204 No\r\n\r\n", "", ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "5\r\nhello\r\n1A;x=1\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
                "helloabcdefghijklmnopqrstuvwxyz",
            ),
        ] {
            let whole = format!("{body}HTTP/1.1 next");
            for cut in 0..=whole.len() {
                let mut reader = BodyReader::of(head.as_bytes());
                let mut got = Vec::new();
                let mut read = 0;
                for piece in [&whole[..cut], &whole[cut..]] {
                    read += reader.push(piece.as_bytes(), |content| got.extend_from_slice(content));
                }
                assert!(reader.done());
                assert_eq!((read, String::from_utf8(got).unwrap().as_str()), (body.len(), content), "cut at {cut}");
            }
        }
    }

    #[test]
    fn fields_and_numbers_are_found() {
        let head = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length:  12 \r\n\r\n";
        assert_eq!((field(head, "content-length"), field(head, "length")), (Some("12"), None));
        assert_eq!((head_end(head), status(b"HTTP/1.1 404 Not Found\r\n")), (Some(head.len()), Some(404)));
        let body = br#"{"max_tokens" : 7, "stream": true, "x":{"n":3}}"#;
        assert_eq!((number_after(body, b"\"max_tokens\""), number_after(body, b"\"n\"")), (Some(7), Some(3)));
        assert_eq!(
            (number_after(body, b"\"stream\""), is_true(body, b"\"stream\""), is_true(body, b"\"x\"")),
            (None, true, false)
        );
    }
}
