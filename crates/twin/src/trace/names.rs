//! Names told apart by number: each is kept once, a job keeps two bytes.
//!
//! Invariant: numbers follow the order of first appearance. Cost: the same name as last time is one comparison, another
//! one lookup in a tree.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use super::error::Fault;

/// Different names of one kind, at most.
const NAMES_MAX: usize = 65_535;

/// A name of one table; `Option<Name>` takes two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(NonZeroU16);

impl Name {
    /// The place in the table.
    pub fn index(self) -> u16 {
        self.0.get() - 1
    }

    /// The name at place `index`; `None` for the last place of 16 bits, which no table reaches.
    pub fn at(index: u16) -> Option<Self> {
        index.checked_add(1).and_then(NonZeroU16::new).map(Self)
    }
}

/// The names of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    list: Vec<String>,
    places: BTreeMap<String, Name>,
    last: Option<Name>,
}

impl Names {
    /// The place of `name`, which is added if it is new.
    pub(crate) fn of(&mut self, name: &str) -> Result<Name, Fault> {
        if let Some(last) = self.last
            && self.get(last) == Some(name)
        {
            return Ok(last);
        }
        let known = self.places.get(name).copied();
        let found = match known {
            Some(found) => found,
            None => self.add(name)?,
        };
        self.last = Some(found);
        Ok(found)
    }

    fn add(&mut self, name: &str) -> Result<Name, Fault> {
        let next = u16::try_from(self.list.len()).ok().and_then(Name::at).ok_or(Fault::Names(NAMES_MAX))?;
        self.list.push(name.to_owned());
        self.places.insert(name.to_owned(), next);
        Ok(next)
    }

    /// The place of `name`, if it is known.
    pub fn find(&self, name: &str) -> Option<Name> {
        self.places.get(name).copied()
    }

    /// The text of a name.
    pub fn get(&self, name: Name) -> Option<&str> {
        self.list.get(usize::from(name.index())).map(String::as_str)
    }

    /// All names by place.
    pub fn list(&self) -> &[String] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_more_than_sixteen_bits_are_refused() {
        let mut names = Names::default();
        for n in 0..NAMES_MAX {
            assert_eq!(names.of(&n.to_string()).map(|name| usize::from(name.index())), Ok(n));
        }
        assert_eq!(names.of("7").map(Name::index), Ok(7));
        assert_eq!(names.of("one more"), Err(Fault::Names(NAMES_MAX)));
        assert_eq!(names.list().len(), NAMES_MAX);
        assert_eq!(size_of::<Option<Name>>(), 2);
    }
}
