//! The event log: the hall's only memory. A batch of events costs one commit, and so one or two fsyncs.
//!
//! Where it is kept is behind [`Journal`]: a file of the data directory, or a database that several servers share. Of those one
//! leads; the others follow the log, so that a successor has the state already when it takes over.

mod journal;
mod lease;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;
mod tls;

use std::path::{Path, PathBuf};

use dh_blueprint::State;
use dh_core::SimTime;
use dh_hall::{Event, Hall};

pub(crate) use journal::{Claim, Journal, Row};
pub(crate) use lease::{ASK, LEASE, Lease, now_ms};

use crate::Error;

/// The event log's file in a data directory.
pub const LOG_FILE: &str = "events.sqlite";

/// Rows that are read at a time.
pub(crate) const PAGE: u32 = 4_096;

/// Where a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPlace {
    /// A file.
    File(PathBuf),
    /// The address of a database.
    Database(String),
}

impl LogPlace {
    /// The log of the hall whose data directory is `data`.
    pub fn of(state: &State, data: &Path) -> Self {
        match state {
            State::Sqlite => Self::File(data.join(LOG_FILE)),
            State::Postgres(address) => Self::Database(address.clone()),
        }
    }

    /// Opens a journal that exists, to read it; blocks, so not on an async thread.
    pub(crate) fn open_to_read(&self) -> Result<Box<dyn Journal>, Error> {
        match self {
            Self::File(path) => Ok(Box::new(sqlite::Sqlite::to_read(path)?)),
            Self::Database(_) => self.open(),
        }
    }

    /// Opens the journal; blocks, so not on an async thread.
    pub(crate) fn open(&self) -> Result<Box<dyn Journal>, Error> {
        Ok(match self {
            Self::File(path) => Box::new(sqlite::Sqlite::open(path)?),
            Self::Database(address) => Box::new(postgres::Postgres::open(address)?),
        })
    }
}

/// An event log, followed or open for writing.
pub(crate) struct EventLog {
    journal: Box<dyn Journal>,
    term: u64,
    next: u64,
}

/// The outcome of replaying a log.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Replay {
    /// Events replayed.
    pub events: u64,
    /// Marks compared on the way.
    pub marks: u64,
    /// The first mark that differs: event number, hash in the log, hash reached.
    pub differs: Option<(u64, String, String)>,
    /// The hash at the end.
    pub hash: String,
}

impl EventLog {
    /// Follows the log in `journal`; nothing can be written before [`EventLog::lead`].
    pub(crate) fn new(journal: Box<dyn Journal>) -> Self {
        Self { journal, term: 0, next: 1 }
    }

    /// Steps `hall` through what was written since the last call.
    pub(crate) fn follow(&mut self, hall: &mut Hall, replay: &mut Replay) -> Result<(), Error> {
        read_on(self.journal.as_mut(), hall, replay)?;
        self.next = replay.events + 1;
        Ok(())
    }

    /// Asks for the lease; what was written before it was won is still to be followed.
    pub(crate) fn lead(&mut self, who: &str) -> Result<Result<Lease, String>, Error> {
        let asked = now_ms();
        Ok(match self.journal.claim(who, LEASE)? {
            Claim::Won(term) => {
                self.term = term;
                Ok(if self.journal.shared() { Lease::won(term, asked) } else { Lease::alone(term) })
            }
            Claim::Held(by) => Err(by),
        })
    }

    /// Whether a lease must be renewed.
    pub(crate) fn shared(&self) -> bool {
        self.journal.shared()
    }

    /// Makes `events` durable, in order, or none of them; with `mark`, also the state hash after the last one. What was written.
    pub(crate) fn append(&mut self, events: &[(SimTime, Event)], mark: Option<&str>) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::with_capacity(events.len());
        for (seq, (at, event)) in (self.next..).zip(events) {
            let body = serde_json::to_string(event).map_err(|error| Error::BadEvent {
                place: self.journal.place(),
                seq,
                why: error.to_string(),
            })?;
            rows.push(Row { seq, at_ns: at.0, body, mark: None });
        }
        let next = self.next + u64::try_from(rows.len()).unwrap_or(0);
        self.journal.append(self.term, &rows, mark.map(|hash| (next - 1, hash)))?;
        self.next = next;
        Ok(rows)
    }

    /// Lets a successor in at once.
    pub(crate) fn release(&mut self) {
        if let Err(error) = self.journal.release(self.term) {
            tracing::warn!(%error, "the lease was not released; a successor waits for its end");
        }
    }
}

/// Replays the log at `place`, which nobody needs to have open, and compares the hash at every mark. Blocks.
/// # Errors
/// [`Error::Log`] if it cannot be read, [`Error::BadEvent`] if an event makes no sense.
pub fn replay(place: &LogPlace) -> Result<(Hall, Replay), Error> {
    let mut journal = place.open_to_read()?;
    let (mut hall, mut replay) = (Hall::default(), Replay::default());
    read_on(journal.as_mut(), &mut hall, &mut replay)?;
    replay.hash = hall.state_hash();
    Ok((hall, replay))
}

/// Copies a log into a new file, also while a hall writes to it; the events that the copy has. Blocks.
/// # Errors
/// [`Error::Log`] if it cannot be read or written.
pub fn copy_log(place: &LogPlace, to: &Path) -> Result<u64, Error> {
    match place {
        LogPlace::File(from) => sqlite::copy(from, to)?,
        LogPlace::Database(_) => transfer(place.open()?.as_mut(), &mut sqlite::Sqlite::open(to)?)?,
    }
    let (_, replay) = replay(&LogPlace::File(to.to_owned()))?;
    Ok(replay.events)
}

/// Writes the log in the file `from` into `place`, which must be empty; the events that were written. Blocks.
/// # Errors
/// [`Error::Conflict`] if there are events already.
pub fn restore_log(from: &Path, place: &LogPlace) -> Result<u64, Error> {
    let mut to = place.open()?;
    if !to.read(0, 1)?.is_empty() {
        return Err(Error::Conflict(format!("{} holds events already", to.place())));
    }
    transfer(&mut sqlite::Sqlite::to_read(from)?, to.as_mut())?;
    Ok(replay(place)?.1.events)
}

/// Appends every row of `from` to `to`, and keeps its sealed values there.
fn transfer(from: &mut dyn Journal, to: &mut dyn Journal) -> Result<(), Error> {
    let Claim::Won(term) = to.claim("copy", LEASE)? else {
        return Err(Error::Conflict(format!("a server uses {}", to.place())));
    };
    let mut last = 0;
    loop {
        let rows = from.read(last, PAGE)?;
        let Some(newest) = rows.last() else { break };
        last = newest.seq;
        to.append(term, &rows, None)?;
        for row in &rows {
            if let Some(hash) = &row.mark {
                to.append(term, &[], Some((row.seq, hash)))?;
            }
        }
    }
    for name in from.secrets()? {
        let sealed = from.secret(&name)?;
        to.keep_secret(term, &name, sealed.as_deref())?;
    }
    to.release(term)
}

fn read_on(journal: &mut dyn Journal, hall: &mut Hall, replay: &mut Replay) -> Result<(), Error> {
    let mut actions = Vec::new();
    loop {
        let rows = journal.read(replay.events, PAGE)?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let bad = |why: String| Error::BadEvent { place: journal.place(), seq: row.seq, why };
            if row.seq != replay.events + 1 {
                return Err(bad(format!("event {} is missing", replay.events + 1)));
            }
            let event: Event = serde_json::from_str(&row.body).map_err(|error| bad(error.to_string()))?;
            actions.clear();
            hall.step(SimTime(row.at_ns), event, &mut actions);
            replay.events = row.seq;
            if let Some(hash) = row.mark {
                replay.marks += 1;
                let reached = hall.state_hash();
                if reached != hash && replay.differs.is_none() {
                    replay.differs = Some((row.seq, hash, reached));
                }
            }
        }
    }
}
