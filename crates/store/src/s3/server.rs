//! The listener: connections, their bounds, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use dh_core::Authenticate;
use dh_core::limits::{CONNECTIONS_MAX, HEAD_TIMEOUT_MS, STOP_GRACE_MS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::S3Options;
use super::job::Front;
use super::service::answer;
use crate::identity::Accounts;
use crate::{Error, Store};

/// How long `accept` rests when the process has no descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves S3 on `listener` until `shutdown` is ready, then lets requests in progress end, for a few seconds at most.
/// The store stays open.
/// # Errors
/// If the listener cannot be asked for its address, which means that it is not usable.
pub async fn serve(
    store: Store,
    listener: TcpListener,
    auth: Arc<dyn Authenticate>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    serve_with(store, listener, auth, S3Options::default(), shutdown).await
}

/// [`serve`] with options.
/// # Errors
/// The same, and if the account book or the key ring cannot be read.
pub async fn serve_with(
    store: Store,
    listener: TcpListener,
    auth: Arc<dyn Authenticate>,
    options: S3Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(|error| Error::io("the S3 listener", error))?;
    tracing::info!(%address, "S3 is served");
    let accounts = Accounts::open(&store).await?;
    let ring = store.key_ring().await?;
    let front = Arc::new(Front {
        store,
        accounts,
        auth,
        options,
        ring: Arc::new(ring),
        buckets: super::bucket::Known::default(),
        started: std::time::Instant::now(),
    });
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(false);
    let expiry = tokio::spawn(super::expiry::run(Arc::clone(&front), stopping.clone()));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            // Beyond the bound, connections wait in the kernel's queue.
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        let Ok(permit) = permit else { break };
        match accepted {
            Ok((stream, peer)) => {
                let (front, stopping) = (Arc::clone(&front), stopping.clone());
                tokio::spawn(async move {
                    connection(stream, peer.ip(), front, stopping).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    if expiry.await.is_err() {
        tracing::error!("the lifecycle task ended by a panic");
    }
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let grace = Duration::from_millis(STOP_GRACE_MS);
    if tokio::time::timeout(grace, connections.acquire_many(all)).await.is_err() {
        tracing::warn!("requests were still in progress when the S3 listener ended");
    }
    tracing::info!(%address, "S3 is no longer served");
    Ok(())
}

async fn connection(stream: TcpStream, peer: IpAddr, front: Arc<Front>, mut stopping: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let answer = service_fn(move |request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(answer(front, request, peer).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(HEAD_TIMEOUT_MS))
            .serve_connection(TokioIo::new(stream), answer)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(Duration::from_millis(STOP_GRACE_MS), connection.as_mut()).await {
                Ok(result) => result,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Ready once the listener stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the listener is gone");
    }
}
