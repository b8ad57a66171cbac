//! The requests of a batch, one a line: checked before the first one goes out, so that a mistake costs nothing.
//!
//! Cost: one pass over the file; 16 bytes a line are kept, and the name while the others are compared with it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::shown;
use crate::request;

/// Mistakes that are told; more help nobody.
const PROBLEMS_MAX: usize = 100;
/// Longer names of requests are nobody's.
const NAME_BYTES_MAX: usize = 512;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    /// From 1; nothing if it is about the whole file.
    pub(crate) line: Option<u64>,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
}

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) lines: usize,
    pub(crate) line_bytes: usize,
}

/// A checked file: where its requests lie.
#[derive(Debug)]
pub(crate) struct Lines {
    file: File,
    places: Vec<(u64, usize)>,
}

/// One request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    custom_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl Lines {
    /// Checks every line of `path` for `endpoint`.
    pub(crate) fn check(path: &Path, endpoint: &str, most: Most) -> io::Result<Result<Self, Vec<Problem>>> {
        let file = File::open(path)?;
        let mut reader = BufReader::with_capacity(1 << 18, &file);
        let (mut places, mut problems, mut names) = (Vec::new(), Vec::new(), HashSet::new());
        let (mut at, mut number, mut line) = (0_u64, 0_u64, Vec::new());
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            number += 1;
            let text = line.trim_ascii();
            if !text.is_empty() {
                places.push((at, read));
                let wrong = if text.len() > most.line_bytes {
                    Err(("line_too_long", None, format!("the line is longer than {} bytes", most.line_bytes)))
                } else {
                    check(text, endpoint).and_then(|line| {
                        let twice = format!("the name `{}` was used before", shown(&line.name, 80));
                        if names.insert(line.name) {
                            Ok(())
                        } else {
                            Err(("duplicate_custom_id", Some("custom_id"), twice))
                        }
                    })
                };
                if let Err((code, param, message)) = wrong {
                    let (code, param) = (code.to_owned(), param.map(str::to_owned));
                    problems.push(Problem { code, line: Some(number), message, param });
                }
            }
            if places.len() > most.lines {
                problems.push(whole("too_many_requests", format!("a batch has at most {} requests", most.lines)));
            }
            if problems.len() >= PROBLEMS_MAX || places.len() > most.lines {
                break;
            }
            at += u64::try_from(read).map_err(io::Error::other)?;
        }
        if places.is_empty() {
            problems.push(whole("empty_file", "the file has no requests".to_owned()));
        }
        Ok(if problems.is_empty() { Ok(Self { file, places }) } else { Err(problems) })
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// The request at `place`.
    pub(crate) fn get(&self, place: usize) -> io::Result<Line> {
        let &(at, length) = self.places.get(place).ok_or(io::ErrorKind::NotFound)?;
        let mut text = vec![0; length];
        self.file.read_exact_at(&mut text, at)?;
        // It was checked; only a file that somebody changed since says otherwise.
        check(text.trim_ascii(), "").map_err(|(_, _, message)| io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

type Wrong = (&'static str, Option<&'static str>, String);

/// Reads a line; an empty `endpoint` stands for any.
fn check(text: &[u8], endpoint: &str) -> Result<Line, Wrong> {
    let fields: Fields<'_> = serde_json::from_slice(text).map_err(|error| {
        let reason: String = error.to_string().chars().take(200).collect();
        ("invalid_json_line", None, format!("this is no request: {reason}"))
    })?;
    let missing = |what: &'static str| ("missing_required_parameter", Some(what), format!("`{what}` is missing"));
    let name = fields.custom_id.ok_or_else(|| missing("custom_id"))?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err((
            "invalid_custom_id",
            Some("custom_id"),
            format!("`custom_id` must have 1 to {NAME_BYTES_MAX} bytes"),
        ));
    }
    if fields.method.ok_or_else(|| missing("method"))? != "POST" {
        return Err(("invalid_method", Some("method"), "`method` must be `POST`".to_owned()));
    }
    let url = fields.url.ok_or_else(|| missing("url"))?;
    if !endpoint.is_empty() && url != endpoint {
        let says = format!("`url` is `{}`, and the batch is for `{endpoint}`", shown(&url, 80));
        return Err(("invalid_url", Some("url"), says));
    }
    let body = fields.body.ok_or_else(|| missing("body"))?.get().as_bytes();
    let peek = request::peek(body).map_err(|error| ("invalid_request", Some("body"), error.to_string()))?;
    if peek.stream {
        return Err(("invalid_request", Some("body.stream"), "a batch has no streams: leave `stream` out".to_owned()));
    }
    Ok(Line { name: name.into_owned(), model: peek.model.into_owned(), body: body.to_vec() })
}

fn whole(code: &str, message: String) -> Problem {
    Problem { code: code.to_owned(), line: None, message, param: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, lines: usize) -> Result<Lines, Vec<Problem>> {
        let path = std::env::temp_dir().join(format!("dh-lines-{}-{}", std::process::id(), text.len()));
        std::fs::write(&path, text).unwrap();
        let checked = Lines::check(&path, "/v1/x", Most { lines, line_bytes: 300 }).unwrap();
        std::fs::remove_file(&path).unwrap();
        checked
    }

    fn line(name: &str, rest: &str) -> String {
        format!("{{\"custom_id\":\"{name}\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{{\"model\":\"m\"{rest}}}}}")
    }

    #[test]
    fn requests_are_found_where_they_lie_blank_lines_and_a_missing_last_line_end_included() {
        let text = format!("{}\r\n\n  {}\n{}", line("a", ",\"n\":1e400"), line("b\\n", ""), line("c", ""));
        let lines = checked(&text, 3).unwrap();
        let names: Vec<String> = (0..lines.count()).map(|place| lines.get(place).unwrap().name).collect();
        assert_eq!(names, ["a", "b\n", "c"]);
        let first = lines.get(0).unwrap();
        assert_eq!((first.model.as_str(), first.body.as_slice()), ("m", &br#"{"model":"m","n":1e400}"#[..]));
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let good = line("a", "");
        let text = [
            good.as_str(),
            "{oops",
            &good,
            &line("s", ",\"stream\":true"),
            &line("d", "").replace("/v1/x", "/v1/y"),
            &line("e", "").replace("POST", "GET"),
            &line("f", "").replace("\"model\":\"m\"", ""),
            "{\"custom_id\":\"g\",\"method\":\"POST\",\"url\":\"/v1/x\"}",
            &line("h", &format!(",\"x\":\"{}\"", "y".repeat(300))),
        ]
        .join("\n");
        let found: Vec<(u64, String)> =
            checked(&text, 99).unwrap_err().into_iter().map(|one| (one.line.unwrap(), one.code)).collect();
        let found: Vec<(u64, &str)> = found.iter().map(|(line, code)| (*line, code.as_str())).collect();
        assert_eq!(
            found,
            [
                (2, "invalid_json_line"),
                (3, "duplicate_custom_id"),
                (4, "invalid_request"),
                (5, "invalid_url"),
                (6, "invalid_method"),
                (7, "invalid_request"),
                (8, "missing_required_parameter"),
                (9, "line_too_long"),
            ]
        );
        assert_eq!(checked("\n \n", 9).unwrap_err()[0].code, "empty_file");
        assert_eq!(checked(&format!("{good}\n{}", line("b", "")), 1).unwrap_err()[0].code, "too_many_requests");
    }
}
