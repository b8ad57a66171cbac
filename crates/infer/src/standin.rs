//! A tiny model with random weights: for tests, and for when no real model can be had.
//!
//! Its answers are gibberish by nature, and it says so: the metadata carries `datahall.generated`, and a service that runs it
//! must carry [`NAME_MARKER`] in its name. The same seed gives the same file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use dh_core::{HasKind, Kind};

use crate::language::byte_chars;
use crate::rng::Rng;

/// The metadata key that marks a model as made up.
pub(crate) const GENERATED_KEY: &str = "datahall.generated";

/// What the name of a service with made-up weights must contain.
pub const NAME_MARKER: &str = "generated";

/// A fitting name for such a service.
pub const NAME: &str = "stand-in-generated";

/// The name inside the file.
pub const TITLE: &str = "stand-in (random weights)";

const CHAT_TEMPLATE: &str = "{% for message in messages %}\
{% if message.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('unknown role ' + message.role) }}{% endif %}\
{% if message.role == 'system' and not loop.first %}{{ raise_exception('the system message must come first') }}{% endif %}\
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Byte pairs that become tokens, so that merging is exercised.
const MERGES: [(&str, &str); 8] =
    [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("e", "r"), ("Ġ", "a"), ("o", "n"), ("a", "t")];

const CONTROL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Why no stand-in was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be written.
    #[error("the stand-in model cannot be written: {0}")]
    Write(#[source] std::io::Error),
    /// The tensor library failed.
    #[error("the stand-in model cannot be made: {0}")]
    Make(#[from] candle_core::Error),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Write(error) if error.kind() == std::io::ErrorKind::StorageFull => Kind::Full,
            Self::Write(_) | Self::Make(_) => Kind::Internal,
        }
    }
}

/// The sizes of a stand-in. The default is some 70 kB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standin {
    /// Gives the weights.
    pub seed: u64,
    /// Transformer blocks.
    pub blocks: u32,
    /// Tokens of prompt and answer together.
    pub context_tokens: u32,
}

impl Default for Standin {
    fn default() -> Self {
        Self { seed: 0x5eed, blocks: 2, context_tokens: 512 }
    }
}

const EMBEDDING: usize = 64;
const FEED_FORWARD: usize = 128;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = EMBEDDING / HEADS;

impl Standin {
    /// Writes the model to `path`. The file appears whole or not at all.
    /// # Errors
    /// [`Error::Write`] if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let partial = path.with_extension("partial");
        let (metadata, vocabulary) = self.metadata();
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
        let tensors = self.tensors(vocabulary)?;
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut file = BufWriter::new(File::create(&partial).map_err(Error::Write)?);
        gguf_file::write(&mut file, &metadata, &tensors)?;
        file.into_inner().map_err(|error| Error::Write(error.into_error()))?.sync_all().map_err(Error::Write)?;
        std::fs::rename(&partial, path).map_err(Error::Write)
    }

    fn metadata(&self) -> (Vec<(&'static str, Value)>, usize) {
        let text = |text: &str| Value::String(text.to_owned());
        let texts = |texts: &mut dyn Iterator<Item = String>| Value::Array(texts.map(Value::String).collect());
        let mut tokens: Vec<String> = CONTROL_TOKENS.iter().map(|token| (*token).to_owned()).collect();
        tokens.extend(byte_chars().map(String::from));
        tokens.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
        let kinds = (0..tokens.len()).map(|id| Value::I32(if id < CONTROL_TOKENS.len() { 3 } else { 1 }));
        let size = tokens.len();
        let metadata = vec![
            ("general.architecture", text("llama")),
            ("general.name", text(TITLE)),
            (GENERATED_KEY, Value::Bool(true)),
            ("llama.block_count", Value::U32(self.blocks)),
            ("llama.context_length", Value::U32(self.context_tokens)),
            ("llama.embedding_length", size_value(EMBEDDING)),
            ("llama.feed_forward_length", size_value(FEED_FORWARD)),
            ("llama.attention.head_count", size_value(HEADS)),
            ("llama.attention.head_count_kv", size_value(KV_HEADS)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.dimension_count", size_value(HEAD_DIM)),
            ("llama.rope.freq_base", Value::F32(10_000.0)),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("smollm")),
            ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
            ("tokenizer.ggml.tokens", texts(&mut tokens.into_iter())),
            ("tokenizer.ggml.merges", texts(&mut MERGES.iter().map(|(left, right)| format!("{left} {right}")))),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.eos_token_id", Value::U32(2)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
            ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
        ];
        (metadata, size)
    }

    fn tensors(&self, vocabulary: usize) -> Result<Vec<(String, QTensor)>, Error> {
        let mut rng = Rng::new(self.seed);
        let mut matrix = |name: String, rows: usize, columns: usize, dtype: GgmlDType| -> Result<_, Error> {
            let values: Vec<f32> = (0..rows * columns).map(|_| rng.spread(0.3)).collect();
            let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu)?;
            Ok((name, QTensor::quantize(&tensor, dtype)?))
        };
        let ones = |name: String| -> Result<_, Error> {
            let tensor = Tensor::from_vec(vec![1.0f32; EMBEDDING], EMBEDDING, &Device::Cpu)?;
            Ok((name, QTensor::quantize(&tensor, GgmlDType::F32)?))
        };
        // The mix of formats of a real small model: `Q8_0` for the embedding, `Q4_1` for the rest, `F32` for the norms.
        let keys = KV_HEADS * HEAD_DIM;
        let mut tensors = vec![matrix("token_embd.weight".to_owned(), vocabulary, EMBEDDING, GgmlDType::Q8_0)?];
        for block in 0..self.blocks {
            let name = |part: &str| format!("blk.{block}.{part}.weight");
            for (part, rows, columns) in [
                ("attn_q", EMBEDDING, EMBEDDING),
                ("attn_k", keys, EMBEDDING),
                ("attn_v", keys, EMBEDDING),
                ("attn_output", EMBEDDING, EMBEDDING),
                ("ffn_gate", FEED_FORWARD, EMBEDDING),
                ("ffn_up", FEED_FORWARD, EMBEDDING),
                ("ffn_down", EMBEDDING, FEED_FORWARD),
            ] {
                tensors.push(matrix(name(part), rows, columns, GgmlDType::Q4_1)?);
            }
            tensors.push(ones(name("attn_norm"))?);
            tensors.push(ones(name("ffn_norm"))?);
        }
        tensors.push(ones("output_norm.weight".to_owned())?);
        Ok(tensors)
    }
}

fn size_value(size: usize) -> Value {
    Value::U32(u32::try_from(size).unwrap_or(u32::MAX))
}
