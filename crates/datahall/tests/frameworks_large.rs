//! Frameworks that are too large for the gate, as jobs of a hall: TensorFlow and Ray. `cargo xtask prove --only frameworks` installs
//! and runs them; without `DATAHALL_TEST_FRAMEWORKS`, the folder of their environment, these tests have nothing to run.
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

use support::{BLUEPRINT, TestHall};

fn frameworks() -> Option<PathBuf> {
    let folder = std::env::var_os("DATAHALL_TEST_FRAMEWORKS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("not run: `cargo xtask prove --only frameworks` installs TensorFlow and Ray, and runs this");
    }
    folder
}

fn two_ranks(hall: &TestHall, folder: &Path, script: &str, more: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let python = folder.join("bin/python");
    let flags = [&["--ranks", "2", "--wait", "--follow"], more].concat();
    let output = hall.submit(&flags, &[python.to_str().unwrap(), script.to_str().unwrap()]);
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{log}{}", String::from_utf8_lossy(&output.stderr));
    log
}

#[test]
fn tensorflow_reduces_over_two_workers() {
    let Some(folder) = frameworks() else { return };
    let hall = TestHall::start(BLUEPRINT);
    let log = two_ranks(&hall, &folder, "tensorflow_job.py", &[]);
    for words in ["rank 0 of 2: total 21", "rank 1 of 2: total 21"] {
        assert!(log.contains(words), "`{words}` is missing: {log}");
    }
}

#[test]
fn ray_runs_work_on_both_nodes() {
    let Some(folder) = frameworks() else { return };
    let hall = TestHall::start(BLUEPRINT);
    let place = format!("RAY_JOB_FOLDER={}", hall.path(".").display());
    let log = two_ranks(&hall, &folder, "ray_job.py", &["--env", &place]);
    assert!(log.contains("rank 0 of 2: total 2"), "{log}");
}
