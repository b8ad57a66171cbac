//! `datahall schema`: the JSON Schema of blueprints, for editors.

use clap::Args;

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Schema {}

impl Verb for Schema {
    const NAME: &'static str = "schema";
    const ABOUT: &'static str = "Print the JSON Schema of blueprints, for editors";
    const AFTER: &'static str = "For editors that read it from the file itself, the first line of a blueprint may be:\n  #:schema ./blueprint.schema.json\nafter: datahall schema > blueprint.schema.json";

    fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        // A schema is JSON whatever the format of other output is.
        output::line(serde_json::to_string_pretty(&dh_blueprint::schema()).or_fail("write the schema")?);
        Ok(0)
    }
}
