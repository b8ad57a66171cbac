//! The warden: the parent of one task, in a small process of our own program. `datahall warden TASK_RECORD`.
//!
//! Invariants: the task starts only after the server said go; if the server ends in any way, so does the task; the
//! exit record is written when, and only when, nothing of the task is left. One thread, no async runtime.
//! Cost: one process that waits in `poll`; nothing wakes it but its task, its server and its deadlines.

mod prepare;
mod run;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};

use dh_core::TaskId;
use rustix::process::{getpid, set_child_subreaper, setsid};

use crate::Error;
use crate::layout::{Durability, TaskFiles, append_json, open_append, read_json, write_json};
use crate::lifeline::{Request, read_header};
use crate::process::Identity;
use crate::record::{Enforcement, ExitReason, ExitRecord, ProcessRecord, Report, TaskRecord};

use prepare::Prepared;
use run::{Cause, Wake, Wakes};

/// Runs the task described in `task_record`, with the lifeline as standard input, reports to standard output and
/// complaints to standard error.
pub fn main(task_record: &Path) -> ExitCode {
    match watch_over(task_record) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Standard error is the lock file, which the server reads when a warden ends without an exit record.
fn complain(text: &str) {
    // If even that cannot be written, there is nobody left to tell.
    writeln!(std::io::stderr(), "warden: {text}").unwrap_or(());
}

fn watch_over(path: &Path) -> Result<(), Error> {
    // Out of the server's session: no terminal to be stopped by, and Ctrl-C reaches the server alone.
    setsid().map_err(|error| Error::doing("start a session", error))?;
    set_child_subreaper(Some(getpid())).map_err(|error| Error::doing("become a subreaper", error))?;
    let wakes = Wakes::new()?;
    let record: TaskRecord =
        read_json(path)?.ok_or_else(|| Error::Corrupt { path: path.to_owned(), why: "it is missing".to_owned() })?;
    let files = TaskFiles::beside(path, record.task.rank);
    let end = oversee(&record, &files, &wakes)?;
    write_json(&files.exit(), &end, Durability::Power)
}

/// From the lifeline's first byte to the end of the last descendant.
fn oversee(record: &TaskRecord, files: &TaskFiles, wakes: &Wakes) -> Result<ExitRecord, Error> {
    let not_started = |cause: Cause| {
        let message = format!("it was not started: {}", cause.message());
        ExitRecord::without_status(record.task, cause.reason(), message)
    };
    let failed = |why: String| Ok(ExitRecord::without_status(record.task, ExitReason::SpawnFailed, why));

    let own = Identity::of(std::process::id());
    let warden = own.ok_or_else(|| Error::doing("read /proc/self", std::io::Error::other("it is not mounted")))?;
    append_json(&files.processes(), &ProcessRecord { warden: warden.clone(), task: None })?;

    // Unbuffered, so that `poll` sees every byte that was not read.
    let mut lifeline =
        File::from(wakes.lifeline().try_clone_to_owned().map_err(|e| Error::doing("copy the lifeline", e))?);
    let secrets = match read_header(&mut lifeline) {
        Ok(secrets) => secrets,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Ok(not_started(Cause::LifelineLost));
        }
        Err(error) => return Err(Error::doing("read the secrets", error)),
    };
    let log = open_append(&files.log())?;
    let prepared = match Prepared::new(record, &secrets, &log) {
        Ok(prepared) => prepared,
        Err(why) => return failed(why),
    };
    report(&Report::Ready);
    if let Some(cause) = await_go(wakes)? {
        prepared.discard();
        return Ok(not_started(cause));
    }
    let (child, groups, enforcement) = match prepared.spawn() {
        Ok(started) => started,
        Err(why) => return failed(why),
    };
    let task = Identity::of(child.id());
    // From here on nothing may end the warden before its task: a full disk is complained about, no more.
    if let Err(error) = append_json(&files.processes(), &ProcessRecord { warden, task }) {
        complain(&error.to_string());
    }
    report(&Report::Started { pid: child.id(), enforcement });
    let end = run::to_the_end(record, &child, wakes, &groups)?;
    note(&log, record.task, &end);
    if let Err(why) = groups.remove() {
        complain(&why);
    }
    Ok(end)
}

/// Waits for the server's go; the cause if there will be none.
fn await_go(wakes: &Wakes) -> Result<Option<Cause>, Error> {
    loop {
        match wakes.wait(None)? {
            Wake::Request(Request::Go) => return Ok(None),
            Wake::Request(Request::StopPolitely | Request::StopNow | Request::Fault) | Wake::Terminated => {
                return Ok(Some(Cause::Stopped));
            }
            Wake::LifelineLost => return Ok(Some(Cause::LifelineLost)),
            Wake::Request(Request::Beat) | Wake::Child | Wake::Timeout => {}
        }
    }
}

/// Tells the server. If it is gone, the lifeline says so next.
fn report(report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let mut out = std::io::stdout();
        out.write_all(&line).and_then(|()| out.flush()).unwrap_or(());
    }
}

/// Says in the task's own log why it was ended, where people look first.
fn note(mut log: &File, task: TaskId, end: &ExitRecord) {
    if !end.message.is_empty() {
        let line = format!("datahall: {task}: {}\n", end.message);
        // The log is for people; the record carries the same.
        log.write_all(line.as_bytes()).unwrap_or(());
    }
}

/// What [`prepare`] hands on.
type Started = (Child, crate::cgroup::ControlGroups, Enforcement);

/// The log as output and errors of the task, one open file, so that their order is that of the writes.
fn log_as_stdio(log: &File) -> Result<(Stdio, Stdio), String> {
    let copy = || log.as_fd().try_clone_to_owned().map_err(|error| format!("cannot copy the log: {error}"));
    Ok((Stdio::from(copy()?), Stdio::from(copy()?)))
}
