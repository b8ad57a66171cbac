//! What a rank prints, followed from the API into the rank's log file, each line once.
//!
//! The API can begin again only at a full second. So the place that was reached is kept as a second and the number of its lines that
//! are in the file, with the file's length then: whoever goes on, after a cut or as the next server, cuts the file to that length,
//! asks for that second, and passes over as many lines. Invariant: the file has every line that the kubelet still has, in order.

use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::client::{Client, Failure, Pause, encoded};
use crate::Error;
use crate::layout::{Durability, read_json, write_json};

/// How often the place is written down.
const KEEP: Duration = Duration::from_secs(1);

/// How far a log is in its file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// `2026-11-26T17:53:02Z`: a timestamp without its fraction.
    second: String,
    /// Lines of that second which are in the file.
    lines: u64,
    /// The file's length with them.
    bytes: u64,
}

/// How long is waited after a log that ended while its container has not been heard to.
const AGAIN: Duration = Duration::from_millis(300);

/// Follows until the container has `ended` and all was read, or the pod is no more. A log that ends before its container, because
/// the kubelet has begun another file or the server was restarted, is followed again.
pub(super) async fn follow(client: &Client, pod: &str, path: &Path, ended: impl Fn() -> bool) -> Result<(), Error> {
    let kept = path.with_extension("log-place.json");
    let mut place: Place = read_json(&kept)?.unwrap_or_default();
    let mut file = crate::layout::open_append(path)?;
    file.set_len(place.bytes).map_err(|error| Error::os("cut", path, error))?;
    let mut pause = Pause::default();
    loop {
        // Asked before the last look, so that nothing that was printed is missed.
        let over = ended();
        let outcome = copy(client, pod, &mut file, path, &mut place, &kept).await?;
        write_json(&kept, &place, Durability::Process)?;
        match outcome {
            Ok(()) if over => return Ok(()),
            Ok(()) => tokio::time::sleep(AGAIN).await,
            // No pod, or none whose log there is.
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(()),
            Err(failure) => {
                // What was written after the last line that counts is a part of a line.
                file.set_len(place.bytes).map_err(|error| Error::os("cut", path, error))?;
                pause.after("the log of a pod", &failure).await;
            }
        }
    }
}

async fn copy(
    client: &Client,
    pod: &str,
    file: &mut std::fs::File,
    path: &Path,
    place: &mut Place,
    kept: &Path,
) -> Result<Result<(), Failure>, Error> {
    let since = if place.second.is_empty() { String::new() } else { format!("&sinceTime={}", encoded(&place.second)) };
    let query = format!("{}/log?container=task&follow=true&timestamps=true{since}", client.path("pods", pod));
    let mut lines = match client.lines(&query).await {
        Ok(lines) => lines,
        Err(failure) => return Ok(Err(failure)),
    };
    let (second, mut passed) = (place.second.clone(), place.lines);
    let mut written = Instant::now();
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(Ok(())),
            Err(failure) => return Ok(Err(failure)),
        };
        let (at, text) = parts(&line);
        if passed > 0 && at == second {
            passed -= 1;
            continue;
        }
        passed = 0;
        if !at.is_empty() {
            place.lines = if at == place.second { place.lines + 1 } else { 1 };
            place.second = at;
        }
        let whole = [text, b"\n"].concat();
        file.write_all(&whole).map_err(|error| Error::os("write", path, error))?;
        place.bytes = file.stream_position().map_err(|error| Error::os("write", path, error))?;
        if written.elapsed() >= KEEP {
            write_json(kept, place, Durability::Process)?;
            written = Instant::now();
        }
    }
}

/// A line's second and its text. A line without a timestamp, which is the kubelet's own word, counts to no second.
fn parts(line: &[u8]) -> (String, &[u8]) {
    let stamped = || {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let stamp = std::str::from_utf8(line.get(..space)?).ok()?;
        let (second, rest) = (stamp.get(..19)?, stamp.get(19..)?);
        let plain = second.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 | 16 => byte == b':',
            _ => byte.is_ascii_digit(),
        });
        let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        plain.then(|| (format!("{second}{zone}"), line.get(space + 1..).unwrap_or_default()))
    };
    stamped().unwrap_or_else(|| (String::new(), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_its_second_and_its_text() {
        let of = |line: &str| {
            let (second, text) = parts(line.as_bytes());
            (second, String::from_utf8_lossy(text).into_owned())
        };
        let plain = |second: &str, text: &str| (second.to_owned(), text.to_owned());
        assert_eq!(of("2026-11-26T17:53:02.123456789Z a b"), plain("2026-11-26T17:53:02Z", "a b"));
        assert_eq!(of("2026-11-26T17:53:02Z "), plain("2026-11-26T17:53:02Z", ""));
        assert_eq!(of("2026-11-26T17:53:02.5+01:00 x"), plain("2026-11-26T17:53:02+01:00", "x"));
        assert_eq!(of("failed to open the log"), plain("", "failed to open the log"));
        assert_eq!(of(""), plain("", ""));
    }
}
