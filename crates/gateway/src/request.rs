//! What the gateway reads of a request body: `model` and `stream`, where the prompt lies, and how long the answer may be.
//!
//! No tree is built and unknown fields are skipped where they lie, so numbers of any size and fields of any future version
//! pass untouched. The whole text must be JSON all the same: an engine never sees what a parser here refused. One pass of
//! [`crate::scan`] does it all for nearly every body; what it does not understand is read by a whole parser and then walked.

use std::borrow::Cow;

use serde::Deserialize;

use crate::Error;
use crate::config::{JSON_DEPTH_MAX, MODEL_NAME_BYTES_MAX};
use crate::scan::scan;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peek<'a> {
    pub(crate) model: Cow<'a, str>,
    pub(crate) stream: bool,
    pub(crate) prompt: Prompt<'a>,
}

/// What of a request decides how much work it is, and where it is done best.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prompt<'a> {
    /// The JSON of all messages, or of the text: `messages`, `prompt`, `input` or `documents`.
    pub(crate) text: &'a [u8],
    /// What stands before it in the model's eyes: `tools`, and `system` or `instructions`.
    pub(crate) tools: &'a [u8],
    pub(crate) system: &'a [u8],
    /// Tokens of one answer, at most, if the caller says.
    pub(crate) answer_max: Option<u64>,
    /// Answers that are asked for.
    pub(crate) answers: Option<u64>,
    /// What the caller calls its session: `prompt_cache_key`, `session_id` or `user`.
    pub(crate) session: &'a [u8],
    /// The JSON of `service_tier`.
    pub(crate) tier: &'a [u8],
    /// Whether the answer is there already; no body says so.
    pub(crate) answered: bool,
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

/// Reads what decides about a request from its body.
pub(crate) fn peek(body: &[u8]) -> Result<Peek<'_>, Error> {
    match scan(body) {
        Some(peek) if (1..=MODEL_NAME_BYTES_MAX).contains(&peek.model.len()) => Ok(peek),
        Some(_) | None => parse(body),
    }
}

/// The same by a whole parser, which says what is wrong.
fn parse(body: &[u8]) -> Result<Peek<'_>, Error> {
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
    let prompt = walk(body, JSON_DEPTH_MAX).ok_or(Error::TooDeep(JSON_DEPTH_MAX))?;
    Ok(Peek { model, stream: fields.stream.unwrap_or(false), prompt })
}

/// Whether what the scan accepts is what the parser reads.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn readers_agree(body: &[u8]) -> bool {
    match scan(body) {
        Some(peek) if (1..=MODEL_NAME_BYTES_MAX).contains(&peek.model.len()) => {
            parse(body).is_ok_and(|parsed| parsed == peek)
        }
        Some(_) | None => true,
    }
}

/// What the object's own fields say about the work; nothing if brackets of the JSON text `body` nest deeper than `max`.
fn walk(body: &[u8], max: usize) -> Option<Prompt<'_>> {
    let mut found = Prompt::default();
    let mut depth = 0_usize;
    let mut rest = body.iter();
    // The name of the field whose value is read, and where that value begins.
    let mut key: &[u8] = &[];
    let mut string: &[u8] = &[];
    let mut value_from = 0;
    while let Some(byte) = rest.next() {
        let at = body.len() - rest.len() - 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return None;
                }
            }
            b'}' | b']' => {
                if depth == 1 {
                    found.take(key, body.get(value_from..at).unwrap_or_default());
                }
                depth = depth.saturating_sub(1);
            }
            b'"' => {
                skip_string(&mut rest);
                if depth == 1 {
                    string = body.get(at + 1..(body.len() - rest.len()).saturating_sub(1)).unwrap_or_default();
                }
            }
            b':' if depth == 1 => (key, value_from) = (string, at + 1),
            b',' if depth == 1 => {
                found.take(key, body.get(value_from..at).unwrap_or_default());
                key = &[];
            }
            _ => {}
        }
    }
    Some(found)
}

impl<'a> Prompt<'a> {
    pub(crate) fn take(&mut self, key: &[u8], value: &'a [u8]) {
        let value = value.trim_ascii();
        let number = || std::str::from_utf8(value).ok()?.parse().ok();
        match key {
            b"messages" => self.text = value,
            b"prompt" | b"input" | b"documents" if self.text.is_empty() => self.text = value,
            b"tools" => self.tools = value,
            b"system" | b"instructions" => self.system = value,
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
                // If both are there the larger one bounds the answer.
                self.answer_max = self.answer_max.max(number());
            }
            b"n" => self.answers = number(),
            b"prompt_cache_key" | b"session_id" => self.session = value,
            b"service_tier" => self.tier = value,
            b"user" if self.session.is_empty() => self.session = value,
            _ => {}
        }
    }

    /// Bytes that the model reads.
    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.text.len() + self.tools.len() + self.system.len()).unwrap_or(u64::MAX)
    }
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
            Ok(Peek { model, stream, .. }) => format!("{model} {stream}"),
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
    fn the_work_is_found_among_the_objects_own_fields() {
        let body = br#"{"model":"m","x":{"messages":1,"n":9},"messages" : [{"content":"a,b]}\\\"{"}], "max_tokens":7,
            "max_completion_tokens": 9 ,"n":2,"tools":[1],"user":"u","prompt_cache_key":"k","stream":false}"#;
        let prompt = peek(body).unwrap().prompt;
        assert_eq!(prompt.text, br#"[{"content":"a,b]}\\\"{"}]"#);
        assert_eq!((prompt.tools, prompt.session), (&b"[1]"[..], &br#""k""#[..]));
        assert_eq!((prompt.answer_max, prompt.answers), (Some(9), Some(2)));
        let last = peek(br#"{"model":"m","input":"hello"}"#).unwrap().prompt;
        assert_eq!((last.text, last.bytes(), last.answer_max), (&br#""hello""#[..], 7, None));
        let odd = peek(br#"{"model":"m","n":-1,"max_tokens":1e3,"messages":null}"#).unwrap().prompt;
        assert_eq!((odd.text, odd.answers, odd.answer_max), (&b"null"[..], None, None));
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

    /// Bodies whose every mutation both readers are shown.
    const SEEDS: [&str; 5] = [
        r#"{"model":"m","messages":[{"role":"user","content":"a\\\"b\u00e9"}],"max_tokens":7,"stream":true}"#,
        r#" { "n" : 2 , "model" : "a/b" , "x" : [ -0.5e+3 , 1E9, 0, [], {}, null, false ] , "stream" : null } "#,
        r#"{"tools":[{"a":1}],"system":"s","input":"hello","user":"u","session_id":"k","model":"m"}"#,
        r#"{"mod\u0065l":"m","stream":false}"#,
        r#"{"model":"m","prompt":"x","prompt":"y","a":{"model":1,"stream":2}}"#,
    ];

    /// What the scan accepts the parser accepts, with the same fields.
    fn agree(body: &[u8]) -> bool {
        let Some(scanned) = scan(body).filter(|peek| (1..=MODEL_NAME_BYTES_MAX).contains(&peek.model.len())) else {
            return false;
        };
        let parsed = parse(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)));
        assert_eq!(scanned, parsed, "{}", String::from_utf8_lossy(body));
        true
    }

    #[test]
    fn the_scan_understands_plain_bodies_and_never_contradicts_the_parser() {
        let understood = SEEDS.map(|seed| agree(seed.as_bytes()));
        assert_eq!(understood, [true, true, true, false, true]);
        let bytes: Vec<u8> =
            (0..=u8::MAX).filter(|byte| !byte.is_ascii_alphanumeric() || b"0189aeEntu".contains(byte)).collect();
        let mut accepted = 0;
        for seed in SEEDS {
            let seed = seed.as_bytes();
            for at in 0..=seed.len() {
                agree(&seed[..at]);
                for byte in &bytes {
                    let inserted = [&seed[..at], &[*byte], &seed[at..]].concat();
                    accepted += usize::from(agree(&inserted));
                    if at < seed.len() {
                        let replaced = [&seed[..at], &[*byte], &seed[at + 1..]].concat();
                        accepted += usize::from(agree(&replaced));
                    }
                }
                if at < seed.len() {
                    agree(&[&seed[..at], &seed[at + 1..]].concat());
                }
            }
        }
        assert!(accepted > 10_000, "{accepted}");
    }
}
