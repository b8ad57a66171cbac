//! The state of a run in the store, so that a killed run goes on to the same weights.
//!
//! A checkpoint is a safetensors object `PREFIX/step-00001234.safetensors` (tensors `parameters`, `adam.first`, `adam.second`,
//! flat f32; metadata `format`, `state` as JSON, `digest` as SHA-256 over both) and, written after it, the pointer
//! `PREFIX/latest.json`, which names it with its SHA-256. So a torn write is never picked up. Reading tries the pointer's
//! object, then every other one, newest first, and takes the first whose digest is right. The newest two are kept.

use dh_core::{HasKind, Kind};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::adam::Moments;
use crate::dataset::Origin;
use crate::dataset::manifest::join;
use crate::number;
use crate::store::{self, ObjectStore};
use crate::tensor_file::{self, Flat};
use crate::train::EpochResult;

const FORMAT: &str = "datahall-checkpoint-1";

/// How many checkpoints remain in the store.
pub const KEPT: usize = 2;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The object is not a whole checkpoint.
    #[error("{place} is not a whole checkpoint: {why}")]
    Damaged {
        /// Bucket and key.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The state cannot be put into an object.
    #[error("cannot write a checkpoint: {0}")]
    Encode(String),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Damaged { .. } => Kind::Corrupt,
            Self::Encode(_) => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Damaged { .. } | Self::Encode(_) => None,
        }
    }
}

/// Everything but the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Layer sizes.
    pub layers: Vec<usize>,
    /// Steps done since the start of the run.
    pub step: u64,
    /// The epoch of the next step.
    pub epoch: u64,
    /// Steps done in that epoch.
    pub step_in_epoch: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Samples per step over all ranks.
    pub global_batch: usize,
    /// Ranks of the attempt that wrote this.
    pub ranks: u32,
    /// Name of the dataset.
    pub dataset: String,
    /// Where its samples come from.
    pub origin: Origin,
    /// Sum of the losses of the steps done in the epoch.
    pub epoch_loss_sum: f64,
    /// Epochs that are done.
    pub epochs: Vec<EpochResult>,
}

/// A whole state.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Everything but the numbers.
    pub state: State,
    /// The flat parameters.
    pub parameters: Vec<f32>,
    /// Adam's averages.
    pub moments: Moments,
}

/// The pointer to the newest checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// Its key.
    pub key: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Steps done.
    pub step: u64,
}

const TENSORS: [&str; 3] = ["parameters", "adam.first", "adam.second"];

impl Checkpoint {
    /// The object's bytes.
    ///
    /// # Errors
    /// [`Error::Encode`] if the library refuses.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let state = serde_json::to_string(&self.state).map_err(|error| Error::Encode(error.to_string()))?;
        let vectors = [&self.parameters, &self.moments.first, &self.moments.second];
        let digest = digest(&state, vectors.map(|values| bytemuck::cast_slice(values)));
        let metadata = [("format", FORMAT.to_owned()), ("state", state), ("digest", digest)];
        let tensors = TENSORS
            .into_iter()
            .zip(vectors)
            .map(|(name, values)| (name.to_owned(), Flat { shape: vec![values.len()], values }))
            .collect();
        tensor_file::encode(tensors, metadata).map_err(Error::Encode)
    }

    /// Reads an object's bytes and checks all of them.
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let metadata = header.metadata().as_ref().ok_or("it has no metadata")?;
        let entry = |name: &str| metadata.get(name).ok_or_else(|| format!("its metadata has no `{name}`"));
        if entry("format")? != FORMAT {
            return Err(format!("its format is `{}`, this program reads `{FORMAT}`", entry("format")?));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let raw = |name: &str| -> Result<&[u8], String> {
            let tensor = tensors.tensor(name).map_err(|error| error.to_string())?;
            if tensor.dtype() == Dtype::F32 { Ok(tensor.data()) } else { Err(format!("`{name}` is not f32")) }
        };
        let [parameters, first, second] = TENSORS;
        let vectors = [raw(parameters)?, raw(first)?, raw(second)?];
        if digest(entry("state")?, vectors) != *entry("digest")? {
            return Err("its digest is wrong".to_owned());
        }
        let state: State = serde_json::from_str(entry("state")?).map_err(|error| error.to_string())?;
        // The bytes need not lie at a multiple of four, so they are copied number by number.
        let [parameters, first, second] = vectors
            .map(|raw| raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>());
        if first.len() != parameters.len() || second.len() != parameters.len() {
            return Err("its vectors have different lengths".to_owned());
        }
        Ok(Self { state, parameters, moments: Moments { first, second } })
    }
}

fn digest(state: &str, vectors: [&[u8]; 3]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(state.as_bytes());
    for vector in vectors {
        hasher.update(number::wide(vector.len()).to_le_bytes());
        hasher.update(vector);
    }
    hex::encode(hasher.finalize())
}

/// Where one run keeps its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The prefix.
    pub prefix: String,
}

/// A checkpoint that was found, and those that were skipped because they are damaged.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest whole one, as bytes.
    pub bytes: Option<Vec<u8>>,
    /// What was wrong with newer ones.
    pub skipped: Vec<String>,
}

impl Place {
    fn latest_key(&self) -> String {
        join(&self.prefix, "latest.json")
    }

    /// The key of the checkpoint after `step` steps.
    pub fn step_key(&self, step: u64) -> String {
        join(&self.prefix, &format!("step-{step:08}.safetensors"))
    }

    /// Writes `checkpoint`, then the pointer, then removes what is older than the one before. Returns the bytes written.
    ///
    /// # Errors
    /// If the store fails; what was there before is then still whole.
    pub fn save(&self, store: &dyn ObjectStore, checkpoint: &Checkpoint) -> Result<u64, Error> {
        let bytes = checkpoint.encode()?;
        let key = self.step_key(checkpoint.state.step);
        store.put(&self.bucket, &key, &bytes)?;
        let size = number::wide(bytes.len());
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let latest = Latest { key, sha256, bytes: size, step: checkpoint.state.step };
        let pointer = serde_json::to_vec(&latest).map_err(|error| Error::Encode(error.to_string()))?;
        store.put(&self.bucket, &self.latest_key(), &pointer)?;
        for stale in self.steps(store)?.into_iter().filter(|(step, _)| *step < latest.step).skip(KEPT - 1) {
            store.delete(&self.bucket, &stale.1)?;
        }
        Ok(size)
    }

    /// Finds the newest whole checkpoint.
    ///
    /// # Errors
    /// If the store fails. Damaged objects are no error: an older one is taken, or none.
    pub fn load(&self, store: &dyn ObjectStore) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut candidates = self.steps(store)?;
        match self.read_latest(store)? {
            Some(Ok(latest)) => match self.read(store, &latest.key, Some(&latest))? {
                Ok(bytes) => {
                    found.bytes = Some(bytes);
                    return Ok(found);
                }
                Err(why) => {
                    found.skipped.push(why);
                    candidates.retain(|(_, key)| *key != latest.key);
                }
            },
            Some(Err(why)) => found.skipped.push(why),
            None => {}
        }
        for (_, key) in candidates {
            match self.read(store, &key, None)? {
                Ok(bytes) => {
                    found.bytes = Some(bytes);
                    break;
                }
                Err(why) => found.skipped.push(why),
            }
        }
        Ok(found)
    }

    /// The checkpoints in the store, newest first.
    fn steps(&self, store: &dyn ObjectStore) -> Result<Vec<(u64, String)>, Error> {
        let start = join(&self.prefix, "step-");
        let listed = match store.list(&self.bucket, &start) {
            Err(store::Error::NotFound(_)) => Vec::new(),
            other => other?,
        };
        let mut steps: Vec<(u64, String)> = listed
            .into_iter()
            .filter_map(|entry| {
                let step = entry.key.strip_prefix(&start)?.strip_suffix(".safetensors")?.parse().ok()?;
                Some((step, entry.key))
            })
            .collect();
        steps.sort_unstable_by(|left, right| right.cmp(left));
        Ok(steps)
    }

    fn read_latest(&self, store: &dyn ObjectStore) -> Result<Option<Result<Latest, String>>, Error> {
        let key = self.latest_key();
        match store.get(&self.bucket, &key) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).map_err(|error| format!("{}/{key}: {error}", self.bucket))))
            }
            Err(store::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of a whole checkpoint, or what is wrong with it.
    fn read(
        &self,
        store: &dyn ObjectStore,
        key: &str,
        expected: Option<&Latest>,
    ) -> Result<Result<Vec<u8>, String>, Error> {
        let place = format!("{}/{key}", self.bucket);
        let bytes = match store.get(&self.bucket, key) {
            Ok(bytes) => bytes,
            Err(store::Error::NotFound(_)) => return Ok(Err(format!("{place} is gone"))),
            Err(error) => return Err(error.into()),
        };
        if expected.is_some_and(|latest| hex::encode(Sha256::digest(&bytes)) != latest.sha256) {
            return Ok(Err(format!("{place} is not what latest.json names (SHA-256)")));
        }
        Ok(match Checkpoint::decode(&bytes) {
            Ok(_) => Ok(bytes),
            Err(why) => Err(format!("{place}: {why}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn checkpoint(step: u64) -> Checkpoint {
        let state = State {
            layers: vec![3, 2],
            step,
            epoch: 1,
            step_in_epoch: 3,
            seed: 7,
            global_batch: 64,
            ranks: 2,
            dataset: "s".to_owned(),
            origin: Origin::Generated,
            epoch_loss_sum: 1.25,
            epochs: Vec::new(),
        };
        let parameters = vec![1.5, -2.0, f32::from_bits(0x1234_5678), 0.1, 0.2, 0.3, 0.4, 0.5];
        Checkpoint { state, parameters, moments: Moments { first: vec![0.5; 8], second: vec![0.25; 8] } }
    }

    fn place() -> Place {
        Place { bucket: "b".to_owned(), prefix: "run/1".to_owned() }
    }

    fn loaded(store: &MemoryStore) -> Option<Checkpoint> {
        place().load(store).unwrap().bytes.map(|bytes| Checkpoint::decode(&bytes).unwrap())
    }

    #[test]
    fn the_newest_is_read_back_and_two_are_kept() {
        let store = MemoryStore::new();
        assert_eq!(loaded(&store), None);
        for step in [10, 20, 30, 40] {
            place().save(&store, &checkpoint(step)).unwrap();
            assert_eq!(loaded(&store).unwrap(), checkpoint(step));
        }
        let keys: Vec<String> = store.list("b", "run/1/").unwrap().into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, ["run/1/latest.json", "run/1/step-00000030.safetensors", "run/1/step-00000040.safetensors"]);
    }

    #[test]
    fn a_torn_newest_falls_back_to_the_one_before() {
        let whole = checkpoint(20).encode().unwrap();
        for length in [0, 5, 100, whole.len() - 1] {
            let store = MemoryStore::new();
            place().save(&store, &checkpoint(10)).unwrap();
            place().save(&store, &checkpoint(20)).unwrap();
            store.put("b", &place().step_key(20), &whole[..length]).unwrap();
            let found = place().load(&store).unwrap();
            assert_eq!(Checkpoint::decode(&found.bytes.unwrap()).unwrap(), checkpoint(10));
            assert_eq!(found.skipped.len(), 1);
        }
    }

    #[test]
    fn a_lost_or_torn_pointer_costs_nothing() {
        let store = MemoryStore::new();
        place().save(&store, &checkpoint(10)).unwrap();
        place().save(&store, &checkpoint(20)).unwrap();
        store.put("b", "run/1/latest.json", b"{\"key\":\"run").unwrap();
        assert_eq!(loaded(&store).unwrap(), checkpoint(20));
        store.delete("b", "run/1/latest.json").unwrap();
        assert_eq!(loaded(&store).unwrap(), checkpoint(20));
        // An object that was written and not yet pointed to is newer and whole, yet the pointer decides.
        place().save(&store, &checkpoint(20)).unwrap();
        store.put("b", &place().step_key(30), &checkpoint(30).encode().unwrap()).unwrap();
        assert_eq!(loaded(&store).unwrap(), checkpoint(20));
    }

    #[test]
    fn every_truncation_and_flip_is_found() {
        let bytes = checkpoint(10).encode().unwrap();
        for length in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..length]).is_err(), "{length}");
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 4;
            // A flip may hit white space of the header's padding; whatever is accepted must be the same state.
            if let Ok(read) = Checkpoint::decode(&damaged) {
                assert_eq!(read, checkpoint(10), "{place}");
            }
        }
    }
}
