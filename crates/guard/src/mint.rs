//! Fresh keys from the operating system's generator.
//!
//! Ids are `DH` and 18 characters of base32 (90 bits), as S3 clients expect them; secrets are a prefix that people and
//! secret scanners recognise and 43 characters of base64url (258 bits). Each character takes its own random byte, masked:
//! both alphabets are powers of two, so no character is likelier than another.

use dh_core::{AccessKey, Role, Secret};
use sha2::{Digest as _, Sha256};

use crate::Error;

const ID_PREFIX: &str = "DH";
const ID_CHARS: usize = 18;
const SECRET_CHARS: usize = 43;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a secret of `role` starts with.
pub(crate) const fn secret_prefix(role: Role) -> &'static str {
    match role {
        Role::Admin => "dh-admin-",
        Role::Job => "dh-job-",
        Role::Model => "dh-model-",
    }
}

/// A key pair nobody has seen.
pub(crate) fn fresh_key(role: Role) -> Result<AccessKey, Error> {
    let mut id_bytes = [0; ID_CHARS];
    getrandom::fill(&mut id_bytes).map_err(Error::Random)?;
    let mut id = String::with_capacity(ID_PREFIX.len() + ID_CHARS);
    id.push_str(ID_PREFIX);
    id.extend(id_bytes.iter().map(|byte| char::from(BASE32[usize::from(byte & 31)])));

    let secret_bytes = random_bytes()?;
    let prefix = secret_prefix(role);
    // The full capacity at once, so that no copy of the secret is left behind by a growing string.
    let mut secret = String::with_capacity(prefix.len() + SECRET_CHARS);
    secret.push_str(prefix);
    secret.extend(secret_bytes.expose().iter().map(|byte| char::from(BASE64URL[usize::from(byte & 63)])));
    Ok(AccessKey { id, secret: Secret::new(secret) })
}

/// The key pair that follows from `root` and `name`; who knows one such key learns nothing of `root` or of another.
pub(crate) fn derived_key(root: &str, role: Role, name: &str) -> AccessKey {
    let half = |what: &str| hmac(root.as_bytes(), format!("datahall key of {name}, {what}").as_bytes());
    let mut id = String::with_capacity(ID_PREFIX.len() + ID_CHARS);
    id.push_str(ID_PREFIX);
    id.extend(half("id").iter().take(ID_CHARS).map(|byte| char::from(BASE32[usize::from(byte & 31)])));
    let bytes = half("first half of the secret").into_iter().chain(half("second half of the secret"));
    let prefix = secret_prefix(role);
    let mut secret = String::with_capacity(prefix.len() + SECRET_CHARS);
    secret.push_str(prefix);
    secret.extend(bytes.take(SECRET_CHARS).map(|byte| char::from(BASE64URL[usize::from(byte & 63)])));
    AccessKey { id, secret: Secret::new(secret) }
}

/// The key by which values are sealed that follows from `root`.
pub(crate) fn sealing_key(root: &str) -> Secret<[u8; 32]> {
    Secret::new(hmac(root.as_bytes(), b"datahall key of sealed values"))
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block.iter_mut().zip(Sha256::digest(key)).for_each(|(to, from)| *to = from);
    } else {
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

fn random_bytes() -> Result<Secret<[u8; SECRET_CHARS]>, Error> {
    let mut bytes = [0; SECRET_CHARS];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(Secret::new(bytes))
}

/// Whether `id` has the form of an id made here.
pub(crate) fn is_id(id: &str) -> bool {
    id.strip_prefix(ID_PREFIX)
        .is_some_and(|rest| rest.len() == ID_CHARS && rest.bytes().all(|byte| BASE32.contains(&byte)))
}

/// Whether `secret` has the form of a secret of `role` made here.
pub(crate) fn is_secret(secret: &str, role: Role) -> bool {
    secret
        .strip_prefix(secret_prefix(role))
        .is_some_and(|rest| rest.len() == SECRET_CHARS && rest.bytes().all(|byte| BASE64URL.contains(&byte)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_have_their_form_and_never_repeat() {
        let mut seen = HashSet::new();
        for role in [Role::Admin, Role::Job, Role::Model].into_iter().cycle().take(300) {
            let key = fresh_key(role).unwrap();
            assert!(is_id(&key.id), "{}", key.id);
            assert_eq!(key.id.len(), 20);
            assert!(is_secret(key.secret.expose(), role));
            assert!(seen.insert(key.id) && seen.insert(key.secret.expose().clone()));
        }
    }

    #[test]
    fn every_character_of_the_alphabets_is_used() {
        let mut used = HashSet::new();
        for _ in 0..200 {
            used.extend(fresh_key(Role::Job).unwrap().secret.expose().bytes().skip("dh-job-".len()));
        }
        assert_eq!(used.len(), 64);
    }

    #[test]
    fn a_derived_key_follows_from_root_and_name_alone() {
        let key = |root: &str, name: &str| derived_key(root, Role::Job, name);
        let one = key("root", "job/7.1");
        assert!(is_id(&one.id) && is_secret(one.secret.expose(), Role::Job));
        let again = key("root", "job/7.1");
        assert_eq!((one.id.as_str(), one.secret.expose()), (again.id.as_str(), again.secret.expose()));
        for other in [key("root", "job/7.2"), key("another", "job/7.1")] {
            assert!(other.id != one.id && other.secret.expose() != one.secret.expose());
        }
        // RFC 4231, test case 2.
        let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(hmac(b"Jefe", b"what do ya want for nothing?")), known);
    }

    #[test]
    fn other_texts_are_not_keys() {
        assert!(!is_id("DH") && !is_id("dhABCDEFGHIJKLMNOPQR") && !is_id("DHABCDEFGHIJKLMNOPQ1"));
        assert!(!is_secret("dh-admin-short", Role::Admin));
        let secret = fresh_key(Role::Model).unwrap().secret;
        assert!(!is_secret(secret.expose(), Role::Admin));
    }
}
