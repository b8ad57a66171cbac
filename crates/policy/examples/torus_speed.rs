//! Time of one placement of 512 vertices on a 16 x 16 x 16 torus, with all rotations and folds: p50, p99 and worst, in
//! nanoseconds, over half-full random states and states in which nothing fits. No arguments. The time of a state is the
//! least of five runs, so that what else the machine does is left out.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example prints, and reads the clock")]

use std::time::Instant;

use dh_policy::torus::{Bad, Choice, Links, Request, Torus};

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Boxes of several sizes at random places until `fill` vertices are busy, or the given vertices one by one.
fn state(seed: &mut u64, fill: u32, links: Links, clumps: &[[u16; 3]]) -> Result<Torus, Bad> {
    let mut torus = Torus::new([16; 3], links)?;
    let mut overlaps = 0;
    while overlaps < 20_000 && torus.vertices() - torus.free() < fill {
        let [p, q, r] = clumps[usize::try_from(next(seed) % clumps.len() as u64).unwrap_or(0)].map(u32::from);
        let from = u32::try_from(next(seed) % 4096).unwrap_or(0);
        let at = [from / 256, from / 16 % 16, from % 16];
        let cells: Vec<u32> = (0..p * q * r)
            .map(|c| ((at[0] + c / r / q) % 16 * 16 + (at[1] + c / r % q) % 16) * 16 + (at[2] + c % r) % 16)
            .collect();
        // Overlaps are refused: then another place is tried.
        overlaps += u32::from(torus.take(&cells).is_err());
    }
    Ok(torus)
}

/// Jobs placed snugly one after another until nothing more fits, then ended in random order down to half.
fn lived_in(seed: &mut u64, links: Links) -> Result<Torus, Bad> {
    let mut torus = Torus::new([16; 3], links)?;
    let mut jobs = Vec::new();
    let shapes = [[4, 4, 4], [4, 4, 8], [4, 8, 8], [8, 8, 8], [2, 4, 4]];
    for _ in 0..200 {
        let shape = shapes[usize::try_from(next(seed) % 5).unwrap_or(0)];
        if let Ok(placement) = torus.place(&Request::new(shape), Choice::Snug)
            && torus.take(&placement.vertices).is_ok()
        {
            jobs.push(placement.vertices);
        }
    }
    while torus.free() < 2048 && !jobs.is_empty() {
        let ended = jobs.swap_remove(usize::try_from(next(seed) % jobs.len() as u64).unwrap_or(0));
        if torus.release(&ended).is_err() {
            break;
        }
    }
    Ok(torus)
}

fn report(name: &str, torus: &[Torus], shapes: &[[u16; 3]], choice: Choice) {
    for shape in shapes {
        let request = Request::new(*shape);
        let mut times = Vec::new();
        let mut fits = 0;
        for torus in torus {
            let mut least = u128::MAX;
            for _ in 0..5 {
                let start = Instant::now();
                let placed = std::hint::black_box(torus.place(&request, choice));
                least = least.min(start.elapsed().as_nanos());
                fits += u32::from(placed.is_ok());
            }
            times.push(least);
        }
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        println!(
            "{name:<34} {shape:?}: fits {}/{}, p50 {} p99 {} worst {} ns",
            fits / 5,
            torus.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}

fn main() -> Result<(), Bad> {
    let mut seed = 1;
    let shapes = [[8, 8, 8], [4, 8, 16], [1, 16, 32], [1, 1, 512]];
    let coarse = [[4, 4, 4], [4, 4, 8], [8, 8, 4], [8, 8, 8], [2, 4, 4]];
    for (links, name) in [(Links::Fixed, "fixed"), (Links::Optical { cube: 4 }, "optical")] {
        let mut sets = Vec::new();
        for (kind, fill, clumps) in [
            ("half full of boxes", 2048, &coarse[..]),
            ("half full, one by one: no fit", 2048, &[[1, 1, 1]]),
            ("empty", 0, &[[1, 1, 1]]),
        ] {
            let made: Result<Vec<Torus>, Bad> = (0..500).map(|_| state(&mut seed, fill, links, clumps)).collect();
            sets.push((format!("{name}, {kind}"), made?));
        }
        let lived: Result<Vec<Torus>, Bad> = (0..500).map(|_| lived_in(&mut seed, links)).collect();
        sets.push((format!("{name}, half full of jobs"), lived?));
        for (name, set) in &sets {
            report(name, set, &shapes, Choice::Snug);
        }
    }
    Ok(())
}
