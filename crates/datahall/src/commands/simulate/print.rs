//! What runs came to, for people.

use dh_twin::comparison::{Comparison, FIGURES, Table as Text, Unit};
use dh_twin::kernel::{Fetched, Moved};
use dh_twin::play::Scene;

use super::run::Report;
use crate::output;
use crate::ui::table::{Side, Table};

/// Figures of one run, or policies side by side.
pub(super) fn runs(scene: &Scene, reports: &[Report], comparison: Option<&Comparison>) {
    output::line(format!(
        "{}: {} jobs on {} nodes with {} accelerators",
        output::bold(&scene.title),
        scene.jobs.len(),
        scene.base.nodes.len(),
        scene.accelerators()
    ));
    for note in &scene.notes {
        output::line(output::dim(format!("  {note}")));
    }
    match comparison {
        Some(comparison) => {
            text(&comparison.figures_table());
            if comparison.policies.len() > 1 {
                output::line("");
                text(&comparison.differences_table());
            }
            for report in reports {
                if let Some(moved) = &report.ran.moved {
                    output::line(format!("{}, seed {}:", report.policy, report.seed));
                    moves(moved);
                }
                if let Some(fetched) = &report.ran.data {
                    output::line(format!("{}, seed {}:", report.policy, report.seed));
                    data(fetched);
                }
                for answers in &report.ran.services {
                    super::requests::print_short(&report.policy, report.seed, answers);
                }
            }
        }
        None => reports.iter().for_each(one),
    }
    let stuck: usize = reports.iter().map(|report| report.ran.stuck).max().unwrap_or(0);
    if stuck > 0 {
        output::line(output::yellow(format!(
            "{stuck} jobs never started, and nothing was to come that could have started them"
        )));
    }
}

fn one(report: &Report) {
    let outcome = &report.ran.outcome;
    let mut table = Table::new(&[("figure", Side::Left), (report.policy.as_str(), Side::Right)]);
    for figure in FIGURES {
        if let Some(value) = (figure.of)(outcome) {
            table.row([figure.title.to_owned(), figure.unit.show(value)]);
        }
    }
    for line in table.lines() {
        output::line(line);
    }
    report.ran.services.iter().for_each(super::requests::print);
    if let Some(moved) = &report.ran.moved {
        moves(moved);
    }
    if let Some(fetched) = &report.ran.data {
        data(fetched);
    }
    let jobs = &outcome.jobs;
    let parts = [
        (jobs.completed, "completed"),
        (jobs.failed, "failed"),
        (jobs.cancelled, "cancelled"),
        (jobs.rejected, "can never run here"),
        (jobs.unfinished, "not over"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    output::line(format!("{} jobs: {}", jobs.submitted, parts.join(", ")));
    output::line(output::dim(format!("{} events, digest {}", report.ran.events, report.ran.digest)));
}

fn text(text: &Text) {
    let columns: Vec<(&str, Side)> = text
        .columns
        .iter()
        .enumerate()
        .map(|(at, name)| (name.as_str(), if at == 0 { Side::Left } else { Side::Right }))
        .collect();
    let mut table = Table::new(&columns);
    for row in &text.rows {
        table.row(row.iter().cloned());
    }
    for line in table.lines() {
        output::line(line);
    }
}

/// What plans of moves came to.
fn moves(moved: &Moved) {
    let hours = |seconds: u64| Unit::Count.show(dh_units::real(seconds) / 3_600.0);
    output::line(format!(
        "moves: {} of {} plans paid; {} jobs moved at the price of {} accelerator-hours",
        moved.applied,
        moved.plans,
        moved.moves,
        hours(moved.price)
    ));
    output::line(format!(
        "  {} gangs started for it, {} accelerator-hours sooner than they would have; {} nodes came free",
        moved.started,
        hours(moved.sooner),
        moved.freed
    ));
}

/// What reading data sets came to.
fn data(fetched: &Fetched) {
    output::line(format!(
        "data: {} of {} ranks found their data set on their node; {} of {} starts waited for it, {} were read",
        Unit::Share.show(fetched.warm_share().unwrap_or(0.0)),
        fetched.ranks,
        fetched.cold_starts,
        fetched.starts,
        dh_units::Bytes(fetched.bytes)
    ));
    output::line(format!(
        "  {} accelerator-hours were lost to reading, {} a start in the mean",
        Unit::Count.show(dh_units::real(fetched.lost) / 3_600.0),
        dh_units::Seconds(dh_units::real(fetched.waited_ms) / 1_000.0 / dh_units::real(fetched.starts.max(1)))
    ));
}
