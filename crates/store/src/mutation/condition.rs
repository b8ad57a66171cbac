//! What must hold for a write to happen, checked in the transaction that writes.

use crate::Error;
use crate::index::rows::ObjectInfo;

/// What must hold for a write to happen. A delete marker counts as no object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key has no object: `If-None-Match: *`.
    IfAbsent,
    /// The key has an object: `If-Match: *`.
    IfPresent,
    /// The key's object has this `ETag`: `If-Match: "..."`.
    IfMatch(String),
    /// The key's object does not have this `ETag`: `If-None-Match: "..."`.
    IfNoneMatch(String),
    /// The key's object was written in this second, in milliseconds of the Unix epoch:
    /// `x-amz-if-match-last-modified-time`.
    IfModifiedAt(u64),
    /// The key's object has so many bytes: `x-amz-if-match-size`.
    IfSize(u64),
    /// All of these.
    All(Vec<Condition>),
}

impl Condition {
    /// Checks it against the object that is there.
    pub(crate) fn check(&self, bucket: &str, key: &str, present: Option<&ObjectInfo>) -> Result<(), Error> {
        let holds = |name: &'static str, holds: bool| if holds { Ok(()) } else { Err(Error::Precondition(name)) };
        match (self, present) {
            (Self::All(conditions), _) => {
                conditions.iter().try_for_each(|condition| condition.check(bucket, key, present))
            }
            (Self::IfAbsent, Some(_)) => Err(Error::Precondition("If-None-Match")),
            (Self::IfNoneMatch(etag), Some(info)) => holds("If-None-Match", info.etag != *etag),
            (Self::IfPresent | Self::IfMatch(_) | Self::IfModifiedAt(_) | Self::IfSize(_), None) => {
                Err(Error::no_key(bucket, key))
            }
            (Self::IfMatch(etag), Some(info)) => holds("If-Match", info.etag == *etag),
            (Self::IfModifiedAt(ms), Some(info)) => {
                holds("x-amz-if-match-last-modified-time", info.modified_ms / 1_000 == ms / 1_000)
            }
            (Self::IfSize(size), Some(info)) => holds("x-amz-if-match-size", info.size == *size),
            (Self::Always | Self::IfPresent, Some(_))
            | (Self::Always | Self::IfAbsent | Self::IfNoneMatch(_), None) => Ok(()),
        }
    }
}
