//! What the gateway reads of a request body: `model` and `stream`, and nothing else.
//!
//! No tree is built and unknown fields are skipped where they lie, so numbers of any size and fields of any future version
//! pass untouched. The whole text must be JSON all the same: an engine never sees what a parser here refused. One pass for
//! the fields, one for the depth; both skip string contents with vector instructions.

use std::borrow::Cow;

use serde::Deserialize;

use crate::Error;
use crate::config::{JSON_DEPTH_MAX, MODEL_NAME_BYTES_MAX};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peek<'a> {
    pub(crate) model: Cow<'a, str>,
    pub(crate) stream: bool,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<Name<'a>>,
    #[serde(default)]
    stream: Option<bool>,
}

/// Borrows from the body unless the name contains escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads `model` and `stream` of a JSON object.
pub(crate) fn peek(body: &[u8]) -> Result<Peek<'_>, Error> {
    // A derived reader would take an array for the fields in order.
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {}
        Some(_) => return Err(Error::NotAnObject),
        None => return Err(Error::EmptyBody),
    }
    let fields: Fields<'_> = serde_json::from_slice(body).map_err(|error| {
        // Only the place and the reason; the reason can quote a long value, so it is cut.
        let reason: String = error.to_string().chars().take(200).collect();
        if error.is_syntax() || error.is_eof() { Error::NotJson(reason) } else { Error::BadField(reason) }
    })?;
    let Name(model) = fields.model.ok_or(Error::NoModel)?;
    if model.is_empty() || model.len() > MODEL_NAME_BYTES_MAX {
        return Err(Error::BadField(format!("`model` must have 1 to {MODEL_NAME_BYTES_MAX} bytes")));
    }
    if deeper_than(body, JSON_DEPTH_MAX) {
        return Err(Error::TooDeep(JSON_DEPTH_MAX));
    }
    Ok(Peek { model, stream: fields.stream.unwrap_or(false) })
}

/// Whether brackets of the JSON text `body` nest deeper than `max`.
fn deeper_than(body: &[u8], max: usize) -> bool {
    let mut depth = 0_usize;
    let mut rest = body.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut rest),
            _ => {}
        }
    }
    false
}

/// Moves `rest` behind the closing quote.
fn skip_string(rest: &mut std::slice::Iter<'_, u8>) {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest.as_slice()) {
        if rest.nth(at) == Some(&b'"') {
            return;
        }
        // The byte after a backslash is never the closing quote.
        rest.next();
    }
    *rest = [].iter();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> String {
        match peek(body.as_bytes()) {
            Ok(Peek { model, stream }) => format!("{model} {stream}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn model_and_stream_are_found_and_the_rest_is_skipped() {
        for (body, found) in [
            (r#"{"model":"m"}"#, "m false"),
            (r#" { "messages":[{"content":"\"model\": {{{["}], "stream" : true, "model" : "a/b" } "#, "a/b true"),
            (r#"{"model":"m","stream":null,"x":1e999999,"y":123456789012345678901234567890}"#, "m false"),
            (r#"{"mod\u0065l":"caf\u00e9"}"#, "caf\u{e9} false"),
            (r#"{"model":"m","a":{"model":"n","stream":true}}"#, "m false"),
            (r#"{"model":"m","a":"\\","b":"\\\"","c":[]}"#, "m false"),
        ] {
            assert_eq!(check(body), found, "{body}");
        }
    }

    #[test]
    fn a_plain_name_is_borrowed() {
        assert!(matches!(peek(br#"{"model":"m"}"#).unwrap().model, Cow::Borrowed("m")));
    }

    #[test]
    fn bad_bodies_say_what_and_where() {
        for (body, says) in [
            ("", "empty"),
            ("  \n", "empty"),
            ("[\"m\", true]", "must be a JSON object"),
            ("\"m\"", "must be a JSON object"),
            ("{", "line 1 column 1"),
            ("{\n \"model\": \"m\",\n oops}", "line 3 column 2"),
            (r#"{"model":"m"} x"#, "trailing characters at line 1 column 15"),
            (r#"{"model":"m","model":"n"}"#, "duplicate field `model` at line 1 column 20"),
            (r#"{"model":"m","mod\u0065l":"n"}"#, "duplicate field `model`"),
            (r#"{"model":"m","stream":true,"stream":false}"#, "duplicate field `stream`"),
            (r#"{"stream":true}"#, "`model`"),
            (r#"{"model":null}"#, "`model`"),
            (r#"{"model":""}"#, "1 to 256 bytes"),
            (r#"{"model":7}"#, "invalid type: integer `7`"),
            (r#"{"model":"m","stream":"yes"}"#, "expected a boolean"),
            (r#"{"model":"m","x":NaN}"#, "line 1 column"),
            ("\u{feff}{}", "must be a JSON object"),
        ] {
            let said = check(body);
            assert!(said.contains(says), "{body}: {said}");
        }
        assert!(check(&format!(r#"{{"model":"{}"}}"#, "x".repeat(257))).contains("1 to 256"));
        assert!(check(&format!(r#"{{"model":["{}"]}}"#, "x".repeat(9_000))).len() < 500);
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_do_not_count() {
        let nested = |depth: usize| format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(127)), "m false");
        assert!(check(&nested(128)).contains("128"));
        assert!(check(&nested(1_000_000)).contains("128"));
        assert!(check(&format!(r#"{{"model":"m","x":{}"#, "[{".repeat(500_000))).contains("column"));
        let text = "[{".repeat(1_000);
        assert_eq!(check(&format!(r#"{{"model":"m","x":"{text}","y":"\"{text}"}}"#)), "m false");
        let flat = "[],".repeat(1_000);
        assert_eq!(check(&format!(r#"{{"model":"m","x":[{flat}0]}}"#)), "m false");
    }
}
