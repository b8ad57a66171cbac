//! `datahall render KIND`: files for other programs, from a blueprint.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use dh_blueprint::State;
use dh_core::Kind;

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::{blueprint_file, output, place};

#[derive(Debug, Args)]
pub(crate) struct Render {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A unit of systemd that runs the hall
    Systemd(Systemd),
}

#[derive(Debug, Args)]
struct Systemd {
    /// The blueprint
    blueprint: Option<PathBuf>,
    /// Who the hall runs as; the user of this command if absent
    #[arg(long, conflicts_with = "of_user")]
    user: Option<String>,
    /// A unit for the user's own manager (`systemctl --user`) instead of the machine's
    #[arg(long = "for-user")]
    of_user: bool,
    /// The program, if it is elsewhere on the machine that is meant
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

impl Verb for Render {
    const NAME: &'static str = "render";
    const ABOUT: &'static str = "Write files for other programs: a unit for systemd";
    const AFTER: &'static str = "Example:\n  datahall render systemd hall.toml | sudo tee /etc/systemd/system/datahall.service\n  sudo systemctl daemon-reload && sudo systemctl enable --now datahall";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        match self.what {
            What::Systemd(systemd) => systemd.run(globals),
        }
    }
}

impl Systemd {
    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let path = blueprint_file::path(globals, self.blueprint.as_deref());
        let settings = blueprint_file::load(&path)?;
        let blueprint = path.canonicalize().or_fail(format!("find {}", path.display()))?;
        let data = std::path::absolute(place::of_hall(globals, &settings.name)?).or_fail("the data directory")?;
        let program = match self.program {
            Some(program) => program,
            None => super::up::own_program()?,
        };
        let user = match (self.of_user, self.user) {
            (true, _) => None,
            (false, Some(user)) => Some(user),
            (false, None) => Some(own_user()?),
        };
        let shared = matches!(settings.target.state, State::Postgres(_));
        let unit = Unit { hall: &settings.name, program: &program, blueprint: &blueprint, data: &data, user, shared };
        output::piece(unit.text()?);
        Ok(0)
    }
}

/// The name of the user who asks.
fn own_user() -> Result<String, Failure> {
    std::env::var("USER").ok().filter(|name| !name.is_empty()).ok_or_else(|| {
        Failure::new(Kind::Invalid, "USER is not set")
            .hint("`--user NAME` says who the hall runs as, `--for-user` leaves it to the user's own manager")
    })
}

struct Unit<'a> {
    hall: &'a str,
    program: &'a Path,
    blueprint: &'a Path,
    data: &'a Path,
    /// None for the user's own manager.
    user: Option<String>,
    /// Whether its log is in a database.
    shared: bool,
}

impl Unit<'_> {
    fn text(&self) -> Result<String, Failure> {
        let [program, blueprint, data] = [self.program, self.blueprint, self.data].map(quoted);
        let (program, blueprint, data) = (program?, blueprint?, data?);
        let after = if self.shared { "network-online.target postgresql.service" } else { "network-online.target" };
        let (user, wanted_by) = match &self.user {
            Some(user) => (format!("User={user}\n"), "multi-user.target"),
            None => (String::new(), "default.target"),
        };
        // What a hall starts are programs of its users: what would bind them, such as a read-only home, is left to them.
        let hardening = if self.user.is_some() {
            "NoNewPrivileges=yes\nProtectSystem=full\nProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectKernelLogs=yes\nProtectClock=yes\nProtectHostname=yes\nRestrictSUIDSGID=yes\nLockPersonality=yes\n"
        } else {
            "NoNewPrivileges=yes\n"
        };
        Ok(format!(
            "# Written by `datahall render systemd`.\n\
             [Unit]\n\
             Description=Datahall {hall}\n\
             Wants=network-online.target\n\
             After={after}\n\
             StartLimitIntervalSec=0\n\
             \n\
             [Service]\n\
             Type=notify\n\
             NotifyAccess=main\n\
             {user}\
             ExecStart={program} --data {data} --quiet up {blueprint} --log-format json\n\
             # `datahall down` stays down; a server that lost its database, or was deposed, comes back.\n\
             Restart=on-failure\n\
             RestartSec=2\n\
             # A follower is ready when it leads, which may never be.\n\
             TimeoutStartSec=infinity\n\
             TimeoutStopSec=30\n\
             # Wardens end their own ranks, and write how these ended.\n\
             KillMode=mixed\n\
             # The hall makes control groups for limits of memory and processes.\n\
             Delegate=yes\n\
             LimitNOFILE=1048576\n\
             UMask=0077\n\
             {hardening}\
             \n\
             [Install]\n\
             WantedBy={wanted_by}\n",
            hall = self.hall,
        ))
    }
}

/// A path as systemd reads it.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path
        .to_str()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or_else(|| Failure::new(Kind::Invalid, format!("{} cannot stand in a unit", path.display())))?;
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(if text.contains([' ', '"', '\\', '\'', ';']) { format!("\"{escaped}\"") } else { escaped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_systemd_reads_them() {
        let of = |text: &str| quoted(Path::new(text)).ok();
        assert_eq!(of("/srv/hall.toml").as_deref(), Some("/srv/hall.toml"));
        assert_eq!(of("/srv/a b/100%$x").as_deref(), Some("\"/srv/a b/100%%$$x\""));
        assert_eq!(of("/srv/\n"), None);
    }
}
