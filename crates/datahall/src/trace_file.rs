//! A trace from a file: text, or text that was gzipped.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use dh_core::Kind;
use flate2::read::MultiGzDecoder;

use crate::failure::Failure;

/// Bytes of a trace, unpacked: the largest published list has 4 MB, a year of a large cluster some 500.
const TRACE_BYTES_MAX: u64 = 2 << 30;

/// The text of the trace at `path`.
/// # Errors
/// If it cannot be read, is too large, or is no UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Invalid };
        Failure::new(kind, format!("{shown}: {error}"))
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::with_capacity(2);
    file.by_ref().take(2).read_to_end(&mut start).map_err(failed)?;
    let packed = start == [0x1f, 0x8b];
    let whole = std::io::Cursor::new(start).chain(file);
    let mut bytes = Vec::new();
    if packed {
        MultiGzDecoder::new(whole).take(TRACE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        whole.take(TRACE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length > TRACE_BYTES_MAX) {
        return Err(Failure::new(Kind::Invalid, format!("{shown} has more than {} GiB", TRACE_BYTES_MAX >> 30)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(Kind::Invalid, format!("{shown} is no text: byte {at} is not UTF-8"))
    })
}
