//! Counters, and how Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::mutation::{Effects, UsageChange};

/// What a bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketUsage {
    /// Objects, with all versions and without delete markers.
    pub objects: u64,
    /// Bytes as clients see them.
    pub logical_bytes: u64,
    /// Bytes on the disk, after compression, with checksums and indexes.
    pub stored_bytes: u64,
}

impl BucketUsage {
    pub(crate) const fn add(&mut self, logical: u64, stored: u64) {
        self.objects += 1;
        self.logical_bytes += logical;
        self.stored_bytes += stored;
    }

    /// Counts what came and went.
    pub(crate) const fn apply(&mut self, change: UsageChange) {
        if let Some((logical, stored)) = change.removed {
            self.remove(logical, stored);
        }
        if let Some((logical, stored)) = change.added {
            self.add(logical, stored);
        }
    }

    const fn remove(&mut self, logical: u64, stored: u64) {
        self.objects = self.objects.saturating_sub(1);
        self.logical_bytes = self.logical_bytes.saturating_sub(logical);
        self.stored_bytes = self.stored_bytes.saturating_sub(stored);
    }
}

/// A snapshot of the store's counters. Those that count events start at zero with each opening.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Buckets.
    pub buckets: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes of all objects as clients see them.
    pub logical_bytes: u64,
    /// Bytes of all objects on the disk.
    pub stored_bytes: u64,
    /// Bytes of all extents on the disk: also of uploads that are not complete, and of files not yet removed.
    pub disk_bytes: u64,
    /// The configured capacity.
    pub capacity_bytes: Option<u64>,
    /// Bytes of blocks in RAM.
    pub cache_bytes: u64,
    /// Blocks that were found in RAM.
    pub cache_hits: u64,
    /// Blocks that were not.
    pub cache_misses: u64,
    /// Body bytes taken in.
    pub bytes_in: u64,
    /// Body bytes given out.
    pub bytes_out: u64,
    /// Reads that found bytes other than those written.
    pub corrupt_reads: u64,
    /// Pages of the index that did not check.
    pub index_damaged: u64,
    /// Those of them that were repaired from another drive.
    pub index_repaired: u64,
    /// Shards and copies that were found wrong or missing.
    pub damages: u64,
    /// Those of them that were made good again.
    pub repairs: u64,
    /// Bytes that were read and checked without being asked for.
    pub patrolled_bytes: u64,
    /// When all bodies were read and checked last, in milliseconds of the Unix epoch; when the store was first opened if
    /// they never were, 0 if nobody does.
    pub patrolled_ms: u64,
    /// Metadata commits.
    pub commits: u64,
    /// Changes in those commits.
    pub changes: u64,
    /// S3 requests by operation.
    pub requests: BTreeMap<String, u64>,
    /// What each bucket holds.
    pub per_bucket: BTreeMap<String, BucketUsage>,
    /// What the tiers hold, the store's own drives first; empty if there are no colder ones.
    pub tiers: Vec<TierStats>,
    /// What moved between them.
    pub moved: crate::Moved,
}

/// What a tier holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierStats {
    /// Its name; `own` for the store's own drives.
    pub name: String,
    /// The storage class that means it.
    pub class: String,
    /// Objects and bytes; an object counts where its first body lies.
    pub held: BucketUsage,
    /// Bytes on its drives with parity, if it has some.
    pub disk_bytes: Option<u64>,
}

/// Reads one figure.
type Pick = fn(&BucketUsage) -> u64;

/// The live counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    usage: Mutex<BTreeMap<String, BucketUsage>>,
    tiers: Mutex<BTreeMap<u8, BucketUsage>>,
    requests: Mutex<BTreeMap<String, u64>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    corrupt: AtomicU64,
    commits: AtomicU64,
    changes: AtomicU64,
}

impl Counters {
    pub(crate) fn new(usage: BTreeMap<String, BucketUsage>, tiers: BTreeMap<u8, BucketUsage>) -> Self {
        Self { usage: Mutex::new(usage), tiers: Mutex::new(tiers), ..Self::default() }
    }

    /// What a colder tier holds.
    pub(crate) fn tier(&self, number: u8) -> BucketUsage {
        self.tiers.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied().unwrap_or_default()
    }

    pub(crate) fn request(&self, operation: &str) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = requests.get_mut(operation) {
            *count += 1;
        } else {
            requests.insert(operation.to_owned(), 1);
        }
    }

    pub(crate) fn bytes_in(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes_out(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn corrupt(&self) {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn batch(&self, changes: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self, effects: &Effects) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bucket, change)) = &effects.usage {
            usage.entry(bucket.clone()).or_default().apply(*change);
        }
        if let Some(gone) = &effects.bucket_gone {
            usage.remove(gone);
        }
        drop(usage);
        if !effects.tiers.is_empty() {
            let mut tiers = self.tiers.lock().unwrap_or_else(PoisonError::into_inner);
            for (tier, change) in &effects.tiers {
                tiers.entry(*tier).or_default().apply(*change);
            }
        }
    }

    /// The counters as [`Stats`]; what other parts of the store count is left at zero.
    pub(crate) fn snapshot(&self) -> Stats {
        let per_bucket = self.usage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Stats {
            buckets: per_bucket.len() as u64,
            objects: per_bucket.values().map(|bucket| bucket.objects).sum(),
            logical_bytes: per_bucket.values().map(|bucket| bucket.logical_bytes).sum(),
            stored_bytes: per_bucket.values().map(|bucket| bucket.stored_bytes).sum(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            corrupt_reads: self.corrupt.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            changes: self.changes.load(Ordering::Relaxed),
            requests,
            per_bucket,
            ..Stats::default()
        }
    }
}

impl Stats {
    /// The counters in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let gauges = [
            ("buckets", "Buckets.", self.buckets),
            ("objects", "Objects.", self.objects),
            ("logical_bytes", "Bytes of objects as clients see them.", self.logical_bytes),
            ("stored_bytes", "Bytes of objects on the disk.", self.stored_bytes),
            ("disk_bytes", "Bytes of all extents on the disk.", self.disk_bytes),
            ("cache_bytes", "Bytes of blocks in RAM.", self.cache_bytes),
            ("patrol_finished_seconds", "When all bodies were checked last, Unix time.", self.patrolled_ms / 1_000),
        ];
        let counters = [
            ("cache_hits_total", "Blocks found in RAM.", self.cache_hits),
            ("cache_misses_total", "Blocks read from the disk.", self.cache_misses),
            ("bytes_in_total", "Body bytes taken in.", self.bytes_in),
            ("bytes_out_total", "Body bytes given out.", self.bytes_out),
            ("corrupt_reads_total", "Reads that found wrong bytes.", self.corrupt_reads),
            ("index_damaged_total", "Pages of the index that did not check.", self.index_damaged),
            ("index_repaired_total", "Pages of the index repaired from another drive.", self.index_repaired),
            ("damages_total", "Shards and copies found wrong or missing.", self.damages),
            ("repairs_total", "Shards and copies made good again.", self.repairs),
            ("patrol_bytes_total", "Bytes read and checked without being asked for.", self.patrolled_bytes),
            ("commits_total", "Metadata commits.", self.commits),
            ("changes_total", "Changes made durable by those commits.", self.changes),
        ];
        let capacity = self.capacity_bytes.map(|bytes| ("capacity_bytes", "Configured capacity.", bytes));
        for (name, help, value) in gauges.into_iter().chain(capacity) {
            single(&mut text, name, help, "gauge", value);
        }
        for (name, help, value) in counters {
            single(&mut text, name, help, "counter", value);
        }
        head(&mut text, "requests_total", "S3 requests by operation.", "counter");
        for (operation, count) in &self.requests {
            line(&mut text, &format!("requests_total{{operation=\"{operation}\"}}"), *count);
        }
        let per_bucket: [(&str, &str, Pick); 3] = [
            ("bucket_objects", "Objects of a bucket.", |bucket| bucket.objects),
            ("bucket_logical_bytes", "Bytes of a bucket as clients see them.", |bucket| bucket.logical_bytes),
            ("bucket_stored_bytes", "Bytes of a bucket on the disk.", |bucket| bucket.stored_bytes),
        ];
        for (name, help, pick) in per_bucket {
            head(&mut text, name, help, "gauge");
            for (bucket, usage) in &self.per_bucket {
                line(&mut text, &format!("{name}{{bucket=\"{bucket}\"}}"), pick(usage));
            }
        }
        if self.tiers.is_empty() {
            return text;
        }
        let per_tier: [(&str, &str, Pick); 3] = [
            ("tier_objects", "Objects of a tier.", |held| held.objects),
            ("tier_logical_bytes", "Bytes of a tier as clients see them.", |held| held.logical_bytes),
            ("tier_stored_bytes", "Bytes of a tier before parity.", |held| held.stored_bytes),
        ];
        for (name, help, pick) in per_tier {
            head(&mut text, name, help, "gauge");
            for tier in &self.tiers {
                line(&mut text, &format!("{name}{{tier=\"{}\"}}", tier.name), pick(&tier.held));
            }
        }
        single(&mut text, "moves_total", "Bodies that moved between tiers.", "counter", self.moved.bodies);
        single(&mut text, "moved_bytes_total", "Bytes that moved between tiers.", "counter", self.moved.bytes);
        single(&mut text, "moves_failed_total", "Moves that broke off.", "counter", self.moved.failed);
        text
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok(), "writing into a String does not fail");
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    push(text, format_args!("# HELP datahall_store_{name} {help}\n# TYPE datahall_store_{name} {kind}\n"));
}

fn line(text: &mut String, name: &str, value: u64) {
    push(text, format_args!("datahall_store_{name} {value}\n"));
}

fn single(text: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    head(text, name, help, kind);
    line(text, name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn metrics_are_prometheus_text() {
        let counters = Counters::default();
        counters.request("PutObject");
        counters.request("PutObject");
        let usage = crate::mutation::UsageChange { added: Some((100, 10)), removed: None };
        counters.usage(&Effects { usage: Some(("data".to_owned(), usage)), ..Effects::default() });
        let text = counters.snapshot().prometheus();
        let chosen: Vec<&str> =
            text.lines().filter(|line| line.contains("requests") || line.contains("bucket_")).collect();
        expect![[r#"
            # HELP datahall_store_requests_total S3 requests by operation.
            # TYPE datahall_store_requests_total counter
            datahall_store_requests_total{operation="PutObject"} 2
            # HELP datahall_store_bucket_objects Objects of a bucket.
            # TYPE datahall_store_bucket_objects gauge
            datahall_store_bucket_objects{bucket="data"} 1
            # HELP datahall_store_bucket_logical_bytes Bytes of a bucket as clients see them.
            # TYPE datahall_store_bucket_logical_bytes gauge
            datahall_store_bucket_logical_bytes{bucket="data"} 100
            # HELP datahall_store_bucket_stored_bytes Bytes of a bucket on the disk.
            # TYPE datahall_store_bucket_stored_bytes gauge
            datahall_store_bucket_stored_bytes{bucket="data"} 10"#]]
        .assert_eq(&chosen.join("\n"));
    }
}
