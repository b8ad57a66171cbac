//! Where the value of a secret is: `env:VARIABLE` or `file:PATH` on this machine, or a name that the hall knows.

use std::io::Read;

use dh_core::Kind;
use dh_server::wire::{Hidden, JobRequest, SecretSource};

use crate::failure::{Failure, OrFail};

/// The largest file that is read for a value; the hall takes less.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a reference stands for.
pub(crate) enum Source {
    Value(Hidden),
    /// The hall keeps it under this name.
    Kept(String),
}

/// Reads what `reference` names on this machine.
pub(crate) fn read(reference: &str) -> Result<Source, Failure> {
    if let Some(variable) = reference.strip_prefix("env:") {
        let value = std::env::var(variable).map_err(|_| {
            Failure::new(
                Kind::NotFound,
                format!("the variable `{variable}` of a secret is not set here, or is no text"),
            )
        })?;
        return Ok(Source::Value(Hidden::new(value)));
    }
    if let Some(path) = reference.strip_prefix("file:") {
        let file = std::fs::File::open(path).or_fail_as(Kind::NotFound, format!("read the secret in {path}"))?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .or_fail_as(Kind::Invalid, format!("read the secret in {path}"))?;
        return Ok(Source::Value(without_line_end(text)));
    }
    Ok(Source::Kept(reference.to_owned()))
}

/// A value without the one line end that an editor or `echo` leaves.
pub(crate) fn without_line_end(mut text: String) -> Hidden {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Hidden::new(text)
}

/// Puts what the job's secrets name on this machine into the request.
pub(crate) fn resolve(request: &mut JobRequest) -> Result<(), Failure> {
    for source in request.secrets.values_mut() {
        if let SecretSource::Kept(reference) = source {
            *source = match read(reference)? {
                Source::Value(value) => SecretSource::Value { value },
                Source::Kept(name) => SecretSource::Kept(name),
            };
        }
    }
    Ok(())
}

/// `NAME=REF` as a flag or an option has it.
pub(crate) fn pair(text: &str) -> Result<(String, SecretSource), Failure> {
    let (name, reference) = text.split_once('=').filter(|(name, reference)| !name.is_empty() && !reference.is_empty()).ok_or_else(|| {
        Failure::new(Kind::Invalid, "a secret is written as `NAME=REF`").hint(
            "REF is `env:VARIABLE`, `file:PATH`, or a name of `datahall secrets`; a value itself does not belong on a command line",
        )
    })?;
    Ok((name.to_owned(), SecretSource::Kept(reference.to_owned())))
}
