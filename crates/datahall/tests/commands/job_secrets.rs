//! Secrets of jobs: ranks see them, and nobody and nothing else does.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{BLUEPRINT, TestHall};

/// Every value of these tests holds this.
const MARK: &str = "sesame";

/// Every file below `folder` that holds a value, but for the logs of ranks.
fn holders(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let (mut open, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if std::fs::read(&path).unwrap_or_default().windows(MARK.len()).any(|bytes| bytes == MARK.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}

fn with_input(hall: &TestHall, arguments: &[&str], input: &str) -> std::process::Output {
    use std::io::Write;
    let mut command = hall.command();
    command.arg("--data").arg(hall.data()).args(arguments);
    let piped = std::process::Stdio::piped;
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_secret_reaches_the_ranks_and_nothing_else() {
    let hall = TestHall::start(BLUEPRINT);
    let set = with_input(&hall, &["secrets", "set", "hub-token"], "kept-sesame\n");
    assert!(set.status.success(), "{set:?}");
    assert_eq!(hall.ok(&["secrets"]), "hub-token\n");
    let key = hall.path("key.pem");
    std::fs::write(&key, "-----BEGIN-----\nline-sesame\n-----END-----\n").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let job = hall.path("job.toml");
    let text = format!(
        "command = [\"sh\", \"-c\", 'echo \"hub=$HUB,\"; echo \"$KEY\"; echo ${{#OWN}} ${{#HUB}}']\nranks = 2\n[secrets]\nHUB = \"hub-token\"\nKEY = \"file:{}\"\n",
        key.display()
    );
    std::fs::write(&job, text).unwrap();
    let mut command = hall.command();
    command.arg("--data").arg(hall.data()).env("MY_OWN", "own-sesame");
    let output =
        command.args(["submit", job.to_str().unwrap(), "--secret", "OWN=env:MY_OWN", "--follow"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    // The ranks had them whole, and what they print of them is not shown, then or later.
    for said in [said, hall.ok(&["logs", "1"])] {
        assert!(
            said.contains("[1.0] hub=***,") && said.contains("[1.1] ***\n") && said.contains("[1.0] 10 11"),
            "{said}"
        );
        assert!(!said.contains(MARK), "{said}");
    }
    // Names and nothing more in whatever is told of the job.
    for command in [&["jobs"][..], &["why", "1"], &["status"], &["secrets"]] {
        let said = hall.ok(&[command, &["-o", "json"]].concat());
        assert!(!said.contains(MARK), "{command:?}: {said}");
    }
    let (status, events) = hall.api("GET", "/v1/openapi.json", None);
    assert!(status == 200 && !events.to_string().contains(MARK));
    let holders = holders(&hall.data());
    assert!(holders.iter().all(|path| path.extension().is_some_and(|ending| ending == "log")), "{holders:?}");
    assert!(!hall.server_log().contains(MARK));
    // The log replays without a value, and a retry after a restart has them again.
    let replayed: Value = serde_json::from_str(&hall.ok(&["replay", "-o", "json"])).unwrap();
    assert!(replayed["differs"].is_null(), "{replayed}");
}

#[test]
fn a_later_attempt_has_the_secret_again_and_one_that_is_gone_fails_it_by_name() {
    let mut hall = TestHall::start(BLUEPRINT);
    assert!(with_input(&hall, &["secrets", "set", "hub-token"], "kept-sesame").status.success());
    let script = "test \"$HUB\" = kept-sesame || exit 9; [ $DH_ATTEMPT = 2 ] || sleep 600";
    let flags = ["--secret", "HUB=hub-token"];
    let output = hall.submit(&flags, &["sh", "-c", script]);
    assert!(output.status.success(), "{output:?}");
    hall.wait_for_job(1, "running", |view| view["state"] == "running");
    hall.kill9();
    hall.spawn();
    hall.wait_until_up();
    let view = hall.wait_for_job(1, "over", |view| view["ended_ns"].is_u64());
    assert_eq!((&view["state"], &view["attempts"]), (&"succeeded".into(), &2.into()), "{view}");
    hall.ok(&["drain", "local-0"]);
    assert!(hall.submit(&flags, &["true"]).status.success());
    hall.ok(&["secrets", "rm", "hub-token"]);
    assert_eq!(hall.ok(&["secrets", "list"]), "");
    hall.ok(&["drain", "local-0", "--undo"]);
    let view = hall.wait_for_job(2, "over", |view| view["ended_ns"].is_u64());
    let because = view["because"].as_str().unwrap_or_default();
    assert!(view["state"] == "failed" && because.contains("secret `hub-token`"), "{view}");
}

#[test]
fn what_cannot_be_a_secret_is_refused_and_leaves_no_job() {
    let hall = TestHall::start(BLUEPRINT);
    for (flags, code, part) in [
        (&["--secret", "TOKEN"][..], 2, "NAME=REF"),
        (&["--secret", "TOKEN=nobody"], 7, "secret `nobody`"),
        (&["--secret", "TOKEN=env:NOT_SET_HERE"], 7, "is not set here"),
        (&["--secret", "TOKEN=file:/no/such/file"], 7, "/no/such/file"),
        (&["--secret", "TOKEN=file:/etc/hostname", "--env", "TOKEN=x"], 2, "in `env` and in `secrets`"),
        (&["--secret", "1=file:/etc/hostname"], 2, "no name of one"),
    ] {
        let (got, said) = hall.fails(&[&["submit"], flags, &["--", "true"]].concat());
        assert!(got == code && said.contains(part), "{flags:?}: {got} {said}");
    }
    let (code, said) = hall.fails(&["secrets", "rm", "nobody"]);
    assert!(code == 7 && said.contains("secret `nobody`"), "{code} {said}");
    assert_eq!(hall.json(&["jobs"])["jobs"], serde_json::json!([]));
}
