//! Reads `philly_jobs.csv.gz`: `job_id,submit_s,duration_s,gpus,vc,..`, sorted by submission.

use std::io::Read;

/// A job of the trace. Times in seconds since the start of the trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) submit: u64,
    /// At least one second.
    pub(crate) duration: u64,
    /// Accelerators.
    pub(crate) size: u32,
    /// Index of its virtual cluster; none where the trace lost it.
    pub(crate) vc: Option<u8>,
}

/// The jobs of a trace and the names of its virtual clusters.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) jobs: Vec<Job>,
    pub(crate) vcs: Vec<String>,
}

/// The trace in the file `path`, packed or not.
pub(crate) fn read(path: &str) -> Result<Trace, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    let mut trace = Trace::default();
    for line in text.lines().skip(1) {
        let mut fields = line.split(',').skip(1);
        let mut next = || fields.next().ok_or("a row is too short");
        let (submit, duration, size, name) = (next()?.parse()?, next()?.parse::<u64>()?, next()?.parse()?, next()?);
        let vc = if name.is_empty() {
            None
        } else {
            let index = trace.vcs.iter().position(|known| known == name).unwrap_or(trace.vcs.len());
            if index == trace.vcs.len() {
                trace.vcs.push(name.to_owned());
            }
            Some(u8::try_from(index)?)
        };
        trace.jobs.push(Job { submit, duration: duration.max(1), size, vc });
    }
    if !trace.jobs.is_sorted_by_key(|job| job.submit) {
        return Err("the trace is not sorted by submission".into());
    }
    Ok(trace)
}
