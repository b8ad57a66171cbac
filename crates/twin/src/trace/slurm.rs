//! Slurm's accounting, as `sacct -P` prints it: `sacct -aPX -o JobID,Submit,Start,End,AllocTRES,ReqTRES,NNodes,Partition,User,State,Timelimit`.
//!
//! Columns may stand in any order; `JobID`, `Submit` and `State` must be there. Steps (`12.batch`) are not jobs. Accelerators are
//! `gres/gpu` of what was asked for, else of what was given; with a type, the type is the class. Times are local and without
//! zone, as Slurm prints them; the first submission becomes moment 0. Source: sacct(1).

use dh_core::time::{SimTime, Span};

use super::{
    ACCELERATORS_MAX, Column, Divide, Entry, Fate, Fault, Format, Gang, Options, Reader, Row, Shape, Trace, TraceJob,
};

/// The format.
#[derive(Debug)]
pub(super) struct Sacct;

/// What is asked for or given, summed over nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tres<'a> {
    cpu: u64,
    memory_mib: u64,
    nodes: u32,
    accelerators: u32,
    class: Option<&'a str>,
}

#[derive(Debug)]
struct Columns {
    id: Column,
    submit: Column,
    start: Option<Column>,
    end: Option<Column>,
    elapsed: Option<Column>,
    asked: Option<Column>,
    given: Option<Column>,
    nodes: Option<Column>,
    partition: Option<Column>,
    user: Option<Column>,
    state: Column,
    limit: Option<Column>,
    priority: Option<Column>,
    node_accelerators: u32,
    steps: u64,
}

impl Format for Sacct {
    fn name(&self) -> &'static str {
        "sacct"
    }

    fn about(&self) -> &'static str {
        "Slurm's accounting, `sacct -aPX -o JobID,Submit,Start,End,AllocTRES,ReqTRES,NNodes,Partition,User,State,Timelimit`"
    }

    fn shape(&self) -> Shape {
        Shape::Bars
    }

    fn sniff(&self, head: &str) -> bool {
        let has = |name: &str| head.split('|').any(|column| column == name);
        has("JobID") && has("Submit") && has("State")
    }

    fn begin(&self, head: &Row<'_>, options: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.epoch = Some(SimTime(0));
        Ok(Box::new(Columns {
            id: head.column("JobID")?,
            submit: head.column("Submit")?,
            start: head.optional("Start"),
            end: head.optional("End"),
            elapsed: head.optional("Elapsed"),
            asked: head.optional("ReqTRES"),
            given: head.optional("AllocTRES"),
            nodes: head.optional("NNodes"),
            partition: head.optional("Partition"),
            user: head.optional("User"),
            state: head.column("State")?,
            limit: head.optional("Timelimit"),
            priority: head.optional("Priority"),
            node_accelerators: options.node_accelerators.unwrap_or(8),
            steps: 0,
        }))
    }
}

impl Reader for Columns {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let id = row.text(self.id);
        if id.contains('.') {
            self.steps += 1;
            return Ok(None);
        }
        let submit = wall(row.text(self.submit))
            .ok_or_else(|| Fault::cell("Submit", row.text(self.submit), "2026-01-31T23:59:59"))?;
        let gang = self.gang(row, trace)?;
        let queue = match self.partition.map(|column| row.text(column)).filter(|name| !name.is_empty()) {
            Some(name) => trace.queues.of(name)?,
            None => trace.one_queue()?,
        };
        let mut job = TraceJob::new(0, submit, gang, queue).with_length(self.length(row)?).with_limit(self.limit(row)?);
        let user = self.user.map(|column| row.text(column)).filter(|name| !name.is_empty());
        job.user = user.map(|name| trace.users.of(name)).transpose()?;
        if let Some(column) = self.priority.filter(|column| !row.text(*column).is_empty()) {
            job.priority = i32::try_from(row.small(column, u32::MAX)?).unwrap_or(i32::MAX);
        }
        job.fate = fate(row.text(self.state));
        Ok(Some(Entry { job, extra: None, label: Some(id.to_owned()) }))
    }

    fn finish(&mut self, trace: &mut Trace) {
        if self.steps > 0 {
            trace.notes.push(format!("{} steps of jobs are left out", self.steps));
        }
        trace.notes.push(
            "times are local, without zone: an hour may be twice or missing where clocks were changed".to_owned(),
        );
    }
}

impl Columns {
    fn gang(&self, row: &Row<'_>, trace: &mut Trace) -> Result<Gang, Fault> {
        let of = |column: Option<Column>| column.map(|column| tres(row.text(column), column.name)).transpose();
        let asked = of(self.asked)?.unwrap_or_default();
        let given = of(self.given)?.unwrap_or_default();
        // A pending job was given nothing, an old one may have no record of what it asked for.
        let known = if asked == Tres::default() { given } else { asked };
        let named = match self.nodes.filter(|column| !row.text(*column).is_empty()) {
            Some(column) => row.small(column, ACCELERATORS_MAX)?,
            None => 0,
        };
        let nodes = known.nodes.max(named).max(1);
        let gang = if known.accelerators == 0 {
            Gang { ranks: nodes, ..Gang::default() }
        } else if known.accelerators.is_multiple_of(nodes) {
            Gang { ranks: nodes, per_rank_milli: (known.accelerators / nodes).saturating_mul(1000), ..Gang::default() }
        } else {
            let node = self.node_accelerators.min(known.accelerators.div_ceil(nodes));
            Gang::divided(Divide { accelerators: known.accelerators, node })
        };
        let each = |all: u64| u32::try_from(all.div_ceil(u64::from(gang.ranks.max(1)))).unwrap_or(u32::MAX);
        let classes = match known.class.or(given.class) {
            Some(name) => 1_u32 << trace.cluster.class(name)?.min(31),
            None => 0,
        };
        Ok(Gang {
            cpu_milli: each(known.cpu.saturating_mul(1000)),
            memory_mib: each(known.memory_mib),
            classes,
            ..gang
        })
    }

    fn length(&self, row: &Row<'_>) -> Result<Option<Span>, Fault> {
        let moment = |column: Option<Column>| -> Result<Option<SimTime>, Fault> {
            let Some(column) = column else { return Ok(None) };
            match row.text(column) {
                "" | "Unknown" | "None" => Ok(None),
                text => wall(text).map(Some).ok_or_else(|| Fault::cell(column.name, text, "2026-01-31T23:59:59")),
            }
        };
        if let (Some(start), Some(end)) = (moment(self.start)?, moment(self.end)?) {
            return Ok(Some(end.since(start)));
        }
        let Some(column) = self.elapsed.filter(|column| self.start.is_none() && !row.text(*column).is_empty()) else {
            return Ok(None);
        };
        let text = row.text(column);
        duration(text).map(Some).ok_or_else(|| Fault::cell(column.name, text, "[days-]hours:minutes:seconds"))
    }

    fn limit(&self, row: &Row<'_>) -> Result<Option<Span>, Fault> {
        let Some(column) = self.limit else { return Ok(None) };
        match row.text(column) {
            "" | "UNLIMITED" | "Partition_Limit" => Ok(None),
            text => {
                duration(text).map(Some).ok_or_else(|| Fault::cell(column.name, text, "[days-]hours:minutes:seconds"))
            }
        }
    }
}

fn fate(state: &str) -> Fate {
    match state.split_ascii_whitespace().next().unwrap_or_default() {
        "COMPLETED" => Fate::Completed,
        "FAILED" | "OUT_OF_MEMORY" => Fate::Failed,
        "CANCELLED" | "REVOKED" => Fate::Cancelled,
        "TIMEOUT" | "DEADLINE" => Fate::TimedOut,
        "NODE_FAIL" | "BOOT_FAIL" | "PREEMPTED" | "REQUEUED" => Fate::Evicted,
        _ => Fate::Unknown,
    }
}

/// `cpu=64,gres/gpu:a100=8,mem=500G,node=2`.
fn tres<'a>(text: &'a str, column: &'static str) -> Result<Tres<'a>, Fault> {
    let mut found = Tres::default();
    let mut typed = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let bad = || Fault::cell(column, part, "a resource and its amount, as in `cpu=64`");
        let (name, amount) = part.split_once('=').ok_or_else(bad)?;
        let count = || amount.parse().ok().filter(|count| *count <= ACCELERATORS_MAX).ok_or_else(bad);
        match name {
            "cpu" => found.cpu = u64::from(count()?),
            "node" => found.nodes = count()?,
            "mem" => found.memory_mib = memory_mib(amount).ok_or_else(bad)?,
            "gres/gpu" => found.accelerators = count()?,
            _ => {
                if let Some(class) = name.strip_prefix("gres/gpu:") {
                    typed = count()?.saturating_add(typed);
                    found.class = Some(class);
                }
            }
        }
    }
    // Slurm may print the typed count alone, or both.
    found.accelerators = found.accelerators.max(typed);
    Ok(found)
}

/// `500G`, `1.5T`, `2048M`; without a unit, MiB.
fn memory_mib(text: &str) -> Option<u64> {
    let (digits, kib) = match text.as_bytes().last()? {
        b'K' => (text.strip_suffix('K')?, 1),
        b'M' => (text.strip_suffix('M')?, 1 << 10),
        b'G' => (text.strip_suffix('G')?, 1 << 20),
        b'T' => (text.strip_suffix('T')?, 1 << 30),
        b'P' => (text.strip_suffix('P')?, 1 << 40),
        _ => (text, 1 << 10),
    };
    let milli = super::number::fixed(digits, 3)?;
    let kib = u64::try_from(u128::from(milli) * kib / 1000).ok()?;
    Some(kib.div_ceil(1024))
}

/// `[days-]hours:minutes:seconds`, `minutes:seconds`, with or without a fraction of a second.
fn duration(text: &str) -> Option<Span> {
    let text = text.split_once('.').map_or(text, |(whole, _)| whole);
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text),
    };
    let mut seconds: u64 = 0;
    let mut parts = 0;
    for part in clock.split(':') {
        parts += 1;
        let value: u64 =
            part.parse().ok().filter(|_| part.len() <= 6 && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        seconds = seconds * 60 + value;
        if parts > 3 {
            return None;
        }
    }
    if parts < 2 || days > 36_500 {
        return None;
    }
    Some(Span::from_secs(days * 86_400 + seconds))
}

/// `2026-01-31T23:59:59` (or a blank for the `T`) as if the zone were that of 1970-01-01T00:00:00.
pub(crate) fn wall(text: &str) -> Option<SimTime> {
    let bytes = text.as_bytes();
    let separators = [(4, b"-"), (7, b"-"), (13, b":"), (16, b":")];
    let fits = text.len() == 19 && separators.iter().all(|(at, byte)| bytes.get(*at..=*at) == Some(*byte));
    if !fits || !matches!(bytes.get(10), Some(b'T' | b' ')) {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let february = if leap { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *months.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if !(1970..=2100).contains(&year) || day == 0 || day > length || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let before = usize::try_from(month - 1).ok()?;
    let last = year - 1;
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days =
        (year - 1970) * 365 + leap_days(last) - leap_days(1969) + months.iter().take(before).sum::<u64>() + day - 1;
    Some(SimTime(Span::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_counted_from_1970() {
        let seconds = |text| wall(text).map(|moment| moment.0 / 1_000_000_000);
        assert_eq!(seconds("1970-01-01T00:00:00"), Some(0));
        assert_eq!(seconds("2000-03-01 00:00:01"), Some(951_868_801));
        assert_eq!(seconds("2024-12-31T23:59:59"), Some(1_735_689_599));
        assert_eq!(seconds("2100-12-31T00:00:00"), Some(4_133_894_400));
        for text in [
            "",
            "Unknown",
            "2023-02-29T00:00:00",
            "2024-13-01T00:00:00",
            "2024-01-01T24:00:00",
            "2024-01-01",
            "2024-é1-01T00:00:00",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn durations_and_amounts_are_those_of_the_manual() {
        assert_eq!(duration("1-02:03:04"), Some(Span::from_secs(93_784)));
        assert_eq!(duration("00:30:00"), Some(Span::from_secs(1800)));
        assert_eq!(duration("05:00.123"), Some(Span::from_secs(300)));
        assert!(duration("90").is_none() && duration("1:2:3:4").is_none() && duration("a:b").is_none());
        assert_eq!(memory_mib("500G"), Some(512_000));
        assert_eq!(memory_mib("1.5T"), Some(1_572_864));
        assert_eq!(memory_mib("2048"), Some(2048));
        let tres = tres("billing=64,cpu=64,gres/gpu:a100=8,gres/gpu=8,mem=1T,node=2", "AllocTRES").unwrap();
        assert_eq!((tres.cpu, tres.nodes, tres.accelerators, tres.class), (64, 2, 8, Some("a100")));
    }
}
