//! Requests to language models from clients whose rates and variations change by window.
//!
//! Gaps of a client are gamma on a clock that runs at its rate, with the variation of the window in which they are drawn.
//! Source of the law: Xiang et al. 2025, `ServeGen`: production clients are gamma or Weibull by window, each its own.
//! Invariant: requests come in order; each client has a stream of its own. Cost: one heap operation and three draws each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use dh_core::time::SimTime;

use super::Error;
use super::arrivals::advance;
use super::draw::Draw;
use super::mix::Weights;
use crate::trace::{Rate, WINDOW};

/// Tokens of a prompt or an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Tokens {
    /// Always as many.
    Fixed(u32),
    /// Log-normal, cut at the most.
    LogNormal {
        /// Half are shorter.
        median: u32,
        /// The deviation of the logarithm.
        sigma: f64,
        /// None is longer.
        most: u32,
    },
    /// Numbers that were measured, by weight.
    Empirical(Weights<u32>),
}

impl Tokens {
    fn draw(&self, draw: &mut Draw) -> u32 {
        match self {
            Self::Fixed(tokens) => *tokens,
            Self::LogNormal { median, sigma, most } => {
                let drawn = dh_units::whole(draw.log_normal(f64::from(*median), *sigma) + 0.5).max(1);
                u32::try_from(drawn).unwrap_or(u32::MAX).min(*most)
            }
            Self::Empirical(numbers) => numbers.draw(draw).unwrap_or(0),
        }
    }
}

/// A time with one rate; it lasts until the next begins or for [`WINDOW`], whichever is sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub start: SimTime,
    /// Requests per million seconds.
    pub per_million_s: u64,
    /// Deviation of gaps over their mean, in thousandths.
    pub cv_milli: u32,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// The model that it asks.
    pub model: String,
    /// Its number within the model.
    pub number: u32,
    /// Its rates, by time.
    pub windows: Vec<Window>,
    /// Tokens of its prompts.
    pub input: Tokens,
    /// Tokens of the answers.
    pub output: Tokens,
}

/// The clients of published rates, all with the same laws of tokens.
/// # Errors
/// The first that is one.
pub fn clients<E>(
    rates: impl Iterator<Item = Result<Rate, E>>,
    input: &Tokens,
    output: &Tokens,
) -> Result<Vec<Client>, E> {
    let mut found: BTreeMap<(String, u32), Vec<Window>> = BTreeMap::new();
    for rate in rates {
        let Rate { model, client, start, per_million_s, cv_milli } = rate?;
        found.entry((model, client)).or_default().push(Window { start, per_million_s, cv_milli });
    }
    let client = |((model, number), mut windows): ((String, u32), Vec<Window>)| {
        windows.sort_by_key(|window| window.start);
        Client { model, number, windows, input: input.clone(), output: output.clone() }
    };
    Ok(found.into_iter().map(client).collect())
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// When it comes.
    pub at: SimTime,
    /// The place of its client.
    pub client: usize,
    /// Tokens of the prompt.
    pub input: u32,
    /// Tokens of the answer.
    pub output: u32,
}

/// Where a client stands.
#[derive(Debug, Clone)]
struct State {
    gaps: Draw,
    tokens: Draw,
    /// The window of its last request.
    window: usize,
}

/// The requests of all clients, in order; they end with the last window.
#[derive(Debug, Clone)]
pub struct RequestSource<'a> {
    clients: &'a [Client],
    states: Vec<State>,
    next: BinaryHeap<Reverse<(SimTime, usize)>>,
}

impl<'a> RequestSource<'a> {
    /// The requests of `clients`, from a seed.
    /// # Errors
    /// If the windows of a client are not in order.
    pub fn new(clients: &'a [Client], seed: u64) -> Result<Self, Error> {
        if clients.iter().any(|client| !client.windows.is_sorted_by_key(|window| window.start)) {
            return Err(Error { what: "windows of a client", want: "in order" });
        }
        let mut source = Self { clients, states: Vec::new(), next: BinaryHeap::new() };
        for place in 0..clients.len() {
            let id = u64::try_from(place).unwrap_or(u64::MAX);
            let (gaps, tokens) = (Draw::of(seed, &[0x6761, id]), Draw::of(seed, &[0x746f, id]));
            source.states.push(State { gaps, tokens, window: 0 });
            source.plan(place, SimTime(0));
        }
        Ok(source)
    }

    fn plan(&mut self, place: usize, from: SimTime) {
        let (Some(client), Some(state)) = (self.clients.get(place), self.states.get_mut(place)) else { return };
        let windows = &client.windows;
        let mut window = state.window;
        while windows.get(window + 1).is_some_and(|next| next.start <= from) {
            window += 1;
        }
        let cv = windows.get(window).map_or(1.0, |window| f64::from(window.cv_milli) / 1000.0);
        // A gap of 1 on a clock that counts requests.
        let gap = state.gaps.gamma(cv) * 1e15;
        let moment = advance(from.0, gap, |at| {
            while windows.get(window + 1).is_some_and(|next| next.start.0 <= at) {
                window += 1;
            }
            rate(windows, window, at)
        });
        state.window = window;
        if let Some(at) = moment {
            self.next.push(Reverse((SimTime(at), place)));
        }
    }
}

/// Requests per million seconds at a moment, and until when; beyond the last window 0 for ever.
fn rate(windows: &[Window], place: usize, at: u64) -> (f64, u64) {
    let Some(window) = windows.get(place) else { return (0.0, u64::MAX) };
    if at < window.start.0 {
        return (0.0, window.start.0);
    }
    let next = windows.get(place + 1).map_or(u64::MAX, |next| next.start.0);
    let end = window.start.after(WINDOW).0.min(next);
    if at < end { (dh_units::real(window.per_million_s), end) } else { (0.0, next) }
}

impl Iterator for RequestSource<'_> {
    type Item = Arrived;

    fn next(&mut self) -> Option<Arrived> {
        let Reverse((at, place)) = self.next.pop()?;
        let client = self.clients.get(place)?;
        let state = self.states.get_mut(place)?;
        let (input, output) = (client.input.draw(&mut state.tokens), client.output.draw(&mut state.tokens));
        self.plan(place, at);
        Some(Arrived { at, client: place, input, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32, windows: &[(u64, u64, u32)]) -> Client {
        let window = |(n, per_million_s, cv_milli): &(u64, u64, u32)| Window {
            start: SimTime(n * WINDOW.0),
            per_million_s: *per_million_s,
            cv_milli: *cv_milli,
        };
        Client {
            model: "m".to_owned(),
            number,
            windows: windows.iter().map(window).collect(),
            input: Tokens::LogNormal { median: 800, sigma: 1.0, most: 8_000 },
            output: Tokens::Fixed(100),
        }
    }

    #[test]
    fn each_window_has_its_rate_and_gaps_between_windows_none() {
        // 20 a second, 2 a second, nothing, 10 a second.
        let all = [client(0, &[(0, 20_000_000, 1000), (1, 2_000_000, 500), (3, 10_000_000, 3000)])];
        let mut counts = [0_u32; 5];
        for request in RequestSource::new(&all, 3).unwrap() {
            counts[usize::try_from(request.at.0 / WINDOW.0).unwrap()] += 1;
            assert!((1..=8_000).contains(&request.input) && request.output == 100);
        }
        assert!((11_500..12_500).contains(&counts[0]), "{counts:?}");
        assert!((1_100..1_300).contains(&counts[1]), "{counts:?}");
        assert_eq!((counts[2], counts[4]), (0, 0));
        assert!((5_000..7_000).contains(&counts[3]), "{counts:?}");
    }

    #[test]
    fn requests_come_in_order_and_a_client_more_changes_no_other() {
        let two = [client(0, &[(0, 5_000_000, 2000)]), client(1, &[(0, 1_000_000, 1000)])];
        let all: Vec<Arrived> = RequestSource::new(&two, 3).unwrap().collect();
        assert!(all.is_sorted_by_key(|request| request.at));
        let alone: Vec<Arrived> = RequestSource::new(&two[..1], 3).unwrap().collect();
        let first: Vec<Arrived> = all.into_iter().filter(|request| request.client == 0).collect();
        assert_eq!(alone, first);
    }

    #[test]
    fn published_rates_become_clients() {
        let rate = |client, start| {
            Ok::<_, ()>(Rate { model: "m".to_owned(), client, start: SimTime(start), per_million_s: 1, cv_milli: 1 })
        };
        let found = clients([rate(2, 9), rate(1, 5), rate(2, 3)].into_iter(), &Tokens::Fixed(1), &Tokens::Fixed(1));
        let starts: Vec<Vec<u64>> =
            found.unwrap().iter().map(|client| client.windows.iter().map(|w| w.start.0).collect()).collect();
        assert_eq!(starts, [vec![5], vec![3, 9]]);
    }
}
