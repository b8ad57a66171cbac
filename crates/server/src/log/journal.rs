//! What keeps the event log: rows in order, and the lease that says which server may write them.
//!
//! Invariant of every journal: rows are durable when [`Journal::append`] returns, all of them or none; only the server whose term
//! is the newest can append, whatever any clock says. Time decides only when a lease may be taken over, and it is the journal's own.
//! Cost: one transaction per batch of events, one small write per renewal.

use std::time::Duration;

use crate::Error;

/// One event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// From 1, without gaps.
    pub(crate) seq: u64,
    /// When, in nanoseconds since 1970.
    pub(crate) at_ns: u64,
    /// The event as JSON.
    pub(crate) body: String,
    /// The state hash that the hall had after it, where one was marked.
    pub(crate) mark: Option<String>,
}

/// What came of asking for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is ours under this term, which is larger than every one before.
    Won(u64),
    /// Somebody else has it.
    Held(String),
}

/// A place where an event log is kept.
pub(crate) trait Journal: Send {
    /// Where it is, for people.
    fn place(&self) -> String;

    /// Whether servers other than the one that holds the data directory can reach it.
    fn shared(&self) -> bool;

    /// At most `most` rows after row `after`, in order.
    /// # Errors
    /// If it cannot be read.
    fn read(&mut self, after: u64, most: u32) -> Result<Vec<Row>, Error>;

    /// Makes `rows` durable and, with `mark`, the state hash after the last row of all.
    /// # Errors
    /// [`Error::Deposed`] if `term` is not the newest; nothing is written then.
    fn append(&mut self, term: u64, rows: &[Row], mark: Option<(u64, &str)>) -> Result<(), Error>;

    /// Takes the lease for `who` if it is free, has run out, or was theirs: whoever asks under a name has shown that no other
    /// process has it.
    /// # Errors
    /// If it cannot be asked.
    fn claim(&mut self, who: &str, time: Duration) -> Result<Claim, Error>;

    /// Keeps the lease for `time` from this moment; `false` if it is another's.
    /// # Errors
    /// If it cannot be asked.
    fn renew(&mut self, term: u64, time: Duration) -> Result<bool, Error>;

    /// Keeps a sealed value under `name`, in place of the one that is there; with none, the one that is there goes.
    /// # Errors
    /// [`Error::Deposed`] if `term` is not the newest; nothing is changed then.
    fn keep_secret(&mut self, term: u64, name: &str, sealed: Option<&[u8]>) -> Result<(), Error>;

    /// The sealed value of `name`.
    /// # Errors
    /// If it cannot be read.
    fn secret(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// The names of all sealed values, in order.
    /// # Errors
    /// If they cannot be read.
    fn secrets(&mut self) -> Result<Vec<String>, Error>;

    /// Lets go of the lease, so that another need not wait for its end.
    /// # Errors
    /// If it cannot be asked.
    fn release(&mut self, term: u64) -> Result<(), Error>;
}
