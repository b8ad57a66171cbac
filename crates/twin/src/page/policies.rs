//! Policies side by side: bars with their intervals, and what the seeds show of differences.

use super::Page;
use super::markup::{Column, at, escape, folded, table};
use super::style::turn;
use crate::comparison::{Better, Cell, Line, Table, Verdict};

/// Figures that are drawn, where a run has them; all are in the tables.
const DRAWN: [&str; 7] = [
    "jct.mean_s",
    "jct.p99_s",
    "queueing.mean_s",
    "utilisation",
    "goodput",
    "fairness.ratio.p99",
    "cost.usd_per_useful_accelerator_hour",
];

pub(crate) fn section(page: &Page<'_>) -> Option<String> {
    let comparison = page.comparison.filter(|comparison| comparison.policies.len() > 1)?;
    let seeds = comparison.seeds.len();
    let first = comparison.policies.first().map_or("", String::as_str);
    let mut text = format!(
        "<p>{} policies on {seeds} {}. A seed is the same jobs and the same failures for each, so each policy is compared with \
         <b>{}</b> seed by seed. Whiskers and ± are intervals of 95 %: of the figure at the bars, of the difference in the words. With \
         so many figures about one in twenty of the smallest differences is chance.</p>\n",
        comparison.policies.len(),
        if seeds == 1 { "seed" } else { "seeds" },
        escape(first)
    );
    text.push_str("<div class=\"two bars-2\">");
    for line in comparison.figures.iter().filter(|line| DRAWN.contains(&line.figure)) {
        text.push_str(&bars(line));
    }
    text.push_str("</div>");
    text.push_str(&folded("All figures", &drawn("Figures by policy", &comparison.figures_table())));
    text.push_str(&folded("All differences", &drawn("Differences by policy", &comparison.differences_table())));
    Some(text)
}

fn drawn(caption: &str, data: &Table) -> String {
    let columns: Vec<Column<'_>> = data.columns.iter().map(|name| Column::Words(name)).collect();
    table(caption, &columns, &data.rows)
}

/// A bar for each policy.
fn bars(line: &Line) -> String {
    let end = |cell: &Cell| cell.estimate.map_or(0.0, |estimate| estimate.interval().1);
    let most = line.policies.iter().map(end).fold(0.0, f64::max);
    let most = if most > 0.0 { most } else { 1.0 };
    let better = match line.better {
        Better::Lower => "less is better",
        Better::Higher => "more is better",
    };
    let mut text =
        format!("<div><h3>{} <small class=\"note\">{better}</small></h3><ul class=\"bars\">", escape(line.title));
    for (place, cell) in line.policies.iter().enumerate() {
        put!(text, "<li><span class=\"who\">{}</span><span class=\"bar\" aria-hidden=\"true\">", escape(&cell.policy));
        let Some(estimate) = cell.estimate else {
            text.push_str("</span><span class=\"val\">–</span></li>");
            continue;
        };
        let percent = |value: f64| (value / most * 100.0).clamp(0.0, 100.0);
        put!(text, "<i class=\"fill f-{}\" style=\"width:{}%\"></i>", turn(place), at(percent(estimate.mean)));
        let (low, high) = estimate.interval();
        if estimate.half_width.is_some_and(|half| half > 0.0) {
            let (low, high) = (percent(low), percent(high));
            put!(text, "<i class=\"whisk\" style=\"left:{low:.2}%;width:max(5px,{:.2}%)\"></i>", high - low);
        }
        let shown = match estimate.half_width {
            Some(half) if half > 0.0 => line.unit.show_with(estimate.mean, half),
            Some(_) | None => line.unit.show(estimate.mean),
        };
        put!(text, "</span><span class=\"val\">{}{}</span></li>", escape(shown), against(line, cell));
    }
    text + "</ul></div>\n"
}

fn against(line: &Line, cell: &Cell) -> String {
    let Some(difference) = &cell.against_first else { return String::new() };
    let class = match difference.verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::NoDifferenceShown | Verdict::Same | Verdict::OneSeed => "",
    };
    format!("<small class=\"{class}\">{}</small>", escape(difference.words(line.unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_there() {
        let known: Vec<&str> = crate::comparison::FIGURES.iter().map(|figure| figure.name).collect();
        assert!(DRAWN.iter().all(|name| known.contains(name)));
    }
}
