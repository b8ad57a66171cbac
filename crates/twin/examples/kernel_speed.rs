//! How fast the kernel plays: jobs of mixed sizes on 100,000 accelerators. Arguments: jobs (10,000,000), load in percent (80),
//! order (fifo), backfill (none, any, easy).
#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a measurement for people"
)]

use std::time::Instant;

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_hall::scheduler::{Backfill, Gang, Grace, Scheduler, Settings, Submission};
use dh_policy::fleet::NodeFacts;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};
use dh_twin::kernel::{Arrival, Fate, Fault, Kernel, Profile, Work};

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |at: usize| std::env::args().nth(at);
    let jobs: u64 = argument(1).map_or(Ok(10_000_000), |text| text.parse())?;
    let load: u64 = argument(2).map_or(Ok(80), |text| text.parse())?;
    let node = |number: u32| NodeFacts {
        class: 0,
        accelerators: 8,
        cpu_milli: 128_000,
        memory_mib: 2_000_000,
        path: vec![number / 512, number / 16],
    };
    let settings = Settings {
        levels: vec!["block".to_owned(), "rack".to_owned()],
        nodes: (0..12_500).map(node).collect(),
        order: argument(3).unwrap_or_else(|| "fifo".to_owned()),
        backfill: match argument(4).as_deref() {
            Some("easy") => Backfill::Easy,
            Some("any") => Backfill::Any,
            _ => Backfill::None,
        },
        ..Settings::default()
    };
    // Accelerators and weights as in Philly and Helios: most jobs are small, most time is in large ones.
    let sizes = [(1_u32, 1_u8, 60_u64), (1, 2, 12), (1, 4, 10), (1, 8, 12), (2, 8, 3), (4, 8, 2), (16, 8, 1)];
    let total: u64 = sizes.iter().map(|(.., weight)| weight).sum();
    let mean_size: u64 = sizes.iter().map(|(ranks, per, weight)| u64::from(*ranks) * u64::from(*per) * weight).sum();
    // Lengths from one minute to about two hours, mean 45 minutes.
    let (shortest, longest) = (60_u64, 5_340_u64);
    let mean_length = u64::midpoint(shortest, longest);
    let gap = mean_length * 1_000_000_000 * mean_size / total * 100 / load / 100_000;
    let mut dice = 7_u64;
    let mut at = 0_u64;
    let arrivals = (1..=jobs).map(move |job| {
        at += splitmix(&mut dice) % (2 * gap);
        let mut pick = splitmix(&mut dice) % total;
        let size = sizes.iter().find(|(.., weight)| {
            let here = pick < *weight;
            pick = pick.saturating_sub(*weight);
            here
        });
        let (ranks, accelerators, _) = size.copied().unwrap_or((1, 1, 1));
        let length = Span::from_secs(shortest + splitmix(&mut dice) % (longest - shortest));
        let rank = Request { cpu_milli: 4000, memory_mib: 32_000, accelerators, milli: WHOLE, models: 0 };
        let need = Need { ranks, rank, within: 0, rails: Rails::Any };
        let gang =
            Gang { need, least_ranks: ranks, dataset: None, speeds: 0, rank_watts: 0, grace: Grace::Preemptible };
        let submission = Submission {
            job: JobId(job),
            gang,
            queue: 0,
            priority: (splitmix(&mut dice) % 2) as i32,
            length: Some(length),
            attained: Span(0),
            since: SimTime(at),
            deadline: None,
            kind: 0,
        };
        Arrival { at: SimTime(at), submission, work: Work { length, profile: 0, fate: Fate::Completed } }
    });
    let began = Instant::now();
    let scheduler = Scheduler::new(settings)?;
    let mut kernel = Kernel::new(scheduler, arrivals, std::iter::empty::<Fault>(), vec![Profile::default()]);
    let stopped = kernel.run(SimTime(u64::MAX), &mut ());
    let wall = began.elapsed().as_secs_f64();
    println!(
        "{jobs} jobs, {} events, {:.1} days, {stopped:?}, digest {:016x}: {wall:.2} s, {:.2} us a job",
        kernel.events(),
        kernel.now().0 as f64 / 86_400e9,
        kernel.scheduler().digest(),
        wall * 1e6 / jobs as f64
    );
    Ok(())
}
