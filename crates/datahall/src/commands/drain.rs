//! `datahall drain NODE`: keeps new work away from a node; what runs there runs on.

use clap::Args;
use dh_server::wire::NodeList;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The nodes, such as `train-3`
    #[arg(required = true)]
    nodes: Vec<String>,
    /// Let new work come back
    #[arg(long)]
    undo: bool,
}

impl Verb for Drain {
    const NAME: &'static str = "drain";
    const ABOUT: &'static str = "Keep new work away from nodes; --undo lets it come back";
    const AFTER: &'static str = "What runs on a drained node runs to its end; `datahall nodes` shows when it is empty.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        for name in &self.nodes {
            let list: NodeList =
                api.post(&format!("/v1/nodes/{name}/drain"), &serde_json::json!({ "drained": !self.undo }))?;
            let jobs = list.nodes.first().map_or(0, |node| node.jobs.len());
            if globals.output.is_data() {
                output::data(&list)?;
            } else if !globals.quiet {
                let still = if jobs == 0 { "nothing runs on it".to_owned() } else { format!("{jobs} jobs run on it") };
                let state = if self.undo { "takes new work" } else { "takes no new work" };
                output::note(format!("{name} {state}; {still}"));
            }
        }
        Ok(0)
    }
}
