//! `datahall models`: what the gateway of a running hall offers.

use std::collections::BTreeMap;

use clap::Args;
use dh_server::wire::ServiceView;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Models {}

impl Verb for Models {
    const NAME: &'static str = "models";
    const ABOUT: &'static str = "List the models behind the gateway";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        let services: Vec<ServiceView> = api.get("/v1/services")?;
        if globals.output.is_data() {
            output::versioned(&serde_json::json!({ "models": services }))?;
            return Ok(0);
        }
        let mut table = Table::new(&[
            ("model", Side::Left),
            ("service", Side::Left),
            ("state", Side::Left),
            ("replicas", Side::Right),
        ]);
        let mut rows: BTreeMap<(String, String, String), u32> = BTreeMap::new();
        for view in services {
            *rows.entry((view.model, view.service, view.state)).or_default() += 1;
        }
        for ((model, service, state), replicas) in rows {
            table.row([model, service, state, replicas.to_string()]);
        }
        table.lines().into_iter().for_each(output::line);
        Ok(0)
    }
}
