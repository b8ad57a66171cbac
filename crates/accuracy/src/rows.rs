//! Reading a table of measurements into rows, with the words that say where it is not one.
//!
//! Invariant: a file is read whole or refused; the line and the column of the first bad cell are named.

use serde::de::DeserializeOwned;

use crate::Error;

/// The rows of `csv` as `T`, whose columns `needed` must be there.
pub(crate) fn read<T: DeserializeOwned>(csv: &str, needed: &[&'static str]) -> Result<Vec<T>, Error> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(csv.as_bytes());
    let head = reader.headers()?.clone();
    if let Some(missing) = needed.iter().copied().find(|name| !head.iter().any(|column| column == *name)) {
        return Err(Error::Column(missing));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        rows.push(record.deserialize(Some(&head)).map_err(|error| named(&error, &head, &record))?);
    }
    Ok(rows)
}

/// The error with the column's name and what stands in its cell.
fn named(error: &csv::Error, head: &csv::StringRecord, record: &csv::StringRecord) -> Error {
    let line = record.position().map_or(0, csv::Position::line);
    let bad = if let csv::ErrorKind::Deserialize { err, .. } = error.kind() {
        err.field().and_then(|field| {
            let place = usize::try_from(field).ok()?;
            Some(format!("column `{}` has `{}`: {}", head.get(place)?, record.get(place)?, err.kind()))
        })
    } else {
        None
    };
    Error::Row { line, why: bad.unwrap_or_else(|| error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Pair {
        id: String,
        value: f64,
    }

    fn says(csv: &str) -> String {
        read::<Pair>(csv, &["id", "value"]).unwrap_err().to_string()
    }

    #[test]
    fn the_line_and_the_column_of_a_bad_cell_are_named() {
        assert_eq!(says("id,value\na,1\nb,two\n"), "line 3: column `value` has `two`: invalid float literal");
        assert_eq!(says("id,value\na\n"), "line 2: it has 1 cells, and the head has 2");
        assert_eq!(says("id\na\n"), "the file has no column `value`");
        assert_eq!(says(""), "the file has no column `id`");
        assert_eq!(
            read::<Pair>("value,id,more\n1, a ,\n", &["id"]).unwrap(),
            [Pair { id: "a".to_owned(), value: 1.0 }]
        );
    }
}
