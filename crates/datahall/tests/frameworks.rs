//! Real frameworks as jobs of a hall, with nothing but the environment that it gives them: JAX from PyPI, PyTorch from Debian.
//!
//! `cargo xtask clients` and `cargo xtask servers` install them; `DATAHALL_TEST_CLIENTS=skip` and `DATAHALL_TEST_SERVERS=skip` leave
//! them out.
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

use support::{BLUEPRINT, TestHall, clients};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name)
}

/// Runs `script` as a job of two ranks under `python`; what both printed.
fn two_ranks(hall: &TestHall, python: &Path, script: &Path, more: &[&str]) -> String {
    let flags = [&["--ranks", "2", "--wait", "--follow"], more].concat();
    let output = hall.submit(&flags, &[python.to_str().unwrap(), script.to_str().unwrap()]);
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{log}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(hall.json(&["jobs"])["jobs"][0]["attempts"], 1);
    log
}

#[test]
fn jax_reduces_over_two_processes_and_keeps_a_checkpoint_in_the_store() {
    let Some(clients) = clients() else { return };
    let hall = TestHall::start(BLUEPRINT);
    let log = two_ranks(&hall, &clients.join("bin/python"), &script("jax_job.py"), &["--env", "JAX_PLATFORMS=cpu"]);
    for words in ["[1.0] rank 0 of 2: total 21", "[1.1] rank 1 of 2: total 21"] {
        assert!(log.contains(words), "`{words}` is missing: {log}");
    }
}

#[test]
fn pytorch_reduces_over_two_ranks_and_keeps_a_checkpoint_in_the_store() {
    let there = Path::new("/usr/lib/python3/dist-packages/torch").exists();
    if std::env::var("DATAHALL_TEST_SERVERS").is_ok_and(|value| value == "skip") {
        assert!(std::env::var("CI").is_err(), "nothing may be skipped in CI");
        eprintln!("skipped: PyTorch is not installed; `cargo xtask servers` installs it");
        return;
    }
    assert!(there, "PyTorch is missing; `cargo xtask servers` installs it from Debian (python3-torch), as root");
    let hall = TestHall::start(BLUEPRINT);
    let log = two_ranks(&hall, Path::new("/usr/bin/python3"), &script("torch_job.py"), &[]);
    for words in ["[1.0] rank 0 of 2: total 21", "[1.1] rank 1 of 2: total 21"] {
        assert!(log.contains(words), "`{words}` is missing: {log}");
    }
}
