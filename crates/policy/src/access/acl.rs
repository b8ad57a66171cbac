//! Access control lists: who was granted what on one bucket or object, the way before policies.
//!
//! Source: Amazon S3 User Guide, "Access control list (ACL) overview".

use serde::{Deserialize, Serialize};

use super::Caller;

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permission {
    /// Everything of the others.
    FullControl,
    /// Listing a bucket, reading an object.
    Read,
    /// Writing and deleting objects of a bucket.
    Write,
    /// Reading the list itself.
    ReadAcp,
    /// Changing the list itself.
    WriteAcp,
}

/// Who is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grantee {
    /// The account with this id.
    Account(String),
    /// Everybody, known or not.
    AllUsers,
    /// Everybody with a key.
    AuthenticatedUsers,
    /// The service that writes access logs.
    LogDelivery,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// Whether grants to groups count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicGrants {
    /// They do.
    Count,
    /// They are there and ignored: `IgnorePublicAcls`.
    Ignored,
}

/// A list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Acl {
    /// The lines.
    pub grants: Vec<Grant>,
}

impl Acl {
    /// The list that every bucket and object has at first: all to its owner.
    pub fn private(owner: &str) -> Self {
        Self {
            grants: vec![Grant { grantee: Grantee::Account(owner.to_owned()), permission: Permission::FullControl }],
        }
    }

    /// Whether `caller` was granted `permission`.
    pub fn allows(&self, caller: &Caller, permission: Permission, public: PublicGrants) -> bool {
        self.grants.iter().any(|grant| {
            let given = grant.permission == permission || grant.permission == Permission::FullControl;
            let meant = match (&grant.grantee, caller) {
                (Grantee::Account(id), Caller::User(user)) => *id == user.canonical,
                (Grantee::AllUsers, _) | (Grantee::AuthenticatedUsers, Caller::User(_)) => {
                    public == PublicGrants::Count
                }
                (Grantee::Account(_) | Grantee::AuthenticatedUsers, Caller::Anonymous | Caller::Service(_))
                | (Grantee::LogDelivery, _) => false,
            };
            given && meant
        })
    }

    /// Whether anybody but named accounts is granted anything.
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(|grant| matches!(grant.grantee, Grantee::AllUsers | Grantee::AuthenticatedUsers))
    }
}
