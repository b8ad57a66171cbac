//! `[catalog.KIND.NAME]`: items that a blueprint adds, or built-in ones that it changes; and printing them again.
//!
//! Invariant: an item called like a built-in one, or with a `base`, has the base's values for every key that is not
//! written. A base is built in or written above, so that no circle can be written.

use crate::catalog::fact::quoted as in_quotes;
use crate::catalog::item::{Item, Origin};
use crate::catalog::{
    AcceleratorItem, CableItem, Catalog, DriveItem, EfficiencyItem, Field, Kind, LinkItem, ModelItem, NicItem,
    NodeItem, SwitchItem, of_kind,
};
use crate::codes::Code;
use crate::names::suggestion;
use crate::problem::{Problems, Report, quoted};
use crate::read::document;
use crate::section::Section;

/// Every item below the section `catalog`.
pub(crate) fn read_own(catalog: &Section<'_>) -> Catalog {
    let mut own = Catalog::default();
    for kind in Kind::ALL {
        of_kind!(kind, T => group::<T>(catalog, &mut own));
    }
    for (word, _, at) in catalog.unknown() {
        let hint = match Kind::from_word(word) {
            Some(kind) => format!("write `[catalog.{kind}.NAME]`"),
            None => suggestion(word, Kind::ALL.map(Kind::word), "kind"),
        };
        let message = format!("the catalogue has no kind of item {}", quoted(word));
        catalog.problems.add(Code::UNKNOWN_KEY, &at, message, Some(hint));
    }
    own
}

fn group<T: Item>(catalog: &Section<'_>, own: &mut Catalog) {
    for (name, section) in catalog.group(T::KIND.word()) {
        let before = section.problems.count();
        let Ok(base) = base::<T>(&name, &section, own) else { continue };
        let Some(item) = T::read(&name, &section, base.as_ref(), Origin::Blueprint) else { continue };
        if section.problems.count() == before {
            item.check(&section, own);
        }
        T::own_mut(own).insert(name, item);
    }
}

/// A base that is written and not there, which is reported; its item cannot be judged.
struct Baseless;

/// The item that `base` names (none if it is empty), else the built-in one of the same name, else none.
fn base<T: Item>(name: &str, section: &Section<'_>, own: &Catalog) -> Result<Option<T>, Baseless> {
    let Some(written) = section.text("base") else {
        return if section.has("base") { Err(Baseless) } else { Ok(T::shelf().get(name).cloned()) };
    };
    // An item that shares its name with a built-in one and nothing else.
    if written.value.is_empty() {
        return Ok(None);
    }
    if let Some(base) = own.get::<T>(&written.value) {
        return Ok(Some(base.clone()));
    }
    let kind = T::KIND;
    let message = format!("the catalogue has no {kind} {} to start from", quoted(&written.value));
    let hint =
        format!("{}; a base is built in or written above", suggestion(&written.value, own.names(kind), kind.word()));
    section.problems.add(Code::NOT_IN_CATALOG, &written.at, message, Some(hint));
    Err(Baseless)
}

/// A text that has nothing but a catalogue.
pub(super) fn parse(file_name: &str, text: &str) -> Result<Catalog, Report> {
    let problems = Problems::default();
    let own = document(text, 0, &problems).map(|document| {
        let root = Section::new(String::new(), 0..0, document.as_table(), &problems);
        let own = root.table("catalog").map(|catalog| read_own(&catalog)).unwrap_or_default();
        root.finish();
        own
    });
    match problems.into_report(file_name, text) {
        Some(report) => Err(report),
        None => Ok(own.unwrap_or_default()),
    }
}

/// Own items as sections.
pub(super) fn toml(catalog: &Catalog) -> String {
    let mut sections = Vec::new();
    for kind in Kind::ALL {
        of_kind!(kind, T => sections.extend(T::own(catalog).values().map(section::<T>)));
    }
    sections.join("\n")
}

fn section<T: Item>(item: &T) -> String {
    let line = |field: Field| match field.source.filter(|source| source != "blueprint") {
        None => format!("{} = {}\n", field.key, field.toml),
        Some(source) => format!("{} = {{ value = {}, source = {} }}\n", field.key, field.toml, in_quotes(&source)),
    };
    // Every key is written, so that nothing is taken from a built-in item of the same name.
    let alone = if T::shelf().get(item.name()).is_some() { "base = \"\"\n" } else { "" };
    format!("[catalog.{}.{}]\n{alone}", T::KIND, item.name()) + &item.fields().into_iter().map(line).collect::<String>()
}
