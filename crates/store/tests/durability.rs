//! What was acknowledged is there after every crash, and what was not is there whole or not at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dh_core::{HasKind as _, Kind};
use dh_store::disk::{Fault, SimDisk};
use dh_store::{
    BucketStart, CompletePart, Compression, Condition, Durability, Error, ListQuery, ScrubOptions, Store, StoreConfig,
    UploadStart,
};

const DISK_BYTES: u64 = 64 << 20;

fn config() -> StoreConfig {
    StoreConfig { cache_bytes: 1 << 20, compression: Compression::Auto, ..StoreConfig::new("/store") }
}

async fn open(disk: &SimDisk) -> Result<Store, Error> {
    Store::open_on(Arc::new(disk.clone()), config()).await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build().unwrap()
}

/// A deterministic body: its content tells key and version.
fn body(key: &str, version: u32, length: usize) -> Bytes {
    let line = format!("{key} version {version} ");
    line.bytes().cycle().take(length).collect()
}

/// What the client knows of a key: the last acknowledged body, and those that may have become durable unacknowledged.
#[derive(Debug, Clone, Default)]
struct Ledger {
    acked: BTreeMap<String, Option<Bytes>>,
    maybe: BTreeMap<String, Vec<Option<Bytes>>>,
}

impl Ledger {
    fn record(&mut self, key: &str, after: Option<Bytes>, result: &Result<(), Error>) {
        if result.is_ok() {
            self.acked.insert(key.to_owned(), after);
            self.maybe.remove(key);
        } else {
            self.maybe.entry(key.to_owned()).or_default().push(after);
        }
    }

    async fn check(&self, store: &Store, context: &str) {
        let keys = self.acked.keys().chain(self.maybe.keys());
        for key in keys {
            let found = match store.get_bytes("bucket", key).await {
                Ok(bytes) => Some(bytes),
                Err(Error::NoSuchKey { .. } | Error::NoSuchBucket(_)) => None,
                Err(error) => panic!("{context}: {key}: {error}"),
            };
            let acked = self.acked.get(key).cloned().flatten();
            let allowed = found == acked || self.maybe.get(key).is_some_and(|maybe| maybe.contains(&found));
            assert!(allowed, "{context}: {key} has {:?} bytes", found.map(|bytes| bytes.len()));
        }
        if let Ok(page) = store.list("bucket", ListQuery { limit: 1_000, ..ListQuery::default() }).await {
            for entry in page.entries {
                let bytes = store.get_bytes("bucket", &entry.key).await;
                assert_eq!(bytes.unwrap().len() as u64, entry.info.size, "{context}: {}", entry.key);
            }
        }
    }
}

/// A small life: puts of every size class, replacements, deletes, an upload in parts. Goes on after errors.
async fn workload(store: &Store, ledger: &mut Ledger) {
    let made = store.create_bucket("bucket").await;
    if made.is_err() {
        return;
    }
    for (version, (key, length)) in
        [("small", 100), ("empty", 0), ("medium", 20_000), ("large", 1_100_000), ("small", 300), ("medium", 30_000)]
            .into_iter()
            .enumerate()
    {
        let bytes = body(key, u32::try_from(version).unwrap(), length);
        let result = store.put_bytes("bucket", key, bytes.clone()).await.map(|_info| ());
        ledger.record(key, Some(bytes), &result);
    }
    let result = store.delete("bucket", "small", Condition::Always).await.map(|_existed| ());
    ledger.record("small", None, &result);
    let result = store.delete("bucket", "large", Condition::Always).await.map(|_existed| ());
    ledger.record("large", None, &result);
    let parts = Bytes::from(vec![9; 70_000]);
    let upload = async {
        let upload = store.create_upload("bucket", "parts", UploadStart::default()).await?;
        let mut writer = store.part_body(dh_store::ChecksumKind::Crc32);
        writer.write(parts.clone()).await?;
        let part = store.put_part("bucket", "parts", &upload, 1, writer.finish().await?).await?;
        let named = vec![CompletePart { part: 1, etag: part.etag, checksum: None }];
        store.complete_upload("bucket", "parts", &upload, named, Condition::Always).await.map(|_info| ())
    };
    let result = upload.await;
    ledger.record("parts", Some(parts), &result);
}

/// Bytes that nothing can compress (`SplitMix64`).
fn noise(length: u64) -> Bytes {
    let mix = |i: u64| {
        let z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z.to_le_bytes()[7]
    };
    (1..=length).map(mix).collect()
}

fn operations_of_the_workload() -> (u64, u64) {
    let disk = SimDisk::new(DISK_BYTES);
    runtime().block_on(async {
        let store = open(&disk).await.unwrap();
        let first = disk.operations();
        let mut ledger = Ledger::default();
        workload(&store, &mut ledger).await;
        assert!(ledger.maybe.is_empty() && ledger.acked.len() == 5, "the workload succeeds on a good disk");
        (first, disk.operations())
    })
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_is_cut() {
    let (_first, last) = operations_of_the_workload();
    for at in 0..last {
        runtime().block_on(async {
            let disk = SimDisk::new(DISK_BYTES);
            disk.plan(at, Fault::Cut);
            let mut ledger = Ledger::default();
            if let Ok(store) = open(&disk).await {
                workload(&store, &mut ledger).await;
            }
            for (kind, image) in [("power cut", disk.after_power_cut()), ("kill", disk.after_kill())] {
                let context = format!("{kind} at operation {at} of {last}");
                let store = open(&image).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(store.recovery().missing, 0, "{context}");
                assert_eq!(store.recovery().corrupt_rows, 0, "{context}");
                ledger.check(&store, &context).await;
                store.close().await;
                assert!(image.paths().iter().all(|path| path.extension().is_none_or(|end| end != "tmp")), "{context}");
            }
        });
    }
}

#[test]
fn a_failing_operation_is_not_acknowledged_and_the_rest_goes_on() {
    let (first, last) = operations_of_the_workload();
    let (mut served, mut sealed) = (0, 0);
    for fault in [Fault::Eio, Fault::Full] {
        for at in first..last {
            runtime().block_on(async {
                let context = format!("{fault:?} at operation {at} of {last}");
                let disk = SimDisk::new(DISK_BYTES);
                let store = open(&disk).await.unwrap();
                disk.plan(at, fault);
                let mut ledger = Ledger::default();
                workload(&store, &mut ledger).await;
                disk.heal();
                ledger.check(&store, &context).await;
                let after = store.create_bucket("afterwards").await;
                match after {
                    Ok(()) => {
                        let bytes = body("after", 1, 9_000);
                        store.put_bytes("afterwards", "after", bytes.clone()).await.unwrap();
                        assert_eq!(store.get_bytes("afterwards", "after").await.unwrap(), bytes, "{context}");
                        served += 1;
                    }
                    Err(Error::Sealed(_)) => sealed += 1,
                    Err(error) => panic!("{context}: {error}"),
                }
                store.close().await;
                let store = open(&disk.after_power_cut()).await.unwrap();
                assert_eq!(store.recovery().missing, 0, "{context}");
                ledger.check(&store, &context).await;
            });
        }
    }
    // Only a failed sync ends service, for nobody knows what the only drive holds then.
    assert!(served > 2 * sealed && sealed > 0, "served {served} sealed {sealed}");
}

#[test]
fn every_flipped_bit_is_seen_or_harmless() {
    runtime().block_on(async {
        let disk = SimDisk::new(DISK_BYTES);
        let store = open(&disk).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        let mut wanted = BTreeMap::new();
        let bodies = [
            ("inline", body("inline", 1, 200)),
            ("text", body("text", 1, 50_000)),
            ("noise", noise(60_000)),
            // Large, and small on the disk.
            ("large", body("large", 1, 1_100_000)),
        ];
        for (key, bytes) in bodies {
            store.put_bytes("bucket", key, bytes.clone()).await.unwrap();
            wanted.insert(key, bytes);
        }
        store.close().await;
        drop(store);
        let (mut seen, mut harmless, mut padding) = (0, 0, 0);
        for path in disk.paths() {
            let extent = path.extension().is_some_and(|end| end == "dhx" || end == "dhp");
            let length = if extent { 100_000 } else { 2 << 20 };
            let step = if extent { 59 } else { 331 };
            for byte in (0..length).step_by(step).chain((extent.then_some(0..64)).into_iter().flatten()) {
                let image = disk.after_kill();
                if !image.flip(&path, byte, u8::try_from(byte % 8).unwrap()) {
                    continue;
                }
                let context = format!("{} byte {byte}", path.display());
                let store = match open(&image).await {
                    Ok(store) => store,
                    Err(error) => {
                        assert!(matches!(error.kind(), Kind::Corrupt | Kind::Internal), "{context}: {error}");
                        seen += 1;
                        continue;
                    }
                };
                let mut whole = true;
                for (key, bytes) in &wanted {
                    match store.get_bytes("bucket", key).await {
                        Ok(found) => assert_eq!(found, *bytes, "{context}: wrong bytes for {key}"),
                        Err(error) => {
                            assert_eq!(error.kind(), Kind::Corrupt, "{context}: {error}");
                            whole = false;
                        }
                    }
                }
                if extent && whole {
                    // Chunk checksums and trailers are read when something else is wrong, and by a scrub; the few bytes
                    // between two records of a segment belong to nobody.
                    let damages = store.scrub(ScrubOptions::default()).await.unwrap().damages;
                    if damages.is_empty() {
                        assert!(path.extension().is_some_and(|end| end == "dhp"), "{context}: a flip was not seen");
                        padding += 1;
                    }
                }
                if whole { harmless += 1 } else { seen += 1 }
            }
        }
        assert!(seen > 500 && seen > harmless, "{seen} seen, {harmless} in unused pages");
        assert!(padding <= 4, "{padding} flips in a segment harmed nobody");
    });
}

#[test]
fn a_full_disk_refuses_puts_and_still_reads_and_deletes() {
    runtime().block_on(async {
        let disk = SimDisk::new(24 << 20);
        let store = open(&disk).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        let noise = noise(1_000_000);
        let mut stored = 0;
        let error = loop {
            match store.put_bytes("bucket", &format!("key{stored}"), noise.clone()).await {
                Ok(_info) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 30, "the disk has no room for this");
        };
        assert_eq!(error.kind(), Kind::Full);
        assert!(stored > 5);
        assert_eq!(store.get_bytes("bucket", "key0").await.unwrap(), noise);
        assert!(matches!(store.head("bucket", &format!("key{stored}")).await, Err(Error::NoSuchKey { .. })));
        for key in 0..3 {
            assert!(store.delete("bucket", &format!("key{key}"), Condition::Always).await.unwrap());
        }
        let again = async {
            // The files go on the reaper's thread, soon after the answer.
            while store.put_bytes("bucket", "again", noise.clone()).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), again).await.expect("room again after deletes");
    });
}

#[test]
fn the_capacity_is_kept() {
    runtime().block_on(async {
        let disk = SimDisk::new(DISK_BYTES);
        let config = StoreConfig { capacity_bytes: Some(100_000), compression: Compression::Off, ..config() };
        let store = Store::open_on(Arc::new(disk), config).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        store.put_bytes("bucket", "one", vec![1; 60_000]).await.unwrap();
        let error = store.put_bytes("bucket", "two", vec![2; 60_000]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Full);
        assert_eq!(store.stats().objects, 1);
        assert!(store.stats().disk_bytes <= 100_000);
    });
}

#[test]
fn a_directory_is_open_once() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new(dir.path())).await.unwrap();
        let error = Store::open(StoreConfig::new(dir.path())).await.unwrap_err();
        assert!(matches!(error, Error::Locked(_)), "{error}");
        store.close().await;
        assert!(matches!(store.create_bucket("bucket").await, Err(Error::Closed)));
        Store::open(StoreConfig::new(dir.path())).await.unwrap();
    });
}

#[test]
fn a_missing_extent_is_reported_and_an_orphan_removed() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new(dir.path())).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        for key in ["kept", "lost"] {
            store.put_bytes("bucket", key, body(key, 1, 1_100_000)).await.unwrap();
        }
        drop(store);
        let directory = std::fs::read_dir(dir.path().join("extents")).unwrap().next().unwrap().unwrap().path();
        let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        std::fs::copy(&files[0], directory.join("00000000000000ff.dhx")).unwrap();
        std::fs::write(directory.join("00000000000000fe.tmp"), b"half").unwrap();
        std::fs::remove_file(&files[1]).unwrap();
        let store = Store::open(StoreConfig::new(dir.path())).await.unwrap();
        let recovery = store.recovery();
        assert_eq!((recovery.objects, recovery.missing), (1, 1));
        assert_eq!((recovery.temporary_removed, recovery.orphans_removed), (1, 1));
        assert_eq!(recovery.missing_names, ["bucket/lost"]);
        assert_eq!(store.get_bytes("bucket", "lost").await.unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(store.get_bytes("bucket", "kept").await.unwrap(), body("kept", 1, 1_100_000));
    });
}

#[test]
fn a_lost_index_is_told_and_not_replaced_by_an_empty_one() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new(dir.path())).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        store.put_bytes("bucket", "key", body("key", 1, 20_000)).await.unwrap();
        drop(store);
        std::fs::remove_file(dir.path().join("index.redb")).unwrap();
        let error = Store::open(StoreConfig::new(dir.path())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        let segments = std::fs::read_dir(dir.path().join("segments")).unwrap();
        assert!(segments.count() > 0, "the bodies are still there");
    });
}

#[test]
fn classes_of_durability_promise_what_they_say() {
    runtime().block_on(async {
        let disk = SimDisk::new(DISK_BYTES);
        let store = open(&disk).await.unwrap();
        for (bucket, durability) in [("cached", Durability::Cache), ("grouped", Durability::Group)] {
            let start = BucketStart { durability: Some(durability), ..BucketStart::default() };
            store.create_bucket_with(bucket, start).await.unwrap();
        }
        let before = disk.operations();
        store.put_bytes("cached", "key", "one").await.unwrap();
        assert_eq!(store.get_bytes("cached", "key").await.unwrap(), "one");
        let logged = disk.operations() - before;
        store.put_bytes("grouped", "key", "two").await.unwrap();
        let image = open(&disk.after_power_cut()).await.unwrap();
        assert_eq!(image.get_bytes("grouped", "key").await.unwrap(), "two");
        assert_eq!(image.get_bytes("cached", "key").await.unwrap(), "one", "a sync takes along what came before it");
        assert!(logged < 4, "{logged} operations of the disk");
        store.put_bytes("cached", "key", "three").await.unwrap();
        let image = open(&disk.after_power_cut()).await.unwrap();
        let found = image.get_bytes("cached", "key").await.unwrap();
        assert!(found == "one" || found == "three", "never torn");
        let flushed = async {
            loop {
                let image = open(&disk.after_power_cut()).await.unwrap();
                if image.get_bytes("cached", "key").await.unwrap() == "three" {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_mins(1), flushed).await.expect("durable soon");
    });
}
