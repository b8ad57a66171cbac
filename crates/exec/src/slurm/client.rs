//! Slurm's own commands, and what they answer. Tried with 22.05; later versions write states as lists, which is read too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Error;
use crate::launch::inherited;

/// How long one command may take. A controller that fails over answers after `SlurmctldTimeout`, two minutes by default.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// A node as Slurm knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    /// Where it is reached.
    pub(super) address: String,
    /// Whether it has GPUs that Slurm hands out.
    pub(super) gpus: bool,
}

/// A job of ours as Slurm knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: u64,
    pub(super) state: State,
    /// Whether Slurm took it down, also while it still cleans up.
    pub(super) lost: bool,
    /// The state's word, for people.
    pub(super) word: String,
}

/// Where a job is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It waits.
    Waits,
    /// Its tasks run, or are being cleaned up.
    Runs,
    /// It is over by itself, or by its time limit or a signal.
    Ended,
    /// Slurm took it down: a node failed, or the job was preempted.
    Lost,
}

/// Runs a command of Slurm; what it printed.
pub(super) fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.args(arguments);
    answer(program, command)
}

fn answer(program: &str, mut command: Command) -> Result<String, Error> {
    let failed = |why: String| Error::doing(format!("run `{program}`"), std::io::Error::other(why));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let hint = "; Slurm's client commands must be in PATH (Debian: apt-get install slurm-client)";
        failed(if error.kind() == std::io::ErrorKind::NotFound { format!("{error}{hint}") } else { error.to_string() })
    })?;
    let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            stream.map_or(Ok(0), |mut stream| stream.read_to_end(&mut text)).map(|_| text)
        })
    };
    let out = read(child.stdout.take().map(|stream| Box::new(stream) as Box<_>));
    let complaint = read(child.stderr.take().map(|stream| Box::new(stream) as Box<_>));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| failed(error.to_string()))? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().and_then(|()| child.wait()).map_err(|error| failed(error.to_string()))?;
            return Err(failed(format!("it did not end within {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(LOOK);
    };
    let text = |reader: std::thread::JoinHandle<std::io::Result<Vec<u8>>>| {
        let bytes = reader.join().ok().and_then(Result::ok).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (out, complaint) = (text(out), text(complaint));
    if status.success() { Ok(out) } else { Err(failed(format!("{status}: {}", complaint.trim()))) }
}

/// The nodes of the partition in Slurm's order, or those of `wanted` in the order of that list.
pub(super) fn hosts(partition: Option<&str>, wanted: Option<&str>) -> Result<Vec<Host>, Error> {
    let mut arguments = vec!["--noheader", "--Node", "--format=%N|%o|%G"];
    let only = partition.map(|name| format!("--partition={name}"));
    arguments.extend(only.as_deref());
    let listed = read_hosts(&run("sinfo", &arguments)?);
    let Some(wanted) = wanted else { return Ok(listed) };
    let names = run("scontrol", &["show", "hostnames", wanted])?;
    let known: BTreeMap<&str, &Host> = listed.iter().map(|host| (host.name.as_str(), host)).collect();
    let find = |name: &str| {
        let host = known.get(name).map(|host| (*host).clone());
        host.ok_or_else(|| Error::doing("use Slurm", std::io::Error::other(format!("it has no node `{name}`"))))
    };
    names.lines().map(find).collect()
}

/// A node is listed once for each of its partitions.
fn read_hosts(text: &str) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('|').map(str::trim);
        let (Some(name), Some(address), gres) = (fields.next(), fields.next(), fields.next()) else { continue };
        if name.is_empty() || hosts.iter().any(|host| host.name == name) {
            continue;
        }
        let gpus = gres.is_some_and(|gres| gres.split(',').any(|one| one.starts_with("gpu")));
        hosts.push(Host { name: name.to_owned(), address: address.to_owned(), gpus });
    }
    hosts
}

/// The jobs whose name starts with `prefix`, by what follows it. Slurm remembers ended ones for `MinJobAge`, 5 minutes by default.
pub(super) fn jobs(prefix: &str) -> Result<BTreeMap<String, Seen>, Error> {
    let text = run("squeue", &["--all", "--json", "--states=all"])?;
    read_jobs(&text, prefix)
        .ok_or_else(|| Error::doing("read `squeue --json`", std::io::Error::other("it makes no sense")))
}

fn read_jobs(text: &str, prefix: &str) -> Option<BTreeMap<String, Seen>> {
    let answer: Value = serde_json::from_str(text).ok()?;
    let mut jobs: BTreeMap<String, Seen> = BTreeMap::new();
    for job in answer.get("jobs")?.as_array()? {
        let Some(rest) = job.get("name").and_then(Value::as_str).and_then(|name| name.strip_prefix(prefix)) else {
            continue;
        };
        let id = job.get("job_id")?.as_u64()?;
        let words: Vec<&str> = match job.get("job_state")? {
            Value::String(word) => vec![word],
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
        };
        let lost = words.iter().any(|word| LOST.contains(word));
        let seen = Seen { id, state: state(&words), lost, word: words.join("+") };
        // The newest of one name is the one that counts.
        if jobs.get(rest).is_none_or(|other| other.id < id) {
            jobs.insert(rest.to_owned(), seen);
        }
    }
    Some(jobs)
}

/// States of a job that did not end by itself.
const LOST: &[&str] = &["NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"];

fn state(words: &[&str]) -> State {
    let any = |list: &[&str]| words.iter().any(|word| list.contains(word));
    if any(&["COMPLETING", "RUNNING", "SUSPENDED", "STAGE_OUT", "SIGNALING", "STOPPED"]) {
        State::Runs
    } else if any(&["PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "POWER_UP_NODE"]) {
        State::Waits
    } else if any(LOST) {
        State::Lost
    } else {
        State::Ended
    }
}

/// Hands a script in; the number of its job. The job's environment is that of `sbatch`: what tasks may inherit of ours, where Slurm
/// is, and `secrets`; never the server's own keys.
pub(super) fn submit(options: &[String], script: &Path, secrets: &[(&str, &str)]) -> Result<u64, Error> {
    let ours =
        || std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut command = Command::new("sbatch");
    command.args(options).arg(script);
    command.env_clear().envs(inherited(ours())).envs(ours().filter(|(name, _)| name == "SLURM_CONF"));
    command.envs(secrets.iter().copied());
    let text = answer("sbatch", command)?;
    // `--parsable`: the number, and the cluster after a semicolon if there are several.
    let number = text.lines().last().and_then(|line| line.split(';').next()?.trim().parse().ok());
    number.ok_or_else(|| Error::doing("read what sbatch printed", std::io::Error::other(text.trim().to_owned())))
}

/// Ends a job; one that is over already is fine.
pub(super) fn cancel(id: u64, signal: Option<&str>) -> Result<(), Error> {
    let mut arguments = vec!["--quiet".to_owned()];
    arguments.extend(signal.map(|signal| format!("--signal={signal}")));
    arguments.push(id.to_string());
    run("scancel", &arguments).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_listed_once_and_in_order() {
        let hosts = read_hosts("node0|127.0.0.1|gpu:h100:8\nnode0|127.0.0.1|gpu:h100:8\nnode1|10.0.0.2|(null)\n");
        let seen: Vec<_> = hosts.iter().map(|host| (host.name.as_str(), host.address.as_str(), host.gpus)).collect();
        assert_eq!(seen, [("node0", "127.0.0.1", true), ("node1", "10.0.0.2", false)]);
    }

    #[test]
    fn states_of_old_and_new_versions_are_read() {
        let text = r#"{"jobs":[
            {"job_id": 7, "name": "dh-lab-7.1", "job_state": "RUNNING"},
            {"job_id": 8, "name": "dh-lab-8.1", "job_state": ["COMPLETED", "COMPLETING"]},
            {"job_id": 9, "name": "dh-lab-9.1", "job_state": ["NODE_FAIL"]},
            {"job_id": 3, "name": "dh-lab-9.1", "job_state": ["RUNNING"]},
            {"job_id": 10, "name": "dh-lab-10.2", "job_state": "CANCELLED"},
            {"job_id": 11, "name": "dh-laboratory-1.1", "job_state": "RUNNING"}]}"#;
        let jobs = read_jobs(text, "dh-lab-").unwrap();
        let seen: Vec<_> = jobs.iter().map(|(name, seen)| (name.as_str(), seen.id, seen.state)).collect();
        let expected =
            [("10.2", 10, State::Ended), ("7.1", 7, State::Runs), ("8.1", 8, State::Runs), ("9.1", 9, State::Lost)];
        assert_eq!(seen, expected);
    }
}
