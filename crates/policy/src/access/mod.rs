//! Who may do what in the store: AWS policy documents, access control lists, and how they are put together.
//!
//! Invariant: without something that allows there is no access, and nothing that allows outweighs one explicit denial.
//! Pure: the time and the address of a caller are values of the request's [`Context`].
//! Source: AWS IAM User Guide, "Policy evaluation logic"; Amazon S3 User Guide, "Access control", "Block public access".

mod acl;
mod condition;
mod document;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use dh_core::HasKind;

pub use acl::{Acl, Grant, Grantee, Permission, PublicGrants};
pub use document::{Kind, POLICY_BYTES_MAX, Policy, Reach};

/// Why a document is no policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError(String);

impl PolicyError {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PolicyError {}

impl HasKind for PolicyError {
    fn kind(&self) -> dh_core::Kind {
        dh_core::Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

/// A caller with a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// The name by which policies know the caller, `arn:aws:iam::ACCOUNT:user/NAME`.
    pub arn: String,
    /// Other names that mean the caller, such as that of the role of a session.
    pub aliases: Vec<String>,
    /// The account that the caller belongs to.
    pub account: String,
    /// The account's id in access control lists.
    pub canonical: String,
    /// What the caller is to the account.
    pub rank: Rank,
}

/// What a caller is to its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rank {
    /// The account itself: needs no policy of its own.
    Root,
    /// Somebody in it: may do what policies allow.
    #[default]
    Member,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Nobody in particular.
    Anonymous,
    /// One with a key.
    User(User),
    /// A part of the system, by its name.
    Service(String),
}

/// What is known of a request, by the names that conditions use. Keys are in small letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    /// Adds a value of `key`.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.to_ascii_lowercase()).or_default().push(value.into());
    }

    /// The values of `key`.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(&key.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }
}

/// A request, as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// Who asks.
    pub caller: &'r Caller,
    /// What for: `s3:GetObject`.
    pub action: &'r str,
    /// On what: `arn:aws:s3:::bucket/key`.
    pub resource: &'r str,
    /// Under what circumstances.
    pub context: &'r Context,
}

/// What one document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It allows.
    Allow,
    /// It denies, whatever others say.
    Deny,
    /// It says nothing.
    Silent,
}

/// A bucket's or an account's block of public access.
#[expect(clippy::struct_excessive_bools, reason = "S3's own four switches, each on or off for itself")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct PublicAccessBlock {
    /// Access lists that make something public are refused.
    pub block_acls: bool,
    /// Those that are there do not count.
    pub ignore_acls: bool,
    /// Policies that make something public are refused.
    pub block_policy: bool,
    /// One that is there reaches only the owner's account.
    pub restrict_buckets: bool,
}

/// Everything that speaks for or against a request.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'r> {
    /// Policies of the caller and of the caller's groups.
    pub identity: &'r [Policy],
    /// The limits of the caller's session: each of them must allow.
    pub session: &'r [Policy],
    /// The bucket's policy.
    pub bucket: Option<&'r Policy>,
    /// The account that the resource belongs to; `None` if it belongs to nobody, as the list of all buckets does.
    pub owner: Option<&'r str>,
    /// Whether an access control list grants it.
    pub granted: bool,
    /// The block of public access on the bucket.
    pub block: PublicAccessBlock,
}

/// Whether a request is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Allow,
    /// Nothing allows it.
    Implicit,
    /// Something denies it.
    Explicit,
}

/// Puts together what all rules say of `request`.
pub fn decide(request: &Request<'_>, rules: &Rules<'_>) -> Decision {
    let verdicts = |policies: &[Policy]| policies.iter().map(|policy| policy.verdict(request)).collect::<Vec<_>>();
    let identity = verdicts(rules.identity);
    let session = verdicts(rules.session);
    let (account, rank) = match request.caller {
        Caller::User(user) => (Some(user.account.as_str()), user.rank),
        Caller::Anonymous | Caller::Service(_) => (None, Rank::Member),
    };
    let own = account.is_some() && (rules.owner.is_none() || rules.owner == account);
    let mut bucket = rules.bucket.map_or(Verdict::Silent, |policy| policy.verdict(request));
    let restricted = rules.block.restrict_buckets
        && !own
        && rules.bucket.is_some_and(|policy| policy.reach() == Reach::Public)
        && !matches!(request.caller, Caller::Service(_));
    if restricted && bucket == Verdict::Allow {
        bucket = Verdict::Silent;
    }
    if bucket == Verdict::Deny || identity.contains(&Verdict::Deny) || session.contains(&Verdict::Deny) {
        return Decision::Explicit;
    }
    if session.contains(&Verdict::Silent) {
        return Decision::Implicit;
    }
    let by_identity = rank == Rank::Root || identity.contains(&Verdict::Allow);
    let by_resource = bucket == Verdict::Allow || rules.granted;
    let allowed = match (account, own) {
        // Inside of an account either side suffices; across accounts both must agree.
        (Some(_), true) => by_identity || by_resource,
        (Some(_), false) => by_identity && by_resource,
        (None, _) => by_resource,
    };
    if allowed { Decision::Allow } else { Decision::Implicit }
}
