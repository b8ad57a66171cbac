//! Serves a store on a loopback port with one fixed key pair, for trying S3 clients by hand.
//!
//! `cargo run --release -p dh-store --example serve -- DIR [PORT]`; the key is `demo` and its secret `demo-secret-key`.

use std::sync::Arc;

use dh_core::{Authenticate, Principal, Role, Secret};
use dh_store::{Store, StoreConfig};

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

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: serve DIR [PORT]")?;
    let port: u16 = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let store = Store::open(StoreConfig::new(dir)).await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let stop = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot wait for a signal");
        }
    };
    dh_store::serve(store.clone(), listener, Arc::new(OneKey), stop).await?;
    store.close().await;
    Ok(())
}
