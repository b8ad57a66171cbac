//! A bucket as a request sees it: its row, and those of its documents that decide about access.

use dh_policy::access::{Acl, Kind, Policy, PublicAccessBlock};
use serde::de::DeserializeOwned;

use super::fault::Fault;
use super::visitor::HOUSE;
use crate::{BucketInfo, Documents, Store};

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
    pub(super) async fn load(store: &Store, name: &str) -> Result<Self, Fault> {
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
