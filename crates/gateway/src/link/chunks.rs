//! Takes the chunks of an HTTP/1.1 body apart as its bytes pass.
//!
//! Works for any split of the bytes and accepts exactly the grammar of RFC 9112, section 7.1, with two bounds: an extension
//! or a trailer is skipped up to [`SKIPPED_MAX`] bytes, and a size has at most 15 digits. Cost: a copy of the content.

/// Bytes of extensions and trailers of one body: nobody sends any.
const SKIPPED_MAX: usize = 8 << 10;
/// A size with more digits would overflow, or be a lie.
const DIGITS_MAX: u8 = 15;

/// Not chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Where in the grammar the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the size, after so many digits.
    Size {
        size: u64,
        digits: u8,
    },
    /// In what follows the size up to the line's end.
    Extension {
        size: u64,
    },
    /// The line feed behind a size.
    SizeEnd {
        size: u64,
    },
    Content {
        left: u64,
    },
    /// The line break behind content: carriage return, line feed.
    ContentCr,
    ContentLf,
    /// At the beginning of a line behind the last chunk.
    Trailer,
    /// In a trailer field.
    Field,
    /// The line feed behind a trailer field.
    FieldEnd,
    /// The line feed that ends the body.
    LastLf,
    Done,
}

/// The decoder of one body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunks {
    state: State,
    skipped: usize,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, skipped: 0 }
    }

    pub(crate) fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Appends the content of `bytes` to `out`; gives how many of them belonged to this body.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            // Nearly all chunks come whole.
            if let State::Size { digits: 0, .. } = self.state
                && let Some((content, behind)) = whole(rest)
            {
                out.extend_from_slice(content);
                rest = behind;
                continue;
            }
            self.state = match self.state {
                State::Done => break,
                State::Content { left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let (content, behind) = rest.split_at_checked(take).unwrap_or((rest, &[]));
                    out.extend_from_slice(content);
                    rest = behind;
                    let left = left.saturating_sub(u64::try_from(take).unwrap_or(left));
                    self.state = if left == 0 { State::ContentCr } else { State::Content { left } };
                    continue;
                }
                State::Size { size, digits } => match (char::from(byte).to_digit(16), byte) {
                    (Some(digit), _) if digits < DIGITS_MAX => {
                        State::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
                    }
                    (None, b';' | b' ' | b'\t') if digits > 0 => self.skip(State::Extension { size })?,
                    (None, b'\r') if digits > 0 => State::SizeEnd { size },
                    _ => return Err(Malformed),
                },
                State::Extension { size } if byte == b'\r' => State::SizeEnd { size },
                State::Extension { .. } if byte == b'\n' => return Err(Malformed),
                State::Extension { size } => self.skip(State::Extension { size })?,
                State::SizeEnd { size: 0 } | State::FieldEnd if byte == b'\n' => State::Trailer,
                State::SizeEnd { size } if byte == b'\n' => State::Content { left: size },
                State::ContentCr if byte == b'\r' => State::ContentLf,
                State::ContentLf if byte == b'\n' => State::Size { size: 0, digits: 0 },
                State::Trailer if byte == b'\r' => State::LastLf,
                State::Field if byte == b'\r' => State::FieldEnd,
                State::Trailer | State::Field if byte != b'\n' => self.skip(State::Field)?,
                State::LastLf if byte == b'\n' => State::Done,
                State::SizeEnd { .. }
                | State::ContentCr
                | State::ContentLf
                | State::Trailer
                | State::Field
                | State::FieldEnd
                | State::LastLf => return Err(Malformed),
            };
            rest = behind;
        }
        Ok(bytes.len() - rest.len())
    }

    fn skip(&mut self, next: State) -> Result<State, Malformed> {
        self.skipped += 1;
        if self.skipped > SKIPPED_MAX { Err(Malformed) } else { Ok(next) }
    }
}

/// The content of a chunk of the usual form, all of which is there, and what is behind it; nothing for the last chunk.
fn whole(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let digits = bytes.iter().take(6).take_while(|byte| digit(byte).is_some()).count();
    let size = bytes.iter().take(digits).filter_map(digit).fold(0, |size, digit| size * 16 + digit);
    let size = usize::try_from(size).ok().filter(|size| (1..=5).contains(&digits) && *size > 0)?;
    let (content, behind) = bytes.get(digits..)?.strip_prefix(b"\r\n")?.split_at_checked(size)?;
    Some((content, behind.strip_prefix(b"\r\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text; its content and how many bytes are the body's, or nothing if it is malformed.
    const CORPUS: &[(&str, Option<(&str, usize)>)] = &[
        ("0\r\n\r\n", Some(("", 5))),
        ("5\r\nhello\r\n0\r\n\r\n", Some(("hello", 15))),
        ("5\r\nhello\r\n3\r\n\r\n!\r\n0\r\n\r\nHTTP/1.1 200", Some(("hello\r\n!", 23))),
        ("00A;name=\"v\"\r\n0123456789\r\n0;last\r\nx-trailer: 1\r\ny: 2\r\n\r\n", Some(("0123456789", 56))),
        ("1 \r\nx\r\n0\t\r\n\r\n", Some(("x", 13))),
        ("\r\n", None),
        ("-1\r\nx\r\n", None),
        ("+1\r\nx\r\n", None),
        ("0x1\r\nx\r\n", None),
        ("1\nx\n0\n\n", None),
        ("1\r\nxy\r\n0\r\n\r\n", None),
        ("1\r\nx\n0\r\n\r\n", None),
        ("1;a\nb\r\nx\r\n", None),
        ("1\r\nx\r\n0\r\nfield\n\r\n", None),
        ("ffffffffffffffff\r\nx", None),
        ("g\r\n", None),
    ];

    fn decode(pieces: &[&[u8]]) -> Option<(String, usize)> {
        let (mut chunks, mut out, mut used) = (Chunks::new(), Vec::new(), 0);
        for piece in pieces {
            used += chunks.push(piece, &mut out).ok()?;
        }
        chunks.done().then(|| (String::from_utf8(out).unwrap(), used))
    }

    #[test]
    fn bodies_are_the_same_whatever_the_split() {
        for (text, expected) in CORPUS {
            let bytes = text.as_bytes();
            let expected = expected.map(|(content, used)| (content.to_owned(), used));
            assert_eq!(decode(&[bytes]), expected, "{text:?}");
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(decode(&pieces), expected, "{text:?} cut at {first} and {second}");
                }
            }
            assert_eq!(decode(&bytes.chunks(1).collect::<Vec<_>>()), expected, "{text:?} byte by byte");
            if let Some((_, used)) = expected {
                for end in 0..used {
                    assert_eq!(decode(&[&bytes[..end]]), None, "{text:?} ends at {end}");
                }
            }
        }
    }

    #[test]
    fn extensions_and_trailers_have_a_bound() {
        let long = "x".repeat(SKIPPED_MAX + 1);
        assert_eq!(decode(&[format!("1;{long}\r\n").as_bytes()]), None);
        assert_eq!(Chunks::new().push(format!("0\r\n{long}").as_bytes(), &mut Vec::new()), Err(Malformed));
        let fits = "x".repeat(SKIPPED_MAX - 1);
        assert_eq!(decode(&[format!("0;{fits}\r\n\r\n").as_bytes()]).unwrap().0, "");
    }
}
