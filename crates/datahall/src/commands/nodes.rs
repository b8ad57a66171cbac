//! `datahall nodes`: the nodes of a running hall, and what is on them.

use clap::Args;
use dh_server::wire::NodeList;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// Only this pool
    #[arg(long)]
    pool: Option<String>,
}

/// Jobs that are named for one node; the rest is counted.
const JOBS_SHOWN: usize = 6;

impl Verb for Nodes {
    const NAME: &'static str = "nodes";
    const ABOUT: &'static str = "List nodes: slots, health, and the jobs on them";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let mut list: NodeList = Api::connect(globals)?.get("/v1/nodes")?;
        if let Some(pool) = &self.pool {
            list.nodes.retain(|node| node.node.pool == *pool);
        }
        if globals.output.is_data() {
            output::data(&list)?;
            return Ok(0);
        }
        // What the executor's own system calls them is worth a column only where there is one.
        let hosts = list.nodes.iter().any(|one| one.node.host.is_some());
        let mut columns = vec![("NODE", Side::Left)];
        columns.extend(hosts.then_some(("HOST", Side::Left)));
        columns.extend([
            ("POOL", Side::Left),
            ("SLOTS", Side::Right),
            ("BUSY", Side::Right),
            ("HEALTH", Side::Left),
            ("JOBS", Side::Left),
        ]);
        let mut table = Table::new(&columns);
        for one in &list.nodes {
            let node = &one.node;
            let mut jobs: Vec<String> = one.jobs.iter().take(JOBS_SHOWN).map(|job| job.0.to_string()).collect();
            if one.jobs.len() > JOBS_SHOWN {
                jobs.push(format!("and {} more", one.jobs.len() - JOBS_SHOWN));
            }
            let health = match (node.health.as_str(), &node.why) {
                ("up", _) => node.health.clone(),
                (other, Some(why)) => output::yellow(format!("{other} ({why})")),
                (other, None) => output::yellow(other),
            };
            let mut row = vec![node.name.clone()];
            row.extend(hosts.then(|| node.host.clone().unwrap_or_default()));
            row.extend([node.pool.clone(), node.slots.to_string(), node.busy.to_string(), health, jobs.join(" ")]);
            table.row(row);
        }
        table.lines().iter().for_each(output::line);
        Ok(0)
    }
}
