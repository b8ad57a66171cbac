//! Ranges, listings, parts, and many hands on one key.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;

use bytes::Bytes;
use dh_store::{
    ChecksumKind, CompletePart, Condition, Error, ListQuery, ObjectHeaders, RangeRequest, Store, StoreConfig,
    UploadQuery, UploadStart,
};

const BLOCK: usize = 256 << 10;

async fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::new(dir.path())).await.unwrap();
    store.create_bucket("bucket").await.unwrap();
    (dir, store)
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

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_index| self.next().to_le_bytes()[7]).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_across_blocks_are_those_of_the_body() {
    let (_dir, store) = fresh().await;
    let mut random = Random(7);
    for length in [0, 1, 4_096, 4_097, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 12_345] {
        let mut bytes = random.bytes(length);
        // Half of it compresses, so that both kinds of blocks are read.
        bytes.iter_mut().take(length / 2).for_each(|byte| *byte &= 1);
        store.put_bytes("bucket", "key", bytes.clone()).await.unwrap();
        assert_eq!(store.get_bytes("bucket", "key").await.unwrap(), bytes);
        for _round in 0..20 {
            let first = random.below(length + 1);
            let last = first + random.below(length + 1);
            let reader = store.object("bucket", "key").await.unwrap();
            let found = reader.bytes(RangeRequest::Between(first as u64, Some(last as u64))).await;
            if first < length {
                assert_eq!(found.unwrap(), bytes[first..(last + 1).min(length)], "{first}-{last} of {length}");
            } else {
                assert!(matches!(found, Err(Error::InvalidRange(_))), "{first}-{last} of {length}");
            }
        }
    }
    let stats = store.stats();
    assert!(stats.cache_hits > 0 && stats.cache_misses > 0);
    assert!(stats.stored_bytes < stats.logical_bytes);
}

/// The listing that the S3 documentation describes, as plainly as it can be written.
fn naive(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: Option<&str>) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)) {
        let rest = &key[prefix.len()..];
        let common = (!delimiter.is_empty()).then(|| rest.find(delimiter)).flatten();
        let item = common.map_or_else(|| key.clone(), |at| key[..prefix.len() + at + delimiter.len()].to_owned());
        if after != Some(item.as_str()) && shown.last() != Some(&item) {
            shown.push(item);
        }
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_agree_with_the_naive_model() {
    let (_dir, store) = fresh().await;
    store.create_bucket("bucket-2").await.unwrap();
    store.put_bytes("bucket-2", "elsewhere", Bytes::new()).await.unwrap();
    let mut random = Random(0x51ce);
    let letters = ["a", "b", "/", "//", "é", "-", "z"];
    let mut keys = BTreeSet::new();
    while keys.len() < 250 {
        let length = 1 + random.below(5);
        keys.insert((0..length).map(|_index| letters[random.below(letters.len())]).collect::<String>());
    }
    let puts = keys.iter().map(|key| store.put_bytes("bucket", key, Bytes::from(key.clone())));
    for result in futures::future::join_all(puts).await {
        result.unwrap();
    }
    for round in 0..300 {
        let text = |random: &mut Random, most: usize| {
            (0..random.below(most)).map(|_index| letters[random.below(letters.len())]).collect::<String>()
        };
        let prefix = text(&mut random, 3);
        let delimiter = ["", "/", "//", "a", "é"][random.below(5)].to_owned();
        let start = (random.below(2) == 0).then(|| text(&mut random, 4)).filter(|start| !start.is_empty());
        let limit = 1 + random.below(40);
        let wanted = naive(&keys, &prefix, &delimiter, start.as_deref());
        let (mut found, mut after) = (Vec::new(), start.clone());
        loop {
            let query = ListQuery { prefix: prefix.clone(), delimiter: delimiter.clone(), after, limit };
            let page = store.list("bucket", query).await.unwrap();
            let mut items: Vec<String> = page.entries.into_iter().map(|entry| entry.key).chain(page.prefixes).collect();
            assert!(items.len() <= limit);
            items.sort();
            found.extend(items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(
            found, wanted,
            "round {round}: prefix {prefix:?} delimiter {delimiter:?} after {start:?} limit {limit}"
        );
    }
}

async fn put_part(store: &Store, key: &str, upload: &str, part: u32, bytes: &[u8]) -> CompletePart {
    let mut writer = store.part_body(ChecksumKind::Crc64Nvme);
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    let info = store.put_part("bucket", key, upload, part, writer.finish().await.unwrap()).await.unwrap();
    CompletePart { part, etag: info.etag, checksum: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_become_the_object_without_being_rewritten() {
    let (dir, store) = fresh().await;
    let mut random = Random(3);
    let (one, two, replaced) = (random.bytes(5 << 20), random.bytes(1_000), random.bytes(2_000));
    let start = UploadStart { checksum: Some(ChecksumKind::Crc64Nvme), full_object: true, ..UploadStart::default() };
    let upload = store.create_upload("bucket", "whole", start).await.unwrap();
    put_part(&store, "whole", &upload, 7, &replaced).await;
    let second = put_part(&store, "whole", &upload, 7, &two).await;
    let first = put_part(&store, "whole", &upload, 2, &one).await;
    put_part(&store, "whole", &upload, 9, &replaced).await;
    let (parts, more) = store.parts("bucket", "whole", &upload, 2, 1).await.unwrap();
    assert_eq!((parts.len(), parts[0].part, more), (1, 7, true));

    let complete =
        |parts: Vec<CompletePart>| store.complete_upload("bucket", "whole", &upload, parts, Condition::Always);
    assert!(matches!(complete(vec![]).await, Err(Error::Invalid(_))));
    assert!(matches!(complete(vec![second.clone(), first.clone()]).await, Err(Error::InvalidPartOrder)));
    let wrong = CompletePart { etag: first.etag.clone(), ..second.clone() };
    assert!(matches!(complete(vec![first.clone(), wrong]).await, Err(Error::InvalidPart(7))));
    let unknown = CompletePart { part: 8, ..second.clone() };
    assert!(matches!(complete(vec![first.clone(), unknown]).await, Err(Error::InvalidPart(8))));

    let written = store.stats().bytes_in;
    let info = complete(vec![first.clone(), second.clone()]).await.unwrap();
    assert_eq!(store.stats().bytes_in, written, "completing writes no body");
    assert!(info.etag.ends_with("-2"));
    let whole = [one, two].concat();
    assert_eq!(store.get_bytes("bucket", "whole").await.unwrap(), whole);
    let border = store.object("bucket", "whole").await.unwrap();
    let border = border.bytes(RangeRequest::Between((5 << 20) - 3, Some((5 << 20) + 3))).await.unwrap();
    assert_eq!(border, whole[(5 << 20) - 3..=(5 << 20) + 3]);
    assert!(matches!(complete(vec![first, second]).await, Err(Error::NoSuchUpload(_))));
    let single = store.put_bytes("bucket", "single", whole).await.unwrap();
    assert_eq!(single.checksums, info.checksums, "the parts' checksums join into that of the whole");

    drop(store);
    let store = Store::open(StoreConfig::new(dir.path())).await.unwrap();
    assert_eq!(store.recovery().orphans_removed, 0, "replaced and unnamed parts were removed at once");
    assert_eq!(store.recovery().objects, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_parts_are_refused_and_aborted_uploads_leave_nothing() {
    let (_dir, store) = fresh().await;
    let upload = store.create_upload("bucket", "a/key", UploadStart::default()).await.unwrap();
    let one = put_part(&store, "a/key", &upload, 1, &[1; 100]).await;
    let two = put_part(&store, "a/key", &upload, 2, &[2; 100]).await;
    let result = store.complete_upload("bucket", "a/key", &upload, vec![one, two], Condition::Always).await;
    assert!(matches!(result, Err(Error::PartTooSmall { part: 1, size: 100 })));
    store.create_upload("bucket", "b", UploadStart::default()).await.unwrap();
    let list = |delimiter: &str, after, limit| {
        store.list_uploads(
            "bucket",
            UploadQuery { delimiter: delimiter.to_owned(), after, limit, ..UploadQuery::default() },
        )
    };
    let page = list("", None, 1).await.unwrap();
    assert_eq!(page.uploads[0].upload, upload);
    let (key, id) = page.next.unwrap();
    let page = list("", Some((key, Some(id))), 10).await.unwrap();
    assert_eq!((page.uploads.len(), page.uploads[0].key.as_str(), page.next), (1, "b", None));
    let page = list("/", None, 10).await.unwrap();
    assert_eq!((page.prefixes, page.uploads.len()), (vec!["a/".to_owned()], 1));
    store.abort_upload("bucket", "a/key", &upload).await.unwrap();
    assert!(matches!(store.parts("bucket", "a/key", &upload, 0, 10).await, Err(Error::NoSuchUpload(_))));
    assert!(matches!(store.get_bytes("bucket", "a/key").await, Err(Error::NoSuchKey { .. })));
    store.delete_bucket("bucket").await.unwrap();
    assert_eq!(store.stats().buckets, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_key_leave_one_whole_object() {
    let (_dir, store) = fresh().await;
    let body = |writer: u8| Bytes::from(vec![writer; 10_000 + usize::from(writer) * 1_000]);
    let puts = (0..32).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move { store.put_bytes("bucket", "hot", body(writer)).await })
    });
    let reads = (0..32).map(|_reader| {
        let store = store.clone();
        tokio::spawn(async move { store.get_bytes("bucket", "hot").await })
    });
    let (puts, reads): (Vec<_>, Vec<_>) = (puts.collect(), reads.collect());
    for put in puts {
        put.await.unwrap().unwrap();
    }
    for read in reads {
        match read.await.unwrap() {
            Ok(bytes) => assert_eq!(bytes, body(bytes[0])),
            Err(error) => assert!(matches!(error, Error::NoSuchKey { .. }), "{error}"),
        }
    }
    let last = store.get_bytes("bucket", "hot").await.unwrap();
    assert_eq!(last, body(last[0]));
    let stats = store.stats();
    assert_eq!((stats.objects, stats.logical_bytes), (1, last.len() as u64));
    assert!(stats.commits < stats.changes, "{} commits for {} changes", stats.commits, stats.changes);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_of_many_conditional_creations_wins() {
    let (_dir, store) = fresh().await;
    let tries = (0..16_u8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut body = store.body();
            body.write(Bytes::from(vec![writer; 20_000])).await.unwrap();
            let sealed = body.finish().await.unwrap();
            store.put_sealed("bucket", "lease", sealed, ObjectHeaders::default(), Condition::IfAbsent).await
        })
    });
    let results = futures::future::join_all(tries).await;
    let won: Vec<_> = results.into_iter().filter_map(|result| result.unwrap().ok()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(store.head("bucket", "lease").await.unwrap().etag, won[0].etag);
    let stale = Condition::IfMatch("00".to_owned());
    assert!(matches!(store.delete("bucket", "lease", stale).await, Err(Error::Precondition(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_object_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig { cache_bytes: 0, ..StoreConfig::new(dir.path()) }).await.unwrap();
    store.create_bucket("bucket").await.unwrap();
    let bytes = Random(5).bytes(4 * BLOCK);
    store.put_bytes("bucket", "key", bytes.clone()).await.unwrap();
    let reader = store.object("bucket", "key").await.unwrap();
    assert!(store.delete("bucket", "key", Condition::Always).await.unwrap());
    assert!(matches!(store.get_bytes("bucket", "key").await, Err(Error::NoSuchKey { .. })));
    assert!(store.stats().disk_bytes > 0, "the file stays for its reader");
    assert_eq!(reader.bytes(RangeRequest::Whole).await.unwrap(), bytes);
    let gone = async {
        while store.stats().disk_bytes > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("removed after its last reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_given_up_leaves_nothing() {
    let (dir, store) = fresh().await;
    let mut body = store.body();
    body.write(Bytes::from(Random(9).bytes(3 * BLOCK))).await.unwrap();
    drop(body);
    let sealed = {
        let mut body = store.body();
        body.write(Bytes::from(Random(9).bytes(BLOCK))).await.unwrap();
        body.finish().await.unwrap()
    };
    drop(sealed);
    store.close().await;
    let left = std::fs::read_dir(dir.path().join("extents"))
        .unwrap()
        .flat_map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap())
        .count();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_made_once_and_removed_empty() {
    let (_dir, store) = fresh().await;
    assert!(matches!(store.create_bucket("bucket").await, Err(Error::BucketExists(_))));
    assert!(matches!(store.create_bucket("No_Bucket").await, Err(Error::Invalid(_))));
    store.put_bytes("bucket", "key", Bytes::new()).await.unwrap();
    assert!(matches!(store.delete_bucket("bucket").await, Err(Error::BucketNotEmpty(_))));
    assert!(matches!(store.put_bytes("other", "key", Bytes::new()).await, Err(Error::NoSuchBucket(_))));
    assert!(matches!(store.put_bytes("bucket", "", Bytes::new()).await, Err(Error::Invalid(_))));
    assert!(matches!(store.put_bytes("bucket", &"k".repeat(1_025), Bytes::new()).await, Err(Error::Invalid(_))));
    assert!(store.delete("bucket", "key", Condition::Always).await.unwrap());
    assert!(!store.delete("bucket", "key", Condition::Always).await.unwrap());
    store.delete_bucket("bucket").await.unwrap();
    assert!(matches!(store.bucket("bucket").await, Err(Error::NoSuchBucket(_))));
}
