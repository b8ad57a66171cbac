//! Plays the published Muri traces through the orders and the sharing of this crate, beside what is published.
//!
//! `cargo run --release -p dh-policy --example muri -- FOLDER [COST [TRACE [POLICY]]]`: COST is `published` or `free`, TRACE
//! one of them, POLICY a part of a name, FOLDER holds `muri_philly_trace*.csv` (unpacked)
//! and `muri_published_results.csv`. All decisions come from the crate; this file knows files and tables, `hall.rs` time.
//! The model is that of the publication: 8 nodes of 8 accelerators, decisions at submissions and ends (and where a
//! policy asks for more), every decision restarts all that runs (4 to 46 s each), 1.5 % of profiling, contention
//! measured for groups. With `free`, neither restarts nor profiling cost anything.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "an example reports by printing and fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "an example reads files")]

mod bound;
mod hall;
mod policies;
mod trace;

use std::collections::BTreeMap;
use std::fmt::Write;

use hall::{Hall, Outcome};

/// Published values, in hours, by trace, policy and metric.
type Published = BTreeMap<(String, String, String), f64>;

fn published(folder: &str) -> Published {
    let text = std::fs::read_to_string(format!("{folder}/muri_published_results.csv")).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let row: Vec<&str> = line.split(',').collect();
        ((row[0].to_owned(), row[1].to_owned(), row[2].to_owned()), row[3].parse::<f64>().unwrap() / 3600.0)
    });
    rows.collect()
}

fn row(published: &Published, trace: &str, ours: &str, theirs: &str, outcome: &Outcome) {
    let known = |metric: &str| published.get(&(trace.to_owned(), theirs.to_owned(), metric.to_owned())).copied();
    let mut cells = String::new();
    for (value, metric) in
        [(outcome.average_h, "avg_jct_s"), (outcome.p99_h, "p99_jct_s"), (outcome.makespan_h, "makespan_s")]
    {
        let known = known(metric).unwrap_or(f64::NAN);
        write!(cells, " | {value:8.1} {known:8.1} {:6.3}", value / known).unwrap();
    }
    println!("{trace:10} | {ours:34} | {theirs:10}{cells} | {:6}", outcome.decisions);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().unwrap();
    let cost = if arguments.iter().any(|one| one == "free") { hall::Cost::Free } else { hall::Cost::Published };
    let published = published(folder);
    println!(
        "trace      | ours                               | theirs     | mean JCT, h: ours theirs ratio \
         | p99 JCT | makespan | decisions"
    );
    for trace in ["trace1", "trace3", "trace4", "trace1_pr", "trace3_pr", "trace4_pr"] {
        if arguments.get(2).is_some_and(|only| only != trace) {
            continue;
        }
        let jobs = trace::read(&format!("{folder}/muri_philly_{trace}.csv"));
        let bound = bound::average_h(&jobs, cost);
        println!("{trace:10} | no policy that shares nothing has a mean JCT below {bound:.1} h");
        for (name, theirs, mut policy) in policies::all() {
            if arguments.get(3).is_some_and(|only| !name.contains(only.as_str())) {
                continue;
            }
            let outcome = Hall::new(&jobs, cost).play(policy.as_mut());
            for theirs in theirs {
                row(&published, trace, name, theirs, &outcome);
            }
        }
    }
}
