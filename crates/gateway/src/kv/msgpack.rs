//! Reads `MessagePack`: the few types that events of caches consist of. Everything else is skipped.
//!
//! *Invariant*: no step reads beyond the bytes it was given, allocates, or goes deeper than [`DEPTH_MAX`]. Source: the
//! format's specification, 2013.

/// Values nest no deeper in any event.
const DEPTH_MAX: u32 = 16;

/// The bytes are no value of the type that stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The values that are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'b>(&'b [u8]);

/// What stands next, its head read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'b> {
    Nil,
    /// A number that is not negative, or the bits of one that is.
    Whole(u64),
    Text(&'b [u8]),
    Bytes(&'b [u8]),
    /// So many values follow.
    Array(usize),
    /// So many pairs follow.
    Map(usize),
    /// A truth, a real number, an extension.
    Other,
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn value(&mut self) -> Result<Value<'b>, Malformed> {
        let head = self.number(1)?;
        let low = |mask: u64| head & mask;
        Ok(match head {
            0x00..=0x7f => Value::Whole(head),
            0x80..=0x8f => Value::Map(self.count(low(0x0f))?),
            0x90..=0x9f => Value::Array(self.count(low(0x0f))?),
            0xa0..=0xbf => Value::Text(self.take(low(0x1f))?),
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Other,
            0xc4..=0xc6 => {
                let length = self.number(1 << (head - 0xc4))?;
                Value::Bytes(self.take(length)?)
            }
            0xc7..=0xc9 => {
                let length = self.number(1 << (head - 0xc7))?;
                self.take(length.saturating_add(1))?;
                Value::Other
            }
            0xca => self.skipped(4)?,
            0xcb => self.skipped(8)?,
            0xcc..=0xcf => Value::Whole(self.number(1 << (head - 0xcc))?),
            0xd0..=0xd3 => {
                let bytes = 1 << (head - 0xd0);
                let bits = self.number(bytes)?;
                // The sign's bit goes to the top and comes back with its copies.
                let up = 64 - 8 * u32::try_from(bytes).map_err(|_| Malformed)?;
                Value::Whole(((bits << up).cast_signed() >> up).cast_unsigned())
            }
            0xd4..=0xd8 => self.skipped((1 << (head - 0xd4)) + 1)?,
            0xd9..=0xdb => {
                let length = self.number(1 << (head - 0xd9))?;
                Value::Text(self.take(length)?)
            }
            0xdc | 0xdd => {
                let count = self.number(2 << (head - 0xdc))?;
                Value::Array(self.count(count)?)
            }
            0xde | 0xdf => {
                let count = self.number(2 << (head - 0xde))?;
                Value::Map(self.count(count)?)
            }
            // All that are smaller are negative numbers of one byte, but for 0xc1, which is never used.
            0xe0..=0xff => Value::Whole(head | !0xff),
            _ => return Err(Malformed),
        })
    }

    /// Passes one value, with all in it.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        self.skip_within(DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: u32) -> Result<(), Malformed> {
        let inner = match self.value()? {
            Value::Array(count) => count,
            Value::Map(pairs) => pairs.saturating_mul(2),
            Value::Nil | Value::Whole(_) | Value::Text(_) | Value::Bytes(_) | Value::Other => 0,
        };
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        for _ in 0..inner {
            self.skip_within(depth)?;
        }
        Ok(())
    }

    /// An array's head; nothing for nil.
    pub(super) fn array(&mut self) -> Result<Option<usize>, Malformed> {
        match self.value()? {
            Value::Array(count) => Ok(Some(count)),
            Value::Nil => Ok(None),
            Value::Whole(_) | Value::Text(_) | Value::Bytes(_) | Value::Map(_) | Value::Other => Err(Malformed),
        }
    }

    /// As many values follow; each takes a byte at least, so a count cannot promise more than the bytes hold.
    fn count(&self, count: u64) -> Result<usize, Malformed> {
        usize::try_from(count).ok().filter(|count| *count <= self.0.len()).ok_or(Malformed)
    }

    fn skipped(&mut self, bytes: u64) -> Result<Value<'b>, Malformed> {
        self.take(bytes).map(|_| Value::Other)
    }

    fn number(&mut self, bytes: u64) -> Result<u64, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Result<Value<'_>, Malformed> {
        Reader::new(bytes).value()
    }

    #[test]
    fn numbers_of_all_widths_are_read() {
        for (bytes, number) in [
            (&[0x07][..], 7),
            (&[0xff], -1),
            (&[0xe0], -32),
            (&[0xcc, 200], 200),
            (&[0xcd, 1, 0], 256),
            (&[0xce, 0, 1, 0, 0], 65_536),
            (&[0xd0, 0x80], -128),
            (&[0xd1, 0xff, 0xfe], -2),
            (&[0xd2, 0x7f, 0xff, 0xff, 0xff], i64::from(i32::MAX)),
            (&[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0], i64::MIN),
        ] {
            assert_eq!(one(bytes), Ok(Value::Whole(number.cast_unsigned())), "{bytes:?}");
        }
        assert_eq!(one(&[0xcf; 9]), Ok(Value::Whole(0xcfcf_cfcf_cfcf_cfcf)));
    }

    #[test]
    fn texts_bytes_and_what_nobody_asked_for_pass() {
        assert_eq!(one(b"\xa2ab"), Ok(Value::Text(b"ab")));
        assert_eq!(one(b"\xd9\x02ab"), Ok(Value::Text(b"ab")));
        assert_eq!(one(b"\xc4\x02ab"), Ok(Value::Bytes(b"ab")));
        // [true, 1.5, {"k": [ext]}], then 7.
        let bytes = b"\x93\xc3\xcb\x3f\xf8\0\0\0\0\0\0\x81\xa1k\x91\xd4\x01\x02\x07";
        let mut reader = Reader::new(bytes);
        assert_eq!((reader.skip(), reader.value(), reader.is_empty()), (Ok(()), Ok(Value::Whole(7)), true));
        for end in 0..bytes.len() - 1 {
            assert_eq!(Reader::new(&bytes[..end]).skip(), Err(Malformed), "cut at {end}");
        }
    }

    #[test]
    fn counts_and_depths_have_bounds() {
        assert_eq!(one(b"\xdd\xff\xff\xff\xff"), Err(Malformed), "more values than bytes");
        assert_eq!(Reader::new(&[0x91; 1_000]).skip(), Err(Malformed));
        assert_eq!(one(&[0xc1]), Err(Malformed));
    }
}
