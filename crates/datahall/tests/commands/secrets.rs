//! Keys are in one file that only its owner reads, on the screen of the first start, and nowhere else.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use dh_infer::standin::{self, Standin};

use crate::support::{BLUEPRINT, DATAHALL, TestHall, http, processes_of};

/// Characters of a secret after its prefix.
const SECRET_CHARS: usize = 43;

/// Whether `bytes` hold anything that has the form of a key's secret, of any role.
fn holds_a_key(bytes: &[u8]) -> bool {
    [&b"dh-admin-"[..], b"dh-model-", b"dh-job-"].iter().any(|prefix| {
        bytes.windows(prefix.len() + SECRET_CHARS).any(|window| {
            window
                .strip_prefix(*prefix)
                .is_some_and(|rest| rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
        })
    })
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn the_search_for_keys_finds_keys() {
    let hall = TestHall::start(BLUEPRINT);
    assert!(holds_a_key(&std::fs::read(hall.data().join("keys.json")).unwrap()));
    assert!(holds_a_key(format!("x{}x", hall.key("model")).as_bytes()));
    assert!(!holds_a_key(b"dh-admin-short and dh-model-"));
}

#[test]
fn a_busy_hall_leaves_no_key_in_any_file_log_command_line_or_answer() {
    let hall = TestHall::start(BLUEPRINT);
    let model = hall.path(&format!("{}.gguf", standin::NAME));
    Standin::default().write(&model).unwrap();
    hall.ok(&["serve", model.to_str().unwrap()]);
    hall.ok(&["chat", "--max-tokens", "4", "hello"]);
    // A gang of two, one of which leaves its secrets outside the hall's folder for us to look for.
    let out = hall.path("secrets");
    let script =
        "[ $DH_RANK = 1 ] || printf %s \"$DH_GANG_TOKEN\" > \"$OUT\"; test -n \"$AWS_SECRET_ACCESS_KEY\" && sleep 2";
    let variable = format!("OUT={}", out.display());
    let output = hall.submit(&["--ranks", "2", "--env", &variable], &["sh", "-c", script]);
    assert!(output.status.success(), "{output:?}");
    hall.wait_for_job(2, "running", |view| view["ranks_running"] == 2);
    // Wrong and right keys, good and bad requests: what a log might be tempted to quote.
    let (admin, key) = (hall.key("admin"), hall.key("model"));
    for secret in [&admin, &key] {
        let bearer = format!("Bearer {secret}");
        for url in [hall.url("api"), hall.url("gateway"), hall.url("store")] {
            for path in ["/v1/status", "/v1/models", "/metrics", "/nothing", "/datasets/x"] {
                let (_, text) = http("GET", &format!("{url}{path}"), &[("authorization", &bearer)], None);
                assert!(!holds_a_key(text.as_bytes()), "{path} answers with a key");
            }
        }
    }
    let left: Vec<String> =
        processes_of(&hall.path("")).into_iter().filter(|line| holds_a_key(line.as_bytes())).collect();
    assert!(left.is_empty(), "a command line holds a key");
    hall.wait_for_job(2, "over", |view| view["state"] == "succeeded");
    for command in
        [&["status"][..], &["jobs"], &["logs", "1"], &["logs", "2"], &["why", "1"], &["why", "2"], &["replay"]]
    {
        assert!(!holds_a_key(hall.ok(&[command, &["-o", "json"]].concat()).as_bytes()), "{command:?} prints a key");
    }

    let token = std::fs::read(&out).unwrap();
    assert!(token.len() >= 16, "the gang has a token");
    let seen = files(&hall.data());
    assert!(seen.len() > 12, "the hall has files: {seen:?}");
    for file in seen {
        let Ok(bytes) = std::fs::read(&file) else { continue };
        assert!(!bytes.windows(token.len()).any(|window| window == token), "{} holds a gang's token", file.display());
        if file == hall.data().join("keys.json") {
            assert_eq!(mode(&file), 0o600);
        } else {
            assert!(!holds_a_key(&bytes), "{} holds a key", file.display());
        }
    }
    assert_eq!(mode(&hall.data()), 0o700);
    let log = hall.server_log();
    assert!(log.contains("DEBUG"), "the server logs at the level that was asked for");
    assert!(!holds_a_key(log.as_bytes()), "the server's log holds a key");
}

#[test]
fn the_first_start_shows_the_keys_once_and_the_second_does_not() {
    let home = tempfile::tempdir().unwrap();
    let (blueprint, data) = (home.path().join("hall.toml"), home.path().join("data"));
    std::fs::write(&blueprint, BLUEPRINT).unwrap();
    for start in 1..=2 {
        let mut child = crate::support::command_at_home(home.path())
            .args(["up", "--lifeline"])
            .arg(&blueprint)
            .arg("--data")
            .arg(&data)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let mut said = Vec::new();
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&said).contains("Ctrl-C") {
            let count = stderr.read(&mut piece).unwrap();
            assert!(count > 0, "the server ended while it started, at start {start}");
            said.extend_from_slice(&piece[..count]);
        }
        drop(child.stdin.take());
        let mut rest = Vec::new();
        stderr.read_to_end(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty());
        assert_eq!(holds_a_key(&said), start == 1, "at start {start}");
        assert!(!holds_a_key(&rest));
    }
}

#[test]
fn a_key_file_that_others_could_read_is_refused() {
    let mut hall = TestHall::start(BLUEPRINT);
    let keys = hall.data().join("keys.json");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = hall.fails(&["status"]);
    assert!(code == 6 && said.contains("keys.json") && said.contains("hint: "), "{code}: {said}");
    hall.stop();
    let (code, said) = hall.fails(&["up", hall.path("hall.toml").to_str().unwrap()]);
    assert!(code == 6 && said.contains("keys.json"), "{code}: {said}");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    hall.restart();
    hall.ok(&["status"]);
}

#[test]
fn a_data_directory_made_in_the_background_is_its_owners_alone() {
    struct Down<'a>(&'a Path);
    impl Drop for Down<'_> {
        fn drop(&mut self) {
            drop(crate::support::command_at_home(self.0).arg("down").output());
        }
    }
    assert!(Path::new(DATAHALL).exists());
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("hall.toml"), BLUEPRINT).unwrap();
    let run = |arguments: &[&str]| crate::support::command_at_home(home.path()).args(arguments).output().unwrap();
    let _down = Down(home.path());
    let output = run(&["up", "--detach"]);
    assert!(output.status.success() && !holds_a_key(&output.stderr), "it did not start in the background");
    let data = home.path().join(".local/share/datahall/halls/test");
    assert_eq!(mode(&data), 0o700);
    assert!(run(&["status"]).status.success());
    let variables = run(&["env"]);
    assert!(String::from_utf8_lossy(&variables.stdout).contains("export AWS_ENDPOINT_URL='http://127.0.0.1:"));
    assert!(run(&["down"]).status.success());
    assert_eq!(run(&["status"]).status.code(), Some(8));
    let begin = std::time::Instant::now();
    while !processes_of(home.path()).is_empty() {
        assert!(begin.elapsed() < crate::support::PATIENCE, "{:?}", processes_of(home.path()));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
