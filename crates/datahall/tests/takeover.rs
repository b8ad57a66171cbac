//! Several servers of one hall on one `PostgreSQL`: the leader is killed by `kill -9` again and again while clients submit.
//!
//! Afterwards every acknowledged job is there once under its key and has run to its end, the log replays to the state that it led
//! to, and each time another server led within ten seconds of the kill, unless the machine was too busy to let it: times are printed.
//!
//! `DATAHALL_PROVE=1` means 50 kills; `DATAHALL_ROUNDS=n` sets the number. `DATAHALL_TEST_SERVERS=skip` leaves the test out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

#[path = "../../server/src/log/tests/database.rs"]
mod database;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use database::{Database, programs};
use dh_guard::KeyRing;
use dh_server::wire::{Accepted, JobList, JobView};
use dh_server::{ADMIN_KEY, Endpoint, KEYS_FILE};

const DATAHALL: &str = env!("CARGO_BIN_EXE_datahall");
const KILLS: u64 = 4;
const KILLS_PROVE: u64 = 50;
const CLIENTS: u64 = 4;
/// Between two submissions of one client: 200 a second in all.
const PACE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_mins(2);

/// A server with a data directory of its own.
struct Server {
    data: PathBuf,
    blueprint: PathBuf,
    child: Option<Child>,
}

impl Server {
    fn spawn(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.data.with_extension("log")).unwrap();
        let child = Command::new(DATAHALL)
            .arg("up")
            .arg(&self.blueprint)
            .args(["--quiet", "--lifeline", "--any-port", "--data"])
            .arg(&self.data)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its API, if it leads.
    fn api(&self) -> Option<String> {
        let pid = i32::try_from(self.child.as_ref()?.id()).unwrap();
        let endpoint = Endpoint::read(&self.data).ok()??;
        (endpoint.pid == pid && endpoint.alive()).then_some(endpoint.listeners.api)
    }
}

struct Hall {
    directories: Vec<PathBuf>,
    bearer: String,
    stop: AtomicBool,
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    config.timeout_global(Some(Duration::from_secs(5))).build().new_agent()
}

impl Hall {
    /// The API of whoever leads, as far as one can tell from outside.
    fn apis(&self) -> Vec<String> {
        let endpoints = self.directories.iter().filter_map(|data| Endpoint::read(data).ok().flatten());
        endpoints.filter(Endpoint::alive).map(|endpoint| endpoint.listeners.api).collect()
    }

    fn submit(&self, agent: &ureq::Agent, key: &str) -> Option<u64> {
        let body = serde_json::json!({ "command": ["sleep", "0.05"], "name": key }).to_string();
        for api in self.apis() {
            let call = agent
                .post(format!("{api}/v1/jobs"))
                .header("authorization", &self.bearer)
                .header("content-type", "application/json")
                .header("idempotency-key", key);
            let Ok(mut answer) = call.send(body.clone()) else { continue };
            let status = answer.status().as_u16();
            let text = answer.body_mut().read_to_string().unwrap_or_default();
            if let (200, Ok(accepted)) = (status, serde_json::from_str::<Accepted>(&text)) {
                return accepted.jobs.first().map(|job| job.0);
            }
            assert!(status == 200 || status >= 500, "a good job was refused: {status} {text}");
        }
        None
    }

    fn jobs(&self) -> Option<JobList> {
        let api = self.apis().into_iter().next()?;
        let answer = agent().get(format!("{api}/v1/jobs")).header("authorization", &self.bearer).call();
        serde_json::from_str(&answer.ok()?.body_mut().with_config().limit(1 << 30).read_to_string().ok()?).ok()
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn client(hall: &Hall, number: u64) -> BTreeMap<String, u64> {
    let agent = agent();
    let mut acknowledged = BTreeMap::new();
    let mut count = 0;
    while !hall.stop.load(Ordering::SeqCst) {
        let key = format!("c{number}-{count}");
        // The same key until it is acknowledged: a call without an answer may have been taken.
        let job = until("an acknowledgement", || hall.submit(&agent, &key));
        acknowledged.insert(key, job);
        count += 1;
        std::thread::sleep(PACE);
    }
    acknowledged
}

fn start(folder: &Path, address: &str) -> Vec<Server> {
    let mut servers = first(folder, address, "sim", 50);
    servers[1].spawn();
    servers
}

/// Two servers, of which the first leads and the second is not started.
fn first(folder: &Path, address: &str, executor: &str, nodes: u32) -> Vec<Server> {
    let text = format!(
        "schema = 1\nname = \"shared\"\n\n[pool.sim]\nnodes = {nodes}\nslots = 8\n\n[store.main]\n\n[queue.default]\n\n\
         [target]\nexecutor = \"{executor}\"\nstate = \"{address}\"\n"
    );
    let blueprint = folder.join("hall.toml");
    std::fs::write(&blueprint, text).unwrap();
    let server = |name: &str| Server { data: folder.join(name), blueprint: blueprint.clone(), child: None };
    let mut servers = vec![server("a"), server("b")];
    servers[0].spawn();
    until("the first leader", || servers[0].api());
    // Clients of a hall have one key, whoever leads: the servers share the file.
    std::fs::create_dir(&servers[1].data).unwrap();
    std::fs::copy(servers[0].data.join(KEYS_FILE), servers[1].data.join(KEYS_FILE)).unwrap();
    servers
}

/// A database in a folder of its own, if there is one.
fn database() -> Option<(tempfile::TempDir, Database)> {
    let programs = programs()?;
    let folder = tempfile::Builder::new().prefix("dh-ha").tempdir_in("/tmp").unwrap();
    let of_database = folder.path().join("pg");
    std::fs::create_dir(&of_database).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let database = Database::start(&of_database, programs);
    Some((folder, database))
}

/// The hall as one server's clients see it.
fn seen_at(server: &Server) -> Hall {
    let keys = KeyRing::load(server.data.join(KEYS_FILE)).unwrap();
    let key = keys.find(ADMIN_KEY, dh_core::Role::Admin).unwrap();
    let bearer = format!("Bearer {}", key.secret.expose());
    Hall { directories: vec![server.data.clone()], bearer, stop: AtomicBool::new(false) }
}

#[test]
fn a_killed_leader_is_replaced_and_no_job_is_lost_or_doubled() {
    let Some(programs) = programs() else { return };
    let prove = std::env::var_os("DATAHALL_PROVE").is_some();
    let rounds = std::env::var("DATAHALL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let kills = rounds.unwrap_or(if prove { KILLS_PROVE } else { KILLS });
    let folder = tempfile::Builder::new().prefix("dh-ha").tempdir_in("/tmp").unwrap();
    let of_database = folder.path().join("pg");
    std::fs::create_dir(&of_database).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let database = Database::start(&of_database, programs);
    let mut servers = start(folder.path(), &database.address);
    let keys = KeyRing::load(servers[0].data.join(KEYS_FILE)).unwrap();
    let key = keys.find(ADMIN_KEY, dh_core::Role::Admin).unwrap();
    let hall = Arc::new(Hall {
        directories: servers.iter().map(|server| server.data.clone()).collect(),
        bearer: format!("Bearer {}", key.secret.expose()),
        stop: AtomicBool::new(false),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let hall = Arc::clone(&hall);
            std::thread::spawn(move || client(&hall, number))
        })
        .collect();

    let mut takeovers = Vec::new();
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(300 + kill * 311 % 1_700));
        let leader = servers.iter().position(|server| server.api().is_some()).unwrap();
        servers[leader].kill();
        let begin = Instant::now();
        // The dead one comes back as a follower, or leads again: its own lease needs no wait.
        if kill % 2 == 0 {
            servers[leader].spawn();
        }
        let next = until("another leader", || servers.iter().position(|server| server.api().is_some()));
        takeovers.push(begin.elapsed());
        assert!(kill % 2 == 0 || next != leader);
        if kill % 2 == 1 {
            servers[leader].spawn();
        }
    }
    hall.stop.store(true, Ordering::SeqCst);
    let mut acknowledged = BTreeMap::new();
    for client in clients {
        acknowledged.extend(client.join().unwrap());
    }
    let list = until("the end of every job", || hall.jobs().filter(|list| list.jobs.iter().all(JobView::over)));
    let by_name: BTreeMap<&str, Vec<u64>> = list.jobs.iter().fold(BTreeMap::new(), |mut names, job| {
        names.entry(job.name.as_str()).or_insert_with(Vec::new).push(job.id.0);
        names
    });
    for (key, job) in &acknowledged {
        assert_eq!(by_name.get(key.as_str()), Some(&vec![*job]), "{key} was lost or doubled");
    }
    let failed: Vec<_> = list.jobs.iter().filter(|job| job.state != "succeeded").collect();
    assert!(failed.is_empty(), "{failed:?}");
    servers.iter_mut().for_each(Server::kill);
    let replay = Command::new(DATAHALL).args(["replay", "-o", "json", &database.address]).output().unwrap();
    let replayed: serde_json::Value = serde_json::from_slice(&replay.stdout).unwrap();
    assert!(replay.status.success() && replayed["differs"].is_null(), "{replay:?}");
    takeovers.sort();
    eprintln!(
        "takeover: {kills} kills, {} jobs acknowledged, none lost or doubled; a leader again after {} ms (median), {} ms at most; {} events",
        acknowledged.len(),
        takeovers[takeovers.len() / 2].as_millis(),
        takeovers[takeovers.len() - 1].as_millis(),
        replayed["events"]
    );
}

/// A leader that was stopped and wakes after its successor leads writes nothing, starts nothing, and ends.
#[test]
fn a_deposed_leader_has_no_effect() {
    let Some(programs) = programs() else { return };
    let folder = tempfile::Builder::new().prefix("dh-ha").tempdir_in("/tmp").unwrap();
    let of_database = folder.path().join("pg");
    std::fs::create_dir(&of_database).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let database = Database::start(&of_database, programs);
    let mut servers = start(folder.path(), &database.address);
    let keys = KeyRing::load(servers[0].data.join(KEYS_FILE)).unwrap();
    let key = keys.find(ADMIN_KEY, dh_core::Role::Admin).unwrap();
    let hall = |server: &Server| Hall {
        directories: vec![server.data.clone()],
        bearer: format!("Bearer {}", key.secret.expose()),
        stop: AtomicBool::new(false),
    };
    let pid = rustix::process::Pid::from_child(servers[0].child.as_ref().unwrap());
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    until("the successor", || servers[1].api());
    let job = until("a job", || hall(&servers[1]).submit(&agent(), "after"));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    // Whatever it is asked for in its last moments, it does not take.
    assert_eq!(hall(&servers[0]).submit(&agent(), "too late"), None);
    let ended = until("its end", || servers[0].child.as_mut().unwrap().try_wait().unwrap());
    assert!(!ended.success());
    servers[0].child = None;
    let list = until("the job's end", || hall(&servers[1]).jobs().filter(|list| list.jobs.iter().all(JobView::over)));
    assert_eq!(list.jobs.iter().map(|job| job.id.0).collect::<Vec<_>>(), [job]);
    servers[1].kill();
}

/// Ranks of a leader that is stopped end before its successor starts them again, and it does nothing when it wakes.
#[test]
fn ranks_of_a_stopped_leader_end_before_another_starts_them_again() {
    let Some((folder, database)) = database() else { return };
    let mut servers = first(folder.path(), &database.address, "local", 1);
    servers[1].spawn();
    let (said, enough) = (folder.path().join("said"), folder.path().join("enough"));
    let script =
        format!("while ! [ -e {} ]; do echo $DH_ATTEMPT >> {}; sleep 0.05; done", enough.display(), said.display());
    let body = serde_json::json!({ "command": ["sh", "-c", script], "name": "rank" }).to_string();
    let api = servers[0].api().unwrap();
    let bearer = seen_at(&servers[0]).bearer;
    let call = agent().post(format!("{api}/v1/jobs")).header("authorization", &bearer);
    let answer = call.header("content-type", "application/json").send(body).unwrap();
    assert_eq!(answer.status(), 200);
    let attempts = || -> Vec<u32> {
        let text = std::fs::read_to_string(&said).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    // It goes on for longer than its warden's patience while its server leads.
    until("the first attempt", || attempts().first().copied());
    std::thread::sleep(Duration::from_secs(4));
    assert!(attempts().iter().all(|attempt| *attempt == 1));
    let pid = rustix::process::Pid::from_child(servers[0].child.as_ref().unwrap());
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    until("the second attempt", || attempts().contains(&2).then_some(()));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let ended = until("the end of the deposed one", || servers[0].child.as_mut().unwrap().try_wait().unwrap());
    assert!(!ended.success());
    servers[0].child = None;
    std::fs::write(&enough, "").unwrap();
    let hall = seen_at(&servers[1]);
    let list = until("the job's end", || hall.jobs().filter(|list| list.jobs.iter().all(JobView::over)));
    assert_eq!((list.jobs[0].state.as_str(), list.jobs[0].attempts), ("succeeded", 2));
    assert!(attempts().is_sorted(), "two attempts ran at once: {:?}", attempts());
    servers[1].kill();
}

/// A server that starts in the background behind another returns at once, and takes over when it is needed.
#[test]
fn a_follower_in_the_background_returns_at_once_and_takes_over() {
    let Some((folder, database)) = database() else { return };
    let mut servers = first(folder.path(), &database.address, "sim", 2);
    let blueprint = servers[1].blueprint.clone();
    let run = |words: &[&str]| {
        let mut command = Command::new(DATAHALL);
        command.args(words).arg("--data").arg(folder.path().join("b"));
        command.env("HOME", folder.path()).stdin(Stdio::null()).output().unwrap()
    };
    let up = run(&["up", blueprint.to_str().unwrap(), "--detach", "--any-port"]);
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(up.status.success() && said.contains("leads this hall; process"), "{said}");
    let pid: i32 = said.split("process ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    servers[0].kill();
    let endpoint = until("the takeover", || {
        Endpoint::read(&servers[1].data).ok()?.filter(|endpoint| endpoint.pid == pid && endpoint.alive())
    });
    assert_eq!(endpoint.name, "shared");
    until("a job", || seen_at(&servers[1]).submit(&agent(), "after"));
    let down = run(&["down"]);
    assert!(down.status.success(), "{down:?}");
    until("its end", || (!endpoint.alive()).then_some(()));
}
