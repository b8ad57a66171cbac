//! Two stores over HTTP, one the far tier of the other, on real directories: warm drives 1+1, cold drives 2+1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dh_core::{Authenticate, Principal, Role, Secret};
use dh_s3::{Client, Credentials, Payload, Put, Settings};
use dh_store::operate::StoreStatus;
use dh_store::remote::S3Bucket;
use dh_store::{
    Calendar, Code, Compression, DriveConfig, DriveState, ObjectMeta, S3Options, Store, StoreConfig, TierConfig,
    TierGround, Tiering,
};
use http::Method;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const SECRET: &str = "a-secret-of-tests-only";
const DAY: u64 = 86_400_000;

struct OneKey;

impl Authenticate for OneKey {
    fn bearer(&self, _token: &str) -> Option<Principal> {
        None
    }

    fn signing_key(&self, id: &str) -> Option<(Secret<String>, Principal)> {
        let principal = Principal { name: "admin".to_owned(), role: Role::Admin };
        (id == "admin").then(|| (Secret::new(SECRET.to_owned()), principal))
    }
}

fn settings(endpoint: &str) -> Settings {
    let credentials = Credentials { id: "admin".to_owned(), secret: Secret::new(SECRET.to_owned()), token: None };
    Settings { tries: 2, timeout: Duration::from_secs(20), ..Settings::new(endpoint, Some(credentials)) }
}

/// A store that is served.
struct Served {
    endpoint: String,
    store: Store,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Served {
    async fn start(config: StoreConfig, address: &str) -> Self {
        let store = Store::open(config).await.unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = store.clone();
        let server = tokio::spawn(async move {
            let until = async { stopped.await.unwrap() };
            dh_store::serve_with(served, listener, Arc::new(OneKey), S3Options::default(), until).await.unwrap();
        });
        Self { endpoint, store, stop, server }
    }

    async fn stop(self) -> String {
        self.stop.send(()).unwrap();
        self.server.await.unwrap();
        self.store.close().await;
        self.endpoint.trim_start_matches("http://").to_owned()
    }
}

fn config(dir: &Path, far: &str) -> StoreConfig {
    let drives = |names: &[&str]| names.iter().map(|name| DriveConfig { dir: dir.join(name) }).collect::<Vec<_>>();
    let bucket = S3Bucket::new(settings(far), "hall".to_owned(), "store/".to_owned()).unwrap();
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
                ground: TierGround::Remote(Arc::new(bucket)),
                after_ms: None,
                compression: None,
            },
        ],
        tiering: Tiering { every_ms: u64::MAX / 4, bytes_min: 5_000, ..Tiering::default() },
        ..StoreConfig::new(dir.join("store"))
    }
}

fn noise(tag: u64, length: usize) -> Bytes {
    let mut state = tag | 1;
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_go_to_drives_and_to_another_store_and_come_back_equal() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let far = Served::start(StoreConfig::new(there.path()), "127.0.0.1:0").await;
    Client::new(settings(&far.endpoint)).unwrap().create_bucket("hall").await.unwrap();
    let near = Served::start(config(here.path(), &far.endpoint), "127.0.0.1:0").await;
    let client = Client::new(Settings { tries: 1, ..settings(&near.endpoint) }).unwrap();
    client.create_bucket("data").await.unwrap();
    let sizes = [40_000, 700_000, 3_000_000];
    for (tag, size) in (1_u64..).zip(sizes) {
        let put = Put { body: noise(tag, size).into(), payload: Payload::Checksum, ..Put::default() };
        client.put("data", &format!("by-heat/{tag}"), put).await.unwrap();
        let mut writer = near.store.body();
        writer.write(noise(tag, size)).await.unwrap();
        let meta = ObjectMeta { storage_class: Some("GLACIER_IR".to_owned()), ..ObjectMeta::default() };
        let sealed = writer.finish().await.unwrap();
        let key = format!("by-class/{tag}");
        near.store.put_sealed("data", &key, sealed, meta, dh_store::Condition::Always).await.unwrap();
    }
    near.store.retier(Calendar::real().now_ms + 31 * DAY).await.unwrap();
    let status = client.plain(Method::GET, "/-/status", &[], 1 << 20).await.unwrap();
    let status: StoreStatus = serde_json::from_slice(&status.body).unwrap();
    let held: Vec<(String, u64)> = status.tiers.iter().map(|tier| (tier.name.clone(), tier.objects)).collect();
    assert_eq!(held, [("own".to_owned(), 0), ("cold".to_owned(), 3), ("far".to_owned(), 3)]);
    let metrics = near.store.metrics();
    assert!(metrics.contains("datahall_store_tier_objects{tier=\"far\"} 3\n"), "{metrics}");
    let equal = async || {
        for (tag, size) in (1_u64..).zip(sizes) {
            for way in ["by-heat", "by-class"] {
                let (_head, body) = client.get_whole("data", &format!("{way}/{tag}"), 4 << 20).await.unwrap();
                assert_eq!(body, noise(tag, size), "{way}/{tag}");
            }
        }
    };
    equal().await;
    for (key, class) in [("by-heat/1", "STANDARD_IA"), ("by-class/1", "GLACIER_IR")] {
        let info = near.store.head("data", key).await.unwrap();
        assert_eq!(near.store.class_of(&info).as_deref(), Some(class), "{key}");
    }

    // The other store is away: its objects answer 503, the others do not notice; a delete waits.
    let address = far.stop().await;
    let error = client.get_whole("data", "by-class/1", 4 << 20).await.unwrap_err();
    assert!(error.to_string().contains("503 ServiceUnavailable"), "{error}");
    let (_head, body) = client.get_whole("data", "by-heat/1", 4 << 20).await.unwrap();
    assert_eq!(body, noise(1, sizes[0]));
    client.delete("data", "by-class/3").await.unwrap();
    let far = Served::start(StoreConfig::new(there.path()), &address).await;
    let put = Put { body: noise(3, sizes[2]).into(), payload: Payload::Checksum, ..Put::default() };
    client.put("data", "by-class/3", put).await.unwrap();
    near.store.retier(Calendar::real().now_ms).await.unwrap();
    equal().await;
    assert_eq!((near.store.moving().2, far.store.stats().objects), (0, 2), "the delete was done");

    // A drive of the cold set is emptied while the store is down, and filled again.
    near.stop().await;
    std::fs::remove_dir_all(here.path().join("cold1")).unwrap();
    let near = Served::start(config(here.path(), &far.endpoint), "127.0.0.1:0").await;
    let drives = near.store.drives();
    assert_eq!((drives.len(), drives[3].index), (5, 3));
    assert!(matches!(drives[3].state, DriveState::Missing(_)), "{drives:?}");
    for (tag, size) in (1_u64..).zip(sizes) {
        let body = near.store.get_bytes("data", &format!("by-heat/{tag}")).await.unwrap();
        assert_eq!(body, noise(tag, size), "read without the drive");
    }
    let healed = near.store.heal(3).await.unwrap();
    assert_eq!((healed.damages.len(), near.store.drives()[3].state.clone()), (0, DriveState::Serving));
    std::fs::remove_dir_all(here.path().join("cold0")).unwrap();
    for (tag, size) in (1_u64..).zip(sizes) {
        let body = near.store.get_bytes("data", &format!("by-heat/{tag}")).await.unwrap();
        assert_eq!(body, noise(tag, size), "the filled drive holds what the other held");
    }
    near.stop().await;
    far.stop().await;
}
