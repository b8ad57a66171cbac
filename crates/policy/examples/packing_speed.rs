//! Decisions of the packer on a large hall, half full: `packing_speed [NODES] [PAIRS] [POLICY] [BITS]`.
//!
//! Nodes of eight accelerators in racks of sixteen; requests for a quarter to eight accelerators, with processor and memory in
//! three sizes each. Each pair is a request placed and another, at random, ended. Prints pairs a second, and the spread of the
//! time of a place alone.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example reads the clock and prints")]

use std::time::Instant;

use dh_policy::packing::{Detail, Mix, Node, Packer, Place, Request, by_name};

/// Accelerators, thousandths of each, and how many of a hundred requests.
const SIZES: [(u8, u16, u32); 6] =
    [(1, 250, 15), (1, 500, 15), (1, 1000, 40), (2, 1000, 12), (4, 1000, 8), (8, 1000, 10)];

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// One request in a hundred of the mix, in order.
fn requests() -> Vec<Request> {
    let mut requests = Vec::new();
    for (accelerators, milli, count) in SIZES {
        let share = u32::from(accelerators) * u32::from(milli);
        for n in 0..count {
            // 8, 12 or 24 cores and 64, 128 or 240 GiB for each accelerator, of which a node has 24 and 256.
            let cpu = [8, 12, 24][usize::try_from(n % 3).unwrap_or(0)];
            let memory = [65_536, 131_072, 245_760][usize::try_from(n / 3 % 3).unwrap_or(0)];
            let (cpu_milli, memory_mib) = (cpu * share, memory * share / 1000);
            requests.push(Request { cpu_milli, memory_mib, accelerators, milli, models: 0 });
        }
    }
    requests
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (nodes, pairs) = (number(0, 12_500)?, number(1, 1_000_000)?);
    let policy = by_name(arguments.get(2).map_or("best", String::as_str)).ok_or("there is no such policy")?;
    let detail = match number(3, 2)? {
        0 => Detail::Exact,
        bits => Detail::Bits(u8::try_from(bits)?),
    };
    let mix = requests();
    let mut packer = Packer::seen(policy, Mix::of(mix.iter().copied()), detail);
    for _ in 0..nodes.div_ceil(16) {
        let rack = packer.open_rack();
        for _ in packer.nodes()..nodes.min(packer.nodes() + 16) {
            packer.add_in(Node::empty(192_000, 2_097_152, 0, 8), rack);
        }
    }
    let all = packer.free_milli();
    let mut seed = 7;
    let mut draw = |bound: usize| usize::try_from(splitmix(&mut seed)).unwrap_or(0) % bound;
    let mut running: Vec<Place> = Vec::new();
    while packer.free_milli() > all / 2 {
        running.extend(packer.place(&mix[draw(mix.len())]));
    }
    let mut spread = Vec::with_capacity(pairs);
    for pass in ["warming up", "each timed", "in all"] {
        let (mut placed, start, states) = (0_u64, Instant::now(), packer.states());
        for _ in 0..pairs {
            let request = mix[draw(mix.len())];
            packer.arrived(&request);
            let before = (pass == "each timed").then(Instant::now);
            let place = packer.place(&request);
            spread.extend(before.map(|before| before.elapsed().as_nanos()));
            let Some(place) = place else { continue };
            placed += 1;
            let ended = draw(running.len());
            packer.release(&std::mem::replace(&mut running[ended], place))?;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{pass}: {placed} placed and as many ended in {seconds:.3} s, {:.0} pairs/s, {} running, {} % free, {} states, {} of them new",
            f64::from(u32::try_from(placed)?) / seconds,
            running.len(),
            packer.free_milli() * 100 / all,
            packer.states(),
            packer.states().saturating_sub(states),
        );
    }
    spread.sort_unstable();
    let at = |permille: usize| spread[(spread.len() - 1) * permille / 1000];
    println!("a place: p50 {} ns, p99 {} ns, p99.9 {} ns, most {} ns", at(500), at(990), at(999), at(1000));
    Ok(())
}
