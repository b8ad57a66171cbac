//! What clients do in a life, and what they were told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dh_store::disk::SimDisk;
use dh_store::{
    ChecksumKind, CompletePart, Condition, DeleteRequest, Error, Expect, Store, UploadStart, Version, VersionEntry,
    VersionQuery, Versioning,
};

use crate::ground::retier;

/// Set in the tag of a body that is too large for a segment.
const LARGE: u64 = 1 << 63;

/// `SplitMix64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

/// A body that tells its tag; most are inline, some packed, a few have files of their own.
pub(crate) fn body(tag: u64) -> Bytes {
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
pub(crate) enum Thing {
    /// An object of a bucket without versions.
    Plain(String),
    /// An object of a bucket with versions.
    Kept(String),
    Document(String),
    Identity(String),
}

/// The bodies' tags, the newest first; `None` is a delete marker.
pub(crate) type Stack = Vec<Option<u64>>;

#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Operations of the disk before it began, and when the client was told.
    pub(crate) began: u64,
    pub(crate) told: u64,
    pub(crate) after: Stack,
}

/// What clients did and were told, in order for each thing.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) events: BTreeMap<Thing, Vec<Event>>,
    /// When the buckets were there.
    pub(crate) ready: u64,
}

impl Ledger {
    pub(crate) fn now(&self, thing: &Thing) -> Stack {
        self.events.get(thing).and_then(|events| events.last()).map(|event| event.after.clone()).unwrap_or_default()
    }

    /// The states that `thing` may be in if the disk did `done` operations.
    pub(crate) fn allowed(&self, thing: &Thing, done: u64) -> Vec<Stack> {
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
pub(crate) enum Change {
    Put(u64, Condition),
    /// Put if the object is the one that is there.
    Matching(u64),
    Parts(u64),
    Delete,
    DeleteOldest,
    Refused(u64),
}

pub(crate) async fn put(store: &Store, bucket: &str, key: &str, tag: u64, condition: Condition) -> Result<(), Error> {
    let mut writer = store.body();
    writer.write(body(tag)).await?;
    let sealed = writer.finish().await?;
    store.put_sealed(bucket, key, sealed, dh_store::ObjectMeta::default(), condition).await.map(|_info| ())
}

pub(crate) async fn parts(store: &Store, bucket: &str, key: &str, tag: u64) -> Result<(), Error> {
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

pub(crate) async fn oldest(store: &Store, key: &str) -> Result<(), Error> {
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

pub(crate) async fn perform(store: &Store, thing: &Thing, change: &Change) -> Result<(), Error> {
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
pub(crate) fn after(thing: &Thing, change: &Change, stack: &Stack) -> Stack {
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

pub(crate) fn things() -> Vec<Thing> {
    let numbered = |count: usize, name: &'static str| (0..count).map(move |index| format!("{name}{index}"));
    numbered(6, "plain/")
        .map(Thing::Plain)
        .chain(numbered(3, "kept/").map(Thing::Kept))
        .chain(numbered(2, "doc").map(Thing::Document))
        .chain(numbered(2, "user/").map(Thing::Identity))
        .collect()
}

pub(crate) fn plan(random: &mut Random, thing: &Thing, now: &Stack, tag: u64) -> Change {
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
pub(crate) async fn live(store: &Store, disk: &SimDisk, seed: u64, changes: usize, ledger: &mut Ledger) {
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

/// As [`live`], but a thing whose change failed is left alone afterwards, for nobody knows its state.
pub(crate) async fn live_carefully(store: &Store, disk: &SimDisk, changes: usize, ledger: &mut Ledger) {
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
