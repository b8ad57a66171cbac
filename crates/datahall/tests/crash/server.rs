//! The server under test: the real program, killed and started again on the same directory.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_server::Endpoint;
use rustix::process::{Pid, Signal, kill_process};

use crate::site::Site;

pub const DATAHALL: &str = env!("CARGO_BIN_EXE_datahall");

/// How long a start may take. Recovery waits up to 5 s for what winds down; the rest is for a slow, busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(40);

pub struct Server {
    site: Arc<Site>,
    child: Option<Child>,
    pub kills: u64,
    pub kills_while_starting: u64,
    /// Kills that took the wardens along.
    pub kills_with_wardens: u64,
    pub starts: u64,
    /// Starts that found a port taken by somebody else.
    pub moves: u64,
    pub slowest_start: Duration,
}

impl Server {
    pub fn new(site: Arc<Site>) -> Self {
        Self {
            site,
            child: None,
            kills: 0,
            kills_while_starting: 0,
            kills_with_wardens: 0,
            starts: 0,
            moves: 0,
            slowest_start: Duration::ZERO,
        }
    }

    /// Starts the program and does not wait for it. On a lifeline, so that it cannot outlive a test that is itself killed.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none());
        let log = File::options().create(true).append(true).open(self.site.path("server.log")).unwrap();
        let child = Command::new(DATAHALL)
            .arg("up")
            .arg(self.site.path("hall.toml"))
            .args(["--quiet", "--lifeline", "--data"])
            .arg(self.site.data())
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Waits until it answers, and tells the clients where.
    pub fn wait_until_up(&mut self) {
        let begin = Instant::now();
        let pid = i32::try_from(self.pid()).unwrap();
        let agent = crate::reply::agent();
        let listeners = loop {
            let endpoint = Endpoint::read(&self.site.data()).unwrap().filter(|endpoint| endpoint.pid == pid);
            if let Some(endpoint) = endpoint
                && agent.get(format!("{}/healthz", endpoint.listeners.api)).call().is_ok_and(|a| a.status() == 200)
            {
                break endpoint.listeners;
            }
            self.assert_runs();
            assert!(begin.elapsed() < START_TIMEOUT, "the server does not answer: {}", self.log_end());
            std::thread::sleep(Duration::from_millis(3));
        };
        self.starts += 1;
        self.moves += u64::from(self.site.moved_to(listeners));
        self.slowest_start = self.slowest_start.max(begin.elapsed());
        self.site.note(&format!("up {}", self.starts));
    }

    /// A server that is not killed does not end.
    pub fn assert_runs(&mut self) {
        let status = self.child.as_mut().unwrap().try_wait().unwrap();
        assert!(status.is_none(), "the server ended by itself ({status:?}): {}", self.log_end());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// `kill -9`; with `wardens`, of every warden, too, as an out-of-memory killer might do.
    pub fn kill(&mut self, wardens: bool) {
        self.assert_runs();
        let mut child = self.child.take().unwrap();
        kill_9(child.id());
        if wardens {
            let all = processes_of(&self.site.data());
            all.iter().filter(|(_, line)| line.contains(" warden ")).for_each(|(pid, _)| kill_9(*pid));
            self.kills_with_wardens += 1;
        }
        child.wait().unwrap();
        self.kills += 1;
        self.site.note(&format!("kill {}", self.kills));
    }

    /// Runs a command of the program on this hall.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(DATAHALL).args(arguments).arg("--data").arg(self.site.data()).output().unwrap()
    }

    /// `datahall down`.
    pub fn stop(&mut self) {
        let down = self.run(&["down"]);
        assert!(down.status.success(), "{down:?}");
        let status = self.child.take().unwrap().wait().unwrap();
        assert!(status.success(), "the server ended with {status}: {}", self.log_end());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.site.path("server.log")).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only after a failure: the lifeline would end it too, but not at once.
        if let Some(mut child) = self.child.take() {
            drop(child.kill().and_then(|()| child.wait()));
        }
    }
}

pub fn kill_9(pid: u32) {
    // A process that has ended already is fine.
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap_or(());
}

/// Living processes whose command line, environment or working directory names `folder`. Zombies are gone.
pub fn processes_of(folder: &Path) -> Vec<(u32, String)> {
    let needle = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let read = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let line = read("cmdline");
        let workdir = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let ours = line.contains(needle) || read("environ").contains(needle) || workdir.starts_with(folder);
        let gone = read("stat").rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
        if ours && !gone {
            found.push((pid, line));
        }
    }
    found
}

/// Waits until no process of `folder` is left; how long that took.
pub fn wait_until_gone(folder: &Path, limit: Duration) -> Duration {
    let begin = Instant::now();
    loop {
        let left = processes_of(folder);
        if left.is_empty() {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < limit, "still there after {limit:?}: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
