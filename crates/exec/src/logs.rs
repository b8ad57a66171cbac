//! Reading what tasks print: from any place, bounded, while it is still being written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dh_core::limits::LOG_LINE_BYTES_MAX;

use crate::Error;

/// How often a followed log is looked at. A person sees no difference; a thousand followers cost a thousand `pread`s.
const POLL: Duration = Duration::from_millis(100);

/// At most `max` bytes from `offset`, and the offset to go on from. Beyond the end there is nothing, not an error;
/// a log that does not exist yet is empty.
/// # Errors
/// If the file cannot be read.
pub fn read_from(path: &Path, offset: u64, max: usize) -> Result<(Vec<u8>, u64), Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), offset)),
        Err(error) => return Err(Error::os("open", path, error)),
    };
    let size = file.metadata().map_err(|error| Error::os("read", path, error))?.len();
    let wanted = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(max);
    let mut bytes = vec![0_u8; wanted];
    let mut filled = 0;
    let mut at = offset;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(read) => {
                filled += read;
                at = at.saturating_add(u64::try_from(read).unwrap_or(0));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::os("read", path, error)),
        }
    }
    bytes.truncate(filled);
    Ok((bytes, at))
}

/// The offset from which at most `max` bytes remain, moved forward to the start of a line if there is one.
/// # Errors
/// If the file cannot be read.
pub fn tail_offset(path: &Path, max: u64) -> Result<u64, Error> {
    let size = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Error::os("read", path, error)),
    };
    let from = size.saturating_sub(max);
    if from == 0 {
        return Ok(0);
    }
    // The byte before shows whether a line starts exactly here.
    let (bytes, _) = read_from(path, from - 1, usize::try_from(max).unwrap_or(usize::MAX).saturating_add(1))?;
    let cut = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline);
    Ok(from + u64::try_from(cut).unwrap_or(0))
}

/// A log that is read while its task runs.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    offset: u64,
}

impl Follow {
    /// Follows the log at `path` from `offset`.
    pub const fn new(path: PathBuf, offset: u64) -> Self {
        Self { path, offset }
    }

    /// Where the next byte comes from.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, at most `max`; waits until there are some. `None` when the task has ended and all was read.
    /// # Errors
    /// If the file cannot be read.
    pub async fn next(&mut self, max: usize) -> Result<Option<Vec<u8>>, Error> {
        loop {
            // The end is looked at first: nothing is written after it, so an empty read then is the last.
            let ended = has_ended(&self.path);
            let (bytes, next) = read_from(&self.path, self.offset, max)?;
            if !bytes.is_empty() {
                self.offset = next;
                return Ok(Some(bytes));
            }
            if ended {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Whether the task that writes the log at `path` is gone.
pub fn has_ended(path: &Path) -> bool {
    path.with_extension("exit.json").exists()
}

/// The lines of `bytes` as they are shown: text, and no longer than [`LOG_LINE_BYTES_MAX`].
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = String> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = (!bytes.is_empty()).then(|| body.split(|byte| *byte == b'\n'));
    lines.into_iter().flatten().map(|line| shown(line, LOG_LINE_BYTES_MAX))
}

fn shown(line: &[u8], max: usize) -> String {
    match line.get(..max) {
        Some(head) if line.len() > max => {
            format!("{} ... ({} bytes cut)", String::from_utf8_lossy(head), line.len() - max)
        }
        _ => String::from_utf8_lossy(line).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn reads_are_bounded_and_go_on_where_they_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rank-0.log");
        assert_eq!(read_from(&path, 5, 10).unwrap(), (vec![], 5));
        fs::write(&path, b"one\ntwo\nthree\n").unwrap();
        assert_eq!(read_from(&path, 0, 5).unwrap(), (b"one\nt".to_vec(), 5));
        assert_eq!(read_from(&path, 5, 100).unwrap(), (b"wo\nthree\n".to_vec(), 14));
        assert_eq!(read_from(&path, 14, 100).unwrap(), (vec![], 14));
        assert_eq!(read_from(&path, u64::MAX, 100).unwrap(), (vec![], u64::MAX));
        for (max, from) in [(0, 14), (6, 8), (5, 14), (7, 8), (100, 0)] {
            assert_eq!(tail_offset(&path, max).unwrap(), from, "{max}");
        }
    }

    #[test]
    fn long_lines_are_cut_only_when_shown() {
        assert_eq!(shown(b"abcdef", 4), "abcd ... (2 bytes cut)");
        assert_eq!(shown(b"abcd", 4), "abcd");
        assert_eq!(lines(b"a\n\nb\xff").collect::<Vec<_>>(), ["a", "", "b\u{fffd}"]);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(lines(b"\n").collect::<Vec<_>>(), [""]);
    }

    #[tokio::test]
    async fn a_follower_sees_every_byte_and_then_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rank-0.log");
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut log = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
                for line in 0..30 {
                    writeln!(log, "line {line}").unwrap();
                    std::thread::sleep(Duration::from_millis(10));
                }
                fs::write(path.with_extension("exit.json"), b"{}").unwrap();
            })
        };
        let mut follow = Follow::new(path.clone(), 0);
        let mut seen = Vec::new();
        while let Some(bytes) = follow.next(7).await.unwrap() {
            assert!(bytes.len() <= 7);
            seen.extend(bytes);
        }
        writer.join().unwrap();
        assert_eq!(seen, fs::read(&path).unwrap());
        assert_eq!(follow.offset(), u64::try_from(seen.len()).unwrap());
    }
}
