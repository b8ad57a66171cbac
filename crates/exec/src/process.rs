//! Processes as `/proc` shows them, named so that a recycled pid is never mistaken for the process that had it before.
//!
//! Invariant: a signal goes only to a process whose start time was checked after a pidfd on it was opened.
//! Cost: one file per process looked at; [`marked`] looks at all of them. Source: `proc(5)`, `pidfd_open(2)`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The variable that names the attempt and rank a process belongs to.
pub(crate) const MARK: &str = "DH_MARK";

/// One process, for all time: pids and start times repeat only after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks since boot.
    pub(crate) start: u64,
    pub(crate) boot: String,
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) state: u8,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) start: u64,
    pub(crate) cpu_ticks: u64,
    /// Of children that ended and were waited for.
    pub(crate) children_cpu_ticks: u64,
    pub(crate) resident_pages: u64,
}

impl Stat {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// The name in parentheses is chosen by the process, so fields are counted from the last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let pid = head.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            pid,
            state: fields.first()?.bytes().next()?,
            parent: u32::try_from(number(1)?).ok()?,
            group: u32::try_from(number(2)?).ok()?,
            start: number(19)?,
            cpu_ticks: number(11)?.saturating_add(number(12)?),
            children_cpu_ticks: number(13)?.saturating_add(number(14)?),
            resident_pages: number(21)?,
        })
    }

    /// A zombie holds nothing but its exit status.
    pub(crate) const fn is_gone(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    pub(crate) fn identity(self) -> Identity {
        Identity { pid: self.pid, start: self.start, boot: boot().to_owned() }
    }
}

/// The kernel's name for the present boot.
fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        text.map(|text| text.trim().to_owned()).unwrap_or_default()
    })
}

impl Identity {
    /// The process that has `pid` at this moment.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Stat::read(pid).map(Stat::identity)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.boot == boot() && Stat::read(self.pid).is_some_and(|stat| stat.start == self.start && !stat.is_gone())
    }

    /// Sends `signal`; `false` if the process is gone, whoever has its pid by then.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool, Errno> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(false),
            Err(error) => return Err(error),
        };
        // The handle fixes the process; what `/proc` shows from here on is either this process or nothing of it.
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Everything below `root`, without `root`, zombies included.
pub(crate) fn descendants(root: u32) -> Vec<Stat> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for child in children(parent) {
            if seen.insert(child)
                && let Some(stat) = Stat::read(child)
            {
                found.push(stat);
                open.push(child);
            }
        }
    }
    found
}

/// The children of all threads of `parent`, from the kernel's own list where it keeps one.
fn children(parent: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let list = thread.path().join("children");
        match fs::read_to_string(&list) {
            Ok(text) => found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // A kernel without the list: look at every process.
            Err(_) if thread.path().join("stat").exists() => {
                return all()
                    .filter_map(Stat::read)
                    .filter(|stat| stat.parent == parent)
                    .map(|stat| stat.pid)
                    .collect();
            }
            Err(_) => {}
        }
    }
    found
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The living processes that carry `mark`: of one rank if it ends in the rank, of an attempt if it ends in a dot.
pub(crate) fn marked(mark: &str) -> Vec<Identity> {
    let wanted = format!("{MARK}={mark}");
    let matches = |variable: &[u8]| {
        if mark.ends_with('.') { variable.starts_with(wanted.as_bytes()) } else { variable == wanted.as_bytes() }
    };
    let own = std::process::id();
    let carries = |pid: u32| -> Option<Identity> {
        let identity = Identity::of(pid)?;
        let environment = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
        (environment.split(|byte| *byte == 0).any(matches) && identity.is_alive()).then_some(identity)
    };
    all().filter(|pid| *pid != own).filter_map(carries).collect()
}

/// Kills everything that `find` finds until it finds nothing, at most for `limit`; what is left then.
pub(crate) fn kill_all(find: impl Fn() -> Vec<Identity>, limit: Duration) -> Vec<u32> {
    let deadline = Instant::now() + limit;
    loop {
        let left = find();
        if left.is_empty() || Instant::now() >= deadline {
            return left.into_iter().map(|process| process.pid).collect();
        }
        for process in &left {
            if let Err(error) = process.signal(Signal::KILL) {
                tracing::warn!(pid = process.pid, %error, "cannot kill a stray process");
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let text = "42 (a) R (b) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 12345 999 77 18446744073709551615";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.pid, stat.state, stat.parent, stat.group), (42, b'S', 7, 42));
        assert_eq!((stat.cpu_ticks, stat.children_cpu_ticks, stat.start, stat.resident_pages), (30, 70, 12345, 77));
        for bad in ["", "42", "42 (a", "42 (a) R", "x (a) R 1 2"] {
            assert!(Stat::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_recycled_pid_is_never_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let real = Identity::of(child.id()).unwrap();
        let earlier = Identity { start: real.start - 1, ..real.clone() };
        let other_boot = Identity { boot: "another".to_owned(), ..real.clone() };
        assert_eq!(earlier.signal(Signal::KILL), Ok(false));
        assert_eq!(other_boot.signal(Signal::KILL), Ok(false));
        assert!(real.is_alive() && child.try_wait().unwrap().is_none());
        assert_eq!(real.signal(Signal::KILL), Ok(true));
        child.wait().unwrap();
        assert_eq!(real.signal(Signal::KILL), Ok(false));
    }

    #[test]
    fn a_mark_finds_its_own_rank_and_no_other() {
        let start = |mark: &str| Command::new("sleep").arg("60").env(MARK, mark).stdout(Stdio::null()).spawn().unwrap();
        let unique = format!("test{}", std::process::id());
        let mut one = start(&format!("{unique}.1"));
        let mut eleven = start(&format!("{unique}.11"));
        let pids = |mark: String| marked(&mark).into_iter().map(|process| process.pid).collect::<BTreeSet<_>>();
        assert_eq!(pids(format!("{unique}.1")), BTreeSet::from([one.id()]));
        assert_eq!(pids(format!("{unique}.")), BTreeSet::from([one.id(), eleven.id()]));
        assert_eq!(kill_all(|| marked(&format!("{unique}.")), Duration::from_secs(5)), Vec::<u32>::new());
        one.wait().unwrap();
        eleven.wait().unwrap();
    }
}
