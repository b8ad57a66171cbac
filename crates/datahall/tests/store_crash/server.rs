//! The store under test: `datahall store up` over several drives, killed and started again.

use std::fs::File;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::site::Site;

const DATAHALL: &str = env!("CARGO_BIN_EXE_datahall");

/// How long a start may take on a slow, busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(40);

pub struct Server {
    site: Arc<Site>,
    child: Option<Child>,
    pub kills: u64,
    pub kills_while_starting: u64,
    pub starts: u64,
    pub slowest_start: Duration,
}

impl Server {
    pub fn new(site: Arc<Site>) -> Self {
        Self { site, child: None, kills: 0, kills_while_starting: 0, starts: 0, slowest_start: Duration::ZERO }
    }

    /// `datahall store VERB PLACE ARGUMENTS` on the store while it is stopped.
    pub fn offline(&self, verb: &str, arguments: &[&str]) -> Output {
        let output = Command::new(DATAHALL).args(["store", verb]).args(self.site.place()).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{verb} {arguments:?}: {output:?}");
        output
    }

    /// `datahall store ARGUMENTS` against the store that runs.
    pub fn online(&self, arguments: &[&str]) -> serde_json::Value {
        let key = self.site.key();
        let output = Command::new(DATAHALL)
            .arg("store")
            .args(arguments)
            .args(["--output", "json", "--endpoint", &self.site.listeners().store])
            .env("AWS_ACCESS_KEY_ID", key.id)
            .env("AWS_SECRET_ACCESS_KEY", key.secret.expose())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts the program and does not wait for it.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none());
        let log = File::options().create(true).append(true).open(self.site.path("server.log")).unwrap();
        let child = Command::new(DATAHALL)
            .args(["store", "up"])
            .args(self.site.place())
            .args(["--quiet", "--listen", &format!("127.0.0.1:{}", self.site.port)])
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Waits until it answers, whatever that is.
    pub fn wait_until_up(&mut self) {
        let begin = Instant::now();
        let agent = crate::reply::agent();
        while agent.get(&self.site.listeners().store).call().is_err() {
            self.assert_runs();
            assert!(begin.elapsed() < START_TIMEOUT, "the store does not answer: {}", self.log_end());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.starts += 1;
        self.slowest_start = self.slowest_start.max(begin.elapsed());
    }

    /// A store that is not killed does not end.
    pub fn assert_runs(&mut self) {
        let status = self.child.as_mut().unwrap().try_wait().unwrap();
        assert!(status.is_none(), "the store ended by itself ({status:?}): {}", self.log_end());
    }

    pub fn kill_9(&mut self) {
        self.assert_runs();
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.kills += 1;
    }

    /// Ctrl-C.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "the store ended with {status}: {}", self.log_end());
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
        // Only after a failure.
        if let Some(mut child) = self.child.take() {
            drop(child.kill().and_then(|()| child.wait()));
        }
    }
}
