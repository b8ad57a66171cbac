//! The event log: the hall's only memory. One `SQLite` file in WAL mode with `synchronous=FULL`, so a commit is on the
//! disk when it returns. A batch of events costs one commit, and so one or two fsyncs.
//!
//! Layout: `events(seq, at_ns, body)` with the event as JSON; `marks(seq, hash)` with the state hash that the hall had
//! after event `seq`, for replays to compare.

use std::path::{Path, PathBuf};

use dh_core::SimTime;
use dh_hall::{Event, Hall};
use rusqlite::{Connection, OpenFlags, params};

use crate::Error;

/// The layout's version, kept in `SQLite`'s `user_version`.
const FORMAT: i64 = 1;

/// An event log, open for writing.
pub(crate) struct EventLog {
    path: PathBuf,
    connection: Connection,
    next: u64,
}

/// The outcome of replaying a log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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
    /// Opens or creates the log and replays it.
    pub(crate) fn open(path: &Path) -> Result<(Self, Hall, Replay), Error> {
        let failed = |source| Error::Log { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA busy_timeout = 5000;
                 CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, body TEXT NOT NULL);
                 CREATE TABLE IF NOT EXISTS marks (seq INTEGER PRIMARY KEY, hash TEXT NOT NULL);",
            )
            .map_err(failed)?;
        let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        match format {
            0 => connection.pragma_update(None, "user_version", FORMAT).map_err(failed)?,
            FORMAT => {}
            other => {
                let why = format!("its format is {other}, and this version reads format {FORMAT}");
                return Err(Error::BadEvent { path: path.to_owned(), seq: 0, why });
            }
        }
        let (hall, replay) = replay_connection(&connection, path)?;
        let log = Self { path: path.to_owned(), connection, next: replay.events + 1 };
        Ok((log, hall, replay))
    }

    /// Makes `events` durable, in order, or none of them; with `mark`, also the state hash after the last one.
    pub(crate) fn append(&mut self, events: &[(SimTime, Event)], mark: Option<&str>) -> Result<(), Error> {
        let path = self.path.clone();
        let failed = |source| Error::Log { path: path.clone(), source };
        let transaction = self.connection.transaction().map_err(failed)?;
        let mut next = self.next;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO events (seq, at_ns, body) VALUES (?1, ?2, ?3)")
                .map_err(failed)?;
            for (at, event) in events {
                let body = serde_json::to_string(event).map_err(|error| Error::BadEvent {
                    path: path.clone(),
                    seq: next,
                    why: error.to_string(),
                })?;
                // SQLite's integers are signed: nanoseconds since 1970 fit until the year 2262.
                let at = i64::try_from(at.0).unwrap_or(i64::MAX);
                insert.execute(params![next.cast_signed(), at, body]).map_err(failed)?;
                next += 1;
            }
        }
        if let Some(hash) = mark {
            transaction
                .execute(
                    "INSERT OR REPLACE INTO marks (seq, hash) VALUES (?1, ?2)",
                    params![next.cast_signed() - 1, hash],
                )
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.next = next;
        Ok(())
    }
}

/// Replays the log at `path`, which nobody needs to have open, and compares the hash at every mark.
/// # Errors
/// [`Error::Log`] if it cannot be read, [`Error::BadEvent`] if an event makes no sense.
pub fn replay(path: &Path) -> Result<(Hall, Replay), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|source| Error::Log { path: path.to_owned(), source })?;
    replay_connection(&connection, path)
}

fn replay_connection(connection: &Connection, path: &Path) -> Result<(Hall, Replay), Error> {
    let failed = |source| Error::Log { path: path.to_owned(), source };
    let mut hall = Hall::default();
    let mut replay = Replay { events: 0, marks: 0, differs: None, hash: String::new() };
    let mut statement = connection
        .prepare("SELECT e.seq, e.at_ns, e.body, m.hash FROM events e LEFT JOIN marks m USING (seq) ORDER BY e.seq")
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut actions = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let seq = row.get::<_, i64>(0).map_err(failed)?.cast_unsigned();
        let at = row.get::<_, i64>(1).map_err(failed)?.cast_unsigned();
        let body: String = row.get(2).map_err(failed)?;
        let bad = |why: String| Error::BadEvent { path: path.to_owned(), seq, why };
        if seq != replay.events + 1 {
            return Err(bad(format!("event {} is missing", replay.events + 1)));
        }
        let event: Event = serde_json::from_str(&body).map_err(|error| bad(error.to_string()))?;
        actions.clear();
        hall.step(SimTime(at), event, &mut actions);
        replay.events = seq;
        if let Some(hash) = row.get::<_, Option<String>>(3).map_err(failed)? {
            replay.marks += 1;
            let reached = hall.state_hash();
            if reached != hash && replay.differs.is_none() {
                replay.differs = Some((seq, hash, reached));
            }
        }
    }
    replay.hash = hall.state_hash();
    Ok((hall, replay))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(at: u64) -> (SimTime, Event) {
        (SimTime(at), Event::Tick)
    }

    #[test]
    fn a_log_replays_to_the_hash_it_marked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let (mut log, mut hall, _) = EventLog::open(&path).unwrap();
        hall.step(SimTime(5), Event::ServerStarted, &mut Vec::new());
        hall.step(SimTime(6), Event::Tick, &mut Vec::new());
        log.append(&[(SimTime(5), Event::ServerStarted), tick(6)], Some(&hall.state_hash())).unwrap();
        drop(log);
        let (again, outcome) = replay(&path).unwrap();
        assert_eq!(again, hall);
        assert_eq!((outcome.events, outcome.marks, outcome.differs), (2, 1, None));
    }

    #[test]
    fn a_changed_event_is_found_at_the_next_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let (mut log, mut hall, _) = EventLog::open(&path).unwrap();
        for at in [10, 20] {
            hall.step(SimTime(at), Event::Tick, &mut Vec::new());
        }
        log.append(&[tick(10), tick(20)], Some(&hall.state_hash())).unwrap();
        log.connection.execute("UPDATE events SET at_ns = 21 WHERE seq = 2", []).unwrap();
        assert_eq!(replay(&path).unwrap().1.differs.map(|(seq, ..)| seq), Some(2));
        log.connection.execute("UPDATE events SET body = '{\"event\":\"nonsense\"}' WHERE seq = 2", []).unwrap();
        assert!(matches!(replay(&path), Err(Error::BadEvent { seq: 2, .. })));
        log.connection.execute("DELETE FROM events WHERE seq = 1", []).unwrap();
        assert!(matches!(replay(&path), Err(Error::BadEvent { seq: 2, why, .. }) if why == "event 1 is missing"));
    }
}
