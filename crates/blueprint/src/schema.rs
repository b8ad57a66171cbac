//! The JSON Schema of blueprints, for editors: made from what the readers ask for and from the words on each key.
//!
//! Invariant: the readers are run over [`REFERENCE`], a blueprint with every kind of section, and everything they ask for
//! is in the schema; nothing else is.

use serde_json::{Map, Value, json};

use crate::docs;
use crate::observe::{Asked, Observer, Patterns, Shape};
use crate::problem::Problems;
use crate::read;

/// A blueprint with every section and every kind of workload.
pub(crate) const REFERENCE: &str = include_str!("../templates/reference.toml");

/// Draft 7, which editors with TOML support read (Even Better TOML, taplo).
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// What the readers ask for.
pub(crate) fn patterns() -> Patterns {
    let mut problems = Problems::observing();
    let _: Option<crate::Settings> = read::observe(REFERENCE, &problems);
    problems.observer.take().map(Observer::into_patterns).unwrap_or_default()
}

/// The JSON Schema of a blueprint.
pub fn schema() -> Value {
    let patterns = patterns();
    let mut root = table(&patterns, "");
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), DRAFT.into());
        root.insert("title".to_owned(), "Datahall blueprint".into());
    }
    root
}

/// A table of the pattern, with one alternative for each of its kinds if it has kinds.
fn table(patterns: &Patterns, pattern: &str) -> Value {
    let keys = patterns.get(pattern).map(|keys| keys.iter().collect::<Vec<_>>()).unwrap_or_default();
    let kinds: Vec<(&str, Vec<(&String, &Asked)>)> = patterns
        .iter()
        .filter_map(|(name, keys)| Some((name.strip_prefix(pattern)?.strip_prefix('#')?, keys.iter().collect())))
        .collect();
    let about = docs::of(pattern).map(|doc| doc.about);
    if kinds.is_empty() {
        return object(patterns, pattern, &keys, about);
    }
    let alternatives = kinds.into_iter().map(|(kind, special)| {
        let mut all = keys.clone();
        // The reader of one kind may need a key that is free for the others.
        all.retain(|(key, _)| !special.iter().any(|(other, _)| other == key));
        all.extend(special);
        let mut one = object(patterns, pattern, &all, None);
        if let Some(properties) = one.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("kind".to_owned(), json!({ "const": kind }));
        }
        one
    });
    let alternatives: Vec<Value> = alternatives.collect();
    json!({ "type": "object", "description": about, "oneOf": alternatives })
}

fn object(patterns: &Patterns, pattern: &str, keys: &[(&String, &Asked)], about: Option<&str>) -> Value {
    let doc = docs::of(pattern);
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (key, asked) in keys {
        let words = doc.and_then(|doc| doc.keys.iter().find(|(name, _)| name == *key)).map(|(_, words)| *words);
        let mut value = shape(patterns, pattern, key, &asked.shape);
        if is_item(pattern) {
            value = sourced(key, value);
        }
        if let (Some(words), Some(value)) = (words, value.as_object_mut()) {
            value.insert("description".to_owned(), words.into());
        }
        properties.insert((*key).clone(), value);
        // What an item of a blueprint leaves out comes from its base.
        if asked.required && !is_item(pattern) {
            required.push((*key).clone());
        }
    }
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if let Some(object) = object.as_object_mut() {
        if !required.is_empty() {
            object.insert("required".to_owned(), required.into());
        }
        if let Some(about) = about {
            object.insert("description".to_owned(), about.into());
        }
    }
    object
}

/// Whether sections of this pattern are items of the catalogue: `catalog.node.*`.
fn is_item(pattern: &str) -> bool {
    pattern.starts_with("catalog.") && pattern.ends_with(".*")
}

/// A number of an item stands alone or with its source; its texts only alone.
fn sourced(key: &str, value: Value) -> Value {
    if ["title", "vendor", "notes", "base", "source"].contains(&key) {
        return value;
    }
    let with_source = json!({
        "type": "object", "additionalProperties": false, "required": ["value"],
        "properties": { "value": value.clone(), "source": { "type": "string" } },
    });
    json!({ "anyOf": [value, with_source] })
}

fn shape(patterns: &Patterns, pattern: &str, key: &str, shape: &Shape) -> Value {
    let below = |name: &str| if pattern.is_empty() { name.to_owned() } else { format!("{pattern}.{name}") };
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Name => json!({ "type": "string", "pattern": NAME }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer { low, high } => {
            let bound = |number: &i128| i64::try_from(*number).map_or(Value::Null, Value::from);
            json!({ "type": "integer", "minimum": bound(low), "maximum": bound(high) })
        }
        Shape::Integers { count, low, high } => json!({
            "type": "array", "minItems": count, "maxItems": count,
            "items": { "type": "integer", "minimum": low, "maximum": high },
        }),
        Shape::Real { bounds } => json!({ "type": "number", "$comment": bounds }),
        Shape::Quantity(dimension) => {
            let units: Vec<&str> = dimension.symbols().collect();
            json!({
                "type": "string", "pattern": "^\\s*(\\$\\s*)?-?[0-9.]",
                "examples": [dimension.example()], "$comment": format!("units: {}", units.join(", ")),
            })
        }
        Shape::Word(words) => json!({ "enum": words }),
        Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Shape::TextTable => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::NumberTable => json!({ "type": "object", "additionalProperties": { "type": "number" } }),
        Shape::Table => table(patterns, &below(key)),
        Shape::List => json!({ "type": "array", "items": table(patterns, &below(key)) }),
        Shape::Group => json!({
            "type": "object", "propertyNames": { "pattern": NAME },
            "additionalProperties": table(patterns, &below(&format!("{key}.*"))),
        }),
    }
}

/// As [`crate::names::is_name`] has it, but for the length.
const NAME: &str = "^[a-z]([a-z0-9]|-[a-z0-9])*$";

/// What is known of a dotted path such as `pool.nodes`, for `datahall explain PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDoc {
    /// The path, with `NAME` where a name is free.
    pub path: String,
    /// What may stand there, in words.
    pub takes: String,
    /// Whether it must be written.
    pub required: bool,
    /// What it means.
    pub words: String,
}

/// The documentation of a section or key: the section's own words first, then its keys. Names may be written or left out:
/// `pool`, `pool.train`, `pool.nodes` and `pool.train.nodes` are all found. Empty if there is no such path.
pub fn explain_path(path: &str) -> Vec<KeyDoc> {
    let patterns = patterns();
    for (pattern, key) in readings(path) {
        let Some(doc) = docs::of(&pattern) else { continue };
        let of = |name: &str| {
            let mut kinds = patterns
                .iter()
                .filter(|(known, _)| known.as_str() == pattern || known.starts_with(&format!("{pattern}#")));
            kinds.find_map(|(_, keys)| keys.get(name))
        };
        let line = |(name, words): &(&str, &str)| {
            let asked = of(name);
            KeyDoc {
                path: join(&pattern.replace('*', "NAME"), name),
                takes: asked.map_or_else(String::new, |asked| takes(&asked.shape)),
                required: asked.is_some_and(|asked| asked.required),
                words: (*words).to_owned(),
            }
        };
        if let Some(key) = key {
            if let Some(found) = doc.keys.iter().find(|(name, _)| *name == key) {
                return vec![line(found)];
            }
            continue;
        }
        let head = KeyDoc {
            path: pattern.replace('*', "NAME"),
            takes: "a section".to_owned(),
            required: false,
            words: doc.about.to_owned(),
        };
        return std::iter::once(head).chain(doc.keys.iter().map(line)).collect();
    }
    Vec::new()
}

/// Every documented path, for hints and completions.
pub fn paths() -> Vec<String> {
    let of = |doc: &&docs::Doc| {
        let start = doc.pattern.replace(".*", "");
        doc.keys.iter().map(move |(key, _)| join(&start, key)).collect::<Vec<_>>()
    };
    docs::DOCS.iter().flat_map(of).collect()
}

fn join(start: &str, end: &str) -> String {
    if start.is_empty() { end.to_owned() } else { format!("{start}.{end}") }
}

/// The ways in which a written path may be meant: as a section, or as a key of one; with its name or without.
fn readings(path: &str) -> Vec<(String, Option<String>)> {
    let mut readings = Vec::new();
    let words: Vec<&str> = path.split('.').filter(|word| !word.is_empty()).collect();
    for doc in docs::DOCS {
        let parts: Vec<&str> = doc.pattern.split('.').filter(|part| !part.is_empty()).collect();
        let named = |words: &[&str]| {
            parts.len() == words.len() && parts.iter().zip(words).all(|(part, word)| *part == "*" || part == word)
        };
        let bare: Vec<&str> = parts.iter().copied().filter(|part| *part != "*").collect();
        let matches = |words: &[&str]| named(words) || bare == words;
        if matches(&words) {
            readings.push((doc.pattern.to_owned(), None));
        }
        if let Some((key, before)) = words.split_last()
            && matches(before)
        {
            readings.push((doc.pattern.to_owned(), Some((*key).to_owned())));
        }
    }
    // A key by that very name is meant before a section whose name happens to be the same; a section before the line at the top
    // that only lists it.
    readings.sort_by_key(|(pattern, key)| (pattern.is_empty(), key.is_none()));
    readings
}

fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Text => "a text".to_owned(),
        Shape::Name => "a name".to_owned(),
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer { low, high } => format!("a whole number from {low} to {high}"),
        Shape::Integers { count, low, high } => format!("a list of {count} whole numbers from {low} to {high}"),
        Shape::Real { bounds } => bounds.clone(),
        Shape::Quantity(dimension) => format!("{}, for example \"{}\"", dimension.name(), dimension.example()),
        Shape::Word(words) => crate::names::either(&words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>()),
        Shape::Texts => "a list of texts".to_owned(),
        Shape::TextTable => "a table of texts".to_owned(),
        Shape::NumberTable => "a table of numbers".to_owned(),
        Shape::Table => "a table".to_owned(),
        Shape::List => "a list of tables".to_owned(),
        Shape::Group => "sections with names".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The one list of keys is what the readers ask for; the words must be of the same keys.
    #[test]
    fn every_key_is_documented_and_no_other() {
        let patterns = patterns();
        let asked: BTreeSet<(String, String)> = patterns
            .iter()
            .filter(|(pattern, _)| !pattern.starts_with("catalog"))
            .flat_map(|(pattern, keys)| {
                let pattern = pattern.split('#').next().unwrap().to_owned();
                keys.keys().map(move |key| (pattern.clone(), key.clone()))
            })
            .collect();
        let documented: BTreeSet<(String, String)> = docs::DOCS
            .iter()
            .flat_map(|doc| doc.keys.iter().map(|(key, _)| (doc.pattern.to_owned(), (*key).to_owned())))
            .collect();
        assert_eq!(asked.difference(&documented).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
        assert_eq!(documented.difference(&asked).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    }

    /// The reference has an item of every kind, or the schema would refuse all keys of that kind.
    #[test]
    fn items_of_every_kind_have_keys() {
        let schema = schema();
        for kind in crate::Kind::ALL {
            let item =
                &schema["properties"]["catalog"]["properties"][kind.word()]["additionalProperties"]["properties"];
            assert!(item.as_object().is_some_and(|keys| keys.len() > 4), "{kind}");
        }
    }

    #[test]
    fn the_schema_knows_kinds_and_bounds() {
        let schema = schema();
        let pool = &schema["properties"]["pool"]["additionalProperties"];
        assert_eq!(pool["required"], json!(["nodes"]));
        assert_eq!(pool["properties"]["nodes"]["maximum"], json!(1 << 20));
        assert_eq!(pool["additionalProperties"], json!(false));
        let kinds = schema["properties"]["workload"]["additionalProperties"]["oneOf"].as_array().unwrap();
        assert_eq!(kinds.len(), 3);
        assert!(kinds.iter().all(|kind| kind["properties"]["kind"]["const"].is_string()));
        assert_eq!(schema["required"], json!(["name", "schema"]));
    }

    #[test]
    fn a_path_is_found_with_and_without_its_name() {
        for path in ["pool.nodes", "pool.train.nodes"] {
            let found = explain_path(path);
            assert_eq!((found.len(), found[0].path.as_str(), found[0].required), (1, "pool.NAME.nodes", true));
        }
        assert!(explain_path("pool").len() > 10);
        assert_eq!(explain_path("target.listen")[0].path, "target.listen");
        assert_eq!(explain_path("zone.compute.allow.ports")[0].path, "zone.NAME.allow.ports");
        assert!(explain_path("colour").is_empty());
        assert!(paths().contains(&"site.pue".to_owned()));
    }
}
