//! Reading the head of a GGUF file: metadata and the directory of tensors.
//!
//! Invariant: the file is untrusted. Every length is checked against what is left of the file before memory is taken for
//! it, no arithmetic on its numbers can overflow, and tensors may not overlap, so that memory stays proportional to the
//! file. Cost: one buffered pass over the head; tensor data is not touched. Source: the GGUF specification (versions 2
//! and 3, little-endian) in ggml's `docs/gguf.md`.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read};

use candle_core::quantized::GgmlDType;

use super::Error;

/// `GGUF` as a little-endian word.
const MAGIC: u32 = 0x4655_4747;
/// Entries of metadata, and tensors. Llama 3.1 405B has 1,138 tensors.
const ENTRIES_MAX: u64 = 65_536;
/// One string. Chat templates reach 20 kB.
const STRING_BYTES_MAX: u64 = 1 << 20;
/// Elements of one array. The largest vocabularies have 262,144 tokens, and a few times as many merges.
const ELEMENTS_MAX: u64 = 1 << 22;
/// Nesting of arrays of arrays.
const DEPTH_MAX: u32 = 4;
const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 16;

/// A metadata value. Arrays that nothing reads are checked and dropped.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Skipped,
}

/// Where one tensor lies and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorInfo {
    pub(super) dtype: GgmlDType,
    /// Row-major: the last dimension is contiguous.
    pub(super) dims: Vec<usize>,
    /// From the start of the file.
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

/// The head of a file.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) values: HashMap<String, Value>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

impl Head {
    /// Reads the head of a file of `file_bytes` bytes, from its start.
    pub(super) fn read(reader: impl Read, file_bytes: u64) -> Result<Self, Error> {
        let mut input = Input { reader: BufReader::with_capacity(64 << 10, reader), position: 0, end: file_bytes };
        if input.u32()? != MAGIC {
            return Err(Error::not_a_model("it does not begin with `GGUF`"));
        }
        let version = input.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(Error::not_a_model(format!("GGUF version {version}; versions 2 and 3 are read")));
        }
        let tensor_count = input.count("tensors")?;
        let value_count = input.count("metadata entries")?;
        let mut values = HashMap::new();
        for _ in 0..value_count {
            let key = input.text()?;
            let code = input.u32()?;
            let value = input.value(code, 0)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(Error::not_a_model(format!("metadata key `{key}` appears twice")));
            }
        }
        let alignment = match values.get("general.alignment") {
            None => ALIGNMENT_DEFAULT,
            Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= ALIGNMENT_MAX => *n,
            Some(other) => return Err(Error::not_a_model(format!("general.alignment is {other:?}"))),
        };
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, info) = input.tensor(alignment)?;
            if tensors.insert(name.clone(), info).is_some() {
                return Err(Error::not_a_model(format!("tensor `{name}` appears twice")));
            }
        }
        let data_start = input.position.next_multiple_of(alignment);
        for (name, info) in &mut tensors {
            info.offset = info
                .offset
                .checked_add(data_start)
                .filter(|start| start.checked_add(info.bytes as u64).is_some_and(|end| end <= file_bytes))
                .ok_or_else(|| Error::not_a_model(format!("tensor `{name}` lies beyond the end of the file")))?;
        }
        refuse_overlap(&tensors)?;
        Ok(Self { values, tensors })
    }

    /// The text under `key`.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The non-negative integer under `key`, whatever its width.
    pub(super) fn integer(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Unsigned(n)) => Some(*n),
            Some(Value::Signed(n)) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The number under `key`.
    pub(super) fn float(&self, key: &str) -> Option<f64> {
        match self.values.get(key) {
            Some(Value::Float(x)) => Some(*x),
            _ => None,
        }
    }

    /// The switch under `key`.
    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        match self.values.get(key) {
            Some(Value::Bool(b)) => Some(*b),
            _ => None,
        }
    }

    /// Takes the list of texts under `key`, so that a vocabulary is held once.
    pub(super) fn take_texts(&mut self, key: &str) -> Option<Vec<String>> {
        match self.values.remove(key) {
            Some(Value::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    /// Takes the list of integers under `key`.
    pub(super) fn take_integers(&mut self, key: &str) -> Option<Vec<i64>> {
        match self.values.remove(key) {
            Some(Value::Integers(integers)) => Some(integers),
            _ => None,
        }
    }
}

fn refuse_overlap(tensors: &BTreeMap<String, TensorInfo>) -> Result<(), Error> {
    let mut places: Vec<(u64, u64, &str)> = tensors
        .iter()
        .map(|(name, info)| (info.offset, info.offset.saturating_add(info.bytes as u64), name.as_str()))
        .collect();
    places.sort_unstable();
    for pair in places.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && end > start
        {
            return Err(Error::not_a_model(format!("tensors `{first}` and `{second}` overlap")));
        }
    }
    Ok(())
}

/// The element type behind a number in the file. Source: `enum ggml_type` in ggml's `ggml.h`.
fn dtype(code: u32) -> Option<GgmlDType> {
    Some(match code {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

struct Input<R> {
    reader: BufReader<R>,
    position: u64,
    end: u64,
}

impl<R: Read> Input<R> {
    /// Refuses lengths that the rest of the file cannot hold, before memory is taken for them.
    fn expect(&self, bytes: u64) -> Result<(), Error> {
        if bytes > self.end.saturating_sub(self.position) {
            return Err(Error::not_a_model(format!("it ends inside its head, at byte {}", self.end)));
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.expect(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(Error::Read)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str) -> Result<u64, Error> {
        let count = self.u64()?;
        if count > ENTRIES_MAX {
            return Err(Error::not_a_model(format!("it claims {count} {what}, the limit is {ENTRIES_MAX}")));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.u64()?;
        if length > STRING_BYTES_MAX {
            return Err(Error::not_a_model(format!("a text of {length} bytes, the limit is {STRING_BYTES_MAX}")));
        }
        self.expect(length)?;
        let length = usize::try_from(length).map_err(|_| Error::not_a_model("a text too long for this machine"))?;
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).map_err(Error::Read)?;
        self.position += length as u64;
        String::from_utf8(bytes)
            .map_err(|_| Error::not_a_model(format!("a text before byte {} is not UTF-8", self.position)))
    }

    fn value(&mut self, code: u32, depth: u32) -> Result<Value, Error> {
        Ok(match code {
            0 => Value::Unsigned(u64::from(self.bytes::<1>()?[0])),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.bytes()?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.bytes()?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.bytes()?))),
            4 => Value::Unsigned(u64::from(self.u32()?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.bytes()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.bytes()?))),
            7 => match self.bytes::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(Error::not_a_model(format!("a switch with the value {other}"))),
            },
            8 => Value::Text(self.text()?),
            9 => self.array(depth)?,
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            _ => return Err(Error::not_a_model(format!("metadata of the unknown type {code}"))),
        })
    }

    fn array(&mut self, depth: u32) -> Result<Value, Error> {
        if depth >= DEPTH_MAX {
            return Err(Error::not_a_model(format!("arrays nested deeper than {DEPTH_MAX}")));
        }
        let code = self.u32()?;
        let count = self.u64()?;
        // Eight bytes of memory per element at most for a byte in the file: the limit keeps a vicious file small.
        if count > ELEMENTS_MAX {
            return Err(Error::not_a_model(format!("an array of {count} elements, the limit is {ELEMENTS_MAX}")));
        }
        self.expect(count)?;
        let mut texts = Vec::new();
        let mut integers = Vec::new();
        for _ in 0..count {
            match self.value(code, depth + 1)? {
                Value::Text(text) => texts.push(text),
                Value::Signed(n) => integers.push(n),
                Value::Unsigned(n) => integers.push(i64::try_from(n).unwrap_or(i64::MAX)),
                Value::Float(_) | Value::Bool(_) | Value::Texts(_) | Value::Integers(_) | Value::Skipped => {}
            }
        }
        Ok(match code {
            8 => Value::Texts(texts),
            0..=5 | 10 | 11 => Value::Integers(integers),
            _ => Value::Skipped,
        })
    }

    fn tensor(&mut self, alignment: u64) -> Result<(String, TensorInfo), Error> {
        let name = self.text()?;
        let bad = |why: String| Error::not_a_model(format!("tensor `{name}`: {why}"));
        let rank = self.u32()?;
        if !(1..=4).contains(&rank) {
            return Err(bad(format!("{rank} dimensions; 1 to 4 are possible")));
        }
        let mut dims = Vec::new();
        for _ in 0..rank {
            dims.push(usize::try_from(self.u64()?).unwrap_or(usize::MAX));
        }
        let code = self.u32()?;
        let offset = self.u64()?;
        let dtype = dtype(code).ok_or_else(|| {
            bad(format!("the element type {code} is not read (F32, F16, BF16, Q4_0 to Q8_0 and Q2_K to Q6_K are)"))
        })?;
        let row = dims.first().copied().unwrap_or(0);
        if !row.is_multiple_of(dtype.block_size()) {
            return Err(bad(format!("rows of {row} elements do not fill blocks of {}", dtype.block_size())));
        }
        let bytes = dims
            .iter()
            .try_fold(1usize, |product, dim| product.checked_mul(*dim))
            .filter(|elements| *elements > 0)
            .and_then(|elements| (elements / dtype.block_size()).checked_mul(dtype.type_size()))
            .ok_or_else(|| bad(format!("impossible dimensions {dims:?}")))?;
        if !offset.is_multiple_of(alignment) {
            return Err(bad(format!("offset {offset} is not a multiple of {alignment}")));
        }
        dims.reverse();
        Ok((name, TensorInfo { dtype, dims, offset, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(entries: &[(&str, u32, &[u8])]) -> Result<Head, Error> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        for (key, code, value) in entries {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(key.as_bytes());
            bytes.extend(code.to_le_bytes());
            bytes.extend(*value);
        }
        Head::read(bytes.as_slice(), bytes.len() as u64)
    }

    #[test]
    fn every_width_of_number_is_read() {
        let read = head(&[("a", 0, &[7]), ("b", 5, &(-3i32).to_le_bytes()), ("c", 6, &0.5f32.to_le_bytes())]).unwrap();
        assert_eq!(read.integer("a"), Some(7));
        assert_eq!(read.integer("b"), None, "negative");
        assert_eq!(read.float("c"), Some(0.5));
    }

    #[test]
    fn lengths_beyond_the_file_take_no_memory() {
        let huge = 0xffff_ffff_ffffu64.to_le_bytes();
        assert!(matches!(head(&[("a", 8, &huge)]), Err(Error::NotAModel { .. })));
        let mut array = 8u32.to_le_bytes().to_vec();
        array.extend(4_000_000u64.to_le_bytes());
        assert!(matches!(head(&[("a", 9, &array)]), Err(Error::NotAModel { .. })));
    }

    #[test]
    fn an_alignment_of_zero_and_a_second_key_are_refused() {
        assert!(head(&[("general.alignment", 4, &[0; 4])]).is_err());
        assert!(head(&[("a", 0, &[1]), ("a", 0, &[1])]).is_err());
        assert!(head(&[("a", 7, &[2])]).is_err());
    }
}
