//! Rules remove what they say, nothing else, and the bytes come back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use dh_store::disk::SimDisk;
use dh_store::{
    Annotation, Calendar, ChecksumKind, Condition, Expiry, ListQuery, Markers, Noncurrent, Rule, Store, StoreConfig,
    Swept, UploadStart, Version, VersionQuery, Versioning,
};

/// A day of these tests.
const DAY_MS: u64 = 1_000;

async fn fresh(versioning: Versioning) -> (SimDisk, Store) {
    let disk = SimDisk::new(256 << 20);
    let store = Store::open_on(Arc::new(disk.clone()), StoreConfig::new("/store")).await.unwrap();
    store.create_bucket("bucket").await.unwrap();
    store.set_versioning("bucket", versioning).await.unwrap();
    (disk, store)
}

/// So many days after `since_ms`.
fn later(since_ms: u64, days: u64) -> Calendar {
    Calendar { now_ms: since_ms + days * DAY_MS, day_ms: DAY_MS }
}

async fn keys(store: &Store) -> Vec<String> {
    let page = store.list("bucket", ListQuery { limit: 5_000, ..ListQuery::default() }).await.unwrap();
    page.entries.into_iter().map(|entry| entry.key).collect()
}

async fn count(store: &Store) -> usize {
    let query = VersionQuery { limit: 5_000, ..VersionQuery::default() };
    store.list_versions("bucket", query).await.unwrap().entries.len()
}

#[tokio::test]
async fn only_what_every_filter_names_expires_and_only_when_it_is_time() {
    let (_disk, store) = fresh(Versioning::Unversioned).await;
    let mut written = 0;
    for (key, size) in [("log/a", 10), ("log/b", 500), ("log/c", 5_000), ("data/a", 10)] {
        written = store.put_bytes("bucket", key, vec![1; size]).await.unwrap().modified_ms;
    }
    let tags = vec![("class".to_owned(), "temporary".to_owned())];
    for key in ["log/a", "log/b"] {
        store
            .annotate("bucket", key, Version::Latest, Annotation::Tags(tags.clone()), Condition::Always)
            .await
            .unwrap();
    }
    let rule = Rule {
        prefix: "log/".to_owned(),
        tags,
        larger_than: Some(10),
        smaller_than: Some(501),
        expiry: Some(Expiry::Days(2)),
        ..Rule::default()
    };
    let early = store.sweep("bucket", std::slice::from_ref(&rule), later(written, 1)).await.unwrap();
    assert_eq!(early, Swept::default());
    let swept = store.sweep("bucket", &[rule], later(written, 3)).await.unwrap();
    assert_eq!(swept, Swept { expired: 1, ..Swept::default() });
    assert_eq!(keys(&store).await, ["data/a", "log/a", "log/c"]);
    let dated = Rule { expiry: Some(Expiry::At(written + 9)), ..Rule::default() };
    assert_eq!(store.sweep("bucket", std::slice::from_ref(&dated), later(written, 0)).await.unwrap().expired, 0);
    assert_eq!(store.sweep("bucket", &[dated], later(written, 1)).await.unwrap().expired, 3);
    assert_eq!(store.stats().objects, 0);
}

#[tokio::test]
async fn versions_expire_in_steps_until_nothing_is_left() {
    let (_disk, store) = fresh(Versioning::Enabled).await;
    let mut written = 0;
    for _version in 0..4 {
        written = store.put_bytes("bucket", "key", "x").await.unwrap().modified_ms;
    }
    let older = Rule { noncurrent: Some(Noncurrent { days: 1, keep: 1 }), ..Rule::default() };
    let swept = store.sweep("bucket", std::slice::from_ref(&older), later(written, 2)).await.unwrap();
    assert_eq!((swept, count(&store).await), (Swept { noncurrent: 2, ..Swept::default() }, 2));
    let expiry = Rule { expiry: Some(Expiry::Days(1)), ..Rule::default() };
    let swept = store.sweep("bucket", std::slice::from_ref(&expiry), later(written, 2)).await.unwrap();
    assert_eq!(swept, Swept { expired: 1, ..Swept::default() });
    assert!(keys(&store).await.is_empty());
    assert_eq!(count(&store).await, 3, "a delete marker over two versions");
    let far = later(written, 1_000);
    let all = Rule { noncurrent: Some(Noncurrent { days: 1, keep: 0 }), ..Rule::default() };
    assert_eq!(store.sweep("bucket", &[all], far).await.unwrap().noncurrent, 2);
    let markers = Rule { markers: Markers::Go, ..Rule::default() };
    assert_eq!(store.sweep("bucket", &[markers], far).await.unwrap().markers, 1);
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn uploads_that_nobody_completes_go_and_their_bytes_come_back() {
    let (_disk, store) = fresh(Versioning::Unversioned).await;
    let upload = store.create_upload("bucket", "parts", UploadStart::default()).await.unwrap();
    let mut writer = store.part_body(ChecksumKind::Crc32);
    writer.write(vec![7; 300_000].into()).await.unwrap();
    store.put_part("bucket", "parts", &upload, 1, writer.finish().await.unwrap()).await.unwrap();
    let started = store.upload("bucket", "parts", &upload).await.unwrap().created_ms;
    assert!(store.stats().disk_bytes > 0);
    let rule = Rule { abort_days: Some(1), ..Rule::default() };
    assert_eq!(store.sweep("bucket", std::slice::from_ref(&rule), later(started, 0)).await.unwrap().uploads, 0);
    assert_eq!(store.sweep("bucket", &[rule], later(started, 1)).await.unwrap().uploads, 1);
    empty(&store).await;
}

/// Waits for the reaper, who removes files soon after the answer.
async fn empty(store: &Store) {
    let gone = async {
        while store.stats().disk_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the bytes come back");
}

#[tokio::test]
async fn many_pages_are_swept_and_the_disk_is_empty_again() {
    let (disk, store) = fresh(Versioning::Unversioned).await;
    let mut written = 0;
    for batch in 0..12 {
        let keys: Vec<String> = (0..100).map(|index| format!("{batch:02}/{index:02}")).collect();
        let size = if batch == 0 { 9_000 } else { 9 };
        let puts = keys.iter().map(|key| store.put_bytes("bucket", key, vec![1; size]));
        for info in futures::future::join_all(puts).await {
            written = info.unwrap().modified_ms.max(written);
        }
    }
    let rule = Rule { expiry: Some(Expiry::Days(1)), ..Rule::default() };
    assert_eq!(store.sweep("bucket", &[rule], later(written, 2)).await.unwrap().expired, 1_200);
    assert_eq!(store.stats().objects, 0);
    empty(&store).await;
    assert!(disk.paths().iter().all(|path| path.extension().is_none_or(|end| end != "dhx")));
}
