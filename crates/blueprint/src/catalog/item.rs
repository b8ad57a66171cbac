//! An item: a name, a title, numbers with sources. One table of keys makes the type, its reader and its printer, so that a
//! new key is one line.
//!
//! Invariant: a number of a built-in file that names no source is a problem; one of a blueprint comes from "blueprint".
//! An item on a base differs from it only in the keys that are written.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::catalog::Catalog;
use crate::catalog::fact::{Fact, Sourced};
use crate::catalog::kind::{Files, Kind};
use crate::catalog::shelf::Shelf;
use crate::codes::Code;
use crate::section::Section;

/// Who wrote an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file of the program: it needs a title, and a source for every number.
    File,
    /// A blueprint, which is the source of what it says.
    Blueprint,
}

/// What the catalogue does with items of every kind.
pub(crate) trait Item: Sized + Clone + Send + Sync + 'static {
    const KIND: Kind;
    /// Files of the program.
    const FILES: Files;
    /// Keys that a list of items shows.
    const COLUMNS: &'static [&'static str];

    /// The item that `section` describes, on `base` if it is given. Asks for every key and finishes the section.
    fn read(name: &str, section: &Section<'_>, base: Option<&Self>, origin: Origin) -> Option<Self>;

    fn name(&self) -> &str;

    fn fields(&self) -> Vec<crate::catalog::Field>;

    /// Built-in items.
    fn shelf() -> &'static Shelf<Self>;

    /// Items of the blueprint.
    fn own(catalog: &Catalog) -> &BTreeMap<String, Self>;

    fn own_mut(catalog: &mut Catalog) -> &mut BTreeMap<String, Self>;

    /// Reports what cannot be true of an item written in `section`, with `catalog` what was written before it.
    fn check(&self, _section: &Section<'_>, _catalog: &Catalog) {}
}

/// A section whose numbers have sources.
pub(crate) struct Reader<'s, 'a> {
    section: &'s Section<'a>,
    /// Keys whose value is a table.
    tables: Vec<&'a str>,
    /// The source of numbers that name none.
    source: Option<String>,
    origin: Origin,
    complained: Cell<bool>,
}

impl<'s, 'a> Reader<'s, 'a> {
    pub(super) fn new(section: &'s Section<'a>, origin: Origin) -> Self {
        let unread = section.unknown().into_iter();
        let tables = unread.filter(|(_, item, _)| item.is_table_like()).map(|(key, ..)| key).collect();
        let written = section.text("source").map(|source| source.value);
        let source = written.or_else(|| (origin == Origin::Blueprint).then(|| "blueprint".to_owned()));
        Self { section, tables, source, origin, complained: Cell::new(false) }
    }

    /// The title: as written, else the base's, else in a blueprint the name.
    pub(super) fn title(&self, name: &str, base: Option<&String>) -> Option<String> {
        let written = self.section.text("title").map(|title| title.value);
        let found = written.or_else(|| base.cloned());
        match self.origin {
            Origin::Blueprint => found.or_else(|| Some(name.to_owned())),
            Origin::File => self.section.need("title", found),
        }
    }

    /// A text that is no number: it needs no source.
    pub(super) fn text(&self, key: &'static str, base: Option<&String>) -> Option<String> {
        self.section.text(key).map(|text| text.value).or_else(|| base.cloned())
    }

    /// A number that may be missing.
    pub(super) fn known<T: Fact>(&self, key: &'static str, base: Option<&Sourced<T>>) -> Option<Sourced<T>> {
        self.number(key).or_else(|| base.cloned())
    }

    /// A number that must be there and, as an amount, above zero.
    pub(super) fn needed<T: Fact>(&self, key: &'static str, base: Option<&Sourced<T>>) -> Option<Sourced<T>> {
        let found = self.known(key, base);
        if found.as_ref().is_some_and(|number| number.value.is_zero()) {
            let message = format!("`{key}` is zero, expected more");
            self.section.problems.add(Code::OUT_OF_RANGE, &self.section.key_at(key), message, None);
            return None;
        }
        self.section.need(key, found)
    }

    /// `key = VALUE` with the source of the section, or `key = { value = VALUE, source = "..." }` with its own.
    fn number<T: Fact>(&self, key: &'static str) -> Option<Sourced<T>> {
        if self.tables.contains(&key) {
            let table = self.section.table(key)?;
            let value = table.need("value", T::read(&table, "value"));
            let source = table.text("source").map(|source| source.value).or_else(|| self.source.clone());
            let source = table.need("source", source);
            table.finish();
            return Some(Sourced { value: value?.value, source: source? });
        }
        let value = T::read(self.section, key)?.value;
        if self.source.is_none() && !self.complained.replace(true) {
            self.section.need::<String>("source", None);
        }
        Some(Sourced { value, source: self.source.clone()? })
    }
}

/// An item type: its documentation, its kind, the map of a blueprint's own items, the columns of a list, then the keys.
macro_rules! item {
    (
        $(#[$doc:meta])*
        $name:ident: $kind:ident, $files:ident, $own:ident, [$($column:literal),*] $(, check = $check:path)?;
        needed { $( $(#[$needed_doc:meta])* $needed:ident: $needed_type:ty, )* }
        known { $( $(#[$known_doc:meta])* $known:ident: $known_type:ty, )* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        pub struct $name {
            /// The name in blueprints.
            pub name: String,
            /// The name in the trade.
            pub title: String,
            /// Who makes it, where one company does.
            pub vendor: Option<String>,
            $( $(#[$needed_doc])* pub $needed: $crate::catalog::Sourced<$needed_type>, )*
            $( $(#[$known_doc])* pub $known: Option<$crate::catalog::Sourced<$known_type>>, )*
            /// What to beware of.
            pub notes: Option<String>,
        }

        impl $name {
            /// Everything that is known of it but its name, in the order of its keys.
            pub fn entries(&self) -> Vec<$crate::catalog::Field> {
                use $crate::catalog::item::{field, plain};
                let mut fields = vec![plain("title", &self.title)];
                fields.extend(self.vendor.iter().map(|text| plain("vendor", text)));
                $( fields.push(field(stringify!($needed), &self.$needed)); )*
                $( fields.extend(self.$known.iter().map(|number| field(stringify!($known), number))); )*
                fields.extend(self.notes.iter().map(|text| plain("notes", text)));
                fields
            }
        }

        impl $crate::catalog::item::Item for $name {
            const KIND: $crate::catalog::Kind = $crate::catalog::Kind::$kind;
            const FILES: $crate::catalog::kind::Files = $crate::catalog::kind::files::$files;
            const COLUMNS: &'static [&'static str] = &[$($column),*];

            fn read(
                name: &str,
                section: &$crate::section::Section<'_>,
                base: Option<&Self>,
                origin: $crate::catalog::item::Origin,
            ) -> Option<Self> {
                let reader = $crate::catalog::item::Reader::new(section, origin);
                let title = reader.title(name, base.map(|base| &base.title));
                let vendor = reader.text("vendor", base.and_then(|base| base.vendor.as_ref()));
                $( let $needed = reader.needed(stringify!($needed), base.map(|base| &base.$needed)); )*
                $( let $known = reader.known(stringify!($known), base.and_then(|base| base.$known.as_ref())); )*
                let notes = reader.text("notes", base.and_then(|base| base.notes.as_ref()));
                section.finish();
                Some(Self {
                    name: name.to_owned(),
                    title: title?,
                    vendor,
                    $( $needed: $needed?, )*
                    $( $known, )*
                    notes,
                })
            }

            fn name(&self) -> &str {
                &self.name
            }

            fn fields(&self) -> Vec<$crate::catalog::Field> {
                self.entries()
            }

            fn shelf() -> &'static $crate::catalog::shelf::Shelf<Self> {
                static SHELF: $crate::catalog::shelf::Shelf<$name> = $crate::catalog::shelf::Shelf::new();
                &SHELF
            }

            fn own(catalog: &$crate::catalog::Catalog) -> &::std::collections::BTreeMap<String, Self> {
                &catalog.$own
            }

            fn own_mut(catalog: &mut $crate::catalog::Catalog) -> &mut ::std::collections::BTreeMap<String, Self> {
                &mut catalog.$own
            }

            $( fn check(&self, section: &$crate::section::Section<'_>, catalog: &$crate::catalog::Catalog) {
                $check(self, section, catalog);
            } )?
        }
    };
}

pub(super) use item;

/// A number with its source.
pub(super) fn field<T: Fact>(key: &'static str, number: &Sourced<T>) -> crate::catalog::Field {
    let source = Some(number.source.clone());
    crate::catalog::Field { key, value: number.value.shown(), toml: number.value.toml(), source }
}

/// A text without one.
pub(super) fn plain(key: &'static str, text: &str) -> crate::catalog::Field {
    crate::catalog::Field { key, value: text.to_owned(), toml: crate::catalog::fact::quoted(text), source: None }
}
