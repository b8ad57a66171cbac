//! Plays the Philly trace under several orders, on one cluster or to see whether sharing it hurts anybody:
//! `philly JOBS.csv.gz [NODES [RESTART_S [NAME]]]`, `philly JOBS.csv.gz sharing VC_NODES.csv [PARTS]`.
//!
//! A node has eight accelerators. `PARTS` leaves every virtual cluster that part of its nodes: of the published ones there are
//! too many for anybody to wait.
//!
//! Of the published 352 nodes jobs ask for no more than 99.3 %, and for 67 % on the mean of the busiest 47 days, so nobody waits.
//! At 84 % (280 nodes) the mean wait is 6,186 s in order, 134 s if lengths are known (shortest remaining time), and 121 s with
//! what is recommended here, which knows none; at 98 % (240 nodes) 176,970, 1,341 and 1,534 s. No job then ends beyond 2.4 times
//! its fair finish time, and beyond 2.8 times at 118 %.
//!
//! "unfair" is the worst finish time over the fair one: over the length times the mean, while the job was there, of demand over
//! capacity (at least 1). "by shares" takes the length on an equal share of the cluster among the jobs that were there instead.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "an example reads files, takes the time, and prints"
)]

mod cluster;
mod displace;
mod measure;
mod orders;
mod replay;
mod sharing;
mod trace;

use std::time::Instant;

use dh_policy::fairness::Stretch;
use dh_policy::order::{POLICIES, by_name};
use dh_policy::prediction::Statistic;
use measure::measure;
use orders::{ByLength, ByService};
use replay::{Discipline, Lengths, Starts, replay};

/// What is compared; "ours" knows no lengths, and "oracle" all of them.
fn disciplines() -> Vec<Discipline> {
    let of =
        |name, order, lengths, starts| Discipline { name, order, lengths, starts, bound: None, guarantees: Vec::new() };
    let table = |name| by_name(name).unwrap_or(POLICIES[0]);
    let (fifo, expected) = (table("fifo"), table("expected-service"));
    let (median, per_end) = (Statistic::PerMille(500), Statistic::ServicePerEnd);
    let bound = Some(Stretch::default());
    vec![
        of("fifo", fifo, Lengths::Unknown, Starts::InOrder),
        of("sjf-oracle", &ByLength, Lengths::True, Starts::InOrder),
        of("qssf-like", &ByService, Lengths::Predicted(median), Starts::InOrder),
        of("qssf-like-vc", &ByService, Lengths::PredictedByVc(median), Starts::InOrder),
        of("srtf-oracle", &ByLength, Lengths::True, Starts::Preemptive),
        of("srsf-oracle", &ByService, Lengths::True, Starts::Preemptive),
        of("las", expected, Lengths::Unknown, Starts::Preemptive),
        Discipline { bound, ..of("las+bound", expected, Lengths::Unknown, Starts::Preemptive) },
        Discipline { bound, ..of("ours", expected, Lengths::Predicted(per_end), Starts::Preemptive) },
        Discipline { bound, ..of("ours-vc", expected, Lengths::PredictedByVc(per_end), Starts::Preemptive) },
    ]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let trace = trace::read(arguments.first().ok_or("philly JOBS.csv.gz [NODES [RESTART_S [NAME]]]")?)?;
    if arguments.get(1).is_some_and(|word| word == "sharing") {
        let vcs = std::fs::read_to_string(arguments.get(2).ok_or("philly JOBS.csv.gz sharing VC_NODES.csv")?)?;
        let parts = arguments.get(3).map_or(Ok(1), |text| text.parse())?;
        return sharing::compare(&trace, &vcs, parts, &disciplines());
    }
    let nodes = arguments.get(1).map_or(Ok(352), |text| text.parse())?;
    let restart = arguments.get(2).map_or(Ok(0), |text| text.parse())?;
    let only = arguments.get(3);
    println!("{} jobs, {nodes} nodes, {restart} s to start again; seconds", trace.jobs.len());
    let widths = "queue mean |  p50 |     p99 |     max |  jct mean | unfair | >3 | by shares | >3 | preempted |    ms";
    println!("{:12} | {widths}", "");
    for how in disciplines().iter().filter(|how| only.is_none_or(|only| how.name == only)) {
        let begin = Instant::now();
        let played = replay(&trace.jobs, how, nodes, restart);
        let took = begin.elapsed().as_millis();
        let f = measure(&trace.jobs, &played, u64::from(nodes) * 8);
        print!("{:12} | {:10.0} | {:4} | {:7} | {:7}", how.name, f.queue_mean, f.queue_p50, f.queue_p99, f.queue_max);
        print!(" | {:9.0} | {:6.2} | {:2}", f.jct_mean, f.unfair.0, f.unfair.1);
        println!(" | {:9.2} | {:2} | {:9} | {took:5}", f.unfair_shares.0, f.unfair_shares.1, played.preemptions);
    }
    Ok(())
}
