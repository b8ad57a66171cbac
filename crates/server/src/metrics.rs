//! `/metrics` of the job API: the hall and the store, in Prometheus' text format. The gateway has its own.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::api::{Api, status_of};

pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let status = status_of(&api);
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: &[(String, u64)]| {
        let lines = values.iter().map(|(labels, value)| format!("{name}{labels} {value}\n"));
        text.extend([format!("# HELP {name} {help}\n# TYPE {name} gauge\n")].into_iter().chain(lines));
    };
    let plain = |value: u64| vec![(String::new(), value)];
    gauge("datahall_uptime_seconds", "Seconds since the server started.", &plain(status.uptime_seconds));
    gauge("datahall_resident_bytes", "Resident memory of the server.", &plain(status.resident_bytes));
    gauge("datahall_hall_events", "Events in the log.", &plain(status.events));
    let jobs: Vec<(String, u64)> =
        status.jobs.iter().map(|(state, count)| (format!("{{state=\"{state}\"}}"), *count)).collect();
    gauge("datahall_hall_jobs", "Jobs by state.", &jobs);
    let slots: Vec<(String, u64)> = status
        .nodes
        .iter()
        .flat_map(|node| {
            let label = |kind: &str| format!("{{node=\"{}\",kind=\"{kind}\"}}", node.name);
            [(label("all"), u64::from(node.slots)), (label("busy"), u64::from(node.busy))]
        })
        .collect();
    gauge("datahall_hall_slots", "Accelerator slots.", &slots);
    text.push_str(&api.store.metrics());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
