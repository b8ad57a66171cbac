//! The published Muri traces through the hall: every policy that the scheduler itself can be told to follow, beside what is
//! published.
//!
//! `cargo run --release -p dh-twin --example muri -- FOLDER [RESTART_S [TRACE [POLICY]]]`: FOLDER holds
//! `muri_philly_trace*.csv` (unpacked) and `muri_published_results.csv`, `RESTART_S` is what each stop and start costs a
//! job (10 if it is not given), TRACE one of them, POLICY a policy with `known` or `unknown` before a colon.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example reads files and prints")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use dh_core::time::Span;
use dh_twin::kernel::Costs;
use dh_twin::play::{Lengths, Rules, Scene, Wanted, play};
use dh_twin::trace::{Options, by_name, read};

/// Policy, what it is told, and the published ones beside it.
const ROWS: &[(&str, Lengths, &[&str])] = &[
    ("shortest-remaining-service+any", Lengths::Exact, &["SRSF"]),
    ("shortest-remaining-service+rounds", Lengths::Exact, &["SRSF"]),
    ("shortest-remaining-service+rounds+interleave", Lengths::Exact, &["Muri_S"]),
    ("gittins+any", Lengths::Unknown, &["Tiresias_L", "themis"]),
    ("gittins+rounds", Lengths::Unknown, &["Tiresias_L", "themis"]),
    ("gittins+rounds+interleave", Lengths::Unknown, &["Muri_L"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().ok_or("muri FOLDER [RESTART_S [TRACE [POLICY]]]")?;
    let restart = arguments.get(1).map_or(Ok(10), |text| text.parse())?;
    let published = published(&std::fs::read_to_string(format!("{folder}/muri_published_results.csv"))?);
    let costs = Costs { restart: Span::from_secs(restart), ..Costs::default() };
    let all = ["trace1", "trace3", "trace4", "trace1_pr", "trace3_pr", "trace4_pr"];
    println!("trace | policy | against | mean JCT, h: ours theirs ratio | makespan: ours theirs ratio | stops | s");
    for name in all.into_iter().filter(|name| arguments.get(2).is_none_or(|only| only == name || only == "all")) {
        let text = std::fs::read_to_string(format!("{folder}/muri_philly_{name}.csv"))?;
        let trace =
            read(by_name("muri").ok_or("no such format")?, &text, Options { file: name, ..Options::default() })?;
        let scene = Scene::of_trace(&trace, costs)?;
        let mine = arguments.get(3).map(|text| match text.split_once(':') {
            Some(("known", policy)) => (policy, Lengths::Exact, &["SRSF", "Muri_S"][..]),
            Some((_, policy)) => (policy, Lengths::Unknown, &["Tiresias_L", "themis", "Muri_L"][..]),
            None => (text.as_str(), Lengths::Exact, &["SRSF"][..]),
        });
        for (policy, lengths, theirs) in mine.as_ref().map_or(ROWS, std::slice::from_ref) {
            let begun = Instant::now();
            let ran = play(&scene, &Rules::named(policy, *lengths)?, &Wanted::default(), &mut ())?;
            let took = begun.elapsed().as_secs_f64();
            let outcome = &ran.outcome;
            let mean = outcome.jct.map_or(f64::NAN, |times| times.mean_s / 3600.0);
            let makespan = outcome.makespan_s / 3600.0;
            for other in *theirs {
                let of = |metric: &str| published.get(&format!("{name},{other},{metric}")).copied().unwrap_or(f64::NAN);
                let (jct, span) = (of("avg_jct_s") / 3600.0, of("makespan_s") / 3600.0);
                println!(
                    "{name} | {policy} | {other} | {mean:.1} {jct:.1} {:.3} | {makespan:.0} {span:.0} {:.3} | {} | {took:.1}",
                    mean / jct,
                    makespan / span,
                    outcome.stops.preemptions,
                );
            }
        }
    }
    Ok(())
}

/// Seconds by trace, policy and metric.
fn published(text: &str) -> BTreeMap<String, f64> {
    let rows = text.lines().skip(1).filter_map(|line| line.rsplit_once(','));
    rows.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect()
}
