//! `datahall cp`: files in and out of the folder in which a job's ranks start.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use dh_core::{JobId, Kind};
use serde::Serialize;

use super::{Globals, Verb};
use crate::api::{Api, in_query};
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// `JOB:PATH`, or a file of this machine
    from: String,
    /// The other of the two; a folder of this machine, or `JOB:` alone, keeps the file's name
    to: String,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Job(JobId, String),
    Here(PathBuf),
}

#[derive(Serialize)]
struct Copied {
    bytes: u64,
}

impl Verb for Cp {
    const NAME: &'static str = "cp";
    const ABOUT: &'static str = "Copy a file into or out of a job's working folder";
    const AFTER: &'static str = "Examples:\n  datahall cp 7:results/loss.csv .\n  datahall cp notes.txt 7:\nPaths are below the folder in which ranks start, which the jobs of a hall share. What is in the store (`s3://...`) is copied by `datahall store cp`.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let ends = (end_of(&self.from)?, end_of(&self.to)?);
        let api = Api::connect(globals)?;
        let bytes = match ends {
            (End::Job(job, path), End::Here(to)) => fetch(&api, job, &path, &to)?,
            (End::Here(from), End::Job(job, path)) => send(&api, &from, job, &path)?,
            (End::Job(..), End::Job(..)) | (End::Here(_), End::Here(_)) => {
                return Err(Failure::new(Kind::Invalid, "one of the two must be in a job's folder, and only one")
                    .hint("write it as `JOB:PATH`, such as `7:out.csv`"));
            }
        };
        if globals.output.is_data() {
            output::versioned(&Copied { bytes })?;
        } else if !globals.quiet {
            output::note(format!("{bytes} bytes"));
        }
        Ok(0)
    }
}

/// What `text` means: before a colon stands a job, if it is one.
fn end_of(text: &str) -> Result<End, Failure> {
    if text.starts_with("s3://") {
        return Err(Failure::new(Kind::Invalid, format!("{text} is in the store"))
            .hint("`datahall store cp` copies into and out of the store"));
    }
    let job = text.split_once(':').and_then(|(job, path)| Some((job.parse().ok()?, path)));
    Ok(match job {
        Some((job, path)) => End::Job(job, path.to_owned()),
        None => End::Here(PathBuf::from(text)),
    })
}

fn name_of(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Failure::new(Kind::Invalid, format!("{} names no file", path.display())))
}

fn address(job: JobId, path: &str) -> String {
    format!("/v1/jobs/{}/files?path={}", job.0, in_query(path))
}

/// The copy appears under its name when it is whole.
fn fetch(api: &Api, job: JobId, path: &str, to: &Path) -> Result<u64, Failure> {
    let to = if to.is_dir() { to.join(name_of(Path::new(path))?) } else { to.to_owned() };
    let mut answer = api.get_stream(&address(job, path))?;
    let part = to.with_file_name(format!(".{}.part-{}", name_of(&to)?, std::process::id()));
    let whole = File::create(&part)
        .and_then(|mut file| std::io::copy(&mut answer, &mut file))
        .and_then(|bytes| std::fs::rename(&part, &to).map(|()| bytes));
    if whole.is_err() && part.exists() {
        std::fs::remove_file(&part).or_fail(format!("remove {}", part.display()))?;
    }
    whole.or_fail(format!("write {}", to.display()))
}

fn send(api: &Api, from: &Path, job: JobId, path: &str) -> Result<u64, Failure> {
    let path =
        if path.is_empty() || path.ends_with('/') { format!("{path}{}", name_of(from)?) } else { path.to_owned() };
    let file = File::open(from).or_fail_as(Kind::NotFound, format!("open {}", from.display()))?;
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err(Failure::new(Kind::Invalid, format!("{} is not a file", from.display()))
            .hint("`tar` makes one of a folder"));
    }
    let answer: serde_json::Value = api.put_file(&address(job, &path), file)?;
    Ok(answer.get("bytes").and_then(serde_json::Value::as_u64).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_a_colon_is_a_job_if_it_is_one() {
        let job = |number, path: &str| End::Job(JobId(number), path.to_owned());
        assert_eq!(end_of("7:a/b").ok(), Some(job(7, "a/b")));
        assert_eq!(end_of("job/7:").ok(), Some(job(7, "")));
        assert_eq!(end_of("C:x").ok(), Some(End::Here("C:x".into())));
        assert_eq!(end_of("./7").ok(), Some(End::Here("./7".into())));
        assert!(end_of("s3://bucket/key").is_err());
    }
}
