//! Settings as TOML again, with every default written out: what `datahall explain --effective` prints.
//!
//! Invariant: what is written reads back as the same settings (a property test holds it to that).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dh_units::Quantity;

/// The keys that some file wrote, as dotted paths, each with its `file:line`; all others are defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(pub(crate) BTreeMap<String, String>);

impl Origins {
    /// Where `path` (`pool.train.nodes`) is written, as `file:line`; `None` if it is a default.
    pub fn of(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

/// The text that is growing.
#[derive(Debug)]
pub(crate) struct Writer<'w> {
    text: String,
    path: String,
    written: Option<&'w Origins>,
}

impl<'w> Writer<'w> {
    /// A writer that marks what is not in `written` as default, if that is known.
    pub(crate) fn new(written: Option<&'w Origins>) -> Self {
        Self { text: String::new(), path: String::new(), written }
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// Starts `[kind.name]`; `name` may be empty.
    pub(crate) fn section(&mut self, kind: &str, name: &str) {
        self.path = if name.is_empty() { kind.to_owned() } else { format!("{kind}.{name}") };
        let new = if self.text.is_empty() { "" } else { "\n" };
        self.put(format_args!("{new}[{}]\n", self.path.clone()));
    }

    /// A section inside of the one that was started, with what `write` puts there.
    pub(crate) fn below(&mut self, kind: &str, name: &str, write: impl FnOnce(&mut Self)) {
        let outer = self.path.clone();
        self.section(&format!("{outer}.{kind}"), name);
        write(self);
        self.path = outer;
    }

    /// Whole sections that are TOML already.
    pub(crate) fn sections(&mut self, text: &str) {
        if !text.is_empty() {
            self.put(format_args!("\n{text}"));
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.push_str(&text.to_string());
    }

    /// `key = value`, where `value` is TOML already.
    pub(crate) fn raw(&mut self, key: &str, value: &str) {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let default = self.written.is_some_and(|written| written.of(&path).is_none());
        let mark = if default { "  # default" } else { "" };
        self.put(format_args!("{key} = {value}{mark}\n"));
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    pub(crate) fn quantity<Q: Quantity>(&mut self, key: &str, value: Q) {
        // The short form where it is exact, because people read it.
        let short = value.to_string();
        let exact = short.parse::<Q>().is_ok_and(|read| read == value);
        self.text(key, &if exact { short } else { value.print_exact() });
    }

    pub(crate) fn integer(&mut self, key: &str, value: impl Into<i128>) {
        self.raw(key, &value.into().to_string());
    }

    pub(crate) fn boolean(&mut self, key: &str, value: bool) {
        self.raw(key, if value { "true" } else { "false" });
    }

    pub(crate) fn real(&mut self, key: &str, value: f64) {
        self.raw(key, &format!("{value:?}"));
    }

    pub(crate) fn texts<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        self.raw(key, &list(values.iter().map(|value| quoted(value.as_ref()))));
    }

    pub(crate) fn maybe_text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(crate) fn maybe_quantity<Q: Quantity>(&mut self, key: &str, value: Option<Q>) {
        if let Some(value) = value {
            self.quantity(key, value);
        }
    }

    pub(crate) fn maybe_integer(&mut self, key: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.integer(key, value);
        }
    }

    pub(crate) fn maybe_real(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.real(key, value);
        }
    }
}

/// `[a, b]`.
pub(crate) fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                // Writing to a String cannot fail.
                write!(quoted, "\\u{:04X}", u32::from(control)).unwrap_or_default();
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A key, quoted where TOML wants it.
pub(crate) fn key(text: &str) -> String {
    let bare =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if bare { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_so_that_toml_reads_them_back() {
        for text in ["", "a", "\"\\\n\t\u{1}\u{7f}é", "C:\\x"] {
            let document = format!("x = {}\n{} = 1", quoted(text), key("a b"));
            let read = toml_edit::Document::parse(document).unwrap();
            assert_eq!(read.get("x").unwrap().as_str(), Some(text));
            assert!(read.get("a b").is_some());
        }
    }

    #[test]
    fn what_nobody_wrote_is_marked() {
        let written = Origins(BTreeMap::from([("site.main.pue".to_owned(), "hall.toml:2".to_owned())]));
        let mut writer = Writer::new(Some(&written));
        writer.section("site", "main");
        writer.real("pue", 1.2);
        writer.real("margin", 1.1);
        assert_eq!(writer.finish(), "[site.main]\npue = 1.2\nmargin = 1.1  # default\n");
    }
}
