//! `datahall explain CODE`: the longer words behind an error code of a blueprint.

use clap::Args;
use dh_core::Kind;

use super::{Globals, Verb};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A code such as DH0103
    code: String,
}

impl Verb for Explain {
    const NAME: &'static str = "explain";
    const ABOUT: &'static str = "Explain an error code of a blueprint";

    fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        let text = dh_blueprint::explain(&self.code.to_ascii_uppercase()).ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("there is no code `{}`", self.code))
                .hint("codes look like DH0103 and stand in brackets in the reports of `datahall check`")
        })?;
        output::line(text.trim_end());
        Ok(0)
    }
}
