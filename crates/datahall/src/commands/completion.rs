//! `datahall completion SHELL`: completions, from the same definitions that parse the command line.

use clap::Args;
use clap_complete::Shell;

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

impl Verb for Completion {
    const NAME: &'static str = "completion";
    const ABOUT: &'static str = "Print completions for bash, zsh, fish, elvish or PowerShell";
    const AFTER: &'static str = "Examples:\n  datahall completion bash > /etc/bash_completion.d/datahall\n  datahall completion zsh  > \"${fpath[1]}/_datahall\"\n  datahall completion fish > ~/.config/fish/completions/datahall.fish";

    fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command_line(), "datahall", &mut script);
        output::piece(String::from_utf8(script).or_fail("write the completions")?);
        Ok(0)
    }
}
