//! From the bytes of tokens to text that may be sent: whole characters only, and nothing of a stop string.
//!
//! Invariant: the pieces that come out, joined, are the whole answer up to the first stop string, with bytes that are no
//! UTF-8 replaced by U+FFFD as [`String::from_utf8_lossy`] would. Cost: proportional to the text times the stop strings.

/// Text on its way out.
#[derive(Debug)]
pub(super) struct TextStream {
    stops: Vec<String>,
    /// The beginning of a character whose rest is yet to come.
    bytes: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl TextStream {
    /// A stream that ends before the first of `stops`. Empty stop strings are left out.
    pub(super) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, bytes: Vec::new(), held: String::new(), stopped: false }
    }

    /// Whether a stop string has come.
    pub(super) const fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the bytes of a token and gives the text that is certain.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.bytes.extend_from_slice(bytes);
        let whole = whole_characters(&self.bytes);
        let rest = self.bytes.split_off(whole);
        self.held.push_str(&String::from_utf8_lossy(&self.bytes));
        self.bytes = rest;
        self.release()
    }

    /// Gives what is left, at the end of the answer.
    pub(super) fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.bytes)));
        let certain = self.release();
        if self.stopped { certain } else { certain + &std::mem::take(&mut self.held) }
    }

    fn release(&mut self) -> String {
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let uncertain = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - uncertain);
        std::mem::replace(&mut self.held, rest)
    }
}

/// How many bytes at the end of `text` are the beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|length| text.as_bytes().ends_with(&stop.as_bytes()[..*length])).unwrap_or(0)
}

/// How many of `bytes` are complete: all but a last character that more bytes could complete.
fn whole_characters(bytes: &[u8]) -> usize {
    let last_four = bytes.len().saturating_sub(4);
    for start in (last_four..bytes.len()).rev() {
        if let Some(tail) = bytes.get(start..) {
            match std::str::from_utf8(tail) {
                Ok(_) => return bytes.len(),
                // Nothing valid before the error and no length of the error: the beginning of a character.
                Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => return start,
                Err(_) => {}
            }
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// The whole text, cut into tokens of `size` bytes.
    fn stream(bytes: &[u8], size: usize, stops: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut stream = TextStream::new(&stops);
        let mut out = String::new();
        for token in bytes.chunks(size) {
            out += &stream.push(token);
        }
        out += &stream.finish();
        (out, stream.stopped())
    }

    #[test]
    fn characters_are_never_cut() {
        let text = "naïve – 数据中心 🏗️ done";
        for size in 1..8 {
            assert_eq!(stream(text.as_bytes(), size, &[]).0, text);
        }
        let mut one = TextStream::new(&[]);
        assert_eq!(one.push(&[0xf0, 0x9f]), "");
        assert_eq!(one.push(&[0x8f, 0x97]), "🏗");
    }

    #[test]
    fn any_bytes_come_out_as_the_standard_library_would_replace_them() {
        let mut rng = Rng::new(3);
        for _ in 0..2_000 {
            let length = usize::try_from(rng.next_u64() % 12).unwrap();
            let bytes: Vec<u8> = (0..length)
                .map(|_| [0x61, 0xe6, 0x95, 0xf0, 0x9f, 0x80, 0xff, 0xc3][usize::try_from(rng.next_u64() % 8).unwrap()])
                .collect();
            for size in 1..5 {
                assert_eq!(stream(&bytes, size, &[]).0, String::from_utf8_lossy(&bytes), "{bytes:x?} by {size}");
            }
        }
    }

    #[test]
    fn stop_strings_are_found_across_tokens_and_never_leak() {
        for size in 1..9 {
            assert_eq!(stream(b"one two STOP three", size, &["STOP"]), ("one two ".to_owned(), true));
            assert_eq!(stream(b"aaab", size, &["aab"]), ("a".to_owned(), true));
            assert_eq!(stream(b"one STO", size, &["STOP"]), ("one STO".to_owned(), false));
            assert_eq!(stream("10 €. 20 €".as_bytes(), size, &["€. ", "20"]), ("10 ".to_owned(), true));
            assert_eq!(stream(b"abcd", size, &["cd", "bcd"]), ("a".to_owned(), true), "size {size}");
        }
        assert_eq!(stream(b"text", 1, &[""]), ("text".to_owned(), false));
    }
}
