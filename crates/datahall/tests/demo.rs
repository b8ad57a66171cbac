//! The project's main job, as everybody runs it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{DATAHALL, PATIENCE, processes_of};
use tempfile::TempDir;

/// Downloads are kept between runs, where `cargo clean` finds them.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache")
}

fn demo(home: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::new(DATAHALL);
    command
        .args(["demo", "--exit"])
        .args(flags)
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("XDG_DATA_HOME", home.path().join("share"))
        .env("XDG_CACHE_HOME", cache());
    command
}

fn home() -> TempDir {
    tempfile::Builder::new().prefix("dh-demo-").tempdir().unwrap()
}

fn assert_nothing_left(home: &TempDir) {
    let begin = Instant::now();
    loop {
        let left = processes_of(home.path());
        if left.is_empty() {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn report(home: &TempDir, flags: &[&str]) -> Value {
    let output = demo(home, &[flags, &["-o", "json"]].concat()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let printed = String::from_utf8(output.stdout).unwrap();
    for prefix in ["dh-admin-", "dh-model-", "dh-job-"] {
        assert!(!printed.contains(prefix), "a key is in the JSON");
    }
    assert_nothing_left(home);
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn the_demo_trains_breaks_resumes_serves_and_answers() {
    let home = home();
    let report = report(&home, &[]);
    let real = report["data"] == "Fashion-MNIST" && report["chat_model_generated"] == false;
    if !real {
        assert!(std::env::var("CI").is_err(), "in CI the public files must be there: {report}");
        eprintln!("the public files cannot be had here; only generated data was tried");
    }
    let epochs = report["accuracy_by_epoch"].as_array().unwrap();
    assert_eq!(epochs.len(), 5);
    assert!(epochs[4].as_f64().unwrap() >= 0.85, "{epochs:?}");
    assert_eq!(report["attempts"], 2);
    let fault = &report["fault"];
    let cost = fault["killed_after_step"].as_u64().unwrap() - fault["resumed_from_step"].as_u64().unwrap();
    assert!(cost <= 300 + 50, "more than a checkpoint interval and the steps between two reports: {fault}");
    let (logical, stored) =
        (report["store_logical_bytes"].as_u64().unwrap(), report["store_stored_bytes"].as_u64().unwrap());
    assert!(stored < logical && logical > 50_000_000, "{stored} of {logical}");
    assert!(report["server_peak_bytes"].as_u64().unwrap() < 250_000_000, "{report}");
    let answer = report["answer"].as_str().unwrap();
    assert!(!answer.is_empty());
    if real {
        let words: Vec<&str> = answer.split_ascii_whitespace().collect();
        let common = ["a", "is", "the", "of", "and", "data", "that", "to"];
        let found = common.iter().filter(|word| words.iter().any(|one| one.eq_ignore_ascii_case(word))).count();
        assert!(found >= 4 && answer.is_ascii(), "not English: {answer}");
    }
}

#[test]
fn without_the_network_everything_made_up_says_so() {
    let home = home();
    let report = report(&home, &["--offline", "--no-fault"]);
    assert_eq!(report["data"], "generated");
    assert_eq!(report["chat_model_generated"], true);
    assert!(report["chat_model"].as_str().unwrap().contains("generated"));
    assert_eq!(report["attempts"], 1);
    assert!(report["fault"].is_null());
    assert!(report["accuracy_by_epoch"][4].as_f64().unwrap() > 0.85);
}

/// Starts a demo and waits until its training runs.
fn training(home: &TempDir) -> Child {
    let log = std::fs::File::create(home.path().join("stderr")).unwrap();
    let child = demo(home, &["--offline"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let begin = Instant::now();
    while !std::fs::read_to_string(home.path().join("stderr")).unwrap().contains("epoch 1: accuracy") {
        assert!(begin.elapsed() < PATIENCE * 2, "the training does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(processes_of(home.path()).len() >= 6, "demo, hall, two wardens, two ranks");
    child
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let home = home();
    let mut child = training(&home);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(processes_of(home.path()), Vec::<String>::new(), "all is gone when the demo is gone");
}

#[test]
fn a_killed_demo_leaves_nothing_behind() {
    let home = home();
    let mut child = training(&home);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing_left(&home);
}
