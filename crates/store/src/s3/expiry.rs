//! Does what lifecycle documents say: expires objects, old versions, markers without objects, uploads nobody finished.
//!
//! A pass walks each bucket that has a document once, page by page. Every removal is conditional on what was seen, so a
//! write that comes between is never lost. Cost: the listing of those buckets, once an hour or a quarter of a trial day.
//! Source: Amazon S3 User Guide, "Managing the lifecycle of objects".

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::bucket::document;
use super::job::Front;
use super::lifecycle::{self, DAY_MS};
use super::xml::Node;
use crate::store::now_ms;
use crate::{
    Condition, DeleteRequest, Error, MarkerInfo, ObjectInfo, Store, UploadQuery, Version, VersionEntry, VersionId,
    VersionQuery,
};

/// Entries of one page.
const PAGE: usize = 1_000;

/// Passes until the listener stops.
pub(super) async fn run(front: Arc<Front>, mut stopping: watch::Receiver<bool>) {
    let day_ms = day_ms(&front);
    let rest = if day_ms == DAY_MS { Duration::from_hours(1) } else { Duration::from_millis((day_ms / 4).max(500)) };
    loop {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _stopped = stopping.wait_for(|stop| *stop) => return,
        }
        if let Err(error) = pass(&front.store, day_ms).await {
            tracing::warn!(%error, "a pass over the lifecycles broke off");
        }
    }
}

fn day_ms(front: &Front) -> u64 {
    front.options.day_seconds.map_or(DAY_MS, |seconds| seconds.saturating_mul(1_000))
}

async fn pass(store: &Store, day_ms: u64) -> Result<(), Error> {
    for bucket in store.buckets().await? {
        let bytes = match store.document(&bucket.name, document::LIFECYCLE).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(Error::NoSuchBucket(_)) => continue,
            Err(error) => return Err(error),
        };
        let Ok(root) = Node::parse(&bytes) else {
            tracing::error!(bucket = bucket.name, "a stored lifecycle cannot be read");
            continue;
        };
        let rules: Vec<&Node> = root.all("Rule").filter(|rule| rule.get("Status") == Some("Enabled")).collect();
        let walk = Walk { store, bucket: &bucket.name, rules: &rules, day_ms, now_ms: now_ms() };
        match walk.all().await {
            // Somebody removed the bucket while it was walked.
            Ok(()) | Err(Error::NoSuchBucket(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A walk over one bucket.
struct Walk<'w> {
    store: &'w Store,
    bucket: &'w str,
    rules: &'w [&'w Node],
    day_ms: u64,
    now_ms: u64,
}

/// What of a key was seen before an entry: the walk goes from newer to older.
#[derive(Default)]
struct Newer {
    key: String,
    /// When the entry before, which is newer, was written: since then the next is not current.
    since_ms: u64,
    /// Versions of the key that are not current, so far.
    noncurrent: u64,
}

impl Walk<'_> {
    async fn all(&self) -> Result<(), Error> {
        self.versions().await?;
        self.uploads().await
    }

    async fn versions(&self) -> Result<(), Error> {
        let mut after: Option<(String, Option<VersionId>)> = None;
        let mut newer = Newer::default();
        loop {
            let query = VersionQuery { after: after.take(), limit: PAGE, ..VersionQuery::default() };
            let page = self.store.list_versions(self.bucket, query).await?;
            let mut entries = page.entries.iter().peekable();
            while let Some(entry) = entries.next() {
                // A marker at the end of a page may have versions on the next; it waits for another pass.
                let alone = match entries.peek() {
                    Some(next) => key(next) != key(entry),
                    None => page.next.is_none(),
                };
                self.entry(entry, &mut newer, alone).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn entry(&self, entry: &VersionEntry, newer: &mut Newer, last_of_key: bool) -> Result<(), Error> {
        if newer.key != key(entry) {
            *newer = Newer { key: key(entry).to_owned(), ..Newer::default() };
        }
        match entry {
            VersionEntry::Object { key, latest: true, info } => {
                if self.rules.iter().any(|rule| self.expires(rule, key, info)) {
                    self.expire(key, info).await?;
                }
                newer.since_ms = info.modified_ms;
            }
            VersionEntry::Object { key, latest: false, info } => {
                if self.rules.iter().any(|rule| self.outlived(rule, key, info, newer)) {
                    self.remove(key, info.version).await?;
                }
                newer.noncurrent += 1;
                newer.since_ms = info.modified_ms;
            }
            VersionEntry::Marker { key, latest, info } => {
                if *latest && last_of_key && self.rules.iter().any(|rule| self.lonely(rule, key, info)) {
                    self.remove(key, info.version).await?;
                }
                newer.noncurrent += u64::from(!latest);
                newer.since_ms = info.modified_ms;
            }
        }
        Ok(())
    }

    fn days(&self, node: &Node, name: &str) -> Option<u64> {
        node.number::<u64>(name).ok().flatten().map(|days| days.saturating_mul(self.day_ms))
    }

    fn expires(&self, rule: &Node, key: &str, info: &ObjectInfo) -> bool {
        let due = lifecycle::due(rule, info.modified_ms, self.day_ms);
        lifecycle::applies(rule, key, info) && due.is_some_and(|due| due <= self.now_ms)
    }

    fn outlived(&self, rule: &Node, key: &str, info: &ObjectInfo, newer: &Newer) -> bool {
        let Some(action) = rule.child("NoncurrentVersionExpiration") else { return false };
        let kept: u64 = action.number("NewerNoncurrentVersions").ok().flatten().unwrap_or(0);
        let due = self.days(action, "NoncurrentDays").map_or(0, |days| newer.since_ms.saturating_add(days));
        lifecycle::applies(rule, key, info) && newer.noncurrent >= kept && due <= self.now_ms
    }

    /// Whether a rule removes a marker that stands alone.
    fn lonely(&self, rule: &Node, key: &str, marker: &MarkerInfo) -> bool {
        let Some(action) = rule.child("Expiration") else { return false };
        let asked = action.get("ExpiredObjectDeleteMarker").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let old = self.days(action, "Days").is_some_and(|days| marker.modified_ms.saturating_add(days) <= self.now_ms);
        lifecycle::fits_prefix(rule, key) && (asked || old)
    }

    async fn expire(&self, key: &str, info: &ObjectInfo) -> Result<(), Error> {
        let seen = vec![Condition::IfMatch(info.etag.clone()), Condition::IfModifiedAt(info.modified_ms)];
        let request = DeleteRequest { condition: Condition::All(seen), ..DeleteRequest::default() };
        self.done(key, self.store.delete_object(self.bucket, key, request).await.map(|_deleted| ()))
    }

    async fn remove(&self, key: &str, version: VersionId) -> Result<(), Error> {
        let request = DeleteRequest { version: Version::Id(version), ..DeleteRequest::default() };
        self.done(key, self.store.delete_object(self.bucket, key, request).await.map(|_deleted| ()))
    }

    /// What was changed or locked meanwhile stays; what the store cannot do ends the pass.
    fn done(&self, key: &str, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Ok(()) => {
                tracing::debug!(bucket = self.bucket, key, "expired");
                Ok(())
            }
            Err(
                error @ (Error::Retained { .. }
                | Error::Precondition(_)
                | Error::NoSuchKey { .. }
                | Error::NoSuchVersion { .. }
                | Error::NoSuchUpload(_)),
            ) => {
                tracing::debug!(bucket = self.bucket, key, %error, "not expired");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn uploads(&self) -> Result<(), Error> {
        let limits: Vec<(&Node, u64)> = self
            .rules
            .iter()
            .filter_map(|rule| {
                Some((*rule, self.days(rule.child("AbortIncompleteMultipartUpload")?, "DaysAfterInitiation")?))
            })
            .collect();
        if limits.is_empty() {
            return Ok(());
        }
        let mut after: Option<(String, Option<String>)> = None;
        loop {
            let query = UploadQuery { after: after.take(), limit: PAGE, ..UploadQuery::default() };
            let page = self.store.list_uploads(self.bucket, query).await?;
            for upload in &page.uploads {
                let due = limits.iter().any(|(rule, after_ms)| {
                    lifecycle::fits_prefix(rule, &upload.key)
                        && upload.created_ms.saturating_add(*after_ms) <= self.now_ms
                });
                if due {
                    let aborted = self.store.abort_upload(self.bucket, &upload.key, &upload.upload).await;
                    self.done(&upload.key, aborted)?;
                }
            }
            after = page.next.map(|(key, upload)| (key, Some(upload)));
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

fn key(entry: &VersionEntry) -> &str {
    match entry {
        VersionEntry::Object { key, .. } | VersionEntry::Marker { key, .. } => key,
    }
}
