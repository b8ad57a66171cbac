//! The index: every row of metadata, in one transactional database behind a write-ahead log.
//!
//! `rows` and `keys` say what is kept, `codec` and `encoding` in which bytes; `tables` is one transaction's view; `mirror`
//! is the database's file on the drives, `files` makes it; `wal` is the log; `place` is where
//! both lie; `meta` is the protocol between them.

pub(crate) mod codec;
mod encoding;
pub(crate) mod files;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub(crate) mod keys;
pub(crate) mod meta;
mod mirror;
pub(crate) mod place;
pub(crate) mod rows;
pub(crate) mod tables;
pub(crate) mod wal;
