//! Reads `multipart/form-data` as it comes, without holding more than a piece of it. Source: RFC 7578, RFC 2046 section 5.1.1.
//!
//! Works for any split of the bytes. Memory: what was pushed last, and [`HEAD_BYTES_MAX`].

use bytes::{Bytes, BytesMut};
use memchr::memmem;

/// Longer heads of parts are nobody's.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// What was found next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A part begins.
    Part { name: String, filename: Option<String> },
    /// Bytes of the part that began last.
    Bytes(Bytes),
    /// The form has ended.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// Behind a boundary: its line ends here, or the form does.
    Boundary,
    Head,
    Body,
    End,
}

/// The reader.
#[derive(Debug)]
pub(crate) struct Form {
    /// `\r\n--boundary`.
    mark: Vec<u8>,
    held: BytesMut,
    state: State,
}

impl Form {
    /// A reader for a body of this content type; nothing if it is another one.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameters.split(';').find_map(|one| {
            let (name, value) = one.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
        })?;
        // The first boundary may open the body, where no line end stands before it.
        let plain = (1..=70).contains(&boundary.len()) && boundary.is_ascii();
        plain.then(|| Self {
            mark: format!("\r\n--{boundary}").into_bytes(),
            held: BytesMut::from(&b"\r\n"[..]),
            state: State::Preamble,
        })
    }

    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// What comes next; nothing if more bytes are needed.
    /// # Errors
    /// What is wrong with the form.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, &'static str> {
        loop {
            match self.state {
                State::End => return Ok(Some(Found::End)),
                State::Preamble => {
                    let Some(at) = memmem::find(&self.held, &self.mark) else {
                        let keep = self.mark.len().min(self.held.len());
                        self.drop_front(self.held.len() - keep);
                        return Ok(None);
                    };
                    self.drop_front(at + self.mark.len());
                    self.state = State::Boundary;
                }
                State::Boundary => {
                    if self.held.starts_with(b"--") {
                        self.state = State::End;
                    } else if self.held.starts_with(b"\r\n") {
                        self.drop_front(2);
                        self.state = State::Head;
                    } else if self.held.len() >= 2 {
                        return Err("a boundary is followed by other bytes");
                    } else {
                        return Ok(None);
                    }
                }
                State::Head => {
                    let Some(at) = memmem::find(&self.held, b"\r\n\r\n") else {
                        return if self.held.len() > HEAD_BYTES_MAX {
                            Err("the head of a part is too long")
                        } else {
                            Ok(None)
                        };
                    };
                    let head = self.held.split_to(at + 4);
                    self.state = State::Body;
                    return part(&head).map(Some);
                }
                State::Body => {
                    if let Some(at) = memmem::find(&self.held, &self.mark) {
                        let bytes = self.held.split_to(at).freeze();
                        self.drop_front(self.mark.len());
                        self.state = State::Boundary;
                        if !bytes.is_empty() {
                            return Ok(Some(Found::Bytes(bytes)));
                        }
                    } else {
                        // The mark may have begun.
                        let sure = self.held.len().saturating_sub(self.mark.len());
                        let bytes = self.held.split_to(sure).freeze();
                        return Ok((!bytes.is_empty()).then_some(Found::Bytes(bytes)));
                    }
                }
            }
        }
    }

    fn drop_front(&mut self, count: usize) {
        drop(self.held.split_to(count));
    }
}

fn part(head: &[u8]) -> Result<Found, &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "the head of a part is not UTF-8")?;
    let disposition = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
        })
        .ok_or("a part has no Content-Disposition")?;
    let name = parameter(disposition, "name").ok_or("a part has no name")?;
    Ok(Found::Part { name, filename: parameter(disposition, "filename") })
}

/// The value of `name="..."`; clients write a quote in it as `%22` or `\"`.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        let name = before.rsplit([';', ' ']).next().unwrap_or_default().trim();
        let (value, left) = if let Some(quoted) = after.strip_prefix('"') {
            let end = quoted
                .match_indices('"')
                .find(|(at, _)| !quoted.get(..*at).is_some_and(|head| head.ends_with('\\')))?
                .0;
            (quoted.get(..end)?, quoted.get(end + 1..)?)
        } else {
            after.split_once(';').unwrap_or((after, ""))
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value.trim().replace("\\\"", "\"").replace("%22", "\""));
        }
        rest = left;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "--b0\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b0\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".jsonl\"\r\nContent-Type: x/y\r\n\r\n\
        {\"a\":1}\r\n--b\r\n\r\n--b0--\r\n";

    fn read(pieces: &[&[u8]]) -> Vec<(String, Option<String>, Vec<u8>)> {
        let mut form = Form::of("multipart/form-data; charset=x; boundary=\"b0\"").unwrap();
        let mut parts: Vec<(String, Option<String>, Vec<u8>)> = Vec::new();
        for piece in pieces {
            form.push(piece);
            while let Some(found) = form.next().unwrap() {
                match found {
                    Found::Part { name, filename } => parts.push((name, filename, Vec::new())),
                    Found::Bytes(bytes) => parts.last_mut().unwrap().2.extend_from_slice(&bytes),
                    Found::End => return parts,
                }
            }
        }
        panic!("the form did not end");
    }

    #[test]
    fn parts_are_found_whatever_the_split() {
        let whole = BODY.as_bytes();
        let expected = vec![
            ("purpose".to_owned(), None, b"batch".to_vec()),
            ("file".to_owned(), Some("a \"b\".jsonl".to_owned()), b"{\"a\":1}\r\n--b\r\n".to_vec()),
        ];
        assert_eq!(read(&[whole]), expected);
        for cut in 0..whole.len() {
            assert_eq!(read(&[&whole[..cut], &whole[cut..]]), expected, "{cut}");
        }
        assert_eq!(read(&whole.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for bad in
            ["application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x"]
        {
            assert!(Form::of(bad).is_none(), "{bad}");
        }
        for (body, says) in [
            ("--b0xx", "followed by other"),
            ("--b0\r\nx: y\r\n\r\n", "no Content-Disposition"),
            ("--b0\r\ncontent-disposition: form-data\r\n\r\n", "no name"),
        ] {
            let mut form = Form::of("multipart/form-data; boundary=b0").unwrap();
            form.push(body.as_bytes());
            assert!(form.next().unwrap_err().contains(says), "{body}");
        }
        let mut form = Form::of("multipart/form-data; boundary=b0").unwrap();
        form.push(b"--b0\r\n");
        form.push(&[b'x'; 9_000]);
        assert!(form.next().is_err());
    }
}
