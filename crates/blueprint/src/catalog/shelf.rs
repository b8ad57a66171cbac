//! Built-in items of one kind, each read at its first use, so that a program that needs three items parses three files.
//!
//! Invariant: that every file can be read is a test, so nothing is lost when a file that cannot is passed over.

use std::sync::OnceLock;

use crate::catalog::item::{Item, Origin};
use crate::problem::{Problems, Report};
use crate::read::document;
use crate::section::Section;

/// A cell for each file.
pub(crate) struct Shelf<T> {
    cells: OnceLock<Vec<OnceLock<Option<T>>>>,
}

impl<T: Item> Shelf<T> {
    pub(super) const fn new() -> Self {
        Self { cells: OnceLock::new() }
    }

    /// The built-in item called `name`.
    pub(super) fn get(&'static self, name: &str) -> Option<&'static T> {
        let at = T::FILES.binary_search_by(|(file, _)| (*file).cmp(name)).ok()?;
        let (name, text) = T::FILES.get(at)?;
        let cells = self.cells.get_or_init(|| T::FILES.iter().map(|_| OnceLock::new()).collect());
        cells.get(at)?.get_or_init(|| parse(name, text).ok()).as_ref()
    }
}

/// One file, read like a blueprint: unknown keys and missing sources are problems.
pub(super) fn parse<T: Item>(name: &str, text: &str) -> Result<T, Report> {
    let problems = Problems::default();
    let item = document(text, 0, &problems).and_then(|document| {
        let section = Section::new(String::new(), 0..0, document.as_table(), &problems);
        T::read(name, &section, None, Origin::File)
    });
    let file = format!("{}/{name}.toml", T::KIND.plural());
    match (problems.into_report(&file, text), item) {
        (None, Some(item)) => Ok(item),
        (report, _) => Err(report.unwrap_or(Report { file, problems: vec![], more: 0 })),
    }
}
