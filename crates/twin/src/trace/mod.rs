//! Published traces and operators' logs in one form: jobs, and the cluster they ran on.
//!
//! A format is one file and one line in [`FORMATS`]. A reader takes a file line by line, so that neither the text nor the jobs
//! need to be held: [`Lines`] for streaming, [`read`] for the whole.
//!
//! Invariant: pure; the same text gives the same trace on every machine; a line that is not in the format is an error with
//! file, line, column and reason, never a panic or a guess. Cost: one pass over the text, no allocation for a row of numbers.

mod cells;
mod cluster;
mod crux;
mod dlrm;
mod error;
mod inventory;
mod job;
mod lines;
mod muri;
mod names;
mod number;
mod openb;
mod pai;
mod philly;
mod rated;
mod rates;
mod requests;
mod sia;
mod slices;
mod slurm;
mod swf;
#[cfg(test)]
mod tests;
mod throughputs;
mod whole;

use std::fmt::Debug;

use dh_core::time::Span;

use cells::Column;
pub(crate) use cells::seconds;
pub use cells::{Row, Shape};
pub use cluster::{Cluster, NodeGroup};
pub use error::{Error, Fault};
use job::ACCELERATORS_MAX;
pub use job::{Divide, Elastic, Entry, Extra, Fate, Gang, OnClass, Stages, TraceJob};
pub use lines::{Lines, by_name, read, sniff};
pub use names::{Name, Names};
pub use rated::Rated;
pub use rates::{ImageRequest, Rate, WINDOW, images, rates};
pub use requests::{BLOCK_TOKENS, Request, Requests, Summary};
pub use slices::{Joined, Slice, intervals, slices};
pub use throughputs::{JobType, Pair, Throughputs};
pub use whole::Trace;

/// A format of files that hold jobs, nodes or both.
pub trait Format: Sync + Debug {
    /// The name used on command lines.
    fn name(&self) -> &'static str;

    /// What it holds, in a sentence.
    fn about(&self) -> &'static str;

    /// How its lines are divided.
    fn shape(&self) -> Shape {
        Shape::Csv
    }

    /// Whether a file with this first line that is no comment is of this format.
    fn sniff(&self, head: &str) -> bool;

    /// A reader for a file with this head; the head of a shape without one is the first row.
    /// # Errors
    /// If a column is missing, or an option cannot be.
    fn begin(&self, head: &Row<'_>, options: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault>;
}

/// Reads the rows of one file.
pub trait Reader: Debug {
    /// A comment line, without its mark.
    fn comment(&mut self, _text: &str, _trace: &mut Trace) {}

    /// The job of a row; `None` if the row has none. Names and nodes go to `trace`, whose jobs are the caller's.
    /// # Errors
    /// What is wrong with the row.
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault>;

    /// After the last row.
    fn finish(&mut self, _trace: &mut Trace) {}
}

/// What a caller may say about a file.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// What errors call the file.
    pub file: &'a str,
    /// The text of a second file with the nodes, for formats that have one (openb).
    pub nodes: Option<&'a str>,
    /// Accelerator time of a job by what it runs, for formats without lengths (Sia); what is not named keeps the assumption.
    pub accelerator_time: &'a [(&'a str, Span)],
    /// One of several workloads in one file (Sia); none is all.
    pub workload: Option<u32>,
    /// Accelerators of a node, for formats whose cluster is unknown.
    pub node_accelerators: Option<u32>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { file: "trace", nodes: None, accelerator_time: &[], workload: None, node_accelerators: None }
    }
}

/// Every format there is. The first that knows a file by its head reads it.
pub const FORMATS: &[&dyn Format] = &[
    &philly::Philly,
    &muri::Muri,
    &sia::Sia,
    &crux::Crux,
    &pai::Deadlines,
    &openb::OpenB,
    &openb::OpenBNodes,
    &dlrm::Instances,
    &inventory::Pai2020,
    &inventory::Spot2026,
    &slurm::Sacct,
    &swf::Swf,
];
