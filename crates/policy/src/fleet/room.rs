//! How much fits in each domain: nodes counted by class and by free accelerators.

use serde::{Deserialize, Serialize};

use super::layout::{Domain, Tree};
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

/// The counts. Nodes with nothing free are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rooms {
    /// Most accelerators of a node.
    most: usize,
    classes: usize,
    /// Where each level's counts begin, in domains.
    offsets: Vec<usize>,
    /// `[domain][class][free - 1]`, everything free.
    all: Vec<u32>,
    /// The same without what is reserved.
    open: Vec<u32>,
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
        let counts = vec![0; domains * most * classes];
        Self { most, classes, offsets, all: counts.clone(), open: counts }
    }

    /// Most accelerators of a node.
    pub(super) fn most(&self) -> u8 {
        u8::try_from(self.most).unwrap_or(u8::MAX)
    }

    /// The last class.
    pub(super) fn classes(&self) -> u8 {
        u8::try_from(self.classes - 1).unwrap_or(u8::MAX)
    }

    fn base(&self, domain: Domain) -> Option<usize> {
        let offset = self.offsets.get(usize::from(domain.level))?;
        Some((offset + usize::try_from(domain.number).ok()?) * self.most * self.classes)
    }

    pub(super) fn enter(&mut self, tree: &Tree, node: u32, state: &State) {
        self.count(tree, node, state, |count| *count += 1);
    }

    pub(super) fn leave(&mut self, tree: &Tree, node: u32, state: &State) {
        self.count(tree, node, state, |count| *count -= 1);
    }

    fn count(&mut self, tree: &Tree, node: u32, state: &State, change: impl Fn(&mut u32)) {
        let (all, open) = (usize::from(state.free(View::All)), usize::from(state.free(View::Open)));
        if all == 0 {
            return;
        }
        let class = usize::from(state.class) * self.most;
        let mut domain = tree.domain(node, tree.last());
        loop {
            if let Some(base) = self.base(domain) {
                if let Some(count) = self.all.get_mut(base + class + all - 1) {
                    change(count);
                }
                if open > 0
                    && let Some(count) = self.open.get_mut(base + class + open - 1)
                {
                    change(count);
                }
            }
            if domain.level == 0 {
                return;
            }
            domain = Domain { level: domain.level - 1, number: tree.parent(domain.level, domain.number) };
        }
    }

    fn counts(&self, domain: Domain, view: View) -> &[u32] {
        let counts = match view {
            View::All => &self.all,
            View::Open => &self.open,
        };
        self.base(domain).and_then(|base| counts.get(base..base + self.most * self.classes)).unwrap_or(&[])
    }

    /// Ranks of whole accelerators for which there is room. Of ranks that want parts or none, an upper bound.
    pub(super) fn ranks(&self, domain: Domain, rank: &Request, view: View) -> u32 {
        let per = u32::from(rank.accelerators);
        if per == 0 || rank.milli < WHOLE {
            return u32::MAX;
        }
        let mut ranks = 0;
        for (class, counts) in (0_u8..).zip(self.counts(domain, view).chunks_exact(self.most)) {
            if rank.accepts(class) {
                ranks += (1_u32..).zip(counts).map(|(free, count)| free / per * count).sum::<u32>();
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
        let at = usize::from(class) * self.most + usize::from(free).saturating_sub(1);
        self.counts(domain, view).get(at).copied().unwrap_or(0)
    }

    pub(super) fn free(&self, domain: Domain, view: View) -> u64 {
        let by_class = self.counts(domain, view).chunks_exact(self.most);
        by_class.map(|counts| (1_u64..).zip(counts).map(|(free, count)| free * u64::from(*count)).sum::<u64>()).sum()
    }
}
