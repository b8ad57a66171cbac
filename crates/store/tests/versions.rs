//! Versions, markers, locks and documents against plain models.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use dh_store::disk::SimDisk;
use dh_store::{
    Annotation, BucketStart, Condition, DeleteRequest, Error, Expect, Governance, LegalHold, ListQuery, Locking,
    ObjectLock, ObjectMeta, Quota, Retention, RetentionMode, Store, StoreConfig, Version, VersionEntry, VersionId,
    VersionQuery, Versioning,
};

async fn fresh() -> Store {
    let disk = SimDisk::new(256 << 20);
    let store = Store::open_on(Arc::new(disk), StoreConfig::new("/store")).await.unwrap();
    store.create_bucket("bucket").await.unwrap();
    store
}

/// xorshift64*, so that a failing run can be repeated from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

/// The versions of a key, the newest first; `None` is a delete marker.
type Stack = Vec<(VersionId, Option<String>)>;

#[expect(clippy::option_option, reason = "a version may be absent, or a marker without a body")]
fn remove(stack: &mut Stack, version: VersionId) -> Option<Option<String>> {
    let at = stack.iter().position(|(have, _body)| *have == version)?;
    Some(stack.remove(at).1)
}

/// Keys and their versions, as the S3 documentation describes them.
#[derive(Default)]
struct Model {
    versioning: Versioning,
    keys: BTreeMap<String, Stack>,
}

impl Model {
    fn push(&mut self, key: &str, version: VersionId, body: Option<String>) {
        let stack = self.keys.entry(key.to_owned()).or_default();
        if version == VersionId::Null {
            remove(stack, version);
        }
        stack.insert(0, (version, body));
    }

    fn live(&self) -> Vec<String> {
        let live = self.keys.iter().filter(|(_key, stack)| stack.first().is_some_and(|(_id, body)| body.is_some()));
        live.map(|(key, _stack)| key.clone()).collect()
    }

    /// Key, version, whether it is the newest, and whether it is a marker.
    fn all(&self) -> Vec<(String, VersionId, bool, bool)> {
        let mut all = Vec::new();
        for (key, stack) in &self.keys {
            for (index, (version, body)) in stack.iter().enumerate() {
                all.push((key.clone(), *version, index == 0, body.is_none()));
            }
        }
        all
    }
}

fn flat(entry: &VersionEntry) -> (String, VersionId, bool, bool) {
    match entry {
        VersionEntry::Object { key, latest, info } => (key.clone(), info.version, *latest, false),
        VersionEntry::Marker { key, latest, info } => (key.clone(), info.version, *latest, true),
    }
}

async fn all_versions(store: &Store, limit: usize) -> Vec<(String, VersionId, bool, bool)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let query = VersionQuery { after, limit, ..VersionQuery::default() };
        let page = store.list_versions("bucket", query).await.unwrap();
        assert!(page.entries.len() <= limit);
        all.extend(page.entries.iter().map(flat));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn check(store: &Store, model: &Model, random: &mut Random) {
    let keys = store.list("bucket", ListQuery { limit: 1_000, ..ListQuery::default() }).await.unwrap();
    assert_eq!(keys.entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), model.live());
    assert_eq!(all_versions(store, 1 + random.below(5)).await, model.all());
    for (key, stack) in &model.keys {
        match (stack.first(), store.get_bytes("bucket", key).await) {
            (Some((_id, Some(body))), Ok(found)) => assert_eq!(found, body.as_bytes()),
            (Some((id, None)), Err(Error::DeleteMarker { version, .. })) => assert_eq!(version, *id),
            (None, Err(Error::NoSuchKey { .. })) => {}
            (want, found) => panic!("{key}: {want:?} {found:?}"),
        }
        for (id, body) in stack {
            let found = store.head_version("bucket", key, Version::Id(*id)).await;
            match (body, found) {
                (Some(body), Ok(info)) => assert_eq!((info.size, info.version), (body.len() as u64, *id)),
                (None, Err(Error::DeleteMarker { version, .. })) => assert_eq!(version, *id),
                (body, found) => panic!("{key} {id}: {body:?} {found:?}"),
            }
        }
    }
    let objects = model.all().iter().filter(|(_key, _id, _latest, marker)| !marker).count();
    assert_eq!(store.stats().objects, objects as u64);
}

#[tokio::test]
async fn versions_agree_with_the_naive_model() {
    for seed in 1..=6_u64 {
        let store = fresh().await;
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut model = Model::default();
        let keys = ["a", "a/b", "a\u{1}", "b/c", "b/d", "ü"];
        for step in 0..150 {
            let key = keys[random.below(keys.len())];
            match random.below(10) {
                0 => {
                    let next = if random.below(2) == 0 { Versioning::Enabled } else { Versioning::Suspended };
                    // Some seeds stay without versions for a while.
                    if step > 20 {
                        store.set_versioning("bucket", next).await.unwrap();
                        model.versioning = next;
                    }
                }
                1..=4 => {
                    let body = "x".repeat(random.below(50));
                    let info = store.put_bytes("bucket", key, body.clone()).await.unwrap();
                    assert_eq!(info.version != VersionId::Null, model.versioning == Versioning::Enabled);
                    model.push(key, info.version, Some(body));
                }
                5 | 6 => {
                    let done = store.delete_object("bucket", key, DeleteRequest::default()).await.unwrap();
                    if model.versioning == Versioning::Unversioned {
                        model.keys.remove(key);
                        assert!(!done.marker && done.version.is_none());
                    } else {
                        assert!(done.marker);
                        model.push(key, done.version.unwrap(), None);
                    }
                }
                7 | 8 => {
                    let stack = model.keys.get(key).cloned().unwrap_or_default();
                    let version = match stack.len() {
                        0 => VersionId::Null,
                        length => stack[random.below(length)].0,
                    };
                    let request = DeleteRequest { version: Version::Id(version), ..DeleteRequest::default() };
                    let done = store.delete_object("bucket", key, request).await.unwrap();
                    let gone = model.keys.get_mut(key).and_then(|stack| remove(stack, version));
                    assert_eq!(done.existed, gone.is_some());
                    assert_eq!(done.marker, gone == Some(None));
                }
                _ => {
                    let present = model.keys.get(key).and_then(|stack| stack.first()).cloned();
                    let present = present.and_then(|(id, body)| body.map(|body| (id, body)));
                    let result = store.head("bucket", key).await;
                    assert_eq!(result.is_ok(), present.is_some());
                    let tags = vec![("step".to_owned(), step.to_string())];
                    let change = Annotation::Tags(tags.clone());
                    let result = store.annotate("bucket", key, Version::Latest, change, Condition::Always).await;
                    assert_eq!(result.is_ok(), present.is_some());
                    if let Ok(info) = result {
                        assert_eq!((info.meta.tags, info.version), (tags, present.unwrap().0));
                    }
                }
            }
            model.keys.retain(|_key, stack| !stack.is_empty());
            if step % 5 == 0 {
                check(&store, &model, &mut random).await;
            }
        }
        check(&store, &model, &mut random).await;
    }
}

#[tokio::test]
async fn versions_roll_up_under_common_prefixes() {
    let store = fresh().await;
    store.set_versioning("bucket", Versioning::Enabled).await.unwrap();
    for key in ["a", "dir/1", "dir/1", "dir/2", "e"] {
        store.put_bytes("bucket", key, "x").await.unwrap();
    }
    store.delete("bucket", "dir/2", Condition::Always).await.unwrap();
    let query = |after, limit| VersionQuery { delimiter: "/".to_owned(), after, limit, ..VersionQuery::default() };
    let page = store.list_versions("bucket", query(None, 2)).await.unwrap();
    assert_eq!((page.entries.len(), page.prefixes.as_slice()), (1, ["dir/".to_owned()].as_slice()));
    let page = store.list_versions("bucket", query(page.next, 2)).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| flat(entry).0).collect::<Vec<_>>(), ["e"]);
    assert_eq!(page.next, None);
    store.delete("bucket", "dir/1", Condition::Always).await.unwrap();
    let query = ListQuery { delimiter: "/".to_owned(), limit: 10, ..ListQuery::default() };
    let page = store.list("bucket", query).await.unwrap();
    assert!(page.prefixes.is_empty(), "only delete markers are left under the prefix");
}

fn locked(mode: RetentionMode, until_ms: u64) -> ObjectMeta {
    let lock = ObjectLock { retention: Some(Retention { mode, until_ms }), legal_hold: None };
    ObjectMeta { lock, ..ObjectMeta::default() }
}

async fn put(store: &Store, bucket: &str, key: &str, meta: ObjectMeta) -> Result<VersionId, Error> {
    let body = store.body().finish().await?;
    Ok(store.put_sealed(bucket, key, body, meta, Condition::Always).await?.version)
}

#[tokio::test]
async fn locked_versions_stay_until_nothing_keeps_them() {
    let store = fresh().await;
    let start = BucketStart { object_lock: Locking::On, ..BucketStart::default() };
    store.create_bucket_with("locked", start).await.unwrap();
    let refused = put(&store, "bucket", "key", locked(RetentionMode::Governance, u64::MAX)).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "a bucket without object lock");
    let refused = store.set_versioning("locked", Versioning::Suspended).await;
    assert!(matches!(refused, Err(Error::Invalid(_))));
    let version = put(&store, "locked", "key", locked(RetentionMode::Governance, u64::MAX)).await.unwrap();
    let request = |governance| DeleteRequest { version: Version::Id(version), governance, ..DeleteRequest::default() };
    let refused = store.delete_object("locked", "key", request(Governance::Holds)).await;
    assert!(matches!(refused, Err(Error::Retained { .. })));
    assert!(store.delete_object("locked", "key", DeleteRequest::default()).await.unwrap().marker);
    assert!(store.head_version("locked", "key", Version::Id(version)).await.is_ok());
    let hold = |hold| Annotation::LegalHold(hold);
    store.annotate("locked", "key", Version::Id(version), hold(LegalHold::On), Condition::Always).await.unwrap();
    let refused = store.delete_object("locked", "key", request(Governance::Bypassed)).await;
    assert!(matches!(refused, Err(Error::Retained { .. })));
    store.annotate("locked", "key", Version::Id(version), hold(LegalHold::Off), Condition::Always).await.unwrap();
    assert!(store.delete_object("locked", "key", request(Governance::Bypassed)).await.unwrap().existed);
    let past = put(&store, "locked", "past", locked(RetentionMode::Compliance, 1)).await.unwrap();
    let request = DeleteRequest { version: Version::Id(past), ..DeleteRequest::default() };
    assert!(store.delete_object("locked", "past", request).await.unwrap().existed);
}

#[tokio::test]
async fn conditions_hold_for_the_named_version() {
    let store = fresh().await;
    store.set_versioning("bucket", Versioning::Enabled).await.unwrap();
    let old = store.put_bytes("bucket", "key", "old").await.unwrap();
    let new = store.put_bytes("bucket", "key", "newer").await.unwrap();
    let delete = |version, condition| {
        let request = DeleteRequest { version: Version::Id(version), condition, ..DeleteRequest::default() };
        store.delete_object("bucket", "key", request)
    };
    let refused = delete(old.version, Condition::IfMatch(new.etag.clone())).await;
    assert!(matches!(refused, Err(Error::Precondition("If-Match"))));
    let refused = delete(old.version, Condition::All(vec![Condition::IfMatch(old.etag), Condition::IfSize(4)])).await;
    assert!(matches!(refused, Err(Error::Precondition("x-amz-if-match-size"))));
    let right = Condition::All(vec![Condition::IfModifiedAt(old.modified_ms / 1_000 * 1_000), Condition::IfSize(3)]);
    assert!(delete(old.version, right).await.unwrap().existed);
    store.delete("bucket", "key", Condition::IfMatch(new.etag)).await.unwrap();
    let body = store.body().finish().await.unwrap();
    let made = store.put_sealed("bucket", "key", body, ObjectMeta::default(), Condition::IfAbsent).await;
    assert!(made.is_ok(), "a delete marker counts as no object");
}

#[tokio::test]
async fn a_quota_is_kept_and_replacing_within_it_works() {
    let store = fresh().await;
    store.set_quota("bucket", Quota { bytes: Some(100), objects: Some(2) }).await.unwrap();
    store.put_bytes("bucket", "one", vec![1; 60]).await.unwrap();
    assert!(matches!(store.put_bytes("bucket", "two", vec![1; 41]).await, Err(Error::Quota(_))));
    store.put_bytes("bucket", "one", vec![1; 100]).await.unwrap();
    store.put_bytes("bucket", "two", "").await.unwrap();
    assert!(matches!(store.put_bytes("bucket", "three", "").await, Err(Error::Quota(_))));
    store.delete("bucket", "two", Condition::Always).await.unwrap();
    store.put_bytes("bucket", "three", "").await.unwrap();
    store.set_quota("bucket", Quota { bytes: Some(10), objects: None }).await.unwrap();
    store.put_bytes("bucket", "one", vec![1; 90]).await.unwrap();
    assert!(matches!(store.put_bytes("bucket", "one", vec![1; 91]).await, Err(Error::Quota(_))));
}

#[tokio::test]
async fn documents_live_and_die_with_their_bucket() {
    let store = fresh().await;
    assert_eq!(store.document("bucket", "policy").await.unwrap(), None);
    store.put_document("bucket", "policy", Some(b"{}".to_vec())).await.unwrap();
    store.put_document("bucket", "cors", Some(b"<>".to_vec())).await.unwrap();
    assert_eq!(store.document("bucket", "policy").await.unwrap().as_deref(), Some(b"{}".as_slice()));
    let (_info, documents) = store.bucket_with_documents("bucket").await.unwrap();
    assert_eq!(documents.keys().collect::<Vec<_>>(), ["cors", "policy"]);
    store.put_document("bucket", "cors", None).await.unwrap();
    assert_eq!(store.document("bucket", "cors").await.unwrap(), None);
    assert!(store.put_document("bucket", "Policy", None).await.is_err());
    let large = store.put_document("bucket", "policy", Some(vec![0; (1 << 20) + 1])).await;
    assert!(matches!(large, Err(Error::TooLarge(_))));
    store.delete_bucket("bucket").await.unwrap();
    assert!(matches!(store.document("bucket", "policy").await, Err(Error::NoSuchBucket(_))));
    store.create_bucket("bucket").await.unwrap();
    assert_eq!(store.document("bucket", "policy").await.unwrap(), None);
}

#[tokio::test]
async fn identities_are_compared_and_set() {
    let table = fresh().await.identities();
    let first = table.put("user/ada", b"1".to_vec(), Expect::Absent).await.unwrap();
    let refused = table.put("user/ada", b"2".to_vec(), Expect::Absent).await;
    assert!(matches!(refused, Err(Error::Precondition(_))));
    let second = table.put("user/ada", b"2".to_vec(), Expect::Revision(first)).await.unwrap();
    assert!(table.put("user/ada", b"3".to_vec(), Expect::Revision(first)).await.is_err());
    table.put("user/bob", b"b".to_vec(), Expect::Anything).await.unwrap();
    table.put("key/1", b"k".to_vec(), Expect::Anything).await.unwrap();
    let names = |list: Vec<(String, dh_store::Identity)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(table.list("user/", None, 10).await.unwrap()), ["user/ada", "user/bob"]);
    assert_eq!(names(table.list("user/", Some("user/ada"), 10).await.unwrap()), ["user/bob"]);
    assert_eq!(names(table.list("", None, 2).await.unwrap()), ["key/1", "user/ada"]);
    table.delete("user/ada", Expect::Revision(second)).await.unwrap();
    assert_eq!(table.get("user/ada").await.unwrap(), None);
}
