//! The hall that a demo runs: a process of its own, the same `datahall up` that everybody uses, on a lifeline. When the
//! demo ends, by itself, by Ctrl-C or by a crash, the lifeline closes and the hall and all that it started end too.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dh_core::Kind;
use dh_server::Endpoint;

use crate::commands::up;
use crate::failure::{Failure, OrFail};

/// How long a hall may take to stop in order before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A hall on a lifeline.
#[derive(Clone)]
pub(super) struct HallProcess {
    child: Arc<Mutex<Option<Child>>>,
    pub(super) endpoint: Endpoint,
    pub(super) data: PathBuf,
}

impl HallProcess {
    /// Starts a hall in a fresh data directory.
    pub(super) fn start(blueprint: &Path, data: &Path) -> Result<Self, Failure> {
        let log_path = data.join("server.log");
        let log = std::fs::File::create(&log_path).or_fail(format!("write {}", log_path.display()))?;
        let log_again = log.try_clone().or_fail("copy the log's handle")?;
        let mut child = Command::new(up::own_program()?)
            .arg("up")
            .arg(blueprint)
            .args(["--lifeline", "--any-port", "--quiet", "--data"])
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_again)
            // Ctrl-C is for the demo, which then stops the hall in order.
            .process_group(0)
            .spawn()
            .or_fail("start the hall")?;
        let endpoint = up::wait_until_up(data, &mut child, &format!("see {}", log_path.display()))?;
        Ok(Self { child: Arc::new(Mutex::new(Some(child))), endpoint, data: data.to_owned() })
    }

    /// The hall's process id.
    pub(super) const fn pid(&self) -> i32 {
        self.endpoint.pid
    }

    /// The most memory that the server has had at once.
    pub(super) fn peak_bytes(&self) -> u64 {
        std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .ok()
            .and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("VmHWM:"))?.to_owned();
                line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
            })
            .map_or(0, |kibibytes| kibibytes * 1024)
    }

    /// Whether the server still runs.
    pub(super) fn alive(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Stops it in order and waits for its end.
    pub(super) fn stop(&self) -> Result<(), Failure> {
        let taken = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = taken else { return Ok(()) };
        drop(child.stdin.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while child.try_wait().or_fail("look after the hall")?.is_none() {
            if Instant::now() > deadline {
                // Its wardens see the end of their own lifelines and clean up behind it.
                child.kill().or_fail("end the hall")?;
                child.wait().or_fail("wait for the hall")?;
                return Err(Failure::new(Kind::Timeout, "the hall did not stop in order and was killed"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for HallProcess {
    fn drop(&mut self) {
        // Only the last handle stops it; a failure has been said where `stop` was called on purpose.
        if Arc::strong_count(&self.child) == 1 {
            drop(self.stop());
        }
    }
}
