//! One pass over a request body that is plain JSON: checks all of it, and finds the fields that [`crate::request`] reads.
//!
//! Invariant: whatever it accepts a whole JSON parser accepts, with the same fields; whatever it does not understand at once
//! (a mistake, an escaped key, a field twice) it leaves to that parser, which also knows how to say what is wrong.
//! Cost: strings, which are nearly all of a body, are skipped with vector instructions. Source: RFC 8259.

use std::borrow::Cow;

use crate::config::JSON_DEPTH_MAX;
use crate::request::{Peek, Prompt};

/// What may stand at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Key,
    KeyOrEnd,
    Value,
    ValueOrEnd,
    CommaOrEnd,
}

/// A place in the text.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Behind an opening quote: what stands before the closing one.
    fn string(&mut self) -> Option<&'a [u8]> {
        let from = self.at;
        loop {
            let rest = self.text.get(self.at..)?;
            let length = memchr::memchr2(b'"', b'\\', rest)?;
            if has_control(rest.get(..length)?) {
                return None;
            }
            self.at += length + 1;
            if rest.get(length) == Some(&b'"') {
                return self.text.get(from..self.at - 1);
            }
            match self.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' => {
                    let digits = self.text.get(self.at..self.at + 4)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    self.at += 4;
                }
                _ => return None,
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        let found = self.text.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        found.then_some(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    /// A number that begins with `first`.
    fn number(&mut self, first: u8) -> Option<()> {
        let lead = if first == b'-' { self.next()? } else { first };
        match lead {
            b'0' => {}
            b'1'..=b'9' => {
                // There may be no further digit.
                let _more = self.digits();
            }
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }
}

/// In pieces that the compiler turns into vector instructions.
fn has_control(text: &[u8]) -> bool {
    text.chunks(256).any(|piece| piece.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' ')
}

/// The fields of the object's own.
#[derive(Default)]
struct Found<'a> {
    model: Option<&'a str>,
    stream: Option<bool>,
    streamed: bool,
    prompt: Prompt<'a>,
}

impl<'a> Found<'a> {
    fn take(&mut self, key: &'a [u8], value: &'a [u8]) -> Option<()> {
        let value = value.trim_ascii();
        match key {
            b"model" => {
                let name = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
                if name.contains(&b'\\') || self.model.is_some() {
                    return None;
                }
                self.model = Some(std::str::from_utf8(name).ok()?);
            }
            b"stream" => {
                if std::mem::replace(&mut self.streamed, true) {
                    return None;
                }
                self.stream = match value {
                    b"true" => Some(true),
                    b"false" => Some(false),
                    b"null" => None,
                    _ => return None,
                };
            }
            // Escapes may spell another name; the parser also wants every name of the object's own to be text.
            _ if key.contains(&b'\\') || !key.is_ascii() => return None,
            _ => self.prompt.take(key, value),
        }
        Some(())
    }
}

/// What `body` asks for; nothing if it takes a whole parser to tell.
pub(crate) fn scan(body: &[u8]) -> Option<Peek<'_>> {
    let mut cursor = Cursor { text: body, at: 0 };
    let mut found = Found::default();
    // A bit for each open bracket: whether it is a brace. The lowest is the innermost.
    let mut braces: u128 = 1;
    let mut depth = 1_usize;
    cursor.blanks();
    (cursor.next()? == b'{').then_some(())?;
    let mut want = Want::KeyOrEnd;
    let (mut key, mut value_from) = (&[][..], 0);
    while depth > 0 {
        cursor.blanks();
        let byte = cursor.next()?;
        want = match (want, byte) {
            (Want::Key | Want::KeyOrEnd, b'"') => {
                let name = cursor.string()?;
                cursor.blanks();
                (cursor.next()? == b':').then_some(())?;
                if depth == 1 {
                    (key, value_from) = (name, cursor.at);
                }
                Want::Value
            }
            (Want::CommaOrEnd, b',') => {
                if depth == 1 {
                    found.take(key, body.get(value_from..cursor.at - 1)?)?;
                }
                if braces & 1 == 1 { Want::Key } else { Want::Value }
            }
            (Want::KeyOrEnd | Want::CommaOrEnd, b'}') if braces & 1 == 1 => {
                if depth == 1 && want == Want::CommaOrEnd {
                    found.take(key, body.get(value_from..cursor.at - 1)?)?;
                }
                (braces, depth) = (braces >> 1, depth - 1);
                Want::CommaOrEnd
            }
            (Want::ValueOrEnd | Want::CommaOrEnd, b']') if braces & 1 == 0 => {
                (braces, depth) = (braces >> 1, depth - 1);
                Want::CommaOrEnd
            }
            (Want::Value | Want::ValueOrEnd, b'{' | b'[') => {
                (depth < JSON_DEPTH_MAX).then_some(())?;
                braces = (braces << 1) | u128::from(byte == b'{');
                depth += 1;
                if byte == b'{' { Want::KeyOrEnd } else { Want::ValueOrEnd }
            }
            (Want::Value | Want::ValueOrEnd, _) => {
                match byte {
                    b'"' => drop(cursor.string()?),
                    b't' => cursor.word(b"rue")?,
                    b'f' => cursor.word(b"alse")?,
                    b'n' => cursor.word(b"ull")?,
                    _ => cursor.number(byte)?,
                }
                Want::CommaOrEnd
            }
            (Want::Key | Want::KeyOrEnd | Want::CommaOrEnd, _) => return None,
        };
    }
    cursor.blanks();
    (cursor.at == body.len()).then_some(())?;
    Some(Peek { model: Cow::Borrowed(found.model?), stream: found.stream.unwrap_or(false), prompt: found.prompt })
}
