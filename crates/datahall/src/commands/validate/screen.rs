//! What people see of a validation: figures, the worst rows, and what was not answered.

use dh_accuracy::Validation;
use dh_accuracy::report::{Figures, Judged, judged, report, unanswered, worst};
use dh_perf::validation::Outcome;

use crate::output;
use crate::ui::table::{Side, Table};

/// Rows of the list of the worst.
const WORST: usize = 10;
/// Letters of a note or a source in a table; `--rows -o csv` has all of them.
const WORDS: usize = 60;

/// The columns of figures.
const FIGURES: [(&str, Side); 8] = [
    ("ROWS", Side::Right),
    ("ANSWERED", Side::Right),
    ("MEDIAN", Side::Right),
    ("MEAN", Side::Right),
    ("P90", Side::Right),
    ("BIAS", Side::Right),
    ("WORST", Side::Right),
    ("INSIDE", Side::Right),
];

/// Prints everything, and all rows instead of the worst if `every_row`.
pub(super) fn print(subject: &str, validation: &Validation, every: bool) {
    judged_lines(subject, &judged(validation)).iter().for_each(output::line);
    output::line("");
    sources(subject, validation);
    let chosen: Vec<&Outcome> =
        if every { validation.outcomes.iter().collect() } else { worst(&validation.outcomes, WORST) };
    if !chosen.is_empty() {
        output::line("");
        rows(if every { "ROW" } else { "FURTHEST OFF" }, &chosen);
    }
    let reasons = unanswered(&validation.outcomes);
    if !reasons.is_empty() {
        output::line("");
        let mut table = Table::new(&[("ROWS", Side::Right), ("NOT ANSWERED, BECAUSE", Side::Left)]);
        for (reason, count) in reasons {
            table.row([count.to_string(), clean(reason)]);
        }
        table.lines().iter().for_each(output::line);
    }
}

/// The lines of a table of figures, by block where there are blocks.
pub(crate) fn judged_lines(subject: &str, judged: &Judged) -> Vec<String> {
    let mut table = figures_table(subject);
    for (block, figures) in judged.parts() {
        table.row(line(block, &figures));
    }
    table.lines()
}

fn figures_table(first: &str) -> Table {
    let head: Vec<(&str, Side)> = std::iter::once((first, Side::Left)).chain(FIGURES).collect();
    Table::new(&head)
}

fn line(name: &str, figures: &Figures) -> Vec<String> {
    let percent = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} %"));
    vec![
        cut(name),
        figures.rows.to_string(),
        figures.answered.to_string(),
        percent(figures.median_abs_pct_err),
        percent(figures.mean_abs_pct_err),
        percent(figures.p90_abs_pct_err),
        figures.bias_pct.map_or_else(|| "-".to_owned(), |value| format!("{value:+.1} %")),
        figures.max_factor.map_or_else(|| "-".to_owned(), |value| format!("{value:.2} x")),
        figures.within_80.map_or_else(|| "-".to_owned(), |value| format!("{:.0} %", value * 100.0)),
    ]
}

fn sources(subject: &str, validation: &Validation) {
    let mut table = figures_table("SOURCE");
    for (source, judged) in report(subject, validation).sources {
        match judged {
            Judged::Whole(figures) => table.row(line(source, &figures)),
            Judged::Blocks(blocks) => {
                for (at, (block, figures)) in blocks.iter().enumerate() {
                    // The source stands once, its blocks below it.
                    if at == 0 {
                        table.row([cut(source)]);
                    }
                    table.row(line(&format!("  {block}"), figures));
                }
            }
        }
    }
    table.lines().iter().for_each(output::line);
}

fn rows(head: &str, outcomes: &[&Outcome]) {
    let mut table = Table::new(&[
        (head, Side::Left),
        ("QUANTITY", Side::Left),
        ("MEASURED", Side::Right),
        ("PREDICTED", Side::Right),
        ("OFF", Side::Right),
        ("FROM", Side::Right),
        ("TO", Side::Right),
        ("NOTE", Side::Left),
    ]);
    for outcome in outcomes {
        table.row([
            cut(&outcome.id),
            cut(&outcome.quantity),
            dh_units::significant(outcome.measured),
            number(outcome.predicted),
            outcome.error_pct().map_or_else(|| "-".to_owned(), |error| format!("{error:+.1} %")),
            number(outcome.low),
            number(outcome.high),
            cut(&outcome.note),
        ]);
    }
    table.lines().iter().for_each(output::line);
}

/// A number that may be missing.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), dh_units::significant)
}

/// Words of a file, without what could move a terminal's cursor.
fn clean(words: &str) -> String {
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn cut(words: &str) -> String {
    let words = clean(words);
    if words.chars().count() <= WORDS {
        return words;
    }
    let kept: String = words.chars().take(WORDS - 1).collect();
    format!("{}…", kept.trim_end())
}
