//! The description of a set in the store, and how a set gets there.
//!
//! `PREFIX/manifest.json` is written last: a set whose upload was cut has none, and nobody trains on half of it.

use dh_core::{HasKind, Kind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Dataset, Origin, Samples, shard};
use crate::number;
use crate::store::{self, ObjectStore};

const FORMAT: &str = "datahall-dataset-1";

/// Shards of one split; a listing of more would be a mistake.
const SHARDS_MAX: usize = 1 << 20;

/// Why a set cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The manifest is not one.
    #[error("{place} is not a usable dataset manifest: {why}")]
    Manifest {
        /// Bucket and key.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A shard is damaged or does not belong to the manifest.
    #[error("{place}: {why}")]
    Shard {
        /// Bucket and key.
        place: String,
        /// What is wrong.
        why: String,
    },
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Manifest { .. } => Kind::Invalid,
            Self::Shard { .. } => Kind::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(store::Error::NotFound(_)) => Some("was the dataset uploaded to this prefix?".to_owned()),
            Self::Store(error) => error.hint(),
            Self::Manifest { .. } | Self::Shard { .. } => Some("upload the dataset again".to_owned()),
        }
    }
}

/// One shard as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Its key, whole.
    pub key: String,
    /// Samples in it.
    pub samples: u32,
    /// Bytes of the object.
    pub bytes: u64,
    /// SHA-256 of the object, in hex.
    pub sha256: String,
}

/// The shards of one half of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Samples in all shards.
    pub samples: u64,
    /// The shards.
    pub shards: Vec<ShardEntry>,
}

/// A whole set in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Names this format and its version.
    pub format: String,
    /// Name of the set.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Height and width of an image.
    pub shape: [u32; 2],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// What is trained on.
    pub train: Split,
    /// What accuracy is measured on.
    pub test: Split,
}

impl Manifest {
    /// The key of the manifest of the set under `prefix`.
    pub fn key(prefix: &str) -> String {
        join(prefix, "manifest.json")
    }

    /// Reads and checks the manifest under `prefix`.
    ///
    /// # Errors
    /// If there is none, or it contradicts itself.
    pub fn load(store: &dyn ObjectStore, bucket: &str, prefix: &str) -> Result<Self, Error> {
        let key = Self::key(prefix);
        let bytes = store.get(bucket, &key)?;
        let wrong = |why: String| Error::Manifest { place: format!("{bucket}/{key}"), why };
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(wrong(format!("its format is `{}`, this program reads `{FORMAT}`", manifest.format)));
        }
        for (name, split) in [("train", &manifest.train), ("test", &manifest.test)] {
            let total: u64 = split.shards.iter().map(|shard| u64::from(shard.samples)).sum();
            if split.shards.is_empty() || split.shards.len() > SHARDS_MAX || total != split.samples {
                let shards = split.shards.len();
                return Err(wrong(format!("{name}: {shards} shards with {total} of {} samples", split.samples)));
            }
        }
        Ok(manifest)
    }

    /// Fetches shard `entry` and checks it against this manifest.
    ///
    /// # Errors
    /// If the store fails, or the bytes are not what was uploaded.
    pub fn fetch(&self, store: &dyn ObjectStore, bucket: &str, entry: &ShardEntry) -> Result<Samples, Error> {
        let bytes = store.get(bucket, &entry.key)?;
        let wrong = |why: String| Error::Shard { place: format!("{bucket}/{}", entry.key), why };
        // The shard's own CRC finds damage; the digest would cost five times as much and find nothing more by accident.
        let samples = shard::decode(&bytes).map_err(|error| wrong(error.to_string()))?;
        if number::small(samples.len()) != entry.samples || samples.shape != self.shape {
            let (count, shape) = (samples.len(), samples.shape);
            return Err(wrong(format!("it holds {count} images of {shape:?}; the manifest says otherwise")));
        }
        if samples.labels.iter().any(|label| usize::from(*label) >= self.classes.len()) {
            return Err(wrong(format!("a label is beyond the {} classes", self.classes.len())));
        }
        Ok(samples)
    }
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadProgress {
    /// Shards written.
    pub shards_done: usize,
    /// Shards in all.
    pub shards: usize,
    /// Bytes written.
    pub bytes_done: u64,
}

/// Writes `dataset` under `prefix`, `shard_samples` samples per object, and its manifest last.
///
/// # Errors
/// If the store fails, or there is nothing to write.
pub fn upload(
    store: &dyn ObjectStore,
    bucket: &str,
    prefix: &str,
    dataset: &Dataset,
    shard_samples: usize,
    progress: &mut dyn FnMut(UploadProgress),
) -> Result<Manifest, Error> {
    let size = shard_samples.max(1);
    let total = dataset.train.len().div_ceil(size) + dataset.test.len().div_ceil(size);
    let mut state = UploadProgress { shards_done: 0, shards: total, bytes_done: 0 };
    let classes = number::small(dataset.classes.len());
    let mut write_split = |name: &str, samples: &Samples| -> Result<Split, Error> {
        let mut shards = Vec::new();
        for start in (0..samples.len()).step_by(size) {
            let end = (start + size).min(samples.len());
            let key = join(prefix, &format!("{name}-{:05}.shard", start / size));
            let bytes = shard::encode(samples, start..end, classes)
                .map_err(|error| Error::Shard { place: format!("{bucket}/{key}"), why: error.to_string() })?;
            store.put(bucket, &key, &bytes)?;
            state.shards_done += 1;
            state.bytes_done += number::wide(bytes.len());
            progress(state);
            shards.push(ShardEntry {
                key,
                samples: number::small(end - start),
                bytes: number::wide(bytes.len()),
                sha256: hex::encode(Sha256::digest(&bytes)),
            });
        }
        Ok(Split { samples: number::wide(samples.len()), shards })
    };
    let train = write_split("train", &dataset.train)?;
    let test = write_split("test", &dataset.test)?;
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        name: dataset.name.clone(),
        origin: dataset.origin,
        shape: dataset.train.shape,
        classes: dataset.classes.clone(),
        train,
        test,
    };
    let key = Manifest::key(prefix);
    let json = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| Error::Manifest { place: format!("{bucket}/{key}"), why: error.to_string() })?;
    store.put(bucket, &key, &json)?;
    Ok(manifest)
}

/// `prefix/name`, also where the prefix is empty or ends in a slash.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    match prefix.trim_end_matches('/') {
        "" => name.to_owned(),
        prefix => format!("{prefix}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::synthetic;
    use crate::store::MemoryStore;

    #[test]
    fn an_uploaded_set_reads_back_whole() {
        let store = MemoryStore::new();
        let set = synthetic::generate("s", 250, 70, 1);
        let mut last = None;
        let written = upload(&store, "b", "sets/s/", &set, 100, &mut |state| last = Some(state)).unwrap();
        assert_eq!(last.unwrap().shards_done, 4);
        assert_eq!(last.unwrap().shards, 4);
        let manifest = Manifest::load(&store, "b", "sets/s").unwrap();
        assert_eq!(manifest, written);
        let mut pixels = Vec::new();
        for entry in &manifest.train.shards {
            assert_eq!(hex::encode(Sha256::digest(store.get("b", &entry.key).unwrap())), entry.sha256);
            pixels.extend(manifest.fetch(&store, "b", entry).unwrap().pixels);
        }
        assert_eq!(pixels, set.train.pixels);
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let store = MemoryStore::new();
        let set = synthetic::generate("s", 20, 10, 1);
        let mut manifest = upload(&store, "b", "", &set, 10, &mut |_| ()).unwrap();
        assert_eq!(Manifest::load(&store, "b", "none").unwrap_err().kind(), Kind::NotFound);
        manifest.train.samples += 1;
        store.put("b", "manifest.json", &serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert_eq!(Manifest::load(&store, "b", "").unwrap_err().kind(), Kind::Invalid);
        // A shard of the other split under this key is found out by its count.
        let other = store.get("b", &manifest.test.shards[0].key).unwrap();
        store.put("b", &manifest.train.shards[0].key, &other[..other.len() - 1]).unwrap();
        assert_eq!(manifest.fetch(&store, "b", &manifest.train.shards[0]).unwrap_err().kind(), Kind::Corrupt);
    }
}
