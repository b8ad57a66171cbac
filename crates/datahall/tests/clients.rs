//! Real clients from the registries, unmodified and with their default settings: boto3, awscli, openai, JAX.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

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
    let served = hall.json(&["serve", file.to_str().unwrap(), "--replicas", "2"]);
    assert_eq!(served["schema_version"], 1);
    let states: Vec<&str> =
        served["services"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ready", "ready"], "{served}");
    python(&hall, "chat.py", &[("MODEL", standin::NAME)]);
    // The gateway's log names the engine of each answer: they take strict turns.
    let log = hall.server_log();
    let turns: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("dh_gateway::access") && line.contains("status=200"))
        .filter_map(|line| line.split_once("engine=\"")?.1.split('"').next())
        .collect();
    assert!(turns.len() >= 4 || clients().is_none(), "{turns:?}");
    assert!(turns.windows(2).all(|two| two[0] != two[1]), "{turns:?}");

    // The command line talks to the same model, and what is stopped is no longer offered.
    assert!(!hall.ok(&["chat", "--max-tokens", "2", "hello"]).trim().is_empty());
    hall.ok(&["serve", standin::NAME, "--stop"]);
    for job in [1, 2] {
        hall.wait_for_job(job, "stopped", |view| view["state"] == "cancelled");
    }
    assert_eq!(hall.fails(&["chat", "hello"]).0, 7);
}

#[test]
fn a_model_that_is_no_model_is_refused_with_the_engines_own_words() {
    let hall = TestHall::start(BLUEPRINT);
    let file = hall.path("broken.gguf");
    std::fs::write(&file, b"GGUF but no more").unwrap();
    let (code, said) = hall.fails(&["serve", file.to_str().unwrap()]);
    assert!(code == 1 && said.contains("broken") && said.contains("hint: `datahall logs job/1`"), "{code}: {said}");
    assert!(hall.ok(&["logs", "1"]).contains("error:"));
    hall.ok(&["serve", "broken", "--stop"]);
    hall.wait_for_job(1, "stopped", |view| view["state"] == "cancelled");
}

#[test]
fn a_jax_job_of_two_processes_reads_from_the_store_and_checkpoints_to_it() {
    let Some(clients) = clients() else { return };
    let hall = TestHall::start(BLUEPRINT);
    python(&hall, "points.py", &[]);
    let program = clients.join("bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/jax-job/train.py").canonicalize().unwrap();
    let data = "DH_DATA=ro:s3://datasets/line s3://checkpoints/line";
    let flags = ["--ranks", "2", "--wait", "--follow", "--env", "JAX_PLATFORMS=cpu", "--env", data];
    let output = hall.submit(&flags, &[program.to_str().unwrap(), script.to_str().unwrap()]);
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{log}{}", String::from_utf8_lossy(&output.stderr));
    for words in ["[1.0] rank 0 of 2: step 200", "[1.1] rank 1 of 2: step 200"] {
        assert!(log.contains(words), "`{words}` is missing: {log}");
    }
    assert_eq!(hall.json(&["jobs"])["jobs"][0]["attempts"], 1);
    python(&hall, "points.py", &[("STEP", "check")]);
}
