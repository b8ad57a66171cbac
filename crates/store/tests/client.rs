//! The project's own S3 client, its copies, its load generator and the front's `/-/`, against a store over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use dh_core::{Authenticate, Principal, Role, Secret};
use dh_s3::load::{self, Op, Plan};
use dh_s3::transfer::{self, Depth, Meter, Options, Spot};
use dh_s3::{Client, Credentials, Error, Payload, Place, Put, Query, Settings, Signing, Span};
use dh_store::operate::{DriveReport, ScrubOutcome, StoreStatus};
use dh_store::{S3Options, Store, StoreConfig};
use http::Method;
use tokio::sync::{oneshot, watch};

const SECRET: &str = "a-secret-of-tests-only";

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
    Settings::new(endpoint, Some(credentials))
}

/// Runs `scene` with a store of its own: its endpoint, and its folder.
async fn with_store<F: Future<Output = ()>>(scene: impl FnOnce(String, PathBuf, Store) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::new(dir.path().join("store"))).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = dh_store::serve_with(store.clone(), listener, Arc::new(OneKey), S3Options::default(), async {
        stopped.await.unwrap();
    });
    let server = tokio::spawn(serving);
    scene(endpoint, dir.path().to_owned(), store.clone()).await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    store.close().await;
}

fn put(body: &'static [u8], payload: Payload) -> Put {
    Put { body: Bytes::from_static(body).into(), payload, content_type: Some("text/plain".to_owned()) }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_byte| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_sign_and_to_vouch_is_understood() {
    with_store(|endpoint, _dir, _store| async move {
        for signing in [Signing::Header, Signing::Presigned] {
            let client = Client::new(Settings { signing, ..settings(&endpoint) }).unwrap();
            client.create_bucket("own").await.unwrap();
            client.create_bucket("own").await.unwrap();
            for payload in [Payload::Signed, Payload::Unsigned, Payload::Checksum, Payload::Trailer] {
                if (signing, payload) == (Signing::Presigned, Payload::Trailer) {
                    // A trailer is announced in headers that a presigned address does not sign.
                    continue;
                }
                let key = format!("a b/+{payload:?}é\"&<");
                client.put("own", &key, put(b"hello", payload)).await.unwrap();
                let (head, body) = client.get_whole("own", &key, 100).await.unwrap();
                assert_eq!((body.as_ref(), head.bytes), (&b"hello"[..], 5));
                assert_eq!(head.content_type.as_deref(), Some("text/plain"));
                let span = Span { offset: 1, length: 3 };
                assert_eq!(client.get_span("own", &key, span, head.etag.as_deref()).await.unwrap(), "ell");
                let wrong = client.get_span("own", &key, span, Some("other")).await.unwrap_err();
                assert_eq!(wrong.code(), Some("PreconditionFailed"));
                let listed = client.list("own", &Query { prefix: key.clone(), ..Query::default() }).await.unwrap();
                assert_eq!(listed.objects[0].key, key);
                assert_eq!(client.delete_many("own", &[key.clone()]).await.unwrap(), []);
                assert_eq!(client.head("own", &key).await.unwrap_err().code(), Some("NotFound"));
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_code_and_request_and_no_secret() {
    with_store(|endpoint, _dir, _store| async move {
        let client = Client::new(settings(&endpoint)).unwrap();
        let error = client.get("nothing-here", "k", None).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused { status: 404, code, request_id: Some(_), .. } if code == "NoSuchBucket")
        );
        let mut other = settings(&endpoint);
        other.credentials.as_mut().unwrap().secret = Secret::new("wrong-and-not-to-be-seen".to_owned());
        let error = Client::new(other).unwrap().buckets().await.unwrap_err();
        assert_eq!(error.code(), Some("SignatureDoesNotMatch"));
        assert!(!error.to_string().contains("not-to-be-seen"));
        let gone = Settings { tries: 2, ..settings("http://127.0.0.1:9") };
        assert!(matches!(Client::new(gone).unwrap().buckets().await, Err(Error::Unreachable { tries: 2, .. })));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_up_across_and_down_whole() {
    with_store(|endpoint, dir, _store| async move {
        let client = Client::new(settings(&endpoint)).unwrap();
        client.create_bucket("own").await.unwrap();
        let tree = dir.join("tree");
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        let big = noise(13 << 20);
        std::fs::write(tree.join("sub/big"), &big).unwrap();
        std::fs::write(tree.join("small.json"), "{}").unwrap();
        std::fs::write(tree.join("empty"), "").unwrap();
        let options = Options { part_bytes: 5 << 20, parallel: 3 };
        let meter = Arc::new(Meter::default());
        let spot = |text: &str| text.parse::<Spot>().unwrap();
        let here = |path: &Path| Spot::Local(path.to_owned());
        let run = async |from: &Spot, to: &Spot, depth| transfer::copy(&client, from, to, depth, options, &meter).await;
        run(&here(&tree), &spot("s3://own/up"), Depth::All).await.unwrap();
        run(&spot("s3://own/up"), &spot("s3://own/across"), Depth::All).await.unwrap();
        let back = dir.join("back");
        run(&spot("s3://own/across"), &here(&back), Depth::All).await.unwrap();
        assert_eq!(std::fs::read(back.join("sub/big")).unwrap(), big);
        assert_eq!(std::fs::read(back.join("empty")).unwrap(), b"");
        assert_eq!(meter.objects.load(Ordering::Relaxed), 9);
        assert_eq!(meter.unchecked.load(Ordering::Relaxed), 0);
        let head = client.head("own", "up/sub/big").await.unwrap();
        assert_eq!((head.bytes, head.etag.unwrap().ends_with("-3")), (13 << 20, true));
        assert_eq!(
            client.head("own", "up/small.json").await.unwrap().content_type.as_deref(),
            Some("application/json")
        );
        run(&here(&tree.join("empty")), &spot("s3://own/folder/"), Depth::One).await.unwrap();
        client.head("own", "folder/empty").await.unwrap();
        assert!(run(&spot("s3://own/none"), &here(&back), Depth::One).await.is_err());
        let all: Place = "s3://own".parse().unwrap();
        assert_eq!(transfer::remove_all(&client, &all, |_removed| ()).await.unwrap(), 7);
        client.remove_bucket("own").await.unwrap();
        // No file that is not whole is left behind.
        let left = std::fs::read_dir(&back).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(left.into_iter().all(|name| !name.contains(".part")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_every_kind_ends_verifies_and_leaves_nothing() {
    with_store(|endpoint, _dir, store| async move {
        let client = Client::new(settings(&endpoint)).unwrap();
        for op in [Op::Put, Op::Get, Op::Mixed, Op::List, Op::Delete] {
            let plan = Plan {
                duration: Duration::from_millis(400),
                warm_up: Duration::ZERO,
                objects: Some(40),
                server: vec![std::process::id()],
                ..Plan::new(op, 10_000, 4)
            };
            let (_stop, stopped) = watch::channel(false);
            let report = load::run(&client, plan, |_progress| (), stopped).await.unwrap();
            let count: u64 = report.operations.iter().map(|one| one.count).sum();
            assert!(count > 0 && report.errors.is_empty(), "{report:?}");
            if op == Op::Put || op == Op::Delete {
                assert!(count <= 44, "{report:?}");
            }
            if op == Op::Get {
                assert!(report.verified >= count);
            }
            assert!(report.server.is_some());
            assert!(store.buckets().await.unwrap().is_empty(), "{op:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_root_users_how_it_is_and_others_only_that_it_lives() {
    with_store(|endpoint, dir, _store| async move {
        let client = Client::new(settings(&endpoint)).unwrap();
        client.create_bucket("own").await.unwrap();
        for key in ["a", "b", "c"] {
            client.put("own", key, Put { body: noise(300_000).into(), ..Put::default() }).await.unwrap();
        }
        let limit = 1 << 20;
        let nobody = Client::new(Settings { tries: 1, credentials: None, ..settings(&endpoint) }).unwrap();
        assert_eq!(nobody.plain(Method::GET, "/-/health", &[], limit).await.unwrap().body, "ok\n");
        for path in ["/-/status", "/-/drives", "/-/metrics", "/-/health2"] {
            assert_eq!(nobody.plain(Method::GET, path, &[], limit).await.unwrap_err().code(), Some("AccessDenied"));
        }
        let ask = async |method, path: &str, query: &[(&str, String)]| client.plain(method, path, query, limit).await;
        let status = ask(Method::GET, "/-/status", &[]).await.unwrap();
        let status: StoreStatus = serde_json::from_slice(&status.body).unwrap();
        assert_eq!((status.objects, status.buckets, status.drives.len()), (3, 1, 1));
        let drives = ask(Method::GET, "/-/drives", &[]).await.unwrap();
        let drives: Vec<DriveReport> = serde_json::from_slice(&drives.body).unwrap();
        assert_eq!(drives[0].state, "serving");
        let metrics = ask(Method::GET, "/-/metrics", &[]).await.unwrap();
        assert!(String::from_utf8_lossy(&metrics.body).contains("datahall_store_objects 3"));
        let (mut cursor, mut bodies, mut steps) = (None::<String>, 0, 0);
        loop {
            let mut query = vec![("bytes-max", "300000".to_owned())];
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let step = ask(Method::POST, "/-/scrub", &query).await.unwrap();
            let step: ScrubOutcome = serde_json::from_slice(&step.body).unwrap();
            assert_eq!(step.damages, []);
            (bodies, steps) = (bodies + step.bodies, steps + 1);
            cursor = step.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((bodies, steps > 1), (3, true));
        assert!(ask(Method::POST, "/-/scrub", &[("cursor", "zz".to_owned())]).await.is_err());
        assert!(ask(Method::POST, "/-/heal", &[("drive", "7".to_owned())]).await.is_err());
        assert!(dir.exists());
    })
    .await;
}
