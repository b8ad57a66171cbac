//! `datahall man`: manual pages, from the same definitions that parse the command line.

use std::path::{Path, PathBuf};

use clap::Args;
use dh_core::Kind;

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// A command; the page of the whole program if left out
    command: Option<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    all: Option<PathBuf>,
}

impl Verb for Man {
    const NAME: &'static str = "man";
    const ABOUT: &'static str = "Print the manual page of a command, or write all of them";
    const AFTER: &'static str =
        "Examples:\n  datahall man plan | man -l -\n  datahall man --all /usr/local/share/man/man1";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let mut root = super::command_line();
        // Fills in what commands inherit: global flags, usage lines.
        root.build();
        if let Some(folder) = &self.all {
            let count = all(&root, folder)?;
            if !globals.quiet {
                output::note(format!("wrote {count} pages to {}", folder.display()));
            }
            return Ok(0);
        }
        let page = match &self.command {
            None => page(&root, "datahall")?,
            Some(name) => {
                let found = root.get_subcommands().find(|command| command.get_name() == name).ok_or_else(|| {
                    Failure::new(Kind::NotFound, format!("there is no command `{name}`"))
                        .hint("`datahall help` lists them")
                })?;
                page(found, &format!("datahall-{name}"))?
            }
        };
        output::piece(page);
        Ok(0)
    }
}

fn page(command: &clap::Command, name: &str) -> Result<String, Failure> {
    let command = command.clone().display_name(name.to_owned()).bin_name(name.replace('-', " "));
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("datahall ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)
        .or_fail("write the page")?;
    String::from_utf8(text).or_fail("write the page")
}

fn all(root: &clap::Command, folder: &Path) -> Result<usize, Failure> {
    std::fs::create_dir_all(folder).or_fail_as(Kind::Invalid, format!("make {}", folder.display()))?;
    let mut pages = vec![("datahall".to_owned(), page(root, "datahall")?)];
    // `help` is clap's own and has no page.
    for command in root.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        let name = format!("datahall-{}", command.get_name());
        let text = page(command, &name)?;
        pages.push((name, text));
    }
    for (name, text) in &pages {
        let file = folder.join(format!("{name}.1"));
        std::fs::write(&file, text).or_fail_as(Kind::Invalid, format!("write {}", file.display()))?;
    }
    Ok(pages.len())
}
