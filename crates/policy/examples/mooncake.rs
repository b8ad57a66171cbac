//! Routing policies on a published trace of prompts with shared beginnings: hits of the engines' caches, and balance.
//!
//! ```text
//! cargo run --release -p dh-policy --example mooncake -- mooncake_conversation.csv.gz [engines] [blocks]
//! ```
//!
//! Engines keep the last BLOCKS blocks of 512 tokens; prompts take them 50 microseconds a token beyond what is cached, one
//! after the other, and answers 20 milliseconds a token. Load at the gateway is what it cannot but know: tokens that it sent
//! and that were not answered. *Imbalance* is the largest sum of computed tokens of an engine over the mean.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "an example prints, and stops at what it cannot read")]
#![expect(clippy::disallowed_methods, reason = "an example reads a file")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::Read as _;

use dh_policy::routing::chain::{Link, digest_of};
use dh_policy::routing::index::{Held, PrefixIndex};
use dh_policy::routing::{Ask, Candidate, POLICIES, Route, View};

const BLOCK: u64 = 512;
/// Of a token.
const BYTES: u64 = 4;
const PREFILL_NS: u64 = 50_000;
const DECODE_NS: u64 = 20_000_000;

struct Request {
    at: u64,
    input: u64,
    output: u64,
    links: Vec<Link>,
}

fn read(path: &str) -> Vec<Request> {
    let mut text = String::new();
    let bytes = std::fs::read(path).unwrap();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let mut digest = 0;
        let blocks = cells[3].split_ascii_whitespace().zip(1..);
        let links = blocks.map(|(block, number): (&str, u64)| {
            digest = digest_of(digest, block.as_bytes());
            Link { digest, end: number * BLOCK * BYTES }
        });
        let seconds: f64 = cells[0].parse().unwrap();
        let at = std::time::Duration::from_secs_f64(seconds).as_nanos().try_into().unwrap();
        Request { at, input: cells[1].parse().unwrap(), output: cells[2].parse().unwrap(), links: links.collect() }
    };
    text.lines().skip(1).map(row).collect()
}

#[derive(Default, Clone)]
struct Engine {
    /// Block to when it was last used, and back.
    blocks: BTreeMap<u64, u64>,
    ages: BTreeMap<u64, u64>,
    clock: u64,
    free_at: u64,
    computed: u64,
    tokens: u64,
    queued: u64,
    in_flight: u32,
}

impl Engine {
    fn serve(&mut self, links: &[Link], room: usize) -> u64 {
        let cached = links.iter().take_while(|link| self.blocks.contains_key(&link.digest)).count();
        for link in links.iter().rev() {
            self.clock += 1;
            if let Some(age) = self.blocks.insert(link.digest, self.clock) {
                self.ages.remove(&age);
            }
            self.ages.insert(self.clock, link.digest);
        }
        while self.blocks.len() > room {
            let (_, oldest) = self.ages.pop_first().unwrap();
            self.blocks.remove(&oldest);
        }
        cached as u64 * BLOCK
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Prompt,
    Answer,
}

struct Outcome {
    hits: f64,
    imbalance: f64,
    ttft_ms: Vec<u64>,
}

fn play(policy: &dyn Route, requests: &[Request], count: usize, room: usize) -> Outcome {
    let mut engines = vec![Engine::default(); count];
    let mut index = PrefixIndex::new(1 << 18);
    let mut ends: BinaryHeap<Reverse<(u64, usize, Part, u64)>> = BinaryHeap::new();
    let mut held: Vec<Held> = Vec::new();
    let (mut asked, mut hit) = (0, 0);
    let mut ttft_ms = Vec::new();
    for (turn, request) in (0..).zip(requests) {
        while let Some(Reverse((end, engine, part, tokens))) = ends.peek().copied() {
            if end > request.at {
                break;
            }
            ends.pop();
            engines[engine].tokens -= tokens;
            match part {
                Part::Prompt => engines[engine].queued -= tokens,
                Part::Answer => engines[engine].in_flight -= 1,
            }
        }
        index.look(&request.links, count, &mut held);
        let candidates: Vec<Candidate> = (engines.iter().zip(&held).enumerate())
            .map(|(place, (engine, held))| Candidate {
                engine: place,
                identity: digest_of(1, &place.to_le_bytes()),
                in_flight: engine.in_flight,
                tokens: engine.tokens,
                queued: engine.queued,
                recent: held.recent / BYTES,
                cached: held.bytes / BYTES,
                ..Candidate::default()
            })
            .collect();
        let prefix =
            request.links.get(..4.min(request.links.len())).and_then(<[Link]>::last).map_or(turn, |link| link.digest);
        let session = Some(request.links.get(1).map_or(turn, |link| link.digest));
        let ask = Ask { turn, seed: turn, prompt: request.input, answer: request.output, prefix, session };
        let picked = policy.pick(View { ask, candidates: &candidates }).unwrap().engine;
        let engine = &mut engines[picked];
        let cached = engine.serve(&request.links, room).min(request.input);
        index.computes(&request.links, picked, held[picked]);
        index.learn(picked, held[picked], cached * BYTES);
        asked += request.input;
        hit += cached;
        engine.computed += request.input - cached;
        let start = engine.free_at.max(request.at);
        engine.free_at = start + (request.input - cached) * PREFILL_NS;
        ttft_ms.push((engine.free_at - request.at) / 1_000_000);
        // The gateway's own estimate, not what the engine finds.
        let prompt = request.input.saturating_sub(held[picked].bytes / BYTES);
        engine.tokens += prompt + request.output;
        engine.queued += prompt;
        engine.in_flight += 1;
        ends.push(Reverse((engine.free_at, picked, Part::Prompt, prompt)));
        ends.push(Reverse((engine.free_at + request.output * DECODE_NS, picked, Part::Answer, request.output)));
    }
    ttft_ms.sort_unstable();
    let computed = engines.iter().map(|engine| engine.computed);
    let mean = dh_units::real(computed.clone().sum::<u64>()) / dh_units::real(count as u64);
    let imbalance = dh_units::real(computed.max().unwrap()) / mean;
    Outcome { hits: dh_units::real(hit) / dh_units::real(asked), imbalance, ttft_ms }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let requests = read(&arguments[1]);
    let number = |place: usize, default: usize| arguments.get(place).map_or(default, |text| text.parse().unwrap());
    let (engines, room) = (number(2, 8), number(3, 4_000));
    println!("{} requests, {engines} engines of {room} blocks", requests.len());
    println!(
        "{:<16} {:>7} {:>10} {:>12} {:>12} {:>12}",
        "policy", "hits", "imbalance", "ttft mean ms", "p50 ms", "p99 ms"
    );
    for policy in POLICIES {
        let Outcome { hits, imbalance, ttft_ms } = play(*policy, &requests, engines, room);
        let mean = ttft_ms.iter().sum::<u64>() / ttft_ms.len() as u64;
        let at = |part: usize| ttft_ms[(ttft_ms.len() - 1) * part / 100];
        println!(
            "{:<16} {:>6.1}% {:>10.3} {:>12} {:>12} {:>12}",
            policy.name(),
            hits * 100.0,
            imbalance,
            mean,
            at(50),
            at(99)
        );
    }
}
