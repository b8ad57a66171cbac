//! The Crux trace on groups of nodes joined by rails: how many gangs start inside one group whenever that is possible.
//!
//! `cargo run --release -p dh-twin --example crux -- FILE [NODES_PER_GROUP ...]`: FILE is the trace, unpacked; groups of 8, 16
//! and 32 nodes of eight accelerators if none are named. Every gang asks for the same accelerators on all of its nodes.
//! Jobs come as in the trace, and at double its rate, where the hall is crowded. What was possible is judged at each start by
//! counting what is free, node by node, which is exact (a test holds it against an exhaustive search).
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example reads a file and prints")]

use std::error::Error;

use dh_core::SimTime;
use dh_policy::placement::Rails;
use dh_twin::kernel::Costs;
use dh_twin::play::{Lengths, Rules, Scene, Wanted, play};
use dh_twin::trace::{Options, by_name, read};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments.first().ok_or("crux FILE [NODES_PER_GROUP ...]")?;
    let mut groups: Vec<u32> = arguments.iter().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    if groups.is_empty() {
        groups = vec![8, 16, 32];
    }
    let text = std::fs::read_to_string(file)?;
    let trace = read(by_name("crux").ok_or("no such format")?, &text, Options { file, ..Options::default() })?;
    println!(
        "nodes of a group | rate | policy | gangs: starts, inside, missed, share | up to 64: the same | allocation | JCT, h"
    );
    for group in groups {
        for rate in [1_u64, 2, 4] {
            let mut scene = Scene::of_trace(&trace, Costs::default())?;
            for (node, number) in scene.base.nodes.iter_mut().zip(0_u32..) {
                node.path = vec![number / group.max(1)];
            }
            for job in &mut scene.jobs {
                job.at = SimTime(job.at.0 / rate);
                job.submission.since = job.at;
                job.submission.gang.need.rails = Rails::Aligned;
            }
            for policy in ["best", "best+any", "shortest-remaining-service+rounds", "best-fit"] {
                let ran = play(&scene, &Rules::named(policy, Lengths::Exact)?, &Wanted::default(), &mut ())?;
                let Some(found) = ran.outcome.locality.last() else { continue };
                let show = |one: dh_twin::measure::Inside| {
                    let share = one.share().map_or(f64::NAN, |share| share * 100.0);
                    format!("{} {} {} {share:.1} %", one.starts, one.inside, one.missed)
                };
                println!(
                    "{group} | {rate} | {policy} | {} | {} | {:.2} | {:.1}",
                    show(found.gangs),
                    show(found.up_to_64),
                    ran.outcome.allocation.unwrap_or(f64::NAN),
                    ran.outcome.jct.map_or(f64::NAN, |times| times.mean_s / 3600.0),
                );
            }
        }
    }
    Ok(())
}
