//! Slices of an accelerator: hardware parts that lie at fixed places of its memory (MIG).
//!
//! An accelerator has eight slots of memory; a slice takes neighbouring ones from one of the places that its profile allows.
//! Invariant: slices of one accelerator never share a slot. Source: NVIDIA's Multi-Instance GPU guide (places of profiles;
//! an instance is refused if its memory slices overlap another's).

use serde::{Deserialize, Serialize};

/// Slots of an accelerator.
pub const SLOTS: u8 = 8;

/// A profile of slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slice {
    /// Slots that it takes, 1 to 8.
    pub size: u8,
    /// The slots from which it may begin, a bit each.
    pub starts: u8,
}

impl Slice {
    /// The slots that it takes in each of its places, ascending.
    pub fn places(self) -> impl Iterator<Item = u8> {
        let starts = (0..SLOTS).filter(move |start| self.starts >> start & 1 == 1 && start + self.size <= SLOTS);
        starts.filter(move |_| self.size > 0).map(move |start| span(start, self.size))
    }

    /// The place beside `busy` slots that breaks least: what is lost of larger places, and the slots. Of equal ones the last,
    /// because the largest slices begin at the first slot.
    pub fn best(self, busy: u8) -> Option<(u32, u8)> {
        let free = self.places().filter(|place| place & busy == 0);
        free.map(|place| (worth(busy) - worth(busy | place), place))
            .min_by_key(|(loss, place)| (*loss, std::cmp::Reverse(*place)))
    }

    /// Slices that fit beside `busy` slots. Places of one profile overlap only with their neighbours, so the first that is
    /// free is always right.
    pub fn most(self, busy: u8) -> u32 {
        let mut busy = busy;
        let mut count = 0;
        for place in self.places() {
            if place & busy == 0 {
                busy |= place;
                count += 1;
            }
        }
        count
    }
}

fn span(start: u8, size: u8) -> u8 {
    (0..size).fold(0, |slots, at| slots | 1 << (start + at))
}

/// Slots in larger places that are free: the whole, its halves, its pairs.
fn worth(busy: u8) -> u32 {
    let free = |size: u8| (0..SLOTS / size).filter(|at| span(at * size, size) & busy == 0).count();
    [8, 4, 2].into_iter().map(|size| u32::from(size) * u32::try_from(free(size)).unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_slice_goes_where_it_breaks_no_half() {
        let one = Slice { size: 1, starts: 0b0111_1111 };
        let half = Slice { size: 4, starts: 0b0001_0001 };
        let (_, first) = one.best(0).unwrap();
        assert_eq!(first, 1 << 6, "the end of the half that has to break");
        let (_, second) = one.best(first).unwrap();
        assert_eq!(second, 1 << 5);
        assert_eq!(half.best(first | second).map(|(_, place)| place), Some(0b1111));
        assert_eq!((one.most(0), half.most(0), half.most(1)), (7, 2, 1));
    }

    #[test]
    fn a_place_is_found_whenever_there_is_one() {
        for size in 1..=8 {
            for starts in 0..=u8::MAX {
                let slice = Slice { size, starts };
                for busy in 0..=u8::MAX {
                    let fits = (0..8_u8)
                        .any(|start| starts >> start & 1 == 1 && start + size <= 8 && span(start, size) & busy == 0);
                    assert_eq!(slice.best(busy).is_some(), fits, "{slice:?} beside {busy:08b}");
                }
            }
        }
    }
}
