//! States, and what each request makes of each: computed once, looked up ever after.
//!
//! Each request keeps the states it fits in a heap, by what they keep of their worth. A state that nobody is in stays in the
//! heaps until it surfaces; it goes back when a node comes into it. Invariant: an entry follows from the state, the request
//! and the mix alone, so that dropping states or computing them in another order changes no decision.
//! Cost: a request's turn is a look at the first state of its heap, and what has surfaced or come into being since its last.

use super::detail::Scale;
use super::hash::Map;
use super::queue::{Queue, Ranked};
use super::racks::Spread;
use super::{Detail, Mix, Node, Potential, Request};

/// States and requests that are kept at least; above, those that nobody used since the last time are dropped.
const STATES: usize = 32_768;
const KINDS: usize = 512;
/// A state with more nodes keeps them by rack.
pub(super) const FEW: usize = 64;
/// Numbers of models.
pub(super) const MODELS: usize = 32;

/// What a request makes of a state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    /// What the state keeps of its worth and how good what it leaves is.
    pub(super) gain: i64,
    /// The state that follows.
    pub(super) state: u32,
    /// What is free on the accelerator that a part is taken from.
    pub(super) from: u16,
    known: Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    No,
    Misfit,
    Fits,
}

const UNKNOWN: Next = Next { gain: 0, state: 0, from: 0, known: Known::No };

#[derive(Debug)]
pub(super) struct State {
    pub(super) node: Node,
    worth: i64,
    pub(super) members: Vec<u32>,
    pub(super) spread: Option<Box<Spread>>,
    /// By request.
    next: Vec<Next>,
    /// Requests whose heaps it must go back to when a node comes into it.
    absent: Vec<u32>,
    /// Whether some node was ever in it, so that requests know of it.
    met: Met,
    /// The last sweep before a node came into it.
    entered: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Never,
    Yes,
}

/// What a sweep leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// States that nodes are in.
    Current,
    /// And those that nodes came into since the last sweep, or would come into next.
    Used,
}

#[derive(Debug)]
struct Kind {
    request: Request,
    /// By model.
    queues: Vec<Queue>,
    /// How many of the states that were ever met it knows of.
    seen: usize,
    /// The last sweep before it was asked for.
    asked: u32,
    /// What [`Table::misfit`] was told.
    misfit: Option<u64>,
}

/// See the module.
pub(super) struct Table {
    pub(super) policy: &'static dyn Potential,
    pub(super) mix: Mix,
    pub(super) scale: Scale,
    states: Vec<State>,
    known: Map<Node, u32>,
    kinds: Vec<Kind>,
    kind_of: Map<Request, u32>,
    /// States in the order in which they were met.
    met: Vec<u32>,
    models: usize,
    sweeps: u32,
    states_max: usize,
    kinds_max: usize,
}

fn at(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Table {
    pub(super) fn new(policy: &'static dyn Potential, mix: Mix, detail: Detail) -> Self {
        Self {
            policy,
            mix,
            scale: Scale::new(detail),
            states: Vec::new(),
            known: Map::default(),
            kinds: Vec::new(),
            kind_of: Map::default(),
            met: Vec::new(),
            models: 0,
            sweeps: 0,
            states_max: STATES,
            kinds_max: KINDS,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn get(&self, state: u32) -> Option<&State> {
        self.states.get(at(state))
    }

    pub(super) fn worth(&mut self, node: Node) -> i64 {
        let state = self.state(node);
        self.get(state).map_or(0, |state| state.worth)
    }

    /// The state that is `node`.
    pub(super) fn state(&mut self, node: Node) -> u32 {
        if let Some(state) = self.known.get(&node) {
            return *state;
        }
        let state = number(self.states.len());
        self.models = self.models.max(usize::from(node.model).min(MODELS - 1) + 1);
        self.states.push(State {
            node,
            worth: self.policy.worth(&node, &self.mix),
            members: Vec::new(),
            spread: None,
            next: Vec::new(),
            absent: Vec::new(),
            met: Met::Never,
            entered: self.sweeps,
        });
        self.known.insert(node, state);
        state
    }

    /// The number of `request`.
    pub(super) fn kind(&mut self, request: &Request) -> u32 {
        if let Some(kind) = self.kind_of.get(request) {
            return *kind;
        }
        let kind = number(self.kinds.len());
        self.kinds.push(Kind { request: *request, queues: Vec::new(), seen: 0, asked: self.sweeps, misfit: None });
        self.kind_of.insert(*request, kind);
        kind
    }

    /// A node comes into `state`; its place among the members. `racks` are those of all members.
    pub(super) fn enter(&mut self, state: u32, node: u32, rack: impl Fn(u32) -> u32) -> u32 {
        let sweeps = self.sweeps;
        let Some(entered) = self.states.get_mut(at(state)) else { return 0 };
        entered.entered = sweeps;
        let place = entered.members.len();
        entered.members.push(node);
        if let Some(spread) = &mut entered.spread {
            spread.enter(rack(node));
        } else if place >= FEW {
            let mut spread = Box::<Spread>::default();
            entered.members.iter().for_each(|node| spread.enter(rack(*node)));
            entered.spread = Some(spread);
        }
        if place == 0 {
            if entered.met == Met::Never {
                entered.met = Met::Yes;
                self.met.push(state);
            } else {
                for kind in std::mem::take(&mut entered.absent) {
                    self.rank(state, kind);
                }
            }
        }
        number(place)
    }

    /// The member at `place` leaves `state`; the node that takes its place, if any.
    pub(super) fn leave(&mut self, state: u32, place: u32, rack: u32) -> Option<u32> {
        let left = self.states.get_mut(at(state))?;
        if at(place) < left.members.len() {
            left.members.swap_remove(at(place));
        }
        if let Some(spread) = &mut left.spread {
            spread.leave(rack);
            if left.members.len() < FEW / 2 {
                left.spread = None;
            }
        }
        left.members.get(at(place)).copied()
    }

    /// Puts `state` into the heap of `kind`, if it fits.
    fn rank(&mut self, state: u32, kind: u32) {
        if let Some(next) = self.next(state, kind) {
            self.push(kind, Ranked { gain: next.gain, state });
        }
    }

    fn push(&mut self, kind: u32, item: Ranked) {
        let model = self.get(item.state).map_or(0, |state| usize::from(state.node.model).min(MODELS - 1));
        let Some(kind) = self.kinds.get_mut(at(kind)) else { return };
        if kind.queues.len() <= model {
            kind.queues.resize_with(model + 1, Queue::default);
        }
        if let Some(queue) = kind.queues.get_mut(model) {
            queue.push(item, |state| self.states.get(at(state)).map(|state| &state.node));
        }
    }

    /// What `kind` makes of `state`; none if it does not fit.
    pub(super) fn next(&mut self, state: u32, kind: u32) -> Option<Next> {
        let here = self.states.get(at(state))?;
        let found = here.next.get(at(kind)).copied().unwrap_or(UNKNOWN);
        match found.known {
            Known::Fits => return Some(found),
            Known::Misfit => return None,
            Known::No => {}
        }
        let (node, worth, request) = (here.node, here.worth, self.kinds.get(at(kind))?.request);
        let mut best = Next { known: Known::Misfit, ..UNKNOWN };
        if node.fits(&request) {
            let mut options = Vec::new();
            node.after(&request, |after, from| options.push((after, from)));
            let mut held: Option<Node> = None;
            for (after, from) in options {
                let after = self.scale.see(&after, after.cpu_milli, after.memory_mib);
                let gain = self.worth(after).saturating_sub(worth).saturating_add(self.policy.leaves(&after));
                if held.is_none_or(|held| gain > best.gain || (gain == best.gain && after < held)) {
                    held = Some(after);
                    best = Next { gain, state: self.state(after), from, known: Known::Fits };
                }
            }
        }
        if let Some(here) = self.states.get_mut(at(state)) {
            if here.next.len() <= at(kind) {
                here.next.resize(at(kind) + 1, UNKNOWN);
            }
            if let Some(next) = here.next.get_mut(at(kind)) {
                *next = best;
            }
        }
        (best.known == Known::Fits).then_some(best)
    }

    /// The state that keeps most, of those that somebody is in, when accelerators of a model cost this.
    pub(super) fn best(&mut self, kind: u32, prices: &[i64; MODELS]) -> Option<Ranked> {
        self.catch_up(kind);
        let mut best: Option<Ranked> = None;
        for model in 0..self.models {
            let price = prices.get(model).copied().unwrap_or(0);
            let Some(first) = self.surface(kind, model) else { continue };
            let score = Ranked { gain: first.gain.saturating_sub(price), ..first };
            let ahead = |held: Ranked| {
                let node = |ranked: Ranked| self.get(ranked.state).map(|state| state.node);
                score.gain > held.gain || (score.gain == held.gain && node(score) < node(held))
            };
            if best.is_none_or(ahead) {
                best = Some(score);
            }
        }
        best
    }

    /// The first state of a heap that somebody is in.
    fn surface(&mut self, kind: u32, model: usize) -> Option<Ranked> {
        loop {
            let queue = self.kinds.get_mut(at(kind))?.queues.get_mut(model)?;
            let first = queue.first()?;
            let state = self.states.get(at(first.state))?;
            if !state.members.is_empty() {
                return Some(first);
            }
            queue.pop(|state| self.states.get(at(state)).map(|state| &state.node));
            if let Some(state) = self.states.get_mut(at(first.state)) {
                state.absent.push(kind);
            }
        }
    }

    /// Takes the first state of a heap out, to look behind it; [`Self::put_back`] must follow.
    pub(super) fn set_aside(&mut self, kind: u32, first: Ranked) -> Option<Ranked> {
        let model = usize::from(self.get(first.state)?.node.model).min(MODELS - 1);
        let queue = self.kinds.get_mut(at(kind))?.queues.get_mut(model)?;
        queue.pop(|state| self.states.get(at(state)).map(|state| &state.node))
    }

    pub(super) fn put_back(&mut self, kind: u32, aside: Vec<Ranked>) {
        for item in aside {
            self.push(kind, item);
        }
    }

    /// Ranks the states that were met since this request was last asked for.
    fn catch_up(&mut self, kind: u32) {
        let sweeps = self.sweeps;
        let Some(known) = self.kinds.get_mut(at(kind)) else { return };
        known.asked = sweeps;
        let first = std::mem::replace(&mut known.seen, self.met.len());
        for position in first..self.met.len() {
            let Some(state) = self.met.get(position).copied() else { return };
            match self.states.get_mut(at(state)) {
                Some(here) if here.members.is_empty() => here.absent.push(kind),
                Some(_) => self.rank(state, kind),
                None => {}
            }
        }
    }

    /// `kind` fits no node at all until what is free has `grown` further.
    pub(super) fn misfit(&mut self, kind: u32, grown: u64) {
        if let Some(kind) = self.kinds.get_mut(at(kind)) {
            kind.misfit = Some(grown);
        }
    }

    /// Whether that is known.
    pub(super) fn is_misfit(&self, kind: u32, grown: u64) -> bool {
        self.kinds.get(at(kind)).is_some_and(|kind| kind.misfit == Some(grown))
    }

    /// Nodes that may have more than the state they are seen in, which `request` does not fit: it may fit them.
    pub(super) fn doubtful(&self, request: &Request) -> Vec<u32> {
        let here = self.met.iter().filter_map(|state| self.get(*state));
        let doubtful = here.filter(|state| !state.members.is_empty() && self.scale.most(&state.node).fits(request));
        doubtful.flat_map(|state| state.members.iter().copied()).collect()
    }

    /// Whether there is so much that [`Self::sweep`] is due.
    pub(super) fn is_full(&self) -> bool {
        self.states.len() > self.states_max || self.kinds.len() > self.kinds_max
    }

    /// Drops states that nobody is in nor came into since the last sweep, and requests that nobody asked for. States are numbered
    /// anew: what each was called before, in the order of the old names.
    pub(super) fn sweep(&mut self, kept: Kept) -> Vec<u32> {
        let (sweeps, mut kept_kinds) = (self.sweeps, Vec::new());
        self.kind_of.clear();
        for (old, kind) in std::mem::take(&mut self.kinds).into_iter().enumerate() {
            if kind.asked == sweeps {
                self.kind_of.insert(kind.request, number(self.kinds.len()));
                self.kinds.push(Kind { queues: Vec::new(), seen: 0, ..kind });
                kept_kinds.push(old);
            }
        }
        let used = |state: &State| kept == Kept::Used && state.entered == sweeps;
        let mut keep: Vec<bool> = self.states.iter().map(|state| !state.members.is_empty() || used(state)).collect();
        for state in self.states.iter().filter(|state| kept == Kept::Used && !state.members.is_empty()) {
            for next in state.next.iter().filter(|next| next.known == Known::Fits) {
                if let Some(keep) = keep.get_mut(at(next.state)) {
                    *keep = true;
                }
            }
        }
        let mut names = vec![u32::MAX; self.states.len()];
        let kept = keep.iter().enumerate().filter(|(_, keep)| **keep).map(|(old, _)| old);
        for (new, old) in kept.enumerate() {
            if let Some(name) = names.get_mut(old) {
                *name = number(new);
            }
        }
        self.known.clear();
        self.met.clear();
        let states = std::mem::take(&mut self.states);
        for (mut state, _) in states.into_iter().zip(keep).filter(|(_, keep)| *keep) {
            let name = number(self.states.len());
            state.absent.clear();
            state.met = if state.members.is_empty() { Met::Never } else { Met::Yes };
            if state.met == Met::Yes {
                self.met.push(name);
            }
            state.next = kept_kinds
                .iter()
                .map(|kind| {
                    let next = state.next.get(*kind).copied().unwrap_or(UNKNOWN);
                    match names.get(at(next.state)) {
                        Some(name) if next.known == Known::Fits && *name != u32::MAX => Next { state: *name, ..next },
                        Some(_) | None if next.known == Known::Misfit => next,
                        Some(_) | None => UNKNOWN,
                    }
                })
                .collect();
            self.known.insert(state.node, name);
            self.states.push(state);
        }
        self.states_max = STATES.max(2 * self.states.len());
        self.kinds_max = KINDS.max(2 * self.kinds.len());
        self.sweeps = self.sweeps.wrapping_add(1);
        names
    }

    /// Another mix: nothing that was computed holds.
    pub(super) fn expect(&mut self, mix: Mix) -> Vec<u32> {
        self.mix = mix;
        let names = self.sweep(Kept::Current);
        for state in &mut self.states {
            state.next = Vec::new();
            state.worth = self.policy.worth(&state.node, &self.mix);
        }
        names
    }
}
