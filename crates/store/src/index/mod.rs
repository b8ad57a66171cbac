//! The index: every row of metadata, in one transactional database.

pub(crate) mod codec;
mod encoding;
pub(crate) mod keys;
pub(crate) mod meta;
pub(crate) mod rows;
