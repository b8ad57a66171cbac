//! Everything that can fail before a task runs, done before the gang's go: so that it fails while nothing runs yet.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use zeroize::Zeroizing;

use super::{Started, complain, log_as_stdio};
use crate::cgroup::ControlGroups;
use crate::record::{Bound, Enforcement, TaskRecord};

/// A task that only has to be forked.
pub(super) struct Prepared {
    command: Command,
    groups: ControlGroups,
    enforcement: Enforcement,
    program: String,
}

impl Prepared {
    /// Applies the limits to this process, which the task inherits. The error is a sentence for the user.
    pub(super) fn new(
        record: &TaskRecord,
        secrets: &BTreeMap<String, Zeroizing<String>>,
        log: &File,
    ) -> Result<Self, String> {
        let (program, arguments) = record.command.split_first().ok_or("the command is empty")?;
        if !record.workdir.is_dir() {
            return Err(format!("the working directory {} is not a folder", record.workdir.display()));
        }
        let found = find_program(program, record.env.get("PATH").map_or("", String::as_str), &record.workdir)?;
        let (out, err) = log_as_stdio(log)?;
        let mut command = Command::new(found);
        command
            .arg0(program)
            .args(arguments)
            .env_clear()
            .envs(&record.env)
            .envs(secrets.iter().map(|(name, value)| (name, value.as_str())))
            .current_dir(&record.workdir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        let (groups, enforcement) = apply_limits(record)?;
        Ok(Self { command, groups, enforcement, program: program.clone() })
    }

    /// Forks the task into its control groups.
    pub(super) fn spawn(mut self) -> Result<Started, String> {
        let child = self
            .groups
            .enter()
            .and_then(|()| self.command.spawn().map_err(|error| format!("cannot start {:?}: {error}", self.program)));
        // Whether it worked or not, the warden must not stay inside.
        let left = self.groups.leave();
        match (child, left) {
            (Ok(child), Ok(())) => Ok((child, self.groups, self.enforcement)),
            (Ok(mut child), Err(why)) => {
                // Just forked and not reaped, so the pid is its own.
                child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                self.discard();
                Err(why)
            }
            (Err(why), _) => {
                self.discard();
                Err(why)
            }
        }
    }

    /// The task will not be started.
    pub(super) fn discard(self) {
        if let Err(why) = self.groups.remove() {
            complain(&why);
        }
    }
}

/// The file that `program` names, in the task's own PATH and seen from its working directory.
fn find_program(program: &str, path: &str, workdir: &Path) -> Result<PathBuf, String> {
    let runnable =
        |file: &Path| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        let file = workdir.join(program);
        return match file.metadata() {
            Err(error) => Err(format!("cannot start {program:?}: {error}")),
            Ok(_) if !runnable(&file) => Err(format!("cannot start {program:?}: it is not an executable file")),
            Ok(_) => Ok(file),
        };
    }
    std::env::split_paths(path)
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| workdir.join(folder).join(program))
        .find(|file| runnable(file))
        .ok_or_else(|| format!("cannot start {program:?}: no such program in PATH ({path})"))
}

fn apply_limits(record: &TaskRecord) -> Result<(ControlGroups, Enforcement), String> {
    let mut enforcement = Enforcement::default();
    if !record.cores.is_empty() {
        pin(&record.cores)?;
        enforcement.cores = Bound::EnforcedBy("the scheduler's affinity mask".to_owned());
    }
    limit(Resource::Core, 0, "core dumps")?;
    if let Some(files) = record.open_files {
        limit(Resource::Nofile, files, "open files")?;
    }
    let (groups, memory, processes) = ControlGroups::make(&record.mark, record.memory_bytes, record.processes);
    enforcement.memory = match (memory, record.memory_bytes) {
        (Some(Ok(held)), _) => Bound::EnforcedBy(held),
        (Some(Err(why)), Some(bytes)) => {
            limit(Resource::Data, bytes, "memory")?;
            Bound::EnforcedBy(format!("RLIMIT_DATA, for each process by itself ({why})"))
        }
        _ => Bound::NotAsked,
    };
    enforcement.processes = match processes {
        Some(Ok(held)) => Bound::EnforcedBy(held),
        // RLIMIT_NPROC is no substitute: it counts everything this user runs, so that a limit fit for one task keeps
        // all tasks from starting, and it does not bind the administrator.
        Some(Err(why)) => Bound::DeclaredOnly(why),
        None => Bound::NotAsked,
    };
    Ok((groups, enforcement))
}

fn pin(cores: &[u32]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for core in cores {
        let index = usize::try_from(*core).ok().filter(|index| *index < CpuSet::MAX_CPU);
        set.set(index.ok_or_else(|| format!("core {core} is beyond the {} that can be named", CpuSet::MAX_CPU))?);
    }
    // A core that does not exist is ignored by the kernel as long as one of the others does.
    sched_setaffinity(None, &set).map_err(|error| format!("cannot run on cores {cores:?}: {error}"))
}

fn limit(resource: Resource, value: u64, of: &str) -> Result<(), String> {
    let hard = getrlimit(resource).maximum;
    if hard.is_some_and(|hard| hard < value) && !geteuid().is_root() {
        return Err(format!("cannot allow {value} {of}: this user may have {}", hard.unwrap_or_default()));
    }
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
        .map_err(|error| format!("cannot limit {of} to {value}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_tasks_own_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        file("run", 0o755);
        file("data", 0o644);
        let path = folder.path().to_str().unwrap();
        let find = |program: &str, path: &str| find_program(program, path, folder.path());
        assert_eq!(find("run", path), Ok(folder.path().join("run")));
        assert_eq!(find("run", &format!("/nowhere::{path}")), Ok(folder.path().join("run")));
        assert_eq!(find("./run", ""), Ok(folder.path().join("./run")));
        assert_eq!(find("run", "."), Ok(folder.path().join("./run")));
        for bad in ["data", "./data", "./none", "none", "."] {
            assert!(find(bad, path).is_err(), "{bad}");
        }
        assert!(find("run", "").is_err());
    }
}
