//! The log of a run: settings first, then every event that the scheduler was told, one JSON object in a line.
//!
//! Told the same events, a scheduler of the same settings decides the same: the digests in the log prove it. For another
//! policy the log is a trace: what came, how much work it was, and which nodes failed when.
//!
//! Layout: line 1 is the [`Header`]; then `{"at": ns, "event": {..}}`, with `"work"` beside a submission; after every
//! [`MARK_EVERY`] events and at the end `{"events": n, "digest": "16 hex digits"}`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use dh_core::{JobId, NodeId, SimTime};
use dh_hall::scheduler::{Action, Event, Scheduler, Settings};
use dh_policy::fleet::Service;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::kernel::{Arrival, Fault, Observer, Profile, Work};

/// Events from one mark to the next.
pub const MARK_EVERY: u64 = 100_000;

/// The layout's version.
const FORMAT: u32 = 2;

/// How errors name a log.
const LOG: &str = "log";

/// What a log begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The layout's version.
    pub datahall_log: u32,
    /// How the scheduler decided.
    pub settings: Settings,
    /// What stops and starts cost.
    pub profiles: Vec<Profile>,
    /// What queues are called.
    pub queues: Vec<String>,
}

impl Header {
    /// The header of a run.
    pub fn new(settings: Settings, profiles: Vec<Profile>, queues: Vec<String>) -> Self {
        Self { datahall_log: FORMAT, settings, profiles, queues }
    }
}

/// One line after the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Told {
        at: SimTime,
        event: Event,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        work: Option<Work>,
    },
    Mark {
        events: u64,
        digest: String,
    },
}

/// Writes a log as a run goes on.
#[derive(Debug)]
pub struct Recorder<W> {
    out: W,
    events: u64,
    works: BTreeMap<JobId, Work>,
    failed: Option<std::io::Error>,
}

impl<W: Write> Recorder<W> {
    /// Begins a log.
    /// # Errors
    /// If it cannot be written.
    pub fn new(mut out: W, header: &Header) -> std::io::Result<Self> {
        serde_json::to_writer(&mut out, header)?;
        out.write_all(b"\n")?;
        Ok(Self { out, events: 0, works: BTreeMap::new(), failed: None })
    }

    fn line(&mut self, line: &Line) {
        if self.failed.is_none() {
            let written = serde_json::to_writer(&mut self.out, line).map_err(Into::into);
            self.failed = written.and_then(|()| self.out.write_all(b"\n")).err();
        }
    }

    fn mark(&mut self, digest: u64) {
        self.line(&Line::Mark { events: self.events, digest: format!("{digest:016x}") });
    }

    /// Ends the log with the digest that the scheduler has now.
    /// # Errors
    /// The first thing that could not be written.
    pub fn finish(mut self, digest: u64) -> std::io::Result<()> {
        self.mark(digest);
        match self.failed {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

impl<W: Write> Observer for Recorder<W> {
    fn work(&mut self, job: JobId, work: Work) {
        self.works.insert(job, work);
    }

    fn told(&mut self, now: SimTime, event: &Event, scheduler: &Scheduler) {
        if self.events > 0 && self.events.is_multiple_of(MARK_EVERY) {
            self.mark(scheduler.digest());
        }
        self.events += 1;
        let work = match event {
            Event::Submitted(submission) => self.works.remove(&submission.job),
            Event::Adopted { .. }
            | Event::Cancelled { .. }
            | Event::Ended { .. }
            | Event::Stopped { .. }
            | Event::Checkpointed { .. }
            | Event::Predicted { .. }
            | Event::Node { .. }
            | Event::Suspected { .. }
            | Event::Queue { .. }
            | Event::Warm { .. }
            | Event::Speeds { .. }
            | Event::PowerCap { .. }
            | Event::Apply { .. }
            | Event::Iteration { .. }
            | Event::Beside { .. }
            | Event::Tick => None,
        };
        self.line(&Line::Told { at: now, event: event.clone(), work });
    }
}

/// A log that was read.
#[derive(Debug)]
pub struct Log<'a> {
    /// What it begins with.
    pub header: Header,
    lines: std::str::Lines<'a>,
    number: u64,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// Events replayed.
    pub events: u64,
    /// Digests compared.
    pub marks: u64,
    /// The first digest that differs: after which event, what the log says, what was reached.
    pub differs: Option<(u64, String, String)>,
    /// The digest at the end.
    pub digest: String,
    /// The time of the last event.
    pub until: SimTime,
}

/// Whether a text begins as a log does.
pub fn is_log(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.starts_with("{\"datahall_log\":"))
}

impl<'a> Log<'a> {
    /// Reads the header of a log.
    /// # Errors
    /// If it has none, or one of another version.
    pub fn read(text: &'a str) -> Result<Self, Error> {
        let mut lines = text.lines();
        let first = lines.next().ok_or(Error::Nothing("the log is empty"))?;
        let header: Header = serde_json::from_str(first).map_err(|error| line_error(1, &error))?;
        if header.datahall_log != FORMAT {
            let why = format!("its format is {}, and this version reads format {FORMAT}", header.datahall_log);
            return Err(Error::Line { file: LOG, line: 1, why });
        }
        Ok(Self { header, lines, number: 1 })
    }

    /// Tells `scheduler` every event of the log at or before `until`, and `each` what came of it.
    /// # Errors
    /// A line that is none.
    pub fn replay(
        self,
        scheduler: &mut Scheduler,
        until: SimTime,
        mut each: impl FnMut(&Scheduler, &Event, &[Action]),
    ) -> Result<Replay, Error> {
        let mut replay = Replay { events: 0, marks: 0, differs: None, digest: String::new(), until: SimTime(0) };
        let mut actions = Vec::new();
        for line in self.rest() {
            match line? {
                Line::Told { at, event, .. } => {
                    if at > until {
                        break;
                    }
                    actions.clear();
                    scheduler.step(at, &event, &mut actions);
                    replay.events += 1;
                    replay.until = at;
                    each(scheduler, &event, &actions);
                }
                Line::Mark { events, digest } => {
                    let reached = format!("{:016x}", scheduler.digest());
                    replay.marks += 1;
                    if (events, &digest) != (replay.events, &reached) && replay.differs.is_none() {
                        replay.differs = Some((replay.events, digest, reached));
                    }
                }
            }
        }
        replay.digest = format!("{:016x}", scheduler.digest());
        Ok(replay)
    }

    /// The log as a trace: what came, and which nodes failed and came back by themselves.
    /// # Errors
    /// A line that is none, or a job without its work.
    pub fn trace(self) -> Result<(Vec<Arrival>, Vec<Fault>), Error> {
        let (mut arrivals, mut faults) = (Vec::new(), Vec::new());
        // Nodes that the old scheduler sent to sleep: that they slept and woke was its own decision.
        let mut asleep: BTreeSet<NodeId> = BTreeSet::new();
        for (number, line) in (self.number + 1..).zip(self.rest()) {
            let Line::Told { at, event, work } = line? else { continue };
            match event {
                Event::Submitted(submission) => {
                    let work = work.ok_or_else(|| Error::Line {
                        file: LOG,
                        line: number,
                        why: format!(
                            "{} has no `work`: how long it runs under another policy is not known",
                            submission.job
                        ),
                    })?;
                    arrivals.push(Arrival { at, submission, work });
                }
                Event::Node { node, service: Service::Asleep } => {
                    asleep.insert(node);
                }
                Event::Node { node, service } => {
                    if !(asleep.remove(&node) && service == Service::Up) {
                        faults.push(Fault { at, node, service });
                    }
                }
                Event::Adopted { .. }
                | Event::Cancelled { .. }
                | Event::Ended { .. }
                | Event::Stopped { .. }
                | Event::Checkpointed { .. }
                | Event::Predicted { .. }
                | Event::Suspected { .. }
                | Event::Queue { .. }
                | Event::Warm { .. }
                | Event::Speeds { .. }
                | Event::PowerCap { .. }
                | Event::Apply { .. }
                | Event::Iteration { .. }
                | Event::Beside { .. }
                | Event::Tick => {}
            }
        }
        Ok((arrivals, faults))
    }

    fn rest(self) -> impl Iterator<Item = Result<Line, Error>> + use<'a> {
        let numbers = self.number + 1..;
        numbers
            .zip(self.lines)
            .map(|(number, line)| serde_json::from_str(line).map_err(|error| line_error(number, &error)))
    }
}

fn line_error(line: u64, error: &serde_json::Error) -> Error {
    Error::Line { file: LOG, line, why: error.to_string() }
}
