//! Encrypted bodies through the hands of those who have no key.

use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::Cipher;
use crate::disk::SimDisk;
use crate::{Code, Condition, DriveConfig, Error, ObjectHeaders, RangeRequest, ScrubOptions, Store, StoreConfig};

async fn open(disk: &SimDisk) -> Store {
    let drives = (0..3).map(|index| DriveConfig { dir: format!("/drive{index}").into() }).collect();
    let code = Code { data: 2, parity: 1 };
    let config = StoreConfig { code, drives, cache_bytes: 0, segment_bytes: 256 << 10, ..StoreConfig::new("/store") };
    Store::open_on(Arc::new(disk.clone()), config).await.unwrap()
}

fn text(seed: u64, length: usize) -> Bytes {
    (0..).flat_map(|line: u64| format!("{seed} line {line}\n").into_bytes()).take(length).collect()
}

async fn read(store: &Store, key: &str, cipher: Option<&Arc<Cipher>>) -> Result<Bytes, Error> {
    let reader = store.object("bucket", key).await?;
    reader.decrypted(cipher.cloned()).bytes(RangeRequest::Whole).await
}

#[tokio::test]
async fn encrypted_bodies_are_coded_scrubbed_and_mended_without_their_key() {
    let disk = SimDisk::new(256 << 20);
    let cipher = Arc::new(Cipher::new(&[9; 32]).unwrap());
    let store = open(&disk).await;
    store.create_bucket("bucket").await.unwrap();
    let bodies = [("coded", text(1, 1_000_000)), ("large", text(2, 1_300_000)), ("copies", text(3, 1_000_000))];
    for (key, body) in &bodies {
        let mut writer = store.body().encrypted(Arc::clone(&cipher));
        writer.write(body.clone()).await.unwrap();
        let sealed = writer.finish().await.unwrap();
        store.put_sealed("bucket", key, sealed, ObjectHeaders::default(), Condition::Always).await.unwrap();
        if *key == "coded" {
            for seed in 0..3 {
                let noise: Bytes = (0..9_000_u64)
                    .flat_map(|i| (i ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
                    .collect();
                store.put_bytes("bucket", &format!("fill{seed}"), noise.repeat(2)).await.unwrap();
            }
            assert!(store.reclaim().await.unwrap().coded > 0);
        }
    }
    store.close().await;
    drop(store);
    for ending in ["dhs", "dhx", "dhp"] {
        let files: Vec<_> =
            disk.paths().into_iter().filter(|path| path.extension().is_some_and(|have| have == ending)).collect();
        let first = files.first().unwrap_or_else(|| panic!("no file ends with {ending}"));
        assert!(disk.edit(first, |bytes| bytes.iter_mut().step_by(1_001).for_each(|byte| *byte ^= 1)));
        let store = open(&disk).await;
        for (key, body) in &bodies {
            assert!(read(&store, key, Some(&cipher)).await.unwrap() == body, "{ending}: {key}");
        }
        let report = store.scrub(ScrubOptions::default()).await.unwrap();
        assert!(report.damages.iter().all(|damage| damage.repaired), "{ending}: {:?}", report.damages);
        assert!(store.stats().damages > 0, "{ending}");
        assert!(store.scrub(ScrubOptions::default()).await.unwrap().damages.is_empty(), "{ending}");
        let before = store.stats().damages;
        for (key, _body) in &bodies {
            let error = read(&store, key, None).await.unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{ending}: {key} without its key: {error}");
        }
        assert_eq!(store.stats().damages, before, "a wrong key is no damage");
        store.close().await;
    }
}
