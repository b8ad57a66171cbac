//! A task's own control groups, for the limits that rlimits cannot hold: memory and processes of the whole task.
//!
//! Works with a v2 hierarchy whose controllers were delegated to us, and with v1 hierarchies we may write to; anything
//! else is reported as not available. Invariant: the warden itself is inside only while it forks the task, so the
//! task's limit never counts or kills it. Cost: five small writes. Source: kernel docs, cgroup-v1 and cgroup-v2.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::Identity;

/// A mounted hierarchy, and where this process is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    mount: PathBuf,
    home: PathBuf,
    controllers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    const fn memory_limit(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    const fn oom_kills(self) -> &'static str {
        match self {
            Self::V1 => "memory.oom_control",
            Self::V2 => "memory.events",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// One group that was made.
#[derive(Debug)]
struct Group {
    version: Version,
    folder: PathBuf,
    home: PathBuf,
}

/// The groups of one task.
#[derive(Debug, Default)]
pub(crate) struct ControlGroups {
    memory: Option<Group>,
    processes: Option<(Group, u64)>,
}

/// What a control group could do about one limit.
pub(crate) type Held = Result<String, String>;

impl ControlGroups {
    /// Makes the groups of the task marked `mark` for the limits given; says for each what holds it, or why nothing does.
    pub(crate) fn make(mark: &str, memory: Option<u64>, processes: Option<u64>) -> (Self, Option<Held>, Option<Held>) {
        let mut groups = Self::default();
        if memory.is_none() && processes.is_none() {
            return (groups, None, None);
        }
        let hierarchies = hierarchies();
        let name = &group_name(mark);
        let memory_held = memory.map(|limit| {
            let group = make(&hierarchies, "memory", name, |group| limit_memory(group, limit))?;
            let held = format!("the memory controller (cgroup {})", group.version.name());
            groups.memory = Some(group);
            Ok(held)
        });
        let processes_held = processes.map(|limit| {
            // One more while the warden is inside to fork the task.
            let bytes = limit.saturating_add(1).to_string();
            let group = make(&hierarchies, "pids", name, |group| write(&group.folder, "pids.max", &bytes))?;
            let held = format!("the pids controller (cgroup {})", group.version.name());
            groups.processes = Some((group, limit));
            Ok(held)
        });
        (groups, memory_held, processes_held)
    }

    /// Moves this process in, so that what it forks is born inside.
    pub(crate) fn enter(&self) -> Result<(), String> {
        self.all().try_for_each(|group| write(&group.folder, "cgroup.procs", "0"))
    }

    /// Moves this process back to where it came from.
    pub(crate) fn leave(&self) -> Result<(), String> {
        self.all().try_for_each(|group| write(&group.home, "cgroup.procs", "0"))?;
        if let Some((group, limit)) = &self.processes {
            write(&group.folder, "pids.max", &limit.to_string())?;
        }
        Ok(())
    }

    /// How many processes of the task the kernel killed for want of memory.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        let Some(group) = &self.memory else { return 0 };
        let text = fs::read_to_string(group.folder.join(group.version.oom_kills())).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or(0)
    }

    /// Removes the groups. The last process may still be leaving, hence the few tries.
    pub(crate) fn remove(&self) -> Result<(), String> {
        self.all().try_for_each(|group| remove(&group.folder))
    }

    fn all(&self) -> impl Iterator<Item = &Group> {
        let processes = self.processes.as_ref().map(|(group, _)| group);
        // In a v2 hierarchy both limits are files of one group; entering it twice does no harm.
        self.memory.iter().chain(processes)
    }
}

fn group_name(mark: &str) -> String {
    format!("datahall-{mark}")
}

/// The processes in the groups of the task marked `mark` that a killed warden left, and the folders of those groups.
pub(crate) fn left_behind(mark: &str) -> (Vec<Identity>, Vec<PathBuf>) {
    let name = group_name(mark);
    let mut members = Vec::new();
    let mut folders = Vec::new();
    for folder in hierarchies().iter().flat_map(parents).map(|parent| parent.join(&name)) {
        if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
            members.extend(text.lines().filter_map(|pid| Identity::of(pid.parse().ok()?)));
            folders.push(folder);
        }
    }
    members.retain(Identity::is_alive);
    (members, folders)
}

/// Removes the empty group at `folder`.
pub(crate) fn remove(folder: &Path) -> Result<(), String> {
    const TRIES: u32 = 20;
    for attempt in 1.. {
        match fs::remove_dir(folder) {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(error) if attempt >= TRIES => {
                return Err(format!("cannot remove {}: {error}", folder.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Ok(())
}

fn make(
    hierarchies: &[Hierarchy],
    controller: &str,
    name: &str,
    limit: impl Fn(&Group) -> Result<(), String>,
) -> Result<Group, String> {
    let mut why = format!("no {controller} controller is mounted");
    for hierarchy in hierarchies.iter().filter(|one| one.controllers.iter().any(|has| has == controller)) {
        for parent in parents(hierarchy) {
            let folder = parent.join(name);
            let existed = folder.exists();
            if let Err(error) = fs::create_dir_all(&folder) {
                why = format!("cannot make {}: {error}", folder.display());
                continue;
            }
            let group = Group { version: hierarchy.version, folder, home: hierarchy.home.clone() };
            match limit(&group) {
                Ok(()) => return Ok(group),
                Err(error) => {
                    why = error;
                    if !existed {
                        // An empty group that stays behind is harmless; the next try may still work.
                        fs::remove_dir(&group.folder).unwrap_or(());
                    }
                }
            }
        }
    }
    Err(why)
}

fn limit_memory(group: &Group, limit: u64) -> Result<(), String> {
    write(&group.folder, group.version.memory_limit(), &limit.to_string())?;
    // Swap would only delay the kill and slow the machine. Kernels without swap accounting lack these files.
    let no_swap = match group.version {
        Version::V1 => write(&group.folder, "memory.memsw.limit_in_bytes", &limit.to_string()),
        Version::V2 => write(&group.folder, "memory.swap.max", "0"),
    };
    if let Err(why) = no_swap {
        tracing::debug!(why, "swap is not limited");
    }
    Ok(())
}

fn write(folder: &Path, file: &str, text: &str) -> Result<(), String> {
    let path = folder.join(file);
    // Control files exist or do not; creating one by writing would be a mistake on a wrong mount.
    let result = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    result.map_err(|error| format!("cannot write {text} to {}: {error}", path.display()))
}

/// Where a group may be made. In v1 below ourselves. In v2 a group with processes gives its children no controllers,
/// so beside ourselves works where a manager delegated a subtree, and at the top for the administrator.
fn parents(hierarchy: &Hierarchy) -> Vec<PathBuf> {
    match hierarchy.version {
        Version::V1 => vec![hierarchy.home.clone()],
        Version::V2 => {
            let mut parents = vec![hierarchy.home.clone()];
            if let Some(beside) = hierarchy.home.parent().filter(|parent| parent.starts_with(&hierarchy.mount)) {
                parents.push(beside.to_owned());
            }
            parents.push(hierarchy.mount.clone());
            parents.dedup();
            parents
        }
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let homes = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    parse(&mounts, &homes, |mount| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default())
        .into_iter()
        .map(|mut one| {
            // Inside a container the path is the host's; the mount is then all we see.
            if !one.home.is_dir() {
                one.home.clone_from(&one.mount);
            }
            one
        })
        .collect()
}

fn parse(mounts: &str, homes: &str, v2_controllers: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let home_of = |wanted: &dyn Fn(&str, &str) -> bool| {
        homes.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            wanted(id, names).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(mount), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let mount = PathBuf::from(mount);
        let (version, controllers, home) = match kind {
            "cgroup2" => {
                let controllers = v2_controllers(&mount).split_ascii_whitespace().map(str::to_owned).collect();
                (Version::V2, controllers, home_of(&|id, names| id == "0" && names.is_empty()))
            }
            "cgroup" => {
                let controllers: Vec<String> =
                    options.split(',').filter(|name| ["memory", "pids"].contains(name)).map(str::to_owned).collect();
                let home = home_of(&|_, names| {
                    names.split(',').any(|name| !name.is_empty() && controllers.iter().any(|has| has == name))
                });
                (Version::V1, controllers, home)
            }
            _ => continue,
        };
        if !controllers.is_empty() {
            let home = mount.join(home.unwrap_or_default());
            found.push(Hierarchy { version, mount, home, controllers });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_unified_mounts_are_understood() {
        let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let homes = "4:memory:/box/7\n1:cpu:/\n0::/\n";
        let found = parse(hybrid, homes, |_| "hugetlb".to_owned());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].home, Path::new("/sys/fs/cgroup/memory/box/7"));
        assert_eq!(found[0].version, Version::V1);
        assert_eq!(found[1].controllers, ["hugetlb"]);

        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let homes = "0::/user.slice/user-1000.slice/session-2.scope\n";
        let found = parse(unified, homes, |_| "cpu memory pids".to_owned());
        assert_eq!(
            parents(&found[0]),
            [
                Path::new("/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope"),
                Path::new("/sys/fs/cgroup/user.slice/user-1000.slice"),
                Path::new("/sys/fs/cgroup"),
            ]
        );
    }

    #[test]
    fn a_missing_control_file_is_an_error_and_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path(), "memory.max", "1").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
