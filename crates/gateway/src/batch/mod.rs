//! Files and batches: requests that may wait, with the routes and objects of `OpenAI`.
//!
//! A file is uploaded once; a batch asks each of its lines of the engines, only while they have room that nobody else asks for,
//! and its answers become a file again. *Invariant*: a batch survives the process: each answer is on the drive before the next
//! state is told, and a line has one line in the results, whatever crashed; a line whose answer was not yet on the drive is asked
//! again. What a caller owns nobody else sees.
//!
//! Off (and free) unless [`crate::BatchConfig`] is set.

mod disk;
mod gate;
mod line;
mod lines;
mod multipart;
mod routes;
mod rows;
mod run;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub(crate) use routes::routes;
pub(crate) use run::start;

use crate::batch::disk::Disk;
use crate::batch::gate::Gate;
use crate::batch::rows::{BatchRow, FileRow};
use crate::metrics::{family, line};
use crate::{BatchConfig, Error};

/// For a killed gateway to let go of the folder.
const PATIENCE: Duration = Duration::from_secs(3);
/// Batches that run at once; others wait their turn.
const RUNNING_MAX: usize = 16;

/// All files and batches of a gateway.
pub(crate) struct Batches {
    pub(crate) config: BatchConfig,
    disk: Disk,
    state: Mutex<State>,
    gate: Gate,
    /// A batch was made.
    made: Notify,
    /// A batch is to be cancelled.
    cancelled: Notify,
    answered: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, FileRow>,
    batches: BTreeMap<String, BatchRow>,
    /// Of all bodies, and of those that are being uploaded.
    bytes: u64,
}

impl Batches {
    /// Opens the folder, and finds there what an earlier process left.
    pub(crate) fn open(config: BatchConfig) -> Result<Self, Error> {
        let open = || -> io::Result<(Disk, State)> {
            let disk = Disk::open(&config.data, PATIENCE)?;
            let files: Vec<FileRow> = disk.rows("files")?;
            let batches: Vec<BatchRow> = disk.rows("batches")?;
            disk.sweep(|id| batches.iter().any(|batch| !batch.status.is_over() && batch.writes(id)))?;
            let bytes = files.iter().map(|file| file.bytes).sum();
            let files = files.into_iter().map(|file| (file.id.clone(), file)).collect();
            let batches = batches.into_iter().map(|batch| (batch.id.clone(), batch)).collect();
            Ok((disk, State { files, batches, bytes }))
        };
        let (disk, state) = open().map_err(|error| Error::Disk(format!("{}: {error}", config.data.display())))?;
        Ok(Self {
            gate: Gate::new(config.per_engine),
            config,
            disk,
            state: Mutex::new(state),
            made: Notify::new(),
            cancelled: Notify::new(),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    // No step under this lock can panic half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a batch, and puts its row on the drive when that is asked for; `None` if it is gone.
    fn change(&self, id: &str, change: impl FnOnce(&mut BatchRow)) -> Result<Option<BatchRow>, Error> {
        // Under the lock, so that rows reach the drive in the order of the changes. A row is a few hundred bytes.
        let mut state = self.state();
        let Some(batch) = state.batches.get_mut(id) else { return Ok(None) };
        let mut next = batch.clone();
        change(&mut next);
        self.disk.put("batches", id, &next).map_err(broken)?;
        *batch = next.clone();
        Ok(Some(next))
    }

    /// What the metrics say about batches.
    pub(crate) fn render(&self, out: &mut String) {
        let active = self.state().batches.values().filter(|batch| !batch.status.is_over()).count();
        family(out, "batch_lines_total", "counter", "Lines of batches that are over, by how they ended.");
        for (end, count) in [("answered", &self.answered), ("failed", &self.failed)] {
            let name = format!("datahall_gateway_batch_lines_total{{end=\"{end}\"}}");
            line(out, &name, count.load(Ordering::Relaxed));
        }
        family(out, "batches", "gauge", "Batches that have not ended.");
        line(out, "datahall_gateway_batches", active);
        family(
            out,
            "batch_requests",
            "gauge",
            "Lines of batches that are asked, and that wait until engines have room.",
        );
        let (under_way, held) = self.gate.counts();
        for (state, count) in [("under_way", under_way), ("held", held)] {
            line(out, &format!("datahall_gateway_batch_requests{{state=\"{state}\"}}"), count);
        }
    }
}

/// A failure of the drive, for a caller: where files lie is none of its business.
#[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn broken(error: io::Error) -> Error {
    tracing::error!(%error, "files of batches cannot be written or read");
    Error::Disk(error.kind().to_string())
}
