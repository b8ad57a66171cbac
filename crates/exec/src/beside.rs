//! A program beside a running rank of this machine: its environment, its working folder, its control groups; gone when the rank
//! is, or when whoever asked for it went away. Run by our own program's hidden `beside` command, a process of its own.
//!
//! Invariants: the rank is the one that was meant, by its environment, looked at after a handle on the process was opened; nothing
//! of the program outlives this process unless that is killed, and then its mark is the rank's, by which strays are found.
//! Cost: one process with two threads that sleep.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use dh_core::TaskId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, set_child_subreaper, setsid};

use crate::cgroup;
use crate::process::{Identity, MARK, descendants, kill_all};

/// How long a program has between the polite signal and the kill when whoever asked for it went away.
const GRACE: Duration = Duration::from_millis(500);

/// How long a killed program may take to vanish.
const VANISHES: Duration = Duration::from_secs(5);

/// Runs `command` beside the process `pid` of `task` until it ends; standard input is the lifeline. Its exit code, or 128 and the
/// number of the signal that ended it.
/// # Errors
/// A sentence, if it was not started.
pub fn main(task: TaskId, pid: u32, command: &[OsString]) -> Result<u8, String> {
    let (program, arguments) = command.split_first().ok_or("there is no program to run")?;
    let handle = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or("that is no process")
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(|_| "the rank does not run"))?;
    let env = environment(pid)?;
    if !is_of(&env, task) {
        return Err(format!("process {pid} is not of {task}"));
    }
    let folder =
        std::fs::read_link(format!("/proc/{pid}/cwd")).map_err(|error| format!("the rank's folder: {error}"))?;
    // Out of the server's session, as ranks are; orphans of the program come to us.
    setsid().map_err(|error| format!("cannot start a session: {error}"))?;
    set_child_subreaper(Some(getpid())).map_err(|error| format!("cannot become a subreaper: {error}"))?;
    if let Some(mark) = env.get(OsStr::new(MARK)).and_then(|mark| mark.to_str()) {
        for group in cgroup::left_behind(mark).1 {
            std::fs::write(group.join("cgroup.procs"), "0")
                .map_err(|error| format!("cannot enter the rank's control group {}: {error}", group.display()))?;
        }
    }
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&env)
        .current_dir(folder)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", program.to_string_lossy()))?;
    watch(handle)?;
    let status = child.wait().map_err(|error| format!("cannot wait for it: {error}"))?;
    kill_below(VANISHES);
    let signal = status.signal().map(|signal| 128 + signal);
    Ok(status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// How often a program is looked at that is just being loaded: for a fifth of a second.
const LOADING_ROUNDS: u32 = 100;

/// The variables of a process.
fn environment(pid: u32) -> Result<BTreeMap<OsString, OsString>, String> {
    let read =
        || std::fs::read(format!("/proc/{pid}/environ")).map_err(|error| format!("the rank's variables: {error}"));
    let mut bytes = read()?;
    // A program that is just being loaded has none for a moment.
    for _ in 0..LOADING_ROUNDS {
        if !bytes.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
        bytes = read()?;
    }
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|variable| {
        let equals = variable.iter().position(|byte| *byte == b'=')?;
        let (name, value) = variable.split_at_checked(equals)?;
        Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value.get(1..)?).to_owned()))
    });
    Ok(pairs.collect())
}

/// Whether a process with these variables is of `task`.
fn is_of(env: &BTreeMap<OsString, OsString>, task: TaskId) -> bool {
    let said = |name: &str| env.get(OsStr::new(name))?.to_str()?.parse::<u64>().ok();
    let wanted = [u64::from(task.attempt.attempt), u64::from(task.rank.0), task.attempt.job.0];
    [said("DH_ATTEMPT"), said("DH_RANK"), said("DH_JOB")] == wanted.map(Some)
}

/// Ends everything below this process when the rank ends or the lifeline is lost. Threads end with the process.
fn watch(rank: OwnedFd) -> Result<(), String> {
    let no_thread = |error: std::io::Error| format!("cannot watch the rank: {error}");
    let ends = std::thread::Builder::new().name("rank".to_owned()).spawn(move || {
        loop {
            let mut waited = [PollFd::from_borrowed_fd(rank.as_fd(), PollFlags::IN)];
            match poll(&mut waited, None) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        kill_below(VANISHES);
    });
    ends.map_err(no_thread)?;
    let lost = std::thread::Builder::new().name("lifeline".to_owned()).spawn(|| {
        let mut byte = [0_u8; 64];
        while matches!(std::io::stdin().lock().read(&mut byte), Ok(read) if read > 0) {}
        for process in below() {
            // What is gone meanwhile needs no signal.
            process.signal(Signal::TERM).unwrap_or(false);
        }
        std::thread::sleep(GRACE);
        kill_below(VANISHES);
    });
    lost.map(drop).map_err(no_thread)
}

fn below() -> Vec<Identity> {
    descendants(std::process::id())
        .into_iter()
        .filter(|stat| !stat.is_gone())
        .map(crate::process::Stat::identity)
        .collect()
}

fn kill_below(limit: Duration) {
    let left = kill_all(below, limit);
    if !left.is_empty() {
        tracing::error!(?left, "processes do not end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dh_core::{AttemptId, JobId, Rank};

    #[test]
    fn a_process_is_known_by_its_own_variables() {
        let task = TaskId { attempt: AttemptId { job: JobId(7), attempt: 2 }, rank: Rank(3) };
        let mut child = Command::new("sleep")
            .arg("60")
            .envs([("DH_JOB", "7"), ("DH_ATTEMPT", "2"), ("DH_RANK", "3"), ("ODD", "a=b")])
            .spawn()
            .unwrap();
        let env = environment(child.id()).unwrap();
        assert_eq!(env.get(OsStr::new("ODD")).unwrap(), "a=b");
        assert!(is_of(&env, task));
        assert!(!is_of(&env, TaskId { rank: Rank(2), ..task }));
        assert!(
            main(TaskId { rank: Rank(2), ..task }, child.id(), &["true".into()]).unwrap_err().contains("is not of")
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(main(task, child.id(), &["true".into()]).is_err());
    }
}
