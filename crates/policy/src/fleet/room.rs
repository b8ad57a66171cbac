//! How much fits in each domain: nodes counted by class and by free accelerators.

use serde::{Deserialize, Serialize};

use super::layout::{Domain, Level, Tree};
use super::node::State;
use crate::packing::{Request, WHOLE};

/// What counts as free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Everything free.
    All,
    /// What is free and not reserved.
    Open,
}

/// Under what a node is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    class: u8,
    /// Accelerators free, in each view.
    free: [u8; 2],
}

impl Counted {
    pub(super) fn of(state: &State) -> Self {
        Self { class: state.class, free: [state.free(View::All), state.free(View::Open)] }
    }
}

/// The counts. Nodes with nothing free are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rooms {
    /// Most accelerators of a node.
    most: usize,
    classes: usize,
    /// Where each level's counts begin, in domains.
    offsets: Vec<usize>,
    /// `[domain][view][class][free - 1]`, and after those of a domain the accelerators free in each view: what changes together
    /// lies together.
    counts: Vec<u32>,
}

impl Rooms {
    pub(super) fn new(tree: &Tree, most: u8, classes: u8) -> Self {
        let (most, classes) = (usize::from(most).max(1), usize::from(classes) + 1);
        let mut offsets = Vec::new();
        let mut domains = 0;
        for level in 0..=tree.last() {
            offsets.push(domains);
            domains += usize::try_from(tree.domains(level)).unwrap_or(0);
        }
        Self { most, classes, offsets, counts: vec![0; domains * (2 * most * classes + 2)] }
    }

    /// Counts of one domain.
    const fn stride(&self) -> usize {
        2 * self.most * self.classes + 2
    }

    /// Most accelerators of a node.
    pub(super) fn most(&self) -> u8 {
        u8::try_from(self.most).unwrap_or(u8::MAX)
    }

    /// The last class.
    pub(super) fn classes(&self) -> u8 {
        u8::try_from(self.classes - 1).unwrap_or(u8::MAX)
    }

    /// Where a domain's counts of everything free begin; those of what is open follow.
    fn base(&self, domain: Domain) -> Option<usize> {
        let offset = self.offsets.get(usize::from(domain.level))?;
        Some((offset + usize::try_from(domain.number).ok()?) * self.stride())
    }

    /// A node that was not counted is.
    pub(super) fn enter(&mut self, tree: &Tree, node: u32, state: &State) {
        let now = Counted::of(state);
        self.moved(tree, node, Counted { free: [0, 0], ..now }, now);
    }

    /// A node is counted under something else. Its class stays.
    pub(super) fn moved(&mut self, tree: &Tree, node: u32, before: Counted, now: Counted) {
        if before.free == now.free {
            return;
        }
        let class = usize::from(now.class) * self.most;
        let view = self.most * self.classes;
        let place = |view: usize, free: u8| usize::from(free).checked_sub(1).map(|free| view + class + free);
        let less = [place(0, before.free[0]), place(view, before.free[1])];
        let more = [place(0, now.free[0]), place(view, now.free[1])];
        let mut domain = tree.domain(node, tree.last());
        loop {
            if let Some(base) = self.base(domain)
                && let Some(counts) = self.counts.get_mut(base..base + 2 * view + 2)
            {
                for count in less.into_iter().flatten() {
                    if let Some(count) = counts.get_mut(count) {
                        *count -= 1;
                    }
                }
                for count in more.into_iter().flatten() {
                    if let Some(count) = counts.get_mut(count) {
                        *count += 1;
                    }
                }
                if let Some([all, open]) = counts.last_chunk_mut::<2>() {
                    *all = *all + u32::from(now.free[0]) - u32::from(before.free[0]);
                    *open = *open + u32::from(now.free[1]) - u32::from(before.free[1]);
                }
            }
            if domain.level == 0 {
                return;
            }
            domain = Domain { level: domain.level - 1, number: tree.parent(domain.level, domain.number) };
        }
    }

    fn counts(&self, domain: Domain, view: View) -> &[u32] {
        let length = self.most * self.classes;
        let from = match view {
            View::All => 0,
            View::Open => length,
        };
        self.base(domain).and_then(|base| self.counts.get(base + from..base + from + length)).unwrap_or(&[])
    }

    /// Ranks of whole accelerators for which there is room. Of ranks that want parts or none, an upper bound.
    pub(super) fn ranks(&self, domain: Domain, rank: &Request, view: View) -> u32 {
        self.ranks_by(self.counts(domain, view), rank)
    }

    /// Domains of a level with room for `least` ranks or more, and how much: one walk through the counts of those whose parent
    /// has that room.
    pub(super) fn roomy(
        &self,
        tree: &Tree,
        level: Level,
        rank: &Request,
        view: View,
        least: u32,
    ) -> Vec<(u32, Domain)> {
        let mut found = Vec::new();
        let Some(up) = level.checked_sub(1) else {
            self.roomy_of(Domain::HALL, 0..1, rank, view, least, &mut found);
            return found;
        };
        for number in 0..tree.domains(up) {
            let parent = Domain { level: up, number };
            if self.ranks(parent, rank, view) >= least {
                self.roomy_of(Domain { level, number: 0 }, tree.children(parent), rank, view, least, &mut found);
            }
        }
        found
    }

    /// Those of the domains `numbers` of the level of `zero`.
    fn roomy_of(
        &self,
        zero: Domain,
        numbers: std::ops::Range<u32>,
        rank: &Request,
        view: View,
        least: u32,
        found: &mut Vec<(u32, Domain)>,
    ) {
        let (length, stride) = (self.most * self.classes, self.stride());
        let first = self.base(Domain { number: numbers.start, ..zero }).unwrap_or(usize::MAX);
        let counts = self.counts.get(first.min(self.counts.len())..).unwrap_or(&[]);
        let skip = match view {
            View::All => 0,
            View::Open => length,
        };
        for (number, counts) in numbers.zip(counts.chunks_exact(stride)) {
            let room = counts.get(skip..skip + length).map_or(0, |counts| self.ranks_by(counts, rank));
            if room >= least {
                found.push((room, Domain { number, ..zero }));
            }
        }
    }

    fn ranks_by(&self, counts: &[u32], rank: &Request) -> u32 {
        let per = usize::from(rank.accelerators);
        if per == 0 || rank.milli < WHOLE {
            return u32::MAX;
        }
        let mut ranks = 0;
        for (class, counts) in (0_u8..).zip(counts.chunks_exact(self.most)) {
            if rank.accepts(class) {
                // Nodes with `k * per` free or more hold a `k`th rank.
                let mut enough = counts.get(per - 1..).unwrap_or(&[]);
                while !enough.is_empty() {
                    ranks += enough.iter().sum::<u32>();
                    enough = enough.get(per..).unwrap_or(&[]);
                }
            }
        }
        ranks
    }

    /// Class and free accelerators of the nodes with least free that have `wanted`.
    pub(super) fn least(&self, domain: Domain, rank: &Request, wanted: u8, view: View) -> Option<(u8, u8)> {
        let classes = (0_u8..).zip(self.counts(domain, view).chunks_exact(self.most));
        let enough = usize::from(wanted).saturating_sub(1);
        let least = classes.filter(|(class, _)| rank.accepts(*class)).filter_map(|(class, counts)| {
            let at = counts.iter().skip(enough).position(|count| *count > 0)?;
            Some((u8::try_from(at + enough + 1).ok()?, class))
        });
        least.min().map(|(free, class)| (class, free))
    }

    pub(super) fn nodes(&self, domain: Domain, class: u8, free: u8, view: View) -> u32 {
        let Some(free) = usize::from(free).checked_sub(1) else { return 0 };
        let view = match view {
            View::All => 0,
            View::Open => self.most * self.classes,
        };
        let place = view + usize::from(class) * self.most + free;
        self.base(domain).and_then(|base| self.counts.get(base + place)).copied().unwrap_or(0)
    }

    pub(super) fn free(&self, domain: Domain, view: View) -> u64 {
        let place = 2 * self.most * self.classes
            + match view {
                View::All => 0,
                View::Open => 1,
            };
        self.base(domain).and_then(|base| self.counts.get(base + place)).copied().unwrap_or(0).into()
    }
}
