//! The texts that a blueprint is made of: the file itself and the bases below it.

use toml_edit::Document;

use super::document;
use crate::codes::Code;
use crate::problem::{Problems, Source, quoted};
use crate::section::{Layer, Section};
use crate::write::Origins;

/// Bases in a row; a company, a site and a hall are three.
const BASES_MAX: usize = 8;

/// Reads a base for whoever may touch files: from the name of the file that names it, and the path written there, to a
/// name for messages and the text; or why not.
pub(crate) type Load<'l> = dyn FnMut(&str, &str) -> Result<(String, String), String> + 'l;

/// One text and its name.
#[derive(Debug)]
pub(crate) struct Text {
    name: String,
    content: String,
    offset: usize,
}

/// The texts as reports want them.
pub(crate) fn places(texts: &[Text]) -> Vec<Source<'_>> {
    texts.iter().map(|one| Source { name: &one.name, text: &one.content, offset: one.offset }).collect()
}

/// Reads the file and its bases, and calls `read` with the whole of them, if all could be parsed.
pub(crate) fn with_bases<T>(
    file: &str,
    text: &str,
    load: &mut Load<'_>,
    problems: &Problems,
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> (Vec<Text>, Option<T>) {
    let (texts, whole) = texts(file, text, load, problems);
    let documents: Vec<Option<Document<&str>>> =
        texts.iter().map(|one| document(&one.content, one.offset, problems)).collect();
    let mut layers = Vec::new();
    for (document, one) in documents.iter().zip(&texts) {
        let Some(document) = document else { return (texts, None) };
        layers.push(Layer { table: document.as_table(), offset: one.offset });
    }
    // Without one of the texts nearly everything would be reported as missing.
    if !whole {
        return (texts, None);
    }
    let value = read(&Section::layered(String::new(), String::new(), 0..0, layers, problems));
    drop(documents);
    (texts, value)
}

/// The file and its bases, and whether all of them are there; a base that is not was reported.
fn texts(file: &str, text: &str, load: &mut Load<'_>, problems: &Problems) -> (Vec<Text>, bool) {
    let mut texts = vec![Text { name: file.to_owned(), content: text.to_owned(), offset: 0 }];
    while let Some(last) = texts.last() {
        let Some((base, at)) = base_of(&last.content) else { return (texts, true) };
        let at = at.start + last.offset..at.end + last.offset;
        let Some(base) = base else {
            let hint = Some("one path in quotes: base = \"common.toml\"; a base may have a base itself".to_owned());
            problems.add(Code::WRONG_TYPE, &at, "`base` is not a text", hint);
            break;
        };
        if texts.len() > BASES_MAX {
            let message = format!("{} is the ninth base in a row", quoted(&base));
            problems.add(Code::BASE_LOOP, &at, message, Some("at most eight; do they go in a circle?".to_owned()));
            break;
        }
        match load(&last.name, &base) {
            Ok((name, _)) if texts.iter().any(|one| one.name == name) => {
                let message = format!("{} is below itself", quoted(&base));
                problems.add(Code::BASE_LOOP, &at, message, Some("remove one of the lines `base = ..`".to_owned()));
                break;
            }
            Ok((name, content)) => {
                // One more than its length, so that the end of one text is not the start of the next.
                let offset = last.offset + last.content.len() + 1;
                texts.push(Text { name, content, offset });
            }
            Err(why) => {
                let message = format!("the base {} cannot be read: {}", quoted(&base), crate::problem::plain(&why));
                let hint = Some("a path from this file's folder, for example base = \"common.toml\"".to_owned());
                problems.add(Code::BASE, &at, message, hint);
                break;
            }
        }
    }
    (texts, false)
}

/// What the text says is below it (nothing if that is no text), if it can be parsed at all; if not, that is reported when it
/// is read for good.
fn base_of(text: &str) -> Option<(Option<String>, std::ops::Range<usize>)> {
    if text.len() > dh_core::limits::BLUEPRINT_BYTES_MAX {
        return None;
    }
    let document = Document::parse(text).ok()?;
    let item = document.get("base")?;
    let key = || document.as_table().key("base").and_then(toml_edit::Key::span);
    let at = item.as_value().and_then(toml_edit::Value::span).or_else(key).unwrap_or_default();
    Some((item.as_str().map(str::to_owned), at))
}

/// Every key that the texts write, as a dotted path, and where.
pub(crate) fn origins(texts: &[Text]) -> Origins {
    let mut origins = Origins::default();
    // The file itself last, because it goes before its bases.
    for one in texts.iter().rev() {
        if let Ok(document) = Document::parse(one.content.as_str()) {
            let mut lines = vec![0];
            lines.extend(one.content.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1));
            collect(document.as_table(), "", one, &lines, &mut origins);
        }
    }
    origins
}

fn collect(table: &dyn toml_edit::TableLike, path: &str, text: &Text, lines: &[usize], origins: &mut Origins) {
    for (key, item) in table.iter() {
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if let Some(inner) = item.as_table_like() {
            collect(inner, &path, text, lines, origins);
        }
        let at = table.key(key).and_then(toml_edit::Key::span).map_or(0, |span| span.start);
        let line = lines.partition_point(|start| *start <= at);
        origins.0.insert(path, format!("{}:{line}", text.name));
    }
}
