//! The journal in one `SQLite` file: WAL mode with `synchronous=FULL`, so a commit is on the disk when it returns.
//!
//! Layout: `events(seq, at_ns, body)` with the event as JSON; `marks(seq, hash)` with the state hash that the hall had after
//! event `seq`; `lease` with one row; `secrets(name, sealed)`, which no event names the values of.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::journal::{Claim, Journal, Row};
use crate::Error;

/// The layout's version, kept in `SQLite`'s `user_version`.
const FORMAT: i64 = 1;

/// A journal in a file.
pub(crate) struct Sqlite {
    place: String,
    connection: Connection,
}

impl Sqlite {
    /// Opens or creates it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let place = path.display().to_string();
        let failed = failed_at(&place);
        let connection = Connection::open(path).map_err(&failed)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA busy_timeout = 5000;
                 CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, body TEXT NOT NULL);
                 CREATE TABLE IF NOT EXISTS marks (seq INTEGER PRIMARY KEY, hash TEXT NOT NULL);
                 CREATE TABLE IF NOT EXISTS lease (one INTEGER PRIMARY KEY CHECK (one = 1), term INTEGER NOT NULL,
                     who TEXT NOT NULL, until_ms INTEGER NOT NULL);
                 CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, sealed BLOB NOT NULL);",
            )
            .map_err(&failed)?;
        let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
        match format {
            0 => connection.pragma_update(None, "user_version", FORMAT).map_err(&failed)?,
            FORMAT => {}
            other => {
                let why = format!("its format is {other}, and this version reads format {FORMAT}");
                return Err(Error::BadEvent { place, seq: 0, why });
            }
        }
        Ok(Self { place, connection })
    }

    /// Opens one that exists, to read only; nobody needs to have it open.
    pub(crate) fn to_read(path: &Path) -> Result<Self, Error> {
        let place = path.display().to_string();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed_at(&place))?;
        Ok(Self { place, connection })
    }
}

/// A consistent copy of the database `from` as the new file `to`, also while a server writes to it.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let place = from.display().to_string();
    let source = Sqlite::to_read(from)?.connection;
    let to = to.to_string_lossy().into_owned();
    source.execute("VACUUM INTO ?1", params![to]).map(drop).map_err(failed_at(&place))
}

fn failed_at(place: &str) -> impl Fn(rusqlite::Error) -> Error + use<> {
    let place = place.to_owned();
    move |error| Error::Log { place: place.clone(), why: error.to_string() }
}

/// This machine's clock: all who use the file are on it.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn after_ms(time: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

fn newest_term(connection: &Connection) -> Result<Option<i64>, rusqlite::Error> {
    connection.prepare_cached("SELECT term FROM lease")?.query_row([], |row| row.get(0)).optional()
}

impl Journal for Sqlite {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn shared(&self) -> bool {
        false
    }

    fn read(&mut self, after: u64, most: u32) -> Result<Vec<Row>, Error> {
        let failed = failed_at(&self.place);
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT e.seq, e.at_ns, e.body, m.hash FROM events e LEFT JOIN marks m USING (seq)
                 WHERE e.seq > ?1 ORDER BY e.seq LIMIT ?2",
            )
            .map_err(&failed)?;
        let rows = statement
            .query_map(params![after.cast_signed(), most], |row| {
                let (seq, at): (i64, i64) = (row.get(0)?, row.get(1)?);
                let (seq, at_ns) = (seq.cast_unsigned(), at.cast_unsigned());
                Ok(Row { seq, at_ns, body: row.get(2)?, mark: row.get(3)? })
            })
            .map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    fn append(&mut self, term: u64, rows: &[Row], mark: Option<(u64, &str)>) -> Result<(), Error> {
        let failed = failed_at(&self.place);
        // Immediate: whoever reads the term holds the only pen until the commit.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        if newest_term(&transaction).map_err(&failed)? != Some(term.cast_signed()) {
            return Err(Error::Deposed);
        }
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO events (seq, at_ns, body) VALUES (?1, ?2, ?3)")
                .map_err(&failed)?;
            for row in rows {
                // SQLite's integers are signed: nanoseconds since 1970 fit until the year 2262.
                let at = i64::try_from(row.at_ns).unwrap_or(i64::MAX);
                insert.execute(params![row.seq.cast_signed(), at, row.body]).map_err(&failed)?;
            }
        }
        if let Some((seq, hash)) = mark {
            transaction
                .execute("INSERT OR REPLACE INTO marks (seq, hash) VALUES (?1, ?2)", params![seq.cast_signed(), hash])
                .map_err(&failed)?;
        }
        transaction.commit().map_err(&failed)
    }

    fn claim(&mut self, who: &str, time: Duration) -> Result<Claim, Error> {
        let failed = failed_at(&self.place);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let held = transaction
            .query_row("SELECT term, who, until_ms FROM lease", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })
            .optional()
            .map_err(&failed)?;
        let term = match held {
            Some((_, other, until)) if other != who && until > now_ms() => return Ok(Claim::Held(other)),
            Some((term, ..)) => term + 1,
            None => 1,
        };
        transaction
            .execute(
                "INSERT OR REPLACE INTO lease (one, term, who, until_ms) VALUES (1, ?1, ?2, ?3)",
                params![term, who, after_ms(time)],
            )
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(Claim::Won(term.cast_unsigned()))
    }

    fn renew(&mut self, term: u64, time: Duration) -> Result<bool, Error> {
        let changed = self
            .connection
            .execute("UPDATE lease SET until_ms = ?1 WHERE term = ?2", params![after_ms(time), term.cast_signed()])
            .map_err(failed_at(&self.place))?;
        Ok(changed == 1)
    }

    fn keep_secret(&mut self, term: u64, name: &str, sealed: Option<&[u8]>) -> Result<(), Error> {
        let failed = failed_at(&self.place);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        if newest_term(&transaction).map_err(&failed)? != Some(term.cast_signed()) {
            return Err(Error::Deposed);
        }
        let changed = match sealed {
            Some(sealed) => transaction
                .execute("INSERT OR REPLACE INTO secrets (name, sealed) VALUES (?1, ?2)", params![name, sealed]),
            None => transaction.execute("DELETE FROM secrets WHERE name = ?1", params![name]),
        };
        changed.map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    fn secret(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.connection
            .query_row("SELECT sealed FROM secrets WHERE name = ?1", params![name], |row| row.get(0))
            .optional()
            .map_err(failed_at(&self.place))
    }

    fn secrets(&mut self) -> Result<Vec<String>, Error> {
        let failed = failed_at(&self.place);
        // A copy of before there were any has no table for them, and is only read.
        let there = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'secrets'";
        let there: i64 = self.connection.query_row(there, [], |row| row.get(0)).map_err(&failed)?;
        if there == 0 {
            return Ok(Vec::new());
        }
        let mut statement = self.connection.prepare("SELECT name FROM secrets ORDER BY name").map_err(&failed)?;
        let names = statement.query_map([], |row| row.get(0)).map_err(&failed)?;
        names.collect::<Result<_, _>>().map_err(&failed)
    }

    fn release(&mut self, term: u64) -> Result<(), Error> {
        self.connection
            .execute("UPDATE lease SET until_ms = 0 WHERE term = ?1", params![term.cast_signed()])
            .map(drop)
            .map_err(failed_at(&self.place))
    }
}
