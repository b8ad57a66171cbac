//! Watches a stream of server-sent events as it passes: counts events, knows where one ends.
//!
//! Source: WHATWG HTML, section 9.2.6 (lines end with LF, CR or CRLF; a blank line ends an event). Works for any split of
//! the bytes. Memory: the first [`HEAD`] bytes of the present line. Cost: one vectorised search for line ends.

/// Enough to tell `data: [DONE]` from everything else.
const HEAD: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct SseScanner {
    head: [u8; HEAD],
    line_bytes: usize,
    event: Event,
    after_cr: bool,
    done: bool,
    data_events: u64,
}

/// What the lines since the last blank one were.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Event {
    #[default]
    Empty,
    NoData,
    Data,
    Done,
}

impl SseScanner {
    /// Looks at the next bytes; returns how many events with data ended in them, the final `[DONE]` not counted.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> u64 {
        let before = self.data_events;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(at) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
            self.line_part(line);
            self.line_end();
            self.after_cr = rest == b"\r";
            let end = if rest.starts_with(b"\r\n") { 2 } else { 1 };
            bytes = rest.get(end..).unwrap_or_default();
        }
        self.line_part(bytes);
        self.data_events - before
    }

    /// Whether the stream said that it is complete.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the bytes so far end between two events.
    pub(crate) fn at_boundary(&self) -> bool {
        self.line_bytes == 0 && self.event == Event::Empty
    }

    fn line_part(&mut self, part: &[u8]) {
        if let Some(room) = self.head.get_mut(self.line_bytes..) {
            for (slot, byte) in room.iter_mut().zip(part) {
                *slot = *byte;
            }
        }
        self.line_bytes = self.line_bytes.saturating_add(part.len());
    }

    fn line_end(&mut self) {
        let line = self.head.get(..self.line_bytes.min(HEAD)).unwrap_or(&self.head);
        if line.is_empty() {
            match self.event {
                Event::Data => self.data_events += 1,
                Event::Done => self.done = true,
                Event::Empty | Event::NoData => {}
            }
            self.event = Event::Empty;
        } else if let Some(payload) = line.strip_prefix(b"data:") {
            let last = payload.trim_ascii() == b"[DONE]" && self.line_bytes <= HEAD;
            self.event = if last { Event::Done } else { Event::Data };
        } else if self.event == Event::Empty {
            self.event = Event::NoData;
        }
        self.line_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text, data events, done, ends between events.
    const CORPUS: &[(&str, u64, bool, bool)] = &[
        ("data: {\"a\":1}\n\ndata: {\"a\":2}\n\ndata: [DONE]\n\n", 2, true, true),
        ("data: {\"a\":1}\r\n\r\ndata:{\"a\":2}\r\n\r\ndata:[DONE]\r\n\r\n", 2, true, true),
        ("data: 1\r\rdata: 2\r\rdata: [DONE] \r\r", 2, true, true),
        (": ping\n\n: ping\n\nevent: x\nid: 7\ndata: 1\ndata: 2\n\n", 1, false, true),
        ("data: 1\n\ndata: 2\n", 1, false, false),
        ("data: 1\n\nda", 1, false, false),
        ("data: [DONE]x and much more text in this line\n\n", 1, false, true),
        ("data: [DONE]\n", 0, false, false),
        ("\n\n\n\n", 0, false, true),
        ("", 0, false, true),
        ("data\n\nxdata: 1\n\n", 0, false, true),
        ("data: caf\u{e9} \u{2028} \u{1f600}\n\ndata: x\n\n", 2, false, true),
    ];

    fn scan(pieces: &[&[u8]]) -> (u64, bool, bool) {
        let mut scanner = SseScanner::default();
        let counted = pieces.iter().map(|piece| scanner.push(piece)).sum();
        (counted, scanner.is_done(), scanner.at_boundary())
    }

    #[test]
    fn events_are_counted_whatever_the_split() {
        for &(text, events, done, boundary) in CORPUS {
            let bytes = text.as_bytes();
            let expected = (events, done, boundary);
            assert_eq!(scan(&[bytes]), expected, "{text:?}");
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(scan(&pieces), expected, "{text:?} cut at {first} and {second}");
                }
            }
            assert_eq!(scan(&bytes.chunks(1).collect::<Vec<_>>()), expected, "{text:?} byte by byte");
        }
    }
}
