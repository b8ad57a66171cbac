//! The server over a real socket, with a client that signs for itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use dh_core::{Authenticate, Principal, Role, Secret};
use dh_store::{Store, StoreConfig};
use rusty_s3::actions::{CreateBucket, DeleteObject, GetObject, ListObjectsV2, PutObject};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use tokio::sync::oneshot;

const HOUR: Duration = Duration::from_hours(1);

struct Keys;

impl Authenticate for Keys {
    fn bearer(&self, _token: &str) -> Option<Principal> {
        None
    }

    fn signing_key(&self, id: &str) -> Option<(Secret<String>, Principal)> {
        let role = match id {
            "admin" => Role::Admin,
            "job" => Role::Job,
            "model" => Role::Model,
            _other => return None,
        };
        Some((Secret::new(format!("{id}-secret")), Principal { name: id.to_owned(), role }))
    }
}

fn credentials(id: &str) -> Credentials {
    Credentials::new(id, format!("{id}-secret"))
}

struct Reply {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let mut response = response.unwrap();
    let body = response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap();
    Reply { status: response.status().as_u16(), headers: response.headers().clone(), body }
}

fn get(url: &str, headers: &[(&str, &str)]) -> Reply {
    read(headers.iter().fold(agent().get(url), |request, (name, value)| request.header(*name, *value)).call())
}

fn put(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    read(headers.iter().fold(agent().put(url), |request, (name, value)| request.header(*name, *value)).send(body))
}

/// Runs `client` on its own thread against a fresh server, then stops the server.
fn with_server(client: impl FnOnce(Bucket) + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new(dir.path())).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(dh_store::serve(store.clone(), listener, Arc::new(Keys), async {
            stopped.await.unwrap();
        }));
        let bucket = Bucket::new(endpoint.parse().unwrap(), UrlStyle::Path, "bucket", "us-east-1").unwrap();
        tokio::task::spawn_blocking(move || client(bucket)).await.unwrap();
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        let metrics = store.metrics();
        assert!(metrics.contains("datahall_store_requests_total"), "{metrics}");
        store.close().await;
    });
}

fn sign_put(bucket: &Bucket, id: &str, key: &str) -> String {
    PutObject::new(bucket, Some(&credentials(id)), key).sign(HOUR).to_string()
}

fn sign_get(bucket: &Bucket, id: &str, key: &str) -> String {
    GetObject::new(bucket, Some(&credentials(id)), key).sign(HOUR).to_string()
}

fn create(bucket: &Bucket) {
    let url = CreateBucket::new(bucket, &credentials("admin")).sign(HOUR);
    assert_eq!(put(url.as_str(), &[], b"").status, 200);
}

#[test]
fn objects_go_in_and_come_out() {
    with_server(|bucket| {
        create(&bucket);
        // Making it again is no error, as it always was in S3's first region.
        create(&bucket);

        let body: Vec<u8> = (0..700_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let key = "folder/a key+with é";
        let headers = [("content-type", "text/x-test"), ("x-amz-meta-color", "green"), ("cache-control", "no-store")];
        let stored = put(&sign_put(&bucket, "job", key), &headers, &body);
        assert_eq!(stored.status, 200, "{}", stored.text());
        let etag = stored.header("etag").to_owned();
        assert_eq!(etag.len(), 34);

        let found = get(&sign_get(&bucket, "job", key), &[]);
        assert!(found.status == 200 && found.body == body);
        assert_eq!(found.header("content-type"), "text/x-test");
        assert_eq!(found.header("x-amz-meta-color"), "green");
        assert_eq!(found.header("cache-control"), "no-store");
        assert_eq!(found.header("content-length"), "700000");
        assert_eq!(found.header("etag"), etag);

        let part = get(&sign_get(&bucket, "job", key), &[("range", "bytes=262140-262150")]);
        assert_eq!((part.status, part.header("content-range")), (206, "bytes 262140-262150/700000"));
        assert_eq!(part.body, body[262_140..=262_150]);
        let end = get(&sign_get(&bucket, "job", key), &[("range", "bytes=-5")]);
        assert_eq!((end.status, end.body.as_slice()), (206, &body[699_995..]));
        let outside = get(&sign_get(&bucket, "job", key), &[("range", "bytes=700000-")]);
        assert!(outside.status == 416 && outside.text().contains("InvalidRange"), "{}", outside.text());

        assert_eq!(get(&sign_get(&bucket, "job", key), &[("if-none-match", &etag)]).status, 304);
        assert_eq!(get(&sign_get(&bucket, "job", key), &[("if-match", "\"00\"")]).status, 412);
        let occupied = put(&sign_put(&bucket, "job", key), &[("if-none-match", "*")], b"other");
        assert!(occupied.status == 412 && occupied.text().contains("PreconditionFailed"), "{}", occupied.text());

        let deleted = DeleteObject::new(&bucket, Some(&credentials("job")), key).sign(HOUR);
        assert_eq!(read(agent().delete(deleted.as_str()).call()).status, 204);
        let gone = get(&sign_get(&bucket, "job", key), &[]);
        assert!(gone.status == 404 && gone.text().contains("NoSuchKey"), "{}", gone.text());
    });
}

#[test]
fn listings_page_and_roll_up() {
    with_server(|bucket| {
        create(&bucket);
        for key in ["a/1", "a/2", "b", "c/1", "d"] {
            assert_eq!(put(&sign_put(&bucket, "admin", key), &[], key.as_bytes()).status, 200);
        }
        let credentials = credentials("admin");
        let (mut keys, mut prefixes, mut token) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let mut action = ListObjectsV2::new(&bucket, Some(&credentials));
            action.with_delimiter("/");
            action.with_max_keys(2);
            if let Some(token) = token.take() {
                action.with_continuation_token(token);
            }
            let reply = get(action.sign(HOUR).as_str(), &[]);
            assert_eq!(reply.status, 200, "{}", reply.text());
            let page = ListObjectsV2::parse_response(&reply.text()).unwrap();
            keys.extend(page.contents.into_iter().map(|object| object.key));
            prefixes.extend(page.common_prefixes.into_iter().map(|prefix| prefix.prefix));
            token = page.next_continuation_token;
            if token.is_none() {
                break;
            }
        }
        assert_eq!((keys, prefixes), (vec!["b".to_owned(), "d".to_owned()], vec!["a/".to_owned(), "c/".to_owned()]));
    });
}

#[test]
fn nobody_comes_in_without_a_valid_signature() {
    with_server(|bucket| {
        create(&bucket);
        assert_eq!(put(&sign_put(&bucket, "admin", "key"), &[], b"secret").status, 200);
        let unsigned = bucket.object_url("key");
        let check = |reply: &Reply, code: &str| {
            assert!(reply.status == 403 && reply.text().contains(code), "{code}: {} {}", reply.status, reply.text());
        };
        check(&get(unsigned.as_str(), &[]), "AccessDenied");
        check(&put(unsigned.as_str(), &[], b"planted"), "AccessDenied");
        check(&get(bucket.base_url().as_str(), &[]), "AccessDenied");
        check(&get(&sign_get(&bucket, "stranger", "key"), &[]), "InvalidAccessKeyId");
        check(&get(&sign_get(&bucket, "model", "key"), &[]), "AccessDenied");
        let wrong = Credentials::new("admin", "not-the-secret");
        check(&get(GetObject::new(&bucket, Some(&wrong), "key").sign(HOUR).as_str(), &[]), "SignatureDoesNotMatch");
        let other_key = sign_get(&bucket, "admin", "other").replace("/other?", "/key?");
        check(&get(&other_key, &[]), "SignatureDoesNotMatch");
        let as_put = sign_get(&bucket, "admin", "key");
        check(&put(&as_put, &[], b"planted"), "SignatureDoesNotMatch");
        let form = read(
            agent()
                .post(bucket.base_url().as_str())
                .header("content-type", "multipart/form-data; boundary=x")
                .send("--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nplanted\r\n--x--\r\n"),
        );
        check(&form, "AccessDenied");
        // Who holds a URL to put one object may not copy another into it, or open it to everybody.
        let url = sign_put(&bucket, "admin", "mine");
        for header in [("x-amz-copy-source", "/bucket/key"), ("x-amz-acl", "public-read"), ("x-amz-tagging", "a=b")] {
            check(&put(&url, &[header], b""), "AccessDenied");
        }
        assert_eq!(get(&sign_get(&bucket, "job", "key"), &[]).body, b"secret");
    });
}

#[test]
fn a_body_that_is_not_what_was_announced_is_refused() {
    with_server(|bucket| {
        create(&bucket);
        let url = sign_put(&bucket, "admin", "key");
        let refused = |headers: &[(&str, &str)], code: &str| {
            let reply = put(&url, headers, b"hello");
            assert!(reply.status == 400 && reply.text().contains(code), "{code}: {} {}", reply.status, reply.text());
        };
        refused(&[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], "BadDigest");
        refused(&[("content-md5", "short")], "InvalidDigest");
        refused(&[("x-amz-checksum-crc32", "AAAAAA==")], "BadDigest");
        refused(&[("x-amz-checksum-sha256", "AAAAAA==")], "BadDigest");
        assert_eq!(get(&sign_get(&bucket, "admin", "key"), &[]).status, 404);
        // Check values by coreutils and Python's zlib.
        for (name, value) in [("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="), ("x-amz-checksum-crc32", "NhCmhg==")] {
            let reply = put(&url, &[(name, value)], b"hello");
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        }
    });
}
