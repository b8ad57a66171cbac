//! More real frameworks as jobs of a hall, too large for the gate: TensorFlow, Ray, Spark.
//!
//! `cargo xtask prove --only frameworks` installs them into `target/frameworks` and names that folder by `DATAHALL_FRAMEWORKS`; without it
//! these tests are left out. Ray needs root, for a network namespace; Spark needs Java.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{BLUEPRINT, TestHall};

/// The Python that has the frameworks; `None` where this is not asked for.
fn python() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("DATAHALL_FRAMEWORKS") else {
        eprintln!("left out: `cargo xtask prove --only frameworks` runs it");
        return None;
    };
    let python = Path::new(&folder).join("bin/python");
    assert!(python.exists(), "{} is missing", python.display());
    Some(python)
}

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name).to_str().unwrap().to_owned()
}

/// Runs a job to its end; what its ranks printed.
fn job(hall: &TestHall, flags: &[&str], program: &[&str]) -> String {
    let output = hall.submit(&[flags, &["--follow", "--time-limit", "10 min"]].concat(), program);
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{log}{}", String::from_utf8_lossy(&output.stderr));
    log
}

#[test]
fn tensorflow_trains_on_two_workers() {
    let Some(python) = python() else { return };
    let hall = TestHall::start(BLUEPRINT);
    let log = job(&hall, &["--ranks", "2"], &[python.to_str().unwrap(), &script("tensorflow_job.py")]);
    let weight = |rank: u32| {
        let begins = format!("rank {rank} of 2: total 21.0 weight ");
        let line = log.lines().find_map(|line| line.split_once(&begins)).unwrap_or_else(|| panic!("{log}"));
        line.1.to_owned()
    };
    assert_eq!(weight(0), weight(1), "the workers have the same weights");
}

/// A network namespace with nothing but loopback, gone with the test.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let made = Self(format!("dh-ray-{}", std::process::id()));
        for words in [&["netns", "add", &made.0][..], &["-n", &made.0, "link", "set", "lo", "up"]] {
            let status = Command::new("ip").args(words).status().unwrap();
            assert!(status.success(), "`ip {}` needs root", words.join(" "));
        }
        made
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

#[test]
fn ray_spreads_tasks_over_two_nodes() {
    let Some(python) = python() else { return };
    let namespace = Namespace::new();
    let hall = TestHall::start(BLUEPRINT);
    let program = ["ip", "netns", "exec", &namespace.0, python.to_str().unwrap(), &script("ray_job.py")];
    // Its sockets lie below this folder, and the name of a socket is short.
    let log = job(&hall, &["--ranks", "2", "--env", "RAY_TMPDIR=/tmp"], &program);
    assert!(log.contains("nodes ['127.0.0.1', '127.0.0.2']"), "{log}");
}

#[test]
fn spark_groups_on_two_executors() {
    let Some(python) = python() else { return };
    let hall = TestHall::start(BLUEPRINT);
    let log = job(&hall, &[], &[python.to_str().unwrap(), &script("spark_job.py")]);
    assert!(log.contains("sums [166167, 166500, 166833] on 2 executors"), "{log}");
}
