//! Rows of `storage.csv`: what a row says of its setup, apart from what was measured.
//!
//! Invariant: nothing of a row's `value` is in its setup.

use dh_perf::loading::Consumer;
use dh_units::Seconds;
use serde::Deserialize;

use crate::Error;

/// A line of the file.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) what: String,
    pub(super) system: String,
    pub(super) n_nodes: Option<u64>,
    pub(super) n_accel: Option<u64>,
    pub(super) bytes_or_model: String,
    pub(super) metric: String,
    pub(super) value: f64,
    pub(super) unit: String,
    pub(super) notes: String,
}

const COLUMNS: [&str; 11] =
    ["id", "source", "what", "system", "n_nodes", "n_accel", "bytes_or_model", "metric", "value", "unit", "notes"];

/// Every row of `text`.
pub(super) fn read(text: &str) -> Result<Vec<Row>, Error> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers()?.clone();
    for column in COLUMNS {
        if !headers.iter().any(|header| header == column) {
            return Err(Error::Column(column));
        }
    }
    reader.deserialize().map(|row| row.map_err(Error::from)).collect()
}

/// What an emulated training reads and how long it works on it. `MLPerf` Storage: configurations of its releases 0.5 and 1.0, from
/// memory; record sizes are those by which the published MiB/s and samples/s of every row agree to 1e-5, and no row has more
/// samples a second than these times allow.
struct Workload {
    model: &'static str,
    accelerator: &'static str,
    batch: f64,
    record: f64,
    compute: f64,
    readers: u64,
    samples_per_file: f64,
    /// The utilisation in percent that a result must reach to be published.
    threshold: f64,
}

const fn workload(
    (model, accelerator): (&'static str, &'static str),
    (batch, record, compute): (f64, f64, f64),
    (readers, samples_per_file, threshold): (u64, f64, f64),
) -> Workload {
    Workload { model, accelerator, batch, record, compute, readers, samples_per_file, threshold }
}

const WORKLOADS: [Workload; 8] = [
    workload(("unet3d", "a100"), (7.0, 146_600_628.0, 0.636), (4, 1.0, 90.0)),
    workload(("unet3d", "h100"), (7.0, 146_600_628.0, 0.323), (4, 1.0, 90.0)),
    workload(("resnet50", "a100"), (400.0, 114_660.07, 0.435), (8, 1251.0, 90.0)),
    workload(("resnet50", "h100"), (400.0, 114_660.07, 0.224), (8, 1251.0, 90.0)),
    workload(("cosmoflow", "a100"), (1.0, 2_828_486.0, 0.005_51), (4, 1.0, 70.0)),
    workload(("cosmoflow", "h100"), (1.0, 2_828_486.0, 0.0035), (4, 1.0, 70.0)),
    workload(("unet3d", "v100"), (4.0, 146_600_628.0, 1.3604), (4, 1.0, 90.0)),
    workload(("bert", "v100"), (48.0, 2500.0, 0.968), (1, 313_532.0, 90.0)),
];

/// An emulated training on a store.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Emulation {
    pub(super) consumer: Consumer,
    /// The utilisation, 0 to 1, that a result must reach to be published.
    pub(super) threshold: f64,
    /// Batches of one accelerator in an epoch; `None` where the number of files is not said.
    pub(super) batches: Option<f64>,
    /// Its accelerators over the most that were published of the same system, hosts and training.
    pub(super) of_most: f64,
    /// Who submitted it.
    pub(super) vendor: String,
}

impl Row {
    fn emulated(&self) -> Option<&'static Workload> {
        let (model, accelerator) = self.bytes_or_model.split_once(" emulated ")?;
        let accelerator = accelerator.to_lowercase();
        WORKLOADS.iter().find(|workload| workload.model == model && workload.accelerator == accelerator)
    }

    fn same_series(&self, other: &Self) -> bool {
        (&self.system, &self.bytes_or_model, self.n_nodes) == (&other.system, &other.bytes_or_model, other.n_nodes)
    }

    /// The emulated training that the row is of, among `all` rows.
    pub(super) fn emulation(&self, all: &[Self]) -> Option<Emulation> {
        let workload = self.emulated()?;
        let (accelerators, hosts) = (self.n_accel?, self.n_nodes?);
        let most = all.iter().filter(|row| row.same_series(self)).filter_map(|row| row.n_accel).max()?;
        // The number of files is in the note of the first row of a result.
        let files = all
            .iter()
            .filter(|row| row.same_series(self) && row.n_accel == self.n_accel)
            .find_map(|row| number_after(&row.notes, "files "));
        let consumer = Consumer {
            accelerators,
            hosts,
            batch: workload.batch,
            sample: workload.record,
            compute: Seconds(workload.compute),
            readers: workload.readers,
        };
        let n = dh_units::real(accelerators);
        Some(Emulation {
            consumer,
            threshold: workload.threshold / 100.0,
            batches: files.map(|files| files * workload.samples_per_file / n / workload.batch),
            of_most: n / dh_units::real(most.max(1)),
            vendor: self.system.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// The number that follows `words` in `text`.
pub(super) fn number_after(text: &str, words: &str) -> Option<f64> {
    let (_, rest) = text.split_once(words)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest.get(..end)?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_after_their_words() {
        assert_eq!(number_after("mean of 5 runs; files 2976198; stdev 12.83", "files "), Some(2_976_198.0));
        assert_eq!(number_after("theoretical 17.46 GiB/s stated", "theoretical "), Some(17.46));
        assert_eq!(number_after("no such", "files "), None);
    }

    #[test]
    fn a_file_without_a_column_is_refused() {
        assert_eq!(read("id,source\n1,2\n").unwrap_err(), Error::Column("what"));
    }
}
