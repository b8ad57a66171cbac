//! Rows for spreadsheets, from whatever a command prints for programs: the one list of objects in it.

use serde_json::Value;

use crate::failure::{Failure, OrFail};

/// A head and rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Columns that stand at the left wherever they occur.
const FIRST: [&str; 8] = ["id", "name", "title", "kind", "path", "value", "unit", "text"];

/// The rows in `value`: itself if it is a list of objects, else the only field that is one. `None` if there is none, or
/// more than one: then it is not clear which is meant.
pub(crate) fn of(value: &Value) -> Option<Rows> {
    let list = match value {
        Value::Array(list) => list,
        Value::Object(fields) => {
            let is_rows = |value: &&Value| {
                value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_object))
            };
            let mut lists = fields.values().filter(is_rows);
            let first = lists.next()?;
            if lists.next().is_some() {
                return None;
            }
            first.as_array()?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    let flat: Vec<Vec<(String, String)>> = list.iter().map(flat).collect();
    // What people look for comes first; JSON objects have no order of their own.
    let known = FIRST.iter().filter(|name| flat.iter().flatten().any(|(field, _)| field == *name));
    let mut head: Vec<String> = known.map(|name| (*name).to_owned()).collect();
    for (name, _) in flat.iter().flatten() {
        if !head.contains(name) {
            head.push(name.clone());
        }
    }
    let cell = |row: &[(String, String)], name: &String| {
        row.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let rows = flat.iter().map(|row| head.iter().map(|name| cell(row, name)).collect()).collect();
    Some(Rows { head, rows })
}

/// The fields of an object, those of objects inside it under dotted names.
fn flat(value: &Value) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    collect(value, "", &mut fields);
    fields
}

fn collect(value: &Value, name: &str, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                collect(value, &name, fields);
            }
        }
        Value::Array(list) => {
            let words: Vec<String> = list.iter().map(plain).collect();
            fields.push((name.to_owned(), words.join(" ")));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            fields.push((name.to_owned(), plain(value)));
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The rows as CSV (RFC 4180, but with single line feeds), the head first.
pub(crate) fn csv(rows: &Rows) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&rows.head).or_fail("write CSV")?;
    for row in &rows.rows {
        writer.write_record(row).or_fail("write CSV")?;
    }
    let bytes = writer.into_inner().or_fail("write CSV")?;
    String::from_utf8(bytes).or_fail("write CSV")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_only_list_of_objects_becomes_rows() {
        let rows = of(
            &json!({ "schema_version": 1, "jobs": [{ "id": 1, "at": { "x": "a,b" } }, { "id": 2, "tags": ["x", "y"] }] }),
        );
        let text = rows.and_then(|rows| csv(&rows).ok());
        assert_eq!(text.as_deref(), Some("id,at.x,tags\n1,\"a,b\",\n2,,x y\n"));
        assert_eq!(of(&json!({ "a": [{}], "b": [{}] })), None);
        assert_eq!(of(&json!({ "a": 1 })), None);
        assert_eq!(of(&json!("text")), None);
    }
}
