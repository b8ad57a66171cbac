//! A bucket as a request sees it: its row, and those of its documents that decide about access.
//!
//! Invariant: what is remembered of a bucket is what every change that was acknowledged before the request came has made
//! of it; the store's count of such changes says whether it still is. Cost of a bucket that is known: one lock, no read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dh_policy::access::{Acl, Kind, Policy, PublicAccessBlock};
use serde::de::DeserializeOwned;

use super::fault::Fault;
use super::visitor::HOUSE;
use crate::{BucketInfo, Documents, Store};

/// Buckets that are remembered; beyond it, all are forgotten and read anew.
const KNOWN_MAX: usize = 4_096;

/// Names of the documents.
pub(super) mod document {
    pub(crate) const ACL: &str = "acl";
    pub(crate) const POLICY: &str = "policy";
    pub(crate) const CORS: &str = "cors";
    pub(crate) const LIFECYCLE: &str = "lifecycle";
    pub(crate) const ENCRYPTION: &str = "encryption";
    pub(crate) const TAGGING: &str = "tagging";
    pub(crate) const OWNERSHIP: &str = "ownership";
    pub(crate) const BLOCK: &str = "public-access-block";
    pub(crate) const LOCK: &str = "object-lock";
    pub(crate) const NOTIFICATION: &str = "notification";
    pub(crate) const PAYMENT: &str = "request-payment";
    pub(crate) const WEBSITE: &str = "website";
}

/// Who owns what others write into a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Ownership {
    /// The bucket's owner; access lists do not count.
    Enforced,
    /// The bucket's owner, if the writer says so by `bucket-owner-full-control`.
    Preferred,
    /// Whoever writes.
    #[default]
    Writer,
}

impl Ownership {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "BucketOwnerEnforced" => Some(Self::Enforced),
            "BucketOwnerPreferred" => Some(Self::Preferred),
            "ObjectWriter" => Some(Self::Writer),
            _other => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "BucketOwnerEnforced",
            Self::Preferred => "BucketOwnerPreferred",
            Self::Writer => "ObjectWriter",
        }
    }
}

/// A bucket.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) info: BucketInfo,
    pub(super) documents: Documents,
    pub(super) owner: String,
    pub(super) acl: Acl,
    pub(super) policy: Option<Policy>,
    pub(super) block: PublicAccessBlock,
    pub(super) ownership: Ownership,
}

fn json<T: DeserializeOwned>(documents: &Documents, name: &str) -> Result<Option<T>, Fault> {
    let read = |bytes: &Vec<u8>| {
        serde_json::from_slice(bytes).map_err(|error| {
            tracing::error!(name, %error, "a bucket's document cannot be read");
            Fault::new("InternalError", "a document of the bucket cannot be read")
        })
    };
    documents.get(name).map(read).transpose()
}

impl Bucket {
    async fn load(store: &Store, name: &str) -> Result<Self, Fault> {
        let (info, documents) = store.bucket_with_documents(name).await.map_err(|error| {
            let fault = Fault::from(error);
            if fault.code == "NoSuchBucket" { fault.with("BucketName", name) } else { fault }
        })?;
        let owner = info.owner.clone().unwrap_or_else(|| HOUSE.to_owned());
        let acl = json(&documents, document::ACL)?.unwrap_or_else(|| Acl::private(&owner));
        let policy = documents.get(document::POLICY).map(|text| Policy::parse(text, Kind::Resource)).transpose();
        // A policy that cannot be read might be the one that denies.
        let policy = policy.map_err(|error| {
            tracing::error!(bucket = name, %error, "a stored policy cannot be read");
            Fault::denied()
        })?;
        let block = json(&documents, document::BLOCK)?.unwrap_or_default();
        let ownership = documents.get(document::OWNERSHIP).and_then(|name| std::str::from_utf8(name).ok());
        let ownership = ownership.and_then(Ownership::parse).unwrap_or_default();
        Ok(Self { info, documents, owner, acl, policy, block, ownership })
    }

    /// The document of this name.
    pub(super) fn document(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(name).map(Vec::as_slice)
    }
}

/// Buckets that requests asked for, each with the store's count of bucket changes before it was read.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeMap<String, (u64, Arc<Bucket>)>>);

impl Known {
    /// The bucket as it is.
    pub(super) async fn get(&self, store: &Store, name: &str) -> Result<Arc<Bucket>, Fault> {
        let generation = store.0.committer.bucket_generation();
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((when, bucket)) = known.get(name)
                && *when == generation
            {
                return Ok(Arc::clone(bucket));
            }
        }
        let bucket = Arc::new(Bucket::load(store, name).await?);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(name.to_owned(), (generation, Arc::clone(&bucket)));
        Ok(bucket)
    }
}
