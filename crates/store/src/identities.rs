//! The identities' table: names to bytes with compare and set, for the front's users, groups, keys, policies, sessions.
//!
//! The store does not look into the bytes. Names are paths such as `user/ada` or `key/AKIA..`, so that a kind is listed by
//! its prefix.

use std::sync::Arc;

use crate::index::codec::decode;
use crate::index::keys::past;
use crate::index::meta::{Meta, Next, TableId};
use crate::mutation::Mutation;
use crate::store::{Inner, off_runtime};
use crate::{Error, Store};

/// The longest name.
const NAME_BYTES_MAX: usize = 1_024;

/// What must hold for an entry to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Nothing.
    #[default]
    Anything,
    /// There is none.
    Absent,
    /// It has this revision.
    Revision(u64),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Changes with every write, and never to a value that it had.
    pub revision: u64,
    /// What the front stored.
    pub bytes: Vec<u8>,
}

/// A handle of the table.
#[derive(Clone)]
pub struct Identities(Arc<Inner>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").finish_non_exhaustive()
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::Invalid(format!("an identity's name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

impl Identities {
    /// The entry.
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn get(&self, name: &str) -> Result<Option<Identity>, Error> {
        let (meta, name) = (Arc::clone(&self.0.meta), name.to_owned());
        off_runtime(move || {
            let value = Meta::get(&meta.read()?, TableId::Identities, name.as_bytes())?;
            value.map(|value| read(name.as_bytes(), &value)).transpose()
        })
        .await
    }

    /// Sets the entry; returns its revision.
    /// # Errors
    /// [`Error::Precondition`] if `expect` does not hold.
    pub async fn put(&self, name: &str, bytes: Vec<u8>, expect: Expect) -> Result<u64, Error> {
        check_name(name)?;
        let mutation = Mutation::PutIdentity { name: name.to_owned(), bytes: Some(bytes), expect };
        let effects = self.0.commit(mutation, None).await?;
        Ok(effects.identity.map_or(0, |identity| identity.revision))
    }

    /// Removes the entry. It is no error if there is none and none is expected.
    /// # Errors
    /// [`Error::Precondition`] if `expect` does not hold.
    pub async fn delete(&self, name: &str, expect: Expect) -> Result<(), Error> {
        check_name(name)?;
        let mutation = Mutation::PutIdentity { name: name.to_owned(), bytes: None, expect };
        self.0.commit(mutation, None).await.map(|_effects| ())
    }

    /// The entries whose names start with `prefix` and sort after `after`, at most `limit`.
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Identity)>, Error> {
        let meta = Arc::clone(&self.0.meta);
        let to = if prefix.is_empty() { vec![0xff] } else { past(prefix.as_bytes().to_vec()) };
        let resume = after.map(|after| [after.as_bytes(), &[0]].concat());
        let from = resume.into_iter().chain([prefix.as_bytes().to_vec()]).max().unwrap_or_default();
        off_runtime(move || {
            let mut found = Vec::new();
            Meta::scan(&meta.read()?, TableId::Identities, from, &to, |name, value| {
                if found.len() >= limit {
                    return Ok(Next::Stop);
                }
                found.push((String::from_utf8_lossy(name).into_owned(), read(name, value)?));
                Ok(Next::Row)
            })?;
            Ok(found)
        })
        .await
    }
}

fn read(name: &[u8], value: &[u8]) -> Result<Identity, Error> {
    let (revision, bytes) = decode::<u64>(name, value)?;
    Ok(Identity { revision, bytes: bytes.to_vec() })
}

impl Store {
    /// The identities' table.
    pub fn identities(&self) -> Identities {
        Identities(Arc::clone(&self.0))
    }
}
