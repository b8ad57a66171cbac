//! Logs of all ranks, past and live, as lines of JSON. Files are polled: a rank writes to a plain file, which costs it
//! nothing and survives every crash of ours.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use dh_core::{AttemptId, JobId, Rank, TaskId};
use serde::Deserialize;
use tokio::sync::mpsc::{Sender, channel};

use super::{Api, Failed, Shared, jobs};
use crate::Error;
use crate::secrets::Hider;
use crate::wire::LogLine;

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Bytes read from one rank's file at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Lines on their way to a slow reader; then the reading of files waits.
const CHUNKS_WAITING: usize = 8;

/// What to read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Only this rank.
    rank: Option<u32>,
    /// Go on until the job is over.
    #[serde(default)]
    follow: bool,
}

pub(super) async fn logs(
    State(api): Shared,
    Path(job): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Response, Failed> {
    let job = jobs::parse(&job)?;
    let spec = api.hall.read().job(job).map(|job| job.spec.clone());
    let spec = spec.ok_or_else(|| Error::NotFound(job.to_string()))?;
    let hider = if spec.secrets.is_empty() {
        Hider::default()
    } else {
        super::secrets::blocking(&api, move |api| Ok(api.secrets.hider(&spec))).await?
    };
    let (lines, mut received) = channel(CHUNKS_WAITING);
    tokio::spawn(async move { send_all(&api, job, &wish, &hider, &lines).await });
    let body = Body::from_stream(futures::stream::poll_fn(move |context| received.poll_recv(context)));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

type Chunk = Result<Bytes, std::io::Error>;

/// Sends attempt after attempt; ends when the job is over or the reader has gone.
async fn send_all(api: &Arc<Api>, job: JobId, wish: &Wish, hider: &Hider, lines: &Sender<Chunk>) {
    let mut attempt = 1;
    loop {
        if api.hall.settled().await.is_err() {
            return;
        }
        let Some(seen) = Seen::of(api, job, attempt) else { return };
        if seen.attempts < attempt {
            if seen.over || !wish.follow || lines.is_closed() {
                return;
            }
            tokio::time::sleep(POLL).await;
            continue;
        }
        let ranks: Vec<u32> = match wish.rank {
            Some(rank) => vec![rank],
            None => (0..seen.ranks).collect(),
        };
        let mut files: Vec<Tail> = ranks
            .into_iter()
            .map(|rank| {
                let task = TaskId { attempt: AttemptId { job, attempt }, rank: Rank(rank) };
                Tail {
                    attempt,
                    rank,
                    path: api.executor.log_path(task),
                    offset: 0,
                    partial: Vec::new(),
                    hider: hider.clone(),
                }
            })
            .collect();
        loop {
            // Whether the attempt was over is asked before the files are read, so that its last lines are not missed.
            let ended = Seen::of(api, job, attempt).is_none_or(|seen| !seen.running);
            let mut progress = false;
            for file in &mut files {
                match file.read_on(ended || !wish.follow).await {
                    Ok(text) if text.is_empty() => {}
                    Ok(text) => {
                        progress = true;
                        if lines.send(Ok(Bytes::from(text))).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        // The reader sees a broken answer, which is what it is.
                        drop(lines.send(Err(error)).await);
                        return;
                    }
                }
            }
            if !progress {
                if ended || !wish.follow {
                    break;
                }
                if lines.is_closed() {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        attempt += 1;
    }
}

/// What the hall knows of an attempt.
struct Seen {
    attempts: u32,
    ranks: u32,
    over: bool,
    /// Whether this attempt owns slots.
    running: bool,
}

impl Seen {
    fn of(api: &Api, job: JobId, attempt: u32) -> Option<Self> {
        let hall = api.hall.read();
        let job = hall.job(job)?;
        Some(Self {
            attempts: job.attempts,
            ranks: job.spec.ranks,
            over: !job.open(),
            running: job.active().is_some_and(|active| active.id.attempt == attempt),
        })
    }
}

/// One rank's file, read on from where we were.
struct Tail {
    attempt: u32,
    rank: u32,
    path: PathBuf,
    offset: u64,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// Hides the job's secrets.
    hider: Hider,
}

impl Tail {
    /// New whole lines as JSON text; with `last`, also a line without an end.
    async fn read_on(&mut self, last: bool) -> Result<String, std::io::Error> {
        let (path, offset) = (self.path.clone(), self.offset);
        let read = tokio::task::spawn_blocking(move || dh_exec::logs::read_from(&path, offset, CHUNK_BYTES));
        let (bytes, next) = read.await.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?;
        let at_end = bytes.is_empty();
        self.offset = next;
        self.partial.extend_from_slice(&bytes);
        let mut text = String::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.write_line(line.strip_suffix(b"\n").unwrap_or(&line), &mut text);
        }
        let too_long = self.partial.len() >= dh_core::limits::LOG_LINE_BYTES_MAX;
        if too_long || (last && at_end && !self.partial.is_empty()) {
            let line = std::mem::take(&mut self.partial);
            self.write_line(&line, &mut text);
        }
        Ok(text)
    }

    fn write_line(&self, line: &[u8], text: &mut String) {
        let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
        let line = self.hider.hide(line);
        let line = LogLine { attempt: self.attempt, rank: self.rank, line };
        if let Ok(json) = serde_json::to_string(&line) {
            text.push_str(&json);
            text.push('\n');
        }
    }
}
