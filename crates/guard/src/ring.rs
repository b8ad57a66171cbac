//! The key ring: who holds which key.
//!
//! Invariant: a token is looked up by a salted digest of all its bytes, never by comparing prefixes, so the time of a lookup
//! tells nothing about a near miss; the found secret is then compared whole, in constant time. Cost of a check: one SHA-256
//! of some 60 bytes and one hash-table probe under a read lock. Changes of kept keys are synced to the file before they count.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dh_core::{AccessKey, Authenticate, Grant, Principal, Role, Secret};
use sha2::{Digest as _, Sha256};

use crate::key_file::{self, STORED_KEYS_MAX, StoredKey, Version};
use crate::seal::Sealer;
use crate::{Error, mint};

/// Keys of running jobs, in memory. As many as jobs may be open, and room for those that end.
const EPHEMERAL_KEYS_MAX: usize = 2 * dh_core::limits::JOBS_OPEN_MAX;
const NAME_BYTES_MAX: usize = 128;
/// The administrator's key that a hall makes at its first start.
const FIRST_ADMIN: &str = "admin";
/// Ours have 52; longer ones are not even hashed.
const TOKEN_BYTES_MAX: usize = 256;

/// What may be shown of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The public id.
    pub id: String,
    /// Who holds it and what they may do.
    pub principal: Principal,
    /// Whether it survives a restart.
    pub stored: bool,
    /// What it may use of models; all if nothing is said.
    pub grant: Option<Arc<Grant>>,
}

/// All keys of a hall. A clone is another handle to the same ring.
#[derive(Clone)]
pub struct KeyRing {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    salt: [u8; 32],
    state: RwLock<State>,
}

struct State {
    version: Version,
    by_id: HashMap<String, Entry>,
    by_digest: HashMap<[u8; 32], String>,
    /// By holder: all keys of one name share its bounds.
    grants: HashMap<String, Arc<Grant>>,
    stored: usize,
}

#[derive(Clone)]
struct Entry {
    secret: Secret<String>,
    principal: Principal,
    stored: bool,
    grant: Option<Arc<Grant>>,
    /// What bounds its use of the store.
    limit: Option<Arc<str>>,
}

/// Where a key is kept.
enum Kept {
    File(Option<Arc<Grant>>),
    Memory,
}

impl KeyRing {
    /// An empty ring in a new file at `path`, mode 0600.
    /// # Errors
    /// [`Error::Exists`] if something is there already; [`Error::Io`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let version = key_file::create(path)?;
        Self::with_keys(path, Vec::new(), version)
    }

    /// The ring kept at `path`.
    /// # Errors
    /// [`Error::Missing`], [`Error::Exposed`] and [`Error::ForeignOwner`] if others could read it, [`Error::Damaged`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let (keys, version) = key_file::load(path)?;
        Self::with_keys(path, keys, version)
    }

    /// The ring kept at `path`, or an empty one if nothing is there.
    /// # Errors
    /// Those of [`KeyRing::load`], except that a missing file is made.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        match Self::load(path) {
            Err(Error::Missing(_)) => match Self::create(path) {
                // Another process was faster; its file is as good.
                Err(Error::Exists(_)) => Self::load(path),
                created => created,
            },
            loaded => loaded,
        }
    }

    /// A new key for `name`, kept in the file before it is returned.
    /// # Errors
    /// [`Error::BadName`], [`Error::TooMany`], [`Error::Changed`] if another process wrote the file, [`Error::Io`].
    pub fn issue(&self, role: Role, name: &str) -> Result<AccessKey, Error> {
        self.issue_with(role, name, None)
    }

    /// A new key for `name` with bounds on what it may use of models. They hold for all keys of that name.
    /// # Errors
    /// Those of [`KeyRing::issue`].
    pub fn issue_with(&self, role: Role, name: &str, grant: Option<Grant>) -> Result<AccessKey, Error> {
        check_name(name)?;
        let grant = grant.map(Arc::new);
        let key = mint::fresh_key(role)?;
        let mut state = self.write();
        if state.stored >= STORED_KEYS_MAX {
            return Err(Error::TooMany(state.stored));
        }
        let mut keys = state.stored_keys();
        keys.push(StoredKey {
            id: key.id.clone(),
            secret: key.secret.clone(),
            role,
            name: name.to_owned(),
            grant: grant.clone(),
        });
        state.version = key_file::save(&self.shared.path, &keys, state.version)?;
        self.insert(&mut state, &key, Principal { name: name.to_owned(), role }, Kept::File(grant));
        Ok(key)
    }

    /// A new key for `name` that lives only in memory, until it is revoked or the process ends.
    /// # Errors
    /// [`Error::BadName`], [`Error::TooMany`], [`Error::Random`].
    pub fn issue_ephemeral(&self, name: &str, role: Role) -> Result<AccessKey, Error> {
        check_name(name)?;
        let key = mint::fresh_key(role)?;
        let mut state = self.write();
        let ephemeral = state.by_id.len() - state.stored;
        if ephemeral >= EPHEMERAL_KEYS_MAX {
            return Err(Error::TooMany(ephemeral));
        }
        self.insert(&mut state, &key, Principal { name: name.to_owned(), role }, Kept::Memory);
        Ok(key)
    }

    /// The key of `name` that lives in memory, as [`KeyRing::issue_ephemeral`], and may use the store only as `policy` says. It
    /// follows from the ring's first administrator's key and `name`: whoever leads after a crash gives out the same one, so that
    /// what runs on need not be told another.
    /// # Errors
    /// [`Error::BadName`], [`Error::TooMany`], [`Error::Random`].
    pub fn issue_limited(&self, name: &str, role: Role, policy: &str) -> Result<AccessKey, Error> {
        check_name(name)?;
        let mut state = self.write();
        let key = match state.root() {
            Some(root) => mint::derived_key(root.expose(), role, name),
            None => mint::fresh_key(role)?,
        };
        let ephemeral = state.by_id.len() - state.stored;
        if ephemeral >= EPHEMERAL_KEYS_MAX {
            return Err(Error::TooMany(ephemeral));
        }
        self.insert(&mut state, &key, Principal { name: name.to_owned(), role }, Kept::Memory);
        if let Some(entry) = state.by_id.get_mut(&key.id) {
            entry.limit = Some(Arc::from(policy));
        }
        Ok(key)
    }

    /// What seals values for this hall. It follows from the ring's first administrator's key, so that every server that has the
    /// same file opens what another sealed.
    /// # Errors
    /// [`Error::UnknownKey`] if there is no administrator's key.
    pub fn sealer(&self) -> Result<Sealer, Error> {
        let root = self.read().root().ok_or_else(|| Error::UnknownKey(FIRST_ADMIN.to_owned()))?;
        Sealer::new(&mint::sealing_key(root.expose()))
    }

    /// Ends a key, kept or ephemeral: when this returns, no check accepts it.
    /// # Errors
    /// [`Error::UnknownKey`]; for kept keys also [`Error::Changed`] and [`Error::Io`], and then the key still counts.
    pub fn revoke(&self, id: &str) -> Result<(), Error> {
        let mut state = self.write();
        let stored = state.by_id.get(id).ok_or_else(|| Error::UnknownKey(id.to_owned()))?.stored;
        if stored {
            let mut keys = state.stored_keys();
            keys.retain(|key| key.id != id);
            state.version = key_file::save(&self.shared.path, &keys, state.version)?;
            state.stored -= 1;
        }
        if let Some(entry) = state.by_id.remove(id) {
            state.by_digest.remove(&self.digest(entry.secret.expose()));
            let name = &entry.principal.name;
            if !state.by_id.values().any(|other| other.principal.name == *name && other.grant.is_some()) {
                state.grants.remove(name);
            }
        }
        Ok(())
    }

    /// What may be shown of all keys, in the order of their ids.
    pub fn keys(&self) -> Vec<KeyInfo> {
        let state = self.read();
        let mut infos: Vec<KeyInfo> = state
            .by_id
            .iter()
            .map(|(id, entry)| KeyInfo {
                id: id.clone(),
                principal: entry.principal.clone(),
                stored: entry.stored,
                grant: entry.grant.clone(),
            })
            .collect();
        infos.sort_by(|a, b| a.id.cmp(&b.id));
        infos
    }

    /// The kept key of `name` with this role, secret included; the one with the lowest id if there are several.
    pub fn find(&self, name: &str, role: Role) -> Option<AccessKey> {
        self.read()
            .by_id
            .iter()
            .filter(|(_, entry)| entry.stored && entry.principal.name == name && entry.principal.role == role)
            .min_by(|(a, _), (b, _)| a.cmp(b))
            .map(|(id, entry)| AccessKey { id: id.clone(), secret: entry.secret.clone() })
    }

    fn with_keys(path: &Path, keys: Vec<StoredKey>, version: Version) -> Result<Self, Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(Error::Random)?;
        let state =
            State { version, by_id: HashMap::new(), by_digest: HashMap::new(), grants: HashMap::new(), stored: 0 };
        let ring = Self { shared: Arc::new(Shared { path: path.to_owned(), salt, state: RwLock::new(state) }) };
        let mut state = ring.write();
        for StoredKey { id, secret, role, name, grant } in keys {
            ring.insert(&mut state, &AccessKey { id, secret }, Principal { name, role }, Kept::File(grant));
        }
        drop(state);
        Ok(ring)
    }

    fn insert(&self, state: &mut State, key: &AccessKey, principal: Principal, kept: Kept) {
        let (stored, grant) = match kept {
            Kept::File(grant) => (true, grant),
            Kept::Memory => (false, None),
        };
        state.stored += usize::from(stored);
        if let Some(grant) = &grant {
            state.grants.insert(principal.name.clone(), Arc::clone(grant));
        }
        state.by_digest.insert(self.digest(key.secret.expose()), key.id.clone());
        state.by_id.insert(key.id.clone(), Entry { secret: key.secret.clone(), principal, stored, grant, limit: None });
    }

    fn digest(&self, token: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.shared.salt);
        hasher.update(token.as_bytes());
        hasher.finalize().into()
    }

    // Each change leaves the tables whole before it can panic, so a poisoned lock still guards sound tables.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The administrator's key that every hall has from its start; others come and go.
    fn root(&self) -> Option<Secret<String>> {
        let admins = self.by_id.iter().filter(|(_, entry)| entry.stored && entry.principal.role == Role::Admin);
        let order = |(id, entry): &(&String, &Entry)| (entry.principal.name != FIRST_ADMIN, (*id).clone());
        admins.min_by_key(order).map(|(_, entry)| entry.secret.clone())
    }

    /// The kept keys in the order of their ids, so that the same keys make the same file.
    fn stored_keys(&self) -> Vec<StoredKey> {
        let mut keys: Vec<StoredKey> = self
            .by_id
            .iter()
            .filter(|(_, entry)| entry.stored)
            .map(|(id, entry)| StoredKey {
                id: id.clone(),
                secret: entry.secret.clone(),
                role: entry.principal.role,
                name: entry.principal.name.clone(),
                grant: entry.grant.clone(),
            })
            .collect();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        keys
    }
}

impl Authenticate for KeyRing {
    fn bearer(&self, token: &str) -> Option<Principal> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let digest = self.digest(token);
        let state = self.read();
        let entry = state.by_id.get(state.by_digest.get(&digest)?)?;
        entry.secret.matches(token).then(|| entry.principal.clone())
    }

    fn grant(&self, name: &str) -> Option<Arc<Grant>> {
        self.read().grants.get(name).cloned()
    }

    fn limits(&self, access_key_id: &str) -> Vec<Arc<str>> {
        self.read().by_id.get(access_key_id).and_then(|entry| entry.limit.clone()).into_iter().collect()
    }

    fn knows(&self, name: &str) -> bool {
        self.read().by_id.values().any(|key| key.principal.name == name && key.principal.may_call_models())
    }

    fn signing_key(&self, access_key_id: &str) -> Option<(Secret<String>, Principal)> {
        let state = self.read();
        let entry = state.by_id.get(access_key_id)?;
        Some((entry.secret.clone(), entry.principal.clone()))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("path", &self.shared.path)
            .field("keys", &self.read().by_id.len())
            .finish_non_exhaustive()
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Error::BadName(name.chars().take(NAME_BYTES_MAX).flat_map(char::escape_debug).collect()));
    }
    Ok(())
}
