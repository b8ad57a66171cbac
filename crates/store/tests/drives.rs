//! Bodies over several drives: any `m` of `k + m` may go, at any moment, and what was acknowledged is still there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use dh_core::{HasKind as _, Kind};
use dh_store::disk::{Fault, SimDisk};
use dh_store::{Code, Compression, Condition, DriveConfig, DriveState, Error, ScrubOptions, Store, StoreConfig};

const DISK_BYTES: u64 = 512 << 20;

fn drive(index: usize) -> PathBuf {
    PathBuf::from(format!("/drive{index}"))
}

fn config(code: Code, drives: usize) -> StoreConfig {
    StoreConfig {
        cache_bytes: 0,
        compression: Compression::Auto,
        code,
        drives: (0..drives).map(|index| DriveConfig { dir: drive(index) }).collect(),
        segment_bytes: 2 << 20,
        ..StoreConfig::new("/store")
    }
}

async fn open(disk: &SimDisk, code: Code) -> Result<Store, Error> {
    Store::open_on(Arc::new(disk.clone()), config(code, code.total())).await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build().unwrap()
}

/// Bytes that nothing can compress (`SplitMix64`).
fn noise(seed: u64, length: u64) -> Bytes {
    let mix = |i: u64| {
        let z = (i + (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z.to_le_bytes()[7]
    };
    (1..=length).map(mix).collect()
}

type Bodies = BTreeMap<String, Bytes>;

/// Bodies of every kind: inline, packed, large; noise and text; whole and partial stripes.
async fn fill(store: &Store, round: u64) -> Bodies {
    let mut bodies = Bodies::new();
    for (index, length) in [100, 20_000, 300_000, (1 << 20) + 1].into_iter().enumerate() {
        let body = noise(round * 10 + index as u64, length);
        bodies.insert(format!("noise{round}-{length}"), body);
    }
    let text: Bytes = format!("round {round}, ").into_bytes().into_iter().cycle().take(1_100_000).collect();
    bodies.insert(format!("text{round}"), text);
    for (key, body) in &bodies {
        store.put_bytes("bucket", key, body.clone()).await.unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    bodies
}

async fn check(store: &Store, bodies: &Bodies, context: &str) {
    for (key, body) in bodies {
        match store.get_bytes("bucket", key).await {
            Ok(found) => assert!(found == body, "{context}: {key} has other bytes"),
            Err(error) => panic!("{context}: {key}: {error}"),
        }
    }
}

/// All ways to choose `m` of `n`, or a sample of them.
fn choices(n: usize, m: usize) -> Vec<Vec<usize>> {
    let all = (0_u32..1 << n).filter(|set| set.count_ones() as usize == m);
    let all: Vec<Vec<usize>> = all.map(|set| (0..n).filter(|index| set >> index & 1 == 1).collect()).collect();
    let step = all.len().div_ceil(4);
    all.into_iter().step_by(step).collect()
}

const CODES: [Code; 5] = [
    Code::SINGLE,
    Code { data: 1, parity: 1 },
    Code { data: 2, parity: 1 },
    Code { data: 4, parity: 2 },
    Code { data: 8, parity: 3 },
];

#[test]
fn any_m_drives_may_be_lost_while_the_store_is_open_and_before_it_opens() {
    for code in CODES {
        runtime().block_on(async {
            let disk = SimDisk::new(DISK_BYTES);
            let store = open(&disk, code).await.unwrap();
            store.create_bucket("bucket").await.unwrap();
            let bodies = fill(&store, 0).await;
            check(&store, &bodies, &format!("{code}")).await;
            assert!(store.drives().iter().all(|drive| drive.state == DriveState::Serving));
            store.close().await;
            for lost in choices(code.total(), usize::from(code.parity)) {
                let context = format!("{code} without {lost:?}");
                let image = disk.after_power_cut();
                let store = open(&image, code).await.unwrap();
                for index in &lost {
                    image.lose(&drive(*index));
                }
                check(&store, &bodies, &context).await;
                store.close().await;
                drop(store);
                let again = open(&image, code).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(again.recovery().missing, 0, "{context}");
                check(&again, &bodies, &format!("{context}, opened again")).await;
            }
        });
    }
}

#[test]
fn one_drive_more_is_refused_by_name() {
    runtime().block_on(async {
        let code = Code { data: 2, parity: 1 };
        let disk = SimDisk::new(DISK_BYTES);
        let store = open(&disk, code).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        store.put_bytes("bucket", "key", noise(1, 1_100_000)).await.unwrap();
        disk.lose(&drive(0));
        disk.lose(&drive(2));
        let error = store.get_bytes("bucket", "key").await.unwrap_err();
        assert!(!matches!(error, Error::NoSuchKey { .. }), "{error}");
        store.close().await;
        drop(store);
        let error = open(&disk.after_kill(), code).await.unwrap_err().to_string();
        assert!(error.contains("/drive0") && error.contains("/drive2") && !error.contains("/drive1"), "{error}");
    });
}

#[test]
fn swapped_foreign_and_unknown_drives_are_refused_by_name() {
    runtime().block_on(async {
        let code = Code { data: 2, parity: 1 };
        let disk = SimDisk::new(DISK_BYTES);
        open(&disk, code).await.unwrap().close().await;
        let mut swapped = config(code, 3);
        swapped.drives.swap(0, 1);
        let error = Store::open_on(Arc::new(disk.clone()), swapped).await.unwrap_err().to_string();
        assert!(error.contains("/drive1 is drive 1"), "{error}");
        let mut other = config(code, 3);
        other.dir = "/other".into();
        for (index, drive) in other.drives.iter_mut().enumerate() {
            drive.dir = format!("/other{index}").into();
        }
        Store::open_on(Arc::new(disk.clone()), other).await.unwrap().close().await;
        let mut foreign = config(code, 3);
        foreign.drives[2].dir = "/other2".into();
        let error = Store::open_on(Arc::new(disk.clone()), foreign).await.unwrap_err().to_string();
        assert!(error.contains("foreign"), "{error}");
        let error = open(&disk, Code { data: 1, parity: 2 }).await.unwrap_err().to_string();
        assert!(error.contains("2+1") && error.contains("1+2"), "{error}");
    });
}

#[test]
fn what_is_written_without_a_drive_bears_the_loss_of_another_only_as_far_as_parity_goes() {
    runtime().block_on(async {
        let code = Code { data: 4, parity: 2 };
        let disk = SimDisk::new(DISK_BYTES);
        let store = open(&disk, code).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        let mut bodies = fill(&store, 0).await;
        disk.lose(&drive(3));
        bodies.extend(fill(&store, 1).await);
        assert!(matches!(store.drives()[3].state, DriveState::Fenced(_)), "{:?}", store.drives()[3]);
        disk.lose(&drive(5));
        check(&store, &bodies, "two lost").await;
        store.close().await;
        drop(store);
        // The drive that was away comes back: it is known to be stale, and is not believed.
        disk.find(&drive(3));
        disk.find(&drive(5));
        let store = open(&disk, code).await.unwrap();
        assert_eq!(store.drives()[3].state, DriveState::Stale);
        check(&store, &bodies, "stale").await;
    });
}

#[test]
fn a_drive_that_goes_at_any_operation_loses_nothing_acknowledged() {
    let code = Code { data: 2, parity: 1 };
    let life = |at: Option<(u64, usize)>| {
        runtime().block_on(async {
            let disk = SimDisk::new(DISK_BYTES);
            let store = open(&disk, code).await.unwrap();
            store.create_bucket("bucket").await.unwrap();
            let first = disk.operations();
            if let Some((at, index)) = at {
                disk.lose_at(at, &drive(index));
            }
            let context = format!("{at:?}");
            let mut bodies = Bodies::new();
            for (seed, length) in [(1, 20_000), (2, 1_060_000), (3, 5_000)] {
                let body = noise(seed, length);
                let put = store.put_bytes("bucket", &format!("key{seed}"), body.clone()).await;
                put.unwrap_or_else(|error| panic!("{context}: key{seed}: {error}"));
                bodies.insert(format!("key{seed}"), body);
            }
            check(&store, &bodies, &context).await;
            let image = disk.after_power_cut();
            let again = open(&image, code).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            check(&again, &bodies, &context).await;
            (first, disk.operations())
        })
    };
    let (first, last) = life(None);
    for at in first..last {
        life(Some((at, usize::try_from(at % 3).unwrap())));
    }
}

#[test]
fn every_kind_of_damage_to_every_kind_of_file_is_found_by_name_and_repaired() {
    runtime().block_on(async {
        let code = Code { data: 2, parity: 1 };
        let disk = SimDisk::new(DISK_BYTES);
        let store = open(&disk, code).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        let mut bodies = fill(&store, 0).await;
        // The segment is closed and coded, another one is open.
        for seed in 20..24 {
            let body = noise(seed, 600_000);
            store.put_bytes("bucket", &format!("more{seed}"), body.clone()).await.unwrap();
            bodies.insert(format!("more{seed}"), body);
        }
        assert!(store.reclaim().await.unwrap().coded > 0);
        check(&store, &bodies, "coded").await;
        store.close().await;
        drop(store);
        let files: Vec<PathBuf> = disk
            .paths()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "dhx" || end == "dhs" || end == "dhp"))
            .collect();
        assert!(["dhx", "dhs", "dhp"].iter().all(|kind| files.iter().any(|path| path.extension().unwrap() == *kind)));
        let other = disk.bytes(&files[0]).unwrap();
        for path in &files {
            let length = disk.bytes(path).unwrap().len();
            for damage in 0..5 {
                let context = format!("damage {damage} of {}", path.display());
                let image = disk.after_kill();
                image.edit(path, |bytes| match damage {
                    0 => bytes[length / 3] ^= 4,
                    1 => bytes[length / 4..length / 4 + 4096.min(length / 2)].fill(0),
                    2 => bytes.truncate(length / 2),
                    // Another file's bytes: a misdirected write.
                    3 => bytes[..4096.min(length)].copy_from_slice(&other[8192..8192 + 4096.min(length)]),
                    _ => bytes[length - 20] ^= 1,
                });
                let store = open(&image, code).await.unwrap();
                let report = store.scrub(ScrubOptions::default()).await.unwrap();
                let copy = path.extension().unwrap() == "dhp";
                assert!(!report.damages.is_empty() || copy, "{context}");
                for found in &report.damages {
                    assert!(found.repaired, "{context}: {found:?}");
                    assert!(
                        path.starts_with(&found.drive) && found.file == path.display().to_string(),
                        "{context}: {found:?}"
                    );
                    assert!(
                        found.object.as_ref().is_some_and(|name| name.starts_with("bucket/")),
                        "{context}: {found:?}"
                    );
                }
                let again = store.scrub(ScrubOptions::default()).await.unwrap();
                assert!(again.damages.is_empty(), "{context}: {:?}", again.damages);
                store.close().await;
            }
            let image = disk.after_kill();
            image.edit(path, |bytes| bytes.iter_mut().step_by(777).for_each(|byte| *byte ^= 0x20));
            let store = open(&image, code).await.unwrap();
            let context = format!("read with {} damaged all over", path.display());
            check(&store, &bodies, &context).await;
            // Reading mended what it came across.
            assert!(
                store.damages().iter().all(|found| found.repaired && found.file == path.display().to_string()),
                "{context}"
            );
            store.close().await;
        }
    });
}

#[test]
fn without_redundancy_damage_is_told_and_never_served() {
    runtime().block_on(async {
        let disk = SimDisk::new(DISK_BYTES);
        let store = open(&disk, Code::SINGLE).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        let bodies = fill(&store, 0).await;
        store.close().await;
        drop(store);
        for path in disk
            .paths()
            .into_iter()
            .filter(|path| path.starts_with("/drive0/extents") || path.starts_with("/drive0/segments"))
        {
            disk.edit(&path, |bytes| bytes.iter_mut().step_by(1_001).for_each(|byte| *byte ^= 1));
        }
        let store = open(&disk, Code::SINGLE).await.unwrap();
        for key in bodies.keys().filter(|key| !key.ends_with("-100")) {
            let error = store.get_bytes("bucket", key).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{key}: {error}");
        }
        let report = store.scrub(ScrubOptions::default()).await.unwrap();
        assert!(report.damages.iter().all(|damage| !damage.repaired && damage.drive == "/drive0"));
        for key in bodies.keys().filter(|key| !key.ends_with("-100")) {
            let name = format!("bucket/{key}");
            assert!(report.damages.iter().any(|damage| damage.object.as_ref() == Some(&name)), "{name}");
        }
    });
}

#[test]
fn a_replaced_drive_is_filled_while_serving_and_then_bears_the_loss_of_others() {
    for code in [Code { data: 1, parity: 1 }, Code { data: 4, parity: 2 }] {
        runtime().block_on(async {
            let disk = SimDisk::new(DISK_BYTES);
            let store = open(&disk, code).await.unwrap();
            store.create_bucket("bucket").await.unwrap();
            let mut bodies = fill(&store, 0).await;
            store.reclaim().await.unwrap();
            disk.lose(&drive(0));
            // Reads and writes go on until the drive is fenced, and after.
            check(&store, &bodies, "lost").await;
            bodies.extend(fill(&store, 1).await);
            while store.drives()[0].state == DriveState::Serving {
                check(&store, &bodies, "lost").await;
            }
            disk.wipe(&drive(0));
            if code.parity > 1 {
                disk.lose(&drive(3));
            }
            store.replace_drive(0).await.unwrap_or_else(|error| panic!("{code}: {error}"));
            assert_eq!(store.drives()[0].state, DriveState::Serving);
            disk.lose(&drive(1));
            check(&store, &bodies, &format!("{code}: filled, another lost")).await;
            store.close().await;
            drop(store);
            let store = open(&disk, code).await.unwrap();
            check(&store, &bodies, &format!("{code}: opened again")).await;
        });
    }
}

#[test]
fn deletes_free_the_bytes_of_coded_segments() {
    runtime().block_on(async {
        let code = Code { data: 2, parity: 1 };
        let disk = SimDisk::new(DISK_BYTES);
        let store = open(&disk, code).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        for index in 0..10 {
            store.put_bytes("bucket", &format!("key{index}"), noise(index, 400_000)).await.unwrap();
        }
        store.close().await;
        drop(store);
        let size = || -> usize {
            let segments =
                disk.paths().into_iter().filter(|path| path.components().any(|part| part.as_os_str() == "segments"));
            segments.map(|path| disk.bytes(&path).unwrap().len()).sum()
        };
        let copies = size();
        // Opened again, every segment is closed.
        let store = open(&disk, code).await.unwrap();
        assert_eq!(store.reclaim().await.unwrap().coded, 2);
        let coded = size();
        assert!(coded < copies * 4 / 5, "{coded} of {copies}");
        for index in (0..10).filter(|index| index % 4 != 0) {
            store.delete("bucket", &format!("key{index}"), Condition::Always).await.unwrap();
        }
        // The reaper counts freed records on its own thread.
        let mut done = store.reclaim().await.unwrap();
        for _turn in 0..200 {
            if done.compacted > 0 && size() < coded / 2 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            done.compacted += store.reclaim().await.unwrap().compacted;
        }
        assert!(size() < coded / 2, "{} of {coded}", size());
        for index in (0..10).filter(|index| index % 4 == 0) {
            assert_eq!(store.get_bytes("bucket", &format!("key{index}")).await.unwrap(), noise(index, 400_000));
            store.delete("bucket", &format!("key{index}"), Condition::Always).await.unwrap();
        }
        for _turn in 0..200 {
            if size() == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            store.reclaim().await.unwrap();
        }
        panic!("{} bytes are left of nothing", size());
    });
}

#[test]
fn a_scrub_stops_and_goes_on_where_it_stopped() {
    runtime().block_on(async {
        let disk = SimDisk::new(DISK_BYTES);
        let store = open(&disk, Code { data: 1, parity: 1 }).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        fill(&store, 0).await;
        let whole = store.scrub(ScrubOptions::default()).await.unwrap();
        assert!(whole.cursor.is_none() && whole.damages.is_empty());
        let (mut bodies, mut from, mut turns) = (0, None, 0);
        loop {
            let report =
                store.scrub(ScrubOptions { bytes_max: Some(1), from, ..ScrubOptions::default() }).await.unwrap();
            (bodies, turns) = (bodies + report.bodies, turns + 1);
            if report.cursor.is_none() {
                break;
            }
            from = report.cursor;
        }
        assert_eq!(bodies, whole.bodies);
        assert!(turns > 2);
    });
}

/// Puts, a replacement and a delete; what was acknowledged, and what may have happened without that.
async fn small_life(
    store: &Store,
) -> (BTreeMap<&'static str, Option<Bytes>>, BTreeMap<&'static str, Vec<Option<Bytes>>>) {
    let text = |seed: u64, length: usize| -> Bytes {
        format!("body {seed} ").into_bytes().into_iter().cycle().take(length).collect()
    };
    let (mut acked, mut maybe) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
    if store.create_bucket("bucket").await.is_err() {
        return (acked, maybe);
    }
    for (seed, key, length) in
        [(1, "packed", 20_000), (2, "large", 1_060_000), (3, "packed", 9_000), (4, "gone", 30_000)]
    {
        let body = text(seed, length);
        match store.put_bytes("bucket", key, body.clone()).await {
            Ok(_info) => drop(acked.insert(key, Some(body))),
            Err(_error) => maybe.entry(key).or_default().push(Some(body)),
        }
    }
    match store.delete("bucket", "gone", Condition::Always).await {
        Ok(_existed) => drop(acked.insert("gone", None)),
        Err(_error) => maybe.entry("gone").or_default().push(None),
    }
    (acked, maybe)
}

#[test]
fn no_fault_at_any_operation_of_any_drive_loses_what_was_acknowledged() {
    let code = Code { data: 2, parity: 1 };
    let life = |fault: Option<(u64, Fault)>| {
        runtime().block_on(async {
            let disk = SimDisk::new(DISK_BYTES);
            let store = open(&disk, code).await.unwrap();
            let first = disk.operations();
            if let Some((at, fault)) = fault {
                disk.plan(at, fault);
            }
            let (acked, maybe) = small_life(&store).await;
            let last = disk.operations();
            let mut images = vec![disk.after_power_cut(), disk.after_kill()];
            if !matches!(fault, Some((_at, Fault::Cut))) {
                disk.heal();
                store.close().await;
                images.push(disk.after_kill());
            }
            for (index, image) in images.into_iter().enumerate() {
                let context = format!("{fault:?} image {index}");
                let store = open(&image, code).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(store.recovery().missing, 0, "{context}");
                for key in ["packed", "large", "gone"] {
                    let found = match store.get_bytes("bucket", key).await {
                        Ok(bytes) => Some(bytes),
                        Err(Error::NoSuchKey { .. } | Error::NoSuchBucket(_)) => None,
                        Err(error) => panic!("{context}: {key}: {error}"),
                    };
                    let acked = acked.get(key).cloned().flatten();
                    let allowed = found == acked || maybe.get(key).is_some_and(|maybe| maybe.contains(&found));
                    assert!(allowed, "{context}: {key} has {:?} bytes", found.map(|bytes| bytes.len()));
                }
                store.close().await;
            }
            (first, last)
        })
    };
    let (first, last) = life(None);
    for at in first..last {
        for fault in [Fault::Cut, Fault::Eio, Fault::Full] {
            life(Some((at, fault)));
        }
    }
}
