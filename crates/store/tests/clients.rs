//! Real clients from the registries, unmodified, against a store of their own: `tests/python/clients.py`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dh_core::{Authenticate, Principal, Role, Secret};
use dh_store::{Store, StoreConfig};
use tokio::sync::oneshot;

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

/// The Python environment with the clients; `None` where they were skipped on purpose.
fn clients() -> Option<PathBuf> {
    match std::env::var("DATAHALL_TEST_CLIENTS") {
        Ok(skip) if skip == "skip" => {
            assert!(std::env::var("CI").is_err(), "nothing may be skipped in CI");
            eprintln!("skipped: the real clients are not installed; `cargo xtask clients` installs them");
            None
        }
        Ok(folder) => Some(PathBuf::from(folder)),
        Err(_) => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients");
            assert!(
                folder.join("bin/python").exists(),
                "the real clients are missing; `cargo xtask clients` installs them into target/clients"
            );
            Some(folder.canonicalize().unwrap())
        }
    }
}

fn journey(client: &'static str) {
    let Some(clients) = clients() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new(dir.path().join("store"))).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(dh_store::serve(store.clone(), listener, Arc::new(OneKey), async {
            stopped.await.unwrap();
        }));
        let home = dir.path().to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/clients.py");
            Command::new(clients.join("bin/python"))
                .arg(script)
                .arg(client)
                // Nothing of the machine's own configuration of these clients counts.
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .env("HOME", home)
                .env("AWS_ENDPOINT_URL", endpoint)
                .env("AWS_ACCESS_KEY_ID", "admin")
                .env("AWS_SECRET_ACCESS_KEY", SECRET)
                .env("AWS_DEFAULT_REGION", "us-east-1")
                .env("AWS_EC2_METADATA_DISABLED", "true")
                .output()
                .unwrap()
        })
        .await
        .unwrap();
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        store.close().await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{client}: {said}{}", String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
fn boto3_keeps_versions_tags_and_large_files() {
    journey("boto");
}

#[test]
fn awscli_copies_syncs_and_removes() {
    journey("awscli");
}

#[test]
fn s3cmd_puts_in_parts_and_gets() {
    journey("s3cmd");
}

#[test]
fn s5cmd_copies_many_at_once() {
    journey("s5cmd");
}

#[test]
fn pyarrow_reads_columns_of_parquet() {
    journey("pyarrow");
}

#[test]
fn polars_scans_parquet() {
    journey("polars");
}

#[test]
fn webdataset_reads_shards_by_presigned_urls() {
    journey("webdataset");
}

#[test]
fn rclone_syncs_checks_moves_and_purges() {
    journey("rclone");
}

#[test]
fn s3fs_writes_in_blocks_and_reads_ranges() {
    journey("s3fs");
}
