//! Rows that are no emulated training: drives, object stores, checkpoints.
//!
//! Invariant: a system that the row does not describe is refused, with what is missing; nothing is fitted to these rows.

use dh_perf::run::checkpoint::{
    BYTES_PER_PARAMETER, BYTES_PER_PARAMETER_WITHOUT_COPY, COPY_TO_HOST, Save, Store, size, times,
};
use dh_units::{Bytes, BytesPerSec, real};

use super::rows::{Row, number_after};

/// A value in the row's unit, by what factor it may be off, and what it rests on.
pub(super) type Answer = Result<(f64, f64, &'static str), &'static str>;

/// Reached of the line rate of Ethernet by TCP at 1,500 bytes: 1,448 bytes of data for 1,538 on the wire.
const TCP_SHARE: f64 = 1448.0 / 1538.0;

/// Samsung 980 PRO 2 TB, sequential, from its data sheet (from memory): 7,000 MB/s read, 5,100 MB/s written; through a file system
/// half of it, and half of that again for files of 16 KiB. Stated assumptions.
const DRIVE: (f64, f64) = (7.0e9, 5.1e9);
const FILE_SYSTEM: f64 = 0.5;
const SMALL_FILE: f64 = 16_384.0;

/// What the scan keeps in flight: 16 jobs with 16 requests of 16 KiB.
const IN_FLIGHT: f64 = 16.0 * 16.0 * 16_384.0;

const MIB: f64 = 1_048_576.0;

pub(super) fn answer(row: &Row) -> Answer {
    match row.what.as_str() {
        "local NVMe fio" => drive(row),
        "GET throughput" => object_store(row),
        "checkpoint size" => weight(row),
        _ if row.what.starts_with("checkpoint to remote storage") => {
            let store = Store { bandwidth: BytesPerSec(2.5e9), node: None, writers: 1 };
            let bytes = size(530_000_000_000, BYTES_PER_PARAMETER_WITHOUT_COPY);
            let times = times(bytes, &store, Save::Blocking).map_err(|_| "no time")?;
            Ok((times.stall.0 / 60.0, 1.3, "12 bytes a parameter at 20 Gb/s; the row is arithmetic, no measurement"))
        }
        _ if row.system.contains("NAS 100 MB/s") => saved(row),
        _ if row.what.contains("heckpoint") => Err("neither the store's bandwidth nor the nodes' are described"),
        "metadata" => Err("the time of an operation on names is no matter of bytes"),
        "dataset size" => Err("the size of a data set is no matter of speed"),
        _ => Err("the system is not described"),
    }
}

fn drive(row: &Row) -> Answer {
    let (read, write) = DRIVE;
    let sheet = if row.bytes_or_model.contains("read") { read } else { write };
    let file = if row.bytes_or_model.contains("16k") { 16_384.0 } else { 1e9 };
    let rate = sheet * FILE_SYSTEM * file / (file + SMALL_FILE);
    let basis = "half of the drive's data sheet; a quarter for files of 16 KiB (stated assumptions)";
    match row.metric.as_str() {
        "bandwidth" => Ok((rate / MIB, 2.5, basis)),
        "latency" => Ok((IN_FLIGHT / rate * 1e3, 2.5, "4 MiB in flight over that bandwidth (Little's law)")),
        _ => Err("neither bandwidth nor latency"),
    }
}

fn object_store(row: &Row) -> Answer {
    let gib = |rate: f64| (rate, 1.1, "the stated capacity, less what TCP adds");
    if let Some(stated) = number_after(&row.notes, "theoretical ").or(number_after(&row.notes, "capacity ")) {
        return Ok(gib(stated * TCP_SHARE));
    }
    if let Some(drives) = number_after(&row.notes, "fio direct read of one node ") {
        let nodes = row.n_nodes.ok_or("the number of nodes is not said")?;
        return Ok((
            drives * real(nodes) * TCP_SHARE,
            1.15,
            "what the drives of one node give, times nodes, less what TCP adds",
        ));
    }
    if row.system.contains("100G") {
        let nodes = row.n_nodes.ok_or("the number of nodes is not said")?;
        return Ok(gib(12.5e9 * real(nodes) / MIB / 1024.0 * TCP_SHARE));
    }
    Err("neither ports nor drives are described")
}

fn weight(row: &Row) -> Answer {
    // BLOOM has 176,247,271,424 parameters.
    let parameters = 176_247_271_424;
    match row.metric.as_str() {
        "size_bf16_weights" => Ok((size(parameters, 2.0).as_f64() / 1e9, 1.1, "2 bytes a parameter")),
        "size_full_with_optimizer" => {
            Ok((size(parameters, BYTES_PER_PARAMETER).as_f64() / 1e12, 1.1, "14 bytes a parameter"))
        }
        _ => Err("not a size"),
    }
}

fn saved(row: &Row) -> Answer {
    let gigabytes = ["18GB", "24GB"].into_iter().find(|size| row.bytes_or_model.contains(size));
    let gigabytes = gigabytes.and_then(|text| text.trim_end_matches("GB").parse::<u64>().ok());
    let bytes = Bytes(gigabytes.ok_or("its size is not said")? * 1_000_000_000);
    let store = Store { bandwidth: BytesPerSec(1e8), node: None, writers: row.n_nodes.unwrap_or(1) };
    let save = if row.what.contains("blocking part") {
        let accelerators = row.n_accel.ok_or("the number of accelerators is not said")?;
        // Without a distributed optimizer one replica of TP8 saves all, with one all 16 save their part.
        let accelerators =
            if row.bytes_or_model.contains("no distributed") { 8.min(accelerators) } else { accelerators };
        Save::Background { copy: COPY_TO_HOST, accelerators }
    } else {
        Save::Blocking
    };
    let times = times(bytes, &store, save).map_err(|_| "no time")?;
    Ok((times.stall.0, 1.35, "its size over the store's stated bandwidth, or over copies to host memory"))
}
