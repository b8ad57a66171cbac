//! A hall for tests: the real binary, in a directory of its own, on a lifeline, gone without a trace at the end.
//!
//! Everything that a hall starts inherits a `HOME` below that directory, so what is left behind can be found. When the
//! test process itself is killed, the lifeline closes and the hall ends too.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test file is a program of its own and uses a part of this"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dh_core::Role;
use dh_guard::KeyRing;
use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub const DATAHALL: &str = env!("CARGO_BIN_EXE_datahall");

/// How long anything may take on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How long a hall that was stopped or killed may have processes.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// A hall of four slots with everything on free ports.
pub const BLUEPRINT: &str = r#"
schema = 1
name = "test"
[pool.local]
nodes = 1
slots = 4
[queue.default]
[target]
api_port = 0
gateway_port = 0
store_port = 0
"#;

pub struct TestHall {
    folder: TempDir,
    child: Option<Child>,
    /// What its server gets in its environment.
    variables: Vec<(String, String)>,
}

impl TestHall {
    /// Starts a hall and waits until it answers.
    pub fn start(blueprint: &str) -> Self {
        Self::start_with(blueprint, &[])
    }

    /// The same, with `variables` in the environment of its server.
    pub fn start_with(blueprint: &str, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let folder = tempfile::Builder::new().prefix("dh-hall-").tempdir().unwrap();
        std::fs::write(folder.path().join("hall.toml"), blueprint).unwrap();
        let mut hall = Self { folder, child: None, variables };
        hall.spawn();
        hall.wait_until_up();
        hall
    }

    /// Starts the server without waiting for it.
    pub fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("server.log")).unwrap();
        let child = self
            .command()
            .arg("up")
            .arg(self.path("hall.toml"))
            // Quiet: the screen of a first start shows the keys, and this log is shown when a test fails.
            .args(["--quiet", "--lifeline", "--data"])
            .arg(self.data())
            .env("RUST_LOG", "debug")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub fn wait_until_up(&mut self) {
        let begin = Instant::now();
        while !self.answers() {
            let child = self.child.as_mut().unwrap();
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended ({ended:?}): {}", self.server_log());
            assert!(begin.elapsed() < PATIENCE, "the server does not answer: {}", self.server_log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn answers(&self) -> bool {
        let Some(endpoint) = self.endpoint() else { return false };
        let ours = endpoint["pid"].as_u64() == self.child.as_ref().map(|child| u64::from(child.id()));
        let url = format!("{}/healthz", endpoint["listeners"]["api"].as_str().unwrap());
        ours && agent().get(url).call().is_ok_and(|answer| answer.status() == 200)
    }

    pub fn endpoint(&self) -> Option<Value> {
        serde_json::from_str(&std::fs::read_to_string(self.data().join("endpoint.json")).ok()?).ok()
    }

    /// The URL of a listener: `api`, `gateway` or `store`.
    pub fn url(&self, listener: &str) -> String {
        self.endpoint().unwrap()["listeners"][listener].as_str().unwrap().to_owned()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// The program with this hall's folder as its home, and no flag from the environment of the tests.
    pub fn command(&self) -> Command {
        command_at_home(self.folder.path())
    }

    /// Runs a command against this hall. Flags that stand before the command leave `-- PROGRAM ...` its place at the end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().arg("--data").arg(self.data()).args(arguments).output().unwrap()
    }

    /// Runs a command whose arguments end in a program of their own, `-- PROGRAM ...`.
    pub fn submit(&self, flags: &[&str], program: &[&str]) -> Output {
        self.run(&[&["submit"], flags, &["--"], program].concat())
    }

    /// Runs a command that must fail, and returns its exit code and what it said on stderr. Nothing goes to stdout.
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        failure(arguments, &self.run(arguments))
    }

    /// Runs a command that must succeed and returns its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", self.server_log());
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// What `datahall env` gives to other clients.
    pub fn variables(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.json(&["env"])).unwrap()
    }

    /// The secret of the key called `name`: `admin` or `model`.
    pub fn key(&self, name: &str) -> String {
        let role = if name == "admin" { Role::Admin } else { Role::Model };
        let keys = KeyRing::load(self.data().join("keys.json")).unwrap();
        keys.find(name, role).unwrap().secret.expose().clone()
    }

    /// Asks the job API as the administrator; status and JSON body.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.key("admin"));
        let body = body.map(Value::to_string);
        let mut headers = vec![("authorization", bearer.as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let (status, text) = http(method, &format!("{}{path}", self.url("api")), &headers, body.as_deref());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Waits until the job with this number is as `wanted` says, and returns how it looks then.
    pub fn wait_for_job(&self, job: u64, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let (status, view) = self.api("GET", &format!("/v1/jobs/{job}"), None);
            if status == 200 && wanted(&view) {
                return view;
            }
            assert!(begin.elapsed() < PATIENCE, "job {job} was not {what} in time: {view}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the server again in the same data directory, after an orderly stop or a kill.
    pub fn restart(&mut self) {
        self.stop();
        self.spawn();
        self.wait_until_up();
    }

    /// Kills the server as a power cut of its process would.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops in order.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take());
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                assert!(std::thread::panicking(), "the server does not stop: {}", self.server_log());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until no process of this hall is left.
    pub fn assert_nothing_left(&self) {
        let begin = Instant::now();
        loop {
            let left = processes_of(self.folder.path());
            if left.is_empty() {
                return;
            }
            assert!(begin.elapsed() < GONE_WITHIN, "processes are left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for TestHall {
    fn drop(&mut self) {
        self.stop();
        if !std::thread::panicking() {
            self.assert_nothing_left();
        }
    }
}

/// The program with `home` as the user's home, and no flag from the environment of the tests.
pub fn command_at_home(home: &Path) -> Command {
    let mut command = Command::new(DATAHALL);
    for name in
        ["DATAHALL_FILE", "DATAHALL_DATA", "OTEL_EXPORTER_OTLP_ENDPOINT", "XDG_DATA_HOME", "XDG_CACHE_HOME", "RUST_LOG"]
    {
        command.env_remove(name);
    }
    command.env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

/// What a command that must fail gave: its exit code and stderr.
pub fn failure(arguments: &[&str], output: &Output) -> (i32, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} was to fail");
    assert!(output.stdout.is_empty(), "{arguments:?} failed and wrote to stdout: {output:?}");
    (output.status.code().unwrap_or(-1), said)
}

/// A client that takes every status for an answer and knows no proxy.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(PATIENCE))
        .build()
        .new_agent()
}

/// One HTTP request: status and body as text.
pub fn http(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&str>) -> (u16, String) {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = match body {
        Some(body) => agent().run(request.body(body.to_owned()).unwrap()),
        None => agent().run(request.body(()).unwrap()),
    };
    let mut answer = answer.unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
}

/// Living processes whose command line, environment or working directory names `folder`. Zombies are gone.
pub fn processes_of(folder: &Path) -> Vec<String> {
    let needle = folder.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let read = |name: &str| std::fs::read(path.join(name)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().next().map(str::to_owned));
        if state.is_none_or(|state| state == "Z" || state == "X") {
            continue;
        }
        let (line, environment) = (read("cmdline"), read("environ"));
        let folder = std::fs::read_link(path.join("cwd")).unwrap_or_default();
        let texts = [String::from_utf8_lossy(&line), String::from_utf8_lossy(&environment), folder.to_string_lossy()];
        if texts.iter().any(|text| text.contains(&needle)) {
            found.push(format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// The Python environment with the real clients; `None` where they were skipped on purpose.
pub fn clients() -> Option<PathBuf> {
    match std::env::var("DATAHALL_TEST_CLIENTS") {
        Ok(skip) if skip == "skip" => {
            assert!(std::env::var("CI").is_err(), "nothing may be skipped in CI");
            eprintln!("skipped: the real clients are not installed; `cargo xtask clients` installs them");
            None
        }
        Ok(folder) => Some(PathBuf::from(folder)),
        Err(_) => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients");
            assert!(
                folder.join("bin/python").exists(),
                "the real clients are missing; `cargo xtask clients` installs them into target/clients"
            );
            Some(folder.canonicalize().unwrap())
        }
    }
}

/// Runs a Python script of `tests/python` with the hall's variables; it must end well.
pub fn python(hall: &TestHall, script: &str, more: &[(&str, &str)]) {
    let Some(clients) = clients() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let output = Command::new(clients.join("bin/python"))
        .arg(&script)
        // Nothing of the machine's own configuration of these clients counts: no profile, no proxy, no key.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", hall.path("."))
        .env("LANG", "C.UTF-8")
        .envs(hall.variables())
        .envs(more.iter().copied())
        .current_dir(hall.path("."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}:\n{}{}\n{}",
        script.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        hall.server_log().lines().rev().take(20).collect::<Vec<_>>().join("\n")
    );
}
