//! What a hall remembers: its log replays to the same state, and jobs outlive the server.

use serde_json::Value;

use crate::support::{BLUEPRINT, TestHall};

/// The state hash of a hall at rest, once as `status` says it and once as a replay of the live log reaches it.
fn assert_replay_agrees(hall: &TestHall) {
    for _ in 0..100 {
        let before = hall.json(&["status"]);
        let replay = hall.json(&["replay"]);
        assert_eq!(replay["schema_version"], 1);
        assert_eq!(replay["differs"], Value::Null, "{replay}");
        let after = hall.json(&["status"]);
        // Between two equal counts of events nothing happened, so all three mean one state.
        if before["events"] == after["events"] {
            assert_eq!(replay["events"], before["events"]);
            assert_eq!(replay["hash"], before["state_hash"]);
            return;
        }
    }
    panic!("the hall never rests");
}

#[test]
fn a_replay_of_the_live_log_reaches_the_live_state() {
    let mut hall = TestHall::start(BLUEPRINT);
    for number in 0..20 {
        let output = hall.submit(&["--ranks", "2"], &["sh", "-c", &format!("exit {}", number % 3)]);
        assert!(output.status.success(), "{output:?}");
    }
    hall.wait_for_job(20, "over", |view| view["ended_ns"].is_u64());
    assert_replay_agrees(&hall);
    hall.ok(&["down"]);
    hall.stop();
    let replay = hall.json(&["replay"]);
    assert_eq!(replay["differs"], Value::Null, "{replay}");
    assert!(replay["marks"].as_u64().unwrap() >= 2 && replay["events"].as_u64().unwrap() > 60, "{replay}");
    // The log can be named by itself, too.
    let path = hall.data().join("events.sqlite");
    let named = hall.command().args(["replay", "-o", "json"]).arg(&path).output().unwrap();
    let named: Value = serde_json::from_slice(&named.stdout).unwrap();
    assert_eq!(named["hash"], replay["hash"]);
}

#[test]
fn jobs_outlive_down_and_the_next_start_goes_on_with_them() {
    let mut hall = TestHall::start(BLUEPRINT);
    let out = hall.path("go");
    assert_eq!(hall.submit(&["--wait"], &["true"]).status.code(), Some(0));
    assert_eq!(hall.submit(&["--wait"], &["sh", "-c", "exit 3"]).status.code(), Some(3));
    // Runs until the file is there, which is only after the restart.
    let script = "while [ ! -e \"$GO\" ]; do sleep 0.1; done; echo attempt $DH_ATTEMPT";
    let variable = format!("GO={}", out.display());
    assert!(hall.submit(&["--ranks", "4", "--env", &variable], &["sh", "-c", script]).status.success());
    assert!(hall.submit(&["--name", "waiting"], &["true"]).status.success());
    hall.wait_for_job(3, "running", |view| view["ranks_running"] == 4);
    let urls = ["api", "gateway", "store"].map(|listener| hall.url(listener));

    hall.ok(&["down"]);
    hall.stop();
    hall.assert_nothing_left();
    assert_eq!(hall.fails(&["jobs"]).0, 8);
    std::fs::write(&out, "").unwrap();
    hall.restart();

    assert_eq!(["api", "gateway", "store"].map(|listener| hall.url(listener)), urls, "ports are kept");
    for job in [3, 4] {
        hall.wait_for_job(job, "done", |view| view["state"] == "succeeded");
    }
    let jobs = hall.json(&["jobs"])["jobs"].clone();
    let states: Vec<&str> = jobs.as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["succeeded", "failed", "succeeded", "succeeded"]);
    assert_eq!((&jobs[1]["exit_code"], &jobs[2]["attempts"]), (&3.into(), &2.into()), "{jobs}");
    assert!(hall.ok(&["logs", "3"]).contains("[2.3] attempt 2"));
    let output = hall.submit(&["-o", "json"], &["true"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains('5'), "numbers go on: {output:?}");
    hall.wait_for_job(5, "done", |view| view["state"] == "succeeded");
    assert_replay_agrees(&hall);
}

#[test]
fn one_data_directory_has_one_server() {
    let hall = TestHall::start(BLUEPRINT);
    let blueprint = hall.path("hall.toml");
    let (code, said) = hall.fails(&["up", blueprint.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("in use by process {}", hall.pid())) && said.contains("hint: "), "{said}");
    hall.ok(&["status"]);
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_stays_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let home = tempfile::tempdir().unwrap();
    let text = BLUEPRINT.replace("api_port = 0", &format!("api_port = {port}"));
    std::fs::write(home.path().join("hall.toml"), text).unwrap();
    let output = crate::support::command_at_home(home.path()).args(["up", "--data", "data"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&port.to_string()) && said.contains("hint: "), "{said}");
    assert!(crate::support::processes_of(home.path()).is_empty());
}
