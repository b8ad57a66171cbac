//! Requests as bytes: prompts of a given length, whose beginnings are shared as a trace says.

use std::io::Write as _;

use crate::{TOKEN_BYTES, mix};

/// Tokens of one block of a trace.
pub const BLOCK_TOKENS: usize = 512;

/// One request of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// When it comes, in nanoseconds from the start.
    pub at: u64,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the answer.
    pub answer: u32,
    /// Numbers of the blocks that the prompt consists of, if the trace says; else it shares nothing.
    pub blocks: Vec<u64>,
}

/// Where and how requests are sent.
#[derive(Debug, Clone)]
pub struct Dress {
    /// `host:port`, for the `host` field.
    pub host: String,
    /// Such as `/v1/chat/completions`.
    pub path: String,
    /// The model asked for.
    pub model: String,
    /// A bearer token.
    pub key: Option<dh_core::Secret<String>>,
    /// Whether answers are streamed.
    pub stream: bool,
}

impl Dress {
    /// The request's bytes, head and body, number `number` of all.
    pub fn request(&self, shape: &Shape, number: u64) -> Vec<u8> {
        let bytes = usize::try_from(shape.prompt).unwrap_or(0) * TOKEN_BYTES;
        let mut body = Vec::with_capacity(bytes + 256);
        let _infallible = write!(body, "{{\"model\":\"{}\",\"max_tokens\":{}", self.model, shape.answer);
        if self.stream {
            body.extend_from_slice(b",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
        }
        body.extend_from_slice(b",\"messages\":[{\"role\":\"user\",\"content\":\"");
        let end = body.len() + bytes;
        for block in &shape.blocks {
            text(&mut body, *block, BLOCK_TOKENS * TOKEN_BYTES);
        }
        body.truncate(end);
        let missing = end - body.len();
        text(&mut body, mix(number, u64::MAX), missing);
        body.extend_from_slice(b"\"}]}");
        let mut out = Vec::with_capacity(body.len() + 256);
        let _infallible =
            write!(out, "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n", self.path, self.host);
        if let Some(key) = &self.key {
            let _infallible = write!(out, "authorization: Bearer {}\r\n", key.expose());
        }
        let _infallible = write!(out, "content-length: {}\r\n\r\n", body.len());
        out.extend_from_slice(&body);
        out
    }
}

/// `bytes` letters that follow from `seed`.
fn text(out: &mut Vec<u8>, seed: u64, bytes: usize) {
    let end = out.len() + bytes;
    let mut word = 0;
    while out.len() < end {
        word += 1;
        let drawn = mix(seed, word).to_le_bytes();
        out.extend(drawn.iter().map(|byte| b'a' + byte % 26).chain([b' ']));
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_their_length_and_share_what_the_trace_says() {
        let dress =
            Dress { host: "h".into(), path: "/v1/chat/completions".into(), model: "m".into(), key: None, stream: true };
        let of = |blocks: &[u64], number| {
            let shape = Shape { at: 0, prompt: 1_200, answer: 5, blocks: blocks.to_vec() };
            String::from_utf8(dress.request(&shape, number)).unwrap()
        };
        let (one, other) = (of(&[1, 2, 3], 1), of(&[1, 2, 4], 2));
        let content = |text: &str| text.split("\"content\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        assert_eq!((content(&one).len(), content(&other).len()), (4_800, 4_800));
        assert_eq!(content(&one)[..4_096], content(&other)[..4_096]);
        assert_ne!(content(&one)[4_096..4_200], content(&other)[4_096..4_200]);
        assert_ne!(content(&of(&[], 1)), content(&of(&[], 2)));
        let length: usize = one.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        assert_eq!(one.split_once("\r\n\r\n").unwrap().1.len(), length);
    }
}
