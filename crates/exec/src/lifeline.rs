//! The pipe that only the server holds open: secrets first, then one byte per request, and its end means the server's.
//!
//! Layout: `u32` little endian length, that many bytes of JSON (the secret variables), then bytes of [`Request`].

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use dh_core::Secret;
use zeroize::Zeroizing;

use crate::limits::HEADER_BYTES_MAX;

/// What a server asks of a warden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Start the task: all wardens of the gang are ready.
    Go,
    /// End it politely.
    StopPolitely,
    /// End it at once.
    StopNow,
    /// Kill it as a fault would.
    Fault,
    /// Nothing: the server still leads.
    Beat,
}

impl Request {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Go => b'g',
            Self::StopPolitely => b't',
            Self::StopNow => b'k',
            Self::Fault => b'f',
            Self::Beat => b'b',
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'g' => Some(Self::Go),
            b't' => Some(Self::StopPolitely),
            b'k' => Some(Self::StopNow),
            b'f' => Some(Self::Fault),
            b'b' => Some(Self::Beat),
            _ => None,
        }
    }
}

/// Writes the secret variables.
pub(crate) fn write_header(to: &mut impl Write, secrets: &BTreeMap<String, Secret<String>>) -> io::Result<()> {
    let plain: BTreeMap<&str, &str> =
        secrets.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
    // Six bytes is the longest escape of one byte, so the buffer never moves and leaves no copy behind.
    let bytes: usize = plain.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 8).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(bytes + 8));
    serde_json::to_writer(&mut *text, &plain)?;
    let length = u32::try_from(text.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&text)
}

/// Reads what [`write_header`] wrote; an early end of the pipe is `UnexpectedEof`.
pub(crate) fn read_header(from: &mut impl Read) -> io::Result<BTreeMap<String, Zeroizing<String>>> {
    let mut length = [0_u8; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > HEADER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the header is larger than any gang's secrets"));
    }
    let mut text = Zeroizing::new(vec![0_u8; length]);
    from.read_exact(&mut text)?;
    let plain: BTreeMap<String, String> = serde_json::from_slice(&text)?;
    Ok(plain.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_cross_the_pipe_whole_and_a_cut_pipe_is_noticed() {
        let secrets = BTreeMap::from([
            ("TOKEN".to_owned(), Secret::new("a\"\n\u{1}é".to_owned())),
            ("EMPTY".to_owned(), Secret::new(String::new())),
        ]);
        let mut pipe = Vec::new();
        write_header(&mut pipe, &secrets).unwrap();
        let read = read_header(&mut pipe.as_slice()).unwrap();
        assert_eq!(read["TOKEN"].as_str(), "a\"\n\u{1}é");
        assert_eq!(read.len(), 2);
        for cut in 0..pipe.len() {
            let error = read_header(&mut &pipe[..cut]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }
}
