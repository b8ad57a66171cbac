//! `datahall simulate openb`: pods are placed or dropped, nothing leaves; what counts is the share that is allocated.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use dh_core::Kind;
use dh_policy::packing::{POLICIES, Potential, by_name};
use dh_twin::openb::{Moves, Protocol, Run, Summary, read};

use crate::commands::Globals;
use crate::failure::Failure;
use crate::output;
use crate::trace_file;
use crate::ui::table::{Side, Table};

/// Seeds of one call: far more than a mean needs.
const SEEDS_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub(super) struct Openb {
    /// The trace's nodes, CSV, may be gzipped
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// A list of pods, CSV, may be gzipped
    #[arg(long, value_name = "FILE")]
    pods: PathBuf,
    /// How pods are placed: best, future-fill, fragmentation, best-fit
    #[arg(long, default_value = "best")]
    policy: String,
    /// Stop when so many times what there is has been asked for
    #[arg(long, default_value_t = 1.3)]
    ratio: f64,
    /// One run for each: `42`, or `42..51` with both ends
    #[arg(long, default_value = "42..51", value_parser = seeds)]
    seeds: Seeds,
    /// Pods that may be moved to let others in, as a share of the pods placed by then
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = moves)]
    moves: Moves,
}

/// A share up to one, as moves for a million pods.
fn moves(text: &str) -> Result<Moves, String> {
    let share: f64 = text.trim().parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.0..=1.0).contains(&share) {
        return Ok(Moves { per_million: dh_units::whole((share * 1e6).round()), price: Moves::PRICE });
    }
    Err("expected a share from 0 to 1, such as 0.01".to_owned())
}

/// Seeds, both ends played.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeds {
    first: u64,
    last: u64,
}

impl Seeds {
    /// Every one.
    pub(super) fn all(self) -> Vec<u64> {
        (self.first..=self.last).collect()
    }
}

pub(super) fn seeds(text: &str) -> Result<Seeds, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("`{text}` is no whole number"));
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (number(first)?, number(last.trim_start_matches('='))?),
        None => (number(text)?, number(text)?),
    };
    match usize::try_from(last.saturating_sub(first)) {
        Ok(more) if last >= first && more < SEEDS_MAX => Ok(Seeds { first, last }),
        _ => Err(format!("expected first..last with at most {SEEDS_MAX} seeds")),
    }
}

impl Openb {
    pub(super) fn run(&self, globals: &Globals) -> Result<(), Failure> {
        let policy = policy(&self.policy)?;
        let text = |path: &Path| trace_file::read(path);
        let trace = read(&text(&self.nodes)?, &text(&self.pods)?)?;
        let protocol = Protocol::new(&trace, policy, self.ratio)?.moving(self.moves);
        let seeds = self.seeds.all();
        let summary = protocol.summary(play(&protocol, &seeds, globals.quiet));
        if globals.output.is_data() {
            return output::versioned(&summary);
        }
        print(&summary, policy);
        Ok(())
    }
}

fn policy(name: &str) -> Result<&'static dyn Potential, Failure> {
    by_name(name).ok_or_else(|| {
        let known: Vec<&str> = POLICIES.iter().map(|policy| policy.name()).collect();
        let there = format!("there is best, {}", known.join(", "));
        let hint = match dh_blueprint::nearest(name, known) {
            Some(near) => format!("did you mean `{near}`? {there}"),
            None => there,
        };
        Failure::new(Kind::NotFound, format!("there is no packing policy `{name}`")).hint(hint)
    })
}

/// One run for each seed, on all cores; in the order of seeds.
fn play(protocol: &Protocol<'_>, seeds: &[u64], quiet: bool) -> Vec<Run> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(seeds.len().max(1));
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut runs = Vec::new();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            runs.push(protocol.run(*seed));
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            if !quiet && output::interactive() {
                output::note(format!("{count} of {} runs", seeds.len()));
            }
        }
        runs
    };
    let mut runs: Vec<Run> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let mut runs = work();
        // A thread that panicked took its runs with it; the panic itself was printed.
        runs.extend(others.into_iter().filter_map(|other| other.join().ok()).flatten());
        runs
    });
    runs.sort_by_key(|run| run.seed);
    runs
}

fn print(summary: &Summary, policy: &dyn Potential) {
    output::line(format!("{}: {}", policy.name(), policy.about()));
    output::line(format!(
        "{} nodes, {} accelerators, {} runs",
        summary.nodes,
        summary.accelerators,
        summary.runs.len()
    ));
    let (moves, placed) = summary.runs.iter().fold((0, 0), |(m, p), run| (m + run.moves, p + run.placed));
    if moves > 0 {
        output::line(format!("{moves} moves of {placed} pods placed, in all runs"));
    }
    let mut table = Table::new(&[
        ("asked for", Side::Right),
        ("allocated", Side::Right),
        ("least", Side::Right),
        ("most", Side::Right),
    ]);
    for (mark, mean) in &summary.allocation_pct {
        let of_runs = || summary.runs.iter().filter_map(|run| run.allocation_pct.get(mark).copied());
        let (least, most) = (of_runs().fold(f64::INFINITY, f64::min), of_runs().fold(0.0, f64::max));
        table.row([format!("{mark} %"), format!("{mean:.2} %"), format!("{least:.2}"), format!("{most:.2}")]);
    }
    for line in table.lines() {
        output::line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_a_share() {
        assert_eq!(moves("0.01").map(|moves| moves.per_million), Ok(10_000));
        assert_eq!(moves("0").map(|moves| moves.per_million), Ok(0));
        for wrong in ["", "1.5", "-0.1", "NaN", "one"] {
            assert!(moves(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds_have_both_ends() {
        let parsed = |text| seeds(text).map(|seeds| (seeds.first, seeds.last));
        assert_eq!(parsed("42..51"), Ok((42, 51)));
        assert_eq!(parsed("7"), Ok((7, 7)));
        for wrong in ["", "51..42", "a..b", "1..", "0..10000"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
