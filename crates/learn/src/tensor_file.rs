//! safetensors objects whose bytes depend on their content only.
//!
//! The library keeps metadata in a hash map, so its header comes in a random order. Here the header is written again in
//! the order of the names: the same model gives the same object, which can be compared and deduplicated by its digest.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use safetensors::{Dtype, View};

/// An f32 tensor on its way into an object.
pub(crate) struct Flat<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: &'a [f32],
}

impl View for Flat<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(self.values))
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

/// The object with these tensors and this metadata, or why it cannot be made.
pub(crate) fn encode(
    tensors: Vec<(String, Flat<'_>)>,
    metadata: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<Vec<u8>, String> {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|error| error.to_string())?;
    order_header(&mut bytes)?;
    Ok(bytes)
}

/// Puts the names of the header in order. Only the order changes, so the length stays.
fn order_header(bytes: &mut [u8]) -> Result<(), String> {
    let unexpected = || "the library wrote an unexpected header".to_owned();
    let (length, rest) = bytes.split_first_chunk_mut::<8>().ok_or_else(unexpected)?;
    let header = rest.get_mut(..crate::number::index(u64::from_le_bytes(*length))).ok_or_else(unexpected)?;
    let entries: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(header).map_err(|error| error.to_string())?;
    let ordered = serde_json::to_vec(&entries).map_err(|error| error.to_string())?;
    let (text, padding) = header.split_at_mut_checked(ordered.len()).ok_or_else(unexpected)?;
    text.copy_from_slice(&ordered);
    padding.fill(b' ');
    Ok(())
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let make = || {
            let tensors = ["z", "a"].map(|name| (name.to_owned(), Flat { shape: vec![2], values: &[1.0, 2.0] }));
            encode(tensors.into(), ["one", "two", "three", "four"].map(|name| (name, format!("{name}\"")))).unwrap()
        };
        let first = make();
        for _ in 0..20 {
            assert_eq!(make(), first);
        }
        let read = SafeTensors::deserialize(&first).unwrap();
        assert_eq!(read.tensor("z").unwrap().data()[..4], 1.0_f32.to_le_bytes());
        let (_, header) = SafeTensors::read_metadata(&first).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["three"], "three\"");
    }
}
