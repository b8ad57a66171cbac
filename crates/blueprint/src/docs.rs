//! What each section and key means, in one or two sentences: for `datahall explain PATH`, the JSON Schema and editors.
//!
//! Invariant: a key is documented exactly if a reader asks for it (a test compares the two).

use crate::read;

/// The words on one kind of section.
#[derive(Debug)]
pub(crate) struct Doc {
    /// As in [`crate::observe`]: `pool.*`.
    pub(crate) pattern: &'static str,
    /// What the section is.
    pub(crate) about: &'static str,
    /// What each key means.
    pub(crate) keys: &'static [(&'static str, &'static str)],
}

/// All of them, in the order in which people write a blueprint.
pub(crate) const DOCS: &[&Doc] = &[
    &read::DOC,
    &read::site::DOC,
    &read::site::SPLIT_DOC,
    &read::pool::DOC,
    &read::fabric::DOC,
    &read::store::DOC,
    &read::tier::DOC,
    &read::queue::DOC,
    &read::zone::DOC,
    &read::zone::ALLOW_DOC,
    &read::workload::DOC,
    &read::workload::layout::LAYOUT_DOC,
    &read::service::DOC,
    &read::service::LAYOUT_DOC,
    &read::gateway::DOC,
    &read::policy::DOC,
    &read::policy::scheduling::PREDICT_DOC,
    &read::policy::scheduling::STRETCH_DOC,
    &read::policy::scheduling::HEALTH_DOC,
    &read::edge::DOC,
    &read::target::DOC,
];

/// What is written of the sections called `pattern`.
pub(crate) fn of(pattern: &str) -> Option<&'static Doc> {
    DOCS.iter().find(|doc| doc.pattern == pattern).copied()
}
