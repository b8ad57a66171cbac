//! The journal in a `PostgreSQL` database, in tables named `datahall_*` of the user's schema.
//!
//! Appending reads the lease's row `FOR SHARE` in the same transaction, and a claim updates that row: so no row of a deposed
//! server can commit after the claim of its successor, however late its packets come. The database's clock alone says when a lease
//! has run out. The client blocks, so it belongs on a thread of its own, never on the async ones.

use std::time::Duration;

use postgres::{Client, Statement};

use super::journal::{Claim, Journal, Row};
use super::tls;
use crate::Error;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS datahall_events (seq BIGINT PRIMARY KEY, at_ns BIGINT NOT NULL, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS datahall_marks (seq BIGINT PRIMARY KEY, hash TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS datahall_lease (one INT PRIMARY KEY CHECK (one = 1), term BIGINT NOT NULL,
        who TEXT NOT NULL, until TIMESTAMPTZ NOT NULL);
    CREATE TABLE IF NOT EXISTS datahall_secrets (name TEXT PRIMARY KEY, sealed BYTEA NOT NULL);
    INSERT INTO datahall_lease VALUES (1, 0, '', '-infinity') ON CONFLICT DO NOTHING;";

/// Two servers that start at once would both create the tables, and one would fail; this number is the lock that orders them.
const MAKING: i64 = 0x6461_7461_6861_6c6c;

const INSERT: &str =
    "INSERT INTO datahall_events (seq, at_ns, body) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A journal in a database.
pub(crate) struct Postgres {
    place: String,
    client: Client,
    /// Of every append, prepared once: three round trips a batch instead of six.
    ours: Statement,
    insert: Statement,
}

impl Postgres {
    /// Connects, and makes the tables if they are not there. The password comes from `PGPASSWORD`.
    pub(crate) fn open(address: &str) -> Result<Self, Error> {
        let place = address.to_owned();
        let failed = failed_at(&place);
        let mut client = tls::connect(address, |config| {
            if let Ok(password) = std::env::var("PGPASSWORD") {
                config.password(password);
            }
            config.connect_timeout(CONNECT_TIMEOUT).application_name("datahall").tcp_user_timeout(CONNECT_TIMEOUT);
        })?;
        let mut making = client.transaction().map_err(&failed)?;
        making.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING]).map_err(&failed)?;
        making.batch_execute(TABLES).map_err(&failed)?;
        making.commit().map_err(&failed)?;
        // An acknowledged event must outlive the database's machine, whatever its configuration says for others.
        client.batch_execute("SET synchronous_commit = on; SET client_min_messages = error").map_err(&failed)?;
        let ours = client.prepare("SELECT 1 FROM datahall_lease WHERE term = $1 FOR SHARE").map_err(&failed)?;
        let insert = client.prepare(INSERT).map_err(&failed)?;
        Ok(Self { place, client, ours, insert })
    }
}

pub(super) fn failed_at(place: &str) -> impl Fn(postgres::Error) -> Error + use<> {
    let place = place.to_owned();
    move |error| {
        // The error's own text is `db error`; what the database or the system said is below it.
        let below = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Error::Log { place: place.clone(), why: format!("{error}{below}") }
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

impl Journal for Postgres {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn shared(&self) -> bool {
        true
    }

    fn read(&mut self, after: u64, most: u32) -> Result<Vec<Row>, Error> {
        let rows = self
            .client
            .query(
                "SELECT e.seq, e.at_ns, e.body, m.hash FROM datahall_events e LEFT JOIN datahall_marks m USING (seq)
                 WHERE e.seq > $1 ORDER BY e.seq LIMIT $2",
                &[&after.cast_signed(), &i64::from(most)],
            )
            .map_err(failed_at(&self.place))?;
        Ok(rows
            .iter()
            .map(|row| Row {
                seq: row.get::<_, i64>(0).cast_unsigned(),
                at_ns: row.get::<_, i64>(1).cast_unsigned(),
                body: row.get(2),
                mark: row.get(3),
            })
            .collect())
    }

    fn append(&mut self, term: u64, rows: &[Row], mark: Option<(u64, &str)>) -> Result<(), Error> {
        let failed = failed_at(&self.place);
        let mut transaction = self.client.transaction().map_err(&failed)?;
        let ours = transaction.query_opt(&self.ours, &[&term.cast_signed()]).map_err(&failed)?;
        if ours.is_none() {
            return Err(Error::Deposed);
        }
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq.cast_signed()).collect();
        let times: Vec<i64> = rows.iter().map(|row| i64::try_from(row.at_ns).unwrap_or(i64::MAX)).collect();
        let bodies: Vec<&str> = rows.iter().map(|row| row.body.as_str()).collect();
        if !rows.is_empty() {
            transaction.execute(&self.insert, &[&seqs, &times, &bodies]).map_err(&failed)?;
        }
        if let Some((seq, hash)) = mark {
            let sql =
                "INSERT INTO datahall_marks (seq, hash) VALUES ($1, $2) ON CONFLICT (seq) DO UPDATE SET hash = $2";
            transaction.execute(sql, &[&seq.cast_signed(), &hash]).map_err(&failed)?;
        }
        transaction.commit().map_err(&failed)
    }

    fn claim(&mut self, who: &str, time: Duration) -> Result<Claim, Error> {
        let failed = failed_at(&self.place);
        let won = self
            .client
            .query_opt(
                "UPDATE datahall_lease SET term = term + 1, who = $1, until = clock_timestamp() + $2 * interval '1 second'
                 WHERE who = $1 OR until < clock_timestamp() RETURNING term",
                &[&who, &seconds(time)],
            )
            .map_err(&failed)?;
        if let Some(row) = won {
            return Ok(Claim::Won(row.get::<_, i64>(0).cast_unsigned()));
        }
        let holder = self.client.query_one("SELECT who FROM datahall_lease", &[]).map_err(&failed)?;
        Ok(Claim::Held(holder.get(0)))
    }

    fn renew(&mut self, term: u64, time: Duration) -> Result<bool, Error> {
        let changed = self
            .client
            .execute(
                "UPDATE datahall_lease SET until = clock_timestamp() + $1 * interval '1 second' WHERE term = $2",
                &[&seconds(time), &term.cast_signed()],
            )
            .map_err(failed_at(&self.place))?;
        Ok(changed == 1)
    }

    fn keep_secret(&mut self, term: u64, name: &str, sealed: Option<&[u8]>) -> Result<(), Error> {
        let failed = failed_at(&self.place);
        let mut transaction = self.client.transaction().map_err(&failed)?;
        if transaction.query_opt(&self.ours, &[&term.cast_signed()]).map_err(&failed)?.is_none() {
            return Err(Error::Deposed);
        }
        let changed = match sealed {
            Some(sealed) => transaction.execute(
                "INSERT INTO datahall_secrets (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET sealed = $2",
                &[&name, &sealed],
            ),
            None => transaction.execute("DELETE FROM datahall_secrets WHERE name = $1", &[&name]),
        };
        changed.map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    fn secret(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let found = self.client.query_opt("SELECT sealed FROM datahall_secrets WHERE name = $1", &[&name]);
        Ok(found.map_err(failed_at(&self.place))?.map(|row| row.get(0)))
    }

    fn secrets(&mut self) -> Result<Vec<String>, Error> {
        let rows = self.client.query("SELECT name FROM datahall_secrets ORDER BY name COLLATE \"C\"", &[]);
        Ok(rows.map_err(failed_at(&self.place))?.iter().map(|row| row.get(0)).collect())
    }

    fn release(&mut self, term: u64) -> Result<(), Error> {
        self.client
            .execute("UPDATE datahall_lease SET until = '-infinity' WHERE term = $1", &[&term.cast_signed()])
            .map(drop)
            .map_err(failed_at(&self.place))
    }
}
