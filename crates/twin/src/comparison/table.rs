//! A comparison as rows and columns of text, for whoever draws tables.

use super::{Cell, Comparison, Difference, Unit, Verdict};

/// Text in rows and columns; every row has as many cells as there are columns, the first names the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Heads of columns.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<String>>,
}

/// Stands where there is no figure.
const NONE: &str = "–";

impl Comparison {
    /// Figures by policy: a row for each figure, a column for each policy.
    pub fn figures_table(&self) -> Table {
        let mut columns = vec!["figure".to_owned()];
        columns.extend(self.policies.iter().cloned());
        let rows = self.figures.iter().map(|line| {
            let mut row = vec![line.title.to_owned()];
            row.extend(line.policies.iter().map(|cell| figure(line.unit, cell)));
            row
        });
        Table { columns, rows: rows.collect() }
    }

    /// Every policy but the first against the first: a row for each figure.
    pub fn differences_table(&self) -> Table {
        let first = self.policies.first().map_or(NONE, String::as_str);
        let mut columns = vec![format!("against {first}")];
        columns.extend(self.policies.iter().skip(1).cloned());
        let rows = self.figures.iter().map(|line| {
            let mut row = vec![line.title.to_owned()];
            let words = |cell: &Cell| {
                cell.against_first.as_ref().map_or_else(|| NONE.to_owned(), |difference| difference.words(line.unit))
            };
            row.extend(line.policies.iter().skip(1).map(words));
            row
        });
        Table { columns, rows: rows.collect() }
    }
}

/// `10.00 ± 0.50 h`.
fn figure(unit: Unit, cell: &Cell) -> String {
    match cell.estimate {
        None => NONE.to_owned(),
        Some(estimate) => match estimate.half_width {
            Some(half) if half > 0.0 => unit.show_with(estimate.mean, half),
            Some(_) | None => unit.show(estimate.mean),
        },
    }
}

impl Difference {
    /// `better by 12.3 % (10.1 to 14.5)`, or what else can be said. Without a base to take percent of, in `unit`.
    pub fn words(&self, unit: Unit) -> String {
        let side = match self.verdict {
            Verdict::Better | Verdict::Worse => self.verdict.words(),
            Verdict::OneSeed => match self.better_pct {
                Some(better) if better.mean < 0.0 => "worse",
                Some(_) => "better",
                None => return Verdict::OneSeed.words().to_owned(),
            },
            Verdict::NoDifferenceShown | Verdict::Same => return self.verdict.words().to_owned(),
        };
        let Some(better) = self.better_pct else {
            return format!("{side} by {}", unit.show(self.difference.mean.abs()));
        };
        // Worse is told in positive numbers too.
        let sign = if better.mean < 0.0 { -1.0 } else { 1.0 };
        let percent = |value: f64| dh_units::significant(value * sign);
        let (low, high) = better.interval();
        let (low, high) = if sign < 0.0 { (high, low) } else { (low, high) };
        match better.half_width {
            Some(_) => format!("{side} by {} % ({} to {})", percent(better.mean), percent(low), percent(high)),
            None => format!("{side} by {} % (one seed)", percent(better.mean)),
        }
    }
}
