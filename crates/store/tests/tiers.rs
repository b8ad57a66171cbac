//! Tiers on simulated disks and a simulated other store: what moves where, that it reads back, and what failures cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dh_store::disk::SimDisk;
use dh_store::{
    Annotation, Calendar, Code, CompletePart, Compression, Condition, DriveConfig, Error, Expiry, ObjectMeta,
    RangeRequest, RemoteError, RemoteObjects, Rule, Store, StoreConfig, TierConfig, TierGround, Tiering, Transition,
    UploadStart, Version,
};

const DAY: u64 = 86_400_000;

/// Another store, in memory.
#[derive(Debug, Default)]
struct Elsewhere {
    objects: Mutex<BTreeMap<String, Bytes>>,
    away: Mutex<bool>,
}

impl Elsewhere {
    fn ask(&self) -> Result<(), RemoteError> {
        if *self.away.lock().unwrap() { Err(RemoteError::Away("the line is cut".to_owned())) } else { Ok(()) }
    }

    fn go(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    fn count(&self) -> usize {
        self.objects.lock().unwrap().len()
    }
}

impl RemoteObjects for Elsewhere {
    fn put(&self, name: &str, body: Bytes) -> Result<(), RemoteError> {
        self.ask()?;
        self.objects.lock().unwrap().insert(name.to_owned(), body);
        Ok(())
    }

    fn get(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, RemoteError> {
        self.ask()?;
        let objects = self.objects.lock().unwrap();
        let body = objects.get(name).ok_or_else(|| RemoteError::Lost(format!("there is no {name}")))?;
        let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + length).unwrap());
        if to > body.len() {
            return Err(RemoteError::Lost(format!("{name} is too short")));
        }
        Ok(body.slice(from..to))
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.ask()?;
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }
}

fn drives(names: &[&str]) -> Vec<DriveConfig> {
    names.iter().map(|name| DriveConfig { dir: format!("/{name}").into() }).collect()
}

fn config(far: &Arc<Elsewhere>) -> StoreConfig {
    StoreConfig {
        drives: drives(&["warm0", "warm1"]),
        code: Code { data: 1, parity: 1 },
        cache_bytes: 0,
        tiers: vec![
            TierConfig {
                name: "cold".to_owned(),
                class: "STANDARD_IA".to_owned(),
                ground: TierGround::Drives {
                    drives: drives(&["cold0", "cold1", "cold2"]),
                    code: Code { data: 2, parity: 1 },
                    capacity_bytes: None,
                },
                after_ms: Some(30 * DAY),
                compression: Some(Compression::Zstd),
            },
            TierConfig {
                name: "far".to_owned(),
                class: "GLACIER_IR".to_owned(),
                ground: TierGround::Remote(Arc::clone(far) as Arc<dyn RemoteObjects>),
                after_ms: Some(180 * DAY),
                compression: None,
            },
        ],
        // Passes are asked for, not waited for.
        tiering: Tiering { every_ms: u64::MAX / 4, bytes_min: 5_000, promote_at: 5, ..Tiering::default() },
        ..StoreConfig::new("/store")
    }
}

async fn open(disk: &SimDisk, far: &Arc<Elsewhere>) -> Store {
    Store::open_on(Arc::new(disk.clone()), config(far)).await.unwrap()
}

fn now() -> u64 {
    Calendar::real().now_ms
}

fn text(tag: u64, length: usize) -> Bytes {
    format!("object {tag} of the hall, ").bytes().cycle().take(length).collect()
}

fn noise(tag: u64, length: usize) -> Bytes {
    let mut state = tag | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn put(store: &Store, key: &str, body: Bytes, class: Option<&str>) {
    let mut writer = store.body();
    writer.write(body).await.unwrap();
    let sealed = writer.finish().await.unwrap();
    let meta = ObjectMeta { storage_class: class.map(str::to_owned), ..ObjectMeta::default() };
    store.put_sealed("data", key, sealed, meta, Condition::Always).await.unwrap();
}

async fn class(store: &Store, key: &str) -> String {
    let info = store.head("data", key).await.unwrap();
    store.class_of(&info).unwrap_or_else(|| "STANDARD".to_owned())
}

fn held(store: &Store) -> Vec<(String, u64)> {
    store.tiers().into_iter().map(|tier| (tier.name, tier.held.objects)).collect()
}

fn counts(own: u64, cold: u64, far: u64) -> Vec<(String, u64)> {
    vec![("own".to_owned(), own), ("cold".to_owned(), cold), ("far".to_owned(), far)]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_moves_down_reads_back_in_ranges_and_comes_up_when_hot() {
    let (disk, far) = (SimDisk::new(1 << 30), Arc::new(Elsewhere::default()));
    let store = open(&disk, &far).await;
    store.create_bucket("data").await.unwrap();
    let bodies: Vec<(String, Bytes)> = [
        ("inline", text(1, 900)),
        ("small", text(2, 4_500)),
        ("packed", text(3, 40_000)),
        ("blocks", noise(4, 700_001)),
        ("large", text(5, 3_000_003)),
        ("chunks", noise(6, 20 << 20)),
    ]
    .map(|(key, body)| (key.to_owned(), body))
    .to_vec();
    for (key, body) in &bodies {
        put(&store, key, body.clone(), None).await;
    }
    store.retier(now()).await.unwrap();
    assert_eq!(held(&store), counts(6, 0, 0), "fresh objects stay");
    for (days, counted, wanted) in [(31, counts(2, 4, 0), "STANDARD_IA"), (181, counts(2, 0, 4), "GLACIER_IR")] {
        let moved = store.retier(now() + days * DAY).await.unwrap();
        assert_eq!((moved.failed, held(&store)), (0, counted));
        for (key, body) in &bodies {
            let stays = body.len() < 5_000;
            assert_eq!(class(&store, key).await, if stays { "STANDARD" } else { wanted }, "{key}");
            let from = body.len() as u64 / 3;
            let part = store.object("data", key).await.unwrap();
            let part = part.bytes(RangeRequest::Between(from, Some(from + 300_000))).await.unwrap();
            let (from, to) = (body.len() / 3, (body.len() / 3 + 300_001).min(body.len()));
            assert_eq!(part, body.slice(from..to), "{key} after {days} days");
            assert_eq!(store.get_bytes("data", key).await.unwrap(), *body, "{key} after {days} days");
        }
        // What was read twice is warmer than what nobody reads, and not yet hot.
        store.retier(now() + days * DAY).await.unwrap();
        assert_eq!(store.scrub(dh_store::ScrubOptions::default()).await.unwrap().damages, []);
    }
    // One object of two blocks' worth and more: nothing of it is readable there, not even its name.
    for (name, body) in far.objects.lock().unwrap().iter() {
        assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert!(!body.windows(11).any(|part| part == b"of the hall"));
    }
    // A thread of its own removes files.
    for _round in 0..1_000 {
        if store.tiers()[1].disk_bytes == Some(0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(store.tiers()[1].disk_bytes, Some(0), "the cold drives gave their bytes back");
    store.close().await;

    let store = open(&disk, &far).await;
    assert_eq!(held(&store), counts(2, 0, 4), "counts outlive the store");
    for _read in 0..6 {
        assert_eq!(store.get_bytes("data", "large").await.unwrap(), bodies[4].1);
    }
    let moved = store.retier(now()).await.unwrap();
    assert_eq!((held(&store), moved.failed), (counts(3, 0, 3), 0));
    assert_eq!(class(&store, "large").await, "STANDARD");
    assert_eq!(store.get_bytes("data", "large").await.unwrap(), bodies[4].1);
    store.delete("data", "chunks", Condition::Always).await.unwrap();
    store.delete("data", "packed", Condition::Always).await.unwrap();
    store.retier(now()).await.unwrap();
    assert_eq!((far.count(), store.moving().2), (1, 0), "only `blocks` is left there");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_class_of_a_put_and_of_a_lifecycle_choose_the_tier() {
    let (disk, far) = (SimDisk::new(1 << 30), Arc::new(Elsewhere::default()));
    let store = open(&disk, &far).await;
    store.create_bucket("data").await.unwrap();
    put(&store, "ia", noise(1, 4_500), Some("STANDARD_IA")).await;
    put(&store, "gir", noise(2, 60_000), Some("GLACIER_IR")).await;
    put(&store, "log/a", noise(3, 60_000), None).await;
    put(&store, "plain", noise(4, 60_000), None).await;
    store.retier(now()).await.unwrap();
    assert_eq!(held(&store), counts(2, 1, 1), "a class moves small objects too");
    let rule = Rule {
        prefix: "log/".to_owned(),
        transitions: vec![
            Transition { when: Expiry::Days(1), class: "STANDARD_IA".to_owned(), keep: 0 },
            Transition { when: Expiry::Days(90), class: "GLACIER_IR".to_owned(), keep: 0 },
        ],
        ..Rule::default()
    };
    let sweep = async |days: u64| {
        let calendar = Calendar { now_ms: now() + days * DAY, day_ms: DAY };
        let swept = store.sweep("data", std::slice::from_ref(&rule), calendar).await.unwrap();
        store.retier(now()).await.unwrap();
        swept.transitions
    };
    assert_eq!((sweep(0).await, held(&store)), (0, counts(2, 1, 1)));
    assert_eq!((sweep(2).await, held(&store)), (1, counts(1, 2, 1)));
    assert_eq!((sweep(2).await, held(&store)), (0, counts(1, 2, 1)), "once");
    assert_eq!((sweep(92).await, held(&store)), (1, counts(1, 1, 2)), "down, and not up again");
    assert_eq!(class(&store, "log/a").await, "GLACIER_IR");
    // What was asked for outweighs what is read often.
    for _read in 0..9 {
        store.get_bytes("data", "gir").await.unwrap();
    }
    store.retier(now()).await.unwrap();
    assert_eq!(class(&store, "gir").await, "GLACIER_IR");
    let change = Annotation::StorageClass(None);
    store.annotate("data", "gir", Version::Latest, change, Condition::Always).await.unwrap();
    store.retier(now()).await.unwrap();
    assert_eq!((class(&store, "gir").await.as_str(), held(&store)), ("STANDARD", counts(2, 1, 1)));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_is_away_costs_its_own_objects_only_and_deletes_wait_for_it() {
    let (disk, far) = (SimDisk::new(1 << 30), Arc::new(Elsewhere::default()));
    let store = open(&disk, &far).await;
    store.create_bucket("data").await.unwrap();
    for (key, class) in [("near", None), ("there", Some("GLACIER_IR")), ("gone", Some("GLACIER_IR"))] {
        put(&store, key, noise(7, 60_000), class).await;
    }
    store.retier(now()).await.unwrap();
    assert_eq!(far.count(), 2);
    far.go(true);
    put(&store, "late", noise(8, 60_000), Some("GLACIER_IR")).await;
    assert!(matches!(store.retier(now()).await, Err(Error::Away(_))));
    assert!(matches!(store.get_bytes("data", "there").await, Err(Error::Away(_))));
    for (key, tag) in [("near", 7), ("late", 8)] {
        assert_eq!(store.get_bytes("data", key).await.unwrap(), noise(tag, 60_000));
    }
    store.head("data", "there").await.unwrap();
    assert!(store.delete("data", "gone", Condition::Always).await.unwrap());
    assert!(matches!(store.get_bytes("data", "gone").await, Err(Error::NoSuchKey { .. })));
    store.close().await;
    let store = open(&disk, &far).await;
    assert!(store.moving().2 >= 1, "the delete is not forgotten");
    far.go(false);
    store.retier(now()).await.unwrap();
    assert_eq!((far.count(), store.moving().2), (2, 0), "`there` and `late`");
    assert_eq!(store.get_bytes("data", "there").await.unwrap(), noise(7, 60_000));
    assert_eq!(store.get_bytes("data", "late").await.unwrap(), noise(8, 60_000));
    // An object that was kept back, exchanged or cut is seen.
    let names: Vec<String> = far.objects.lock().unwrap().keys().cloned().collect();
    let first = far.objects.lock().unwrap()[&names[0]].clone();
    let second = far.objects.lock().unwrap().insert(names[1].clone(), first).unwrap();
    let mut failed = 0;
    for key in ["there", "late"] {
        failed += usize::from(matches!(store.get_bytes("data", key).await, Err(Error::Corrupt { .. })));
    }
    assert_eq!(failed, 1);
    far.objects.lock().unwrap().insert(names[1].clone(), second);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_encrypted_objects_move_as_they_are_and_readers_keep_what_they_read() {
    let (disk, far) = (SimDisk::new(1 << 30), Arc::new(Elsewhere::default()));
    let store = open(&disk, &far).await;
    store.create_bucket("data").await.unwrap();
    let upload = store.create_upload("data", "parts", UploadStart::default()).await.unwrap();
    let mut named = Vec::new();
    for part in 1..=3_u32 {
        let mut writer = store.part_body(dh_store::ChecksumKind::Crc32);
        writer.write(noise(u64::from(part), 5 << 20)).await.unwrap();
        let put = store.put_part("data", "parts", &upload, part, writer.finish().await.unwrap()).await.unwrap();
        named.push(CompletePart { part, etag: put.etag, checksum: None });
    }
    store.complete_upload("data", "parts", &upload, named, Condition::Always).await.unwrap();
    let whole: Bytes = (1..=3).flat_map(|part| noise(part, 5 << 20)).collect();
    let cipher = Arc::new(dh_store::Cipher::new(&[7; 32]).unwrap());
    let mut writer = store.body().encrypted(Arc::clone(&cipher));
    writer.write(text(9, 600_000)).await.unwrap();
    let sse = dh_store::Sse { scheme: "SSE-C".to_owned(), ..dh_store::Sse::default() };
    let meta = ObjectMeta { sse: Some(sse), ..ObjectMeta::default() };
    let sealed = writer.finish().await.unwrap();
    store.put_sealed("data", "secret", sealed, meta, Condition::Always).await.unwrap();
    for days in [31, 181] {
        let reader = store.object("data", "parts").await.unwrap();
        let before = store.object("data", "secret").await.unwrap();
        store.retier(now() + days * DAY).await.unwrap();
        assert_eq!(reader.bytes(RangeRequest::Whole).await.unwrap(), whole, "read from where it was");
        let before = before.decrypted(Some(Arc::clone(&cipher))).bytes(RangeRequest::Whole).await.unwrap();
        assert_eq!(before, text(9, 600_000));
        let secret = store.object("data", "secret").await.unwrap().decrypted(Some(Arc::clone(&cipher)));
        assert_eq!(secret.bytes(RangeRequest::Whole).await.unwrap(), text(9, 600_000));
        assert_eq!(store.get_bytes("data", "parts").await.unwrap(), whole);
    }
    assert_eq!(held(&store), counts(0, 0, 2));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_drives_send_the_coldest_away_and_a_tier_is_not_forgotten() {
    let (disk, far) = (SimDisk::new(1 << 30), Arc::new(Elsewhere::default()));
    let config = StoreConfig { capacity_bytes: Some(2_000_000), ..config(&far) };
    let store = Store::open_on(Arc::new(disk.clone()), config.clone()).await.unwrap();
    store.create_bucket("data").await.unwrap();
    for index in 0..8 {
        put(&store, &format!("{index}"), noise(index, 100_000), None).await;
    }
    for index in [0, 1, 2, 5] {
        store.get_bytes("data", &format!("{index}")).await.unwrap();
    }
    store.retier(now()).await.unwrap();
    assert_eq!(held(&store), counts(8, 0, 0), "1.6 of 2 MB are below the mark");
    put(&store, "8", noise(8, 100_000), None).await;
    put(&store, "9", noise(9, 60_000), None).await;
    store.retier(now()).await.unwrap();
    let moved = held(&store)[1].1;
    assert!((1..=3).contains(&moved), "{moved}");
    for index in [0, 1, 2, 5] {
        assert_eq!(class(&store, &format!("{index}")).await, "STANDARD", "{index} was read");
    }
    store.close().await;
    let less = StoreConfig { tiers: config.tiers[1..].to_vec(), ..config.clone() };
    let error = Store::open_on(Arc::new(disk.clone()), less).await.unwrap_err().to_string();
    assert!(error.contains("tier `cold`"), "{error}");
    let mut other = config.clone();
    if let TierGround::Drives { drives: dirs, .. } = &mut other.tiers[0].ground {
        *dirs = drives(&["other0", "other1", "other2"]);
    }
    let error = Store::open_on(Arc::new(disk.clone()), other).await.unwrap_err().to_string();
    assert!(error.contains("are not the drives"), "{error}");
    let store = Store::open_on(Arc::new(disk.clone()), config).await.unwrap();
    for index in 0..9 {
        assert_eq!(store.get_bytes("data", &format!("{index}")).await.unwrap(), noise(index, 100_000));
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_of_the_other_store_finds_what_was_changed_there_and_says_what_does_not_answer() {
    let (disk, far) = (SimDisk::new(1 << 30), Arc::new(Elsewhere::default()));
    let store = open(&disk, &far).await;
    store.create_bucket("data").await.unwrap();
    for (key, length) in [("good", 300_000), ("bad", 200_000)] {
        put(&store, key, noise(length as u64, length), Some("GLACIER_IR")).await;
    }
    store.retier(now()).await.unwrap();
    assert_eq!(held(&store), counts(0, 0, 2));
    let scrub = |remote| dh_store::ScrubOptions { remote, ..dh_store::ScrubOptions::default() };
    let report = store.scrub(scrub(false)).await.unwrap();
    assert_eq!((report.bodies, report.bytes), (0, 0), "nothing is asked of it unless that is wanted");
    let report = store.scrub(scrub(true)).await.unwrap();
    assert_eq!((report.bodies, report.damages.len(), report.away), (2, 0, 0));
    assert!(report.bytes >= 500_000, "{}", report.bytes);
    {
        let mut objects = far.objects.lock().unwrap();
        let (name, body) = objects.iter().min_by_key(|(_name, body)| body.len()).unwrap();
        let (name, mut body) = (name.clone(), body.to_vec());
        *body.last_mut().unwrap() ^= 1;
        objects.insert(name, body.into());
    }
    let report = store.scrub(scrub(true)).await.unwrap();
    let found: Vec<_> =
        report.damages.iter().map(|one| (one.object.as_deref(), one.drive.as_str(), one.repaired)).collect();
    assert_eq!(found, [(Some("data/bad"), "tier far", false)]);
    far.go(true);
    let report = store.scrub(scrub(true)).await.unwrap();
    assert_eq!((report.bodies, report.damages.len(), report.away), (2, 0, 2));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_reads_survives_closing_and_a_kill() {
    let (disk, far) = (SimDisk::new(1 << 30), Arc::new(Elsewhere::default()));
    let store = open(&disk, &far).await;
    store.create_bucket("data").await.unwrap();
    for key in ["read", "other"] {
        put(&store, key, noise(7, 50_000), None).await;
    }
    store.retier(now() + 40 * DAY).await.unwrap();
    assert_eq!(held(&store), counts(0, 2, 0));
    // Not often enough to bring it back.
    for _read in 0..4 {
        drop(store.object("data", "read").await.unwrap());
    }
    store.close().await;
    drop(store);
    let store = open(&disk, &far).await;
    assert_eq!(store.moving().1, 1, "the reads of one are known");
    drop(store.object("data", "read").await.unwrap());
    store.retier(now()).await.unwrap();
    assert_eq!(held(&store), counts(1, 1, 0), "the fifth read counts with the four before");
    // A kill: what lies on the disk is of an open store, so nothing counts as idle for longer than since then.
    let left = disk.after_power_cut();
    let killed = open(&left, &far).await;
    assert_eq!(killed.get_bytes("data", "read").await.unwrap(), noise(7, 50_000));
    killed.retier(now() + 29 * DAY).await.unwrap();
    assert_eq!(held(&killed), counts(1, 1, 0));
    killed.close().await;
    store.close().await;
}
