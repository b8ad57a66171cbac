//! What nodes did, as strips that a script draws; written as runs of equal cells.

use super::Page;
use super::markup::{count, json};
use super::plots::{below, seconds};
use super::style::{TURNS, turn};
use crate::timeline::{Colour, Filled, Row, Strips};

/// Bytes that the cells may take.
const ROOM: usize = 800_000;

pub(crate) fn section(page: &Page<'_>) -> Option<String> {
    let chart = page.chart?;
    let strips = chart.strips.as_ref().filter(|strips| strips.rows.iter().any(|row| !row.cells.is_empty()))?;
    let (folds, cells) = written(strips);
    let length = seconds(chart.end.since(chart.start));
    let step = seconds(strips.step) * dh_units::real(1 << folds);
    let grouped = strips.rows.first().is_some_and(|row| row.nodes > 1);
    let (colour, who) = match strips.colour {
        Colour::Queue => ("queue", "queues"),
        Colour::Job => ("job", "jobs"),
    };
    let nodes: u32 = strips.rows.iter().map(|row| row.nodes).sum();
    let mut text = format!(
        "<p class=\"note\">{} {}: one strip for {}, coloured by the {colour} that used most of it; the paler, the less of it was \
         in use. Point at a cell, or move with the arrow keys, to read it.</p><ul class=\"legend\">",
        count(nodes.into()),
        if nodes == 1 { "node" } else { "nodes" },
        if grouped { "the nodes of one or more racks" } else { "each node" }
    );
    match strips.colour {
        Colour::Queue => {
            for (place, name) in page.queues.iter().take(TURNS * 2).enumerate() {
                put!(text, "<li><i class=\"f-{}\"></i>{}</li>", turn(place), super::markup::escape(name));
            }
            if page.queues.len() > TURNS * 2 {
                put!(text, "<li>and {} more</li>", page.queues.len() - TURNS * 2);
            }
        }
        Colour::Job => put!(text, "<li>neighbours in number have different colours</li>"),
    }
    put!(
        text,
        "<li><i class=\"f-bad\"></i>down</li><li><i class=\"f-sleep\"></i>asleep</li></ul>\
         <noscript><p>The strips are drawn by a script, which does not run here.</p></noscript>\
         <div class=\"read\" id=\"cell\" aria-live=\"polite\"></div><div class=\"strips\"><canvas id=\"strips\" tabindex=\"0\" role=\"img\" \
         aria-label=\"What each node did over time, coloured by {who}\"></canvas><i class=\"cursor\" hidden></i></div>{}\
         <script type=\"application/json\" id=\"cells\">{{\"step\":{step},\"length\":{length},\"by\":\"{colour}\",\"turns\":{TURNS},\"names\":[",
        below(length)
    );
    let named = if strips.colour == Colour::Queue { page.queues } else { &[] };
    let names: Vec<String> = named.iter().take(1_000).map(|name| json(name)).collect();
    put!(text, "{}],\"rows\":{cells}}}</script>\n", names.join(","));
    Some(text)
}

/// Rows as JSON: first node, nodes, cells; merged by pairs, `folds` times, until they fit.
fn written(strips: &Strips) -> (u32, String) {
    let mut rows = strips.rows.clone();
    for folds in 0.. {
        let cells: Vec<String> =
            rows.iter().map(|row| format!("[{},{},\"{}\"]", row.first, row.nodes, runs(&row.cells))).collect();
        let text = format!("[{}]", cells.join(","));
        if text.len() <= ROOM || rows.iter().all(|row| row.cells.len() <= 1) {
            return (folds, text);
        }
        for row in &mut rows {
            fold(row);
        }
    }
    (0, "[]".to_owned())
}

/// Two cells become one.
fn fold(row: &mut Row) {
    let merged = row.cells.chunks(2).map(|pair| {
        let mean = |of: fn(&Filled) -> u8| {
            let sum: usize = pair.iter().map(|cell| usize::from(of(cell))).sum();
            u8::try_from(sum / pair.len().max(1)).unwrap_or(100)
        };
        // The one in more use names the pair; of equals the first.
        let larger = pair.iter().reduce(|best, cell| if cell.used_pct > best.used_pct { cell } else { best });
        Filled {
            used_pct: mean(|cell| cell.used_pct),
            down_pct: mean(|cell| cell.down_pct),
            asleep_pct: mean(|cell| cell.asleep_pct),
            most: larger.and_then(|cell| cell.most),
        }
    });
    row.cells = merged.collect();
}

/// Runs of equal cells: how many, who, and percent in use, down and asleep, in base 36, with dots; what is 0 at the end is left out.
fn runs(cells: &[Filled]) -> String {
    let mut text = String::new();
    for run in cells.chunk_by(|one, other| one == other) {
        let Some(cell) = run.first() else { continue };
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(&base36(u64::try_from(run.len()).unwrap_or(u64::MAX)));
        text.push('.');
        text.push_str(&cell.most.map_or_else(String::new, base36));
        let parts = [cell.used_pct, cell.down_pct, cell.asleep_pct];
        let shown = parts.iter().rposition(|part| *part > 0).map_or(0, |last| last + 1);
        for part in parts.iter().take(shown) {
            text.push('.');
            text.push_str(&base36(u64::from(*part)));
        }
    }
    text
}

fn base36(number: u64) -> String {
    let mut digits = Vec::new();
    let mut rest = number;
    loop {
        let digit = u32::try_from(rest % 36).unwrap_or(0);
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dh_core::time::Span;

    #[test]
    fn runs_are_short_and_whole() {
        let cell = |used, most| Filled { used_pct: used, down_pct: 0, asleep_pct: 0, most };
        assert_eq!(runs(&[cell(100, Some(40)), cell(100, Some(40)), cell(0, None)]), "2.14.2s;1.");
        assert_eq!(runs(&[Filled { asleep_pct: 36, ..Filled::default() }]), "1..0.0.10");
        assert_eq!([0, 35, 36, u64::MAX].map(base36), ["0", "z", "10", "3w5e11264sgsf"]);
    }

    #[test]
    fn strips_are_merged_until_they_fit() {
        let mut number = 1_u64;
        let mut cell = || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let part = |shift: u32| u8::try_from((number >> shift) % 100).unwrap();
            Filled { used_pct: part(5), down_pct: part(15), asleep_pct: part(25), most: Some(number) }
        };
        let row = |cells: Vec<Filled>| Row { first: 0, nodes: 1, cells };
        let rows = (0..200).map(|_| row((0..320).map(|_| cell()).collect())).collect();
        let (folds, text) = written(&Strips { step: Span(1), colour: Colour::Job, rows });
        assert!(folds >= 1 && text.len() <= ROOM, "{folds} {}", text.len());
    }
}
