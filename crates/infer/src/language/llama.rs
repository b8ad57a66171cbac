//! The llama transformer: `RMSNorm`, rotary positions, grouped-query attention, `SwiGLU`, and its configuration.
//!
//! Invariant: a [`Llama`] never changes after loading; what a conversation adds lives in its [`KvCache`]. Cost: per token one
//! pass over all weights (memory-bound); a prompt is taken in chunks, so that one pass serves many tokens and a caller can
//! stop between chunks. Source: Touvron et al. 2023; tensor names and conventions of GGUF's `llama` architecture.

use std::io::{Read, Seek};
use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Module, Tensor};

use super::Error;
use super::attention::{Shape, attend};
use super::gguf::Head;
use super::kv_cache::KvCache;
use super::weights::{DEVICE, Weights};
use crate::numeric::{add, count, rms_norm, rotate, swiglu};

/// Bounds on what a file may claim. The largest llama has 126 blocks and 16,384 dimensions.
const BLOCKS_MAX: usize = 1_024;
const DIMENSIONS_MAX: usize = 1 << 20;

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    pub(super) blocks: usize,
    pub(super) embedding: usize,
    pub(super) feed_forward: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Dimensions of each head that positions turn.
    pub(super) rotated: usize,
    pub(super) rope_base: f32,
    pub(super) rope_scale: f32,
    pub(super) norm_epsilon: f32,
    /// What the model was trained for.
    pub(super) context_tokens: usize,
}

impl Config {
    /// Reads the sizes and refuses what this engine does not compute.
    pub(super) fn from_head(head: &Head) -> Result<Self, Error> {
        match head.text("general.architecture") {
            Some("llama") => {}
            Some(other) => {
                return Err(Error::not_a_model(format!("its architecture is `{other}`; `llama` is the one we run")));
            }
            None => return Err(Error::not_a_model("it does not name its architecture")),
        }
        if head.integer("llama.expert_count").is_some_and(|experts| experts > 0) {
            return Err(Error::not_a_model("a mixture of experts, which this engine does not run"));
        }
        let size = |key: &str, max: usize| {
            let value = head.integer(key).ok_or_else(|| Error::not_a_model(format!("`{key}` is missing")))?;
            usize::try_from(value)
                .ok()
                .filter(|value| (1..=max).contains(value))
                .ok_or_else(|| Error::not_a_model(format!("`{key}` is {value}; 1 to {max} is possible")))
        };
        let or = |key: &str, max: usize, default: usize| match head.integer(key) {
            Some(_) => size(key, max),
            None => Ok(default),
        };
        let number = |key: &str, default: f32| match head.float(key) {
            None => Ok(default),
            Some(value) => float(value)
                .filter(|value| *value > 0.0)
                .ok_or_else(|| Error::not_a_model(format!("`{key}` is {value}, not a positive number"))),
        };
        let heads = size("llama.attention.head_count", DIMENSIONS_MAX)?;
        let embedding = size("llama.embedding_length", DIMENSIONS_MAX)?;
        let kv_heads = or("llama.attention.head_count_kv", heads, heads)?;
        let head_dim = or("llama.attention.key_length", DIMENSIONS_MAX, embedding / heads)?;
        let config = Self {
            blocks: size("llama.block_count", BLOCKS_MAX)?,
            embedding,
            feed_forward: size("llama.feed_forward_length", DIMENSIONS_MAX)?,
            heads,
            kv_heads,
            head_dim,
            rotated: or("llama.rope.dimension_count", head_dim, head_dim)?,
            rope_base: number("llama.rope.freq_base", 10_000.0)?,
            rope_scale: match head.text("llama.rope.scaling.type") {
                None | Some("none") => 1.0,
                Some("linear") => 1.0 / number("llama.rope.scaling.factor", 1.0)?,
                Some(other) => {
                    return Err(Error::not_a_model(format!(
                        "positions scaled by `{other}`; `linear` is the one we compute"
                    )));
                }
            },
            norm_epsilon: number("llama.attention.layer_norm_rms_epsilon", 1e-5)?,
            context_tokens: size("llama.context_length", 1 << 24)?,
        };
        let even = config.rotated.is_multiple_of(2);
        if !config.heads.is_multiple_of(config.kv_heads) || !even || config.head_dim == 0 {
            return Err(Error::not_a_model(format!(
                "{} heads, {} key heads, {} dimensions each, {} turned: these do not fit together",
                config.heads, config.kv_heads, config.head_dim, config.rotated
            )));
        }
        // A head may be wider than its share of the embedding, but not without bound.
        if config.heads.checked_mul(config.head_dim).is_none_or(|width| width > DIMENSIONS_MAX) {
            return Err(Error::not_a_model(format!("{} heads of {} dimensions", config.heads, config.head_dim)));
        }
        Ok(config)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "files store these numbers as f32; what overflows is refused here")]
fn float(value: f64) -> Option<f32> {
    Some(value as f32).filter(|value| value.is_finite())
}

#[derive(Debug)]
struct Block {
    attention_norm: Vec<f32>,
    query: QMatMul,
    key: QMatMul,
    value: QMatMul,
    output: QMatMul,
    feed_forward_norm: Vec<f32>,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
}

impl Block {
    fn load<F: Read + Seek>(config: &Config, index: usize, weights: &mut Weights<F>) -> Result<Self, Error> {
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        let (width, hidden) = (config.embedding, config.feed_forward);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        Ok(Self {
            attention_norm: weights.vector(&name("attn_norm"), width)?,
            query: weights.multiplier(&name("attn_q"), queries, width)?,
            key: weights.multiplier(&name("attn_k"), keys, width)?,
            value: weights.multiplier(&name("attn_v"), keys, width)?,
            output: weights.multiplier(&name("attn_output"), width, queries)?,
            feed_forward_norm: weights.vector(&name("ffn_norm"), width)?,
            gate: weights.multiplier(&name("ffn_gate"), hidden, width)?,
            up: weights.multiplier(&name("ffn_up"), hidden, width)?,
            down: weights.multiplier(&name("ffn_down"), width, hidden)?,
        })
    }
}

/// Which outputs of a pass are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The scores of every token of the vocabulary to come next.
    Scores,
    /// Nothing; the pass only fills the cache.
    Cache,
}

/// A loaded model.
#[derive(Debug)]
pub(super) struct Llama {
    config: Config,
    embedding: Arc<QTensor>,
    blocks: Vec<Block>,
    norm: Vec<f32>,
    output: QMatMul,
    /// Turns per position of each pair of dimensions, in radians.
    frequencies: Vec<f32>,
}

impl Llama {
    pub(super) fn load<F: Read + Seek>(
        config: Config,
        vocabulary: usize,
        weights: &mut Weights<F>,
    ) -> Result<Self, Error> {
        let embedding = weights.matrix("token_embd.weight", vocabulary, config.embedding)?;
        // Small models use the embedding for the output too, and then its memory is shared.
        let output = if weights.has("output.weight") {
            weights.multiplier("output.weight", vocabulary, config.embedding)?
        } else {
            QMatMul::from_arc(Arc::clone(&embedding))?
        };
        let norm = weights.vector("output_norm.weight", config.embedding)?;
        let pairs = config.rotated / 2;
        let mut frequencies: Vec<f32> = (0..pairs)
            .map(|pair| config.rope_base.powf(-count(2 * pair) / count(config.rotated)) * config.rope_scale)
            .collect();
        if weights.has("rope_freqs.weight") {
            let factors = weights.vector("rope_freqs.weight", pairs)?;
            for (frequency, factor) in frequencies.iter_mut().zip(factors) {
                *frequency /= factor;
            }
        }
        let blocks = (0..config.blocks).map(|index| Block::load(&config, index, weights)).collect::<Result<_, _>>()?;
        weights.finish()?;
        Ok(Self { config, embedding, blocks, norm, output, frequencies })
    }

    /// An empty cache for one conversation.
    pub(super) fn cache(&self) -> Result<KvCache, Error> {
        KvCache::new(self.config.blocks, self.config.kv_heads, self.config.head_dim)
    }

    /// Takes `tokens` after those in `cache`. Gives `[vocabulary]` scores for [`Want::Scores`], else nothing.
    pub(super) fn forward(&self, tokens: &[u32], cache: &mut KvCache, want: Want) -> Result<Vec<f32>, Error> {
        let (rows, width) = (tokens.len(), self.config.embedding);
        let Config { heads, kv_heads, head_dim, norm_epsilon, rotated, .. } = self.config;
        let shape = Shape { heads, kv_heads, head_dim };
        let before = cache.length();
        cache.reserve(rows)?;
        let angles = self.angles(before, rows);
        let mut stream = into_vec(&self.embedding.embedding(&Tensor::new(tokens, &DEVICE)?)?)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let input = matrix(rms_norm(&stream, &block.attention_norm, norm_epsilon), rows)?;
            let mut queries = into_vec(&block.query.forward(&input)?)?;
            let mut keys = into_vec(&block.key.forward(&input)?)?;
            let values = into_vec(&block.value.forward(&input)?)?;
            rotate(&mut queries, heads, head_dim, &angles, rotated / 2);
            rotate(&mut keys, kv_heads, head_dim, &angles, rotated / 2);
            let layer = cache.append(index, &keys, &values)?;
            let attended = attend(shape, &queries, layer, before)?;
            add(&mut stream, &into_vec(&block.output.forward(&matrix(attended, rows)?)?)?);

            let input = matrix(rms_norm(&stream, &block.feed_forward_norm, norm_epsilon), rows)?;
            let mut gate = into_vec(&block.gate.forward(&input)?)?;
            swiglu(&mut gate, &into_vec(&block.up.forward(&input)?)?);
            add(&mut stream, &into_vec(&block.down.forward(&matrix(gate, rows)?)?)?);
        }
        cache.advance(rows);
        match want {
            Want::Cache => Ok(Vec::new()),
            Want::Scores => {
                let last = stream.split_off(stream.len() - width);
                into_vec(&self.output.forward(&matrix(rms_norm(&last, &self.norm, norm_epsilon), 1)?)?)
            }
        }
    }

    /// Cosine and sine of every pair at every position of a pass: `[rows, rotated / 2]`.
    fn angles(&self, before: usize, rows: usize) -> Vec<(f32, f32)> {
        (before..before + rows)
            .flat_map(|position| {
                self.frequencies.iter().map(move |frequency| {
                    let angle = count(position) * frequency;
                    (angle.cos(), angle.sin())
                })
            })
            .collect()
    }
}

fn matrix(values: Vec<f32>, rows: usize) -> Result<Tensor, Error> {
    let columns = values.len() / rows;
    Ok(Tensor::from_vec(values, (rows, columns), &DEVICE)?)
}

fn into_vec(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::standin::Standin;

    fn stand_in() -> Llama {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        Standin::default().write(&path).unwrap();
        let mut file = File::open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        let mut head = Head::read(&mut file, length).unwrap();
        let vocabulary = head.take_texts("tokenizer.ggml.tokens").unwrap().len();
        let config = Config::from_head(&head).unwrap();
        Llama::load(config, vocabulary, &mut Weights::new(file, head.tensors)).unwrap()
    }

    #[test]
    fn a_prompt_at_once_gives_what_its_tokens_one_by_one_give() {
        let model = stand_in();
        // Longer than the cache's first allocation, so that growing is in it.
        let tokens: Vec<u32> = (0..300).map(|i| 3 + i * 37 % 256).collect();
        let mut at_once = model.cache().unwrap();
        let (first, second) = tokens.split_at(100);
        assert!(model.forward(first, &mut at_once, Want::Cache).unwrap().is_empty());
        let want = model.forward(second, &mut at_once, Want::Scores).unwrap();
        let mut one_by_one = model.cache().unwrap();
        let mut got = Vec::new();
        for token in &tokens {
            got = model.forward(&[*token], &mut one_by_one, Want::Scores).unwrap();
        }
        assert_eq!(got.len(), want.len());
        let spread = want.iter().fold(0.0f32, |most, score| most.max(score.abs()));
        let off = got.iter().zip(&want).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        // The activations are rounded to eight bits before each product; sums in another order can round the other way.
        assert!(off < 0.02 * spread, "off by {off} of {spread}");
    }

    #[test]
    fn order_matters_to_the_model() {
        let model = stand_in();
        let scores = |tokens: &[u32]| {
            let mut cache = model.cache().unwrap();
            model.forward(tokens, &mut cache, Want::Scores).unwrap()
        };
        assert_ne!(scores(&[10, 20, 30]), scores(&[20, 10, 30]), "positions have no effect");
        assert_ne!(scores(&[10, 20, 30]), scores(&[10, 21, 30]), "attention has no effect");
    }
}
