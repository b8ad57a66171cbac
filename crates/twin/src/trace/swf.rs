//! The Standard Workload Format, version 2.2, of the Parallel Workloads Archive: 18 numbers a job, comments after `;`.
//!
//! A processor counts as one accelerator: the archive's machines have no others, and what a policy of gangs does with them is
//! the same. Nodes are `MaxNodes`, processors of a node `MaxProcs` over that. A missing value is -1. Requested processors
//! come before allocated ones, since a scheduler sees the request. Source: Chapin et al. 1999; Feitelson, "The Standard Workload Format".

use dh_core::time::Span;

use super::{
    ACCELERATORS_MAX, Cluster, Column, Divide, Entry, Fate, Fault, Format, Gang, Options, Reader, Row, Shape, Trace,
    TraceJob,
};

/// The format.
#[derive(Debug)]
pub(super) struct Swf;

/// Numbers of a line.
const FIELDS: usize = 18;
/// The names of the fields that are read, by place.
const NAMES: [&str; FIELDS] = [
    "job number",
    "submit time",
    "wait time",
    "run time",
    "allocated processors",
    "average processor time",
    "used memory",
    "requested processors",
    "requested time",
    "requested memory",
    "status",
    "user",
    "group",
    "application",
    "queue",
    "partition",
    "preceding job",
    "think time",
];

#[derive(Debug, Default)]
struct State {
    nodes: Option<u32>,
    processors: Option<u32>,
    node_accelerators: Option<u32>,
    without: u64,
    never_ran: u64,
}

impl Format for Swf {
    fn name(&self) -> &'static str {
        "swf"
    }

    fn about(&self) -> &'static str {
        "Standard Workload Format 2.2 (Parallel Workloads Archive); a processor counts as an accelerator"
    }

    fn shape(&self) -> Shape {
        Shape::Words
    }

    fn sniff(&self, head: &str) -> bool {
        let number = |word: &str| word.parse::<f64>().is_ok();
        head.split_ascii_whitespace().count() == FIELDS && head.split_ascii_whitespace().all(number)
    }

    fn begin(&self, head: &Row<'_>, options: &Options<'_>, _: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        if head.count() != FIELDS {
            return Err(Fault::Count { found: head.count(), want: FIELDS });
        }
        Ok(Box::new(State { node_accelerators: options.node_accelerators, ..State::default() }))
    }
}

/// A field by its number in the definition, from 1.
fn field(number: usize) -> Column {
    let at = number.saturating_sub(1);
    Column { at, name: NAMES.get(at).copied().unwrap_or("field") }
}

/// The column, unless its cell is missing: -1 or any other negative number.
fn present(row: &Row<'_>, number: usize) -> Option<Column> {
    let column = field(number);
    let negative = row
        .text(column)
        .strip_prefix('-')
        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    (!negative).then_some(column)
}

impl State {
    /// Processors of a node.
    fn node(&self) -> u32 {
        let known = self.processors.zip(self.nodes.filter(|nodes| *nodes > 0)).map(|(all, nodes)| all.div_ceil(nodes));
        self.node_accelerators.or(known).unwrap_or(1).clamp(1, 1024)
    }
}

impl Reader for State {
    fn comment(&mut self, text: &str, _: &mut Trace) {
        let Some((key, value)) = text.split_once(':') else { return };
        let number = || value.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        match key.trim_ascii() {
            "MaxNodes" => self.nodes = self.nodes.or_else(number),
            "MaxProcs" => self.processors = self.processors.or_else(number),
            _ => {}
        }
    }

    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let count = |number| present(row, number).map(|column| row.small(column, ACCELERATORS_MAX)).transpose();
        let processors = match count(8)?.filter(|asked| *asked > 0) {
            Some(asked) => Some(asked),
            None => count(5)?.filter(|used| *used > 0),
        };
        let Some(accelerators) = processors else {
            self.without += 1;
            return Ok(None);
        };
        let gang = Gang::divided(Divide { accelerators, node: self.node() });
        let kib =
            present(row, 10).map(|column| row.whole(column, u64::from(u32::MAX) * 1024)).transpose()?.unwrap_or(0);
        let each = u64::from(gang.per_rank_milli / 1000);
        let gang =
            Gang { memory_mib: u32::try_from(kib.saturating_mul(each).div_ceil(1024)).unwrap_or(u32::MAX), ..gang };
        let queue = match present(row, 15) {
            Some(column) => trace.queues.of(row.text(column))?,
            None => trace.one_queue()?,
        };
        let job = TraceJob::new(row.whole(field(1), u64::MAX)?, row.moment(field(2))?, gang, queue);
        let length: Option<Span> = present(row, 4).map(|column| row.span(column)).transpose()?;
        if length.is_none() {
            self.never_ran += 1;
        }
        let mut job = job.with_length(length);
        job = job.with_limit(present(row, 9).map(|column| row.span(column)).transpose()?);
        job.user = present(row, 12).map(|column| trace.users.of(row.text(column))).transpose()?;
        job.model = present(row, 14).map(|column| trace.models.of(row.text(column))).transpose()?;
        job.fate = match row.text(field(11)) {
            "1" => Fate::Completed,
            "0" => Fate::Failed,
            "5" => Fate::Cancelled,
            "-1" | "2" | "3" | "4" => Fate::Unknown,
            other => return Err(Fault::cell("status", other, "-1 or 0 to 5")),
        };
        Ok(Some(job.into()))
    }

    fn finish(&mut self, trace: &mut Trace) {
        let node = self.node();
        let nodes = self.nodes.or_else(|| self.processors.map(|processors| processors.div_ceil(node)));
        if let Some(nodes) = nodes {
            trace.cluster = Cluster::equal("the log's own header: MaxNodes, MaxProcs", nodes, node);
        }
        trace.notes.push("a processor counts as one accelerator".to_owned());
        if self.without > 0 {
            trace.notes.push(format!("{} rows without processors are left out", self.without));
        }
        if self.never_ran > 0 {
            trace.notes.push(format!("{} jobs have no run time", self.never_ran));
        }
    }
}
