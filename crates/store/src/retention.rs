//! Object lock: what may not be deleted or overwritten, and for how long.
//!
//! Checked inside of the transaction that would remove the version, so no race lets one go. Source: Amazon S3 User
//! Guide, "Locking objects with Object Lock".

use crate::Error;

/// Who may shorten a retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionMode {
    /// Those with the right to bypass it.
    Governance,
    /// Nobody.
    Compliance,
}

/// Until when a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Who may shorten it.
    pub mode: RetentionMode,
    /// The end, in milliseconds of the Unix epoch.
    pub until_ms: u64,
}

/// A hold without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LegalHold {
    /// None.
    #[default]
    Off,
    /// The version stays until somebody lifts it.
    On,
}

/// What keeps a version from being removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectLock {
    /// The time that it is kept, if any.
    pub retention: Option<Retention>,
    /// Whether somebody holds it; `None` if nobody ever said.
    pub legal_hold: Option<LegalHold>,
}

/// Whether the caller may and wants to pass over a governance retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Governance {
    /// It holds.
    #[default]
    Holds,
    /// `x-amz-bypass-governance-retention`, from one who has the right.
    Bypassed,
}

impl ObjectLock {
    /// Whether nothing was ever said.
    pub const fn is_empty(&self) -> bool {
        self.retention.is_none() && self.legal_hold.is_none()
    }

    /// Whether the version `key` may be removed at `now_ms`.
    pub(crate) fn may_remove(&self, key: &str, now_ms: u64, governance: Governance) -> Result<(), Error> {
        if self.legal_hold == Some(LegalHold::On) {
            return Err(Error::Retained { key: key.to_owned(), why: "a legal hold" });
        }
        match self.retention.filter(|retention| retention.until_ms > now_ms) {
            None => Ok(()),
            Some(Retention { mode: RetentionMode::Governance, .. }) if governance == Governance::Bypassed => Ok(()),
            Some(Retention { mode: RetentionMode::Governance, .. }) => {
                Err(Error::Retained { key: key.to_owned(), why: "a governance retention" })
            }
            Some(Retention { mode: RetentionMode::Compliance, .. }) => {
                Err(Error::Retained { key: key.to_owned(), why: "a compliance retention" })
            }
        }
    }

    /// Whether the retention may become `next` at `now_ms`: longer always, shorter or laxer only past a governance.
    pub(crate) fn may_become(
        &self,
        next: Option<Retention>,
        key: &str,
        now_ms: u64,
        governance: Governance,
    ) -> Result<(), Error> {
        let Some(now) = self.retention.filter(|retention| retention.until_ms > now_ms) else { return Ok(()) };
        let longer = next.is_some_and(|next| next.mode == now.mode && next.until_ms >= now.until_ms);
        match now.mode {
            RetentionMode::Governance if longer || governance == Governance::Bypassed => Ok(()),
            RetentionMode::Compliance if longer => Ok(()),
            RetentionMode::Governance => Err(Error::Retained { key: key.to_owned(), why: "a governance retention" }),
            RetentionMode::Compliance => Err(Error::Retained { key: key.to_owned(), why: "a compliance retention" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(mode: RetentionMode, until_ms: u64) -> ObjectLock {
        ObjectLock { retention: Some(Retention { mode, until_ms }), legal_hold: None }
    }

    #[test]
    fn a_version_is_removed_only_when_nothing_keeps_it() {
        use Governance::{Bypassed, Holds};
        let held = ObjectLock { retention: None, legal_hold: Some(LegalHold::On) };
        for (lock, governance, want) in [
            (ObjectLock::default(), Holds, true),
            (held, Bypassed, false),
            (lock(RetentionMode::Governance, 11), Holds, false),
            (lock(RetentionMode::Governance, 11), Bypassed, true),
            (lock(RetentionMode::Compliance, 11), Bypassed, false),
            (lock(RetentionMode::Compliance, 10), Holds, true),
        ] {
            assert_eq!(lock.may_remove("key", 10, governance).is_ok(), want, "{lock:?} {governance:?}");
        }
    }

    #[test]
    fn a_retention_grows_freely_and_shrinks_past_governance_only() {
        use Governance::{Bypassed, Holds};
        use RetentionMode::{Compliance, Governance as Lax};
        let next = |mode, until_ms| Some(Retention { mode, until_ms });
        for (lock, next, governance, want) in [
            (ObjectLock::default(), next(Compliance, 20), Holds, true),
            (lock(Lax, 20), next(Lax, 30), Holds, true),
            (lock(Lax, 20), next(Lax, 15), Holds, false),
            (lock(Lax, 20), next(Lax, 15), Bypassed, true),
            (lock(Lax, 20), next(Compliance, 30), Holds, false),
            (lock(Lax, 20), next(Compliance, 30), Bypassed, true),
            (lock(Lax, 20), None, Bypassed, true),
            (lock(Compliance, 20), next(Compliance, 30), Holds, true),
            (lock(Compliance, 20), next(Compliance, 15), Bypassed, false),
            (lock(Compliance, 20), next(Lax, 30), Bypassed, false),
            (lock(Compliance, 20), None, Bypassed, false),
            (lock(Compliance, 9), next(Lax, 11), Holds, true),
        ] {
            assert_eq!(lock.may_become(next, "key", 10, governance).is_ok(), want, "{lock:?} {next:?} {governance:?}");
        }
    }
}
