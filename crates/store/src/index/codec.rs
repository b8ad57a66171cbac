//! The bytes of rows: little, bounded, and read in one pass.
//!
//! Numbers are LEB128, texts and bytes have their length in front, optional fields a bit in a leading word of flags. What
//! is read is bounded by the row's own length, so a wrong length allocates nothing. Cost: about 200 ns for an object's row.

use crate::Error;
use crate::block::bound_crc;

/// The version of the encoding; the first byte of every value.
const VERSION: u8 = 2;

/// What stands in a row.
pub(crate) trait Row: Sized {
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads it; `None` if the bytes are not those of one.
    fn read(from: &mut Reader<'_>) -> Option<Self>;
}

/// Reads fields one after another.
#[derive(Debug)]
pub(crate) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) const fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'b [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        Some(std::str::from_utf8(self.bytes()?).ok()?.to_owned())
    }

    /// A field that is there if its flag is set.
    #[expect(clippy::option_option, reason = "outside: whether the bytes are right; inside: whether there is a field")]
    pub(crate) fn optional<T>(&mut self, flag: bool, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if flag { read(self).map(Some) } else { Some(None) }
    }

    /// A list that is there if its flag is set; an item takes at least one byte, which bounds what is allocated.
    pub(crate) fn list<T>(&mut self, flag: bool, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        if !flag {
            return Some(Vec::new());
        }
        let count = usize::try_from(self.number()?).ok()?;
        if count > self.rest.len() {
            return None;
        }
        (0..count).map(|_item| read(self)).collect()
    }
}

/// Appends a number.
pub(crate) fn number(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends bytes behind their length.
pub(crate) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a text if there is one.
pub(crate) fn text(out: &mut Vec<u8>, value: Option<&String>) {
    if let Some(value) = value {
        bytes(out, value.as_bytes());
    }
}

/// Appends what there is, if anything.
pub(crate) fn some<T>(out: &mut Vec<u8>, item: Option<&T>, write: impl FnOnce(&mut Vec<u8>, &T)) {
    if let Some(item) = item {
        write(out, item);
    }
}

/// Appends a list if it is not empty.
pub(crate) fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        number(out, items.len() as u64);
        for item in items {
            write(out, item);
        }
    }
}

/// Flags: bit `i` is set if the `i`th of `set` is.
pub(crate) fn flags(set: &[bool]) -> u64 {
    set.iter().rev().fold(0, |flags, set| flags << 1 | u64::from(*set))
}

/// The value of a row: `version u8 | row | inline body | crc u64`. The crc covers the row's key too, so that a row under
/// another key is as visible as a flipped bit.
pub(crate) fn encode<T: Row>(row_key: &[u8], row: &T, inline: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(128 + inline.len());
    value.push(VERSION);
    row.write(&mut value);
    value.extend_from_slice(inline);
    let crc = bound_crc(row_key, &value);
    value.extend_from_slice(&crc.to_le_bytes());
    value
}

/// A row and its inline body.
/// # Errors
/// [`Error::Corrupt`] if the value is not what [`encode`] made for this key.
pub(crate) fn decode<'a, T: Row>(row_key: &[u8], value: &'a [u8]) -> Result<(T, &'a [u8]), Error> {
    let bad = |what: &str| Error::corrupt(format!("{what} of row `{}`", row_key.escape_ascii()), "the index");
    let (framed, crc) = value.split_last_chunk::<8>().ok_or_else(|| bad("the length"))?;
    if bound_crc(row_key, framed) != u64::from_le_bytes(*crc) {
        return Err(bad("the checksum"));
    }
    let (version, rest) = framed.split_first().ok_or_else(|| bad("the length"))?;
    if *version != VERSION {
        return Err(Error::Meta(format!("row version {version} is not of this program, which reads {VERSION}")));
    }
    let mut reader = Reader::new(rest);
    let row = T::read(&mut reader).ok_or_else(|| bad("the content"))?;
    Ok((row, reader.rest()))
}

impl Row for () {
    fn write(&self, _out: &mut Vec<u8>) {}

    fn read(_from: &mut Reader<'_>) -> Option<Self> {
        Some(())
    }
}

impl Row for u64 {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, *self);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_too_long_ones_do_not() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(Reader::new(&out).number(), Some(value));
            assert_eq!(Reader::new(&out[..out.len() - 1]).number(), None);
        }
        assert_eq!(Reader::new(&[0xff; 11]).number(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number(), None);
    }

    #[test]
    fn a_wrong_length_allocates_nothing() {
        let mut out = Vec::new();
        number(&mut out, u64::MAX);
        assert_eq!(Reader::new(&out).bytes(), None);
        assert_eq!(Reader::new(&out).list(true, Reader::byte), None);
    }
}
