//! Serves a store on a loopback port, for trying S3 clients and conformance suites by hand.
//!
//! `cargo run --release -p dh-store --example serve -- DIR [PORT] [--users FILE] [--day-seconds N] [--kms-key NAME]...`
//!
//! Without users there is one key, `demo` with the secret `demo-secret-key`. A file of users is a JSON list of
//! `{"id", "name", "display_name", "email", "aliases", "access_key", "secret_key"}`; each is an account of its own. What a
//! lifecycle calls a day lasts N seconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dh_core::{Authenticate, Principal, Role, Secret};
use dh_store::{Accounts, NewAccount, S3Options, Store, StoreConfig};

struct OneKey;

impl Authenticate for OneKey {
    fn bearer(&self, _token: &str) -> Option<Principal> {
        None
    }

    fn signing_key(&self, access_key_id: &str) -> Option<(Secret<String>, Principal)> {
        let principal = Principal { name: "demo".to_owned(), role: Role::Admin };
        (access_key_id == "demo").then(|| (Secret::new("demo-secret-key".to_owned()), principal))
    }
}

async fn add_users(store: &Store, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let list: Vec<NewAccount> = serde_json::from_slice(&std::fs::read(file)?)?;
    let accounts = Accounts::open(store).await?;
    for one in list {
        accounts.add_account(one).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut options = S3Options::default();
    let (mut places, mut users): (Vec<String>, Option<PathBuf>) = (Vec::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--users" => users = arguments.next().map(PathBuf::from),
            "--day-seconds" => options.day_seconds = arguments.next().map(|seconds| seconds.parse()).transpose()?,
            "--region" => options.region = arguments.next().ok_or("--region NAME")?,
            "--kms-key" => options.kms_keys.extend(arguments.next()),
            _place => places.push(argument),
        }
    }
    let dir = places.first().ok_or("usage: serve DIR [PORT] [--users FILE] [--day-seconds N] [--kms-key NAME]")?;
    let port: u16 = places.get(1).map_or(Ok(0), |port| port.parse())?;
    let store = Store::open(StoreConfig::new(dir)).await?;
    if let Some(file) = users {
        add_users(&store, &file).await?;
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let stop = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot wait for a signal");
        }
    };
    dh_store::serve_with(store.clone(), listener, Arc::new(OneKey), options, stop).await?;
    store.close().await;
    Ok(())
}
