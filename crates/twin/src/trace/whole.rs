//! A whole trace: jobs in the order in which they were submitted, names, what is rare, and the cluster.
//!
//! Invariant: after [`Trace::settle`] jobs are sorted by the moment of submission, equal moments in the file's order.

use std::collections::BTreeMap;

use dh_core::time::{SimTime, Span};

use super::cluster::Cluster;
use super::error::Fault;
use super::job::{Entry, Extra, TraceJob};
use super::names::{Name, Names};
use super::rated::Rated;

/// A trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Its format.
    pub format: &'static str,
    /// Its jobs.
    pub jobs: Vec<TraceJob>,
    /// Queues, teams, virtual clusters.
    pub queues: Names,
    /// Who submitted.
    pub users: Names,
    /// What ran.
    pub models: Names,
    /// The cluster that it brings; empty if none is known.
    pub cluster: Cluster,
    /// Where its clock began: nanoseconds since 1970 of moment 0, if its times are those of a wall clock.
    pub epoch: Option<SimTime>,
    /// What was assumed or left out, in sentences.
    pub notes: Vec<String>,
    /// How jobs of each type get on, by [`Extra::rated`].
    pub rated: BTreeMap<u16, Rated>,
    extras: Vec<Extra>,
    /// Names of jobs whose trace has no numbers: the end of each in `labels`.
    label_ends: Vec<usize>,
    labels: String,
}

impl Trace {
    /// A trace without jobs.
    pub(crate) fn empty(format: &'static str) -> Self {
        Self {
            format,
            jobs: Vec::new(),
            queues: Names::default(),
            users: Names::default(),
            models: Names::default(),
            cluster: Cluster::default(),
            epoch: None,
            notes: Vec::new(),
            rated: BTreeMap::new(),
            extras: Vec::new(),
            label_ends: Vec::new(),
            labels: String::new(),
        }
    }

    /// A trace for jobs that were drawn: queues and users are named by their numbers, up to the last of each.
    pub(crate) fn numbered(last_queue: u16, last_user: u16) -> Self {
        let mut trace = Self::empty("synthetic");
        for (names, kind, last) in [(&mut trace.queues, "queue", last_queue), (&mut trace.users, "user", last_user)] {
            // The last of 16 bits has no place; a job with it is named by none.
            (0..=last).take_while(|number| names.of(&format!("{kind}-{number}")).is_ok()).for_each(drop);
        }
        trace
    }

    /// Adds a job; a label belongs to the job's number, which is then its place in the file.
    pub fn push(&mut self, entry: Entry) {
        let mut job = entry.job;
        if let Some(extra) = entry.extra {
            job.set_extra(self.extras.len());
            self.extras.push(*extra);
        }
        if let Some(label) = entry.label {
            job.id = u64::try_from(self.label_ends.len()).unwrap_or(u64::MAX);
            self.labels.push_str(&label);
            self.label_ends.push(self.labels.len());
        }
        self.jobs.push(job);
    }

    /// A job is of a type that has rates, and runs on these classes only; 0 is any.
    pub(super) fn set_rated(&mut self, at: usize, rated: u16, classes: u32) {
        let Some(job) = self.jobs.get_mut(at) else { return };
        if classes != 0 {
            let before = job.gang.classes;
            job.gang.classes = if before == 0 || before & classes == 0 { classes } else { before & classes };
        }
        if let Some(extra) = job.extra().and_then(|place| self.extras.get_mut(place)) {
            extra.rated = Some(rated);
        } else {
            job.set_extra(self.extras.len());
            self.extras.push(Extra { rated: Some(rated), ..Extra::default() });
        }
    }

    /// The only queue of a trace that has none.
    pub(crate) fn one_queue(&mut self) -> Result<Name, Fault> {
        self.queues.of("all")
    }

    /// Sorts by submission, and moves the first moment to 0 if times are those of a wall clock.
    pub(crate) fn settle(&mut self) {
        if !self.jobs.is_sorted_by_key(|job| job.submit) {
            self.jobs.sort_by_key(|job| job.submit);
        }
        if let Some(epoch) = &mut self.epoch {
            let first = self.jobs.first().map_or(SimTime(0), |job| job.submit);
            *epoch = first;
            for job in &mut self.jobs {
                job.submit = SimTime(job.submit.since(first).0);
            }
            for extra in &mut self.extras {
                extra.deadline = extra.deadline.map(|deadline| SimTime(deadline.since(first).0));
            }
        }
    }

    /// What is rare about a job.
    pub fn extra(&self, job: &TraceJob) -> Option<&Extra> {
        job.extra().and_then(|place| self.extras.get(place))
    }

    /// The length of a job on a class of the cluster; that on the reference class if it is the same on all.
    pub fn length_on(&self, job: &TraceJob, class: u8) -> Option<Span> {
        let known = self.extra(job).and_then(|extra| extra.on_classes.iter().find(|on| on.class == class));
        known.map(|on| on.length).or_else(|| job.length())
    }

    /// The trace's name of a job: its number if it has no other.
    pub fn label(&self, job: &TraceJob) -> String {
        let at = usize::try_from(job.id).unwrap_or(usize::MAX);
        let end = self.label_ends.get(at).copied();
        let start = at.checked_sub(1).and_then(|before| self.label_ends.get(before)).copied().unwrap_or(0);
        match end.and_then(|end| self.labels.get(start..end)) {
            Some(label) => label.to_owned(),
            None => job.id.to_string(),
        }
    }

    /// Accelerator time of all jobs whose length is known, accelerators x 1000 times nanoseconds.
    pub fn demand(&self) -> u128 {
        let of = |job: &TraceJob| job.length().map_or(0, |length| u128::from(length.0) * u128::from(job.gang.milli()));
        self.jobs.iter().map(of).sum()
    }
}
