//! What is said when a text is not TOML: the parser's words where they help, and what to write instead.
//!
//! Invariant: a message of the parser that is not known here is passed on as it is, with a hint that fits most mistakes.

use toml_edit::TomlError;

use crate::codes::Code;
use crate::problem::{Problems, quoted};

/// The start of the parser's message, what we say instead (nothing: the same), and the hint.
const KNOWN: [(&str, Option<&str>, &str); 10] = [
    ("integer number overflowed", Some("the number is too large"), "whole numbers go up to 9223372036854775807"),
    ("unexpected leading zero", Some("a number starts with zero"), "leave the zero out"),
    ("key with no value", None, "write KEY = VALUE"),
    ("unexpected key or value", None, "one KEY = VALUE on each line"),
    ("invalid unquoted key", None, "keys are letters a to z, digits, `-` and `_`; others stand in quotes"),
    ("invalid basic string", Some("a text has no end"), "a text ends on its line, with a quote: name = \"lab\""),
    ("unclosed table", None, "sections stand in brackets: [pool.local]"),
    ("recursion limit", Some("tables or lists are nested too deep"), "a blueprint needs four levels"),
    (
        "cannot extend value of type inline table",
        Some("a table in braces was complete where it was written"),
        "write all of it in the braces, or all of it in sections: [pool.local]",
    ),
    ("cannot extend value", Some("what has a value has no keys below it"), "rename one of the two, or delete one"),
];

const USUAL: &str = "texts stand in quotes: name = \"lab\"; sections in brackets: [pool.local]";

/// Reports the first mistake of `text`, which starts at `offset` among all texts.
pub(super) fn report(error: &TomlError, text: &str, offset: usize, problems: &Problems) {
    let own = error.span().unwrap_or(text.len()..text.len());
    let at = own.start + offset..own.end + offset;
    let written = text.get(own).unwrap_or_default();
    let message = error.message().trim();
    if message.starts_with("duplicate key") {
        let hint = Some("rename one of the two, or delete one".to_owned());
        problems.add(Code::DUPLICATE, &at, format!("{} was written before", quoted(written)), hint);
        return;
    }
    let (message, hint) = if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
        ("it starts like JSON", "a blueprint has no braces around it: schema = 1, then sections: [pool.local]")
    } else if message.starts_with("string values must be quoted") && written.trim().is_empty() {
        ("there is no value", "for example name = \"lab\"")
    } else {
        let known = KNOWN.iter().find(|(start, ..)| message.starts_with(start));
        known.map_or((message, USUAL), |(_, ours, hint)| (ours.unwrap_or(message), *hint))
    };
    problems.add(Code::SYNTAX, &at, format!("this is not TOML: {message}"), Some(hint.to_owned()));
}
