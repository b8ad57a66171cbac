//! Runs batches: checks the file, asks each line when there is room, writes what came, and makes files of it.
//!
//! *Invariant*: a line's result is appended once, to one of the two journals, and counts as done from then on; what a restart
//! finds there is not asked again. `ends` is on the drive before the first journal becomes a file, so that a restart in between
//! only goes on with that. A batch is in nobody's way: its lines pass the gate one by one.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::disk::Journal;
use super::line::{Answer, ask, expired};
use super::lines::{Line, Lines, Most, Problem};
use super::rows::{BatchRow, Counts, FileRow, Status};
use super::{Batches, RUNNING_MAX, broken};
use crate::{Error, Gateway};

/// Lines of one batch that are asked, or wait to be.
const WIDTH: usize = 128;
/// Lines that are read at once, and their bytes.
const READ: (usize, usize) = (128, 8 << 20);
/// How often a batch looks whether it is to end.
const LOOK: Duration = Duration::from_millis(500);
/// After a failure of the drive.
const PAUSE: Duration = Duration::from_secs(5);

/// The runner of all batches; it ends with this.
pub(crate) struct Running(Option<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// Begins to run batches, those of an earlier process first.
pub(crate) fn start(gateway: &Gateway) -> Running {
    let batches = gateway.shared.batches.as_ref().map(Arc::clone);
    Running(batches.map(|batches| tokio::spawn(schedule(gateway.clone(), batches))))
}

async fn schedule(gateway: Gateway, batches: Arc<Batches>) {
    let mut running: JoinSet<String> = JoinSet::new();
    let mut under_way: BTreeMap<String, String> = BTreeMap::new();
    loop {
        while under_way.len() < RUNNING_MAX {
            let Some((id, owner)) = next(&batches, &under_way) else { break };
            under_way.insert(id.clone(), owner);
            let (gateway, batches) = (gateway.clone(), Arc::clone(&batches));
            running.spawn(async move {
                if let Err(error) = run(&gateway, &batches, &id).await {
                    tracing::error!(batch = id, %error, "a batch stops for a while");
                    sleep(PAUSE).await;
                }
                id
            });
        }
        tokio::select! {
            () = batches.made.notified() => {}
            Some(ended) = running.join_next() => match ended {
                Ok(id) => drop(under_way.remove(&id)),
                Err(error) => tracing::error!(%error, "the task of a batch failed"),
            },
        }
    }
}

/// The oldest batch of the owner of whom fewest run.
fn next(batches: &Batches, under_way: &BTreeMap<String, String>) -> Option<(String, String)> {
    let state = batches.state();
    let waiting = state.batches.values().filter(|batch| !batch.status.is_over() && !under_way.contains_key(&batch.id));
    let rank = |batch: &&BatchRow| {
        let of_owner = under_way.values().filter(|owner| **owner == batch.owner).count();
        (of_owner, batch.created_at, batch.id.clone())
    };
    waiting.min_by_key(rank).map(|batch| (batch.id.clone(), batch.owner.clone()))
}

pub(crate) fn seconds(gateway: &Gateway) -> u64 {
    gateway.shared.clock.now().0 / 1_000_000_000
}

/// What the journals hold.
struct Results {
    output: Journal,
    errors: Journal,
    done: HashSet<String>,
    counts: Counts,
}

#[derive(Deserialize)]
struct Named {
    custom_id: String,
}

async fn run(gateway: &Gateway, batches: &Arc<Batches>, id: &str) -> Result<(), Error> {
    let Some(row) = batches.state().batches.get(id).cloned() else { return Ok(()) };
    if let Some(end) = row.ends {
        return finish(gateway, batches, id, end).await;
    }
    let Some(route) = super::routes::ENDPOINTS.into_iter().find(|route| *route == row.endpoint) else {
        return fail(gateway, batches, id, vec![problem("invalid_endpoint", "there is no such endpoint")]);
    };
    let most = Most { lines: batches.config.lines_max, line_bytes: gateway.shared.config.body_bytes_max };
    let path = batches.disk.body(&row.input_file_id);
    let lines = match blocking(move || Lines::check(&path, route, most)).await? {
        Ok(Ok(lines)) => Arc::new(lines),
        Ok(Err(problems)) => return fail(gateway, batches, id, problems),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return fail(gateway, batches, id, vec![problem("invalid_input_file", "the input file is gone")]);
        }
        Err(error) => return Err(broken(error)),
    };
    let total = u64::try_from(lines.count()).unwrap_or(u64::MAX);
    let results = open(batches, id, total).await?;
    let (now, counts) = (seconds(gateway), results.counts);
    let begin = |row: &mut BatchRow| {
        if row.status == Status::Validating {
            row.status = Status::InProgress;
        }
        row.in_progress_at.get_or_insert(now);
        row.counts = counts;
    };
    batches.change(id, begin)?;
    let end = work(gateway, batches, &row, route, lines, results).await?;
    let now = seconds(gateway);
    let ends = |row: &mut BatchRow| {
        row.ends = Some(end);
        if end == Status::Completed {
            row.status = Status::Finalizing;
        }
        row.finalizing_at = Some(now);
    };
    batches.change(id, ends)?;
    finish(gateway, batches, id, end).await
}

async fn open(batches: &Arc<Batches>, id: &str, total: u64) -> Result<Results, Error> {
    let paths = ["output", "errors"].map(|kind| batches.disk.journal(id, kind));
    // Work on the drive goes on when its task is ended; it holds the folder, so that nobody else opens it before that is over.
    let held = Arc::clone(batches);
    let open = move || {
        let _held = held;
        let [output, errors] = paths;
        let mut done = HashSet::new();
        let mut read = |path: &std::path::Path| {
            let mut count = 0;
            let journal = Journal::open(path, |line| {
                if let Ok(Named { custom_id }) = serde_json::from_slice(line) {
                    done.insert(custom_id);
                    count += 1;
                }
            })?;
            Ok::<_, std::io::Error>((journal, count))
        };
        let ((output, completed), (errors, failed)) = (read(&output)?, read(&errors)?);
        Ok(Results { output, errors, done, counts: Counts { total, completed, failed } })
    };
    blocking(open).await?.map_err(broken)
}

/// Asks all lines that are not done, until the batch ends one way or another.
async fn work(
    gateway: &Gateway,
    batches: &Arc<Batches>,
    row: &BatchRow,
    route: &'static str,
    lines: Arc<Lines>,
    results: Results,
) -> Result<Status, Error> {
    let mut results = Some(results);
    let mut asked: JoinSet<Answer> = JoinSet::new();
    let (mut ready, mut place) = (VecDeque::new(), 0);
    loop {
        if batches.state().batches.get(&row.id).is_none_or(|row| row.status == Status::Cancelling) {
            take(batches, &row.id, &mut results, drain(&mut asked, None)).await?;
            return Ok(Status::Cancelled);
        }
        if seconds(gateway) >= row.expires_at {
            take(batches, &row.id, &mut results, drain(&mut asked, None)).await?;
            asked.shutdown().await;
            place = 0;
            while place < lines.count() {
                let rest = read(&lines, &mut place, results.as_ref()).await?;
                let late = rest.iter().map(|line| expired(&line.name)).collect();
                take(batches, &row.id, &mut results, late).await?;
            }
            return Ok(Status::Expired);
        }
        while asked.len() < WIDTH {
            if ready.is_empty() && place < lines.count() {
                ready = read(&lines, &mut place, results.as_ref()).await?;
            }
            let Some(line) = ready.pop_front() else { break };
            let (gateway, batches, owner) = (gateway.clone(), Arc::clone(batches), row.owner.clone());
            asked.spawn(async move { ask(&gateway, &batches, &owner, route, line).await });
        }
        if asked.is_empty() && ready.is_empty() && place >= lines.count() {
            return Ok(Status::Completed);
        }
        tokio::select! {
            Some(answer) = asked.join_next() => {
                let answers = drain(&mut asked, answer.ok());
                if answers.iter().any(|answer| matches!(answer, Answer::NoKey)) {
                    let said = format!("`{}` has no key any more", row.owner);
                    batches.change(&row.id, |row| row.errors.push(problem("key_revoked", &said)))?;
                    return Ok(Status::Cancelled);
                }
                take(batches, &row.id, &mut results, answers).await?;
            }
            () = batches.cancelled.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// What has been answered by now.
fn drain(asked: &mut JoinSet<Answer>, first: Option<Answer>) -> Vec<Answer> {
    let mut answers: Vec<Answer> = first.into_iter().collect();
    while let Some(answer) = asked.try_join_next() {
        answers.extend(answer.ok());
    }
    answers
}

/// The next lines that are not done.
async fn read(lines: &Arc<Lines>, place: &mut usize, results: Option<&Results>) -> Result<VecDeque<Line>, Error> {
    // Lines that this process asked are behind `place`; only those that an earlier one had done are in the way.
    let mut found = VecDeque::new();
    while found.is_empty() && *place < lines.count() {
        let (from, shared) = (*place, Arc::clone(lines));
        let some = move || {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while from + some.len() < shared.count() && some.len() < READ.0 && bytes < READ.1 {
                let line = shared.get(from + some.len())?;
                bytes += line.body.len();
                some.push(line);
            }
            Ok(some)
        };
        let some: Vec<Line> = blocking(some).await?.map_err(broken)?;
        *place += some.len();
        found.extend(some.into_iter().filter(|line| results.is_none_or(|all| !all.done.contains(&line.name))));
    }
    Ok(found)
}

/// Puts answers on the drive, all at once.
async fn take(
    batches: &Arc<Batches>,
    id: &str,
    results: &mut Option<Results>,
    answers: Vec<Answer>,
) -> Result<(), Error> {
    let Some(mut present) = results.take() else { return Err(Error::Disk("the journal is gone".to_owned())) };
    let held = Arc::clone(batches);
    let write = move || {
        // As when it was opened: a line that is being written is not another's torn one.
        let _held = held;
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Answer::Good { name, line } => {
                    present.counts.completed += 1;
                    output.extend_from_slice(&line);
                    present.done.insert(name);
                }
                Answer::Bad { name, line } => {
                    present.counts.failed += 1;
                    errors.extend_from_slice(&line);
                    present.done.insert(name);
                }
                Answer::NoKey => {}
            }
        }
        present.output.append(&output)?;
        present.errors.append(&errors)?;
        Ok(present)
    };
    let present = blocking(write).await?.map_err(broken)?;
    let counts = present.counts;
    if let Some(row) = batches.state().batches.get_mut(id) {
        batches.answered.fetch_add(counts.completed - row.counts.completed.min(counts.completed), Ordering::Relaxed);
        batches.failed.fetch_add(counts.failed - row.counts.failed.min(counts.failed), Ordering::Relaxed);
        row.counts = counts;
    }
    *results = Some(present);
    Ok(())
}

/// Makes files of the journals.
async fn finish(gateway: &Gateway, batches: &Arc<Batches>, id: &str, end: Status) -> Result<(), Error> {
    let Some(row) = batches.state().batches.get(id).cloned() else { return Ok(()) };
    let now = seconds(gateway);
    let mut made = [None, None];
    let journals =
        [("output", row.output_id.clone(), row.counts.completed), ("errors", row.error_id.clone(), row.counts.failed)];
    for (place, (kind, file, count)) in journals.into_iter().enumerate() {
        if count == 0 {
            continue;
        }
        let (name, shared) = (file.clone(), Arc::clone(batches));
        let journal = batches.disk.journal(id, kind);
        let row = FileRow {
            id: file.clone(),
            owner: row.owner.clone(),
            bytes: 0,
            created_at: now,
            filename: format!("{id}_{kind}.jsonl"),
            purpose: "batch_output".to_owned(),
        };
        let keep = move || {
            shared.disk.keep(&journal, &name)?;
            let row = FileRow { bytes: std::fs::metadata(shared.disk.body(&name))?.len(), ..row };
            shared.disk.put("files", &name, &row)?;
            Ok(row)
        };
        let row = blocking(keep).await?.map_err(broken)?;
        let mut state = batches.state();
        let bytes = row.bytes;
        // An earlier process may have come this far.
        if state.files.insert(file.clone(), row).is_none() {
            state.bytes = state.bytes.saturating_add(bytes);
        }
        if let Some(slot) = made.get_mut(place) {
            *slot = Some(file);
        }
    }
    let [output, errors] = made;
    let over = |row: &mut BatchRow| {
        (row.output_file_id, row.error_file_id, row.status) = (output, errors, end);
        match end {
            Status::Completed => row.completed_at = Some(now),
            Status::Expired => row.expired_at = Some(now),
            Status::Cancelled
            | Status::Cancelling
            | Status::Validating
            | Status::InProgress
            | Status::Finalizing
            | Status::Failed => row.cancelled_at = Some(now),
        }
    };
    batches.change(id, over)?;
    for kind in ["output", "errors"] {
        // What is left of empty journals; another start would not mind them.
        drop(std::fs::remove_file(batches.disk.journal(id, kind)));
    }
    tracing::info!(batch = id, ?end, completed = row.counts.completed, failed = row.counts.failed, "batch has ended");
    Ok(())
}

fn fail(gateway: &Gateway, batches: &Batches, id: &str, problems: Vec<Problem>) -> Result<(), Error> {
    let now = seconds(gateway);
    let failed = |row: &mut BatchRow| (row.status, row.errors, row.failed_at) = (Status::Failed, problems, Some(now));
    batches.change(id, failed).map(drop)
}

fn problem(code: &str, message: &str) -> Problem {
    Problem { code: code.to_owned(), line: None, message: message.to_owned(), param: None }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Disk(error.to_string()))
}
