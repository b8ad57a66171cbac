//! Who may do what. One trait that every listener asks; the engines never see how keys are kept.

use serde::{Deserialize, Serialize};

use crate::{Grant, Secret};

/// What a key may do. Each role includes nothing of the others, except that `Admin` includes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything: jobs, services, store, models.
    Admin,
    /// A running job: the store only.
    Job,
    /// An application: models only.
    Model,
}

/// A caller whose key was verified. Only [`Authenticate`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name under which the caller appears in logs and in the event log.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
}

impl Principal {
    /// Whether the caller may submit, cancel and read jobs and services.
    pub const fn may_operate(&self) -> bool {
        matches!(self.role, Role::Admin)
    }

    /// Whether the caller may read and write the store.
    pub const fn may_use_store(&self) -> bool {
        matches!(self.role, Role::Admin | Role::Job)
    }

    /// Whether the caller may call models.
    pub const fn may_call_models(&self) -> bool {
        matches!(self.role, Role::Admin | Role::Model)
    }
}

/// A key pair as S3 clients use it; `secret` alone is the bearer token of the HTTP APIs.
#[derive(Debug, Clone)]
pub struct AccessKey {
    /// The public half: names the key in requests and logs.
    pub id: String,
    /// The private half.
    pub secret: Secret<String>,
}

/// The one check that every listener calls.
pub trait Authenticate: Send + Sync {
    /// The caller that presents `token` as a bearer token; `None` if nobody knows it.
    fn bearer(&self, token: &str) -> Option<Principal>;
    /// What the caller of this name may use of models; `None` if nothing bounds it.
    fn grant(&self, _name: &str) -> Option<std::sync::Arc<Grant>> {
        None
    }
    /// What bounds the use of the store by the key of this id: policies as S3 writes them, all of which must allow a request. None
    /// for a key that may do what its owner may.
    fn limits(&self, _access_key_id: &str) -> Vec<std::sync::Arc<str>> {
        Vec::new()
    }
    /// Whether anybody who may call models goes by this name, for work that outlives the request that asked for it.
    fn knows(&self, _name: &str) -> bool {
        true
    }
    /// The private half of the key named `access_key_id` and its owner, to verify a signature with.
    fn signing_key(&self, access_key_id: &str) -> Option<(Secret<String>, Principal)>;
}
