//! Starting, ending, limiting and reading tasks while their server lives.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::{HasKind, Kind, Secret};
use dh_exec::{Bound, Error, Executor, ExitReason, LocalExecutor, Stop, TaskLimits};
use dh_units::Bytes;

use crate::Test;
use crate::rig::{
    PATIENCE, Rig, alive, attempt, eventually, files, gang, kill_9, recorded_pid, sh, task, warden_command,
};

pub(crate) const TESTS: &[Test] = &[
    ("codes_and_signals_are_reported", codes_and_signals_are_reported),
    ("an_unknown_program_starts_nothing", an_unknown_program_starts_nothing),
    ("a_gang_starts_whole_or_not_at_all", a_gang_starts_whole_or_not_at_all),
    ("a_failure_of_exec_itself_stops_the_gang", a_failure_of_exec_itself_stops_the_gang),
    ("a_gang_stopped_while_starting_leaves_nothing", a_gang_stopped_while_starting_leaves_nothing),
    ("a_polite_task_ends_itself", a_polite_task_ends_itself),
    ("a_deaf_task_is_killed_after_the_grace", a_deaf_task_is_killed_after_the_grace),
    ("daemons_are_reaped_before_the_end_is_reported", daemons_are_reaped_before_the_end_is_reported),
    ("a_killed_rank_looks_like_a_fault", a_killed_rank_looks_like_a_fault),
    ("a_killed_warden_leaves_nothing", a_killed_warden_leaves_nothing),
    ("secrets_reach_the_task_and_nothing_else", secrets_reach_the_task_and_nothing_else),
    ("the_memory_limit_holds", the_memory_limit_holds),
    ("the_process_limit_holds_or_says_so", the_process_limit_holds_or_says_so),
    ("the_time_limit_ends_the_task", the_time_limit_ends_the_task),
    ("files_and_cores_are_limited", files_and_cores_are_limited),
    ("logs_keep_order_and_survive_attempts", logs_keep_order_and_survive_attempts),
    ("the_environment_is_ours_and_the_users", the_environment_is_ours_and_the_users),
    ("usage_sees_all_processes_of_a_rank", usage_sees_all_processes_of_a_rank),
    ("one_server_per_state_directory", one_server_per_state_directory),
    ("dropping_the_executor_ends_everything", dropping_the_executor_ends_everything),
    ("stopping_what_never_was_is_an_error", stopping_what_never_was_is_an_error),
];

fn codes_and_signals_are_reported() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    let ends = rig.run(sh(id, 3, "exit $DH_RANK"));
    for rank in 0..3 {
        let end = &ends[&task(id, rank)];
        assert_eq!((end.code, end.signal), (Some(i32::try_from(rank).unwrap()), None));
        assert_eq!((end.reason, end.message.as_str()), (ExitReason::Exited, ""));
        assert!(end.finished_at.0 > 1_600_000_000_000_000_000);
    }
    let id = attempt(2, 1);
    let end = &rig.run(sh(id, 1, "kill -SEGV $$"))[&task(id, 0)];
    assert_eq!((end.code, end.signal, end.reason), (None, Some(11), ExitReason::Exited));
    assert_eq!(rig.exec().running(), []);
    rig.assert_nothing_runs();
}

fn an_unknown_program_starts_nothing() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    for program in ["no-such-program", "/no/such/program", "/etc/passwd", "./none"] {
        let id = attempt(1, rig_attempt(program));
        let error = rig.exec().start(gang(id, 3, &[program])).unwrap_err();
        assert!(matches!(error, Error::CannotRun { .. }), "{error:?}");
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(program), "{error}");
        assert!(matches!(rig.exec().start(sh(id, 1, "true")), Err(Error::AlreadyStarted(_))));
    }
    let mut lost = sh(id, 1, "true");
    lost.workdir = "/no/such/folder".into();
    assert_eq!(rig.exec().start(lost).unwrap_err().kind(), Kind::Invalid);
    rig.no_event();
    rig.assert_nothing_runs();
}

fn rig_attempt(program: &str) -> u32 {
    u32::try_from(program.len()).unwrap()
}

fn a_gang_starts_whole_or_not_at_all() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    let witness = rig.folder.path().join("witness");
    let mut spec = sh(id, 5, &format!("echo ran >> {}; sleep 1000", witness.display()));
    // No machine has this core, so the warden of the last rank cannot prepare its task.
    spec.ranks[4].cores = vec![1000];
    let error = rig.exec().start(spec).unwrap_err();
    assert!(matches!(&error, Error::CannotRun { task: failed, .. } if *failed == task(id, 4)), "{error:?}");
    assert!(!witness.exists(), "a rank ran although its gang could not start");
    rig.no_event();
    assert_eq!(rig.exec().running(), []);
    rig.assert_nothing_runs();
}

fn a_failure_of_exec_itself_stops_the_gang() {
    let rig = Rig::new();
    let script = rig.folder.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = rig.exec().start(gang(attempt(1, 1), 3, &[script.to_str().unwrap()])).unwrap_err();
    assert!(matches!(error, Error::CannotRun { .. }), "{error:?}");
    rig.no_event();
    rig.assert_nothing_runs();
}

fn a_gang_stopped_while_starting_leaves_nothing() {
    let rig = Rig::new();
    let mut cut_short = 0;
    for number in 1..=12_u32 {
        let id = attempt(1, number);
        let exec = rig.exec();
        let result = std::thread::scope(|scope| {
            let starting = scope.spawn(|| exec.start(sh(id, 16, "sleep 1000")));
            eventually(PATIENCE, || exec.stop(id, Stop::Now).is_ok());
            std::thread::sleep(Duration::from_millis(u64::from(number)));
            exec.stop(id, Stop::Now).unwrap();
            starting.join().unwrap()
        });
        match result {
            Ok(()) => {
                rig.started(16);
                rig.exited(16);
            }
            Err(error) => {
                cut_short += 1;
                assert!(matches!(error, Error::StoppedWhileStarting(_)), "{error:?}");
                rig.no_event();
            }
        }
        rig.assert_nothing_runs();
    }
    assert!(cut_short > 0, "no start was ever cut short, so this test tested nothing");
}

fn a_polite_task_ends_itself() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    rig.exec().start(sh(id, 1, "trap 'echo saved; exit 7' TERM; echo up; while :; do sleep 0.05; done")).unwrap();
    rig.started(1);
    rig.await_log(task(id, 0), "up");
    rig.exec().stop(id, Stop::Polite).unwrap();
    let end = &rig.exited(1)[&task(id, 0)];
    assert_eq!((end.code, end.signal, end.reason), (Some(7), None, ExitReason::Killed));
    assert!(rig.log(task(id, 0)).contains("saved\n"));
    rig.exec().stop(id, Stop::Polite).unwrap();
}

fn a_deaf_task_is_killed_after_the_grace() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    rig.exec().start(sh(id, 2, "trap '' TERM; echo up; while :; do sleep 0.05; done")).unwrap();
    rig.started(2);
    rig.await_log(task(id, 0), "up");
    rig.await_log(task(id, 1), "up");
    let start = Instant::now();
    rig.exec().stop(id, Stop::Polite).unwrap();
    for end in rig.exited(2).values() {
        assert_eq!((end.code, end.signal, end.reason), (None, Some(9), ExitReason::Killed));
    }
    let took = start.elapsed();
    assert!(took > Duration::from_millis(2_900) && took < Duration::from_millis(4_500), "{took:?}");

    let id = attempt(1, 2);
    rig.exec().start(sh(id, 1, "trap '' TERM; while :; do sleep 0.05; done")).unwrap();
    rig.started(1);
    let start = Instant::now();
    rig.exec().stop(id, Stop::Now).unwrap();
    rig.exited(1);
    assert!(start.elapsed() < Duration::from_secs(1));
    rig.assert_nothing_runs();
}

/// Forked twice, in a session of its own, deaf, and without the variable that marks it.
const DAEMON: &str = "(setsid env -i /bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done' >/dev/null 2>&1 &) ; ";

fn daemons_are_reaped_before_the_end_is_reported() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    let pids = rig.folder.path().join("pids");
    let script = format!(
        "(setsid env -i /bin/sh -c 'echo $$ >> {0}; trap \"\" TERM; while :; do sleep 1; done' &) ; \
         while [ ! -s {0} ]; do sleep 0.01; done; exit 3",
        pids.display()
    );
    let end = &rig.run(sh(id, 1, &script))[&task(id, 0)];
    assert_eq!((end.code, end.reason), (Some(3), ExitReason::Exited));
    let daemon: u32 = fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
    assert!(!alive(daemon), "the daemon outlived its task");
    rig.assert_nothing_runs();
}

fn a_killed_rank_looks_like_a_fault() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    rig.exec().start(sh(id, 3, "sleep 1000")).unwrap();
    rig.started(3);
    rig.exec().kill_rank(task(id, 1)).unwrap();
    let ends = rig.exited(1);
    let end = &ends[&task(id, 1)];
    assert_eq!((end.code, end.signal, end.reason), (None, Some(9), ExitReason::Exited));
    assert!(matches!(rig.exec().kill_rank(task(id, 1)), Err(Error::NotRunning(_))));
    assert!(matches!(rig.exec().kill_rank(task(id, 3)), Err(Error::NotRunning(_))));
    assert_eq!(rig.exec().running(), [id]);
    rig.exec().stop(id, Stop::Now).unwrap();
    assert_eq!(rig.exited(2).len(), 2);
}

fn a_killed_warden_leaves_nothing() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    rig.exec().start(sh(id, 2, "sleep 1000 & sleep 1000")).unwrap();
    rig.started(2);
    kill_9(recorded_pid(rig.exec(), task(id, 0), "warden"));
    let ends = rig.exited(1);
    assert_eq!(ends[&task(id, 0)].reason, ExitReason::WardenLost);
    assert!(!alive(recorded_pid(rig.exec(), task(id, 0), "task")));
    assert!(alive(recorded_pid(rig.exec(), task(id, 1), "task")), "the other rank was hit, too");
    rig.exec().stop(id, Stop::Now).unwrap();
    rig.exited(1);
    rig.assert_nothing_runs();
}

fn secrets_reach_the_task_and_nothing_else() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    let secret = "dh-sesame-9f2c81";
    let mut spec = sh(id, 1, "echo ${#API_KEY} ${#DH_GANG_TOKEN}; sleep 1000");
    spec.secret_env = BTreeMap::from([("API_KEY".to_owned(), Secret::new(secret.to_owned()))]);
    rig.exec().start(spec).unwrap();
    let pid = rig.started(1)[0].1;
    rig.await_log(task(id, 0), "16 32\n");
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(contains(&environ, secret), "the task does not have it, so this test tests nothing");
    let token_at = environ.windows(14).position(|bytes| bytes == b"DH_GANG_TOKEN=").unwrap() + 14;
    let token = String::from_utf8(environ[token_at..token_at + 32].to_vec()).unwrap();

    let warden = recorded_pid(rig.exec(), task(id, 0), "warden");
    for file in ["cmdline", "environ"] {
        let text = fs::read(format!("/proc/{warden}/{file}")).unwrap();
        assert!(!text.is_empty() && !contains(&text, secret) && !contains(&text, &token), "{file}");
    }
    rig.exec().stop(id, Stop::Now).unwrap();
    rig.exited(1);
    for path in files(rig.folder.path()) {
        let text = fs::read(&path).unwrap();
        assert!(!contains(&text, secret) && !contains(&text, &token), "{}", path.display());
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{} can be read by others", path.display());
    }
}

fn contains(text: &[u8], needle: &str) -> bool {
    text.windows(needle.len()).any(|window| window == needle.as_bytes())
}

fn the_memory_limit_holds() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    // `tail` keeps all of a line that never ends.
    let mut spec = gang(id, 1, &["tail", "/dev/zero"]);
    spec.limits = TaskLimits { memory: Some(Bytes(64 << 20)), ..TaskLimits::default() };
    rig.exec().start(spec).unwrap();
    let enforcement = rig.started(1).remove(0).2;
    let end = rig.exited(1).remove(&task(id, 0)).unwrap();
    println!("  memory limit: {}; ended with {end:?}", enforcement.memory);
    match enforcement.memory {
        Bound::EnforcedBy(what) if what.contains("cgroup v") => {
            assert_eq!((end.signal, end.reason), (Some(9), ExitReason::MemoryLimit));
            assert!(rig.log(task(id, 0)).contains("memory limit"));
        }
        Bound::EnforcedBy(_) => assert_eq!((end.code, end.reason), (Some(1), ExitReason::Exited)),
        Bound::NotAsked | Bound::DeclaredOnly(_) => panic!("memory can always be limited somehow"),
    }
    assert_no_groups(&rig);
}

/// Control groups are named after the marks of their tasks.
fn assert_no_groups(rig: &Rig) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let homes = fs::read_to_string("/proc/self/cgroup").unwrap();
    for record in files(rig.folder.path()).iter().filter(|path| path.ends_with("gang.json")) {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        let name = format!("datahall-{}.0", record["mark"].as_str().unwrap());
        for mount in mounts.lines().filter(|line| line.contains(" cgroup")).filter_map(|line| line.split(' ').nth(1)) {
            for home in homes.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
                let folder = std::path::Path::new(mount).join(home.trim_start_matches('/')).join(&name);
                assert!(!folder.exists(), "{} stayed behind", folder.display());
            }
        }
    }
}

fn the_process_limit_holds_or_says_so() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    let mut spec = sh(id, 1, "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; echo all; kill $(jobs -p)");
    spec.limits.processes = Some(4);
    rig.exec().start(spec).unwrap();
    let enforcement = rig.started(1).remove(0).2;
    let end = rig.exited(1).remove(&task(id, 0)).unwrap();
    println!("  process limit: {}", enforcement.processes);
    let all = rig.log(task(id, 0)).contains("all\n");
    match enforcement.processes {
        Bound::EnforcedBy(_) => assert!(!all && end.code != Some(0), "{end:?}"),
        Bound::DeclaredOnly(_) => assert!(all),
        Bound::NotAsked => panic!("it was asked for"),
    }
    assert_no_groups(&rig);
}

fn the_time_limit_ends_the_task() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    let mut spec = sh(id, 2, "sleep 1000");
    spec.limits.time = Some(Duration::from_millis(300));
    let start = Instant::now();
    for end in rig.run(spec).values() {
        assert_eq!((end.signal, end.reason), (Some(15), ExitReason::TimeLimit));
        assert!(end.message.contains("300 ms"), "{}", end.message);
    }
    assert!(start.elapsed() > Duration::from_millis(300) && start.elapsed() < Duration::from_secs(3));
    assert!(rig.log(task(id, 1)).contains("time limit of 300 ms"));
}

fn files_and_cores_are_limited() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    let mut spec = sh(id, 1, "ulimit -n; ulimit -c; grep Cpus_allowed_list /proc/self/status; echo $OMP_NUM_THREADS");
    spec.limits.open_files = Some(99);
    spec.ranks[0].cores = vec![0];
    rig.run(spec);
    assert_eq!(rig.log(task(id, 0)), "99\n0\nCpus_allowed_list:\t0\n1\n");
}

fn logs_keep_order_and_survive_attempts() {
    let rig = Rig::new();
    let script = "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; echo try $DH_ATTEMPT";
    for number in 1..=2 {
        rig.run(sh(attempt(1, number), 2, script));
    }
    let lines = (0..200).map(|i| format!("out {i}\nerr {i}\n")).collect::<Vec<_>>().concat();
    for number in 1..=2 {
        for rank in 0..2 {
            assert_eq!(rig.log(task(attempt(1, number), rank)), format!("{lines}try {number}\n"));
        }
    }
}

fn the_environment_is_ours_and_the_users() {
    let rig = Rig::new();
    let id = attempt(9, 1);
    let mut spec = sh(id, 2, "echo $RANK/$WORLD_SIZE $LR $DH_JOB; echo $PATH; echo \"[$CARGO_PKG_NAME]\"; cat");
    spec.env = BTreeMap::from([("LR".to_owned(), "0.1".to_owned()), ("RANK".to_owned(), "7".to_owned())]);
    rig.run(spec);
    let own = std::env::current_exe().unwrap();
    let log = rig.log(task(id, 1));
    assert!(log.starts_with(&format!("1/2 0.1 9\n{}:", own.parent().unwrap().display())), "{log}");
    assert!(log.ends_with("\n[]\n"), "the server's variables are inherited: {log}");
}

fn usage_sees_all_processes_of_a_rank() {
    let rig = Rig::new();
    let id = attempt(1, 1);
    rig.exec().start(sh(id, 2, "[ $DH_RANK = 1 ] && while :; do :; done; setsid sleep 1000 & sleep 1000")).unwrap();
    rig.started(2);
    eventually(PATIENCE, || rig.exec().usage(id).unwrap()[1].cpu.0 > 0.2);
    let usage = rig.exec().usage(id).unwrap();
    assert_eq!((usage[0].processes, usage[1].processes), (3, 1));
    assert!(usage[0].cpu.0 < 0.2 && usage[0].resident.0 > 1 << 20, "{usage:?}");
    rig.exec().stop(id, Stop::Now).unwrap();
    rig.exited(2);
    assert!(matches!(rig.exec().usage(id), Err(Error::UnknownAttempt(_))));
}

fn one_server_per_state_directory() {
    let rig = Rig::new();
    let second = LocalExecutor::new(warden_command(), rig.folder.path(), Arc::new(|_| ()));
    let error = second.err().expect("two servers opened one directory");
    assert!(matches!(error, Error::InUse(_)) && error.kind() == Kind::Conflict, "{error:?}");
}

fn dropping_the_executor_ends_everything() {
    let mut rig = Rig::new();
    rig.exec().start(sh(attempt(1, 1), 4, &format!("{DAEMON} sleep 1000"))).unwrap();
    rig.exec().start(sh(attempt(2, 1), 1, "sleep 1000")).unwrap();
    rig.started(5);
    drop(rig.executor.take());
    rig.assert_nothing_runs();
    assert_eq!(rig.exited(5).len(), 5);
}

fn stopping_what_never_was_is_an_error() {
    let rig = Rig::new();
    let error = rig.exec().stop(attempt(1, 1), Stop::Now).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NotFound, "job/1.1 was never started here"));
    let recovered = rig.exec().recover(&[attempt(1, 1)]).unwrap();
    assert!(recovered.len() == 1 && recovered[0].outcomes().is_empty());
}
