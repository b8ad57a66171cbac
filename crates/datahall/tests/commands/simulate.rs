//! `simulate`: the placement protocol from plain and from gzipped files, and what it says of wrong ones.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{command_at_home, failure};

/// Ten nodes of eight accelerators and a list of pods of one, packed.
fn files(home: &Path) {
    let mut nodes = "sn,cpu_milli,memory_mib,gpu,model\n".to_owned();
    let mut pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n".to_owned();
    for n in 0..10 {
        writeln!(nodes, "n{n},96000,393216,8,G2").unwrap();
        writeln!(pods, "p{n},8000,1024,1,1000,").unwrap();
    }
    std::fs::write(home.join("nodes.csv"), nodes).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(pods.as_bytes()).unwrap();
    std::fs::write(home.join("pods.csv.gz"), packed.finish().unwrap()).unwrap();
}

const PLAY: [&str; 6] = ["simulate", "openb", "--nodes", "nodes.csv", "--pods", "pods.csv.gz"];

#[test]
fn equal_requests_fill_every_accelerator() {
    let home = tempfile::tempdir().unwrap();
    files(home.path());
    let json = ["--policy", "best", "--ratio", "1.3", "--seeds", "42..43", "-o", "json"];
    let output = command_at_home(home.path()).args(PLAY).args(json).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["schema_version"], &value["accelerators"]), (&1.into(), &80.into()));
    // A mark is read at the pod that reaches it: 70 % of 80 is the 56th, 130 % finds all 80 taken.
    assert_eq!(value["allocation_pct"]["70"], 70.0);
    assert_eq!(value["allocation_pct"]["130"], 100.0);
    assert_eq!(value["runs"].as_array().unwrap().len(), 2);
    let output = command_at_home(home.path()).args(PLAY).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("10 nodes, 80 accelerators, 10 runs") && text.contains("130 %   100.00 %"), "{text}");
}

#[test]
fn what_is_wrong_with_a_trace_is_said() {
    let home = tempfile::tempdir().unwrap();
    files(home.path());
    let fails =
        |arguments: &[&str]| failure(arguments, &command_at_home(home.path()).args(arguments).output().unwrap());
    let (code, text) = fails(&[&PLAY[..], &["--policy", "bestfit"]].concat());
    assert!(code == 7 && text.contains("future-fill, fragmentation, best-fit"), "{code}: {text}");
    let swapped = ["simulate", "openb", "--nodes", "pods.csv.gz", "--pods", "nodes.csv"];
    let (code, text) = fails(&swapped);
    assert!(code == 2 && text.contains("nodes: there is no column `gpu`"), "{code}: {text}");
    let (code, text) = fails(&["simulate", "openb", "--nodes", "none.csv", "--pods", "nodes.csv"]);
    assert!(code == 7 && text.contains("none.csv"), "{code}: {text}");
}

/// A hall of four nodes with a service whose replicas are predicted.
fn lab(home: &Path) {
    let made = command_at_home(home).args(["init", "hall.toml", "--template", "lab"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn json(home: &Path, arguments: &[&str]) -> Value {
    let output = command_at_home(home).args(arguments).args(["-o", "json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn requests_of_a_trace_are_answered_by_the_replicas_of_a_service() {
    let home = tempfile::tempdir().unwrap();
    lab(home.path());
    let mut requests = "t_s,input_tokens,output_tokens\n".to_owned();
    for second in 0..600 {
        writeln!(requests, "{second},1000,100").unwrap();
    }
    std::fs::write(home.path().join("requests.csv"), requests).unwrap();
    let play = ["simulate", "hall.toml", "--services-only", "--days", "1", "--requests", "requests.csv"];
    let value = json(home.path(), &play);
    let chat = &value["runs"][0]["services"][0];
    assert_eq!((&chat["service"], &chat["requests"], &chat["answered"]), (&"chat".into(), &600.into(), &600.into()));
    assert_eq!(chat["refused"], 0);
    let number = |name: &str| chat[name].as_f64().unwrap();
    assert!((number("tokens_per_second") / 100.0 - 1.0).abs() < 0.05, "{chat}");
    // One replica of eight for ten minutes.
    assert!((number("accelerator_hours") / (8.0 / 6.0) - 1.0).abs() < 0.05, "{chat}");
    assert!(number("usd_per_million_tokens") > 0.0 && number("within_targets") > 0.9, "{chat}");
    for times in ["ttft", "tpot", "whole"] {
        assert!(chat[times]["mean_s"].as_f64() > Some(0.0) && chat[times]["p99_s"].as_f64() > Some(0.0), "{chat}");
    }
    let steps = chat["over_time"].as_array().unwrap();
    assert!(steps.len() > 100 && steps.iter().all(|step| step["replicas"] == 1.0), "{}", steps.len());
    // A bound on requests in flight refuses what it does not hold.
    let crowded = [&play[..], &["--rate", "1000", "--in-flight", "100"]].concat();
    let crowded = &json(home.path(), &crowded)["runs"][0]["services"][0];
    let count = |name: &str| crowded[name].as_u64().unwrap();
    assert!(count("refused") > 0 && count("refused") + count("answered") == 600, "{crowded}");
    let page = [&play[..], &["--html", "page.html"]].concat();
    let output = command_at_home(home.path()).args(page).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("chat: 600 of 600 requests answered") && text.contains("first token (TTFT)"), "{text}");
    let page = std::fs::read_to_string(home.path().join("page.html")).unwrap();
    assert!(page.contains("<section id=\"services\"") && page.contains("Generated tokens a second"));
}

#[test]
fn requests_are_drawn_as_the_blueprint_says_and_replicas_follow_them() {
    let home = tempfile::tempdir().unwrap();
    lab(home.path());
    let play = ["simulate", "hall.toml", "--services-only", "--days", "1", "--no-faults", "--load", "1"];
    let planned = json(home.path(), &[&play[..], &["--arrivals", "plan"]].concat());
    let chat = &planned["runs"][0]["services"][0];
    let requests = chat["requests"].as_f64().unwrap();
    // Four a second for a day.
    assert!((requests / 345_600.0 - 1.0).abs() < 0.02, "{requests}");
    let fails = |more: &[&str]| {
        let arguments = [&play[..], more].concat();
        failure(&arguments, &command_at_home(home.path()).args(&arguments).output().unwrap())
    };
    let (code, text) = fails(&["--arrivals", "1", "--service", "none"]);
    assert!(
        code == 7 && text.contains("there is no service `none`") && text.contains("there is chat"),
        "{code}: {text}"
    );
    let (code, text) = fails(&["--replicas", "1..2"]);
    assert!(code == 2 && text.contains("--arrivals RATE"), "{code}: {text}");
}

#[test]
fn a_policy_that_is_not_there_is_answered_with_the_nearest() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("jobs.csv"), "job_id,submit_s,duration_s,gpus\n1,0,100,8\n").unwrap();
    let play = ["simulate", "--trace", "jobs.csv", "--policy", "fifo+best-fitt"];
    let (code, text) = failure(&play, &command_at_home(home.path()).args(play).output().unwrap());
    assert!(code == 7 && text.contains("there is no policy `best-fitt`"), "{code}: {text}");
    assert!(text.contains("did you mean `best-fit`?") && text.contains("simulate --help"), "{text}");
    let help = command_at_home(home.path()).args(["simulate", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(
        ["best-fit", "moves", "rounds", "gittins", "conservative"].iter().all(|name| help.contains(name)),
        "{help}"
    );
    std::fs::write(
        home.path().join("hall.toml"),
        "schema = 1\nname = \"h\"\n[pool.a]\nnodes = 1\nslots = 1\n[policy]\nplacement = \"best-fitt\"\n",
    )
    .unwrap();
    let check = ["check", "hall.toml"];
    let (_, text) = failure(&check, &command_at_home(home.path()).args(check).output().unwrap());
    assert!(text.contains("did you mean \"best-fit\"?"), "{text}");
}

#[test]
fn data_sets_are_warm_where_they_were_read_and_the_report_says_so() {
    let home = tempfile::tempdir().unwrap();
    lab(home.path());
    let play = |policy: &str| {
        let play = ["simulate", "hall.toml", "--services-only", "--no-faults", "--days", "3", "--datasets", "8"];
        let more = ["--dataset-size", "8 TB", "--store-read", "20 GB/s", "--node-cache", "20 TB", "--policy", policy];
        json(home.path(), &[&play[..], &more].concat())["runs"][0]["data"].clone()
    };
    let (any, local) = (play("best"), play("data-local"));
    let of = |data: &Value, name: &str| data[name].as_u64().unwrap();
    assert!(of(&any, "cold_starts") > 0 && of(&any, "lost") > 0 && of(&any, "ranks") == of(&local, "ranks"), "{any}");
    assert!(of(&local, "warm_ranks") > of(&any, "warm_ranks"), "{local} {any}");
}
