//! Jobs from the command line: exit codes, logs, explanations, cancelling, retries.

use serde_json::Value;

use crate::support::{BLUEPRINT, TestHall};

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

/// Submits without waiting; the job's number.
fn submit(hall: &TestHall, flags: &[&str], script: &str) -> u64 {
    let output = hall.submit(&[flags, &["-o", "json"]].concat(), &sh(script));
    assert!(output.status.success(), "{output:?}");
    let accepted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(accepted["schema_version"], 1);
    number(&accepted["jobs"][0])
}

/// A job's number, however it is written.
fn number(id: &Value) -> u64 {
    let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    text.trim_start_matches("job/").parse().unwrap()
}

#[test]
fn submit_waits_and_returns_the_jobs_own_exit_code() {
    let hall = TestHall::start(BLUEPRINT);
    assert_eq!(hall.submit(&["--wait"], &["true"]).status.code(), Some(0));
    for flag in ["--wait", "--follow"] {
        let output = hall.submit(&[flag], &sh("exit 7"));
        assert_eq!(output.status.code(), Some(7), "{output:?}");
    }
    let output = hall.submit(&["--wait", "-o", "json"], &sh("exit 7"));
    assert_eq!(output.status.code(), Some(7));
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&view["schema_version"], &view["state"], &view["exit_code"]), (&1.into(), &"failed".into(), &7.into()));
    // A program that is not there fails the job, not the hall.
    let output = hall.submit(&["--wait"], &["no-such-program"]);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no-such-program"),
        "{output:?}"
    );
    assert_eq!(hall.submit(&["--wait"], &["true"]).status.code(), Some(0));
}

#[test]
fn logs_show_every_rank_and_following_ends_with_the_job() {
    let hall = TestHall::start(BLUEPRINT);
    let script = "echo rank $DH_RANK of $DH_RANKS; sleep 0.3; echo done $DH_RANK";
    let job = submit(&hall, &["--ranks", "2"], script).to_string();
    let followed = hall.ok(&["logs", "-f", &job]);
    let mut lines: Vec<&str> = followed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[1.0] done 0", "[1.0] rank 0 of 2", "[1.1] done 1", "[1.1] rank 1 of 2"]);
    hall.wait_for_job(1, "over", |view| view["state"] == "succeeded");
    let mut again: Vec<String> = hall.ok(&["logs", &format!("job/{job}")]).lines().map(str::to_owned).collect();
    again.sort_unstable();
    assert_eq!(again, lines);
    assert_eq!(hall.ok(&["logs", &job, "--rank", "1"]), "[1.1] rank 1 of 2\n[1.1] done 1\n");
    for line in hall.ok(&["logs", &job, "-o", "json"]).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["attempt"] == 1 && line["rank"].is_u64() && line["line"].is_string(), "{line}");
    }
    let shown = hall.submit(&["--follow", "--ranks", "2"], &sh("echo hello from $DH_RANK"));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("[1.0] hello from 0") && shown.contains("[1.1] hello from 1"), "{shown}");
}

#[test]
fn a_waiting_job_says_which_condition_fails_first_and_by_how_much() {
    let hall = TestHall::start(BLUEPRINT);
    let holder = submit(&hall, &["--ranks", "3", "--name", "holder"], "sleep 600");
    hall.wait_for_job(holder, "running", |view| view["ranks_running"] == 3);
    let gang = submit(&hall, &["--ranks", "2"], "true");
    let why = hall.json(&["why", &gang.to_string()]);
    assert_eq!((&why["schema_version"], &why["state"]), (&1.into(), &"waiting".into()), "{why}");
    assert!(why["because"].as_str().unwrap().contains("1 of its 2 ranks"), "{why}");
    let details = why["details"].to_string();
    assert!(details.contains("has 1 of 4 slots free") && details.contains("`holder`) holds 3 slots"), "{why}");
    // A gang is never placed in part. What delays it does not go ahead of it; a rank for which there is room beside it does.
    let beside = submit(&hall, &[], "true");
    hall.wait_for_job(beside, "done", |view| view["state"] == "succeeded");
    let single = submit(&hall, &["--ranks", "4"], "true");
    let behind = hall.ok(&["why", &single.to_string()]);
    assert!(behind.contains("is waiting") && behind.contains("1 jobs are ahead"), "{behind}");

    let cancelled = hall.json(&["cancel", &holder.to_string()]);
    assert_eq!(cancelled["schema_version"], 1);
    hall.wait_for_job(holder, "cancelled", |view| view["state"] == "cancelled");
    for job in [gang, single] {
        hall.wait_for_job(job, "done", |view| view["state"] == "succeeded");
    }
    assert!(hall.ok(&["why", &holder.to_string()]).contains("admin cancelled it"));
    let (code, said) = hall.fails(&["cancel", &holder.to_string()]);
    assert!(code == 1 && said.contains("is over already"), "{code}: {said}");
}

#[test]
fn a_gang_that_never_fits_is_refused_and_so_is_what_does_not_exist() {
    let hall = TestHall::start(BLUEPRINT);
    for flags in [&["--ranks", "5"][..], &["--slots-per-rank", "5"]] {
        let (code, said) = hall.fails(&[&["submit"], flags, &["--", "true"]].concat());
        assert_eq!(code, 4, "{said}");
        assert!(said.contains("error: ") && said.contains('5') && said.contains('4'), "{said}");
    }
    for command in [
        &["why", "99"][..],
        &["logs", "99"],
        &["cancel", "99"],
        &["fault", "99"],
        &["submit", "no-such-workload"],
        &["serve", "no-such-service"],
        &["serve", "no-such-service", "--stop"],
        &["chat", "hello"],
    ] {
        let (code, said) = hall.fails(command);
        assert_eq!(code, 7, "{command:?}: {said}");
        assert!(said.contains("error: "), "{said}");
    }
    // Before any engine serves, the gateway cannot know which models there will be.
    let (code, said) = hall.fails(&["chat", "--model", "no-such-model", "hello"]);
    assert!(code == 8 && said.contains("no-such-model"), "{code}: {said}");
    for flags in [
        &["--time-limit", "soon"][..],
        &["--memory", "much"],
        &["--queue", "no-such-queue"],
        &["--ranks", "0"],
        &["--retries", "1000"],
    ] {
        let (code, said) = hall.fails(&[&["submit"], flags, &["--", "true"]].concat());
        assert!(matches!(code, 2 | 7), "{flags:?}: {code} {said}");
        assert!(said.contains("error: "), "{said}");
    }
    assert_eq!(hall.json(&["jobs"])["jobs"], serde_json::json!([]), "a refused job leaves nothing");
}

#[test]
fn a_killed_rank_ends_its_attempt_and_a_retry_starts_the_whole_gang_again() {
    let hall = TestHall::start(BLUEPRINT);
    let job =
        submit(&hall, &["--ranks", "2", "--retries", "1"], "[ $DH_ATTEMPT = 2 ] || sleep 600; echo try $DH_ATTEMPT");
    hall.wait_for_job(job, "running", |view| view["ranks_running"] == 2);
    let view = hall.json(&["fault", &job.to_string(), "--rank", "1"]);
    assert_eq!(view["schema_version"], 1);
    let view = hall.wait_for_job(job, "over", |view| view["state"] == "succeeded");
    assert_eq!(view["attempts"], 2);
    let log = hall.ok(&["logs", &job.to_string()]);
    let mut lines: Vec<&str> = log.lines().filter(|line| line.contains("try")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[2.0] try 2", "[2.1] try 2"], "{log}");
    let why = hall.ok(&["why", &job.to_string()]);
    assert!(why.contains("attempt 1 ran") && why.contains("rank 1"), "{why}");
    let (code, said) = hall.fails(&["fault", &job.to_string()]);
    assert_eq!(code, 1, "{said}");
}

#[test]
fn a_time_limit_ends_a_job_and_a_repeated_key_submits_once() {
    let hall = TestHall::start(BLUEPRINT);
    let output = hall.submit(&["--wait", "--time-limit", "300 ms"], &["sleep", "600"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("time limit"), "{output:?}");
    let first = submit(&hall, &["--idempotency-key", "abc"], "true");
    let again = submit(&hall, &["--idempotency-key", "abc"], "true");
    assert_eq!(first, again);
    assert_ne!(first, submit(&hall, &["--idempotency-key", "abd"], "true"));
}

#[test]
fn a_job_file_and_a_workload_are_submitted_by_name() {
    let hall = TestHall::start(&format!(
        "{BLUEPRINT}\n[workload.hello]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"echo hello $WHO\"]\nenv = {{ WHO = \"hall\" }}\nranks = 2\n"
    ));
    let output = hall.run(&["submit", "hello", "--follow"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("[1.1] hello hall"), "{output:?}");
    let file = hall.path("job.toml");
    std::fs::write(&file, "command = [\"sh\", \"-c\", \"exit $CODE\"]\nenv = { CODE = \"5\" }\nname = \"five\"\n")
        .unwrap();
    let output = hall.run(&["submit", file.to_str().unwrap(), "--wait"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(hall.json(&["jobs"])["jobs"][1]["name"], "five");
    std::fs::write(&file, "comand = [\"true\"]\n").unwrap();
    let (code, said) = hall.fails(&["submit", file.to_str().unwrap()]);
    assert!(code == 2 && said.contains("comand"), "{said}");
}

#[test]
fn listings_for_people_and_programs_agree() {
    let hall = TestHall::start(BLUEPRINT);
    assert_eq!(hall.submit(&["--wait", "--name", "early"], &["true"]).status.code(), Some(0));
    let late = submit(&hall, &["--name", "late"], "sleep 600");
    hall.wait_for_job(late, "running", |view| view["state"] == "running");
    let list = hall.json(&["jobs"]);
    assert_eq!(list["schema_version"], 1);
    assert_eq!(list["jobs"].as_array().unwrap().len(), 2);
    let table = hall.ok(&["jobs"]);
    assert!(table.contains("early") && table.contains("late") && !table.contains('\u{1b}'), "{table}");
    assert!(!hall.ok(&["jobs", "--open"]).contains("early"));
    let status = hall.json(&["status"]);
    assert_eq!((&status["schema_version"], &status["jobs"]["running"]), (&1.into(), &1.into()), "{status}");
    assert_eq!(status["nodes"][0]["busy"], 1);
    assert!(hall.ok(&["status"]).contains("1 running"));
    assert!(hall.ok(&["jobs", "--color", "always"]).contains('\u{1b}'), "`--color always` colours a pipe, too");
}

/// One slot, and workloads that need parts of it.
const SHARED: &str = r#"
schema = 1
name = "shared"
[pool.local]
nodes = 1
slots = 1
[queue.default]
[workload.half]
kind = "command"
command = ["sh", "-c", "echo device $DH_DEVICE $CUDA_VISIBLE_DEVICES share $DH_SHARE of $DH_SHARE_MEMORY; sleep 600"]
share = 0.5
share_memory = "10 GB"
[workload.slice]
kind = "command"
command = ["sh", "-c", "echo slice $DH_SLICE at $DH_SLICE_SLOTS"]
slice = "1g.10gb"
[target]
api_port = 0
gateway_port = 0
store_port = 0
"#;

#[test]
fn two_jobs_of_half_a_slot_run_on_one_slot_at_once() {
    let hall = TestHall::start(SHARED);
    let submit = |workload: &str| number(&hall.json(&["submit", workload])["jobs"][0]);
    let halves: Vec<u64> = (0..2).map(|_| submit("half")).collect();
    for job in &halves {
        hall.wait_for_job(*job, "running", |view| view["state"] == "running");
    }
    let (third, slice) = (submit("half"), submit("slice"));
    let state = |job: u64| hall.api("GET", &format!("/v1/jobs/{job}"), None).1["state"].clone();
    assert_eq!((state(third), state(slice)), ("waiting".into(), "waiting".into()));
    assert_eq!((state(halves[0]), state(halves[1])), ("running".into(), "running".into()));
    let node = &hall.json(&["status"])["nodes"][0];
    assert_eq!((&node["slots"], &node["busy"]), (&1.into(), &1.into()), "{node}");
    let first = halves[0].to_string();
    let told = "device 0 0 share 0.5 of 10000000000";
    hall.wait_for_job(halves[0], "told", |_| hall.ok(&["logs", &first]).contains(told));
    // One goes, and the third takes its half beside the other.
    hall.ok(&["cancel", &first]);
    hall.wait_for_job(third, "running", |view| view["state"] == "running");
    assert_eq!(state(halves[1]), "running");
    // A shared slot is not cut until nobody shares it.
    hall.ok(&["cancel", &halves[1].to_string()]);
    hall.ok(&["cancel", &third.to_string()]);
    hall.wait_for_job(slice, "over", |view| view["state"] == "succeeded");
    let said = hall.ok(&["logs", &slice.to_string()]);
    assert!(
        said.starts_with("[1.0] slice 1g.10gb at ") && said.trim_end().ends_with(|c: char| c.is_ascii_digit()),
        "{said}"
    );
}

#[test]
fn a_job_says_what_it_reads_where_it_stands_and_how_small_it_may_be() {
    let hall = TestHall::start(BLUEPRINT);
    let wishes = [
        "--follow",
        "--ranks",
        "9",
        "--ranks-min",
        "2",
        "--within",
        "rack",
        "--dataset",
        "fashion",
        "--dataset",
        "s3://own/set",
        "--data-seed",
        "7",
        "--checkpoints",
        "s3://checkpoints/mine/{job}",
        "--no-check",
    ];
    let shown = hall.submit(&wishes, &sh("echo $DH_RANK of $WORLD_SIZE: $DH_DATASETS $DH_DATA_SEED $DH_CHECKPOINTS"));
    let shown = String::from_utf8(shown.stdout).unwrap();
    let told = "0 of 4: s3://datasets/fashion s3://own/set 7 s3://checkpoints/mine/1";
    assert!(shown.contains(told), "four slots are there: {shown}");
    for (flags, means) in [
        (["--within", "row"], "there is no `row` to be within; this hall has `pool`, `block`, `rack`"),
        (["--ranks-min", "2"], "asks for at least 2"),
        (["--checkpoints", "here"], "write s3://BUCKET/PREFIX"),
        (["--dataset", "a*"], "without patterns"),
        (["--dataset", "fashion"], "there is no s3://datasets/fashion in the store"),
        (["--node", "local-7"], "there is no node `local-7`"),
        (["--avoid-node", "local-[0-"], "is no list of nodes"),
    ] {
        let refused = hall.submit(&flags, &["true"]);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && text.contains(means), "{flags:?}: {text}");
    }
}

const THREE_NODES: &str = r#"
schema = 1
name = "test"
[pool.local]
nodes = 3
slots = 2
[queue.default]
[target]
api_port = 0
gateway_port = 0
store_port = 0
"#;

#[test]
fn a_job_runs_on_the_nodes_that_it_names_and_its_data_is_looked_up() {
    let hall = TestHall::start(THREE_NODES);
    let nodes_of = |job: u64| {
        let why = hall.json(&["why", &job.to_string()])["details"].to_string();
        (0..3).filter(|node| why.contains(&format!("is on local-{node},"))).collect::<Vec<_>>()
    };
    let first = submit(&hall, &["--ranks", "4", "--node", "local-[1-2]"], "sleep 600");
    hall.wait_for_job(first, "running", |view| view["state"] == "running");
    assert_eq!(nodes_of(first), [1, 2]);
    // The same wish in a script of Slurm.
    let script = hall.path("job.sbatch");
    std::fs::write(&script, "#!/bin/sh\n#SBATCH -x local-1,local-2\nsleep 600\n").unwrap();
    let second = number(&hall.json(&["submit", script.to_str().unwrap()])["jobs"][0]);
    hall.wait_for_job(second, "running", |view| view["state"] == "running");
    assert_eq!(nodes_of(second), [0]);
    let third = submit(&hall, &["--node", "local-2"], "true");
    let why = hall.ok(&["why", &third.to_string()]);
    assert!(why.contains("local-2 has 0 of 2 slots free") && !why.contains("local-0"), "{why}");
    hall.ok(&["cancel", &first.to_string()]);
    hall.wait_for_job(third, "over", |view| view["state"] == "succeeded");
    // Data that is there is found.
    let table = hall.path("table.csv");
    std::fs::write(&table, "1,2\n").unwrap();
    let mut copy = hall.command();
    copy.envs(hall.variables()).args(["store", "cp", table.to_str().unwrap(), "s3://datasets/line/table.csv"]);
    let copied = copy.output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let reads = hall.submit(&["--wait", "--dataset", "line"], &sh("test $DH_DATASETS = s3://datasets/line"));
    assert!(reads.status.success(), "{reads:?}");
}
