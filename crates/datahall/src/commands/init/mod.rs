//! `datahall init`: writes a blueprint to start from.

mod here;

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use dh_core::Kind;

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::{Failure, OrFail};
use crate::output;

/// The template that looks at this machine.
const HERE: &str = "here";

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Which one: `here` is this machine with its accelerators, `laptop` is a few lines, `first-hall` the demo, `lab` one rack, `su32` and `su127` scalable units, `pod16k`
    /// 16,384 accelerators, `tpu-pod` a torus, `edge` small sites, `reference` every key there is
    #[arg(long, default_value = "laptop")]
    template: String,
    /// The file to write
    file: Option<PathBuf>,
}

impl Verb for Init {
    const NAME: &'static str = "init";
    const ABOUT: &'static str = "Write a blueprint to start from";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let text = self.text()?;
        let path = blueprint_file::path(globals, self.file.as_deref());
        // `create_new` never overwrites, not even a file that appears between a look and the write.
        let mut file = std::fs::File::create_new(&path).map_err(|error| {
            let failure = Failure::new(Kind::Conflict, format!("cannot write {}: {error}", path.display()));
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                failure.hint("name another file, or move this one away")
            } else {
                failure
            }
        })?;
        file.write_all(text.as_bytes()).or_fail(format!("write {}", path.display()))?;
        if !globals.quiet {
            output::note(format!("wrote {}; next: `datahall plan`, `datahall up`", path.display()));
        }
        Ok(0)
    }
}

impl Init {
    fn text(&self) -> Result<Cow<'static, str>, Failure> {
        if self.template == HERE {
            let devices = dh_exec::devices::Devices::discover();
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            return Ok(Cow::Owned(here::blueprint(devices.all(), devices.notes(), cores)));
        }
        dh_blueprint::template(&self.template).map(Cow::Borrowed).ok_or_else(|| {
            let names = dh_blueprint::TEMPLATES.iter().map(|(name, _)| *name);
            let names: Vec<&str> = std::iter::once(HERE).chain(names).collect();
            Failure::new(Kind::NotFound, format!("there is no template `{}`", self.template))
                .hint(format!("there is {}", names.join(", ")))
        })
    }
}
