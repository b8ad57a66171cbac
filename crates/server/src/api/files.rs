//! Files of the folder in which ranks start: read and written by whoever may operate the hall, streamed, and bounded.
//!
//! Invariants: nothing outside the folder is reached, for each piece of a path is opened by itself and links are not followed; a
//! file is written whole or not at all.

use std::fs::File;
use std::os::fd::OwnedFd;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use dh_core::Kind;
use futures::StreamExt;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::channel;

use super::{Api, Failed, Shared, jobs};
use crate::Error;

/// The largest file that is taken. What is larger belongs into the store.
const FILE_BYTES_MAX: u64 = 16 << 30;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks on their way to a slow reader; then the reading waits.
const CHUNKS_WAITING: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    path: String,
}

pub(super) async fn read(
    State(api): Shared,
    Path(job): Path<String>,
    Query(Which { path }): Query<Which>,
) -> Result<Response, Failed> {
    known(&api, &job)?;
    let (folder, name) = folder_of(&api, &path)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(&folder, &name, flags, Mode::empty()).map_err(|error| no(&path, error))?);
    let about = file.metadata().map_err(|error| Failed::new(Kind::Internal, format!("{path}: {error}")))?;
    if !about.is_file() {
        return Err(Failed::new(Kind::Invalid, format!("`{path}` is not a file")).hint("`tar` makes one of a folder"));
    }
    let (sender, mut chunks) = channel::<Result<Bytes, std::io::Error>>(CHUNKS_WAITING);
    let length = about.len();
    tokio::spawn(async move {
        // What is appended meanwhile is not sent: the length was promised.
        let mut file = tokio::fs::File::from_std(file).take(length);
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = (&mut file).take(u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX)).read_to_end(&mut chunk).await;
            let sent = match read {
                Ok(0) => return,
                Ok(_) => sender.send(Ok(chunk.into())).await,
                Err(error) => sender.send(Err(error)).await,
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let body = Body::from_stream(futures::stream::poll_fn(move |context| chunks.poll_recv(context)));
    let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, length.to_string())];
    Ok((headers, body).into_response())
}

pub(super) async fn write(
    State(api): Shared,
    Path(job): Path<String>,
    Query(Which { path }): Query<Which>,
    body: Body,
) -> Result<Json<serde_json::Value>, Failed> {
    known(&api, &job)?;
    let (folder, name) = folder_of(&api, &path)?;
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| Failed::new(Kind::Internal, error.to_string()))?;
    let fresh = format!(".part-{}", hex::encode(random));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(&folder, &fresh, flags, Mode::from_raw_mode(0o600)).map_err(|error| no(&path, error))?;
    let outcome = match fill(tokio::fs::File::from_std(File::from(file)), body, &path).await {
        Ok(bytes) => match rustix::fs::renameat(&folder, &fresh, &folder, &name) {
            Ok(()) => return Ok(Json(serde_json::json!({ "bytes": bytes }))),
            Err(error) => no(&path, error),
        },
        Err(failed) => failed,
    };
    if let Err(error) = rustix::fs::unlinkat(&folder, &fresh, AtFlags::empty()) {
        tracing::warn!(%error, fresh, "a part of a file stays behind");
    }
    Err(outcome)
}

/// Writes a body into `file`; its bytes.
async fn fill(mut file: tokio::fs::File, body: Body, path: &str) -> Result<u64, Failed> {
    let failed = |error: &dyn std::fmt::Display| Failed::new(Kind::Internal, format!("cannot write `{path}`: {error}"));
    let mut pieces = body.into_data_stream();
    let mut bytes = 0_u64;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Failed::new(Kind::Invalid, format!("the body broke off: {error}")))?;
        bytes = bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if bytes > FILE_BYTES_MAX {
            return Err(Failed::new(Kind::Invalid, format!("`{path}` is larger than {FILE_BYTES_MAX} bytes"))
                .hint("`datahall store cp` takes files of any size"));
        }
        file.write_all(&piece).await.map_err(|error| failed(&error))?;
    }
    file.sync_all().await.map_err(|error| failed(&error))?;
    Ok(bytes)
}

fn known(api: &Api, job: &str) -> Result<(), Failed> {
    let id = jobs::parse(job)?;
    match api.hall.read().job(id) {
        Some(_) => Ok(()),
        None => Err(Error::NotFound(id.to_string()).into()),
    }
}

/// The open folder that `path` is in, below the one in which ranks start, and the path's last name.
fn folder_of(api: &Api, path: &str) -> Result<(OwnedFd, String), Failed> {
    let pieces: Vec<&str> = path.split('/').filter(|piece| !piece.is_empty() && *piece != ".").collect();
    let outside = path.starts_with('/') || path.contains('\0') || pieces.contains(&"..");
    let Some((name, folders)) = pieces.split_last().filter(|_| !outside && !path.ends_with('/')) else {
        return Err(Failed::new(
            Kind::Invalid,
            format!("`{path}` is no path of a file below the job's working folder"),
        ));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = rustix::fs::openat(CWD, &api.workdir, flags, Mode::empty()).map_err(|error| no(path, error))?;
    for piece in folders {
        folder = rustix::fs::openat(&folder, *piece, flags | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|error| no(path, error))?;
    }
    Ok((folder, (*name).to_owned()))
}

fn no(path: &str, error: Errno) -> Failed {
    match error {
        Errno::NOENT => Failed::new(Kind::NotFound, format!("there is no `{path}` in the job's working folder")),
        Errno::LOOP | Errno::NOTDIR => {
            Failed::new(Kind::Invalid, format!("`{path}` goes over a link or a file; links are not followed"))
        }
        error => Failed::new(Kind::Internal, format!("`{path}`: {error}")),
    }
}
