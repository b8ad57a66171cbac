//! How fast a line moves: tokens that left it over the time in which somebody waited.

use dh_core::SimTime;
use dh_core::time::Span;

/// Before that many have left nobody can tell.
const KNOWN_FROM: u32 = 4;
/// After that many what went before counts half.
const HALF_AFTER: u32 = 64;

#[derive(Debug, Default)]
pub(super) struct Rate {
    tokens: u64,
    nanos: u64,
    moves: u32,
    known: bool,
    /// When the last one left, or the first one came; nothing while nobody waits.
    since: Option<SimTime>,
}

impl Rate {
    pub(super) fn busy_from(&mut self, now: SimTime) {
        self.since = Some(now);
    }

    pub(super) fn idle(&mut self) {
        self.since = None;
    }

    pub(super) fn moved(&mut self, now: SimTime, tokens: u64) {
        let Some(since) = self.since.replace(now) else { return };
        self.nanos = self.nanos.saturating_add(now.since(since).0);
        self.tokens = self.tokens.saturating_add(tokens);
        self.moves += 1;
        self.known |= self.moves >= KNOWN_FROM;
        if self.moves >= HALF_AFTER {
            (self.tokens, self.nanos, self.moves) = (self.tokens / 2, self.nanos / 2, self.moves / 2);
        }
    }

    /// How long `tokens` take.
    pub(super) fn time_of(&self, tokens: u64) -> Option<Span> {
        if !self.known {
            return None;
        }
        let nanos = u128::from(tokens) * u128::from(self.nanos) / u128::from(self.tokens.max(1));
        Some(Span(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}
