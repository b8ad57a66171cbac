//! Values that are kept sealed by a key that follows from the hall's own: whoever reads the place where they lie, and not the key
//! file, reads nothing.
//!
//! Layout of a sealed value: 12 bytes of a random nonce, the value under AES-256-GCM, its tag of 16 bytes; the value's name is bound
//! to it, so that no value stands in for another. Every server of a hall has the same key file, and so reads what another sealed.

use dh_core::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::Error;

const NONCE_BYTES: usize = 12;

/// Seals and opens values.
#[derive(Clone)]
pub struct Sealer {
    key: LessSafeKey,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    pub(crate) fn new(key: &Secret<[u8; 32]>) -> Result<Self, Error> {
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_length| Error::Sealing)?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// `value` under the name `name`, as it may lie anywhere.
    /// # Errors
    /// [`Error::Random`], or [`Error::Sealing`] if it is too large for the cipher.
    pub fn seal(&self, name: &str, value: &Secret<String>) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(Error::Random)?;
        // The full capacity at once, so that no copy of the value is left behind by a growing vector.
        let mut sealed = Vec::with_capacity(value.expose().len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(value.expose().as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_unspecified| Error::Sealing)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// What was sealed under `name`; `None` if it was sealed under another name or key, or was changed.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Option<Secret<String>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut bytes).ok()?.len();
        bytes.truncate(length);
        String::from_utf8(bytes).ok().map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_under_its_name_and_key_alone_and_twice_is_not_the_same() {
        let sealer = |byte| Sealer::new(&Secret::new([byte; 32])).unwrap();
        let value = Secret::new("open sesame".to_owned());
        let sealed = sealer(1).seal("token", &value).unwrap();
        assert_eq!(sealer(1).open("token", &sealed).unwrap().expose(), "open sesame");
        assert!(sealer(1).open("other", &sealed).is_none() && sealer(2).open("token", &sealed).is_none());
        assert!(!sealed.windows(4).any(|four| four == b"open"));
        assert_ne!(sealer(1).seal("token", &value).unwrap(), sealed);
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(sealer(1).open("token", &changed).is_none() && sealer(1).open("token", b"short").is_none());
        assert_eq!(format!("{:?}", sealer(1)), "Sealer(..)");
    }
}
