//! Batches of events as engines publish them, read into what the gateway follows.
//!
//! A batch is `[ts, events, rank?]`, an event `["BlockStored", hashes, parent, tokens, block_size, lora_id, ...]`; newer engines say
//! both as maps by field, `{"type": "BlockStored", ...}`. Both are read, whatever fields come on top. Hashes are numbers of 64 bits, or
//! bytes. Sources: `vllm/distributed/kv_events.py`, `sglang/srt/disaggregation/kv_events.py`, both as of 2026.

use dh_policy::routing::chain::digest_of;

use super::msgpack::{Malformed, Reader, Value};

/// What happened in an engine's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Blocks of `size` tokens each follow each other behind `parent`.
    Stored {
        hashes: Vec<u64>,
        parent: Option<u64>,
        tokens: Vec<u32>,
        size: usize,
        plain: bool,
    },
    Removed {
        hashes: Vec<u64>,
    },
    Cleared,
}

/// What an event says, by field.
#[derive(Debug, Default)]
struct Said {
    hashes: Vec<u64>,
    parent: Option<u64>,
    tokens: Vec<u32>,
    size: usize,
    /// Whether an adapter, an image or a salt is part of the hashes.
    keyed: bool,
    /// Whether the blocks lie elsewhere than in the accelerator, or belong to a further group of layers.
    aside: bool,
}

/// The fields in the order in which arrays hold them, behind the tag.
const STORED: [&[u8]; 9] = [
    b"block_hashes",
    b"parent_block_hash",
    b"token_ids",
    b"block_size",
    b"lora_id",
    b"medium",
    b"lora_name",
    b"extra_keys",
    b"group_idx",
];
const REMOVED: [&[u8]; 3] = [b"block_hashes", b"medium", b"group_idx"];

/// The events of a batch, in order.
pub(super) fn read(batch: &[u8]) -> Result<Vec<Event>, Malformed> {
    let mut reader = Reader::new(batch);
    let mut events = Vec::new();
    match reader.value()? {
        Value::Array(fields) => {
            for field in 0..fields {
                if field == 1 { read_events(&mut reader, &mut events)? } else { reader.skip()? }
            }
        }
        Value::Map(pairs) => {
            for _ in 0..pairs {
                let Value::Text(key) = reader.value()? else { return Err(Malformed) };
                if key == b"events" { read_events(&mut reader, &mut events)? } else { reader.skip()? }
            }
        }
        Value::Nil | Value::Whole(_) | Value::Text(_) | Value::Bytes(_) | Value::Other => return Err(Malformed),
    }
    if reader.is_empty() { Ok(events) } else { Err(Malformed) }
}

fn read_events(reader: &mut Reader<'_>, events: &mut Vec<Event>) -> Result<(), Malformed> {
    for _ in 0..reader.array()?.unwrap_or(0) {
        events.extend(event(reader)?);
    }
    Ok(())
}

/// One event; nothing for those that do not concern what the gateway follows.
fn event(reader: &mut Reader<'_>) -> Result<Option<Event>, Malformed> {
    let mut said = Said::default();
    let tag = match reader.value()? {
        Value::Array(fields) => {
            let Some(rest) = fields.checked_sub(1) else { return Err(Malformed) };
            let Value::Text(tag) = reader.value()? else { return Err(Malformed) };
            let names: &[&[u8]] = match tag {
                b"BlockStored" => &STORED,
                b"BlockRemoved" => &REMOVED,
                _ => &[],
            };
            for place in 0..rest {
                said.field(names.get(place).copied().unwrap_or_default(), reader)?;
            }
            tag
        }
        Value::Map(pairs) => {
            let mut tag: &[u8] = &[];
            for _ in 0..pairs {
                let Value::Text(key) = reader.value()? else { return Err(Malformed) };
                if key == b"type" {
                    let Value::Text(said) = reader.value()? else { return Err(Malformed) };
                    tag = said;
                } else {
                    said.field(key, reader)?;
                }
            }
            tag
        }
        Value::Nil | Value::Whole(_) | Value::Text(_) | Value::Bytes(_) | Value::Other => return Err(Malformed),
    };
    let Said { hashes, parent, tokens, size, keyed, aside } = said;
    Ok(match tag {
        b"BlockStored" if !aside => Some(Event::Stored { hashes, parent, tokens, size, plain: !keyed }),
        b"BlockRemoved" if !aside => Some(Event::Removed { hashes }),
        b"AllBlocksCleared" => Some(Event::Cleared),
        _ => None,
    })
}

impl Said {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'_>) -> Result<(), Malformed> {
        match name {
            b"block_hashes" => {
                for _ in 0..reader.array()?.unwrap_or(0) {
                    self.hashes.push(hash(reader.value()?)?.ok_or(Malformed)?);
                }
            }
            b"parent_block_hash" => self.parent = hash(reader.value()?)?,
            b"token_ids" => {
                for _ in 0..reader.array()?.unwrap_or(0) {
                    let Value::Whole(token) = reader.value()? else { return Err(Malformed) };
                    self.tokens.push(u32::try_from(token).map_err(|_| Malformed)?);
                }
            }
            b"block_size" => {
                let Value::Whole(size) = reader.value()? else { return Err(Malformed) };
                self.size = usize::try_from(size).map_err(|_| Malformed)?;
            }
            b"lora_id" | b"lora_name" => self.keyed |= reader.value()? != Value::Nil,
            b"extra_keys" => {
                for _ in 0..reader.array()?.unwrap_or(0) {
                    let mut ahead = *reader;
                    self.keyed |= ahead.value()? != Value::Nil;
                    reader.skip()?;
                }
            }
            b"medium" => self.aside |= !matches!(reader.value()?, Value::Nil | Value::Text(b"GPU")),
            b"group_idx" => self.aside |= !matches!(reader.value()?, Value::Nil | Value::Whole(0)),
            _ => reader.skip()?,
        }
        Ok(())
    }
}

fn hash(value: Value<'_>) -> Result<Option<u64>, Malformed> {
    match value {
        Value::Nil => Ok(None),
        Value::Whole(hash) => Ok(Some(hash)),
        Value::Bytes(hash) => Ok(Some(digest_of(0, hash))),
        Value::Text(_) | Value::Array(_) | Value::Map(_) | Value::Other => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `KVEventBatch(1.5, [BlockStored([1, -2], None, [5, 6, 7, 8], 2, None), BlockRemoved([1]), AllBlocksCleared()])` of `SGLang`, as
    /// `msgspec` 0.22 writes it.
    const ARRAYS: &[u8] = b"\x92\xcb\x3f\xf8\0\0\0\0\0\0\x93\x96\xabBlockStored\x92\x01\xfe\xc0\x94\x05\x06\x07\x08\x02\xc0\x92\xacBlockRemoved\x91\x01\x91\xb0AllBlocksCleared";

    #[test]
    fn arrays_are_read_and_no_cut_of_them_is() {
        let stored = Event::Stored {
            hashes: vec![1, 2_u64.wrapping_neg()],
            parent: None,
            tokens: vec![5, 6, 7, 8],
            size: 2,
            plain: true,
        };
        let all = vec![stored, Event::Removed { hashes: vec![1] }, Event::Cleared];
        assert_eq!(read(ARRAYS), Ok(all));
        for end in 0..ARRAYS.len() {
            assert_eq!(read(&ARRAYS[..end]), Err(Malformed), "cut at {end}");
        }
        assert_eq!(read(&[ARRAYS, b"\xc0"].concat()), Err(Malformed));
    }

    #[test]
    fn no_byte_that_differs_makes_it_panic() {
        for at in 0..ARRAYS.len() {
            for byte in 0..=255 {
                let mut bytes = ARRAYS.to_vec();
                bytes[at] = byte;
                let _read = read(&bytes);
            }
        }
    }

    #[test]
    fn what_lies_aside_or_is_not_known_is_passed_over() {
        // [1, [["BlockRemoved", [7], "CPU"], ["BlockRemoved", [7], nil, 1], ["New", {}], ["BlockRemoved", [8], "GPU", 0]], 3]
        let batch = b"\x93\x01\x94\x93\xacBlockRemoved\x91\x07\xa3CPU\x94\xacBlockRemoved\x91\x07\xc0\x01\x92\xa3New\x80\x94\xacBlockRemoved\x91\x08\xa3GPU\x00\x03";
        assert_eq!(read(batch), Ok(vec![Event::Removed { hashes: vec![8] }]));
    }
}
