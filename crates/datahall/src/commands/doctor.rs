//! `datahall doctor`: what this machine has, what is missing, and how to get it.

use std::path::Path;
use std::process::Command;

use clap::Args;
use dh_blueprint::Blueprint;
use dh_exec::devices::Devices;
use serde::Serialize;

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::Failure;
use crate::output;
use crate::place;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Doctor {}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    good: bool,
    /// Whether a hall can run without it.
    needed: bool,
    found: String,
    hint: Option<&'static str>,
}

impl Verb for Doctor {
    const NAME: &'static str = "doctor";
    const ABOUT: &'static str = "Check this machine and say what is missing and how to get it";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let findings = examine(globals);
        if globals.output.is_data() {
            output::versioned(&serde_json::json!({ "findings": findings }))?;
        } else {
            let mut table =
                Table::new(&[("", Side::Left), ("CHECK", Side::Left), ("FOUND", Side::Left), ("", Side::Left)]);
            for one in &findings {
                let mark = match (one.good, one.needed) {
                    (true, _) => output::green("ok"),
                    (false, true) => output::red("missing"),
                    (false, false) => output::yellow("without"),
                };
                let hint = one.hint.filter(|_| !one.good).unwrap_or_default();
                table.row([mark, one.what.to_owned(), one.found.clone(), hint.to_owned()]);
            }
            table.lines().iter().for_each(output::line);
        }
        Ok(u8::from(findings.iter().any(|one| one.needed && !one.good)))
    }
}

fn examine(globals: &Globals) -> Vec<Finding> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = memory_mib();
    let program = |names: &[&str]| {
        names.iter().find_map(|name| {
            let output = Command::new(name).arg("--version").output().ok().filter(|output| output.status.success())?;
            let text = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
            Some(text.chars().take(60).collect::<String>())
        })
    };
    let tool = |what, names: &[&str], hint| {
        let found = program(names);
        Finding {
            what,
            good: found.is_some(),
            needed: false,
            found: found.unwrap_or_else(|| "not found".to_owned()),
            hint: Some(hint),
        }
    };
    let data = match &globals.data {
        Some(data) => Ok(data.clone()),
        None => place::halls(),
    };
    let data_text = data.as_ref().map_or_else(|failure| failure.message.clone(), |path| path.display().to_string());
    let writable = data.is_ok_and(|path| writable(&path));
    let mut findings = vec![
        Finding { what: "cores", good: true, needed: true, found: cores.to_string(), hint: None },
        Finding {
            what: "memory",
            good: memory >= 1_500,
            needed: true,
            found: format!("{memory} MiB"),
            hint: Some("a hall with one small model wants 1.5 GiB"),
        },
        Finding {
            what: "data folder",
            good: writable,
            needed: true,
            found: data_text,
            hint: Some("name a writable one with `--data DIR`"),
        },
        Finding {
            what: "memory limits of jobs",
            good: cgroups(),
            needed: false,
            found: if cgroups() { "control groups".to_owned() } else { "only per process".to_owned() },
            hint: Some("run where control groups may be made: as root, or under systemd with delegation"),
        },
        tool("pip (models for `demo` and `serve`)", &["pip", "pip3"], "on Debian: apt-get install python3-pip"),
        tool("apt-get (data for `demo`)", &["apt-get"], "elsewhere the demo makes data of its own"),
        accelerators(),
    ];
    findings.extend(cluster(globals));
    findings
}

/// The Kubernetes cluster of the blueprint of this folder, or the one that `kubectl` would ask, if there is one.
fn cluster(globals: &Globals) -> Option<Finding> {
    let path = blueprint_file::path(globals, None);
    let name = path.display().to_string();
    let text = std::fs::read_to_string(&path).ok();
    let settings = text.and_then(|text| Blueprint::parse_with(&name, &text, blueprint_file::base).ok());
    let target = settings.map(|settings| settings.target);
    let asked = target.as_ref().is_some_and(|target| target.executor == dh_blueprint::Executor::Kubernetes);
    let config = std::env::var_os("KUBECONFIG").is_some()
        || std::env::var_os("HOME").is_some_and(|home| Path::new(&home).join(".kube/config").exists());
    if !asked && !config {
        return None;
    }
    let cluster = target.filter(|_| asked).map(|target| target.cluster).unwrap_or_default();
    let cluster = dh_exec::Cluster {
        kubeconfig: cluster.kubeconfig.map(Into::into),
        context: cluster.context,
        namespace: cluster.namespace,
        ..dh_exec::Cluster::default()
    };
    let found = dh_exec::kubernetes::examine(&cluster);
    Some(Finding {
        what: "Kubernetes",
        good: found.is_ok(),
        needed: asked,
        found: found.map_or_else(|error| error.to_string(), |facts| facts.join("; ")),
        hint: Some("the account needs the role of examples/kubernetes/rbac.yaml in its namespace"),
    })
}

/// The accelerators whose drivers answer.
fn accelerators() -> Finding {
    let devices = Devices::discover();
    let mut names: Vec<(&str, usize)> = Vec::new();
    for device in devices.all() {
        match names.iter_mut().find(|(name, _)| *name == device.name) {
            Some((_, count)) => *count += 1,
            None => names.push((&device.name, 1)),
        }
    }
    let mut found: Vec<String> = names.iter().map(|(name, count)| format!("{count} x {name}")).collect();
    found.extend(devices.notes().iter().cloned());
    Finding {
        what: "accelerators",
        good: !devices.all().is_empty() && devices.notes().is_empty(),
        needed: false,
        found: if found.is_empty() { "none; slots are CPU slots".to_owned() } else { found.join("; ") },
        hint: Some(if devices.all().is_empty() && devices.notes().is_empty() {
            "with one, install its driver and try `datahall init --template here`"
        } else {
            "mend the driver that does not answer"
        }),
    }
}

fn memory_mib() -> u64 {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?.to_owned();
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(0, |kibibytes| kibibytes / 1024)
}

/// Whether a file can be made there, or in the nearest folder above that exists.
fn writable(path: &Path) -> bool {
    path.ancestors()
        .find(|folder| folder.is_dir())
        .is_some_and(|folder| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok())
}

fn cgroups() -> bool {
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/cgroup.procs"]
        .iter()
        .any(|path| rustix::fs::access(*path, rustix::fs::Access::WRITE_OK).is_ok())
}
