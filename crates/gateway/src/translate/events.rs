//! The data of server-sent events, whatever the split of the bytes. Source: WHATWG HTML, section 9.2.6.

/// Engines send below a kilobyte; a longer event is a mistake.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// Collects events from the pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    after_cr: bool,
}

impl Events {
    /// Hands the data of each event that ends in `bytes` to `take`.
    /// # Errors
    /// An event without end, or no text.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&str)) -> Result<(), &'static str> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(at) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
            self.part(line)?;
            self.end(&mut take)?;
            self.after_cr = rest == b"\r";
            let end = if rest.starts_with(b"\r\n") { 2 } else { 1 };
            bytes = rest.get(end..).unwrap_or_default();
        }
        self.part(bytes)
    }

    fn part(&mut self, part: &[u8]) -> Result<(), &'static str> {
        self.line.extend_from_slice(part);
        let all = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
        if all > EVENT_BYTES_MAX { Err("the engine sent an event without end") } else { Ok(()) }
    }

    fn end(&mut self, take: &mut impl FnMut(&str)) -> Result<(), &'static str> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if let Some(data) = self.data.take() {
                take(std::str::from_utf8(&data).map_err(|_| "the engine sent an event that is no text")?);
            }
        } else if let Some(more) = line.strip_prefix(b"data:") {
            let more = more.strip_prefix(b" ").unwrap_or(more);
            match &mut self.data {
                None => self.data = Some(more.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(more);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_found_whatever_the_split() {
        for (text, found) in [
            ("data: {\"a\":1}\n\ndata:b\n\n", &["{\"a\":1}", "b"][..]),
            (": ping\r\n\r\nevent: x\r\ndata: 1\r\ndata: 2\r\n\r\n", &["1\n2"]),
            ("data: 1\r\rdata: caf\u{e9}\r\r", &["1", "caf\u{e9}"]),
            ("data: cut", &[]),
        ] {
            let bytes = text.as_bytes();
            for cut in 0..=bytes.len() {
                let (mut events, mut got) = (Events::default(), Vec::new());
                for piece in [&bytes[..cut], &bytes[cut..]] {
                    events.push(piece, |data| got.push(data.to_owned())).unwrap();
                }
                assert_eq!(got, found, "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut events = Events::default();
        let pushed = (0..5_000).find_map(|_| events.push(&[b'x'; 1_024], |_| {}).err());
        assert!(pushed.is_some() && events.line.len() <= EVENT_BYTES_MAX + 1_024);
    }
}
