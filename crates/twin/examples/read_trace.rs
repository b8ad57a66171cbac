//! Reads a trace and prints what it holds: `read_trace PATH [FORMAT] [NODES]`.
//!
//! Files may be gzipped. Formats beside those of jobs: `throughputs`, `requests`, `rates`, `images`. Without a format the head
//! decides. The time of reading is that of the text in memory, the best of five.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example prints, reads files and looks at the clock"
)]

use std::error::Error;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use dh_core::time::Span;
use dh_twin::trace::{
    FORMATS, Format, Options, Requests, Summary, Throughputs, Trace, TraceJob, by_name, images, rates, read, sniff,
};
use dh_units::real;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(path) = arguments.first() else {
        println!("read_trace PATH [FORMAT] [NODES]");
        for format in FORMATS {
            println!("  {:<18} {}", format.name(), format.about());
        }
        return Ok(());
    };
    let text = text_of(Path::new(path))?;
    let nodes = arguments.get(2).map(|path| text_of(Path::new(path))).transpose()?;
    match arguments.get(1).map(String::as_str) {
        Some("throughputs") => {
            let table = Throughputs::read(&text, path)?;
            println!("{} rows, {} job types, on {:?}", table.rows(), table.jobs.len(), table.accelerators.list());
        }
        Some("requests") => println!("{:#?}", Summary::of(Requests::new(&text, path)?)?),
        Some("rates") => println!("{} rates", rates(&text, path)?.collect::<Result<Vec<_>, _>>()?.len()),
        Some("images") => println!("{} requests", images(&text, path)?.collect::<Result<Vec<_>, _>>()?.len()),
        name => {
            let format = match name {
                Some(name) => by_name(name).ok_or("no such format")?,
                None => sniff(&text, path)?,
            };
            let options = Options { file: path, nodes: nodes.as_deref(), ..Options::default() };
            show(&timed(format, &text, options)?);
        }
    }
    Ok(())
}

fn text_of(path: &Path) -> Result<String, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
        return Ok(text);
    }
    Ok(String::from_utf8(bytes)?)
}

fn timed(format: &'static dyn Format, text: &str, options: Options<'_>) -> Result<Trace, dh_twin::trace::Error> {
    let mut best = Duration::MAX;
    let mut trace = read(format, text, options)?;
    for _ in 0..5 {
        let start = Instant::now();
        trace = read(format, text, options)?;
        best = best.min(start.elapsed());
    }
    println!("{} MB in {:.1} ms", text.len() / 1_000_000, best.as_secs_f64() * 1e3);
    Ok(trace)
}

fn show(trace: &Trace) {
    println!("{}: {} jobs", trace.format, trace.jobs.len());
    println!(
        "{} queues, {} users, {} models",
        trace.queues.list().len(),
        trace.users.list().len(),
        trace.models.list().len()
    );
    println!(
        "cluster: {} nodes, {} accelerators ({})",
        trace.cluster.count(),
        trace.cluster.accelerators(),
        trace.cluster.source
    );
    println!("classes: {}", trace.cluster.classes.join(", "));
    let last = trace.jobs.iter().map(|job| job.submit.0).max().unwrap_or(0);
    let mut lengths: Vec<u64> = trace.jobs.iter().filter_map(TraceJob::length).map(Span::as_secs).collect();
    lengths.sort_unstable();
    let at = |share: usize| lengths.get(lengths.len().saturating_sub(1) * share / 100).copied().unwrap_or(0);
    println!("submitted over {:.1} days", real(last) / 86_400e9);
    println!("lengths known {}, p50 {} s, p90 {} s, p99 {} s", lengths.len(), at(50), at(90), at(99));
    let largest = trace.jobs.iter().map(|job| job.gang.milli()).max().unwrap_or(0);
    println!("largest gang {} accelerators", real(largest) / 1e3);
    for note in &trace.notes {
        println!("note: {note}");
    }
}
