//! The listener: accepts connections within their bound, serves each with every timeout set, and drains on shutdown.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{HEAD_BYTES_MAX, HEADERS_MAX, Timeouts};
use crate::stall::StallGuard;
use crate::{Error, Gateway};

/// Between two tries to accept when the process has no file descriptors left; connections that end free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn serve(
    gateway: &Gateway,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let config = &gateway.shared.config;
    let router = gateway.router();
    let places = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => {
                let (stream, place) = accepted?;
                let task = connection(stream, place, router.clone(), config.timeouts.clone(), stopped.clone());
                connections.spawn(task);
            }
            // Finished tasks are collected so that the set does not grow.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    drop(stop);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(config.timeouts.drain, all).await.is_err() {
        tracing::warn!(connections = connections.len(), "answers under way are cut off");
        connections.shutdown().await;
    }
    Ok(())
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Result<(TcpStream, OwnedSemaphorePermit), Error> {
    let place =
        Arc::clone(places).acquire_owned().await.map_err(|closed| Error::Listen(std::io::Error::other(closed)))?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, place)),
            // A client that gave up before it was accepted is no failure of ours.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => return Err(Error::Listen(error)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    router: Router,
    timeouts: Timeouts,
    mut stopped: watch::Receiver<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        // The peer is gone already; serving it would fail likewise.
        tracing::debug!(%error, "connection ended before it began");
        return;
    }
    let io = TokioIo::new(StallGuard::new(stream, timeouts.write_stall));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeouts.head)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(io, TowerToHyperService::new(router))
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        // The sender says nothing; it is dropped when the gateway stops.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
    drop(place);
}
