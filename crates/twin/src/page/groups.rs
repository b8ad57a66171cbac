//! Queues and sizes of jobs, as tables.

use dh_units::Seconds;

use super::Page;
use super::markup::{Column, count, table};
use crate::comparison::Unit;
use crate::measure::Group;

pub(crate) fn section(page: &Page<'_>) -> Option<String> {
    let run = page.outcome;
    if run.queues.is_empty() && run.sizes.is_empty() {
        return None;
    }
    Some(groups("Queues", "queue", &run.queues) + &groups("Sizes", "accelerators", &run.sizes))
}

fn groups(caption: &str, what: &str, groups: &[Group]) -> String {
    let heads = [
        "jobs",
        "JCT, mean",
        "JCT, p99",
        "queueing, mean",
        "queueing, p99",
        "accelerator-hours",
        "useful",
        "preemptions",
    ];
    let mut columns = vec![Column::Words(what)];
    columns.extend(heads.map(Column::Numbers));
    let row = |group: &Group| {
        let time = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| Seconds(value).to_string());
        vec![
            group.name.clone(),
            count(group.jobs),
            time(group.jct.map(|jct| jct.mean_s)),
            time(group.jct.map(|jct| jct.p99_s)),
            time(group.queueing.map(|queueing| queueing.mean_s)),
            time(group.queueing.map(|queueing| queueing.p99_s)),
            Unit::Count.show(group.held_accelerator_hours),
            Unit::Count.show(group.useful_accelerator_hours),
            count(group.preemptions),
        ]
    };
    table(caption, &columns, &groups.iter().map(row).collect::<Vec<_>>())
}
