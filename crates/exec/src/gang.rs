//! What an executor is asked to run: one command, once per rank, all of them or none.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dh_core::limits::{GANG_RANKS_MAX, JOB_BYTES_MAX};
use dh_core::{AttemptId, NodeId, Rank, Secret};
use dh_units::Bytes;

use crate::Error;
use crate::devices::Device;
use crate::limits::{MEMORY_MIN, OPEN_FILES_MIN};

/// A gang to start.
#[derive(Debug, Clone)]
pub struct GangSpec {
    /// The attempt; starts at most once.
    pub attempt: AttemptId,
    /// The job's name, for people and for rendezvous ids.
    pub name: String,
    /// Program and arguments; the same for every rank.
    pub command: Vec<String>,
    /// The user's variables. They win over those of [`crate::launch`], except for the identity of the rank.
    pub env: BTreeMap<String, String>,
    /// Variables that reach the task and nothing else: no file, no log, no argument list.
    pub secret_env: BTreeMap<String, Secret<String>>,
    /// One entry per rank, dense from 0, in order.
    pub ranks: Vec<RankSpec>,
    /// Whose accelerators [`RankSpec::devices`] are.
    pub devices: Devices,
    /// Bounds of each task.
    pub limits: TaskLimits,
    /// Where the tasks start. Must exist.
    pub workdir: PathBuf,
}

/// One rank of a gang.
#[derive(Debug, Clone, PartialEq)]
pub struct RankSpec {
    /// Its place in the gang.
    pub rank: Rank,
    /// The cores it may run on; empty means all.
    pub cores: Vec<u32>,
    /// The node it was placed on.
    pub node: NodeId,
    /// The accelerators that it was given, by their numbers on its node.
    pub devices: Vec<u32>,
    /// The same where they are devices of this machine, in the same order; else empty.
    pub real: Vec<Device>,
    /// What it was given of its one accelerator, where it has a part of one.
    pub part: Option<PartOf>,
}

/// Whose accelerators a gang was given, which says how a program is told which ones are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// None that a program would know: processor cores stand in for them.
    #[default]
    Cores,
    /// NVIDIA's.
    Cuda,
    /// AMD's.
    Rocm,
    /// Google's.
    Tpu,
}

/// A part of an accelerator that a rank was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOf {
    /// The accelerator's number on its node.
    pub device: u32,
    /// Thousandths of it.
    pub milli: u16,
    /// The memory of it that the rank may use.
    pub memory: Option<Bytes>,
    /// The profile of its slice, and the slots that it takes; none for a share.
    pub slice: Option<(String, u8)>,
}

/// Bounds of one task, that is of all its processes together where the system can do that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskLimits {
    /// Memory.
    pub memory: Option<Bytes>,
    /// Time from start to the polite signal.
    pub time: Option<Duration>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

impl GangSpec {
    /// Refuses what can never start, before anything is touched.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.problem().map_or(Ok(()), |why| Err(Error::Invalid { attempt: self.attempt, why }))
    }

    fn problem(&self) -> Option<String> {
        let program = match self.command.first() {
            None => return Some("`command` is empty".to_owned()),
            Some(program) if program.is_empty() => {
                return Some("`command` names no program".to_owned());
            }
            Some(program) => program,
        };
        if let Some(bad) = self.command.iter().find(|word| word.contains('\0')) {
            return Some(format!("`command` of {program:?} has a zero byte in {bad:?}"));
        }
        if self.ranks.is_empty() {
            return Some("`ranks` is empty".to_owned());
        }
        if u32::try_from(self.ranks.len()).map_or(true, |ranks| ranks > GANG_RANKS_MAX) {
            return Some(format!("`ranks` has {} entries; at most {GANG_RANKS_MAX} are allowed", self.ranks.len()));
        }
        for (expected, spec) in (0_u32..).zip(&self.ranks) {
            if spec.rank.0 != expected {
                return Some(format!("`ranks` must count 0, 1, 2, ..; found {} where {expected} belongs", spec.rank));
            }
        }
        let secrets = self.secret_env.iter().map(|(name, value)| (name, value.expose()));
        for (name, value) in self.env.iter().chain(secrets) {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Some(format!("`env` has a variable named {name:?}; names hold neither `=` nor zero bytes"));
            }
            if value.contains('\0') {
                return Some(format!("`env` variable `{name}` has a zero byte in its value"));
            }
        }
        let bytes = self.command.iter().map(String::len).sum::<usize>()
            + self.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + self.secret_env.iter().map(|(name, value)| name.len() + value.expose().len()).sum::<usize>();
        if bytes > JOB_BYTES_MAX {
            return Some(format!("command and environment take {bytes} bytes; at most {JOB_BYTES_MAX} are allowed"));
        }
        self.limits.problem()
    }
}

impl TaskLimits {
    fn problem(&self) -> Option<String> {
        if let Some(memory) = self.memory.filter(|memory| memory.0 < MEMORY_MIN) {
            return Some(format!("`limits.memory` is {} bytes; the least is {MEMORY_MIN}", memory.0));
        }
        if self.time.is_some_and(|time| time.is_zero()) {
            return Some("`limits.time` is zero".to_owned());
        }
        if let Some(files) = self.open_files.filter(|files| *files < OPEN_FILES_MIN) {
            return Some(format!("`limits.open_files` is {files}; the least is {OPEN_FILES_MIN}"));
        }
        if self.processes == Some(0) {
            return Some("`limits.processes` is 0; the task itself is one".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dh_core::JobId;
    use expect_test::{Expect, expect};

    fn gang() -> GangSpec {
        GangSpec {
            attempt: AttemptId { job: JobId(7), attempt: 2 },
            name: "train".to_owned(),
            command: vec!["true".to_owned()],
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            ranks: vec![RankSpec {
                rank: Rank(0),
                cores: vec![],
                node: NodeId(0),
                devices: vec![],
                real: vec![],
                part: None,
            }],
            devices: Devices::Cores,
            limits: TaskLimits::default(),
            workdir: PathBuf::from("/"),
        }
    }

    fn check(change: impl FnOnce(&mut GangSpec), expected: &Expect) {
        let mut spec = gang();
        change(&mut spec);
        expected.assert_eq(&spec.check().map_or_else(|error| error.to_string(), |()| "fine".to_owned()));
    }

    #[test]
    fn a_bad_gang_is_refused_with_the_field_named() {
        check(|_| (), &expect!["fine"]);
        check(|gang| gang.command.clear(), &expect!["the gang of job/7.2 cannot start: `command` is empty"]);
        check(
            |gang| gang.command.push("a\0b".to_owned()),
            &expect![[r#"the gang of job/7.2 cannot start: `command` of "true" has a zero byte in "a\0b""#]],
        );
        check(|gang| gang.ranks.clear(), &expect!["the gang of job/7.2 cannot start: `ranks` is empty"]);
        check(
            |gang| {
                gang.ranks.push(RankSpec {
                    rank: Rank(2),
                    cores: vec![],
                    node: NodeId(0),
                    devices: vec![],
                    real: vec![],
                    part: None,
                });
            },
            &expect!["the gang of job/7.2 cannot start: `ranks` must count 0, 1, 2, ..; found 2 where 1 belongs"],
        );
        check(
            |gang| drop(gang.env.insert("A=B".to_owned(), String::new())),
            &expect![[
                r#"the gang of job/7.2 cannot start: `env` has a variable named "A=B"; names hold neither `=` nor zero bytes"#
            ]],
        );
        check(
            |gang| gang.limits.memory = Some(Bytes(1)),
            &expect!["the gang of job/7.2 cannot start: `limits.memory` is 1 bytes; the least is 16777216"],
        );
        check(
            |gang| gang.limits.open_files = Some(3),
            &expect!["the gang of job/7.2 cannot start: `limits.open_files` is 3; the least is 32"],
        );
    }

    #[test]
    fn a_secret_is_never_printed() {
        let mut spec = gang();
        spec.secret_env.insert("KEY".to_owned(), Secret::new("open sesame\0".to_owned()));
        assert!(!format!("{spec:?}").contains("sesame"));
        assert!(!spec.check().unwrap_err().to_string().contains("sesame"));
    }
}
