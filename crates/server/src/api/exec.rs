//! A program beside a running rank: our own program's hidden `beside` runs it (see [`dh_exec::beside`]), or the executor's own
//! system, and its output goes to
//! the caller in frames. It ends with the rank, with the caller's connection, and with this server.

use std::convert::Infallible;
use std::ffi::OsString;
use std::process::Stdio;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use dh_blueprint::Executor;
use dh_core::{Kind, Rank, TaskId};
use dh_hall::Task;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::mpsc::{Sender, channel};

use super::{Api, Caller, Failed, Shared, jobs};
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
    let (words, ends) = words_of(&api, task, pid, &request.command)?;
    let (program, arguments) = words.split_first().ok_or_else(|| Failed::new(Kind::Internal, "there is no program"))?;
    let spawned = Command::new(program)
        .args(arguments)
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
                if let (Ends::Asked, Some(pid)) = (ends, child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?))) {
                    // One that is gone already needs no signal.
                    rustix::process::kill_process(pid, Signal::TERM).unwrap_or_default();
                }
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

/// How a program beside a rank is told that its caller has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Its standard input ends.
    WithInput,
    /// A polite signal.
    Asked,
}

/// What is run for a program beside a rank.
fn words_of(api: &Api, task: TaskId, pid: u32, command: &[String]) -> Result<(Vec<OsString>, Ends), Failed> {
    if api.settings.target.executor == Executor::Local {
        let TaskId { attempt, rank } = task;
        let place = [attempt.job.0.to_string(), attempt.attempt.to_string(), rank.to_string(), pid.to_string()];
        let own = [api.own_program.clone(), "beside".into()].into_iter().chain(place.map(OsString::from));
        let words = own.chain(["--".into()]).chain(command.iter().map(OsString::from));
        return Ok((words.collect(), Ends::WithInput));
    }
    match api.executor.beside(task, command) {
        Some(Ok(words)) => Ok((words, Ends::Asked)),
        Some(Err(error)) => Err(Error::from(error).into()),
        None => {
            let message = "the executor of this hall runs no programs beside its ranks";
            let failed = Failed::new(Kind::Conflict, message);
            Err(match api.settings.target.executor {
                Executor::Kubernetes => failed.hint(format!(
                    "`kubectl exec {} -- PROGRAM` does, in the hall's namespace",
                    dh_exec::kubernetes::pod_name(&api.settings.name, task)
                )),
                Executor::Sim => failed.hint("its tasks are simulated"),
                Executor::Local | Executor::Slurm => failed,
            })
        }
    }
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
