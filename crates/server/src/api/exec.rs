//! A program beside a running rank: our own program's hidden `beside` runs it (see [`dh_exec::beside`]), and its output goes to
//! the caller in frames. It ends with the rank, with the caller's connection, and with this server.

use std::convert::Infallible;
use std::process::Stdio;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use dh_blueprint::Executor;
use dh_core::{Kind, Rank, TaskId};
use dh_hall::Task;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::mpsc::{Sender, channel};

use super::{Caller, Failed, Shared, jobs};
use crate::Error;
use crate::wire::{ExecEnd, ExecRequest};

/// What a frame holds.
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const END: u8 = 3;

/// Bytes of output in one frame, at most.
const FRAME_BYTES: usize = 32 << 10;

/// Frames on their way to a slow reader; then the program waits.
const FRAMES_WAITING: usize = 16;

pub(super) async fn exec(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    Path((job, rank)): Path<(String, u32)>,
    body: Result<Json<ExecRequest>, axum::extract::rejection::JsonRejection>,
) -> Result<Response, Failed> {
    let Json(request) = body.map_err(|error| Failed::new(Kind::Invalid, error.body_text()))?;
    let id = jobs::parse(&job)?;
    if request.command.first().is_none_or(String::is_empty) {
        return Err(Failed::new(Kind::Invalid, "there is no program to run"));
    }
    if api.settings.target.executor != Executor::Local {
        let message = "the ranks of this hall are not processes of its server's machine";
        return Err(Failed::new(Kind::Conflict, message)
            .hint("on Slurm: `srun --overlap --jobid=ID` with the id that `squeue --name` shows"));
    }
    let (task, pid) = {
        let hall = api.hall.read();
        let job = hall.job(id).ok_or_else(|| Error::NotFound(id.to_string()))?;
        let attempt = job.active().ok_or_else(|| Error::Conflict(format!("{id} does not run")))?;
        let state = usize::try_from(rank).ok().and_then(|place| attempt.tasks.get(place));
        match state {
            None => return Err(Error::NotFound(format!("rank {rank} of {id}")).into()),
            Some(Task::Running { pid }) => (TaskId { attempt: attempt.id, rank: Rank(rank) }, *pid),
            Some(Task::Starting | Task::Ended { .. }) => {
                return Err(Error::Conflict(format!("rank {rank} of {id} does not run")).into());
            }
        }
    };
    tracing::info!(by = caller.name, %task, program = request.command.first(), "a program runs beside a rank");
    let spawned = Command::new(&api.own_program)
        .arg("beside")
        .args([task.attempt.job.0.to_string(), task.attempt.attempt.to_string(), rank.to_string(), pid.to_string()])
        .arg("--")
        .args(&request.command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| Failed::new(Kind::Internal, format!("cannot start it: {error}")))?;
    let (sender, mut frames) = channel(FRAMES_WAITING);
    tokio::spawn(async move {
        // Its lifeline: closed when the caller has gone.
        let mut lifeline = child.stdin.take();
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let carried = async { tokio::join!(carry(OUTPUT, output, &sender), carry(ERRORS, errors, &sender)) };
        tokio::select! {
            _ = carried => {}
            () = sender.closed() => {}
        }
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = sender.closed() => {
                drop(lifeline.take());
                child.wait().await
            }
        };
        let code = match ended {
            Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX),
            Err(_) => u8::MAX,
        };
        let end = serde_json::to_vec(&ExecEnd { code }).unwrap_or_default();
        // Whoever has gone needs no end.
        drop(sender.send(frame(END, &end)).await);
    });
    let body = Body::from_stream(futures::stream::poll_fn(move |context| {
        frames.poll_recv(context).map(|frame| frame.map(Ok::<_, Infallible>))
    }));
    Ok(([(CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// Carries a stream to its end, or until the reader has gone.
async fn carry(kind: u8, stream: Option<impl AsyncRead + Unpin>, frames: &Sender<Bytes>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; FRAME_BYTES];
    while let Ok(read) = stream.read(&mut buffer).await {
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { return };
        if frames.send(frame(kind, piece)).await.is_err() {
            return;
        }
    }
}

fn frame(kind: u8, piece: &[u8]) -> Bytes {
    let length = u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[kind], length.as_slice(), piece].concat().into()
}
