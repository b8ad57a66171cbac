//! `datahall status`: one screen about a running hall.

use clap::Args;
use dh_server::wire;
use dh_units::Bytes;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Verb for Status {
    const NAME: &'static str = "status";
    const ABOUT: &'static str = "Show a running hall: listeners, nodes, jobs, services, store";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        // The hash reads the whole state: only programs want it.
        let path = if globals.output.is_data() { "/v1/status?hash=true" } else { "/v1/status" };
        let status: wire::Status = Api::connect(globals)?.get(path)?;
        if globals.output.is_data() {
            output::data(&status)?;
        } else {
            print(&status);
        }
        Ok(0)
    }
}

fn print(status: &wire::Status) {
    output::line(format!(
        "{}  up {} s, {} of memory, {} events",
        output::bold(&status.name),
        status.uptime_seconds,
        Bytes(status.resident_bytes),
        status.events
    ));
    output::line(format!("  jobs    {}", status.listeners.api));
    output::line(format!("  models  {}/v1", status.listeners.gateway));
    output::line(format!("  store   {} (S3)", status.listeners.store));

    output::line("");
    let mut nodes =
        Table::new(&[("NODE", Side::Left), ("SLOTS", Side::Right), ("BUSY", Side::Right), ("HEALTH", Side::Left)]);
    for node in &status.nodes {
        nodes.row([node.name.clone(), node.slots.to_string(), node.busy.to_string(), node.health.clone()]);
    }
    nodes.lines().iter().for_each(output::line);

    output::line("");
    let jobs: Vec<String> = status.jobs.iter().map(|(state, count)| format!("{count} {state}")).collect();
    output::line(format!("jobs      {}", if jobs.is_empty() { "none yet".to_owned() } else { jobs.join(", ") }));
    for service in &status.services {
        let because = service.because.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        output::line(format!("service   {} ({}) is {}{because}", service.service, service.model, service.state));
    }
    let store = &status.store;
    output::line(format!(
        "store     {} objects in {} buckets, {} kept in {}",
        store.objects,
        store.buckets,
        Bytes(store.logical_bytes),
        Bytes(store.stored_bytes)
    ));
    for one in &status.not_enforced {
        output::line(output::dim(format!("declared, not enforced: {one}")));
    }
}
