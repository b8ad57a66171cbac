//! A running hall from the command line and its API: nodes, batch scripts, pages, the stream of events, backups, simulated nodes.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::support::{BLUEPRINT, TestHall};

/// A hall of a thousand nodes that exist in its memory only.
const SIMULATED: &str = r#"
schema = 1
name = "large"
[pool.sim]
nodes = 1000
slots = 8
[queue.default]
[target]
executor = "sim"
api_port = 0
gateway_port = 0
store_port = 0
"#;

fn number(accepted: &[u8]) -> u64 {
    let accepted: Value = serde_json::from_slice(accepted).unwrap();
    accepted["jobs"][0].as_u64().unwrap()
}

#[test]
fn a_drained_node_takes_nothing_new_until_that_is_undone() {
    let hall = TestHall::start(BLUEPRINT);
    let job = number(&hall.submit(&["--ranks", "2", "-o", "json"], &["sleep", "600"]).stdout);
    hall.wait_for_job(job, "running", |view| view["ranks_running"] == 2);
    let nodes = hall.json(&["nodes"]);
    assert_eq!((&nodes["nodes"][0]["name"], &nodes["nodes"][0]["busy"]), (&json!("local-0"), &json!(2)), "{nodes}");
    assert_eq!(nodes["nodes"][0]["jobs"], json!([job]));
    let drained = hall.json(&["drain", "local-0"]);
    assert_eq!((&drained["nodes"][0]["health"], &drained["nodes"][0]["jobs"]), (&json!("drained"), &json!([job])));
    let second = number(&hall.submit(&["-o", "json"], &["true"]).stdout);
    assert_eq!(hall.json(&["why", &second.to_string()])["state"], "waiting");
    hall.ok(&["drain", "local-0", "--undo"]);
    hall.wait_for_job(second, "over", |view| view["state"] == "succeeded");
    assert_eq!(hall.fails(&["drain", "nowhere"]).0, 7);
}

#[test]
fn a_batch_script_runs_its_srun_in_every_rank() {
    let hall = TestHall::start(BLUEPRINT);
    let script = hall.path("train.sbatch");
    let text = "#!/bin/sh\n#SBATCH --job-name=llm\n#SBATCH -n 3 --time=5\n#SBATCH --account=team\n\
                srun --mpi=none sh -c 'echo \"rank $RANK of $SLURM_NTASKS in $PWD\"'\nsrun -n 1 echo once\n";
    std::fs::write(&script, text).unwrap();
    let output = hall.run(&["submit", "--follow", script.to_str().unwrap()]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown} {}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<&str> = shown.lines().filter_map(|line| line.split_once("] ").map(|(_, line)| line)).collect();
    lines.sort_unstable();
    let here = hall.path(".").canonicalize().unwrap();
    let ranks = (0..3).map(|rank| format!("rank {rank} of 3 in {}", here.display()));
    let expected: Vec<String> = std::iter::once("once".to_owned()).chain(ranks).collect();
    assert_eq!(lines, expected);
    assert!(String::from_utf8_lossy(&output.stderr).contains("without effect here: --account=team"));
    let jobs = hall.json(&["jobs"]);
    assert_eq!((&jobs["jobs"][0]["name"], &jobs["jobs"][0]["ranks"]), (&json!("llm"), &json!(3)));
}

#[test]
fn jobs_come_in_pages_from_either_end() {
    let hall = TestHall::start(SIMULATED);
    for _ in 0..5 {
        hall.submit(&[], &["sleep", "600"]);
    }
    let page = |query: &str| {
        let (status, list) = hall.api("GET", &format!("/v1/jobs?{query}"), None);
        assert_eq!(status, 200, "{list}");
        let ids: Vec<u64> = list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_u64().unwrap()).collect();
        (ids, list["next"].as_u64())
    };
    assert_eq!(page(""), (vec![1, 2, 3, 4, 5], None));
    assert_eq!(page("limit=2"), (vec![1, 2], Some(2)));
    assert_eq!(page("limit=2&after=4"), (vec![5], None));
    assert_eq!(page("limit=2&before=0"), (vec![5, 4], Some(4)));
    assert_eq!(page("before=3"), (vec![2, 1], None));
    assert_eq!(page("state=failed"), (vec![], None));
    assert_eq!(hall.json(&["jobs", "--limit", "2"])["jobs"].as_array().unwrap().len(), 2);
}

#[test]
fn events_are_streamed_from_any_number_on_and_live() {
    let hall = TestHall::start(BLUEPRINT);
    assert!(hall.submit(&["--wait"], &["true"]).status.success());
    let open = |after: u64| {
        let config = ureq::Agent::config_builder().proxy(None).build();
        let answer = config
            .new_agent()
            .get(format!("{}/v1/events", hall.url("api")))
            .header("authorization", format!("Bearer {}", hall.key("admin")))
            .header("last-event-id", after.to_string())
            .call()
            .unwrap();
        BufReader::new(answer.into_body().into_reader())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
    };
    let mut stream = open(0);
    let first = stream.by_ref().find(|event| event["what"]["event"] == "submitted").unwrap();
    assert_eq!(first["what"]["spec"]["command"], json!(["true"]));
    let ended = stream.by_ref().find(|event| event["what"]["event"] == "task_ended").unwrap();
    // What comes later arrives on the open stream, without a gap.
    let mut last = ended["seq"].as_u64().unwrap();
    hall.submit(&[], &["echo", "second"]);
    for event in stream {
        assert_eq!(event["seq"].as_u64(), Some(last + 1));
        last += 1;
        if event["what"]["event"] == "submitted" {
            break;
        }
    }
    assert_eq!(open(last - 1).next().unwrap()["seq"].as_u64(), Some(last));
}

#[test]
fn a_backup_of_a_running_hall_brings_the_same_state_back() {
    let hall = TestHall::start(BLUEPRINT);
    for code in ["exit 0", "exit 3"] {
        hall.submit(&["--wait"], &["sh", "-c", code]);
    }
    let backup = hall.path("backup");
    let made = hall.json(&["backup", backup.to_str().unwrap()]);
    assert!(made["events"].as_u64() > Some(4), "{made}");
    assert_ne!(hall.fails(&["backup", backup.to_str().unwrap()]).0, 0);
    let restored = hall.path("restored");
    let arguments =
        ["restore", backup.to_str().unwrap(), hall.path("hall.toml").to_str().unwrap(), "--data"].map(str::to_owned);
    let restore = || hall.command().args(&arguments).arg(&restored).output().unwrap();
    assert!(restore().status.success());
    assert!(!restore().status.success(), "an old log is never written over");
    let replay = |log: &std::path::Path| hall.json(&["replay", log.join("events.sqlite").to_str().unwrap()]);
    let (before, after) = (replay(&backup), replay(&restored));
    assert_eq!(before["hash"], after["hash"]);
    assert_eq!(
        std::fs::read(hall.data().join("keys.json")).unwrap(),
        std::fs::read(restored.join("keys.json")).unwrap()
    );
    let accounts = |data: &std::path::Path| std::fs::read(data.join("accounts/ledger.jsonl")).unwrap();
    assert_eq!(accounts(&hall.data()), accounts(&restored), "what keys have used is not forgotten");
    // Whoever ran it goes on: a server starts on it and knows the jobs.
    let jobs = hall.json(&["jobs"]);
    let mut other = TestHall::start(BLUEPRINT);
    other.stop();
    std::fs::remove_dir_all(other.data()).unwrap();
    std::fs::rename(&restored, other.data()).unwrap();
    other.spawn();
    other.wait_until_up();
    assert_eq!(other.json(&["jobs"])["jobs"], jobs["jobs"]);
}

#[test]
fn a_thousand_simulated_nodes_run_gangs_faults_and_retries() {
    let hall = TestHall::start(SIMULATED);
    let begin = std::time::Instant::now();
    assert!(hall.submit(&["--ranks", "200", "--wait"], &["sleep", "0.2"]).status.success());
    assert!(begin.elapsed() >= std::time::Duration::from_millis(200));
    let fault = [
        "--ranks",
        "16",
        "--retries",
        "1",
        "--env",
        "DH_SIM_FAULT=3@50 ms",
        "--env",
        "DH_SIM_TIME=200 ms",
        "--wait",
        "-o",
        "json",
    ];
    let output = hall.submit(&fault, &["train"]);
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&view["state"], &view["attempts"]), (&json!("succeeded"), &json!(2)), "{view}");
    assert_eq!(hall.submit(&["--env", "DH_SIM_EXIT=9", "--wait"], &["train"]).status.code(), Some(9));
    assert_eq!(hall.json(&["nodes"])["nodes"].as_array().unwrap().len(), 1_000);
}

#[test]
fn the_api_describes_itself() {
    let hall = TestHall::start(BLUEPRINT);
    let (status, document) = hall.api("GET", "/v1/openapi.json", None);
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    assert!(document["paths"]["/v1/jobs"]["post"]["requestBody"].is_object());
    assert!(document["components"]["schemas"]["JobView"]["properties"]["id"].is_object());
}
