//! What a disk after a power cut holds, against what clients were told.

use std::sync::Arc;

use dh_store::disk::SimDisk;
use dh_store::{DriveState, Error, ListQuery, Store, Version, VersionEntry, VersionQuery};

use crate::ground::{Elsewhere, Layout, open};
use crate::life::{Ledger, Stack, Thing, body};

pub(crate) fn tag_of(bytes: &[u8]) -> u64 {
    let tag = u64::from_le_bytes(*bytes.last_chunk::<8>().expect("a body tells its tag"));
    assert_eq!(bytes, body(tag), "the body is whole");
    tag
}

pub(crate) async fn found(store: &Store, thing: &Thing) -> Result<Stack, Error> {
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
pub(crate) async fn check(
    disk: &SimDisk,
    (layout, far): (Layout, &Arc<Elsewhere>),
    ledger: &Ledger,
    done: u64,
    context: &str,
) {
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
    // What was being written on a drive when it failed stays there until it serves again.
    let out: Vec<_> = store.drives().into_iter().filter(|drive| drive.state != DriveState::Serving).collect();
    store.close().await;
    let left = disk.paths().into_iter().filter(|path| path.extension().is_some_and(|end| end == "tmp"));
    let left: Vec<_> = left.filter(|path| !out.iter().any(|drive| path.starts_with(&drive.name))).collect();
    assert!(left.is_empty(), "{context}: {left:?} broke off and were left; {out:?} do not serve");
}
