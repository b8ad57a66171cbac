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
        let mut table = Table::new(&[
            ("NODE", Side::Left),
            ("POOL", Side::Left),
            ("SLOTS", Side::Right),
            ("BUSY", Side::Right),
            ("HEALTH", Side::Left),
            ("JOBS", Side::Left),
        ]);
        for one in &list.nodes {
            let node = &one.node;
            let mut jobs: Vec<String> = one.jobs.iter().take(JOBS_SHOWN).map(|job| job.0.to_string()).collect();
            if one.jobs.len() > JOBS_SHOWN {
                jobs.push(format!("and {} more", one.jobs.len() - JOBS_SHOWN));
            }
            let health = if node.health == "up" { node.health.clone() } else { output::yellow(&node.health) };
            table.row([
                node.name.clone(),
                node.pool.clone(),
                node.slots.to_string(),
                node.busy.to_string(),
                health,
                jobs.join(" "),
            ]);
        }
        table.lines().iter().for_each(output::line);
        Ok(0)
    }
}
