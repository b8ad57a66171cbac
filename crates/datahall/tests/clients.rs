//! Real clients from the registries, unmodified: boto3, awscli, openai, JAX.
#![allow(clippy::unwrap_used, clippy::panic, clippy::allow_attributes, reason = "tests fail by panicking")]

mod support;

use std::path::Path;

use dh_infer::standin::{self, Standin};
use support::{BLUEPRINT, TestHall, clients, python};

#[test]
fn boto3_works_unmodified() {
    python(&TestHall::start(BLUEPRINT), "s3.py", &[]);
}

#[test]
fn awscli_works_unmodified() {
    python(&TestHall::start(BLUEPRINT), "aws.py", &[]);
}

#[test]
fn openai_works_unmodified_and_replicas_take_turns() {
    let hall = TestHall::start(BLUEPRINT);
    let file = hall.path(&format!("{}.gguf", standin::NAME));
    Standin::default().write(&file).unwrap();
    hall.ok(&["serve", file.to_str().unwrap(), "--replicas", "2"]);
    python(&hall, "chat.py", &[("MODEL", standin::NAME)]);
    // Both replicas have computed something: each engine counts its own tokens, the gateway's turns are fair.
    let services = hall.json(&["status"]);
    let ready = services["services"].as_array().unwrap().iter().filter(|one| one["state"] == "ready").count();
    assert_eq!(ready, 2, "{services}");
    for number in 0..4 {
        let answer = hall.ok(&["chat", "--max-tokens", "2", &format!("question {number}")]);
        assert!(!answer.is_empty());
    }
    hall.ok(&["serve", standin::NAME, "--stop"]);
}

#[test]
fn a_jax_job_of_two_processes_reads_from_the_store_and_checkpoints_to_it() {
    let Some(clients) = clients() else { return };
    let hall = TestHall::start(BLUEPRINT);
    python(&hall, "points.py", &[]);
    let program = clients.join("bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/jax-job/train.py").canonicalize().unwrap();
    let flags = ["--ranks", "2", "--follow", "--env", "JAX_PLATFORMS=cpu"];
    let output = hall.submit(&flags, &[program.to_str().unwrap(), script.to_str().unwrap()]);
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{log}{}", String::from_utf8_lossy(&output.stderr));
    assert!(log.contains("[1.0] rank 0 of 2") && log.contains("[1.1] rank 1 of 2"), "{log}");
    python(&hall, "points.py", &[("STEP", "check")]);
}
