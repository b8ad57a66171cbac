//! Things to look at in a terminal.

pub(crate) mod chart;
pub(crate) mod progress;
pub(crate) mod rows;
pub(crate) mod table;
