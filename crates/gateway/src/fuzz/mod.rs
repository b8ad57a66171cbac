//! Bodies of fuzz targets: each takes any bytes and fails if a promise about what comes from outside is broken.
//!
//! Invariant: no input panics, and what is read does not depend on how the bytes were cut. `fuzz/` beside the workspace runs
//! them under libFuzzer; the test in `replay` runs its seeds and random changes of them in every gate
//! (`DH_FUZZ_CASES=1000000 cargo test --release -p dh-gateway --lib fuzz` for long). For tests and the feature `fuzz` alone.

#[cfg(test)]
mod replay;

use crate::front::parse_head;
use crate::kv;
use crate::link::decode_chunks;
use crate::request;
use crate::sse::SseScanner;
use crate::translate::{self, Dialect};
use crate::usage::UsageFinder;

/// A target: its name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("bodies", bodies),
    ("heads", heads),
    ("answers", answers),
    ("events", events),
    ("translations", translations),
    ("batches", batches),
];

/// Runs the target of this name.
/// # Panics
/// If there is none, or a promise is broken.
#[cfg(feature = "fuzz")]
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _body)| *known == name);
    assert!(target.is_some(), "`{name}` is no target");
    if let Some((_name, body)) = target {
        body(bytes);
    }
}

/// What is read of an engine's events is never more than came, whatever its counts claim.
fn batches(bytes: &[u8]) {
    let Some(numbers) = kv::numbers_of(bytes) else { return };
    assert!(numbers <= bytes.len(), "{numbers} numbers in {} bytes", bytes.len());
}

/// What the scan of a request body accepts the whole parser accepts, with the same fields.
fn bodies(bytes: &[u8]) {
    assert!(request::readers_agree(bytes), "the scan says what the parser does not");
}

/// A plain head is plain whatever stands behind it, and none of its beginnings is.
fn heads(bytes: &[u8]) {
    let Some(length) = parse_head(bytes) else { return };
    assert!(bytes.get(..length).and_then(parse_head) == Some(length), "what is behind the head changes it");
    for end in 0..length {
        assert!(bytes.get(..end).and_then(parse_head).is_none(), "a head is plain before it is whole");
    }
}

/// Chunks are the same whatever the split, and never more than came.
fn answers(bytes: &[u8]) {
    let whole = decode_chunks(&[bytes]);
    if let Some((content, used, _)) = &whole {
        assert!(content.len() <= bytes.len() && *used <= bytes.len());
    }
    for cut in cuts(bytes) {
        let (first, second) = bytes.split_at_checked(cut).unwrap_or_default();
        assert!(decode_chunks(&[first, second]) == whole, "a cut at {cut} changes the content");
    }
    let singles: Vec<&[u8]> = bytes.chunks(1).collect();
    assert!(decode_chunks(&singles) == whole, "the content depends on the pieces");
}

/// Events and usage are the same whatever the split.
fn events(bytes: &[u8]) {
    let see = |pieces: &[&[u8]]| {
        let (mut events, mut usage) = (SseScanner::default(), UsageFinder::new());
        let mut count = 0;
        for piece in pieces {
            count += events.push(piece);
            usage.push(piece);
        }
        (count, events.is_done(), events.at_boundary(), usage.found())
    };
    let whole = see(&[bytes]);
    for cut in cuts(bytes) {
        let (first, second) = bytes.split_at_checked(cut).unwrap_or_default();
        assert!(see(&[first, second]) == whole, "a cut at {cut} changes what is seen");
    }
    assert!(see(&bytes.chunks(1).collect::<Vec<_>>()) == whole, "what is seen depends on the pieces");
}

/// A request, a zero byte, and an engine's stream: in both dialects the events are the same whatever the split of the stream.
fn translations(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (request, stream) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for dialect in [Dialect::Messages, Dialect::Responses] {
        let Some(whole) = translate::translated(dialect, request, &[stream]) else { continue };
        for cut in cuts(stream) {
            let (first, second) = stream.split_at_checked(cut).unwrap_or_default();
            let cut_there = translate::translated(dialect, request, &[first, second]);
            assert!(cut_there.as_ref() == Some(&whole), "a cut at {cut} changes the events");
        }
    }
}

/// Some dozens of places in `bytes`.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (0..=bytes.len()).step_by((bytes.len() / 48).max(1))
}
