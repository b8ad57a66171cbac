//! `datahall env`: the variables that other programs need to use a running hall.

use clap::Args;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::store_client::REGION;

#[derive(Debug, Args)]
pub(crate) struct Env {}

impl Verb for Env {
    const NAME: &'static str = "env";
    const ABOUT: &'static str = "Print variables for S3 and OpenAI clients: eval \"$(datahall env)\"";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        let key = api.admin_key();
        let model_key = api.model_key().unwrap_or(key);
        let listeners = &api.endpoint.listeners;
        let variables = [
            ("AWS_ENDPOINT_URL", listeners.store.clone()),
            ("AWS_ACCESS_KEY_ID", key.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", key.secret.expose().clone()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("OPENAI_BASE_URL", format!("{}/v1", listeners.gateway)),
            ("OPENAI_API_KEY", model_key.secret.expose().clone()),
        ];
        if globals.output.is_data() {
            let map: std::collections::BTreeMap<&str, String> = variables.into_iter().collect();
            output::data(&map)?;
        } else {
            for (name, value) in variables {
                output::line(format!("export {name}='{value}'"));
            }
        }
        Ok(0)
    }
}
