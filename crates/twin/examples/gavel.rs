//! A trace at the rates of Gavel's table of throughputs: placements that know speeds and those that do not, and pairs that share.
//!
//! `cargo run --release -p dh-twin --example gavel -- TABLE TRACE`: both unpacked; TABLE is `gavel_throughputs.csv`, TRACE one
//! that brings its cluster, such as `muri_philly_trace3.csv`. Nodes are dealt out to the table's accelerators in equal shares;
//! a second hall has the first class alone that is named by a third argument (`v100`).
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example reads files and prints")]

use std::error::Error;

use dh_core::time::Span;
use dh_twin::kernel::Costs;
use dh_twin::play::{Lengths, Rules, Scene, Wanted, play};
use dh_twin::trace::{Options, Throughputs, read, sniff};

const POLICIES: [&str; 6] = [
    "fifo+easy+best-fit",
    "fifo+easy+heterogeneity",
    "shortest-remaining-service+best",
    "shortest-remaining-service+heterogeneity",
    "shortest-remaining-service+rounds",
    "shortest-remaining-service+rounds+interleave",
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [table, file, ..] = arguments.as_slice() else { return Err("gavel TABLE TRACE [CLASS]".into()) };
    let table = Throughputs::read(&std::fs::read_to_string(table)?, table)?;
    let text = std::fs::read_to_string(file)?;
    let costs = Costs { restart: Span::from_secs(10), ..Costs::default() };
    println!("hall | policy | mean JCT, h | makespan, h | utilisation | stops");
    let halls = std::iter::once(None).chain(arguments.get(2).map(Some));
    for class in halls {
        let mut trace = read(sniff(&text, file)?, &text, Options { file, ..Options::default() })?;
        if let Some(class) = class {
            trace.cluster.classes = vec![class.clone()];
        }
        trace.rate(&table);
        let scene = Scene::of_trace(&trace, costs)?;
        for policy in POLICIES {
            let ran = play(&scene, &Rules::named(policy, Lengths::Exact)?, &Wanted::default(), &mut ())?;
            let outcome = &ran.outcome;
            println!(
                "{} | {policy} | {:.2} | {:.0} | {:.3} | {}",
                trace.cluster.classes.join(" "),
                outcome.jct.map_or(f64::NAN, |times| times.mean_s / 3600.0),
                outcome.makespan_s / 3600.0,
                outcome.utilisation.unwrap_or(f64::NAN),
                outcome.stops.preemptions,
            );
        }
    }
    Ok(())
}
