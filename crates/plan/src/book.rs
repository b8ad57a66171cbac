//! The ledger of a plan, and the two kinds of facts that its numbers start from: what the blueprint says, and the catalogue.

use dh_blueprint::{Kind, Origins, Settings, Sourced};
use dh_units::{Ledger, Value};

/// A ledger that knows the blueprint.
pub(crate) struct Book<'a> {
    pub(crate) ledger: Ledger,
    pub(crate) settings: &'a Settings,
    origins: &'a Origins,
}

impl<'a> Book<'a> {
    pub(crate) fn new(settings: &'a Settings, origins: &'a Origins) -> Self {
        Self { ledger: Ledger::new(), settings, origins }
    }

    /// Where `path` of the blueprint is written, in words.
    pub(crate) fn origin(&self, path: &str) -> String {
        let key = path.rsplit('.').next().unwrap_or(path);
        match self.origins.of(path) {
            Some(place) => format!("{place}, key `{key}`"),
            None => format!("default of `{path}` (`datahall explain {path}`)"),
        }
    }

    /// Whether `path` is written in the blueprint.
    pub(crate) fn written(&self, path: &str) -> bool {
        self.origins.of(path).is_some()
    }

    /// Enters what the blueprint says at `path`, under that path as its id; returns the id.
    pub(crate) fn says<T: Copy + Into<Value>>(&mut self, path: &str, title: &str, value: T) -> String {
        let source = self.origin(path);
        self.ledger.given(path, title, value, &source);
        path.to_owned()
    }

    /// Enters a number of the catalogue; returns its id.
    pub(crate) fn fact<T: Copy + Into<Value>>(
        &mut self,
        kind: Kind,
        item: &str,
        key: &str,
        title: &str,
        number: &Sourced<T>,
    ) -> String {
        let id = format!("catalog.{kind}.{}.{key}", item.replace(' ', "-"));
        self.ledger.given(&id, title, number.value, &number.source);
        id
    }

    /// Enters a computed number; returns its id.
    pub(crate) fn sum<T: Copy + Into<Value>>(
        &mut self,
        id: &str,
        title: &str,
        value: T,
        formula: impl Into<String>,
        inputs: &[String],
    ) -> String {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.ledger.derived(id, title, value, formula, &inputs);
        id.to_owned()
    }
}
