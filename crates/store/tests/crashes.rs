//! The whole store on a simulated disk: a life of 1,000 changes is recorded, and every disk that a power cut could leave
//! at every operation of it is opened and compared with what clients were told.
//!
//! `DH_IMAGES=1000000` looks at so many images: of each life at every operation at least nine. The gate looks at 5,000,
//! which takes a minute of two cores without optimisation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dh_store::disk::{CrashPoints, Fault, SimDisk, Survival};
use dh_store::{
    ChecksumKind, Code, CompletePart, Compression, Condition, DeleteRequest, DriveConfig, Error, Expect, ListQuery,
    RemoteError, RemoteObjects, Store, StoreConfig, TierConfig, TierGround, Tiering, UploadStart, Version,
    VersionEntry, VersionQuery, Versioning,
};

const DISK_BYTES: u64 = 256 << 20;
const CHANGES: usize = 1_000;
/// Set in the tag of a body that is too large for a segment.
const LARGE: u64 = 1 << 63;

/// Where a store lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// In one directory.
    Directory,
    /// On three drives, of which one may be lost.
    Drives,
    /// The same, with two colder drives and another store behind, between which objects move.
    Tiers,
}

impl Layout {
    /// Odd lives in a directory, even ones on drives.
    const fn of(seed: u64) -> Self {
        if seed % 2 == 1 { Self::Directory } else { Self::Drives }
    }
}

/// Another store, which remembers what it was asked for, and after how many operations of the disk.
#[derive(Debug)]
struct Elsewhere {
    disk: SimDisk,
    asked: Mutex<Vec<(u64, String, Option<Bytes>)>>,
}

impl Elsewhere {
    fn beside(disk: &SimDisk) -> Arc<Self> {
        Arc::new(Self { disk: disk.clone(), asked: Mutex::default() })
    }

    /// As it was when the disk had done `done` operations, beside the disk that was left.
    fn after(&self, done: u64, disk: &SimDisk) -> Arc<Self> {
        let asked = self.asked.lock().unwrap();
        let before = asked.iter().filter(|(at, ..)| *at < done);
        let asked = Mutex::new(before.map(|(_at, name, body)| (0, name.clone(), body.clone())).collect());
        Arc::new(Self { disk: disk.clone(), asked })
    }

    fn ask(&self, name: &str, body: Option<Bytes>) {
        self.asked.lock().unwrap().push((self.disk.operations(), name.to_owned(), body));
    }
}

impl RemoteObjects for Elsewhere {
    fn put(&self, name: &str, body: Bytes) -> Result<(), RemoteError> {
        self.ask(name, Some(body));
        Ok(())
    }

    fn get(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, RemoteError> {
        let asked = self.asked.lock().unwrap();
        let last = asked.iter().rev().find(|(_at, have, _body)| have == name);
        let body = last.and_then(|(_at, _name, body)| body.clone());
        let range = usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
        let lost = || RemoteError::Lost(format!("{name} is not there, or too short"));
        body.filter(|body| range.end <= body.len()).map(|body| body.slice(range)).ok_or_else(lost)
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.ask(name, None);
        Ok(())
    }
}

fn tiers(far: &Arc<Elsewhere>) -> Vec<TierConfig> {
    let ground = TierGround::Drives {
        drives: (0..2).map(|index| DriveConfig { dir: format!("/cold{index}").into() }).collect(),
        code: Code { data: 1, parity: 1 },
        capacity_bytes: None,
    };
    let remote = TierGround::Remote(Arc::clone(far) as Arc<dyn RemoteObjects>);
    [("cold", ground, 60_000), ("far", remote, 3_600_000)]
        .map(|(name, ground, after)| TierConfig {
            name: name.to_owned(),
            class: format!("CLASS_{name}"),
            ground,
            after_ms: Some(after),
            compression: Some(Compression::Zstd),
        })
        .to_vec()
}

/// Lets objects move: down if nobody reads them, up if somebody does.
async fn retier(store: &Store, random: &mut Random) -> Result<(), Error> {
    if store.tiers().is_empty() {
        return Ok(());
    }
    for index in 0..6 {
        if random.below(3) == 0 {
            for _read in 0..2 {
                drop(store.object("plain", &format!("plain/{index}")).await);
            }
        }
    }
    let later = if random.below(2) == 0 { 120_000 } else { 43_200_000 };
    store.retier(dh_store::Calendar::real().now_ms + later).await.map(drop)
}

fn config(layout: Layout, far: &Arc<Elsewhere>) -> StoreConfig {
    let compression = Compression::Auto;
    // A short log, so that this life has many checkpoints, and small segments, so that many are closed.
    let config =
        StoreConfig { cache_bytes: 1 << 20, compression, checkpoint_bytes: 24 << 10, ..StoreConfig::new("/store") };
    match layout {
        Layout::Directory => config,
        Layout::Drives | Layout::Tiers => StoreConfig {
            tiers: if layout == Layout::Tiers { tiers(far) } else { Vec::new() },
            tiering: Tiering {
                promote_at: 1,
                half_life_ms: 3_600_000,
                bytes_min: 0,
                every_ms: u64::MAX / 4,
                ..Tiering::default()
            },
            code: Code { data: 2, parity: 1 },
            drives: (0..3).map(|index| DriveConfig { dir: format!("/drive{index}").into() }).collect(),
            segment_bytes: 16 << 10,
            ..config
        },
    }
}

async fn open(disk: &SimDisk, layout: Layout, far: &Arc<Elsewhere>) -> Result<Store, Error> {
    Store::open_on(Arc::new(disk.clone()), config(layout, far)).await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build().unwrap()
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

/// A body that tells its tag; most are inline, some packed, a few have files of their own.
fn body(tag: u64) -> Bytes {
    let mut random = Random(tag);
    let length = match random.below(10) {
        _ if tag & LARGE > 0 => (1 << 20) + random.below(9_000),
        0 => 0,
        1 | 2 => 4_097 + random.below(9_000),
        _ => random.below(600),
    };
    let line = format!("{tag:x} ");
    line.bytes().cycle().take(length).chain(tag.to_le_bytes()).collect()
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// An object of a bucket without versions.
    Plain(String),
    /// An object of a bucket with versions.
    Kept(String),
    Document(String),
    Identity(String),
}

/// The bodies' tags, the newest first; `None` is a delete marker.
type Stack = Vec<Option<u64>>;

#[derive(Debug, Clone)]
struct Event {
    /// Operations of the disk before it began, and when the client was told.
    began: u64,
    told: u64,
    after: Stack,
}

/// What clients did and were told, in order for each thing.
#[derive(Debug, Default)]
struct Ledger {
    events: BTreeMap<Thing, Vec<Event>>,
    /// When the buckets were there.
    ready: u64,
}

impl Ledger {
    fn now(&self, thing: &Thing) -> Stack {
        self.events.get(thing).and_then(|events| events.last()).map(|event| event.after.clone()).unwrap_or_default()
    }

    /// The states that `thing` may be in if the disk did `done` operations.
    fn allowed(&self, thing: &Thing, done: u64) -> Vec<Stack> {
        let mut allowed = vec![Stack::new()];
        for event in self.events.get(thing).into_iter().flatten() {
            if event.told <= done {
                allowed = vec![event.after.clone()];
            } else if event.began < done {
                allowed.push(event.after.clone());
            }
        }
        allowed
    }
}

/// A change as it is planned: what it does and what it leaves.
#[derive(Debug, Clone)]
enum Change {
    Put(u64, Condition),
    /// Put if the object is the one that is there.
    Matching(u64),
    Parts(u64),
    Delete,
    DeleteOldest,
    Refused(u64),
}

async fn put(store: &Store, bucket: &str, key: &str, tag: u64, condition: Condition) -> Result<(), Error> {
    let mut writer = store.body();
    writer.write(body(tag)).await?;
    let sealed = writer.finish().await?;
    store.put_sealed(bucket, key, sealed, dh_store::ObjectMeta::default(), condition).await.map(|_info| ())
}

async fn parts(store: &Store, bucket: &str, key: &str, tag: u64) -> Result<(), Error> {
    let upload = store.create_upload(bucket, key, UploadStart::default()).await?;
    let mut writer = store.part_body(ChecksumKind::Crc32);
    writer.write(body(tag)).await?;
    let part = store.put_part(bucket, key, &upload, 1, writer.finish().await?).await?;
    let again = store.create_upload(bucket, key, UploadStart::default()).await?;
    let mut writer = store.part_body(ChecksumKind::Crc32);
    writer.write(body(tag)).await?;
    store.put_part(bucket, key, &again, 2, writer.finish().await?).await?;
    store.abort_upload(bucket, key, &again).await?;
    let named = vec![CompletePart { part: 1, etag: part.etag, checksum: None }];
    store.complete_upload(bucket, key, &upload, named, Condition::Always).await.map(|_info| ())
}

async fn oldest(store: &Store, key: &str) -> Result<(), Error> {
    let query = VersionQuery { prefix: key.to_owned(), limit: 1_000, ..VersionQuery::default() };
    let page = store.list_versions("kept", query).await?;
    let mut ids = page.entries.iter().filter_map(|entry| match entry {
        VersionEntry::Object { key: have, info, .. } => (have == key).then_some(info.version),
        VersionEntry::Marker { key: have, info, .. } => (have == key).then_some(info.version),
    });
    let version = ids.next_back().map_or(Version::Latest, Version::Id);
    let request = DeleteRequest { version, ..DeleteRequest::default() };
    store.delete_object("kept", key, request).await.map(|_deleted| ())
}

async fn perform(store: &Store, thing: &Thing, change: &Change) -> Result<(), Error> {
    match (thing, change) {
        (Thing::Plain(key), Change::Put(tag, condition)) => put(store, "plain", key, *tag, condition.clone()).await,
        (Thing::Kept(key), Change::Put(tag, condition)) => put(store, "kept", key, *tag, condition.clone()).await,
        (Thing::Plain(key), Change::Matching(tag)) => {
            let condition = Condition::IfMatch(store.head("plain", key).await?.etag);
            put(store, "plain", key, *tag, condition).await
        }
        (Thing::Kept(key), Change::Matching(tag)) => {
            let condition = Condition::IfMatch(store.head("kept", key).await?.etag);
            put(store, "kept", key, *tag, condition).await
        }
        (Thing::Plain(key), Change::Parts(tag)) => parts(store, "plain", key, *tag).await,
        (Thing::Kept(key), Change::Parts(tag)) => parts(store, "kept", key, *tag).await,
        (Thing::Plain(key), Change::Refused(tag)) => {
            let refused = put(store, "plain", key, *tag, Condition::IfMatch("0".repeat(32))).await;
            match refused {
                Err(Error::Precondition(_) | Error::NoSuchKey { .. }) => Ok(()),
                other => other,
            }
        }
        (Thing::Kept(key), Change::DeleteOldest) => oldest(store, key).await,
        (Thing::Plain(key), _) => store.delete("plain", key, Condition::Always).await.map(|_existed| ()),
        (Thing::Kept(key), _) => store.delete("kept", key, Condition::Always).await.map(|_existed| ()),
        (Thing::Document(name), Change::Put(tag, _)) => {
            store.put_document("plain", name, Some(body(*tag).to_vec())).await
        }
        (Thing::Document(name), _) => store.put_document("plain", name, None).await,
        (Thing::Identity(name), Change::Put(tag, _)) => {
            store.identities().put(name, body(*tag).to_vec(), Expect::Anything).await.map(|_revision| ())
        }
        (Thing::Identity(name), _) => store.identities().delete(name, Expect::Anything).await,
    }
}

/// What `change` leaves of `stack`.
fn after(thing: &Thing, change: &Change, stack: &Stack) -> Stack {
    let mut stack = stack.clone();
    let kept = matches!(thing, Thing::Kept(_));
    match change {
        Change::Put(tag, _) | Change::Matching(tag) | Change::Parts(tag) => {
            if !kept {
                stack.clear();
            }
            stack.insert(0, Some(*tag));
        }
        Change::DeleteOldest if kept => {
            if stack.pop().is_none() {
                stack.insert(0, None);
            }
        }
        Change::Delete | Change::DeleteOldest => {
            if kept {
                stack.insert(0, None);
            } else {
                stack.clear();
            }
        }
        Change::Refused(_) => {}
    }
    stack
}

fn things() -> Vec<Thing> {
    let numbered = |count: usize, name: &'static str| (0..count).map(move |index| format!("{name}{index}"));
    numbered(6, "plain/")
        .map(Thing::Plain)
        .chain(numbered(3, "kept/").map(Thing::Kept))
        .chain(numbered(2, "doc").map(Thing::Document))
        .chain(numbered(2, "user/").map(Thing::Identity))
        .collect()
}

fn plan(random: &mut Random, thing: &Thing, now: &Stack, tag: u64) -> Change {
    let object = matches!(thing, Thing::Plain(_) | Thing::Kept(_));
    let tag = if object && random.below(60) == 0 { tag | LARGE } else { tag };
    match random.below(20) {
        0 if object => Change::Parts(tag),
        1 if matches!(thing, Thing::Plain(_)) => Change::Refused(tag),
        2..=4 => Change::Delete,
        5..=8 if matches!(thing, Thing::Kept(_)) && !now.is_empty() => Change::DeleteOldest,
        9 if object => match now.first() {
            Some(Some(_)) if random.below(2) == 0 => Change::Matching(tag),
            Some(Some(_)) => Change::Put(tag, Condition::IfPresent),
            Some(None) | None => Change::Put(tag, Condition::IfAbsent),
        },
        _ if now.len() > 6 => Change::DeleteOldest,
        _ => Change::Put(tag, Condition::Always),
    }
}

/// Lives `changes` changes, several at once of different things, on a good disk.
async fn live(store: &Store, disk: &SimDisk, seed: u64, changes: usize, ledger: &mut Ledger) {
    let mut random = Random(seed);
    for bucket in ["plain", "kept"] {
        store.create_bucket(bucket).await.unwrap();
    }
    store.set_versioning("kept", Versioning::Enabled).await.unwrap();
    ledger.ready = disk.operations();
    let things = things();
    let mut done = 0;
    while done < changes {
        if store.drives().len() > 1 && random.below(40) == 0 {
            store.reclaim().await.unwrap_or_else(|error| panic!("seed {seed}: reclaim: {error}"));
        }
        if random.below(12) == 0 {
            retier(store, &mut random).await.unwrap_or_else(|error| panic!("seed {seed}: a move: {error}"));
        }
        let mut chosen = BTreeSet::new();
        for _hand in 0..=random.below(4) {
            chosen.insert(random.below(things.len()));
        }
        let mut planned = Vec::new();
        for index in chosen {
            let thing = &things[index];
            done += 1;
            let change = plan(&mut random, thing, &ledger.now(thing), seed << 32 | done as u64);
            planned.push((thing, change));
        }
        let began = disk.operations();
        let results = futures::future::join_all(planned.iter().map(|(thing, change)| async {
            let result = perform(store, thing, change).await;
            (result, disk.operations())
        }));
        for ((thing, change), (result, told)) in planned.iter().zip(results.await) {
            let after = after(thing, change, &ledger.now(thing));
            result.unwrap_or_else(|error| panic!("seed {seed}, {thing:?}, {change:?}: {error}"));
            ledger.events.entry((*thing).clone()).or_default().push(Event { began, told, after });
        }
    }
}

fn tag_of(bytes: &[u8]) -> u64 {
    let tag = u64::from_le_bytes(*bytes.last_chunk::<8>().expect("a body tells its tag"));
    assert_eq!(bytes, body(tag), "the body is whole");
    tag
}

async fn found(store: &Store, thing: &Thing) -> Result<Stack, Error> {
    match thing {
        Thing::Plain(key) => match store.get_bytes("plain", key).await {
            Ok(bytes) => Ok(vec![Some(tag_of(&bytes))]),
            Err(Error::NoSuchKey { .. }) => Ok(Stack::new()),
            Err(error) => Err(error),
        },
        Thing::Kept(key) => {
            let query = VersionQuery { prefix: key.clone(), limit: 1_000, ..VersionQuery::default() };
            let mut stack = Stack::new();
            for entry in store.list_versions("kept", query).await?.entries {
                match entry {
                    VersionEntry::Marker { .. } => stack.push(None),
                    VersionEntry::Object { info, key, .. } => {
                        let reader = store.object_version("kept", &key, Version::Id(info.version)).await?;
                        stack.push(Some(tag_of(&reader.bytes(dh_store::RangeRequest::Whole).await?)));
                    }
                }
            }
            Ok(stack)
        }
        Thing::Document(name) => {
            Ok(store.document("plain", name).await?.map(|bytes| Some(tag_of(&bytes))).into_iter().collect())
        }
        Thing::Identity(name) => {
            let entry = store.identities().get(name).await?;
            Ok(entry.map(|entry| Some(tag_of(&entry.bytes))).into_iter().collect())
        }
    }
}

/// Opens the disk and compares; `done` operations had been done when the power went.
async fn check(disk: &SimDisk, (layout, far): (Layout, &Arc<Elsewhere>), ledger: &Ledger, done: u64, context: &str) {
    let store = open(disk, layout, far).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    let recovery = store.recovery().clone();
    assert_eq!((recovery.missing, recovery.corrupt_rows), (0, 0), "{context}");
    if done >= ledger.ready {
        let (mut objects, mut bytes) = (0, 0);
        for thing in ledger.events.keys() {
            let stack = found(&store, thing).await.unwrap_or_else(|error| panic!("{context}: {thing:?}: {error}"));
            let allowed = ledger.allowed(thing, done);
            assert!(allowed.contains(&stack), "{context}: {thing:?} is {stack:x?}, not one of {allowed:x?}");
            if matches!(thing, Thing::Plain(_) | Thing::Kept(_)) {
                objects += stack.iter().flatten().count() as u64;
                bytes += stack.iter().flatten().map(|tag| body(*tag).len() as u64).sum::<u64>();
            }
        }
        let stats = store.stats();
        assert_eq!(
            (stats.objects, stats.logical_bytes),
            (objects, bytes),
            "{context}: the counts are those of the rows"
        );
        let keys = store.list("plain", ListQuery { limit: 1_000, ..ListQuery::default() }).await.unwrap();
        assert!(keys.entries.iter().all(|entry| ledger.events.contains_key(&Thing::Plain(entry.key.clone()))));
    }
    store.close().await;
    assert!(disk.paths().iter().all(|path| path.extension().is_none_or(|end| end != "tmp")), "{context}");
}

/// Looks at `images` images of the life `seed`, spread over its operations; says how many.
fn explore(seed: u64, layout: Layout, images: usize) -> usize {
    let disk = SimDisk::new(DISK_BYTES);
    disk.record();
    let far = Elsewhere::beside(&disk);
    let mut ledger = Ledger::default();
    runtime().block_on(async {
        let store = open(&disk, layout, &far).await.unwrap();
        live(&store, &disk, seed, CHANGES, &mut ledger).await;
        if layout == Layout::Tiers {
            let moved = store.stats().moved;
            assert!(moved.bodies > 30 && moved.failed == 0, "{moved:?}");
        }
        store.close().await;
    });
    let events: Vec<&Event> = ledger.events.values().flatten().collect();
    assert!(
        events.len() >= CHANGES && events.iter().all(|event| event.told < u64::MAX),
        "a life on a good disk succeeds"
    );
    let mut points = CrashPoints::of(&disk);
    let steps = points.left();
    let runtime = runtime();
    let (mut seen, mut step) = (0, 0);
    while let Some(operation) = points.advance() {
        step += 1;
        // The images are spread evenly over the operations, and the ways to die over the images.
        while seen < images * step / steps {
            let kinds = Survival::all(seed << 48 ^ seen as u64);
            let kind = kinds[seen % kinds.len()];
            let context = format!("seed {seed}, operation {operation}, {kind:?}");
            let image = points.image(kind);
            let far = far.after(operation + 1, &image);
            runtime.block_on(check(&image, (layout, &far), &ledger, operation + 1, &context));
            seen += 1;
        }
    }
    seen
}

fn images() -> usize {
    std::env::var("DH_IMAGES").ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(5_000)
}

/// Two lives side by side, and in a long run as many as it takes.
fn explore_all(first: u64) {
    let want = images() / 2;
    let (mut seen, mut seed) = (0, first);
    while seen < want {
        seen += explore(seed, Layout::of(seed), (want - seen).min(40_000));
        seed += 2;
    }
    println!("{seen} images of {} lives", (seed - first) / 2);
}

#[test]
fn every_crash_of_a_life_keeps_what_was_acknowledged() {
    explore_all(1);
}

#[test]
fn every_crash_of_another_life_keeps_what_was_acknowledged() {
    explore_all(2);
}

#[test]
fn every_crash_of_a_life_with_moves_keeps_what_was_acknowledged() {
    let seen = explore(5, Layout::Tiers, (images() / 4).min(40_000));
    println!("{seen} images of a life with moves");
}

fn fail_everywhere(layout: Layout) {
    let long = images() > 5_000;
    let changes = if long { 200 } else { 40 };
    let disk = SimDisk::new(DISK_BYTES);
    let far = Elsewhere::beside(&disk);
    runtime().block_on(async {
        let store = open(&disk, layout, &far).await.unwrap();
        live(&store, &disk, 3, changes, &mut Ledger::default()).await;
    });
    let last = disk.operations();
    let step = if long { 1 } else { 7 };
    for fault in [Fault::Eio, Fault::Full] {
        for at in (0..last).step_by(step) {
            let context = format!("{layout:?}, {fault:?} at operation {at} of {last}");
            let disk = SimDisk::new(DISK_BYTES);
            disk.plan(at, fault);
            let far = Elsewhere::beside(&disk);
            let mut ledger = Ledger::default();
            runtime().block_on(async {
                let Ok(store) = open(&disk, layout, &far).await else {
                    disk.heal();
                    ledger.ready = u64::MAX;
                    return check(&disk.after_power_cut(), (layout, &far), &ledger, 0, &context).await;
                };
                live_carefully(&store, &disk, changes, &mut ledger).await;
                store.close().await;
                drop(store);
                disk.heal();
                let done = disk.operations();
                check(&disk.after_power_cut(), (layout, &far), &ledger, done, &context).await;
            });
        }
    }
    println!(
        "{layout:?}: an error and a full disk at each of {} operations of {changes} changes",
        last.div_ceil(step as u64)
    );
}

#[test]
fn a_failing_operation_anywhere_in_a_life_loses_nothing() {
    fail_everywhere(Layout::Directory);
}

#[test]
fn a_failing_operation_of_any_tier_in_a_life_loses_nothing() {
    fail_everywhere(Layout::Tiers);
}

#[test]
fn a_failing_operation_of_any_drive_in_a_life_loses_nothing() {
    fail_everywhere(Layout::Drives);
}

/// As [`live`], but a thing whose change failed is left alone afterwards, for nobody knows its state.
async fn live_carefully(store: &Store, disk: &SimDisk, changes: usize, ledger: &mut Ledger) {
    let mut random = Random(3);
    for bucket in ["plain", "kept"] {
        if store.create_bucket(bucket).await.is_err() {
            ledger.ready = u64::MAX;
            return;
        }
    }
    if store.set_versioning("kept", Versioning::Enabled).await.is_err() {
        ledger.ready = u64::MAX;
        return;
    }
    let things = things();
    let mut lost = BTreeSet::new();
    for done in 0..changes {
        if done % 4 == 0 {
            // What a failing drive does to moves is nobody's loss.
            drop(retier(store, &mut random).await);
        }
        let thing = &things[random.below(things.len())];
        let change = plan(&mut random, thing, &ledger.now(thing), 3 << 32 | done as u64);
        if lost.contains(thing) {
            continue;
        }
        let began = disk.operations();
        let result = perform(store, thing, &change).await;
        let told = if result.is_ok() {
            disk.operations()
        } else {
            lost.insert(thing.clone());
            u64::MAX
        };
        let after = after(thing, &change, &ledger.now(thing));
        ledger.events.entry(thing.clone()).or_default().push(Event { began, told, after });
    }
}
