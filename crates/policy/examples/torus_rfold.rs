//! A 4,096-chip torus at saturation, after the protocol of `RFold` (arXiv 2510.03891): arrivals drawn from a mix of slice
//! shapes, FIFO without backfill, utilisation in percent of chip time and mean completion time, for each way to place.
//!
//! Arguments: the slice mix (`slice_id,topology,shape,chips,prob_pct`), the inter-arrival distribution (`iat_s,prob_pct`),
//! optionally the number of seeds (5), jobs (2000) and the mean duration in seconds (14400).
//! Assumption: durations are exponential with that mean and do not depend on the shape or on closed rings. A job that a
//! way can never place is refused there and counted; its chip time counts for nobody.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example reads files and prints")]

use std::collections::BTreeSet;
use std::error::Error;

use dh_policy::torus::{Choice, Links, Request, Shaping, Torus};

struct Job {
    shape: [u16; 3],
    arrives: u64,
    lasts: u64,
}

struct Outcome {
    used: f64,
    refused: usize,
    mean_completion: f64,
}

fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bits = u32::try_from((z ^ (z >> 31)) >> 33).unwrap_or(0);
    (f64::from(bits) + 0.5) / f64::from(1_u32 << 31)
}

fn draw<T: Copy>(weighted: &[(T, f64)], at: f64) -> Option<T> {
    let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    let mut left = at * total;
    weighted
        .iter()
        .find(|(_, weight)| {
            left -= weight;
            left <= 0.0
        })
        .or(weighted.last())
        .map(|(value, _)| *value)
}

fn milli(seconds: f64) -> u64 {
    u64::try_from(std::time::Duration::from_secs_f64(seconds).as_millis()).unwrap_or(u64::MAX)
}

fn seconds(milli: u64) -> f64 {
    std::time::Duration::from_millis(milli).as_secs_f64()
}

/// FIFO: the head of the queue waits until it fits.
fn run(jobs: &[Job], way: (Links, Shaping, Choice)) -> Result<Outcome, Box<dyn Error>> {
    let (links, shaping, choice) = way;
    let empty = Torus::new([16; 3], links)?;
    let mut torus = empty.clone();
    let mut running: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut held: Vec<Vec<u32>> = vec![Vec::new(); jobs.len()];
    let (mut now, mut busy, mut refused, mut done, mut completion) = (0, 0.0, 0, 0_u32, 0.0);
    // Measured until the last arrival starts to wait: after it the queue only drains.
    let end = jobs.last().map_or(0, |job| job.arrives);
    for (index, job) in jobs.iter().enumerate() {
        let request = Request { shaping, ..Request::new(job.shape) };
        if empty.place(&request, Choice::First).is_err() {
            refused += 1;
            continue;
        }
        now = job.arrives.max(now);
        loop {
            while let Some((ends, ended)) = running.first().copied().filter(|(ends, _)| *ends <= now) {
                running.remove(&(ends, ended));
                torus.release(&held[ended]).map_err(|refused| format!("{refused:?}"))?;
            }
            if let Ok(placement) = torus.place(&request, choice) {
                torus.take(&placement.vertices).map_err(|refused| format!("{refused:?}"))?;
                held[index] = placement.vertices;
                running.insert((now + job.lasts, index));
                let chips: u32 = job.shape.iter().map(|side| u32::from(*side)).product();
                let within = (now + job.lasts).min(end).saturating_sub(now);
                busy += f64::from(chips) * seconds(within);
                completion += seconds(now + job.lasts - job.arrives);
                done += 1;
                break;
            }
            now = running.first().ok_or("a job fits the empty torus and yet never starts")?.0;
        }
    }
    Ok(Outcome {
        used: 100.0 * busy / 4096.0 / seconds(end),
        refused,
        mean_completion: completion / f64::from(done.max(1)),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mix, gaps] = [0, 1].map(|at| arguments.get(at).map_or("", String::as_str));
    let number = |at: usize, other: u64| arguments.get(at).map_or(Ok(other), |text| text.parse());
    let (seeds, count, mean) = (number(2, 5)?, number(3, 2000)?, number(4, 14_400)?);
    let mut shapes = Vec::new();
    for line in std::fs::read_to_string(mix)?.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let sides: Result<Vec<u16>, _> = cells[2].split('x').map(str::parse).collect();
        let sides: [u16; 3] = sides?.try_into().map_err(|_| "a shape has three sides")?;
        shapes.push((sides, cells[4].parse::<f64>()?));
    }
    let mut waits = Vec::new();
    for line in std::fs::read_to_string(gaps)?.lines().skip(1) {
        let (gap, weight) = line.split_once(',').ok_or("two columns")?;
        waits.push((gap.parse::<f64>()?, weight.parse::<f64>()?));
    }
    let mean_seconds = seconds(mean.saturating_mul(1000));
    let optical = Links::Optical { cube: 4 };
    let ways = [
        ("first fit, as given", (Links::Fixed, Shaping::AsGiven, Choice::First)),
        ("first fit, rotations", (Links::Fixed, Shaping::Rotated, Choice::First)),
        ("first fit, folds", (Links::Fixed, Shaping::Folded, Choice::First)),
        ("snug, as given", (Links::Fixed, Shaping::AsGiven, Choice::Snug)),
        ("snug, rotations", (Links::Fixed, Shaping::Rotated, Choice::Snug)),
        ("snug, folds", (Links::Fixed, Shaping::Folded, Choice::Snug)),
        ("optical, first fit", (optical, Shaping::Folded, Choice::First)),
        ("optical, snug", (optical, Shaping::Folded, Choice::Snug)),
    ];
    for (name, way) in ways {
        let mut line = format!("{name:<24}");
        let (mut used, mut mean_completion, mut refused) = (0.0, 0.0, 0);
        for seed in 0..seeds {
            let mut state = seed * 1_000_003;
            let mut arrives = 0;
            let mut jobs = Vec::new();
            for _ in 0..count {
                arrives += milli(draw(&waits, unit(&mut state)).ok_or("no gaps")?);
                let shape = draw(&shapes, unit(&mut state)).ok_or("no shapes")?;
                jobs.push(Job { shape, arrives, lasts: milli(-mean_seconds * unit(&mut state).ln()) });
            }
            let outcome = run(&jobs, way)?;
            line = format!("{line} {:5.1}", outcome.used);
            used += outcome.used;
            mean_completion += outcome.mean_completion;
            refused += outcome.refused;
        }
        let of = f64::from(u32::try_from(seeds)?);
        println!("{line}  mean {:5.1} %, completion {:9.0} s, refused {refused}", used / of, mean_completion / of);
    }
    Ok(())
}
