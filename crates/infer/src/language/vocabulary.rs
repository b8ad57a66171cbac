//! Text to tokens and tokens to bytes, from the vocabulary inside a GGUF file.
//!
//! Byte-level vocabularies only (`tokenizer.ggml.model = "gpt2"`): every token is a sequence of bytes, so that any output
//! can be decoded piece by piece. Cutting text into tokens is the `tokenizers` library's; here its parts are chosen.

use std::collections::{HashMap, HashSet};

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};

use super::Error;
use super::gguf::Head;

/// Words whose tokens are remembered. A word is some ten bytes.
const WORD_CACHE: usize = 4_096;

/// How llama 3 cuts text into words. Source: the model's published `tokenizer.json`.
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Control tokens that end an answer, by their customary names, beside those that the metadata names.
const END_NAMES: [&str; 6] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>"];

/// What a token is. Source: `enum llama_token_type` in llama.cpp's `llama.h`.
const KIND_UNKNOWN: i64 = 2;
const KIND_CONTROL: i64 = 3;
const KIND_USER_DEFINED: i64 = 4;

/// A vocabulary and how to use it.
pub(super) struct Vocabulary {
    tokenizer: Tokenizer,
    /// The bytes of all tokens behind each other, and where each token's end. Control tokens have none.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    token_bytes_max: usize,
    end_tokens: HashSet<u32>,
    first: Option<u32>,
    first_text: String,
    end_text: String,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary")
            .field("size", &self.size())
            .field("end_tokens", &self.end_tokens)
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// Takes the vocabulary out of `head`.
    pub(super) fn from_head(head: &mut Head) -> Result<Self, Error> {
        match head.text("tokenizer.ggml.model") {
            Some("gpt2") => {}
            Some(other) => {
                return Err(Error::not_a_model(format!(
                    "its vocabulary is of the kind `{other}`; we read `gpt2`, the byte-level one"
                )));
            }
            None => return Err(Error::not_a_model("it has no vocabulary")),
        }
        let tokens = head
            .take_texts("tokenizer.ggml.tokens")
            .filter(|tokens| !tokens.is_empty())
            .ok_or_else(|| Error::not_a_model("`tokenizer.ggml.tokens` is missing"))?;
        let merges = head.take_texts("tokenizer.ggml.merges").unwrap_or_default();
        let kinds = head.take_integers("tokenizer.ggml.token_type").unwrap_or_default();
        let kind = |id: usize| kinds.get(id).copied().unwrap_or(1);

        let special = |key: &str| {
            head.integer(key)
                .map(|id| {
                    usize::try_from(id)
                        .ok()
                        .and_then(|id| tokens.get(id).cloned())
                        .zip(u32::try_from(id).ok())
                        .ok_or_else(|| Error::not_a_model(format!("`{key}` is {id}, beyond the vocabulary")))
                })
                .transpose()
        };
        let first = special("tokenizer.ggml.bos_token_id")?;
        let end = special("tokenizer.ggml.eos_token_id")?;
        let end_of_turn = special("tokenizer.ggml.eot_token_id")?;
        let mut end_tokens: HashSet<u32> = end.iter().chain(&end_of_turn).map(|(_, id)| *id).collect();
        for (id, token) in (0u32..).zip(&tokens) {
            if kinds.get(id as usize) == Some(&KIND_CONTROL) && END_NAMES.contains(&token.as_str()) {
                end_tokens.insert(id);
            }
        }

        let (bytes, ends, token_bytes_max) = token_bytes(&tokens, kind)?;
        let added: Vec<AddedToken> = tokens
            .iter()
            .enumerate()
            .filter(|(id, _)| matches!(kind(*id), KIND_UNKNOWN | KIND_CONTROL | KIND_USER_DEFINED))
            .map(|(id, token)| AddedToken::from(token.clone(), kind(id) != KIND_USER_DEFINED))
            .collect();
        let words = word_splitter(head.text("tokenizer.ggml.pre"))?;
        let adds_first = head.boolean("tokenizer.ggml.add_bos_token").unwrap_or(false);
        let mut tokenizer = Tokenizer::new(pair_model(tokens, &merges)?);
        tokenizer.with_pre_tokenizer(Some(words));
        tokenizer
            .add_special_tokens(added)
            .map_err(|error| Error::not_a_model(format!("its control tokens: {error}")))?;
        Ok(Self {
            tokenizer,
            bytes,
            ends,
            token_bytes_max,
            end_tokens,
            first_text: first.as_ref().map(|(text, _)| text.clone()).unwrap_or_default(),
            end_text: end.map(|(text, _)| text).unwrap_or_default(),
            first: first.filter(|_| adds_first).map(|(_, id)| id),
        })
    }

    /// Tokens of the vocabulary.
    pub(super) const fn size(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of text that one token covers at most.
    pub(super) const fn token_bytes_max(&self) -> usize {
        self.token_bytes_max
    }

    /// The text that begins a document, if the model has one. For chat templates.
    pub(super) fn first_text(&self) -> &str {
        &self.first_text
    }

    /// The text that ends an answer. For chat templates.
    pub(super) fn end_text(&self) -> &str {
        &self.end_text
    }

    /// Whether `token` ends an answer.
    pub(super) fn is_end(&self, token: u32) -> bool {
        self.end_tokens.contains(&token)
    }

    /// The bytes of `token`; none for control tokens.
    pub(super) fn bytes_of(&self, token: u32) -> &[u8] {
        let at = token as usize;
        let end = self.ends.get(at).copied().unwrap_or(0);
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Cuts `text` into tokens. Control tokens in the text count as such: chat templates write them.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| Error::Parameter { name: "prompt", why: format!("cannot be cut into tokens: {error}") })?;
        let mut tokens = Vec::with_capacity(encoding.len() + 1);
        tokens.extend(self.first.filter(|first| encoding.get_ids().first() != Some(first)));
        tokens.extend(encoding.get_ids());
        Ok(tokens)
    }
}

/// The byte-pair model. Its library copies pairs into a buffer as long as the longest token, so pairs without their own
/// token are refused first.
fn pair_model(tokens: Vec<String>, merges: &[String]) -> Result<BPE, Error> {
    let size = tokens.len();
    let vocabulary: Vocab = tokens.into_iter().zip(0u32..).collect();
    if vocabulary.len() != size {
        return Err(Error::not_a_model("two tokens of its vocabulary are the same"));
    }
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges {
        let pair = merge
            .split_once(' ')
            .filter(|(left, right)| vocabulary.contains_key(&format!("{left}{right}")))
            .ok_or_else(|| Error::not_a_model(format!("the merge `{merge}` makes no token of the vocabulary")))?;
        pairs.push((pair.0.to_owned(), pair.1.to_owned()));
    }
    BPE::builder()
        .vocab_and_merges(vocabulary, pairs)
        .cache_capacity(WORD_CACHE)
        .build()
        .map_err(|error| Error::not_a_model(format!("its merges: {error}")))
}

/// How text is cut into words before pairs are merged. The wrong way still works, a little worse, and nobody would notice:
/// so an unknown name is an error.
fn word_splitter(name: Option<&str>) -> Result<PreTokenizerWrapper, Error> {
    let gpt2 = ByteLevel::new(false, false, true);
    Ok(match name {
        None | Some("gpt2" | "gpt-2") => gpt2.into(),
        Some("smollm" | "starcoder" | "refact" | "command-r") => {
            Sequence::new(vec![Digits::new(true).into(), gpt2.into()]).into()
        }
        Some("llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe") => {
            let pattern = SplitPattern::Regex(LLAMA3_WORDS.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| Error::not_a_model(format!("its word pattern: {error}")))?;
            Sequence::new(vec![split.into(), ByteLevel::new(false, false, false).into()]).into()
        }
        Some(other) => {
            return Err(Error::not_a_model(format!(
                "its text is cut into words as `{other}`; we know `gpt-2`, `smollm` and `llama-bpe`"
            )));
        }
    })
}

/// The bytes of every token, one behind the other, with the ends and the longest.
fn token_bytes(tokens: &[String], kind: impl Fn(usize) -> i64) -> Result<(Vec<u8>, Vec<u32>, usize), Error> {
    let bytes_by_char: HashMap<char, u8> = byte_chars().zip(0u8..=255).collect();
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(tokens.len());
    let mut longest = 1;
    for (id, token) in tokens.iter().enumerate() {
        match kind(id) {
            KIND_UNKNOWN | KIND_CONTROL => {}
            KIND_USER_DEFINED => bytes.extend_from_slice(token.as_bytes()),
            _ => {
                for c in token.chars() {
                    bytes.push(*bytes_by_char.get(&c).ok_or_else(|| {
                        Error::not_a_model(format!("token {id} has the character {c:?}, which stands for no byte"))
                    })?);
                }
            }
        }
        longest = longest.max(token.len());
        ends.push(u32::try_from(bytes.len()).map_err(|_| Error::not_a_model("a vocabulary of more than 4 GB"))?);
    }
    Ok((bytes, ends, longest))
}

/// The character that stands for each byte, in the order of the bytes. Source: GPT-2's byte-level alphabet, which keeps
/// printable Latin-1 and moves the rest to U+0100 and up.
pub(crate) fn byte_chars() -> impl Iterator<Item = char> {
    let mut moved = 0x100u32;
    (0u8..=255).map(move |byte| {
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            char::from(byte)
        } else {
            moved += 1;
            char::from_u32(moved - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let chars: Vec<char> = byte_chars().collect();
        assert_eq!(chars[usize::from(b' ')], 'Ġ');
        assert_eq!(chars[usize::from(b'\n')], 'Ċ');
        assert_eq!(chars[usize::from(b'a')], 'a');
        assert_eq!(chars.iter().collect::<HashSet<_>>().len(), 256);
    }

    #[test]
    fn unknown_word_splitters_and_pairs_without_a_token_are_refused() {
        assert!(word_splitter(Some("nonsense")).is_err());
        assert!(word_splitter(Some("llama-bpe")).is_ok());
        let tokens = || vec!["a".to_owned(), "b".to_owned()];
        assert!(pair_model(tokens(), &["a b".to_owned()]).is_err());
        assert!(pair_model(tokens(), &[]).is_ok());
        assert!(pair_model(vec!["a".to_owned(), "a".to_owned()], &[]).is_err());
    }
}
