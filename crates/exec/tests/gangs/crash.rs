//! The server is killed, with and without its wardens, and a new one finds out what became of the tasks.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dh_exec::{Executor, ExitReason, LocalExecutor, Outcome};
use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::rig::{PATIENCE, Rig, attempt, eventually, gang, kill_9, sh, task, traces, warden_command};

pub(crate) const TESTS: &[Test] = &[
    ("a_killed_server_takes_its_tasks_along", a_killed_server_takes_its_tasks_along),
    ("recovery_waits_for_what_winds_down", recovery_waits_for_what_winds_down),
    ("a_task_that_ended_without_its_server_is_reported", a_task_that_ended_without_its_server_is_reported),
    ("a_crash_of_everything_leaves_nothing", a_crash_of_everything_leaves_nothing),
    ("a_warden_that_hangs_is_killed", a_warden_that_hangs_is_killed),
];

/// The server to be killed: starts attempt 1 of job 1, says so, and sleeps.
pub(crate) fn serve(state: &Path, ranks: u32, command: &[&str]) -> ExitCode {
    let executor = LocalExecutor::new(warden_command(), state, Arc::new(|_| ())).unwrap();
    executor.start(gang(attempt(1, 1), ranks, command)).unwrap();
    println!("started");
    loop {
        std::thread::park();
    }
}

/// A server that does not outlive a failed test.
struct Server {
    child: Child,
    _out: ChildStdout,
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.kill().and_then(|()| self.child.wait()).is_err() {
            println!("  a server could not be killed");
        }
    }
}

impl Server {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }
}

/// `STATE` in `script` becomes the state directory, so that also a process without a mark can be recognised.
fn server(state: &Path, ranks: u32, script: &str) -> Server {
    let script = script.replace("STATE", state.canonicalize().unwrap().to_str().unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .arg(state)
        .arg(ranks.to_string())
        .args(["sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let server = Server { child, _out: out.into_inner() };
    assert_eq!(line, "started\n");
    server
}

/// A deaf main process, a deaf daemon in its own session, and a daemon without the mark.
const STUBBORN: &str = "trap '' TERM; \
     (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &) ; \
     (setsid env -i /bin/sh -c 'while :; do sleep 1; done' STATE &) ; \
     while :; do sleep 1; done";

fn outcomes(rig: &Rig) -> Vec<Outcome> {
    let recovered = rig.exec().recover(&[attempt(1, 1), attempt(1, 2)]).unwrap();
    let again = rig.exec().recover(&[attempt(1, 1), attempt(1, 2)]).unwrap();
    assert_eq!(recovered, again, "the second answer differs");
    let [first, second] = recovered.as_slice() else { panic!("{recovered:?}") };
    assert_eq!((first.attempt, second.attempt), (attempt(1, 1), attempt(1, 2)));
    assert!(second.outcomes().is_empty());
    first.outcomes().iter().map(|(_, outcome)| outcome.clone()).collect()
}

fn a_killed_server_takes_its_tasks_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server(folder.path(), 4, STUBBORN);
    // The server, and per rank a warden, the task, two daemons and what these run.
    eventually(PATIENCE, || traces(folder.path()).len() > 4 * 4);
    let before = traces(folder.path()).len();
    server.kill();
    let took = eventually(Duration::from_secs(2), || traces(folder.path()).is_empty());
    println!("  {before} processes were gone {} ms after their server", took.as_millis());
    let rig = Rig::on(folder);
    for outcome in outcomes(&rig) {
        assert_eq!((outcome.signal, outcome.reason), (Some(9), ExitReason::LifelineLost));
    }
    assert!(rig.log(task(attempt(1, 1), 0)).contains("its server went away"));
    assert!(rig.exec().start(sh(attempt(1, 1), 1, "true")).is_err(), "the attempt ran twice");
}

fn recovery_waits_for_what_winds_down() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server(folder.path(), 8, STUBBORN);
    server.kill();
    let rig = Rig::on(folder);
    let ends = outcomes(&rig);
    rig.assert_nothing_runs();
    assert_eq!(ends.len(), 8);
    assert!(ends.iter().all(|end| end.reason == ExitReason::LifelineLost), "{ends:?}");
}

fn a_task_that_ended_without_its_server_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; exit $((5 + DH_RANK))", go.display());
    let mut server = server(folder.path(), 2, &script);
    // A stopped server sees nothing, but its end of the lifeline is still open.
    server.stop();
    std::fs::write(&go, "").unwrap();
    eventually(PATIENCE, || traces(folder.path()).iter().all(|(pid, _)| *pid == server.child.id()));
    server.kill();
    let rig = Rig::on(folder);
    for (outcome, code) in outcomes(&rig).into_iter().zip([5, 6]) {
        assert_eq!((outcome.code, outcome.reason), (Some(code), ExitReason::Exited));
    }
}

fn a_crash_of_everything_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server(folder.path(), 3, "(setsid sleep 1000 &) ; sleep 1000");
    let wardens: Vec<u32> = {
        let all = traces(folder.path()).into_iter();
        all.filter(|(_, text)| text.contains(" warden ")).map(|(pid, _)| pid).collect()
    };
    assert_eq!(wardens.len(), 3);
    // Stopped first, so that no warden has the time to notice the others' end.
    for pid in &wardens {
        kill_process(Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap(), Signal::STOP).unwrap();
    }
    server.kill();
    wardens.into_iter().for_each(kill_9);
    assert!(!traces(folder.path()).is_empty(), "nothing was left, so this test tests nothing");
    let rig = Rig::on(folder);
    let ends = outcomes(&rig);
    rig.assert_nothing_runs();
    assert!(ends.len() == 3 && ends.iter().all(|end| end.reason == ExitReason::WardenLost), "{ends:?}");
}

fn a_warden_that_hangs_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server(folder.path(), 1, "sleep 1000");
    let (warden, _) = traces(folder.path()).into_iter().find(|(_, text)| text.contains(" warden ")).unwrap();
    kill_process(Pid::from_raw(i32::try_from(warden).unwrap()).unwrap(), Signal::STOP).unwrap();
    server.kill();
    let rig = Rig::on(folder);
    let ends = outcomes(&rig);
    rig.assert_nothing_runs();
    assert_eq!(ends[0].reason, ExitReason::WardenLost);
}
