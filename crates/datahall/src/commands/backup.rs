//! `datahall backup` and `datahall restore`: a hall's event log, its keys and what they have used, as one folder, also while the hall runs.
//!
//! Objects are not in it: `datahall store cp` copies those, to any other store.

use std::path::{Path, PathBuf};

use clap::Args;
use dh_core::Kind;
use dh_server::{ACCOUNTS, Endpoint, KEYS_FILE, LOG_FILE, LogPlace};

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::{blueprint_file, output, place};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The folder to make
    to: PathBuf,
    /// Leave the keys out: whoever reads them may do everything
    #[arg(long)]
    without_keys: bool,
}

impl Verb for Backup {
    const NAME: &'static str = "backup";
    const ABOUT: &'static str = "Copy a hall's event log, its keys and what they have used, also while it runs";
    const AFTER: &'static str =
        "Objects are copied by `datahall store cp`. `datahall restore` brings the hall back from the folder.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let log = place::log(globals)?;
        let data = match &globals.data {
            Some(data) => data.clone(),
            None => place::running(globals)?.0,
        };
        if self.to.exists() {
            return Err(Failure::new(Kind::Conflict, format!("{} exists already", self.to.display())));
        }
        place::make_private(&self.to)?;
        let events = dh_server::copy_log(&log, &self.to.join(LOG_FILE))?;
        if !self.without_keys {
            copy_private(&data.join(KEYS_FILE), &self.to.join(KEYS_FILE))?;
        }
        copy_accounts(&data, &self.to)?;
        if globals.output.is_data() {
            output::versioned(&serde_json::json!({ "events": events, "folder": self.to }))?;
        } else if !globals.quiet {
            let keys = if self.without_keys { "" } else { " and the keys" };
            output::note(format!("{events} events{keys} are in {}", self.to.display()));
        }
        Ok(0)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A folder that `datahall backup` made
    from: PathBuf,
    /// The blueprint of the hall
    blueprint: Option<PathBuf>,
}

impl Verb for Restore {
    const NAME: &'static str = "restore";
    const ABOUT: &'static str = "Bring a hall's event log, keys and accounts back from a backup";
    const AFTER: &'static str = "The hall must not run, and its log must be empty: an old log is never written over.\n\
         What ran when the backup was made is started again.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let settings = blueprint_file::load(&blueprint_file::path(globals, self.blueprint.as_deref()))?;
        let data = place::of_hall(globals, &settings.name)?;
        if Endpoint::read(&data)?.is_some_and(|endpoint| endpoint.alive()) {
            return Err(
                Failure::new(Kind::Conflict, format!("hall `{}` runs", settings.name)).hint("`datahall down` stops it")
            );
        }
        let from = self.from.join(LOG_FILE);
        if !from.is_file() {
            return Err(Failure::new(Kind::NotFound, format!("there is no event log in {}", self.from.display())));
        }
        place::make_private(&data)?;
        let log = LogPlace::of(&settings.target.state, &data);
        if let LogPlace::File(path) = &log
            && path.exists()
        {
            return Err(Failure::new(Kind::Conflict, format!("{} exists already", path.display()))
                .hint("restore into a fresh directory by `--data DIR`, or move the old one away"));
        }
        let events = dh_server::restore_log(&from, &log)?;
        let keys = self.from.join(KEYS_FILE);
        if keys.is_file() && !data.join(KEYS_FILE).exists() {
            copy_private(&keys, &data.join(KEYS_FILE))?;
        }
        copy_accounts(&self.from, &data)?;
        if globals.output.is_data() {
            output::versioned(&serde_json::json!({ "events": events, "data": data }))?;
        } else if !globals.quiet {
            output::note(format!("{events} events are back; `datahall up` runs the hall"));
        }
        Ok(0)
    }
}

/// What keys have used of their bounds, if there is anything and the other folder has none.
fn copy_accounts(from: &Path, to: &Path) -> Result<(), Failure> {
    let (folder, file) = ACCOUNTS;
    let place = |data: &Path| data.join(folder).join(file);
    if !place(from).is_file() || place(to).exists() {
        return Ok(());
    }
    place::make_private(&to.join(folder))?;
    copy_private(&place(from), &place(to))
}

/// A copy that only its owner may read.
fn copy_private(from: &Path, to: &Path) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let bytes = std::fs::read(from).or_fail(format!("read {}", from.display()))?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    file.and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .or_fail(format!("write {}", to.display()))
}
