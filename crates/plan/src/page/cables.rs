//! Cables by network, tiers and kind.

use dh_units::{Meters, real};

use super::charts::{Bar, Look, Names, bars};
use super::frame::{Column, Subject, count, figure, money, table};
use super::style;
use super::svg::escape;
use crate::cabling::CableRow;

/// Rows that are drawn; the table has them all.
const DRAWN: usize = 24;

pub(crate) fn section(subject: Subject<'_>) -> String {
    let rows = &subject.plan.cables;
    if rows.is_empty() {
        return "<p>There is no network, so there is no cable.</p>".to_owned();
    }
    let total: u64 = subject.plan.cable_count();
    let length: Meters = rows.iter().map(|row| row.length).sum();
    let name = |row: &CableRow| format!("{}, {}, {}", row.network, row.segment.name(), row.kind);
    let each = |row: &CableRow| row.length.0 / real(row.cables.max(1));
    let drawn: Vec<Bar> = rows
        .iter()
        .filter(|row| row.cables > 0)
        .take(DRAWN)
        .map(|row| Bar {
            label: name(row),
            value: each(row),
            text: format!("{} × {}", count(row.cables), Meters(each(row))),
            class: colour(subject, &row.network),
            look: Look::Plain,
        })
        .collect();
    let most = drawn.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let words: Vec<String> = drawn.iter().take(6).map(|bar| format!("{}: {}", bar.label, bar.text)).collect();
    let names = Names {
        id: "lengths",
        title: "Mean length of a cable, by network, tiers and kind",
        alternative: &words.join("; "),
    };
    let picture = bars(names, &drawn, most, None);
    let table_rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("<i class=\"tag {}\"></i>{}", colour(subject, &row.network), escape(&row.network)),
                escape(row.segment.name()),
                escape(&row.kind),
                subject.link(&format!("network.{}.cables", row.network), &count(row.cables)),
                escape(row.length),
                escape(Meters(each(row))),
                escape(row.price.map_or_else(|| "not known".to_owned(), money)),
                escape(row.power),
            ]
        })
        .collect();
    let columns = [
        Column::Words("Network"),
        Column::Words("Between"),
        Column::Words("Kind"),
        Column::Numbers("Cables"),
        Column::Numbers("Length of all"),
        Column::Numbers("Mean"),
        Column::Numbers("Price"),
        Column::Numbers("Power at the ends"),
    ];
    let caption = "Each cable has the length that is sold and reaches from one place to the other over the tray; of the kinds that \
                   reach, the shortest is taken. The cable list of the plan has them one by one.";
    format!(
        "<p>{} cables, {} together.</p>{}{}",
        count(total),
        escape(length),
        figure(&picture, caption, ""),
        table("Cables", &columns, &table_rows)
    )
}

fn colour(subject: Subject<'_>, network: &str) -> &'static str {
    let place = subject.plan.networks.iter().position(|known| known.name == network);
    style::network(place.unwrap_or(0))
}
