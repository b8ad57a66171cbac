//! Finds the `usage` object in the bytes of an answer as they pass, JSON or server-sent events alike.
//!
//! Works for any split of the bytes. In valid JSON the text `"usage"` followed by a colon and a brace can only be a key with
//! an object: inside a string its quotes would be escaped. Memory: at most [`OBJECT_BYTES_MAX`]. Cost: one vectorised search.

use std::sync::LazyLock;

use memchr::memmem;
use serde::Deserialize;

const KEY: &[u8] = b"\"usage\"";
/// Building one costs as much as searching a kilobyte.
static FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(KEY));
/// Engines send below 600 bytes; a longer object is skipped.
const OBJECT_BYTES_MAX: usize = 4_096;
const USUAL_BYTES: usize = 256;
/// Larger counts are nonsense and would spoil the sums.
const TOKENS_MAX: u64 = 1 << 40;

/// Tokens as the engine counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Dialects")]
#[expect(clippy::struct_field_names, reason = "the interface's own names")]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
    /// Tokens of the prompt that the engine had cached already.
    pub(crate) cached_tokens: Option<u64>,
}

/// The object in all its dialects: chat and completions; responses; messages of Anthropic.
#[derive(Deserialize)]
struct Dialects {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

impl From<Dialects> for Usage {
    fn from(said: Dialects) -> Self {
        let details =
            said.prompt_tokens_details.or(said.input_tokens_details).and_then(|details| details.cached_tokens);
        Self {
            // Anthropic counts cached tokens apart.
            prompt_tokens: said
                .prompt_tokens
                .or_else(|| Some(said.input_tokens?.saturating_add(said.cache_read_input_tokens.unwrap_or(0)))),
            completion_tokens: said.completion_tokens.or(said.output_tokens),
            cached_tokens: details.or(said.cache_read_input_tokens),
        }
    }
}

#[derive(Debug)]
enum State {
    /// So many bytes of [`KEY`] have matched.
    Key(usize),
    /// Blanks may come, then a colon.
    Colon,
    /// Blanks may come, then a brace.
    Brace,
    /// Inside the object.
    Object { depth: u32, text: Text },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    Escape,
}

/// The search; the last object found counts, since streams repeat growing ones.
#[derive(Debug)]
pub(crate) struct UsageFinder {
    state: State,
    object: Vec<u8>,
    found: Option<Usage>,
}

impl UsageFinder {
    pub(crate) fn new() -> Self {
        Self { state: State::Key(0), object: Vec::new(), found: None }
    }

    pub(crate) fn found(&self) -> Option<Usage> {
        self.found
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if matches!(self.state, State::Key(0)) {
                let Some(at) = FINDER.find(bytes) else {
                    self.state = State::Key(matched_at_end(bytes));
                    return;
                };
                self.state = State::Colon;
                bytes = bytes.get(at + KEY.len()..).unwrap_or_default();
            } else if matches!(self.state, State::Object { .. }) {
                let used = self.object(bytes);
                bytes = bytes.get(used..).unwrap_or_default();
            } else {
                self.step(byte);
                bytes = rest;
            }
        }
    }

    fn step(&mut self, byte: u8) {
        let blank = byte.is_ascii_whitespace();
        match &mut self.state {
            State::Key(matched) => {
                if KEY.get(*matched) == Some(&byte) {
                    *matched += 1;
                    if *matched == KEY.len() {
                        self.state = State::Colon;
                    }
                } else {
                    *matched = usize::from(byte == b'"');
                }
            }
            State::Colon if byte == b':' => self.state = State::Brace,
            State::Brace if byte == b'{' => {
                self.object.clear();
                self.object.reserve(USUAL_BYTES);
                self.object.push(byte);
                self.state = State::Object { depth: 1, text: Text::Outside };
            }
            State::Colon | State::Brace if blank => {}
            // After `"usage"` its last quote may open the next string, as in `"usage"usage"`; JSON never has that.
            State::Colon | State::Brace => self.state = State::Key(usize::from(byte == b'"')),
            State::Object { .. } => {}
        }
    }

    /// Takes what of `bytes` belongs to the object; gives how many that are.
    fn object(&mut self, bytes: &[u8]) -> usize {
        let State::Object { mut depth, mut text } = self.state else { return 0 };
        let room = OBJECT_BYTES_MAX.saturating_sub(self.object.len());
        let mut used = 0;
        for byte in bytes.iter().take(room) {
            used += 1;
            text = match (text, byte) {
                (Text::Outside, b'"') | (Text::Escape, _) => Text::Inside,
                (Text::Inside, b'"') => Text::Outside,
                (Text::Inside, b'\\') => Text::Escape,
                (Text::Outside, b'{') => {
                    depth += 1;
                    Text::Outside
                }
                (Text::Outside, b'}') => {
                    depth -= 1;
                    Text::Outside
                }
                (same, _) => same,
            };
            if depth == 0 {
                break;
            }
        }
        self.object.extend_from_slice(bytes.get(..used).unwrap_or_default());
        self.state = if depth == 0 {
            self.read_object();
            State::Key(0)
        } else if self.object.len() >= OBJECT_BYTES_MAX {
            State::Key(0)
        } else {
            State::Object { depth, text }
        };
        used
    }

    fn read_object(&mut self) {
        if let Ok(usage) = serde_json::from_slice::<Usage>(&self.object) {
            let sane = |tokens: Option<u64>| tokens.is_none_or(|count| count <= TOKENS_MAX);
            let any = usage.prompt_tokens.or(usage.completion_tokens).is_some();
            if any && sane(usage.prompt_tokens) && sane(usage.completion_tokens) && sane(usage.cached_tokens) {
                // Anthropic's streams give the prompt at the start and the answer at the end.
                let before = self.found.unwrap_or_default();
                self.found = Some(Usage {
                    prompt_tokens: usage.prompt_tokens.or(before.prompt_tokens),
                    completion_tokens: usage.completion_tokens.or(before.completion_tokens),
                    cached_tokens: usage.cached_tokens.or(before.cached_tokens),
                });
            }
        }
    }
}

/// How many bytes of [`KEY`] the end of `bytes` matches.
fn matched_at_end(bytes: &[u8]) -> usize {
    (1..KEY.len()).rev().find(|&count| KEY.get(..count).is_some_and(|prefix| bytes.ends_with(prefix))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORPUS: &[(&str, Option<(u64, u64)>)] = &[
        (r#"{"id":"x","usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}}"#, Some((12, 34))),
        ("{\n  \"usage\" : \n {\n \"completion_tokens\": 2, \"prompt_tokens\": 1 }\n}", Some((1, 2))),
        (r#"data: {"usage":null}"#, None),
        (r#"data: {"usage":null}  data: {"usage":{"prompt_tokens":1,"completion_tokens":2}}"#, Some((1, 2))),
        (
            r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}} {"usage":{"prompt_tokens":1,"completion_tokens":9}}"#,
            Some((1, 9)),
        ),
        (
            r#"{"usage":{"prompt_tokens_details":{"cached_tokens":5,"s":"}\"}"},"prompt_tokens":7,"completion_tokens":8}}"#,
            Some((7, 8)),
        ),
        (r#"{"content":"\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}"}"#, None),
        (r#"{"content":"usage","x":{"prompt_tokens":1}}"#, None),
        (r#"["usage",{"prompt_tokens":1}]"#, None),
        (r#"{"usage":{"prompt_tokens":-1}}"#, None),
        (r#"{"usage":{"prompt_tokens":99999999999999999}}"#, None),
        (r#"{"usage":{"other":1}}"#, None),
        (r#"""usage":{"prompt_tokens":3,"completion_tokens":4}"#, Some((3, 4))),
        (r#"{"usag":1,"usage_x":{},"usage":{"prompt_tokens":3,"completion_tokens":4}}"#, Some((3, 4))),
    ];

    fn expected(pair: Option<(u64, u64)>) -> Option<Usage> {
        pair.map(|(prompt, completion)| Usage {
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            cached_tokens: None,
        })
    }

    fn find(pieces: &[&[u8]]) -> Option<Usage> {
        let mut finder = UsageFinder::new();
        for piece in pieces {
            finder.push(piece);
        }
        finder.found()
    }

    /// What the corpus tells: tokens, without those cached.
    fn counted(pieces: &[&[u8]]) -> Option<Usage> {
        find(pieces).map(|usage| Usage { cached_tokens: None, ..usage })
    }

    #[test]
    fn every_dialect_tells_what_was_cached() {
        let all = |text: &str| {
            let Usage { prompt_tokens, completion_tokens, cached_tokens } = find(&[text.as_bytes()]).unwrap();
            (prompt_tokens.unwrap(), completion_tokens.unwrap(), cached_tokens.unwrap())
        };
        let chat = r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let responses = r#"{"usage":{"input_tokens":9,"output_tokens":2,"input_tokens_details":{"cached_tokens":4}}}"#;
        let messages = r#"{"usage":{"input_tokens":5,"cache_read_input_tokens":4,"output_tokens":1}} {"usage":{"output_tokens":2}}"#;
        for text in [chat, responses, messages] {
            assert_eq!(all(text), (9, 2, 4), "{text}");
        }
        assert_eq!(
            find(&[br#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":null}}"#]).unwrap().cached_tokens,
            None
        );
    }

    #[test]
    fn usage_is_found_whatever_the_split() {
        for (text, pair) in CORPUS {
            let bytes = text.as_bytes();
            let expected = expected(*pair);
            assert_eq!(counted(&[bytes]), expected, "{text}");
            for first in 0..=bytes.len() {
                assert_eq!(counted(&[&bytes[..first], &bytes[first..]]), expected, "{text} cut at {first}");
            }
            let singles: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(counted(&singles), expected, "{text} byte by byte");
        }
    }

    #[test]
    fn an_object_without_end_takes_bounded_memory_and_the_next_one_counts() {
        let mut finder = UsageFinder::new();
        finder.push(br#"{"usage":{"x":"#);
        for _ in 0..1_000 {
            finder.push(&[b'1'; 1_000]);
        }
        assert!(finder.object.capacity() <= 2 * OBJECT_BYTES_MAX);
        finder.push(br#"}} {"usage":{"prompt_tokens":3,"completion_tokens":4}}"#);
        assert_eq!(finder.found(), expected(Some((3, 4))));
    }
}
