//! Gavel's table: steps per second of a job type with a scale on an accelerator, alone and beside another job.
//!
//! Rates are millionths of a step per second, whole. A name with `_unconsolidated` is an accelerator whose ranks are spread
//! over nodes. Source: Narayanan et al. 2020, "Heterogeneity-Aware Cluster Scheduling Policies", and its simulator.

use std::collections::BTreeMap;

use super::cells::{Shape, Split};
use super::{Column, Error, Fault, Name, Names, Row};

/// What is trained, and with how many accelerators.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobType {
    /// Model and batch.
    pub name: String,
    /// Accelerators.
    pub scale: u32,
}

/// Rates of two jobs that share accelerators, in millionths of a step per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Of the job itself.
    pub own: u64,
    /// Of the other.
    pub other: u64,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Throughputs {
    /// Accelerators, with their spread variants.
    pub accelerators: Names,
    /// Job types, in the order of their first row.
    pub jobs: Vec<JobType>,
    places: BTreeMap<JobType, u16>,
    alone: BTreeMap<(Name, u16), u64>,
    pairs: BTreeMap<(Name, u16, u16), Pair>,
}

/// Millionths of a step per second, at most.
const RATE_MAX: u64 = 1_000_000_000_000_000;
/// Job types, at most.
const JOBS_MAX: usize = 65_535;

impl Throughputs {
    /// Reads the table; `file` is what errors call it.
    /// # Errors
    /// The first line that is not in the format.
    pub fn read(text: &str, file: &str) -> Result<Self, Error> {
        let mut split = Split::default();
        let mut table = Self::default();
        let mut head: Option<[Column; 5]> = None;
        for (line, text) in (1..).zip(text.lines()) {
            let error = |fault| Error { file: file.to_owned(), line, fault };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let row = split.split(text, Shape::Csv).map_err(error)?;
            match head {
                None => head = Some(columns(&row).map_err(error)?),
                Some(_) if row.count() != 5 => return Err(error(Fault::Count { found: row.count(), want: 5 })),
                Some(head) => table.add(&row, head).map_err(error)?,
            }
        }
        if table.rows() == 0 {
            return Err(Error { file: file.to_owned(), line: 1, fault: Fault::Empty });
        }
        Ok(table)
    }

    fn add(&mut self, row: &Row<'_>, [accelerator, job, other, rate, other_rate]: [Column; 5]) -> Result<(), Fault> {
        let accelerator = self.accelerators.of(row.text(accelerator))?;
        let own_place = self.job(row, job)?;
        let own = row.fixed(rate, 6, RATE_MAX)?;
        if row.text(other).is_empty() {
            self.alone.insert((accelerator, own_place), own);
        } else {
            let other_place = self.job(row, other)?;
            let pair = Pair { own, other: row.fixed(other_rate, 6, RATE_MAX)? };
            self.pairs.insert((accelerator, own_place, other_place), pair);
        }
        Ok(())
    }

    fn job(&mut self, row: &Row<'_>, column: Column) -> Result<u16, Fault> {
        let text = row.text(column);
        let job = job_type(text).ok_or_else(|| Fault::cell(column.name, text, "`('name', accelerators)`"))?;
        if let Some(place) = self.places.get(&job) {
            return Ok(*place);
        }
        let place = u16::try_from(self.jobs.len()).map_err(|_| Fault::Names(JOBS_MAX))?;
        self.jobs.push(job.clone());
        self.places.insert(job, place);
        Ok(place)
    }

    /// The place of a job type.
    pub fn find(&self, job: &JobType) -> Option<u16> {
        self.places.get(job).copied()
    }

    /// The rate of a job alone, in millionths of a step per second.
    pub fn alone(&self, accelerator: Name, job: u16) -> Option<u64> {
        self.alone.get(&(accelerator, job)).copied()
    }

    /// The rates of two jobs that share.
    pub fn pair(&self, accelerator: Name, job: u16, other: u16) -> Option<Pair> {
        self.pairs.get(&(accelerator, job, other)).copied()
    }

    /// Different rows.
    pub fn rows(&self) -> usize {
        self.alone.len() + self.pairs.len()
    }
}

fn columns(head: &Row<'_>) -> Result<[Column; 5], Fault> {
    Ok([
        head.column("gpu")?,
        head.column("job")?,
        head.column("colocated_with")?,
        head.column("steps_per_s")?,
        head.column("steps_per_s_colocated")?,
    ])
}

/// `('ResNet-18 (batch size 16)', 1)`.
fn job_type(text: &str) -> Option<JobType> {
    let (name, scale) = text.strip_prefix("('")?.strip_suffix(')')?.rsplit_once("', ")?;
    Some(JobType { name: name.to_owned(), scale: scale.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "gpu,job,colocated_with,steps_per_s,steps_per_s_colocated\n\
        k80,\"('A (batch size 16)', 1)\",,4.7953,\n\
        k80,\"('A (batch size 16)', 1)\",\"('B', 2)\",2.54,3.1202\n";

    #[test]
    fn rates_are_found_by_accelerator_and_jobs() {
        let table = Throughputs::read(TEXT, "t").unwrap();
        let k80 = table.accelerators.find("k80").unwrap();
        assert_eq!(table.alone(k80, 0), Some(4_795_300));
        assert_eq!(table.pair(k80, 0, 1), Some(Pair { own: 2_540_000, other: 3_120_200 }));
        assert_eq!(table.find(&JobType { name: "B".to_owned(), scale: 2 }), Some(1));
        assert_eq!((table.alone(k80, 1), table.rows()), (None, 2));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = Throughputs::read(&format!("{TEXT}k80,x,,1,\n"), "t").unwrap_err();
        assert_eq!(error.to_string(), "t:4: `job` is `x`, expected `('name', accelerators)`");
        assert_eq!(Throughputs::read("gpu\n", "t").unwrap_err().to_string(), "t:1: there is no column `job`");
    }
}
