//! The event log as server-sent events: what was, from any number on, and then what happens, each when it is durable.
//!
//! A reader that was cut off sends the last `id` it saw as `Last-Event-ID` and misses nothing; one that is too slow is cut off.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use dh_core::Kind;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{Sender, channel};

use super::{Api, Failed, Shared};
use crate::log::{PAGE, Row};

/// A comment in between, so that a connection that is gone is noticed, and proxies keep one that is not.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Chunks on their way to a slow reader; then the reading waits.
const CHUNKS_WAITING: usize = 16;

/// From where.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// Events with larger numbers; only new ones if absent.
    after: Option<u64>,
}

pub(super) async fn events(
    State(api): Shared,
    Query(since): Query<Since>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let seen = headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse().ok()));
    let after = match seen {
        Some(None) => return Err(Failed::new(Kind::Invalid, "`Last-Event-ID` is no number of an event")),
        Some(id) => id,
        None => since.after,
    };
    let (chunks, mut received) = channel(CHUNKS_WAITING);
    tokio::spawn(async move {
        // A reader that has gone needs no answer, and a log that cannot be read breaks the answer off.
        if let Err(error) = send_all(&api, after, &chunks).await {
            drop(chunks.send(Err(error)).await);
        }
    });
    let body = Body::from_stream(futures::stream::poll_fn(move |context| received.poll_recv(context)));
    Ok(([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response())
}

type Chunk = Result<Bytes, std::io::Error>;

async fn send_all(api: &Arc<Api>, after: Option<u64>, chunks: &Sender<Chunk>) -> Result<(), std::io::Error> {
    // Subscribed before the log is read, so that nothing falls between the two.
    let mut news = api.hall.news();
    let mut last = after.unwrap_or(u64::MAX);
    while after.is_some() {
        let place = api.log.clone();
        let page = tokio::task::spawn_blocking(move || place.open_to_read()?.read(last, PAGE)).await;
        let page = page.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?;
        let Some(newest) = page.last() else { break };
        last = newest.seq;
        if chunks.send(Ok(page.iter().map(text).collect::<String>().into())).await.is_err() {
            return Ok(());
        }
    }
    let mut stopped = api.stop.subscribe();
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(HEARTBEAT, news.recv()) => next,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        let chunk = match next {
            Err(_) => ":\n\n".to_owned(),
            Ok(Ok(row)) if after.is_some() && row.seq <= last => continue,
            Ok(Ok(row)) => text(&row),
            Ok(Err(RecvError::Lagged(_))) => return Err(std::io::Error::other("the reader is too slow")),
            Ok(Err(RecvError::Closed)) => return Ok(()),
        };
        if chunks.send(Ok(chunk.into())).await.is_err() {
            return Ok(());
        }
    }
}

/// One event. Its JSON has no line end.
fn text(row: &Row) -> String {
    let kind = row.body.split('"').nth(3).filter(|_| row.body.starts_with("{\"event\":\"")).unwrap_or("event");
    format!(
        "id: {}\nevent: {kind}\ndata: {{\"seq\":{},\"at_ns\":{},\"what\":{}}}\n\n",
        row.seq, row.seq, row.at_ns, row.body
    )
}
