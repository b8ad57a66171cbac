//! A reader of one table of the file. It remembers which keys were asked for, so that unknown keys and the nearest known
//! one need no list of their own.
//!
//! Invariant: a value that is not what was asked for is reported once, here, and reads as absent; the caller goes on with
//! whatever else it needs, so that all problems of a file are found in one pass.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use dh_units::Quantity;
use toml_edit::{Item, TableLike, Value};

use crate::codes::Code;
use crate::names::{as_name, is_name, nearest, suggestion};
use crate::problem::{Problems, quoted};

/// Sections of one kind. References are looked up in turn, so that their number must have a bound; a pool or workload of
/// its own for each rack of the largest halls stays below it.
const GROUP_MAX: usize = 4_096;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Spot<T> {
    pub(crate) value: T,
    pub(crate) at: Range<usize>,
}

/// A table that is being read.
pub(crate) struct Section<'a> {
    /// Its name as written in its header: `workload.fashion`; empty for the whole file.
    path: String,
    /// What is pointed at when a key is missing.
    pub(crate) at: Range<usize>,
    table: &'a dyn TableLike,
    asked: RefCell<Vec<&'a str>>,
    pub(crate) problems: &'a Problems,
}

impl<'a> Section<'a> {
    pub(crate) fn new(path: String, at: Range<usize>, table: &'a dyn TableLike, problems: &'a Problems) -> Self {
        Self { path, at, table, asked: RefCell::default(), problems }
    }

    /// The value of `key`, noted as known.
    fn item(&self, key: &'a str) -> Option<(&'a Item, Range<usize>)> {
        self.asked.borrow_mut().push(key);
        let (name, item) = self.table.get_key_value(key)?;
        let at = item.as_value().and_then(Value::span).or_else(|| name.span()).unwrap_or_else(|| self.at.clone());
        Some((item, at))
    }

    /// Whether `key` is written at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|item| !item.is_none())
    }

    /// Where `key` itself is written.
    pub(crate) fn key_at(&self, key: &str) -> Range<usize> {
        self.table.key(key).and_then(toml_edit::Key::span).unwrap_or_else(|| self.at.clone())
    }

    /// Notes `keys` as known without reading them, where what they mean cannot be decided.
    pub(crate) fn know(&self, keys: &[&'a str]) {
        self.asked.borrow_mut().extend_from_slice(keys);
    }

    /// Reports `key` as missing if it is not written; what is written and wrong was reported already.
    pub(crate) fn need<T>(&self, key: &str, found: Option<T>) -> Option<T> {
        if found.is_none() && !self.has(key) {
            let place = if self.path.is_empty() { "the blueprint".to_owned() } else { format!("`[{}]`", self.path) };
            self.problems.missing(&self.at, place, key);
        }
        found
    }

    fn wrong_type(&self, key: &str, item: &Item, at: &Range<usize>, expected: &str, hint: Option<String>) {
        let message = format!("`{key}` is {}, expected {expected}", type_name(item));
        self.problems.add(Code::WRONG_TYPE, at, message, hint);
    }

    /// A text.
    pub(crate) fn text(&self, key: &'a str) -> Option<Spot<String>> {
        let (item, at) = self.item(key)?;
        let Some(text) = item.as_str() else {
            let hint = item.as_value().and_then(bare).map(|value| format!("put it in quotes: {key} = \"{value}\""));
            self.wrong_type(key, item, &at, "a text in quotes", hint);
            return None;
        };
        Some(Spot { value: text.to_owned(), at })
    }

    /// A kebab-case name.
    pub(crate) fn name(&self, key: &'a str) -> Option<Spot<String>> {
        let found = self.text(key)?;
        check_name(&found.value, &found.at, self.problems).then_some(found)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &'a str) -> Option<Spot<bool>> {
        let (item, at) = self.item(key)?;
        let Some(value) = item.as_bool() else {
            self.wrong_type(key, item, &at, "true or false", Some(format!("write {key} = true, without quotes")));
            return None;
        };
        Some(Spot { value, at })
    }

    /// A whole number within `bounds`.
    pub(crate) fn integer<T>(&self, key: &'a str, bounds: RangeInclusive<T>) -> Option<Spot<T>>
    where
        T: TryFrom<i64> + Into<i128> + Copy,
    {
        let (item, at) = self.item(key)?;
        let Some(number) = item.as_integer() else {
            let digits = item.as_str().and_then(|text| text.trim().parse::<i64>().ok());
            let hint = digits.map(|number| format!("write {key} = {number}, without quotes"));
            self.wrong_type(key, item, &at, "a whole number", hint);
            return None;
        };
        let (low, high): (i128, i128) = ((*bounds.start()).into(), (*bounds.end()).into());
        let value = T::try_from(number).ok().filter(|_| (low..=high).contains(&i128::from(number)));
        if value.is_none() {
            let message = format!("`{key}` is {number}, expected a whole number from {low} to {high}");
            self.problems.add(Code::OUT_OF_RANGE, &at, message, None);
        }
        value.map(|value| Spot { value, at })
    }

    /// A number for which `possible` holds; `bounds` says in words what is possible.
    pub(crate) fn real(&self, key: &'a str, bounds: &str, possible: impl Fn(f64) -> bool) -> Option<Spot<f64>> {
        let (item, at) = self.item(key)?;
        #[expect(clippy::cast_precision_loss, reason = "bounds of every real key are far below 2^53")]
        let number = item.as_float().or_else(|| item.as_integer().map(|number| number as f64));
        let Some(value) = number else {
            self.wrong_type(key, item, &at, "a number", None);
            return None;
        };
        if !possible(value) {
            let message = format!("`{key}` is {value}, expected {bounds}");
            self.problems.add(Code::OUT_OF_RANGE, &at, message, None);
            return None;
        }
        Some(Spot { value, at })
    }

    /// A quantity with its unit.
    pub(crate) fn quantity<Q: Quantity>(&self, key: &'a str) -> Option<Spot<Q>> {
        let (item, at) = self.item(key)?;
        let Some(text) = item.as_str() else {
            let hint = Some(format!("write it in quotes with its unit, for example {key} = \"{}\"", Q::example()));
            self.wrong_type(key, item, &at, &format!("{} with its unit", Q::called()), hint);
            return None;
        };
        match text.parse::<Q>() {
            Ok(value) => Some(Spot { value, at }),
            Err(error) => {
                self.problems.add(Code::BAD_QUANTITY, &at, format!("`{key}`: {error}"), Some(error.hint()));
                None
            }
        }
    }

    /// A quantity above zero.
    pub(crate) fn positive<Q: Quantity>(&self, key: &'a str, zero: Q) -> Option<Spot<Q>> {
        let found = self.quantity::<Q>(key)?;
        if found.value > zero {
            return Some(found);
        }
        let hint = Some("leave the key out for no bound".to_owned());
        self.problems.add(Code::OUT_OF_RANGE, &found.at, format!("`{key}` is zero, expected more"), hint);
        None
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, key: &'a str, words: &[(&str, T)]) -> Option<Spot<T>> {
        let found = self.text(key)?;
        let Some((_, value)) = words.iter().find(|(word, _)| *word == found.value) else {
            let known = words.iter().map(|(word, _)| *word);
            let list = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
            let hint = nearest(&found.value, known).map(|word| format!("did you mean \"{word}\"?"));
            let message = format!("`{key}` is {}, expected {list}", quoted(&found.value));
            self.problems.add(Code::UNKNOWN_WORD, &found.at, message, hint);
            return None;
        };
        Some(Spot { value: *value, at: found.at })
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &'a str) -> Option<Spot<Vec<String>>> {
        let (item, at) = self.item(key)?;
        let Some(array) = item.as_array() else {
            let hint = item.as_str().map(|_| format!("write a list: {key} = [\"program\", \"argument\"]"));
            self.wrong_type(key, item, &at, "a list of texts", hint);
            return None;
        };
        let mut texts = Vec::new();
        for value in array {
            let place = value.span().unwrap_or_else(|| at.clone());
            match value.as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.problems.add(
                    Code::WRONG_TYPE,
                    &place,
                    format!("an entry of `{key}` is {}, expected a text in quotes", value_type(value)),
                    bare(value).map(|value| format!("put it in quotes: \"{value}\"")),
                ),
            }
        }
        (texts.len() == array.len()).then_some(Spot { value: texts, at })
    }

    /// A table of texts, in the order of its keys.
    pub(crate) fn text_table(&self, key: &'a str) -> Option<Vec<(Spot<String>, String)>> {
        let section = self.table(key)?;
        let keys: Vec<&'a str> = section.table.iter().map(|(key, _)| key).collect();
        let found = keys.into_iter().filter_map(|key| {
            let name = Spot { value: key.to_owned(), at: section.key_at(key) };
            section.text(key).map(|text| (name, text.value))
        });
        Some(found.collect())
    }

    /// A table inside this one.
    pub(crate) fn table(&self, key: &'a str) -> Option<Self> {
        let (item, at) = self.item(key)?;
        self.inside(key, item, &at, None)
    }

    fn inside(&self, key: &str, item: &'a Item, at: &Range<usize>, hint: Option<String>) -> Option<Self> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let Some(table) = item.as_table_like() else {
            self.wrong_type(&path, item, at, "a table", hint);
            return None;
        };
        Some(Self::new(path, self.key_at(key), table, self.problems))
    }

    /// Every `[key.NAME]`, in the order of the file.
    pub(crate) fn group(&self, key: &'a str) -> Vec<(String, Self)> {
        let Some((item, at)) = self.item(key) else { return vec![] };
        let example = || Some(format!("write `[{key}.NAME]`, for example `[{key}.main]`"));
        let Some(all) = self.inside(key, item, &at, example()) else { return vec![] };
        if all.table.len() > GROUP_MAX {
            let message = format!("there are {} sections `{key}`, at most {GROUP_MAX} are possible", all.table.len());
            self.problems.add(Code::OUT_OF_RANGE, &at, message, None);
            return vec![];
        }
        let mut found = Vec::new();
        for (name, item) in all.table.iter() {
            let at = all.key_at(name);
            let good = check_name(name, &at, self.problems);
            if let Some(section) = all.inside(name, item, &at, example())
                && good
            {
                found.push((name.to_owned(), section));
            }
        }
        found
    }

    /// The names of every `[key.NAME]`, right or wrong inside.
    pub(crate) fn names(&self, key: &str) -> Vec<String> {
        let group = self.table.get(key).and_then(Item::as_table_like);
        group.map_or_else(Vec::new, |group| group.iter().take(GROUP_MAX).map(|(name, _)| name.to_owned()).collect())
    }

    /// Reports `keys` that are written although they belong to another kind of section.
    pub(crate) fn refuse(&self, keys: &[&'a str], why: &str) {
        for key in keys.iter().filter(|key| self.has(key)) {
            self.problems.add(Code::ELSEWHERE, &self.key_at(key), format!("`{key}` {why}"), None);
        }
        self.know(keys);
    }

    /// Every key that was not asked for, with its value and place.
    pub(crate) fn unknown(&self) -> Vec<(&'a str, &'a Item, Range<usize>)> {
        let asked = self.asked.borrow();
        let unknown = self.table.iter().filter(|(key, _)| !asked.contains(key));
        unknown.map(|(key, item)| (key, item, self.key_at(key))).collect()
    }

    /// Reports every key that was not asked for. The last thing to do with a section.
    pub(crate) fn finish(&self) {
        for (key, _, at) in self.unknown() {
            let asked = self.asked.borrow();
            let hint = suggestion(key, asked.iter().copied(), "key");
            self.problems.add(Code::UNKNOWN_KEY, &at, format!("unknown key {}", quoted(key)), Some(hint));
        }
    }
}

/// Reports `name` if it is not kebab-case.
fn check_name(name: &str, at: &Range<usize>, problems: &Problems) -> bool {
    if is_name(name) {
        return true;
    }
    let hint = match as_name(name) {
        Some(better) => format!("write `{better}`"),
        None => "lower case letters, digits and hyphens, starting with a letter".to_owned(),
    };
    problems.add(Code::BAD_NAME, at, format!("{} is not a name", quoted(name)), Some(hint));
    false
}

fn type_name(item: &Item) -> &'static str {
    match item {
        Item::Value(value) => value_type(value),
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
        Item::None => "nothing",
    }
}

const fn value_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}

/// A value that only lacks its quotes to be a text.
fn bare(value: &Value) -> Option<String> {
    match value {
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(number) => Some(number.value().to_string()),
        Value::Boolean(flag) => Some(flag.value().to_string()),
        Value::String(_) | Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => None,
    }
}
