//! Which objects of the store lie on which tier.
//!
//! Tiers are numbered from the store's own drives, 0, to the coldest. What is asked comes first: an object whose storage
//! class means a tier lies there. The others move by what is known of their reads: down once they were not read for as long
//! as a tier says and their heat is less than half of what would bring them back, up once their heat is enough, so that an
//! object between the two stays where it is. Above the high-water mark the coldest go first, until the low one.
//!
//! Invariant: an object that was just moved by its heat is not moved back before it was read, or not read, again.
//! Cost: a comparison for each tier; relief sorts its candidates, whose number the caller bounds.

/// Thousandths of a read: the unit of heat.
pub const READ_MILLI: u64 = 1_000;

/// How often an object was read of late: each read adds one, and all of it halves with each half-life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heat {
    /// Thousandths of a read.
    pub milli: u64,
    /// The time that this is of, in milliseconds.
    pub at_ms: u64,
}

impl Heat {
    /// The same heat at `now_ms`. Between two half-lives it falls in a straight line; time that went back changes nothing.
    #[must_use]
    pub const fn at(self, now_ms: u64, half_life_ms: u64) -> Self {
        let elapsed = now_ms.saturating_sub(self.at_ms);
        if elapsed == 0 {
            return self;
        }
        let half_life_ms = if half_life_ms == 0 { 1 } else { half_life_ms };
        let halvings = elapsed / half_life_ms;
        let whole = if halvings >= 64 { 0 } else { self.milli >> halvings };
        let part = whole as u128 * (elapsed % half_life_ms) as u128 / half_life_ms as u128;
        #[expect(clippy::cast_possible_truncation, reason = "at most `whole`, which is a u64")]
        let fallen = (part / 2) as u64;
        Self { milli: whole - fallen, at_ms: now_ms }
    }

    /// After one more read at `now_ms`.
    #[must_use]
    pub const fn read(self, now_ms: u64, half_life_ms: u64) -> Self {
        let now = self.at(now_ms, half_life_ms);
        Self { milli: now.milli.saturating_add(READ_MILLI), at_ms: now.at_ms }
    }
}

/// What holds for all objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// For each tier behind the store's own drives, after how long without a read objects move there; `None` for tiers
    /// that only a storage class or full drives bring objects to.
    pub after_ms: Vec<Option<u64>>,
    /// The heat from which on an object comes back to the store's own drives.
    pub promote_milli: u64,
    /// Objects of fewer bytes do not move by themselves.
    pub bytes_min: u64,
}

/// An object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Where it lies.
    pub tier: usize,
    /// The tier that its storage class means.
    pub class: Option<usize>,
    /// Its bytes.
    pub bytes: u64,
    /// Milliseconds since it was read or written.
    pub idle_ms: u64,
    /// Its heat now, in thousandths of a read.
    pub heat_milli: u64,
}

/// The tier that the object belongs on.
pub fn target(object: Subject, rules: &Rules) -> usize {
    if let Some(class) = object.class {
        return class.min(rules.after_ms.len());
    }
    if object.bytes < rules.bytes_min {
        return object.tier;
    }
    if object.tier > 0 && object.heat_milli >= rules.promote_milli {
        return 0;
    }
    if object.heat_milli >= rules.promote_milli.div_ceil(2) {
        return object.tier;
    }
    let due = |(index, after): (usize, &Option<u64>)| {
        let deeper = index + 1 > object.tier && after.is_some_and(|after| object.idle_ms >= after);
        deeper.then_some(index + 1)
    };
    rules.after_ms.iter().enumerate().filter_map(due).next_back().unwrap_or(object.tier)
}

/// The drives' room and the marks between which they are relieved, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Bytes that are used.
    pub used: u64,
    /// More than this is too much.
    pub high: u64,
    /// Relief goes down to this.
    pub low: u64,
}

impl Marks {
    /// Bytes that should go; zero as long as the high-water mark is not passed.
    pub const fn excess(self) -> u64 {
        if self.used > self.high { self.used.saturating_sub(self.low) } else { 0 }
    }
}

/// An object that may make room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate<K> {
    /// Its heat now; what is colder goes first.
    pub heat_milli: u64,
    /// When it was read or written last, in milliseconds; what is older goes first.
    pub touched_ms: u64,
    /// Its name; decides where all else is equal.
    pub name: K,
    /// Bytes that its going frees.
    pub bytes: u64,
}

/// The candidates that go, the coldest first: as few as free `excess` bytes.
pub fn relieve<K: Ord>(mut candidates: Vec<Candidate<K>>, excess: u64) -> Vec<Candidate<K>> {
    candidates.sort_unstable();
    let mut freed = 0_u64;
    let mut going = Vec::new();
    for candidate in candidates {
        if freed >= excess {
            break;
        }
        freed = freed.saturating_add(candidate.bytes);
        going.push(candidate);
    }
    going
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn heat_halves_and_never_rises_by_itself() {
        let hot = Heat { milli: 8_000, at_ms: 5 };
        assert_eq!(hot.at(5 + DAY, DAY).milli, 4_000);
        assert_eq!(hot.at(5 + 3 * DAY, DAY).milli, 1_000);
        assert_eq!(hot.at(5 + DAY / 2, DAY).milli, 6_000);
        assert_eq!(hot.at(0, DAY), hot, "time that went back changes nothing");
        assert_eq!(hot.at(u64::MAX, 0).milli, 0);
        let mut before = hot.milli;
        for hour in 0..200 {
            let now = hot.at(5 + hour * DAY / 24, DAY).milli;
            assert!(now <= before);
            before = now;
        }
        assert_eq!(Heat::default().read(7, DAY).read(7, DAY), Heat { milli: 2_000, at_ms: 7 });
    }

    /// What the words at the top say, one condition after another.
    fn naive(object: Subject, rules: &Rules) -> usize {
        if let Some(class) = object.class {
            return if class > rules.after_ms.len() { rules.after_ms.len() } else { class };
        }
        let mut at = object.tier;
        if object.bytes >= rules.bytes_min {
            if object.heat_milli >= rules.promote_milli {
                at = 0;
            } else if object.heat_milli * 2 < rules.promote_milli {
                for tier in object.tier + 1..=rules.after_ms.len() {
                    if let Some(after) = rules.after_ms[tier - 1]
                        && object.idle_ms >= after
                    {
                        at = tier;
                    }
                }
            }
        }
        at
    }

    fn each(mut see: impl FnMut(Subject, &Rules)) {
        let afters = [None, Some(10), Some(20)];
        for first in afters {
            for second in afters {
                for promote_milli in [1, 3_000, 3_001] {
                    let rules = Rules { after_ms: vec![first, second], promote_milli, bytes_min: 100 };
                    for tier in 0..3 {
                        for class in [None, Some(0), Some(1), Some(2), Some(9)] {
                            for bytes in [99, 100] {
                                for idle_ms in [0, 9, 10, 19, 20, 1_000] {
                                    for heat_milli in [0, 1, 1_499, 1_500, 1_501, 2_999, 3_000, 3_001, 9_000] {
                                        see(Subject { tier, class, bytes, idle_ms, heat_milli }, &rules);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_small_case_goes_where_the_words_say() {
        each(|object, rules| assert_eq!(target(object, rules), naive(object, rules), "{object:?} {rules:?}"));
    }

    #[test]
    fn nothing_moves_twice_without_new_reads() {
        each(|object, rules| {
            let tier = target(object, rules);
            let moved = Subject { tier, ..object };
            assert_eq!(target(moved, rules), tier, "{object:?} {rules:?}");
            // Cooling down does not bring it up, nor does waiting.
            let cooler = Subject { heat_milli: object.heat_milli / 2, idle_ms: object.idle_ms * 2, ..moved };
            assert!(object.class.is_some() || target(cooler, rules) >= tier || tier == 0, "{object:?} {rules:?}");
        });
    }

    #[test]
    fn relief_takes_the_coldest_and_no_more_than_it_needs() {
        let mut state = 7_u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _round in 0..2_000 {
            let count = next(8);
            let all: Vec<Candidate<u64>> = (0..count)
                .map(|name| Candidate { heat_milli: next(3), touched_ms: next(3), name, bytes: next(10) })
                .collect();
            let excess = next(40);
            let going = relieve(all.clone(), excess);
            let freed: u64 = going.iter().map(|one| one.bytes).sum();
            assert!(freed >= excess || going.len() == all.len());
            assert!(going.last().is_none_or(|last| freed - last.bytes < excess), "one less would not do");
            let stay = all.iter().filter(|one| !going.contains(one));
            for one in stay {
                assert!(going.iter().all(|gone| gone < one), "{going:?} before {one:?}");
            }
        }
        assert_eq!(Marks { used: 90, high: 90, low: 80 }.excess(), 0);
        assert_eq!(Marks { used: 91, high: 90, low: 80 }.excess(), 11);
    }
}
