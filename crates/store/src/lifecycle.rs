//! Lifecycle: what rules of a bucket remove or move to another storage class, and when. The class is only written into the
//! row; the mover brings the bytes to the tier that it means.
//!
//! The rules are structured here; the front keeps their document and reads it. A sweep reads the rows of a bucket page by
//! page and removes through ordinary changes, each with a condition that the version is still the one that was judged, so
//! a client that writes meanwhile loses nothing. Extents go the way of every delete: their bytes come back.
//! Source: Amazon S3 User Guide, "Managing the lifecycle of objects".

use std::sync::Arc;

use crate::index::codec::decode;
use crate::index::keys::{bucket_range, past_object, prefix_key, split_upload, split_version};
use crate::index::meta::{Meta, Next, TableId};
use crate::index::rows::{ObjectInfo, UploadRow, VersionRow};
use crate::store::{DeleteRequest, now_ms, off_runtime};
use crate::version::{Version, VersionId};
use crate::{Annotation, Condition, Error, Store, buckets};

/// Milliseconds of a day.
pub const DAY_MS: u64 = 86_400_000;
/// Rows that are judged from one snapshot.
const PAGE_ROWS: usize = 1_000;

/// When an object expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// So many days after it was written.
    Days(u32),
    /// At this time, in milliseconds of the Unix epoch.
    At(u64),
}

/// When versions that are not the newest go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noncurrent {
    /// So many days after a newer one came.
    pub days: u32,
    /// But not the newest so many of them.
    pub keep: u32,
}

/// When an object gets another storage class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// When; of older versions, the days count from when a newer one came.
    pub when: Expiry,
    /// The class.
    pub class: String,
    /// How many of the newest older versions stay as they are; for rules about older versions.
    pub keep: u32,
}

/// Storage classes from the warmest to the coldest; transitions go down only.
/// Source: Amazon S3 User Guide, "Transitioning objects using Amazon S3 Lifecycle".
pub(crate) const CLASSES: &[&str] =
    &["STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"];

/// Where a class stands among them; others are as warm as the first.
fn rank(class: Option<&str>) -> usize {
    CLASSES.iter().position(|known| Some(*known) == class).unwrap_or(0)
}

/// Whether delete markers go that hide nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Markers {
    /// They stay.
    #[default]
    Stay,
    /// They go.
    Go,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Only keys that start so.
    pub prefix: String,
    /// Only objects with all of these tags.
    pub tags: Vec<(String, String)>,
    /// Only objects of more bytes.
    pub larger_than: Option<u64>,
    /// Only objects of fewer bytes.
    pub smaller_than: Option<u64>,
    /// When objects expire: they are removed, or hidden by a delete marker where versions are kept.
    pub expiry: Option<Expiry>,
    /// When older versions go.
    pub noncurrent: Option<Noncurrent>,
    /// Whether delete markers go that hide nothing.
    pub markers: Markers,
    /// Days after which an upload that is not complete goes.
    pub abort_days: Option<u32>,
    /// When objects get another storage class.
    pub transitions: Vec<Transition>,
    /// When older versions do.
    pub noncurrent_transitions: Vec<Transition>,
}

/// What a sweep takes for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// The time, in milliseconds of the Unix epoch.
    pub now_ms: u64,
    /// The length of a day in milliseconds. With real days, things expire at midnight; shorter days are for tests.
    pub day_ms: u64,
}

impl Calendar {
    /// The time as it is.
    pub fn real() -> Self {
        Self { now_ms: now_ms(), day_ms: DAY_MS }
    }

    /// When `days` days will have passed since `since_ms`.
    fn after(self, since_ms: u64, days: u32) -> u64 {
        let due = since_ms.saturating_add(u64::from(days).saturating_mul(self.day_ms));
        if self.day_ms == DAY_MS { due.div_ceil(DAY_MS).saturating_mul(DAY_MS) } else { due }
    }

    /// Whether they have.
    fn passed(self, since_ms: u64, days: u32) -> bool {
        self.after(since_ms, days) <= self.now_ms
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Objects that expired.
    pub expired: u64,
    /// Older versions.
    pub noncurrent: u64,
    /// Delete markers.
    pub markers: u64,
    /// Uploads.
    pub uploads: u64,
    /// Versions that got another storage class.
    pub transitions: u64,
    /// Removals that were refused: a lock, or somebody was faster.
    pub refused: u64,
}

/// What is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Expire { key: String, condition: Condition },
    Noncurrent { key: String, version: VersionId, condition: Condition },
    Marker { key: String, version: VersionId },
    Abort { key: String, upload: String },
    Transition { key: String, version: VersionId, condition: Condition, class: String },
}

/// A version as far as rules look at it.
struct Seen {
    version: VersionId,
    modified_ms: u64,
    object: Option<ObjectInfo>,
}

impl Rule {
    /// Whether the rule is about this object.
    pub(crate) fn matches(&self, key: &str, info: &ObjectInfo) -> bool {
        key.starts_with(&self.prefix)
            && self.tags.iter().all(|tag| info.meta.tags.contains(tag))
            && self.larger_than.is_none_or(|bytes| info.size > bytes)
            && self.smaller_than.is_none_or(|bytes| info.size < bytes)
    }

    /// When an object expires that was written at `modified_ms`.
    pub(crate) fn due(&self, modified_ms: u64, calendar: Calendar) -> Option<u64> {
        self.expiry.map(|expiry| match expiry {
            Expiry::Days(days) => calendar.after(modified_ms, days),
            Expiry::At(ms) => ms,
        })
    }

    fn expires(&self, modified_ms: u64, calendar: Calendar) -> bool {
        self.due(modified_ms, calendar).is_some_and(|due| due <= calendar.now_ms)
    }

    fn wants_marker_gone(&self, key: &str, marker: &Seen, calendar: Calendar) -> bool {
        let expires = matches!(self.expiry, Some(Expiry::Days(_))) && self.expires(marker.modified_ms, calendar);
        key.starts_with(&self.prefix) && self.tags.is_empty() && (self.markers == Markers::Go || expires)
    }
}

fn same(info: &ObjectInfo) -> Condition {
    Condition::All(vec![Condition::IfMatch(info.etag.clone()), Condition::IfModifiedAt(info.modified_ms)])
}

/// The coldest class that is due at a version last changed at `since_ms`, if it is colder than the version's own.
fn colder(
    info: &ObjectInfo,
    since_ms: u64,
    due: impl Iterator<Item = Transition>,
    calendar: Calendar,
) -> Option<String> {
    let passed = |transition: &Transition| match transition.when {
        Expiry::Days(days) => calendar.passed(since_ms, days),
        Expiry::At(ms) => ms <= calendar.now_ms,
    };
    let coldest = due.filter(passed).max_by_key(|transition| rank(Some(&transition.class)))?;
    (rank(Some(&coldest.class)) > rank(info.meta.storage_class.as_deref())).then_some(coldest.class)
}

/// Judges the versions of one key, the newest first.
fn judge(key: &str, versions: &[Seen], rules: &[Rule], calendar: Calendar, actions: &mut Vec<Action>) {
    let Some(newest) = versions.first() else { return };
    if let Some(info) = &newest.object {
        if rules.iter().any(|rule| rule.matches(key, info) && rule.expires(newest.modified_ms, calendar)) {
            actions.push(Action::Expire { key: key.to_owned(), condition: same(info) });
        } else {
            let due = rules.iter().filter(|rule| rule.matches(key, info));
            let due = due.flat_map(|rule| rule.transitions.iter().cloned());
            if let Some(class) = colder(info, newest.modified_ms, due, calendar) {
                let (key, version) = (key.to_owned(), newest.version);
                actions.push(Action::Transition { key, version, condition: same(info), class });
            }
        }
    } else if versions.len() == 1 && rules.iter().any(|rule| rule.wants_marker_gone(key, newest, calendar)) {
        actions.push(Action::Marker { key: key.to_owned(), version: newest.version });
    }
    let mut older = 0;
    for (newer, seen) in versions.iter().zip(versions.iter().skip(1)) {
        let Some(info) = &seen.object else {
            // A marker below others hides nothing.
            if rules.iter().any(|rule| rule.noncurrent.is_some() && rule.wants_marker_gone(key, seen, calendar)) {
                actions.push(Action::Marker { key: key.to_owned(), version: seen.version });
            }
            continue;
        };
        older += 1;
        let goes = rules.iter().any(|rule| {
            rule.noncurrent.is_some_and(|noncurrent| {
                older > noncurrent.keep && calendar.passed(newer.modified_ms, noncurrent.days)
            }) && rule.matches(key, info)
        });
        if goes {
            actions.push(Action::Noncurrent { key: key.to_owned(), version: seen.version, condition: same(info) });
            continue;
        }
        let due = rules.iter().filter(|rule| rule.matches(key, info));
        let due = due.flat_map(|rule| rule.noncurrent_transitions.iter().filter(|one| older > one.keep).cloned());
        if let Some(class) = colder(info, newer.modified_ms, due, calendar) {
            let (key, version) = (key.to_owned(), seen.version);
            actions.push(Action::Transition { key, version, condition: same(info), class });
        }
    }
}

/// What a page asks for, and where the next one starts.
type Page = (Vec<Action>, Option<Vec<u8>>);

fn versions(meta: &Meta, bucket: &str, rules: &[Rule], calendar: Calendar, from: Vec<u8>) -> Result<Page, Error> {
    let transaction = meta.read()?;
    buckets::find(&transaction, bucket)?;
    let (_low, high) = bucket_range(bucket);
    let mut actions = Vec::new();
    let mut next = None;
    let mut rows = 0;
    let mut current: Option<(String, Vec<Seen>)> = None;
    Meta::scan(&transaction, TableId::Objects, from, &high, |row_key, value| {
        let (_bucket, key, _sequence) =
            split_version(row_key).ok_or_else(|| Error::corrupt("an object's key", "the index"))?;
        if current.as_ref().is_none_or(|(have, _seen)| have != key) {
            if let Some((key, seen)) = current.take() {
                judge(&key, &seen, rules, calendar, &mut actions);
            }
            if rows >= PAGE_ROWS {
                next = Some(prefix_key(bucket, key));
                return Ok(Next::Stop);
            }
            if !rules.iter().any(|rule| key.starts_with(&rule.prefix)) {
                rows += 1;
                return Ok(Next::Seek(past_object(bucket, key)));
            }
            current = Some((key.to_owned(), Vec::new()));
        }
        rows += 1;
        let seen = match decode::<VersionRow>(row_key, value) {
            Ok((VersionRow::Object(info), _inline)) => {
                Seen { version: info.version, modified_ms: info.modified_ms, object: Some(info) }
            }
            Ok((VersionRow::Marker(marker), _inline)) => {
                Seen { version: marker.version, modified_ms: marker.modified_ms, object: None }
            }
            Ok((VersionRow::NullAt(_), _inline)) => return Ok(Next::Row),
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%error, "a sweep leaves out a corrupt row");
                return Ok(Next::Row);
            }
            Err(error) => return Err(error),
        };
        if let Some((_key, versions)) = &mut current {
            versions.push(seen);
        }
        Ok(Next::Row)
    })?;
    if let Some((key, seen)) = current {
        judge(&key, &seen, rules, calendar, &mut actions);
    }
    Ok((actions, next))
}

fn uploads(meta: &Meta, bucket: &str, rules: &[Rule], calendar: Calendar) -> Result<Vec<Action>, Error> {
    let (low, high) = bucket_range(bucket);
    let mut actions = Vec::new();
    Meta::scan(&meta.read()?, TableId::Uploads, low, &high, |row_key, value| {
        let (key, upload) = split_upload(row_key).ok_or_else(|| Error::corrupt("an upload's key", "the index"))?;
        let (row, _inline) = decode::<UploadRow>(row_key, value)?;
        let due = |days: u32| calendar.passed(row.created_ms, days);
        if rules.iter().any(|rule| key.starts_with(&rule.prefix) && rule.abort_days.is_some_and(due)) {
            actions.push(Action::Abort { key: key.to_owned(), upload: upload.to_owned() });
        }
        Ok(Next::Row)
    })?;
    Ok(actions)
}

/// Whether a removal was refused by what the key has become, rather than failed.
const fn refused(error: &Error) -> bool {
    matches!(
        error,
        Error::Retained { .. }
            | Error::Precondition(_)
            | Error::NoSuchKey { .. }
            | Error::NoSuchVersion { .. }
            | Error::NoSuchUpload(_)
    )
}

impl Store {
    /// Removes from `bucket` what `rules` say at the time of `calendar`.
    /// # Errors
    /// [`Error::NoSuchBucket`], or a failed commit; what was removed before stays removed.
    pub async fn sweep(&self, bucket: &str, rules: &[Rule], calendar: Calendar) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let rules: Arc<[Rule]> = rules.into();
        let mut from = Some(bucket_range(bucket).0);
        while let Some(start) = from.take() {
            let (meta, bucket_name, judging) = (Arc::clone(&self.0.meta), bucket.to_owned(), Arc::clone(&rules));
            let (actions, next) = off_runtime(move || versions(&meta, &bucket_name, &judging, calendar, start)).await?;
            self.remove(bucket, actions, &mut swept).await?;
            from = next;
        }
        let (meta, bucket_name) = (Arc::clone(&self.0.meta), bucket.to_owned());
        let actions = off_runtime(move || uploads(&meta, &bucket_name, &rules, calendar)).await?;
        self.remove(bucket, actions, &mut swept).await?;
        tracing::debug!(bucket, ?swept, "a sweep of a bucket");
        Ok(swept)
    }

    /// Does the removals, all of a page at once so that they share syncs.
    async fn remove(&self, bucket: &str, actions: Vec<Action>, swept: &mut Swept) -> Result<(), Error> {
        let doing = actions.into_iter().map(|action| async move {
            let request = |version, condition| DeleteRequest { version, condition, ..DeleteRequest::default() };
            match action {
                Action::Expire { key, condition } => {
                    let done = self.delete_object(bucket, &key, request(Version::Latest, condition)).await;
                    done.map(|_deleted| Swept { expired: 1, ..Swept::default() })
                }
                Action::Noncurrent { key, version, condition } => {
                    let done = self.delete_object(bucket, &key, request(Version::Id(version), condition)).await;
                    done.map(|_deleted| Swept { noncurrent: 1, ..Swept::default() })
                }
                Action::Marker { key, version } => {
                    let request = request(Version::Id(version), Condition::IfAbsent);
                    let done = self.delete_object(bucket, &key, request).await;
                    done.map(|_deleted| Swept { markers: 1, ..Swept::default() })
                }
                Action::Transition { key, version, condition, class } => {
                    let change = Annotation::StorageClass(Some(class));
                    let done = self.annotate(bucket, &key, Version::Id(version), change, condition).await;
                    done.map(|_info| Swept { transitions: 1, ..Swept::default() })
                }
                Action::Abort { key, upload } => {
                    let done = self.abort_upload(bucket, &key, &upload).await;
                    done.map(|()| Swept { uploads: 1, ..Swept::default() })
                }
            }
        });
        for result in futures::future::join_all(doing).await {
            match result {
                Ok(one) => {
                    swept.expired += one.expired;
                    swept.noncurrent += one.noncurrent;
                    swept.markers += one.markers;
                    swept.uploads += one.uploads;
                    swept.transitions += one.transitions;
                }
                Err(error) if refused(&error) => swept.refused += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_days_end_at_midnight_and_short_ones_do_not() {
        let at = |now_ms, day_ms| Calendar { now_ms, day_ms };
        assert!(!at(DAY_MS + 5, DAY_MS).passed(5, 1));
        assert!(at(2 * DAY_MS, DAY_MS).passed(5, 1));
        assert!(at(DAY_MS, DAY_MS).passed(0, 1));
        assert!(at(15, 10).passed(5, 1));
        assert!(!at(14, 10).passed(5, 1));
        assert!(!at(u64::MAX - 1, DAY_MS).passed(u64::MAX, u32::MAX));
    }
}
