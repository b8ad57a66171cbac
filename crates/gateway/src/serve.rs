//! The listener: accepts connections within their bound, serves each with every timeout set, and drains on shutdown.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::Timeouts;
use crate::front::Connection;
use crate::{Error, Gateway};

/// Between two tries to accept when the process has no file descriptors left; connections that end free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections to engines that wait are looked at so often.
const SWEEP: Duration = Duration::from_secs(5);

/// A connection and its place among all.
type Accepted<S> = (S, OwnedSemaphorePermit);

pub(crate) async fn serve(
    gateway: &Gateway,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let config = &gateway.shared.config;
    let places = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    let (stop, stopped) = watch::channel(());
    let mut crowd = Crowd::new(gateway, stopped.clone());
    let threads = (0..config.threads).map(|number| Thread::start(number, gateway, stopped.clone()));
    let threads = threads.collect::<Result<Vec<_>, _>>()?;
    let mut turns = threads.iter().cycle();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => {
                let (stream, place) = accepted?;
                match turns.next() {
                    None => crowd.add(stream, place),
                    Some(thread) => thread.hand(stream, place),
                }
            }
            () = crowd.next() => {}
            _ = sweep.tick() => gateway.snapshot().sweep(),
        }
    }
    drop(listener);
    drop(stop);
    crowd.drain(&config.timeouts).await;
    for Thread { sender, ended } in threads {
        drop(sender);
        // An error means that the thread is gone, which is what is waited for.
        drop(ended.await);
    }
    Ok(())
}

/// The connections that one runtime serves.
struct Crowd {
    gateway: Gateway,
    router: Router,
    stopped: watch::Receiver<()>,
    connections: JoinSet<()>,
}

impl Crowd {
    fn new(gateway: &Gateway, stopped: watch::Receiver<()>) -> Self {
        Self { gateway: gateway.clone(), router: gateway.router(), stopped, connections: JoinSet::new() }
    }

    fn add(&mut self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let connection = Connection::new(stream, self.gateway.clone(), self.stopped.clone());
        let router = self.router.clone();
        self.connections.spawn(async move {
            connection.serve(&router).await;
            drop(place);
        });
    }

    /// Collects a finished connection, so that the set does not grow.
    async fn next(&mut self) {
        if self.connections.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets answers under way end, for a while.
    async fn drain(mut self, timeouts: &Timeouts) {
        let all = async { while self.connections.join_next().await.is_some() {} };
        if tokio::time::timeout(timeouts.drain, all).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "answers under way are cut off");
            self.connections.shutdown().await;
        }
    }
}

/// A thread with a runtime of its own, so that a request is served by one core from its first byte to its last.
struct Thread {
    sender: mpsc::UnboundedSender<Accepted<std::net::TcpStream>>,
    ended: oneshot::Receiver<()>,
}

impl Thread {
    fn start(number: usize, gateway: &Gateway, stopped: watch::Receiver<()>) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Listen)?;
        // Bounded by the places that connections hold.
        let (sender, mut receiver) = mpsc::unbounded_channel::<Accepted<std::net::TcpStream>>();
        let (end, ended) = oneshot::channel();
        let mut crowd = Crowd::new(gateway, stopped);
        let timeouts = gateway.shared.config.timeouts.clone();
        let work = async move {
            loop {
                tokio::select! {
                    received = receiver.recv() => {
                        let Some((stream, place)) = received else { break };
                        match TcpStream::from_std(stream) {
                            Ok(stream) => crowd.add(stream, place),
                            Err(error) => tracing::warn!(%error, "cannot serve a connection"),
                        }
                    }
                    () = crowd.next() => {}
                }
            }
            crowd.drain(&timeouts).await;
        };
        let run = move || {
            runtime.block_on(work);
            drop(runtime);
            drop(end);
        };
        std::thread::Builder::new().name(format!("gateway-{number}")).spawn(run).map_err(Error::Listen)?;
        Ok(Self { sender, ended })
    }

    fn hand(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        // A failure means that the peer or the thread is gone; either way the connection ends here.
        if let Ok(stream) = stream.into_std() {
            drop(self.sender.send((stream, place)));
        }
    }
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
