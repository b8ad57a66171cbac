//! What the readers of a blueprint ask for: every key, its type, whether it must be there. The schema, the completions and
//! the documentation of keys are made from it, so that none of them can say something else than the reader does.

use std::cell::RefCell;
use std::collections::BTreeMap;

use dh_units::Dimension;

/// What may stand behind a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Name,
    Boolean,
    Integer {
        low: i128,
        high: i128,
    },
    /// A list of so many whole numbers.
    Integers {
        count: usize,
        low: u32,
        high: u32,
    },
    Real {
        bounds: String,
    },
    Quantity(&'static Dimension),
    Word(Vec<String>),
    Texts,
    /// A table of texts whose keys are free.
    TextTable,
    /// A table of numbers whose keys are free.
    NumberTable,
    /// A table with keys of its own, documented under this key's path.
    Table,
    /// A list of such tables.
    List,
    /// Tables with names of their own.
    Group,
}

/// One key as a reader asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}

/// Keys by the pattern of their section: `pool.*` is every pool; `workload.*#train` are the keys that only this kind has.
pub(crate) type Patterns = BTreeMap<String, BTreeMap<String, Asked>>;

/// Collects what is asked for.
#[derive(Debug, Default)]
pub(crate) struct Observer(RefCell<Patterns>);

impl Observer {
    /// A reader asked for `key`; what is noted last about a key is the most exact.
    pub(crate) fn asked(&self, pattern: &str, key: &str, shape: Shape) {
        let mut patterns = self.0.borrow_mut();
        let keys = patterns.entry(pattern.to_owned()).or_default();
        match keys.get_mut(key) {
            Some(asked) => asked.shape = shape,
            None => {
                keys.insert(key.to_owned(), Asked { shape, required: false });
            }
        }
    }

    /// A reader cannot go on without `key`.
    pub(crate) fn required(&self, pattern: &str, key: &str) {
        if let Some(asked) = self.0.borrow_mut().get_mut(pattern).and_then(|keys| keys.get_mut(key)) {
            asked.required = true;
        }
    }

    pub(crate) fn into_patterns(self) -> Patterns {
        self.0.into_inner()
    }
}
