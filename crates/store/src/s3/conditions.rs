//! Conditional requests: what must hold of the object that is there.
//!
//! Source: RFC 9110, section 13; Amazon S3 User Guide, "Conditional requests".

use super::call::Call;
use super::fault::Fault;
use super::reply::parse_time;
use crate::{Condition, ObjectInfo};

/// An entity tag without quotes; `None` for the star.
fn tag(text: &str) -> Option<&str> {
    let text = text.trim();
    if text == "*" {
        return None;
    }
    let text = text.strip_prefix("W/").unwrap_or(text);
    Some(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text))
}

/// Whether one of a list of entity tags is this one.
fn any(list: &str, etag: &str) -> bool {
    list.split(',').any(|one| tag(one).is_none_or(|one| one == etag))
}

/// The names of the four headers.
struct Names {
    matching: &'static str,
    other: &'static str,
    modified: &'static str,
    unmodified: &'static str,
}

const OF_READ: Names = Names {
    matching: "if-match",
    other: "if-none-match",
    modified: "if-modified-since",
    unmodified: "if-unmodified-since",
};

const OF_COPY: Names = Names {
    matching: "x-amz-copy-source-if-match",
    other: "x-amz-copy-source-if-none-match",
    modified: "x-amz-copy-source-if-modified-since",
    unmodified: "x-amz-copy-source-if-unmodified-since",
};

enum Outcome {
    Holds,
    Failed(&'static str),
    Unchanged,
}

fn outcome(call: &Call, info: &ObjectInfo, names: &Names) -> Outcome {
    let seconds = |name: &str| call.header(name).and_then(parse_time).map(|ms| ms / 1_000);
    let modified = info.modified_ms / 1_000;
    if let Some(list) = call.header(names.matching) {
        if !any(list, &info.etag) {
            return Outcome::Failed("If-Match");
        }
    } else if seconds(names.unmodified).is_some_and(|since| modified > since) {
        return Outcome::Failed("If-Unmodified-Since");
    }
    let unchanged = match call.header(names.other) {
        Some(list) => any(list, &info.etag),
        None => seconds(names.modified).is_some_and(|since| modified <= since),
    };
    if unchanged { Outcome::Unchanged } else { Outcome::Holds }
}

fn failed(condition: &'static str) -> Fault {
    Fault::new("PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
        .with("Condition", condition)
}

/// Whether an object may be read.
pub(super) fn of_read(call: &Call, info: &ObjectInfo) -> Result<(), Fault> {
    match outcome(call, info, &OF_READ) {
        Outcome::Holds => Ok(()),
        Outcome::Failed(condition) => Err(failed(condition)),
        Outcome::Unchanged => Err(Fault::new("NotModified", "Not Modified")
            .header("etag", format!("\"{}\"", info.etag))
            .header("last-modified", super::reply::http_date(info.modified_ms))),
    }
}

/// Whether the source of a copy is the one that is meant.
pub(super) fn of_copy(call: &Call, info: &ObjectInfo) -> Result<(), Fault> {
    match outcome(call, info, &OF_COPY) {
        Outcome::Holds => Ok(()),
        Outcome::Failed(condition) => Err(failed(condition)),
        Outcome::Unchanged => Err(failed("x-amz-copy-source-If-None-Match")),
    }
}

/// The condition of a write, checked where it is committed.
pub(super) fn of_write(call: &Call) -> Result<Condition, Fault> {
    let mut all = Vec::new();
    if let Some(text) = call.header("if-match") {
        all.push(tag(text).map_or(Condition::IfPresent, |tag| Condition::IfMatch(tag.to_owned())));
    }
    if let Some(text) = call.header("if-none-match") {
        all.push(tag(text).map_or(Condition::IfAbsent, |tag| Condition::IfNoneMatch(tag.to_owned())));
    }
    if let Some(text) = call.header("x-amz-if-match-last-modified-time") {
        let wrong = || Fault::argument("x-amz-if-match-last-modified-time is no time");
        all.push(Condition::IfModifiedAt(parse_time(text).ok_or_else(wrong)?));
    }
    if let Some(text) = call.header("x-amz-if-match-size") {
        all.push(Condition::IfSize(
            text.parse().map_err(|_error| Fault::argument("x-amz-if-match-size is no number"))?,
        ));
    }
    Ok(together(all))
}

/// One condition of many.
pub(super) fn together(mut all: Vec<Condition>) -> Condition {
    match (all.pop(), all.is_empty()) {
        (None, _) => Condition::Always,
        (Some(one), true) => one,
        (Some(last), false) => {
            all.push(last);
            Condition::All(all)
        }
    }
}

/// The tag of a document's `ETag` element.
pub(super) fn plain_tag(text: &str) -> &str {
    tag(text).unwrap_or("*")
}
