//! What a TOML value is called, and what was meant by one of the wrong type.

use toml_edit::{Item, Value};

pub(crate) fn type_name(item: &Item) -> &'static str {
    match item {
        Item::Value(value) => value_type(value),
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
        Item::None => "nothing",
    }
}

pub(crate) const fn value_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a decimal number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}

/// What to write for a word or number that was meant as true or false.
pub(crate) fn truth(key: &str, item: &Item) -> String {
    let quotes = if item.is_str() { ", without quotes" } else { "" };
    let text = item.as_str().map(str::to_lowercase).or_else(|| item.as_integer().map(|number| number.to_string()));
    match text.as_deref() {
        Some("true" | "yes" | "on" | "1") => format!("write {key} = true{quotes}"),
        Some("false" | "no" | "off" | "0") => format!("write {key} = false{quotes}"),
        _ => format!("write {key} = true or {key} = false{quotes}"),
    }
}

/// The number that a text means: `0.8`, `80 %`, `3:1`.
pub(crate) fn ratio(text: &str) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(percent) = text.trim().strip_suffix('%') {
        return number(percent).map(|percent| percent / 100.0);
    }
    match text.split_once(':') {
        Some((over, under)) => Some(number(over)? / number(under)?),
        None => number(text),
    }
}

/// A value that only lacks its quotes to be a text.
pub(crate) fn bare(value: &Value) -> Option<String> {
    match value {
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(number) => Some(number.value().to_string()),
        Value::Boolean(flag) => Some(flag.value().to_string()),
        Value::Datetime(date) => Some(date.value().to_string()),
        Value::String(_) | Value::Array(_) | Value::InlineTable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_understood_as_people_write_them() {
        for (text, meant) in [("0.8", Some(0.8)), (" 80 %", Some(0.8)), ("3:1", Some(3.0)), ("4 y", None), ("", None)] {
            assert_eq!(ratio(text), meant, "{text}");
        }
    }

    #[test]
    fn no_is_never_answered_with_true() {
        let document = toml_edit::Document::parse("a = \"No\"\nb = 1\nc = \"maybe\"").unwrap();
        let said = |key| truth("key", document.get(key).unwrap());
        assert_eq!(said("a"), "write key = false, without quotes");
        assert_eq!(said("b"), "write key = true");
        assert_eq!(said("c"), "write key = true or key = false, without quotes");
    }
}
