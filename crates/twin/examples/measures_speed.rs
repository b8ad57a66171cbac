//! What measuring costs: `cargo run --release -p dh-twin --example measures_speed -- [jobs]`.
//!
//! Tells measures and a timeline the life of jobs one after the other, and prints the time of each.
#![expect(clippy::disallowed_methods, reason = "an example that measures time")]

use std::io::Write;
use std::time::Instant;

use dh_core::JobId;
use dh_core::time::{SimTime, Span};
use dh_twin::measure::{
    Cause, End, Fate, JobFacts, Measures, NodeChange, NodeState, Pending, Power, Setup, Start, Stop,
};
use dh_twin::timeline::{Colour, Nodes, Series, Stay, Timeline, What};
use dh_units::{Watts, real};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let jobs: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let mut out = std::io::stdout().lock();
    let facts = |job: u64| {
        let mixed = job.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let length = Span((1 + mixed % 100_000) * 1_000_000_000);
        let queue = usize::try_from(mixed % 9).unwrap_or(0);
        JobFacts { job: JobId(job), queue, milli: 1_000 << (mixed % 8), length, submit: SimTime(job * 900_000_000) }
    };
    let begun = Instant::now();
    let mut measures = Measures::new(Setup::default());
    measures.node_changed(SimTime(0), NodeChange { milli: 1 << 40, from: NodeState::Absent, to: NodeState::Up });
    for job in 0..jobs {
        let facts = facts(job);
        let now = facts.submit;
        measures.submitted(now, &facts);
        measures.pending(now, Pending { jobs: job % 100, milli: 0 });
        let since = SimTime(now.0 + 1);
        measures.started(since, &facts, Start { attempt: 1, waited: Span(job % 7_000_000_000) });
        let end = SimTime(now.0 + 2);
        measures.power(
            end,
            Power { it: Watts(real(job % 1_000)), facility: Watts(real(job % 1_000) * 1.2), ..Power::default() },
        );
        measures.stopped(
            end,
            &facts,
            Stop { cause: Cause::Ended, since, kept: Span(1), lost: Span(0), checkpoints: Span(0) },
        );
        let end_of = End { fate: Fate::Completed, first_start: Some(since), alone: Some(facts.length) };
        measures.ended(end, &facts, end_of);
    }
    let outcome = measures.finish(SimTime(jobs * 900_000_000));
    let spent = begun.elapsed();
    writeln!(out, "measures: {:.0} ns a job, {:.2} s", spent.as_secs_f64() * 1e9 / real(jobs), spent.as_secs_f64())?;
    writeln!(out, "  {} jobs over", outcome.jobs.completed)?;

    let begun = Instant::now();
    let strips = Nodes { nodes: 12_500, nodes_per_rack: 4, milli: 8_000, colour: Colour::Job };
    let mut timeline = Timeline::new(SimTime(0), Some(strips));
    for job in 0..jobs {
        let facts = facts(job);
        let now = facts.submit;
        timeline.set(now, Series::PendingJobs, job % 100);
        timeline.set(now, Series::RunningJobs, job % 9_000);
        timeline.set(now, Series::HeldMilli, job % 90_000_000);
        timeline.set(now, Series::FreeMilli, job % 70_000_000);
        let node = u32::try_from(job % 12_500).unwrap_or(0);
        let from = SimTime(now.0.saturating_sub(facts.length.0));
        timeline.stayed(Stay { node, what: What::Work(job), milli: 8_000, from, to: now });
    }
    let chart = timeline.finish(SimTime(jobs * 900_000_000));
    let spent = begun.elapsed();
    writeln!(out, "timeline: {:.0} ns a job, {:.2} s", spent.as_secs_f64() * 1e9 / real(jobs), spent.as_secs_f64())?;
    writeln!(out, "  {} points a series", chart.series.first().map_or(0, |series| series.points.len()))?;
    Ok(())
}
