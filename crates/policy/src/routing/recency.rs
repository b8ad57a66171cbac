//! How deep in an engine's cache something lies: bytes that it has touched since, each counted once.
//!
//! A cache that throws out what was not used for longest still holds exactly what lies less deep than its size, however often
//! the same prompts came meanwhile. Counted are bytes by when they were last touched, in [`BINS`] bins of the engine's own
//! clock; touching something again takes its bytes out of the old bin. Source: stack distances, Mattson et al. 1970.
//!
//! *Invariant*: the bins hold each byte once, and depth never falls with age. Memory is fixed; bins that lie deeper than twice
//! the cache's size are dropped, and until then they widen, so a bin is never wider than a part in 64 of what was touched meanwhile.
//! Cost: one pass over the bins for each request. Integers only.

/// Bins of an engine. More of them tell depths apart more finely.
const BINS: usize = 128;
const BINS_WIDE: u64 = 128;
/// The first bins are so wide, as a power of two: a thousand tokens.
const SHIFT: u32 = 12;
/// A size that nobody has measured.
const UNKNOWN: u64 = u64::MAX;
/// A cache smaller than this would serve nobody; so one surprise cannot talk the index into forgetting everything.
const SIZE_MIN: u64 = 64 << 10;

/// What one engine touched, and the size of its cache as its reports teach it.
#[derive(Debug, Clone)]
pub(super) struct Recency {
    /// Bytes touched, each time anew.
    clock: u64,
    /// A bin is `1 << shift` of the clock's bytes wide.
    shift: u32,
    /// By number of the bin, modulo their count.
    bins: [u64; BINS],
    /// Bins before this one are empty.
    first: u64,
    size: u64,
    /// Marks below were made before the engine started afresh.
    floor: u64,
    /// Marks from here on lie within the cache.
    oldest: u64,
}

impl Default for Recency {
    fn default() -> Self {
        Self { clock: 0, shift: SHIFT, bins: [0; BINS], first: 0, size: UNKNOWN, floor: 0, oldest: 0 }
    }
}

impl Recency {
    /// The mark of what is touched first in a prompt of so many bytes; what is touched later has larger ones.
    pub(super) fn advance(&mut self, bytes: u64) -> u64 {
        let mark = self.clock;
        self.clock = self.clock.saturating_add(bytes);
        while (self.clock >> self.shift) - self.first >= BINS_WIDE {
            let half = (self.clock >> self.shift).saturating_sub(BINS_WIDE / 2);
            if self.depth(half << self.shift) / 2 >= self.size {
                self.drop_before(half);
            } else {
                self.widen();
            }
        }
        mark
    }

    /// So many bytes got the mark `now`, and had the mark `before` if any.
    pub(super) fn touch(&mut self, bytes: u64, now: u64, before: Option<u64>) {
        if let Some(before) = before.filter(|before| before >> self.shift >= self.first && *before >= self.floor) {
            let bin = self.bin_mut(before >> self.shift);
            *bin = bin.saturating_sub(bytes);
        }
        let bin = self.bin_mut(now >> self.shift);
        *bin = bin.saturating_add(bytes);
    }

    /// After all was touched: finds anew which marks lie within the cache.
    pub(super) fn settle(&mut self) {
        self.oldest = self.floor;
        if self.size == UNKNOWN {
            return;
        }
        let mut depth = 0_u64;
        let mut number = self.clock >> self.shift;
        loop {
            let bytes = self.bin(number);
            if depth.saturating_add(bytes) > self.size {
                // So much of the bin is within, its newest part.
                let part = u128::from(self.size - depth) << self.shift;
                let part = u64::try_from(part / u128::from(bytes.max(1))).unwrap_or(0);
                self.oldest = self.oldest.max(((number + 1) << self.shift).saturating_sub(part));
                return;
            }
            depth += bytes;
            if number == self.first {
                self.oldest = self.oldest.max(number << self.shift);
                return;
            }
            number -= 1;
        }
    }

    /// Whether what has this mark is within the cache.
    pub(super) fn holds(&self, mark: u64) -> bool {
        mark >= self.oldest
    }

    /// Bytes touched after `mark`, each once; nothing if it was made before the engine started afresh.
    pub(super) fn depth_of(&self, mark: u64) -> Option<u64> {
        (mark >= self.floor).then(|| self.depth(mark))
    }

    /// Something believed to be there was not, at this depth.
    pub(super) fn missed(&mut self, depth: u64) {
        let gone = depth.max(SIZE_MIN);
        self.size = if self.size == UNKNOWN { gone } else { self.size - self.size.saturating_sub(gone) / 4 };
        self.settle();
    }

    /// Something believed gone was there, at this depth.
    pub(super) fn found(&mut self, depth: u64) {
        if self.size != UNKNOWN {
            self.size = self.size.saturating_add(depth.saturating_sub(self.size) / 4);
            self.settle();
        }
    }

    /// It cannot hold more than so many bytes.
    pub(super) fn bound(&mut self, bytes: u64) {
        if bytes < self.size {
            self.size = bytes;
            self.settle();
        }
    }

    /// The engine started afresh: it holds nothing, and what it can hold is as before.
    pub(super) fn forget(&mut self) {
        self.clock = self.clock.saturating_add(1);
        self.bins = [0; BINS];
        self.first = self.clock >> self.shift;
        self.floor = self.clock;
        self.oldest = self.clock;
    }

    /// Bytes of its cache, as far as anybody knows.
    pub(super) fn size(&self) -> Option<u64> {
        (self.size != UNKNOWN).then_some(self.size)
    }

    fn depth(&self, mark: u64) -> u64 {
        let number = mark >> self.shift;
        let now = self.clock >> self.shift;
        let newer = (number.max(self.first) + u64::from(number >= self.first)..=now).map(|number| self.bin(number));
        let newer = newer.fold(0_u64, u64::saturating_add);
        if number < self.first {
            return newer;
        }
        let end = ((number + 1) << self.shift).min(self.clock.max(1));
        let width = end.saturating_sub(number << self.shift).max(1);
        let part = u128::from(self.bin(number)) * u128::from(end.saturating_sub(mark)) / u128::from(width);
        newer.saturating_add(u64::try_from(part).unwrap_or(u64::MAX))
    }

    fn drop_before(&mut self, number: u64) {
        for gone in self.first..number.min(self.first + BINS_WIDE) {
            *self.bin_mut(gone) = 0;
        }
        self.first = number;
    }

    /// Bins twice as wide: each takes up two.
    fn widen(&mut self) {
        let last = self.first + BINS_WIDE - 1;
        let mut wide = Self { shift: self.shift + 1, first: self.first / 2, bins: [0; BINS], ..*self };
        for number in self.first..=last {
            let bin = wide.bin_mut(number / 2);
            *bin = bin.saturating_add(self.bin(number));
        }
        *self = wide;
    }

    fn place(number: u64) -> usize {
        usize::try_from(number % BINS_WIDE).unwrap_or(0)
    }

    fn bin(&self, number: u64) -> u64 {
        self.bins.get(Self::place(number)).copied().unwrap_or(0)
    }

    fn bin_mut(&mut self, number: u64) -> &mut u64 {
        // A remainder by the number of bins is the place of one.
        &mut self.bins[Self::place(number)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::mix;

    /// A thing of the brute force: when it was touched last, and its size.
    #[derive(Clone, Copy, Default)]
    struct Thing {
        mark: Option<u64>,
        bytes: u64,
    }

    fn touch(recency: &mut Recency, thing: &mut Thing, bytes: u64) {
        let mark = recency.advance(bytes) + bytes;
        recency.touch(bytes, mark, thing.mark);
        recency.settle();
        *thing = Thing { mark: Some(mark), bytes };
    }

    #[test]
    fn depth_is_what_was_touched_since_each_thing_once() {
        for seed in 0..6_u64 {
            let mut recency = Recency::default();
            // Until somebody measures it every size is possible, so nothing is dropped.
            let mut things = [Thing::default(); 400];
            for round in 0..20_000_u64 {
                let drawn = usize::try_from(mix(seed, round) % 400).unwrap();
                let place = if mix(round, 1).is_multiple_of(2) { drawn / 10 } else { drawn };
                touch(&mut recency, &mut things[place], 5_000);
                if round % 1_000 != 999 {
                    continue;
                }
                let mut last = 0;
                let mut newest: Vec<Thing> = things.iter().copied().filter(|thing| thing.mark.is_some()).collect();
                newest.sort_unstable_by_key(|thing| std::cmp::Reverse(thing.mark));
                let all: u64 = newest.iter().map(|thing| thing.bytes).sum();
                let mut before = 0;
                for thing in &newest {
                    let depth = recency.depth_of(thing.mark.unwrap()).unwrap();
                    assert!(depth >= last, "depth falls with age");
                    assert!(depth.abs_diff(before) <= all / 10, "{depth} instead of {before} of {all}");
                    (last, before) = (depth, before + thing.bytes);
                }
            }
        }
    }

    #[test]
    fn what_lies_deeper_than_the_size_is_not_held_and_the_rest_is() {
        let mut recency = Recency::default();
        let mut things = [Thing::default(); 300];
        for round in 0..10_000_u64 {
            touch(&mut recency, &mut things[usize::try_from(mix(round, 3) % 300).unwrap()], 4_000);
            if round == 500 {
                recency.missed(400_000);
                assert_eq!(recency.size(), Some(400_000));
            }
        }
        let held: u64 = things.iter().filter(|thing| recency.holds(thing.mark.unwrap())).map(|thing| thing.bytes).sum();
        assert!(held.abs_diff(400_000) < 20_000, "{held}");
    }

    #[test]
    fn reports_move_the_size_by_a_quarter_and_never_to_nothing() {
        let mut recency = Recency::default();
        recency.found(1 << 30);
        assert_eq!(recency.size(), None, "nothing was missed yet, so nothing is believed gone");
        recency.missed(1 << 20);
        recency.found(2 << 20);
        assert_eq!(recency.size(), Some((1 << 20) + (1 << 18)));
        for _ in 0..1_000 {
            recency.missed(1);
        }
        let size = recency.size().unwrap();
        assert!((SIZE_MIN..SIZE_MIN + 4).contains(&size), "{size}");
    }

    #[test]
    fn one_that_started_afresh_holds_nothing_and_its_marks_teach_nothing() {
        let mut recency = Recency::default();
        let mut thing = Thing::default();
        touch(&mut recency, &mut thing, 100_000);
        let old = thing.mark.unwrap();
        assert!(recency.holds(old));
        recency.forget();
        assert_eq!((recency.holds(old), recency.depth_of(old)), (false, None));
        touch(&mut recency, &mut thing, 100_000);
        assert!(recency.holds(thing.mark.unwrap()) && !recency.holds(old));
        // No range of the clock is too long, nor a step.
        touch(&mut recency, &mut thing, 1 << 46);
        assert!(recency.holds(thing.mark.unwrap()));
    }
}
