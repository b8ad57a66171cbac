//! The processor time and memory that processes and all below them have taken, from `/proc`.
//!
//! Source: Linux, `Documentation/filesystems/proc.rst`, `/proc/PID/stat`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Error;

/// What some processes have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
}

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system, of itself.
    own: u64,
    /// The same of children that have ended.
    ended: u64,
    pages: u64,
}

fn parse(line: &str) -> Option<Stat> {
    // The name stands in parentheses, and may hold spaces and parentheses itself.
    let (_name, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: number(11)? + number(12)?,
        ended: number(13)? + number(14)?,
        pages: number(21)?,
    })
}

/// What these processes and all that descend from them have taken so far.
pub(crate) fn taken(pids: &[u32]) -> Result<Taken, Error> {
    let failed = |error: std::io::Error| Error::file("read /proc", &error);
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while we look.
        let Ok(line) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(stat) = parse(&line) {
            all.insert(pid, stat);
        }
    }
    if let Some(missing) = pids.iter().find(|pid| !all.contains_key(pid)) {
        return Err(Error::Setting(format!("there is no process {missing}")));
    }
    let (mut ticks, mut pages) = (0, 0);
    for (pid, stat) in &all {
        // Upwards to a process that was named; the depth is bounded, should a parent be reused meanwhile.
        let mut at = *pid;
        for _depth in 0..64 {
            if pids.contains(&at) {
                ticks += stat.own + stat.ended;
                pages += stat.pages;
                break;
            }
            match all.get(&at) {
                Some(stat) if stat.parent > 1 => at = stat.parent,
                Some(_) | None => break,
            }
        }
    }
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Taken {
        cpu: Duration::from_millis(ticks.saturating_mul(1_000) / per_second),
        resident_bytes: pages.saturating_mul(rustix::param::page_size() as u64),
    })
}

/// The machine's load over the last minute.
pub(crate) fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 100 1000 55 18446744073709551615 1";
        assert_eq!(parse(line), Some(Stat { parent: 3, own: 30, ended: 70, pages: 55 }));
        assert_eq!(parse("7 (a) S 3"), None);
    }

    #[test]
    fn this_process_takes_time_and_memory() {
        let me = std::process::id();
        let before = taken(&[me]).unwrap();
        assert!(before.resident_bytes > 1 << 20);
        let mut sum = 0_u64;
        let start = std::time::Instant::now();
        while taken(&[me]).unwrap().cpu <= before.cpu && start.elapsed() < Duration::from_secs(30) {
            sum = (0..1_000_000).fold(sum, u64::wrapping_add);
        }
        assert!(taken(&[me]).unwrap().cpu > before.cpu, "{sum}");
        assert!(taken(&[u32::MAX]).is_err());
    }
}
