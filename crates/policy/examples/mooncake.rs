//! Routing policies on a published trace of prompts with shared beginnings: hits of the engines' caches, and balance.
//!
//! ```text
//! cargo run --release -p dh-policy --example mooncake -- mooncake_conversation.csv.gz [engines] [blocks] [microseconds]
//! ```
//!
//! Engines keep the last BLOCKS blocks of 512 tokens, of prompts and one of each answer, as the stub engine does; prompts take
//! them so many MICROSECONDS (50) a token beyond what is cached, one after the other, and answers 20 milliseconds a token. What was cached the
//! gateway hears with the first token. The last line is one engine with the caches of all. Load at the gateway is what it cannot but know: tokens that it sent
//! and that were not answered. *Imbalance* is the largest sum of computed tokens of an engine over the mean.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "an example prints, and stops at what it cannot read")]
#![expect(clippy::disallowed_methods, reason = "an example reads a file")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::Read as _;

use dh_policy::routing::chain::{Link, digest_of};
use dh_policy::routing::index::{Believed, Held, PrefixIndex};
use dh_policy::routing::{Ask, Candidate, POLICIES, Route, View};

const BLOCK: u64 = 512;
/// Of a token.
const BYTES: u64 = 4;
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
        let input: u64 = cells[1].parse().unwrap();
        let mut links: Vec<Link> = links.collect();
        // Only whole blocks are cached.
        links.truncate(usize::try_from(input / BLOCK).unwrap());
        let seconds: f64 = cells[0].parse().unwrap();
        let at = std::time::Duration::from_secs_f64(seconds).as_nanos().try_into().unwrap();
        Request { at, input, output: cells[2].parse().unwrap(), links }
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
        let answer = digest_of(u64::MAX, &self.clock.to_le_bytes());
        for digest in std::iter::once(answer).chain(links.iter().rev().map(|link| link.digest)) {
            self.clock += 1;
            if let Some(age) = self.blocks.insert(digest, self.clock) {
                self.ages.remove(&age);
            }
            self.ages.insert(self.clock, digest);
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
    /// Of the request with this number, of which so many tokens were cached.
    Prompt(usize, u64),
    Answer,
}

/// How much the engines are, and how fast.
#[derive(Clone, Copy)]
struct Hall {
    engines: usize,
    room: usize,
    prefill_ns: u64,
}

struct Outcome {
    hits: f64,
    imbalance: f64,
    ttft_ms: Vec<u64>,
}

fn play(policy: &dyn Route, requests: &[Request], hall: Hall) -> Outcome {
    let Hall { engines: count, room, prefill_ns } = hall;
    let mut engines = vec![Engine::default(); count];
    let mut index = PrefixIndex::new(1 << 18);
    let mut ends: BinaryHeap<Reverse<(u64, usize, Part, u64)>> = BinaryHeap::new();
    let mut held: Vec<Held> = Vec::new();
    let mut believed: Vec<Believed> = Vec::new();
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
                Part::Prompt(request, cached) => {
                    engines[engine].queued -= tokens;
                    index.learn(engine, believed[request], cached * BYTES);
                }
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
        believed.push(index.computes(&request.links, request.input * BYTES, picked, held[picked]));
        asked += request.input;
        hit += cached;
        engine.computed += request.input - cached;
        let start = engine.free_at.max(request.at);
        engine.free_at = start + (request.input - cached) * prefill_ns;
        ttft_ms.push((engine.free_at - request.at) / 1_000_000);
        // The gateway's own estimate, not what the engine finds.
        let prompt = request.input.saturating_sub(held[picked].bytes / BYTES);
        engine.tokens += prompt + request.output;
        engine.queued += prompt;
        engine.in_flight += 1;
        ends.push(Reverse((engine.free_at, picked, Part::Prompt(believed.len() - 1, cached), prompt)));
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
    let hall = Hall { engines: number(2, 8), room: number(3, 4_000), prefill_ns: number(4, 50) as u64 * 1_000 };
    println!("{} requests, {} engines of {} blocks", requests.len(), hall.engines, hall.room);
    println!(
        "{:<16} {:>7} {:>10} {:>12} {:>12} {:>12}",
        "policy", "hits", "imbalance", "ttft mean ms", "p50 ms", "p99 ms"
    );
    let print = |name: &str, Outcome { hits, imbalance, ttft_ms }: &Outcome| {
        let mean = ttft_ms.iter().sum::<u64>() / ttft_ms.len() as u64;
        let at = |part: usize| ttft_ms[(ttft_ms.len() - 1) * part / 100];
        println!("{name:<16} {:>6.1}% {imbalance:>10.3} {mean:>12} {:>12} {:>12}", hits * 100.0, at(50), at(99));
    };
    for policy in POLICIES {
        print(policy.name(), &play(*policy, &requests, hall));
    }
    let count = hall.engines as u64;
    let one = Hall { engines: 1, room: hall.room * hall.engines, prefill_ns: hall.prefill_ns / count };
    print("(one for all)", &play(POLICIES[0], &requests, one));
}
