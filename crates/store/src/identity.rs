//! Users, groups, access keys and their policies: the account book of the store.
//!
//! Rows of the identities' table are the truth; a copy in memory answers every request. One process writes, so the copy
//! is never behind. A user is known by an id; the root user of an account has the account's id.
//!
//! Invariant: a row is durable before it counts. Signatures need secrets, so users and sessions are rows that are encrypted
//! under the store's key ring; secrets have no `Debug` text.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use dh_core::Secret;
use serde::{Deserialize, Serialize};

use crate::crypto::KeyRing;
use crate::identities::{Expect, Identities};
use crate::store::now_ms;
use crate::{Error, Store};

/// An access key. Its secret has no `Debug` text.
#[derive(Clone, Serialize, Deserialize)]
pub struct UserKey {
    /// The public half.
    pub id: String,
    /// The private half.
    secret: String,
    /// Whether it opens anything.
    pub active: bool,
    /// When it was made, in milliseconds of the Unix epoch.
    pub created_ms: u64,
}

impl std::fmt::Debug for UserKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserKey").field("id", &self.id).field("active", &self.active).finish_non_exhaustive()
    }
}

impl UserKey {
    /// A key with these halves.
    pub fn new(id: impl Into<String>, secret: &Secret<String>) -> Self {
        Self { id: id.into(), secret: secret.expose().clone(), active: true, created_ms: now_ms() }
    }

    /// A new key; `prefix` says what kind it is, as in `AKIA`.
    /// # Errors
    /// If the system has no randomness.
    pub fn generate(prefix: &str) -> Result<Self, Error> {
        let id = format!("{prefix}{}", random_text(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")?);
        let secret = random_text(40, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")?;
        Ok(Self::new(id, &Secret::new(secret)))
    }

    /// The private half.
    pub fn secret(&self) -> Secret<String> {
        Secret::new(self.secret.clone())
    }
}

/// Random letters of an alphabet of at most 64, whose size divides 256.
pub(crate) fn random_text(length: usize, alphabet: &[u8]) -> Result<String, Error> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|error| Error::Meta(format!("no randomness: {error}")))?;
    let letter =
        |byte: &u8| alphabet.get(usize::from(*byte) % alphabet.len().max(1)).map_or('A', |letter| char::from(*letter));
    Ok(bytes.iter().map(letter).collect())
}

/// Whether a user is an account or somebody in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UserRank {
    /// The account itself.
    Root,
    /// Somebody in it, who may do what policies allow.
    #[default]
    Member,
}

/// A user.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UserRow {
    /// The id; of an account's root user, the account's.
    pub id: String,
    /// The account.
    pub account: String,
    /// The name inside of the account.
    pub name: String,
    /// The name that is shown.
    pub display_name: String,
    /// The address by which grants may name the account.
    pub email: Option<String>,
    /// The path of the user's ARN, with slashes at both ends.
    pub path: String,
    /// What the user is to the account.
    pub rank: UserRank,
    /// When the user was made, in milliseconds of the Unix epoch.
    pub created_ms: u64,
    /// Access keys.
    pub keys: Vec<UserKey>,
    /// Policies of the user's own by name.
    pub policies: BTreeMap<String, String>,
    /// ARNs of policies that are attached.
    pub attached: Vec<String>,
    /// Other ARNs that name the user in policies.
    pub aliases: Vec<String>,
}

impl UserRow {
    /// The ARN by which policies know the user.
    pub fn arn(&self) -> String {
        match self.rank {
            UserRank::Root => format!("arn:aws:iam::{}:root", self.account),
            UserRank::Member => format!("arn:aws:iam::{}:user{}{}", self.account, self.slashed_path(), self.name),
        }
    }

    fn slashed_path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }
}

/// An account to be made, as files and command lines name it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// The account's id; a new one if there is none.
    #[serde(default)]
    pub id: Option<String>,
    /// The name of its root user.
    pub name: String,
    /// The name that is shown; the name itself if there is none.
    #[serde(default)]
    pub display_name: Option<String>,
    /// The address by which grants may name it.
    #[serde(default)]
    pub email: Option<String>,
    /// Other ARNs that name it in policies.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The public half of its key; a new one if there is none.
    #[serde(default)]
    pub access_key: Option<String>,
    /// The private half.
    #[serde(default)]
    pub secret_key: Option<String>,
}

/// A group of users of one account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRow {
    /// The account.
    pub account: String,
    /// The name inside of the account.
    pub name: String,
    /// The path of the group's ARN.
    pub path: String,
    /// When it was made, in milliseconds of the Unix epoch.
    pub created_ms: u64,
    /// Names of its users.
    pub members: Vec<String>,
    /// Policies of its own by name.
    pub policies: BTreeMap<String, String>,
    /// ARNs of policies that are attached.
    pub attached: Vec<String>,
}

/// A policy that can be attached to many.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyRow {
    /// Its ARN.
    pub arn: String,
    /// Its account.
    pub account: String,
    /// Its name.
    pub name: String,
    /// The document.
    pub text: String,
    /// When it was made, in milliseconds of the Unix epoch.
    pub created_ms: u64,
}

/// Temporary credentials.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRow {
    /// The key.
    pub key: UserKey,
    /// What must come with every request.
    pub token: String,
    /// The user behind it.
    pub user: String,
    /// Policies that limit it.
    pub policies: Vec<String>,
    /// The end, in milliseconds of the Unix epoch.
    pub expires_ms: u64,
}

#[derive(Debug, Default)]
struct Book {
    users: BTreeMap<String, Arc<UserRow>>,
    keys: BTreeMap<String, String>,
    groups: BTreeMap<(String, String), Arc<GroupRow>>,
    policies: BTreeMap<String, Arc<PolicyRow>>,
    sessions: BTreeMap<String, Arc<SessionRow>>,
}

/// The account book.
#[derive(Debug, Clone)]
pub struct Accounts {
    table: Identities,
    ring: Arc<KeyRing>,
    book: Arc<RwLock<Book>>,
}

/// Rows of one page of the table.
const PAGE: usize = 1_000;

/// All rows of the table.
async fn all(table: &Identities) -> Result<Vec<(String, crate::Identity)>, Error> {
    let mut rows: Vec<(String, crate::Identity)> = Vec::new();
    loop {
        let last = rows.last().map(|(name, _identity)| name.clone());
        let page = table.list("", last.as_deref(), PAGE).await?;
        let full = page.len() == PAGE;
        rows.extend(page);
        if !full {
            return Ok(rows);
        }
    }
}

/// One kind of row.
fn read<T: for<'de> Deserialize<'de>>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(format!("identity {name}: {error}"), "the index"))
}

fn written(row: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(row).map_err(|error| Error::Meta(format!("an identity cannot be written: {error}")))
}

/// A row that is encrypted under the ring.
fn unsealed<T: for<'de> Deserialize<'de>>(ring: &KeyRing, name: &str, bytes: &[u8]) -> Result<T, Error> {
    let row = ring.unseal(bytes, name);
    let row = row.ok_or_else(|| Error::corrupt(format!("identity {name} does not decrypt"), "the index"))?;
    read(name, row.expose())
}

impl Accounts {
    /// Writes a row encrypted under the ring.
    async fn put_sealed(&self, name: &str, row: &impl Serialize) -> Result<(), Error> {
        let sealed = self.ring.seal(&written(row)?, name)?;
        self.table.put(name, sealed, Expect::Anything).await.map(drop)
    }

    /// Reads the book.
    /// # Errors
    /// If a row cannot be read.
    pub async fn open(store: &Store) -> Result<Self, Error> {
        let table = store.identities();
        let ring = Arc::new(store.key_ring().await?);
        let mut book = Book::default();
        for (name, identity) in all(&table).await? {
            let bytes = &identity.bytes;
            match name.split_once('/').map(|(kind, _rest)| kind) {
                Some("user") => {
                    let user: UserRow = unsealed(&ring, &name, bytes)?;
                    book.keys.extend(user.keys.iter().map(|key| (key.id.clone(), user.id.clone())));
                    book.users.insert(user.id.clone(), Arc::new(user));
                }
                Some("group") => {
                    let group: GroupRow = read(&name, bytes)?;
                    book.groups.insert((group.account.clone(), group.name.clone()), Arc::new(group));
                }
                Some("policy") => {
                    let policy: PolicyRow = read(&name, bytes)?;
                    book.policies.insert(policy.arn.clone(), Arc::new(policy));
                }
                Some("session") => {
                    let session: SessionRow = unsealed(&ring, &name, bytes)?;
                    book.sessions.insert(session.key.id.clone(), Arc::new(session));
                }
                Some(_) | None => tracing::warn!(name, "an identity of an unknown kind is left alone"),
            }
        }
        Ok(Self { table, ring, book: Arc::new(RwLock::new(book)) })
    }

    fn look<R>(&self, look: impl FnOnce(&Book) -> R) -> R {
        look(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.book.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The user and the key of this id, if both are there and the key is active.
    pub fn by_key(&self, id: &str) -> Option<(Arc<UserRow>, UserKey)> {
        self.look(|book| {
            let user = book.users.get(book.keys.get(id)?)?;
            let key = user.keys.iter().find(|key| key.id == id && key.active)?;
            Some((Arc::clone(user), key.clone()))
        })
    }

    /// The session of this key, whether it has ended or not.
    pub fn session(&self, key: &str) -> Option<Arc<SessionRow>> {
        self.look(|book| book.sessions.get(key).cloned())
    }

    /// The user of this id.
    pub fn user(&self, id: &str) -> Option<Arc<UserRow>> {
        self.look(|book| book.users.get(id).cloned())
    }

    /// The user of this name in an account.
    pub fn user_named(&self, account: &str, name: &str) -> Option<Arc<UserRow>> {
        self.look(|book| book.users.values().find(|user| user.account == account && user.name == name).cloned())
    }

    /// All users of an account, by id.
    pub fn users(&self, account: &str) -> Vec<Arc<UserRow>> {
        self.look(|book| book.users.values().filter(|user| user.account == account).cloned().collect())
    }

    /// The account that this address names.
    pub fn by_email(&self, email: &str) -> Option<Arc<UserRow>> {
        self.look(|book| {
            let mut users = book.users.values();
            users.find(|user| user.email.as_deref().is_some_and(|have| have.eq_ignore_ascii_case(email))).cloned()
        })
    }

    /// The groups of an account.
    pub fn groups(&self, account: &str) -> Vec<Arc<GroupRow>> {
        self.look(|book| book.groups.values().filter(|group| group.account == account).cloned().collect())
    }

    /// The policy of this ARN.
    pub fn policy(&self, arn: &str) -> Option<Arc<PolicyRow>> {
        self.look(|book| book.policies.get(arn).cloned())
    }

    /// The policies of an account.
    pub fn policies(&self, account: &str) -> Vec<Arc<PolicyRow>> {
        self.look(|book| book.policies.values().filter(|policy| policy.account == account).cloned().collect())
    }

    /// The texts of all policies that hold for a user: own, attached, and those of groups.
    pub fn policy_texts(&self, user: &UserRow) -> Vec<String> {
        self.look(|book| {
            let mut texts: Vec<String> = user.policies.values().cloned().collect();
            let mut attached: Vec<&String> = user.attached.iter().collect();
            for group in book.groups.values() {
                if group.account == user.account && group.members.contains(&user.name) {
                    texts.extend(group.policies.values().cloned());
                    attached.extend(&group.attached);
                }
            }
            texts.extend(
                attached.into_iter().filter_map(|arn| book.policies.get(arn)).map(|policy| policy.text.clone()),
            );
            texts
        })
    }

    /// Writes a user.
    /// # Errors
    /// [`Error::Invalid`] if one of the keys is another's, or a failed commit; then nothing has changed.
    pub async fn put_user(&self, user: UserRow) -> Result<(), Error> {
        let taken =
            self.look(|book| user.keys.iter().any(|key| book.keys.get(&key.id).is_some_and(|owner| *owner != user.id)));
        if taken {
            return Err(Error::Invalid("an access key of this id belongs to another user".to_owned()));
        }
        self.put_sealed(&format!("user/{}", user.id), &user).await?;
        self.change(|book| {
            book.keys.retain(|_key, owner| *owner != user.id);
            book.keys.extend(user.keys.iter().map(|key| (key.id.clone(), user.id.clone())));
            book.users.insert(user.id.clone(), Arc::new(user));
        });
        Ok(())
    }

    /// Makes an account with one root user and one key, or gives an account of this id another key; returns the key.
    /// # Errors
    /// [`Error::Invalid`] if one half of a key is given without the other or the key is another's; a failed commit.
    pub async fn add_account(&self, new: NewAccount) -> Result<UserKey, Error> {
        let key = match (new.access_key, new.secret_key) {
            (Some(id), Some(secret)) => UserKey::new(id, &Secret::new(secret)),
            (None, None) => UserKey::generate("AKIA")?,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Error::Invalid("a key has a public and a private half".to_owned()));
            }
        };
        let id = match new.id {
            Some(id) => id,
            None => random_text(24, b"abcdefghijklmnopqrstuvwxyz012345")?,
        };
        let known = self.user(&id).map(Arc::unwrap_or_clone);
        let mut user = known.unwrap_or_else(|| UserRow {
            account: id.clone(),
            id,
            path: "/".to_owned(),
            rank: UserRank::Root,
            created_ms: now_ms(),
            ..UserRow::default()
        });
        user.display_name = new.display_name.unwrap_or_else(|| new.name.clone());
        user.name = new.name;
        user.email = new.email;
        user.aliases = new.aliases;
        user.keys.retain(|have| have.id != key.id);
        user.keys.push(key.clone());
        self.put_user(user).await?;
        Ok(key)
    }

    /// All root users: the accounts.
    pub fn accounts(&self) -> Vec<Arc<UserRow>> {
        self.look(|book| book.users.values().filter(|user| user.rank == UserRank::Root).cloned().collect())
    }

    /// Removes a user.
    /// # Errors
    /// A failed commit.
    pub async fn delete_user(&self, id: &str) -> Result<(), Error> {
        self.table.delete(&format!("user/{id}"), Expect::Anything).await?;
        self.change(|book| {
            book.users.remove(id);
            book.keys.retain(|_key, owner| owner != id);
        });
        Ok(())
    }

    /// Writes a group.
    /// # Errors
    /// A failed commit.
    pub async fn put_group(&self, group: GroupRow) -> Result<(), Error> {
        let name = format!("group/{}/{}", group.account, group.name);
        self.table.put(&name, written(&group)?, Expect::Anything).await?;
        self.change(|book| {
            book.groups.insert((group.account.clone(), group.name.clone()), Arc::new(group));
        });
        Ok(())
    }

    /// Removes a group.
    /// # Errors
    /// A failed commit.
    pub async fn delete_group(&self, account: &str, name: &str) -> Result<(), Error> {
        self.table.delete(&format!("group/{account}/{name}"), Expect::Anything).await?;
        self.change(|book| {
            book.groups.remove(&(account.to_owned(), name.to_owned()));
        });
        Ok(())
    }

    /// Writes a policy.
    /// # Errors
    /// A failed commit.
    pub async fn put_policy(&self, policy: PolicyRow) -> Result<(), Error> {
        self.table.put(&format!("policy/{}", policy.arn), written(&policy)?, Expect::Anything).await?;
        self.change(|book| {
            book.policies.insert(policy.arn.clone(), Arc::new(policy));
        });
        Ok(())
    }

    /// Removes a policy.
    /// # Errors
    /// A failed commit.
    pub async fn delete_policy(&self, arn: &str) -> Result<(), Error> {
        self.table.delete(&format!("policy/{arn}"), Expect::Anything).await?;
        self.change(|book| {
            book.policies.remove(arn);
        });
        Ok(())
    }

    /// Writes a session, and forgets those that have ended.
    /// # Errors
    /// A failed commit.
    pub async fn put_session(&self, session: SessionRow) -> Result<(), Error> {
        let now = now_ms();
        let ended: Vec<String> = self.look(|book| {
            let ended = book.sessions.values().filter(|session| session.expires_ms < now);
            ended.map(|session| session.key.id.clone()).collect()
        });
        for key in ended {
            self.table.delete(&format!("session/{key}"), Expect::Anything).await?;
            self.change(|book| {
                book.sessions.remove(&key);
            });
        }
        self.put_sealed(&format!("session/{}", session.key.id), &session).await?;
        self.change(|book| {
            book.sessions.insert(session.key.id.clone(), Arc::new(session));
        });
        Ok(())
    }
}
