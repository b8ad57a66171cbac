//! Many hands on few keys: what each was told fits to one order of all changes that keeps to real time.
//!
//! The checker tries orders as Wing and Gong do ("Testing and Verifying Concurrent Objects", 1993) and remembers which
//! sets of changes led to which state, as Lowe added (2017), so that histories of 60 changes take milliseconds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dh_store::disk::SimDisk;
use dh_store::{Condition, Error, ObjectMeta, Store, StoreConfig, Versioning};

/// A body's name; a key without an object has none.
type Value = Option<u32>;

/// What was asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Put(u32),
    /// Put if the object was the first; whether it happened.
    Swap(u32, u32, Answer),
    /// Put if there was no object.
    Make(u32, Answer),
    Delete,
    Read(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    began: u64,
    ended: u64,
    did: Did,
}

/// The value after `did`; `None` if the answer does not fit to `value`.
fn next(did: Did, value: Value) -> Option<Value> {
    match did {
        Did::Put(body) => Some(Some(body)),
        Did::Delete => Some(None),
        Did::Read(read) => (read == value).then_some(value),
        Did::Swap(from, to, Answer::Done) => (value == Some(from)).then_some(Some(to)),
        Did::Swap(from, _to, Answer::Refused) => (value != Some(from)).then_some(value),
        Did::Make(body, Answer::Done) => value.is_none().then_some(Some(body)),
        Did::Make(_body, Answer::Refused) => value.is_some().then_some(value),
    }
}

/// Whether the calls on one key fit to an order that starts without an object.
fn linearizable(calls: &[Call]) -> bool {
    assert!(calls.len() <= 64);
    let all = if calls.len() == 64 { u64::MAX } else { (1 << calls.len()) - 1 };
    let mut seen = HashSet::new();
    let mut open: Vec<(u64, Value)> = vec![(0, None)];
    while let Some((done, value)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || calls.iter().enumerate().filter(|(index, _call)| done >> index & 1 == 0);
        // One that ended before another began comes before it.
        let first_end = left().map(|(_index, call)| call.ended).min().unwrap_or(u64::MAX);
        for (index, call) in left().filter(|(_index, call)| call.began <= first_end) {
            if let Some(value) = next(call.did, value) {
                let state = (done | 1 << index, value);
                if seen.insert(state) {
                    open.push(state);
                }
            }
        }
    }
    false
}

#[test]
fn the_checker_tells_right_from_wrong() {
    let call = |began, ended, did| Call { began, ended, did };
    let put = |body| Did::Put(body);
    let read = |value| Did::Read(value);
    assert!(linearizable(&[call(0, 1, put(1)), call(2, 3, read(Some(1)))]));
    assert!(!linearizable(&[call(0, 1, put(1)), call(2, 3, read(None))]), "a lost write");
    assert!(linearizable(&[call(0, 5, put(1)), call(1, 2, read(None)), call(3, 4, read(Some(1)))]));
    assert!(
        !linearizable(&[call(0, 5, put(1)), call(1, 2, read(Some(1))), call(3, 4, read(None))]),
        "seen and then unseen"
    );
    let swap = |answer| Did::Swap(1, 2, answer);
    assert!(!linearizable(&[
        call(0, 1, put(1)),
        call(2, 5, swap(Answer::Done)),
        call(2, 5, Did::Swap(1, 3, Answer::Done))
    ]));
    assert!(linearizable(&[
        call(0, 1, put(1)),
        call(2, 5, swap(Answer::Done)),
        call(2, 5, Did::Swap(1, 3, Answer::Refused))
    ]));
    assert!(!linearizable(&[call(0, 1, put(1)), call(2, 3, swap(Answer::Refused))]));
    assert!(!linearizable(&[call(0, 5, Did::Make(1, Answer::Done)), call(0, 5, Did::Make(2, Answer::Done))]));
    assert!(
        !linearizable(&[call(0, 1, put(1)), call(2, 3, Did::Delete), call(4, 5, read(Some(1)))]),
        "a resurrected delete"
    );
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Small bodies are in their row, large ones in an extent; both tell their name.
fn body(name: u32) -> Vec<u8> {
    let length = if name.is_multiple_of(3) { 6_000 } else { 20 };
    name.to_le_bytes().into_iter().cycle().take(length).collect()
}

async fn put(store: &Store, key: &str, name: u32, condition: Condition) -> Result<(), Error> {
    let mut writer = store.body();
    writer.write(body(name).into()).await?;
    let sealed = writer.finish().await?;
    store.put_sealed("bucket", key, sealed, ObjectMeta::default(), condition).await.map(|_info| ())
}

fn answer(result: Result<(), Error>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(Error::Precondition(_) | Error::NoSuchKey { .. }) => Answer::Refused,
        Err(error) => panic!("{error}"),
    }
}

async fn read(store: &Store, key: &str) -> Value {
    match store.get_bytes("bucket", key).await {
        Ok(bytes) => {
            let name = u32::from_le_bytes(*bytes.first_chunk().unwrap());
            assert_eq!(bytes, body(name), "the body is whole");
            Some(name)
        }
        Err(Error::NoSuchKey { .. } | Error::DeleteMarker { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn call(store: &Store, key: &str, random: &mut Random, name: u32) -> Did {
    match random.below(10) {
        0..=2 => {
            put(store, key, name, Condition::Always).await.unwrap();
            Did::Put(name)
        }
        3..=4 => match store.object("bucket", key).await {
            Ok(reader) => {
                let etag = reader.info().etag.clone();
                let bytes = reader.bytes(dh_store::RangeRequest::Whole).await.unwrap();
                let from = u32::from_le_bytes(*bytes.first_chunk().unwrap());
                Did::Swap(from, name, answer(put(store, key, name, Condition::IfMatch(etag)).await))
            }
            Err(_absent) => Did::Make(name, answer(put(store, key, name, Condition::IfAbsent).await)),
        },
        5 => Did::Make(name, answer(put(store, key, name, Condition::IfAbsent).await)),
        6 => {
            store.delete("bucket", key, Condition::Always).await.unwrap();
            Did::Delete
        }
        _ => Did::Read(read(store, key).await),
    }
}

async fn histories(versioning: Versioning, seed: u64) -> BTreeMap<String, Vec<Call>> {
    let store = Store::open_on(Arc::new(SimDisk::new(256 << 20)), StoreConfig::new("/store")).await.unwrap();
    store.create_bucket("bucket").await.unwrap();
    store.set_versioning("bucket", versioning).await.unwrap();
    let clock = Arc::new(AtomicU64::new(0));
    let hands = (0..8_u32).map(|hand| {
        let (store, clock) = (store.clone(), Arc::clone(&clock));
        tokio::spawn(async move {
            let mut random = Random(seed << 8 | u64::from(hand));
            let mut calls = Vec::new();
            // Seven calls of eight hands on a key: at most 56.
            for step in 0..21 {
                let key = format!("key{}", step % 3);
                let began = clock.fetch_add(1, Ordering::SeqCst);
                let did = call(&store, &key, &mut random, hand * 1_000 + step).await;
                let ended = clock.fetch_add(1, Ordering::SeqCst);
                calls.push((key, Call { began, ended, did }));
            }
            calls
        })
    });
    let mut histories: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for hand in futures::future::join_all(hands).await {
        for (key, call) in hand.unwrap() {
            histories.entry(key).or_default().push(call);
        }
    }
    histories
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_changes_of_a_key_have_one_order() {
    for seed in 0..6 {
        for versioning in [Versioning::Unversioned, Versioning::Enabled, Versioning::Suspended] {
            for (key, calls) in histories(versioning, seed).await {
                assert!(linearizable(&calls), "seed {seed}, {versioning:?}, {key}: {calls:#?}");
            }
        }
    }
}
