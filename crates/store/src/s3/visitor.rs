//! Who asks: a request's claim turned into somebody the store knows, and the key that its chunks are signed with.

use std::sync::Arc;

use dh_core::{Authenticate, Secret};
use dh_policy::access::{Caller, Kind, Policy, Rank, User};

use super::call::Call;
use super::fault::Fault;
use super::framing::ChunkKey;
use super::sign::{Carrier, Claim, remembered_key};
use crate::identity::{Accounts, UserRank, UserRow};

/// The account of those whose keys the hall itself gave out.
pub(super) const HOUSE: &str = "datahall";

/// Whoever asks.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) caller: Caller,
    /// The user behind it, if the account book knows one.
    pub(super) user: Option<Arc<UserRow>>,
    /// Policies of the user and of the user's groups.
    pub(super) identity: Vec<Policy>,
    /// Limits of the session.
    pub(super) session: Vec<Policy>,
    /// How the request was signed, as conditions call it.
    pub(super) version: Option<(&'static str, &'static str)>,
}

impl Visitor {
    pub(super) const fn anonymous() -> Self {
        Self { caller: Caller::Anonymous, user: None, identity: Vec::new(), session: Vec::new(), version: None }
    }

    /// The id of the account that new things belong to.
    pub(super) fn account(&self) -> Option<&str> {
        match &self.caller {
            Caller::User(user) => Some(&user.account),
            Caller::Anonymous | Caller::Service(_) => None,
        }
    }

    /// One of the hall's own.
    fn house(name: &str) -> Self {
        let user = User {
            arn: format!("arn:aws:iam::{HOUSE}:user/{name}"),
            aliases: Vec::new(),
            account: HOUSE.to_owned(),
            canonical: HOUSE.to_owned(),
            rank: Rank::Root,
        };
        Self { caller: Caller::User(user), ..Self::anonymous() }
    }

    /// A user of the account book.
    pub(super) fn of(accounts: &Accounts, row: Arc<UserRow>) -> Result<Self, Fault> {
        let read = |text: &String| {
            Policy::parse(text.as_bytes(), Kind::Identity).map_err(|error| {
                tracing::error!(user = row.id, %error, "a stored policy cannot be read");
                Fault::denied()
            })
        };
        let identity = accounts.policy_texts(&row).iter().map(read).collect::<Result<_, _>>()?;
        let rank = match row.rank {
            UserRank::Root => Rank::Root,
            UserRank::Member => Rank::Member,
        };
        let user = User {
            arn: row.arn(),
            aliases: row.aliases.clone(),
            account: row.account.clone(),
            canonical: row.account.clone(),
            rank,
        };
        Ok(Self { caller: Caller::User(user), user: Some(row), identity, ..Self::anonymous() })
    }
}

fn unknown(kind: Asked) -> Fault {
    match kind {
        Asked::Objects => {
            Fault::new("InvalidAccessKeyId", "The AWS access key Id you provided does not exist in our records.")
        }
        Asked::Identities => {
            Fault::new("InvalidClientTokenId", "The security token included in the request is invalid.")
        }
    }
}

/// Which service a request is for; they word refusals differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Objects,
    Identities,
}

/// Whoever has this access key, and the key's secret.
fn look_up(
    accounts: &Accounts,
    auth: &dyn Authenticate,
    key: &str,
    token: Option<&str>,
    now_ms: u64,
    asked: Asked,
) -> Result<(Visitor, Secret<String>), Fault> {
    if let Some((user, found)) = accounts.by_key(key) {
        return Ok((Visitor::of(accounts, user)?, found.secret()));
    }
    if let Some(session) = accounts.session(key) {
        if session.expires_ms < now_ms {
            return Err(Fault::new("ExpiredToken", "The provided token has expired."));
        }
        if !token.is_some_and(|token| super::sign::same(token, &session.token)) {
            return Err(Fault::new("InvalidToken", "The provided token is malformed or otherwise invalid."));
        }
        let user = accounts.user(&session.user).ok_or_else(|| unknown(asked))?;
        let mut visitor = Visitor::of(accounts, user)?;
        let read = |text: &String| Policy::parse(text.as_bytes(), Kind::Identity).map_err(|_error| Fault::denied());
        visitor.session = session.policies.iter().map(read).collect::<Result<_, _>>()?;
        return Ok((visitor, session.key.secret()));
    }
    match auth.signing_key(key) {
        Some((secret, principal)) if principal.may_use_store() => {
            let mut visitor = Visitor::house(&principal.name);
            let read = |text: &Arc<str>| {
                Policy::parse(text.as_bytes(), Kind::Identity).map_err(|error| {
                    tracing::error!(key, %error, "the limit of a key cannot be read");
                    Fault::denied()
                })
            };
            visitor.session = auth.limits(key).iter().map(read).collect::<Result<_, _>>()?;
            Ok((visitor, secret))
        }
        Some((_secret, principal)) => {
            tracing::warn!(principal = principal.name, "refused: the key's role may not use the store");
            Err(Fault::denied())
        }
        None => Err(unknown(asked)),
    }
}

/// Verifies a claim. `payload` is the hash that the request claims for its body.
pub(super) fn verify(
    accounts: &Accounts,
    auth: &dyn Authenticate,
    call: &Call,
    claim: &Claim,
    payload: &str,
    asked: Asked,
) -> Result<(Visitor, Option<ChunkKey>), Fault> {
    match claim {
        Claim::None => Ok((Visitor::anonymous(), None)),
        Claim::V4(claim) => {
            let (mut visitor, secret) =
                look_up(accounts, auth, &claim.access_key, claim.token.as_deref(), call.now_ms, asked)?;
            let key = remembered_key(&claim.access_key, &secret, &claim.scope);
            claim.verify(call, &key, payload)?;
            let how = match claim.carrier {
                Carrier::Header => "REST-HEADER",
                Carrier::Query => "REST-QUERY-STRING",
            };
            visitor.version = Some(("AWS4-HMAC-SHA256", how));
            let chunks =
                ChunkKey { key, date: claim.date.clone(), scope: claim.scope.clone(), seed: claim.signature.clone() };
            Ok((visitor, Some(chunks)))
        }
        Claim::V2(claim) => {
            let (mut visitor, secret) =
                look_up(accounts, auth, &claim.access_key, claim.token.as_deref(), call.now_ms, asked)?;
            claim.verify(call, secret.expose())?;
            visitor.version = Some(("AWS", "REST-HEADER"));
            Ok((visitor, None))
        }
    }
}

/// Verifies a form's signature over its policy; returns who signed.
pub(super) fn verify_form(
    accounts: &Accounts,
    auth: &dyn Authenticate,
    key: &str,
    token: Option<&str>,
    now_ms: u64,
    matches: impl FnOnce(&str) -> bool,
) -> Result<Visitor, Fault> {
    let (visitor, secret) = look_up(accounts, auth, key, token, now_ms, Asked::Objects)?;
    if matches(secret.expose()) {
        Ok(visitor)
    } else {
        Err(Fault::new(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided.",
        ))
    }
}
