//! Envelope encryption: every object has a key of its own, and that key is wrapped by another.
//!
//! A body's blocks are AES-256-GCM under the object's key. The nonce of a block is the id of its extent and its number,
//! 8 and 4 bytes; ids are never used twice, so no nonce is. Wrapped keys are AES-256-GCM under a key of the ring, of the
//! client, or of a key service, with a random nonce in front.
//!
//! Invariant: a key is in no log, no `Debug` text and no row in the clear. Order of a block: compress, encrypt, checksum, so
//! that repair and scrub need no key. Cost: about 5 GB/s and core.

use std::collections::BTreeMap;
use std::sync::Arc;

use dh_core::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::block::Address;
use crate::digest::{base64, unbase64};
use crate::index::place::Place;
use crate::store::off_runtime;
use crate::{Error, Store};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

const NONCE_BYTES: usize = 12;

/// The extent id of bodies that live in their row.
pub(crate) const INLINE: Address = Address { extent: u64::MAX, block: 0 };

fn key(bytes: &[u8]) -> Result<LessSafeKey, Error> {
    let key = UnboundKey::new(&AES_256_GCM, bytes);
    key.map(LessSafeKey::new).map_err(|_length| Error::Meta("an encryption key of the wrong length".to_owned()))
}

fn nonce(address: Address) -> Nonce {
    let mut bytes = [0; NONCE_BYTES];
    let fields = address.extent.to_le_bytes().into_iter().chain(address.block.to_le_bytes());
    for (target, byte) in bytes.iter_mut().zip(fields) {
        *target = byte;
    }
    Nonce::assume_unique_for_key(bytes)
}

/// What encrypts the blocks of one object.
pub struct Cipher {
    key: LessSafeKey,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// From an object's key.
    /// # Errors
    /// If it is no key of 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self { key: key(bytes)? })
    }

    /// Encrypts a block in place and appends its tag.
    pub(crate) fn seal(&self, address: Address, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.key
            .seal_in_place_append_tag(nonce(address), Aad::empty(), &mut bytes)
            .map_err(|_error| Error::Meta("a block cannot be encrypted".to_owned()))?;
        Ok(bytes)
    }

    /// Decrypts a block; `None` if it is not what was sealed at this address under this key.
    pub(crate) fn open(&self, address: Address, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let length = self.key.open_in_place(nonce(address), Aad::empty(), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Meta(format!("no randomness for a key: {error}")))?;
    Ok(bytes)
}

/// A new key for an object.
pub(crate) fn new_object_key() -> Result<Secret<[u8; KEY_BYTES]>, Error> {
    random().map(Secret::new)
}

/// Wraps `inner` by `outer`; `bound` must be the same when it is unwrapped.
pub(crate) fn wrap(outer: &[u8], inner: &[u8], bound: &[u8]) -> Result<Vec<u8>, Error> {
    let number: [u8; NONCE_BYTES] = random()?;
    let mut sealed = inner.to_vec();
    key(outer)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(number), Aad::from(bound), &mut sealed)
        .map_err(|_error| Error::Meta("a key cannot be wrapped".to_owned()))?;
    Ok([number.as_slice(), &sealed].concat())
}

/// The key inside of `wrapped`; `None` if `outer` or `bound` is another.
pub(crate) fn unwrap(outer: &[u8], wrapped: &[u8], bound: &[u8]) -> Option<Secret<Vec<u8>>> {
    let (number, sealed) = wrapped.split_first_chunk::<NONCE_BYTES>()?;
    let mut sealed = sealed.to_vec();
    let key = key(outer).ok()?;
    let nonce = Nonce::assume_unique_for_key(*number);
    let length = key.open_in_place(nonce, Aad::from(bound), &mut sealed).ok()?.len();
    sealed.truncate(length);
    Some(Secret::new(sealed))
}

/// A service that wraps keys by keys it does not give away.
pub trait KeyService: Send + Sync + std::fmt::Debug {
    /// Wraps `key` by the service's key `id`, bound to `context`.
    /// # Errors
    /// [`Error::Invalid`] if there is no such key.
    fn wrap(&self, id: &str, key: &[u8], context: &str) -> Result<Vec<u8>, Error>;
    /// The key inside of `wrapped`.
    /// # Errors
    /// [`Error::Invalid`] if there is no such key, or it was wrapped by another or under another context.
    fn unwrap(&self, id: &str, wrapped: &[u8], context: &str) -> Result<Secret<Vec<u8>>, Error>;
}

#[derive(Serialize, Deserialize)]
struct RingFile {
    version: u32,
    current: String,
    /// Base64 of each key by its id.
    keys: BTreeMap<String, String>,
}

/// The store's own wrapping keys. The newest wraps; older ones still unwrap.
pub(crate) struct KeyRing {
    current: String,
    keys: BTreeMap<String, Secret<Vec<u8>>>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("current", &self.current).field("keys", &self.keys.len()).finish()
    }
}

/// The largest file of keys that is read.
const RING_BYTES_MAX: u64 = 1 << 20;

impl KeyRing {
    /// Reads the ring, or makes one with a first key. Every place that takes writes has it from then on: what was encrypted
    /// is lost without it.
    /// # Errors
    /// What the disk says, or [`Error::Corrupt`] if no file of it is a ring.
    pub(crate) fn open(places: &[Place]) -> Result<Self, Error> {
        let mut lack = Vec::new();
        let mut best: Option<Self> = None;
        let mut trouble = None;
        for place in places.iter().filter(|place| place.usable()) {
            match Self::read(place) {
                Ok(Some(ring)) => {
                    lack.push((place, ring.keys.len()));
                    // Rings only grow.
                    if best.as_ref().is_none_or(|best| best.keys.len() < ring.keys.len()) {
                        best = Some(ring);
                    }
                }
                Ok(None) => lack.push((place, 0)),
                Err(error) => {
                    tracing::error!(%error, "a key ring cannot be read");
                    trouble = Some(error);
                    lack.push((place, 0));
                }
            }
        }
        let ring = match (best, trouble) {
            (Some(ring), _) => ring,
            (None, Some(error)) => return Err(error),
            (None, None) => {
                let mut ring = Self { current: String::new(), keys: BTreeMap::new() };
                ring.add()?;
                ring
            }
        };
        lack.retain(|(_place, keys)| *keys < ring.keys.len());
        ring.write(lack.into_iter().map(|(place, _keys)| place))?;
        Ok(ring)
    }

    fn read(place: &Place) -> Result<Option<Self>, Error> {
        let (disk, dir) = (&place.disk, &place.dir);
        let path = dir.join("keyring.json");
        let io = |error| Error::io(path.display().to_string(), error);
        if !disk.list(dir).map_err(io)?.contains(&path) {
            return Ok(None);
        }
        let file = disk.open(&path).map_err(io)?;
        let length = file.len().map_err(io)?;
        if length > RING_BYTES_MAX {
            return Err(Error::corrupt("too large for a key ring", path.display().to_string()));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_at(0, &mut bytes).map_err(io)?;
        let ring = Self::parse(&bytes);
        ring.map(Some).ok_or_else(|| Error::corrupt("this is no key ring", path.display().to_string()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let file: RingFile = serde_json::from_slice(bytes).ok()?;
        let keys = file.keys.iter().map(|(id, key)| {
            let key = unbase64(key).filter(|key| key.len() == KEY_BYTES)?;
            Some((id.clone(), Secret::new(key)))
        });
        let keys = keys.collect::<Option<BTreeMap<_, _>>>()?;
        keys.contains_key(&file.current).then_some(Self { current: file.current, keys })
    }

    fn add(&mut self) -> Result<(), Error> {
        let key: [u8; KEY_BYTES] = random()?;
        self.current = format!("ring-{:04}", self.keys.len() + 1);
        self.keys.insert(self.current.clone(), Secret::new(key.to_vec()));
        Ok(())
    }

    /// Adds a key that wraps from then on. Objects under older ones stay readable.
    /// # Errors
    /// What the disk says; then the ring is as it was.
    pub(crate) fn rotate(&mut self, places: &[Place]) -> Result<(), Error> {
        let before = self.current.clone();
        self.add()?;
        self.write(places.iter().filter(|place| place.usable())).inspect_err(|_error| {
            self.keys.remove(&std::mem::replace(&mut self.current, before.clone()));
        })
    }

    /// Written under another name, synced, and renamed, so that a crash leaves the old ring or the new.
    fn write<'p>(&self, mut places: impl Iterator<Item = &'p Place>) -> Result<(), Error> {
        places.try_for_each(|place| self.write_to(place))
    }

    fn write_to(&self, place: &Place) -> Result<(), Error> {
        let (disk, dir) = (&place.disk, &place.dir);
        let (path, fresh) = (dir.join("keyring.json"), dir.join("keyring.json.tmp"));
        let io = |error| Error::io(path.display().to_string(), error);
        let keys = self.keys.iter().map(|(id, key)| (id.clone(), base64(key.expose()))).collect();
        let file = RingFile { version: 1, current: self.current.clone(), keys };
        let bytes = serde_json::to_vec(&file)
            .map_err(|error| Error::Meta(format!("the key ring cannot be written: {error}")))?;
        if disk.list(dir).map_err(io)?.contains(&fresh) {
            disk.remove(&fresh).map_err(io)?;
        }
        let target = disk.create(&fresh).map_err(io)?;
        target.write_at(0, &bytes).map_err(io)?;
        target.sync_data().map_err(io)?;
        drop(target);
        disk.rename(&fresh, &path).map_err(io)?;
        disk.sync_dir(dir).map_err(io)
    }

    /// The id of the key that wraps.
    pub(crate) fn current(&self) -> &str {
        &self.current
    }

    /// Wraps an object's key by the newest key of the ring.
    pub(crate) fn wrap(&self, inner: &[u8]) -> Result<Vec<u8>, Error> {
        let outer = self.keys.get(&self.current).ok_or_else(|| Error::Meta("the key ring is empty".to_owned()))?;
        wrap(outer.expose(), inner, self.current.as_bytes())
    }

    /// The key inside of `wrapped`, which the ring's key `id` wrapped.
    pub(crate) fn unwrap(&self, id: &str, wrapped: &[u8]) -> Option<Secret<Vec<u8>>> {
        unwrap(self.keys.get(id)?.expose(), wrapped, id.as_bytes())
    }

    /// Encrypts a row under the newest key of the ring: the key's id with its length in front, then what [`wrap`] gives.
    pub(crate) fn seal(&self, row: &[u8], name: &str) -> Result<Vec<u8>, Error> {
        let outer = self.keys.get(&self.current).ok_or_else(|| Error::Meta("the key ring is empty".to_owned()))?;
        let length = u8::try_from(self.current.len()).map_err(|_long| Error::Meta("the id of a key".to_owned()))?;
        let wrapped = wrap(outer.expose(), row, name.as_bytes())?;
        Ok([&[length], self.current.as_bytes(), &wrapped].concat())
    }

    /// The row that [`KeyRing::seal`] encrypted under this name.
    pub(crate) fn unseal(&self, sealed: &[u8], name: &str) -> Option<Secret<Vec<u8>>> {
        let (length, rest) = sealed.split_first()?;
        let (id, wrapped) = rest.split_at_checked(usize::from(*length))?;
        unwrap(self.keys.get(std::str::from_utf8(id).ok()?)?.expose(), wrapped, name.as_bytes())
    }

    /// A key that follows from the oldest of the ring and a name, for the built-in key service.
    fn derived(&self, name: &str) -> Option<Vec<u8>> {
        let (_id, first) = self.keys.first_key_value()?;
        let tag =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, first.expose()), format!("key service\0{name}").as_bytes());
        Some(tag.as_ref().to_vec())
    }
}

impl Store {
    /// The store's ring.
    pub(crate) async fn key_ring(&self) -> Result<KeyRing, Error> {
        let inner = Arc::clone(&self.0);
        off_runtime(move || KeyRing::open(inner.meta.places())).await
    }

    /// Adds a key to the store's ring; what is written from the next start on is wrapped by it.
    /// # Errors
    /// What the disk says; then the ring is as it was.
    pub async fn rotate_key_ring(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.0);
        off_runtime(move || {
            let places = inner.meta.places();
            KeyRing::open(places)?.rotate(places)
        })
        .await
    }
}

/// The key service of an installation without one: named keys that follow from the ring.
#[derive(Debug)]
pub(crate) struct LocalKeyService {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) names: Vec<String>,
}

impl LocalKeyService {
    fn outer(&self, id: &str) -> Result<Vec<u8>, Error> {
        let known = self.names.iter().any(|name| name == id);
        let key = known.then(|| self.ring.derived(id)).flatten();
        key.ok_or_else(|| Error::Invalid(format!("the key service has no key `{id}`")))
    }
}

impl KeyService for LocalKeyService {
    fn wrap(&self, id: &str, key: &[u8], context: &str) -> Result<Vec<u8>, Error> {
        wrap(&self.outer(id)?, key, context.as_bytes())
    }

    fn unwrap(&self, id: &str, wrapped: &[u8], context: &str) -> Result<Secret<Vec<u8>>, Error> {
        let key = unwrap(&self.outer(id)?, wrapped, context.as_bytes());
        key.ok_or_else(|| Error::Invalid(format!("the key was not wrapped by `{id}` under this context")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn place(dir: &tempfile::TempDir) -> Place {
        Place { disk: Arc::new(RealDisk), dir: dir.path().to_owned(), member: None }
    }

    #[test]
    fn a_block_opens_at_its_address_under_its_key_and_nowhere_else() {
        let cipher = Cipher::new(&[7; KEY_BYTES]).unwrap();
        let here = Address { extent: 5, block: 2 };
        let sealed = cipher.seal(here, b"weights".to_vec()).unwrap();
        assert_eq!(sealed.len(), 7 + 16);
        assert_eq!(cipher.open(here, sealed.clone()).unwrap(), b"weights");
        for other in [Address { extent: 6, block: 2 }, Address { extent: 5, block: 3 }] {
            assert!(cipher.open(other, sealed.clone()).is_none());
        }
        assert!(Cipher::new(&[8; KEY_BYTES]).unwrap().open(here, sealed.clone()).is_none());
        for byte in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[byte] ^= 1;
            assert!(cipher.open(here, flipped).is_none());
        }
    }

    #[test]
    fn a_rotated_ring_still_opens_what_older_keys_wrapped() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let places = [place(&dirs[0]), place(&dirs[1])];
        let mut ring = KeyRing::open(&places[..1]).unwrap();
        let (first, wrapped) = (ring.current().to_owned(), ring.wrap(&[1; KEY_BYTES]).unwrap());
        ring.rotate(&places[..1]).unwrap();
        assert_ne!(ring.current(), first);
        // The other place gets it, and is enough.
        KeyRing::open(&places).unwrap();
        std::fs::write(dirs[0].path().join("keyring.json"), "torn").unwrap();
        let again = KeyRing::open(&places).unwrap();
        assert_eq!(again.current(), ring.current());
        assert_eq!(again.unwrap(&first, &wrapped).unwrap().expose().as_slice(), [1; KEY_BYTES]);
        assert!(again.unwrap(again.current(), &wrapped).is_none());
        assert!(!format!("{again:?}").contains("keys: {"));
        assert!(KeyRing::open(&places[..1]).is_ok(), "mended from the other");
        let sealed = again.seal(b"a row", "user/1").unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"a row"));
        assert_eq!(again.unseal(&sealed, "user/1").unwrap().expose().as_slice(), b"a row");
        assert!(again.unseal(&sealed, "user/2").is_none());
    }

    #[test]
    fn the_key_service_binds_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Arc::new(KeyRing::open(&[place(&dir)]).unwrap());
        let service = LocalKeyService { ring, names: vec!["one".to_owned(), "two".to_owned()] };
        let wrapped = service.wrap("one", &[3; KEY_BYTES], "a").unwrap();
        assert_eq!(service.unwrap("one", &wrapped, "a").unwrap().expose().as_slice(), [3; KEY_BYTES]);
        assert!(service.unwrap("one", &wrapped, "b").is_err());
        assert!(service.unwrap("two", &wrapped, "a").is_err());
        assert!(service.wrap("three", &[3; KEY_BYTES], "a").is_err());
    }
}
