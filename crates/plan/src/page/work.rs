//! Stores, trainings, services, and sites that go on alone.

use dh_units::{Bytes, BytesPerSec, Seconds};

use super::frame::{Column, Subject, amount, count, money, percent, table};
use super::layouts::layouts;
use super::svg::escape;

pub(crate) fn section(subject: Subject<'_>) -> String {
    let mut text = stores(subject);
    text.push_str(&trainings(subject));
    text.push_str(&layouts(subject));
    text.push_str(&super::services::services(subject));
    text.push_str(&edges(subject));
    if text.is_empty() {
        text.push_str("<p>No store on a pool of nodes, no training and no service is written.</p>");
    }
    text
}

pub(super) fn asked<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), escape)
}

fn stores(subject: Subject<'_>) -> String {
    let met = |has: f64, wanted: Option<f64>| match wanted {
        Some(wanted) if wanted > has => " <span class=\"bad\">✕ not met</span>",
        Some(_) => " <span class=\"good\">✓</span>",
        None => "",
    };
    let rows: Vec<Vec<String>> = subject
        .plan
        .stores
        .iter()
        .map(|store| {
            let id = |key: &str| format!("storage.{}.{key}", store.name);
            let rate = |wanted: Option<BytesPerSec>| wanted.map(|rate| rate.0);
            vec![
                format!("{} on {}", escape(&store.name), escape(&store.pool)),
                subject.number(&id("drives")),
                subject.number(&id("raw")),
                subject.number(&id("usable")) + met(store.usable.as_f64(), store.capacity_wanted.map(Bytes::as_f64)),
                asked(store.capacity_wanted),
                subject.number(&id("read")) + met(store.read.0, rate(store.read_wanted)),
                asked(store.read_wanted),
                subject.number(&id("write")) + met(store.write.0, rate(store.write_wanted)),
                asked(store.write_wanted),
            ]
        })
        .collect();
    let columns = [
        Column::Words("Store"),
        Column::Numbers("Drives"),
        Column::Numbers("Raw"),
        Column::Numbers("Usable"),
        Column::Numbers("asked"),
        Column::Numbers("Reads"),
        Column::Numbers("asked"),
        Column::Numbers("Writes"),
        Column::Numbers("asked"),
    ];
    table("Stores", &columns, &rows)
}

fn trainings(subject: Subject<'_>) -> String {
    let plan = subject.plan;
    let rows: Vec<Vec<String>> = plan
        .trainings
        .iter()
        .map(|run| {
            let id = |key: &str| format!("training.{}.{key}", run.name);
            let late = run.deadline.is_some_and(|deadline| run.effective_time > deadline);
            let deadline = asked(run.deadline) + if late { " <span class=\"bad\">✕ late</span>" } else { "" };
            vec![
                format!("{}: {}", escape(&run.name), escape(&run.model)),
                subject.link(&id("accelerators"), &count(run.accelerators)),
                subject.number(&id("time")),
                subject.link(&id("failures.ettr"), &percent(run.ettr)),
                subject.number(&id("effective_time")),
                deadline,
                escape(run.interval.map_or_else(|| "never".to_owned(), |interval| interval.to_string())),
                subject.number(&id("failures.checkpoint")),
                subject.link(&id("failures.expected"), &amount(run.interruptions)),
                subject.link(&id("cost"), &asked(run.cost.map(money))),
            ]
        })
        .collect();
    let columns = [
        Column::Words("Training"),
        Column::Numbers("Accelerators"),
        Column::Numbers("Time"),
        Column::Numbers("ETTR"),
        Column::Numbers("With failures"),
        Column::Numbers("Deadline"),
        Column::Numbers("Checkpoint every"),
        Column::Numbers("takes"),
        Column::Numbers("Interruptions"),
        Column::Numbers("Cost"),
    ];
    let mut text = table("Trainings", &columns, &rows);
    if !plan.unfit.is_empty() {
        let entry = |unfit: &crate::Unfit| {
            format!(
                "<li class=\"bad\"><strong>✕ cannot run</strong><p>{}: {}</p></li>",
                escape(&unfit.name),
                escape(&unfit.why)
            )
        };
        put!(text, "<ul class=\"finds\">{}</ul>", plan.unfit.iter().map(entry).collect::<String>());
    }
    text
}

fn edges(subject: Subject<'_>) -> String {
    let rows: Vec<Vec<String>> = subject
        .settings
        .edges
        .iter()
        .map(|(name, edge)| {
            vec![
                escape(name),
                edge.nodes.to_string(),
                escape(&edge.node),
                escape(edge.link),
                asked(edge.round_trip),
                escape(Seconds(edge.autonomy.0)),
                escape(edge.services.join(", ")),
            ]
        })
        .collect();
    let columns = [
        Column::Words("Site far away"),
        Column::Numbers("Nodes"),
        Column::Words("Node"),
        Column::Numbers("Line"),
        Column::Numbers("Round trip"),
        Column::Numbers("Goes on alone for"),
        Column::Words("Services"),
    ];
    table("Small sites that go on when their line is cut", &columns, &rows)
}
