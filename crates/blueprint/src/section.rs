//! A reader of one table of the file. It remembers which keys were asked for, so that unknown keys and the nearest known
//! one need no list of their own.
//!
//! A blueprint may lie over a base: then the table has a layer for each file, and a key is taken from the first that has it.
//!
//! Invariant: a value that is not what was asked for is reported once, here, and reads as absent; the caller goes on with
//! whatever else it needs, so that all problems of a file are found in one pass.

use std::cell::{Cell, RefCell};
use std::ops::{Range, RangeInclusive};

use dh_units::Quantity;
use toml_edit::{Item, TableLike, Value};

use crate::codes::Code;
use crate::names::{as_name, either, is_name, nearest, suggestion};
use crate::observe::Shape;
use crate::problem::{Problems, quoted};
use crate::value::{bare, ratio, truth, type_name, value_type};

/// Sections of one kind. References are looked up in turn, so that their number must have a bound; a pool or workload of
/// its own for each rack of the largest halls stays below it.
const GROUP_MAX: usize = 4_096;

/// Entries of a list of tables, such as the rules of a zone.
const LIST_MAX: usize = 1_024;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Spot<T> {
    pub(crate) value: T,
    pub(crate) at: Range<usize>,
}

/// The table as one of the files has it, and where that file starts among all texts.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) table: &'a dyn TableLike,
    pub(crate) offset: usize,
}

impl<'a> Layer<'a> {
    fn shifted(self, at: &Range<usize>) -> Range<usize> {
        at.start + self.offset..at.end + self.offset
    }

    /// Where `key` itself is written.
    fn key_at(self, key: &str) -> Option<Range<usize>> {
        self.table.key(key).and_then(toml_edit::Key::span).map(|at| self.shifted(&at))
    }

    fn get(self, key: &str) -> Option<&'a Item> {
        self.table.get(key).filter(|item| !item.is_none())
    }
}

/// A table that is being read.
pub(crate) struct Section<'a> {
    /// Its name as written in its header: `workload.fashion`; empty for the whole file.
    pub(crate) path: String,
    /// The same with `*` for names that are free: `workload.*`.
    pattern: String,
    /// Behind `#` in the pattern of keys that only one kind of this section has.
    variant: Cell<&'static str>,
    /// What is pointed at when a key is missing.
    pub(crate) at: Range<usize>,
    layers: Vec<Layer<'a>>,
    asked: RefCell<Vec<&'a str>>,
    pub(crate) problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// A section of a single text.
    pub(crate) fn new(path: String, at: Range<usize>, table: &'a dyn TableLike, problems: &'a Problems) -> Self {
        Self::layered(path.clone(), path, at, vec![Layer { table, offset: 0 }], problems)
    }

    /// A section with a layer for each file that has it, the most important first.
    pub(crate) fn layered(
        path: String,
        pattern: String,
        at: Range<usize>,
        layers: Vec<Layer<'a>>,
        problems: &'a Problems,
    ) -> Self {
        Self { path, pattern, variant: Cell::new(""), at, layers, asked: RefCell::default(), problems }
    }

    /// From here on, keys belong to `kind` of this section only.
    pub(crate) fn variant(&self, kind: &'static str) {
        self.variant.set(kind);
    }

    /// Notes that `key` is known, and what may stand there.
    fn note(&self, key: &'a str, shape: impl FnOnce() -> Shape) {
        self.know(&[key]);
        if let Some(observer) = &self.problems.observer {
            observer.asked(&self.pattern_now(), key, shape());
        }
    }

    fn pattern_now(&self) -> String {
        match self.variant.get() {
            "" => self.pattern.clone(),
            kind => format!("{}#{kind}", self.pattern),
        }
    }

    /// The value of `key` and where it is.
    fn item(&self, key: &str) -> Option<(&'a Item, Range<usize>)> {
        let (layer, item) = self.layers.iter().find_map(|layer| layer.get(key).map(|item| (*layer, item)))?;
        let at = item.as_value().and_then(Value::span).map(|at| layer.shifted(&at));
        Some((item, at.or_else(|| layer.key_at(key)).unwrap_or_else(|| self.at.clone())))
    }

    /// Where the value of `key` is written.
    pub(crate) fn value_at(&self, key: &str) -> Range<usize> {
        self.item(key).map_or_else(|| self.at.clone(), |(_, at)| at)
    }

    /// Whether `key` is written at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.layers.iter().any(|layer| layer.get(key).is_some())
    }

    /// Whether `key` is written in a base and not in the file itself, which cannot take it away.
    pub(crate) fn inherits(&self, key: &str) -> bool {
        self.layers.iter().find(|layer| layer.get(key).is_some()).is_some_and(|layer| layer.offset > 0)
    }

    /// Where `key` itself is written.
    pub(crate) fn key_at(&self, key: &str) -> Range<usize> {
        self.layers.iter().find_map(|layer| layer.key_at(key)).unwrap_or_else(|| self.at.clone())
    }

    /// Where `name` is written in the group `key`.
    pub(crate) fn name_at(&self, key: &str, name: &str) -> Range<usize> {
        let inside = |layer: &Layer<'a>| {
            let table = layer.get(key)?.as_table_like()?;
            Layer { table, offset: layer.offset }.key_at(name)
        };
        self.layers.iter().find_map(inside).unwrap_or_else(|| self.at.clone())
    }

    /// Notes `keys` as known without reading them, where what they mean cannot be decided.
    pub(crate) fn know(&self, keys: &[&'a str]) {
        let mut asked = self.asked.borrow_mut();
        for key in keys {
            if !asked.contains(key) {
                asked.push(key);
            }
        }
    }

    /// Reports `key` as missing if it is not written; what is written and wrong was reported already.
    pub(crate) fn need<T>(&self, key: &str, found: Option<T>) -> Option<T> {
        if let Some(observer) = &self.problems.observer {
            observer.required(&self.pattern_now(), key);
        }
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
        self.note(key, || Shape::Text);
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
        let found = self.text(key);
        self.note(key, || Shape::Name);
        found.filter(|found| check_name(&found.value, &found.at, self.problems))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &'a str) -> Option<Spot<bool>> {
        self.note(key, || Shape::Boolean);
        let (item, at) = self.item(key)?;
        let Some(value) = item.as_bool() else {
            self.wrong_type(key, item, &at, "true or false", Some(truth(key, item)));
            return None;
        };
        Some(Spot { value, at })
    }

    /// A whole number within `bounds`.
    pub(crate) fn integer<T>(&self, key: &'a str, bounds: RangeInclusive<T>) -> Option<Spot<T>>
    where
        T: TryFrom<i64> + Into<i128> + Copy,
    {
        let (low, high): (i128, i128) = ((*bounds.start()).into(), (*bounds.end()).into());
        self.note(key, || Shape::Integer { low, high });
        let (item, at) = self.item(key)?;
        let Some(number) = item.as_integer() else {
            let digits = item.as_str().and_then(|text| text.trim().parse::<i64>().ok());
            let hint = digits.map(|number| format!("write {key} = {number}, without quotes"));
            let whole = item.as_float().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
            let hint = hint.or_else(|| whole.map(|number| format!("write {key} = {number}")));
            self.wrong_type(key, item, &at, "a whole number", hint);
            return None;
        };
        let value = T::try_from(number).ok().filter(|_| (low..=high).contains(&i128::from(number)));
        if value.is_none() {
            let message = format!("`{key}` is {number}, expected a whole number from {low} to {high}");
            self.problems.add(Code::OUT_OF_RANGE, &at, message, None);
        }
        value.map(|value| Spot { value, at })
    }

    /// A list of `COUNT` whole numbers within `bounds`.
    pub(crate) fn integers<const COUNT: usize>(
        &self,
        key: &'a str,
        bounds: RangeInclusive<u32>,
    ) -> Option<Spot<[u32; COUNT]>> {
        self.note(key, || Shape::Integers { count: COUNT, low: *bounds.start(), high: *bounds.end() });
        let (item, at) = self.item(key)?;
        let expected = format!("a list of {COUNT} whole numbers from {} to {}", bounds.start(), bounds.end());
        let Some(array) = item.as_array() else {
            self.wrong_type(key, item, &at, &expected, None);
            return None;
        };
        let numbers: Option<Vec<u32>> = array
            .iter()
            .map(|value| value.as_integer().and_then(|n| u32::try_from(n).ok()).filter(|n| bounds.contains(n)))
            .collect();
        let Some(value) = numbers.and_then(|numbers| <[u32; COUNT]>::try_from(numbers).ok()) else {
            self.problems.add(Code::OUT_OF_RANGE, &at, format!("`{key}` is not {expected}"), None);
            return None;
        };
        Some(Spot { value, at })
    }

    /// A number for which `possible` holds; `bounds` says in words what is possible.
    pub(crate) fn real(&self, key: &'a str, bounds: &str, possible: impl Fn(f64) -> bool) -> Option<Spot<f64>> {
        self.note(key, || Shape::Real { bounds: bounds.to_owned() });
        let (item, at) = self.item(key)?;
        #[expect(clippy::cast_precision_loss, reason = "bounds of every real key are far below 2^53")]
        let number = item.as_float().or_else(|| item.as_integer().map(|number| number as f64));
        let Some(value) = number else {
            let meant = item.as_str().and_then(ratio).filter(|number| possible(*number));
            let hint = meant.map(|number| format!("write {key} = {number}, without quotes"));
            self.wrong_type(key, item, &at, "a number", hint);
            return None;
        };
        if !possible(value) {
            let shown = if value.is_finite() && value.abs() >= 1e16 { format!("{value:e}") } else { value.to_string() };
            let message = format!("`{key}` is {shown}, expected {bounds}");
            // Ratios are often written as percentages.
            let is_ratio = bounds.starts_with("a ratio") || bounds.starts_with("a share");
            let percent = (is_ratio && value > 1.0).then_some(value / 100.0).filter(|share| possible(*share));
            let hint = percent.map(|share| format!("{value} % is written as {key} = {share}"));
            self.problems.add(Code::OUT_OF_RANGE, &at, message, hint);
            return None;
        }
        Some(Spot { value, at })
    }

    /// A quantity with its unit.
    pub(crate) fn quantity<Q: Quantity>(&self, key: &'a str) -> Option<Spot<Q>> {
        self.note(key, || Shape::Quantity(Q::dimension()));
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
        self.above_zero(key, zero, None)
    }

    /// A quantity above zero that bounds something; where it is left out there is no bound.
    pub(crate) fn bound<Q: Quantity>(&self, key: &'a str, zero: Q) -> Option<Spot<Q>> {
        self.above_zero(key, zero, Some("leave the key out for no bound".to_owned()))
    }

    fn above_zero<Q: Quantity>(&self, key: &'a str, zero: Q, hint: Option<String>) -> Option<Spot<Q>> {
        let found = self.quantity::<Q>(key)?;
        if found.value > zero {
            return Some(found);
        }
        self.problems.add(Code::OUT_OF_RANGE, &found.at, format!("`{key}` is zero, expected more"), hint);
        None
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, key: &'a str, words: &[(&str, T)]) -> Option<Spot<T>> {
        let found = self.text(key);
        self.note(key, || Shape::Word(words.iter().map(|(word, _)| (*word).to_owned()).collect()));
        let found = found?;
        let Some((_, value)) = words.iter().find(|(word, _)| *word == found.value) else {
            let known = words.iter().map(|(word, _)| *word);
            let list = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>();
            let list = either(&list);
            let hint = nearest(&found.value, known).map(|word| format!("did you mean \"{word}\"?"));
            let message = format!("`{key}` is {}, expected {list}", quoted(&found.value));
            self.problems.add(Code::UNKNOWN_WORD, &found.at, message, hint);
            return None;
        };
        Some(Spot { value: *value, at: found.at })
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &'a str) -> Option<Spot<Vec<String>>> {
        let found = self.spots(key)?;
        Some(Spot { value: found.value.into_iter().map(|spot| spot.value).collect(), at: found.at })
    }

    /// A list of texts, each with its place.
    pub(crate) fn spots(&self, key: &'a str) -> Option<Spot<Vec<Spot<String>>>> {
        self.note(key, || Shape::Texts);
        let (item, at) = self.item(key)?;
        let Some(array) = item.as_array() else {
            let hint = item.as_str().map(|text| match key {
                "command" => format!("write a list: {key} = [\"program\", \"argument\"]"),
                _ => format!("write a list: {key} = [\"{}\"]", crate::problem::plain(text)),
            });
            self.wrong_type(key, item, &at, "a list of texts", hint);
            return None;
        };
        // An entry's place counts from the start of its own file, like that of the list.
        let offset = item.as_value().and_then(Value::span).map_or(0, |own| at.start - own.start);
        let mut texts = Vec::new();
        for value in array {
            let place = value.span().map_or_else(|| at.clone(), |own| own.start + offset..own.end + offset);
            match value.as_str() {
                Some(text) => texts.push(Spot { value: text.to_owned(), at: place }),
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
        self.note(key, || Shape::TextTable);
        let section = self.inside_of(key, None)?;
        let found = section.keys().into_iter().filter_map(|key| {
            let name = Spot { value: key.to_owned(), at: section.key_at(key) };
            section.plain_text(key).map(|text| (name, text))
        });
        Some(found.collect())
    }

    /// A table of finite numbers whose keys are free, by key.
    pub(crate) fn number_table(&self, key: &'a str) -> Option<std::collections::BTreeMap<String, f64>> {
        self.note(key, || Shape::NumberTable);
        let section = self.inside_of(key, None)?;
        let mut numbers = std::collections::BTreeMap::new();
        for key in section.keys() {
            let Some((item, at)) = section.item(key) else { continue };
            #[expect(clippy::cast_precision_loss, reason = "a whole number stands for the real one nearest to it")]
            let number = item.as_float().or_else(|| item.as_integer().map(|number| number as f64));
            match number.filter(|number| number.is_finite()) {
                Some(number) => {
                    numbers.insert(key.to_owned(), number);
                }
                None => section.wrong_type(key, item, &at, "a number", None),
            }
        }
        Some(numbers)
    }

    /// The text behind a key that is not one of the schema's.
    fn plain_text(&self, key: &str) -> Option<String> {
        let (item, at) = self.item(key)?;
        if item.as_str().is_none() {
            let hint = item.as_value().and_then(bare).map(|value| format!("put it in quotes: {key} = \"{value}\""));
            self.wrong_type(key, item, &at, "a text in quotes", hint);
        }
        item.as_str().map(str::to_owned)
    }

    /// Keys of all layers, each once, the lowest base's first: as they would stand if the texts were one.
    fn keys(&self) -> Vec<&'a str> {
        let mut keys: Vec<&'a str> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for layer in self.layers.iter().rev() {
            keys.extend(layer.table.iter().map(|(key, _)| key).filter(|key| seen.insert(*key)));
        }
        keys
    }

    /// A table inside this one.
    pub(crate) fn table(&self, key: &'a str) -> Option<Self> {
        self.note(key, || Shape::Table);
        let path = self.below(key);
        self.inside_of(key, Some(format!("write a section `[{path}]`")))
    }

    /// The path of `key`.
    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn inside_of(&self, key: &'a str, hint: Option<String>) -> Option<Self> {
        self.inside(key, key, hint)
    }

    /// The table behind `key`, which the pattern calls `called`; with a layer for every file that has it.
    fn inside(&self, key: &str, called: &str, hint: Option<String>) -> Option<Self> {
        let path = self.below(key);
        let mut layers = Vec::new();
        for layer in &self.layers {
            let Some(item) = layer.get(key) else { continue };
            let Some(table) = item.as_table_like() else {
                let at = item.as_value().and_then(Value::span).map(|at| layer.shifted(&at));
                let at = at.or_else(|| layer.key_at(key)).unwrap_or_else(|| self.at.clone());
                self.wrong_type(&path, item, &at, "a table", hint);
                return None;
            };
            layers.push(Layer { table, offset: layer.offset });
        }
        if layers.is_empty() {
            return None;
        }
        let pattern = if self.pattern.is_empty() { called.to_owned() } else { format!("{}.{called}", self.pattern) };
        Some(Self::layered(path, pattern, self.key_at(key), layers, self.problems))
    }

    /// Every `[key.NAME]`, in the order of the file.
    pub(crate) fn group(&self, key: &'a str) -> Vec<(String, Self)> {
        self.note(key, || Shape::Group);
        let path = self.below(key);
        let example = || Some(format!("write `[{path}.NAME]`, for example `[{path}.main]`"));
        let Some(all) = self.inside(key, key, example()) else { return vec![] };
        let names = all.keys();
        if names.len() > GROUP_MAX {
            let message = format!("there are {} sections `{key}`, at most {GROUP_MAX} are possible", names.len());
            self.problems.add(Code::OUT_OF_RANGE, &all.at, message, None);
            return vec![];
        }
        let mut found = Vec::new();
        for name in names {
            let good = check_name(name, &all.key_at(name), self.problems);
            if let Some(section) = all.inside(name, "*", example())
                && good
            {
                found.push((name.to_owned(), section));
            }
        }
        found
    }

    /// Every table of a list: `key = [{ .. }, { .. }]` or `[[key]]`. A list is taken whole from the first file that has it.
    pub(crate) fn list(&self, key: &'a str) -> Vec<Self> {
        self.note(key, || Shape::List);
        let Some(layer) = self.layers.iter().find(|layer| layer.get(key).is_some()).copied() else { return vec![] };
        let Some((item, at)) = self.item(key) else { return vec![] };
        let path = self.below(key);
        let pattern = if self.pattern.is_empty() { key.to_owned() } else { format!("{}.{key}", self.pattern) };
        let mut tables: Vec<(&'a dyn TableLike, Range<usize>)> = Vec::new();
        match item {
            Item::ArrayOfTables(array) => {
                for table in array {
                    tables.push((table, table.span().map_or_else(|| at.clone(), |own| layer.shifted(&own))));
                }
            }
            Item::Value(Value::Array(array)) => {
                for value in array {
                    let place = value.span().map_or_else(|| at.clone(), |own| layer.shifted(&own));
                    if let Some(table) = value.as_inline_table() {
                        tables.push((table, place));
                    } else {
                        let message = format!("an entry of `{key}` is {}, expected a table", value_type(value));
                        self.problems.add(Code::WRONG_TYPE, &place, message, None);
                    }
                }
            }
            Item::None | Item::Value(_) | Item::Table(_) => {
                let hint = Some(format!("write {key} = [{{ .. }}, {{ .. }}]"));
                self.wrong_type(key, item, &at, "a list of tables", hint);
            }
        }
        if tables.len() > LIST_MAX {
            let message = format!("`{key}` has {} entries, at most {LIST_MAX} are possible", tables.len());
            self.problems.add(Code::OUT_OF_RANGE, &at, message, None);
            tables.truncate(LIST_MAX);
        }
        let section = |(table, at)| {
            let layers = vec![Layer { table, offset: layer.offset }];
            Self::layered(path.clone(), pattern.clone(), at, layers, self.problems)
        };
        tables.into_iter().map(section).collect()
    }

    /// The names of every `[key.NAME]`, right or wrong inside.
    pub(crate) fn names(&self, key: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for layer in self.layers.iter().rev() {
            // Another file may have them.
            let Some(group) = layer.get(key).and_then(Item::as_table_like) else { continue };
            let seen: std::collections::BTreeSet<String> = names.iter().cloned().collect();
            let new = group.iter().map(|(name, _)| name.to_owned()).filter(|name| !seen.contains(name));
            names.extend(new.take(GROUP_MAX));
        }
        names.truncate(GROUP_MAX);
        names
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
        let mut unknown = Vec::new();
        for layer in &self.layers {
            let new = layer.table.iter().filter(|(key, _)| !asked.contains(key));
            unknown.extend(new.map(|(key, item)| (key, item, layer.key_at(key).unwrap_or_else(|| self.at.clone()))));
        }
        unknown
    }

    /// Reports every key that was not asked for. The last thing to do with a section.
    pub(crate) fn finish(&self) {
        for (key, item, at) in self.unknown() {
            let asked = self.asked.borrow();
            let nameless = !self.path.is_empty() && !self.path.contains('.') && item.is_table_like();
            let all = || asked.iter().copied();
            // A key that is written already is less likely to have been meant.
            let hint = match nearest(key, all().filter(|known| !self.has(known))).or_else(|| nearest(key, all())) {
                Some(known) => format!("did you mean `{known}`?"),
                None if nameless => format!("keys stand below `[{}]` itself, which has no name", self.path),
                None => suggestion(key, all(), "key"),
            };
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
