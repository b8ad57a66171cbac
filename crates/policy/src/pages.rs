//! A list whose copies share what neither has changed: pages, each copied when it is first written to.
//!
//! So a copy of a hall with a million jobs is a copy of some thousands of pointers, and a reader that holds one sees a state that
//! never changes. Cost: a pointer more for each look, a counter that is asked before each change, a page for the first
//! change after a copy.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list in pages of `PAGE` items.
#[derive(Debug, Clone)]
pub struct Pages<T, const PAGE: usize = 64> {
    pages: Vec<Arc<[T]>>,
    /// Items; the last page may have more places.
    len: usize,
}

impl<T: PartialEq, const PAGE: usize> PartialEq for Pages<T, PAGE> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: Eq, const PAGE: usize> Eq for Pages<T, PAGE> {}

impl<T, const PAGE: usize> Default for Pages<T, PAGE> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<T, const PAGE: usize> Pages<T, PAGE> {
    /// How many items there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item at a place.
    pub fn get(&self, at: usize) -> Option<&T> {
        if at < self.len { self.pages.get(at / PAGE)?.get(at % PAGE) } else { None }
    }

    /// All items, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter()).take(self.len)
    }

    /// Gives up the first page if all its items come before place `from`: that many places fewer come before all others.
    pub fn skip_page(&mut self, from: usize) -> usize {
        if from < PAGE || self.len < PAGE {
            return from;
        }
        self.pages.remove(0);
        self.len -= PAGE;
        from - PAGE
    }

    /// Pages that this list and `other` share: those that neither changed since one was a copy of the other.
    pub fn shared_with(&self, other: &Self) -> usize {
        self.pages.iter().zip(&other.pages).filter(|(mine, theirs)| Arc::ptr_eq(mine, theirs)).count()
    }
}

impl<T: Clone, const PAGE: usize> Pages<T, PAGE> {
    /// The item at a place, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        if at < self.len { Arc::make_mut(self.pages.get_mut(at / PAGE)?).get_mut(at % PAGE) } else { None }
    }
}

impl<T: Copy, const PAGE: usize> Pages<T, PAGE> {
    /// Exchanges two items.
    pub fn swap(&mut self, one: usize, other: usize) {
        let (Some(first), Some(second)) = (self.get(one).copied(), self.get(other).copied()) else { return };
        for (at, item) in [(one, second), (other, first)] {
            if let Some(place) = self.get_mut(at) {
                *place = item;
            }
        }
    }

    /// Takes the last item away.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.get(self.len.checked_sub(1)?).copied();
        self.len -= 1;
        // One page is spare, so that a list whose end goes to and fro is not given memory each time.
        self.pages.truncate(self.len.div_ceil(PAGE) + 1);
        last
    }
}

impl<T: Clone + Default, const PAGE: usize> Pages<T, PAGE> {
    /// Adds an item at the end.
    pub fn push(&mut self, item: T) {
        if self.len == self.pages.len() * PAGE {
            self.pages.push((0..PAGE).map(|_| T::default()).collect());
        } else if let Some(last) = self.pages.last_mut().filter(|last| last.len() < PAGE) {
            let missing = PAGE - last.len();
            *last = last.iter().cloned().chain((0..missing).map(|_| T::default())).collect();
        }
        self.len += 1;
        if let Some(place) = self.get_mut(self.len - 1) {
            *place = item;
        }
    }
}

impl<T, const PAGE: usize> FromIterator<T> for Pages<T, PAGE> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        let mut list = Self::default();
        loop {
            let page: Arc<[T]> = items.by_ref().take(PAGE).collect();
            list.len += page.len();
            let last = page.len() < PAGE;
            if !page.is_empty() {
                list.pages.push(page);
            }
            if last {
                return list;
            }
        }
    }
}

impl<T: Serialize, const PAGE: usize> Serialize for Pages<T, PAGE> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de, T: Deserialize<'de>, const PAGE: usize> Deserialize<'de> for Pages<T, PAGE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<T>::deserialize(deserializer).map(Self::from_iter)
    }
}

/// Values that copies share for good, saved as they are: `#[serde(with = "pages::shared")]`.
pub mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Saves the value itself.
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    /// Reads the value into a place of its own.
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_a_vector_is() {
        let (mut list, mut plain) = (Pages::<u32>::default(), Vec::new());
        for number in 0..1000_u32 {
            list.push(number);
            plain.push(number);
            let at = number as usize * 7 % plain.len();
            *list.get_mut(at).unwrap() += 1;
            *plain.get_mut(at).unwrap() += 1;
        }
        assert!(list.iter().eq(&plain));
        list.swap(3, 900);
        plain.swap(3, 900);
        for _ in 0..100 {
            assert_eq!(list.pop(), plain.pop());
        }
        assert_eq!((list.skip_page(63), list.skip_page(70)), (63, 6));
        plain.drain(..64);
        assert!(list.iter().eq(&plain));
        for number in 0..164 {
            list.push(number);
            plain.push(number);
        }
        assert!(list.iter().eq(&plain));
        assert_eq!((list.len(), list.get(1000)), (1000, None));
        assert_eq!(list.get_mut(1000), None);
        for length in [0, 1, 63, 64, 65, 128] {
            let list: Pages<u32> = plain.iter().take(length).copied().collect();
            assert!(list.len() == length && list.iter().eq(plain.iter().take(length)));
            assert_eq!(list.get(length), None);
        }
    }

    #[test]
    fn a_copy_does_not_change_and_shares_what_was_not_written() {
        let mut list: Pages<u32> = (0..640).collect();
        let copy = list.clone();
        *list.get_mut(100).unwrap() = 7;
        assert_eq!((list.get(100), copy.get(100), list.shared_with(&copy)), (Some(&7), Some(&100), 9));
    }

    #[test]
    fn a_list_is_saved_as_a_list() {
        let list: Pages<u32> = (0..130).collect();
        let text = serde_json::to_string(&list).unwrap();
        let mut read: Pages<u32> = serde_json::from_str(&text).unwrap();
        assert!(text.starts_with("[0,1,2,") && read.iter().eq(list.iter()));
        read.push(130);
        assert!(read.iter().copied().eq(0..131));
    }
}
