//! Reading a file of measurements within its bounds: from disk or from standard input.

use std::io::Read;
use std::path::Path;

use dh_core::{Kind, limits};

use crate::failure::{Failure, OrFail};

/// How a file is called in messages.
pub(super) fn named(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// The text of `file`; `-` is standard input.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let name = named(file);
    let bytes = if file == Path::new("-") {
        bounded(std::io::stdin().lock(), &name)?
    } else {
        let opened = std::fs::File::open(file).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Invalid };
            Failure::new(kind, format!("{name}: {error}"))
        })?;
        bounded(opened, &name)?
    };
    text(bytes, &name)
}

fn bounded(from: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // One more than may be tells a file that is too large from one that just fits; a device without an end stops here too.
    from.take(limits::MEASUREMENTS_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .or_fail_as(Kind::Invalid, format!("read {name}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limits::MEASUREMENTS_BYTES_MAX {
        let most = limits::MEASUREMENTS_BYTES_MAX >> 20;
        return Err(Failure::new(
            Kind::TooLarge,
            format!("{name} has more than {most} MiB; at most that many are read"),
        ));
    }
    Ok(bytes)
}

fn line_ends(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

fn text(bytes: Vec<u8>, name: &str) -> Result<String, Failure> {
    let lines = line_ends(&bytes);
    if lines > limits::MEASUREMENTS_ROWS_MAX + 1 {
        return Err(Failure::new(
            Kind::TooLarge,
            format!("{name} has {lines} lines; at most {} rows are read", limits::MEASUREMENTS_ROWS_MAX),
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = line_ends(before) + 1;
        Failure::new(Kind::Invalid, format!("{name}: line {line} is not UTF-8"))
            .hint("`iconv -f LATIN1 -t UTF-8` converts a file that a spreadsheet saved")
    })?;
    if text.trim().is_empty() {
        return Err(Failure::new(Kind::Invalid, format!("{name} is empty")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(bytes: &[u8]) -> String {
        text(bytes.to_vec(), "x.csv").map_or_else(|failure| failure.message, |text| format!("{} bytes", text.len()))
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        assert_eq!(says(b"a,b\n1,2\n"), "8 bytes");
        assert_eq!(says(b""), "x.csv is empty");
        assert_eq!(says(b" \n\n"), "x.csv is empty");
        assert_eq!(says(b"a\nb\xff\n"), "x.csv: line 2 is not UTF-8");
        let long = "\n".repeat(limits::MEASUREMENTS_ROWS_MAX + 2);
        assert_eq!(says(long.as_bytes()), "x.csv has 1000002 lines; at most 1000000 rows are read");
    }

    #[test]
    fn a_stream_without_an_end_is_refused() {
        let failure = bounded(std::io::repeat(b'x'), "x.csv").map(|bytes| bytes.len());
        assert_eq!(failure.map_err(|failure| failure.kind), Err(Kind::TooLarge));
    }
}
