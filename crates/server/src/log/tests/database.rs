//! A real `PostgreSQL` of Debian's packages in a throwaway folder, for the tests of this crate and of those above it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A throwaway `PostgreSQL` on a socket of a folder.
pub(crate) struct Database {
    /// How a client reaches it.
    pub(crate) address: String,
    folder: PathBuf,
    programs: PathBuf,
}

/// Where Debian puts the database's programs; `None` where these tests are skipped on purpose.
pub(crate) fn programs() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib/postgresql").ok().and_then(|versions| {
        versions.flatten().map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max()
    });
    let skip = std::env::var("DATAHALL_TEST_SERVERS").is_ok_and(|value| value == "skip");
    assert!(
        found.is_some() || skip,
        "PostgreSQL is missing: `cargo xtask servers` installs it (or `apt-get install postgresql`); \
         DATAHALL_TEST_SERVERS=skip leaves these tests out"
    );
    found
}

impl Database {
    /// Makes it in `folder`, which must be short: the name of a socket has 107 characters at most.
    pub(crate) fn start(folder: &Path, programs: PathBuf) -> Self {
        Self::start_with(folder, programs, "-c listen_addresses=''", |_| ())
    }

    /// The same with more options; `prepare` is called when its folder is there and before it starts.
    pub(crate) fn start_with(folder: &Path, programs: PathBuf, options: &str, prepare: impl FnOnce(&Self)) -> Self {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let host = folder.display().to_string().replace('/', "%2F");
        let address = format!("postgres://postgres@{host}/postgres");
        let database = Self { address, folder: folder.join("data"), programs };
        let data = database.folder.to_str().unwrap();
        database.run("initdb", &["-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]);
        prepare(&database);
        let options = format!("-k {} -c shared_buffers=16MB {options}", folder.display());
        database.run("pg_ctl", &["-D", data, "-w", "-l", &format!("{data}/log"), "-o", &options, "start"]);
        database
    }

    /// Runs one of its programs, which refuse to be root.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if rustix::process::getuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let status = command.args(arguments).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{command:?}");
    }
}

impl Database {
    /// Where it keeps its data.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", self.folder().to_str().unwrap(), "-m", "immediate", "stop"]);
    }
}
