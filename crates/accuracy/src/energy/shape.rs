//! What of a model the power of serving it depends on: parameters, experts, cache.
//!
//! From the catalogue where the model or its base is there, else from its size by the habits of its time (stated
//! assumptions below): power follows step time and throughput, which rows have, so that a guess of the shape costs little.

use dh_blueprint::Catalog;
use dh_perf::architecture::Architecture;
use dh_units::real;

/// A model, in plain numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    /// Layers.
    pub layers: u64,
    /// Parameters that every token meets.
    pub dense: f64,
    /// Parameters of all routed experts.
    pub experts: f64,
    /// Routed experts of a layer; 0 without.
    pub count: f64,
    /// Of these, those a token meets.
    pub top_k: f64,
    /// Bytes of keys and values of one token, in 16 bits.
    pub cache: f64,
    /// Of layers with attention, those that see `window` tokens at most.
    pub windowed: f64,
    /// How far these see.
    pub window: f64,
    /// Bytes of states of one sequence, read and written at each token.
    pub state: f64,
}

impl Shape {
    /// Parameters that one token meets.
    pub(super) fn active(&self) -> f64 {
        if self.count > 0.0 { self.dense + self.experts * self.top_k / self.count } else { self.dense + self.experts }
    }

    /// Parameters of experts that `tokens` tokens touch when each draws its own by chance.
    pub(super) fn touched(&self, tokens: f64) -> f64 {
        if self.count > 0.0 {
            self.experts * (1.0 - (1.0 - self.top_k / self.count).powf(tokens))
        } else {
            self.experts
        }
    }

    /// Bytes of keys and values of a sequence of `tokens`.
    pub(super) fn cached(&self, tokens: f64) -> f64 {
        let seen = if self.window > 0.0 { tokens.min(self.window) } else { tokens };
        self.cache * ((1.0 - self.windowed) * tokens + self.windowed * seen)
    }

    /// The shape of what a source calls `name`, of `billions` parameters of which `active` are met by a token.
    pub(super) fn of(catalog: &Catalog, name: &str, billions: Option<f64>, active: Option<f64>) -> Option<Self> {
        let named = catalog.model_called(name).or_else(|| catalog.model_called(&base(name))).or_else(|| {
            let base = base(name);
            let known = catalog.models().filter(|model| base.starts_with(&model.name));
            known.max_by_key(|model| model.name.len())
        });
        let known = named.map(|model| Self::from(&Architecture::from(model)));
        let size = billions.or_else(|| written_size(name)).map(|billions| billions * 1e9);
        // A longer name can stand for a larger relative: the base must be of the size that the source gives.
        if let Some(known) = known
            && size.is_none_or(|size| ((known.dense + known.experts) / size - 1.0).abs() < 0.2)
        {
            return Some(known);
        }
        let mut guess = Self::guessed(size?, active.map(|active| active * 1e9));
        if let Some((_, layers, attention, states)) = HYBRIDS.iter().find(|hybrid| base(name).starts_with(hybrid.0)) {
            guess.layers = *layers;
            guess.cache = 2.0 * 2.0 * 8.0 * 128.0 * attention;
            // 128 heads of 80 by 128, in 32 bits, read and written.
            guess.state = states * 128.0 * 80.0 * 128.0 * 4.0 * 2.0;
        }
        Some(guess)
    }

    /// Of `parameters`, of which `active` are met by a token.
    fn guessed(parameters: f64, active: Option<f64>) -> Self {
        // 12 L h^2 parameters with h = 112 L, between Llama 2 7B (128) and 70B (102); 8 heads of 128 for keys and values.
        let layers = (parameters / (12.0 * 112.0 * 112.0)).cbrt();
        let active = active.unwrap_or(parameters).min(parameters);
        // Experts where less than nine tenths are met: one in sixteen of them, as in most of 2025.
        let routed = if active < 0.9 * parameters { (parameters - active) / (1.0 - 1.0 / 16.0) } else { 0.0 };
        let (count, top_k) = if routed > 0.0 { (128.0, 8.0) } else { (0.0, 0.0) };
        Self {
            layers: dh_units::whole(layers.round()),
            dense: parameters - routed,
            experts: routed,
            count,
            top_k,
            cache: 2.0 * 2.0 * 8.0 * 128.0 * layers,
            windowed: 0.0,
            window: 0.0,
            state: 0.0,
        }
    }
}

/// Hybrids of attention and state spaces that the catalogue does not have: start of the name, layers, of these with
/// attention, of these with states. Source: the models' published configurations, from memory.
const HYBRIDS: [(&str, u64, f64, f64); 2] =
    [("nvidia-nemotron-nano-9b-v2", 56, 4.0, 27.0), ("nvidia-nemotron-nano-12b-v2", 62, 6.0, 28.0)];

impl From<&Architecture> for Shape {
    fn from(shape: &Architecture) -> Self {
        let experts: f64 = (0..shape.layers).map(|layer| shape.expert_parameters(layer)).sum();
        let (count, top_k) = shape.experts.map_or((0.0, 0.0), |experts| (real(experts.count), real(experts.top_k)));
        let attention = shape.attention_layers();
        let mix = shape.mix;
        let states = real(mix.state_layers) * real(mix.state_heads) * real(mix.state_head_dim) * real(mix.state_size);
        Self {
            layers: shape.layers,
            dense: shape.parameters() - experts,
            experts,
            count,
            top_k,
            cache: 2.0 * shape.cache_elements(1) * real(attention),
            windowed: real(mix.window_layers.min(attention)) / real(attention.max(1)),
            window: real(mix.window),
            // In 32 bits, read and written.
            state: states * 4.0 * 2.0,
        }
    }
}

/// What a fine-tune or a variant is called without what does not change its shape.
fn base(name: &str) -> String {
    let bare = name.rsplit('/').next().unwrap_or(name).to_lowercase().replace(['.', '_'], "-");
    let mut parts: Vec<&str> = bare.split('-').collect();
    parts.retain(|part| !["meta", "vl", "omni"].contains(part));
    let joined = parts.join("-");
    // Llama 3.1 and 3.3 have the shapes of Llama 3; DeepSeek-V3.1 that of V3; vicuna and its kin those of Llama 1.
    let renamed = [
        ("llama-3-1-", "llama-3-"),
        ("llama-3-3-", "llama-3-"),
        ("deepseek-v3-1", "deepseek-v3"),
        ("qwen3-coder-480b", "qwen3-coder-480b"),
        ("codegemma-1-1-", "codegemma-"),
        ("codellama-34b", "llama-2-34b"),
        ("codellama-", "llama-2-"),
        ("llama-4-scout-", "llama-4-scout-"),
        ("llama-7b", "llama-1-7b"),
        ("llama-13b", "llama-1-13b"),
    ];
    for (from, to) in renamed {
        if let Some(rest) = joined.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    joined
}

/// Billions of parameters, where a name has them: `vicuna-7B`.
fn written_size(name: &str) -> Option<f64> {
    let lower = name.to_lowercase();
    lower
        .split(['-', '_', '/'])
        .filter_map(|part| part.strip_suffix('b')?.parse::<f64>().ok())
        .find(|billions| (0.05..2_000.0).contains(billions))
        .or_else(|| SIZES.iter().find(|(part, _)| lower.contains(part)).map(|(_, billions)| *billions))
}

/// Models whose names do not have their size. Source: their model cards.
const SIZES: [(&str, f64); 6] = [
    ("phi-3-mini", 3.8),
    ("phi-3-small", 7.4),
    ("phi-3-medium", 14.0),
    ("mistral-nemo", 12.2),
    ("mistral-large", 123.0),
    ("mixtral", 46.7),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str, billions: Option<f64>, active: Option<f64>) -> Shape {
        Shape::of(Catalog::builtin(), name, billions, active).unwrap()
    }

    #[test]
    fn variants_have_the_shape_of_their_base() {
        for (name, size, active, layers) in [
            ("Qwen/Qwen3-VL-235B-A22B-Instruct-FP8", 235.0, 22.0, 94),
            ("Qwen/Qwen3-Omni-30B-A3B-Instruct", 30.0, 3.0, 48),
            ("Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8", 480.0, 35.0, 62),
            ("deepseek-ai/DeepSeek-V3.1", 671.0, 37.0, 61),
            ("meta-llama/Llama-3.3-70B-Instruct", 70.0, 70.0, 80),
            ("meta-llama/Llama-3.1-405B-Instruct-FP8", 405.0, 405.0, 126),
            ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 109.0, 17.0, 48),
            ("meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", 400.0, 17.0, 48),
            ("google/gemma-3-12b-it", 12.0, 12.0, 48),
            ("openai/gpt-oss-20b", 21.0, 3.6, 24),
            ("nvidia/NVIDIA-Nemotron-Nano-12B-v2", 12.0, 12.0, 62),
            ("Qwen/Qwen3-VL-32B-Instruct", 32.0, 32.0, 64),
        ] {
            let shape = shape(name, Some(size), Some(active));
            assert_eq!(shape.layers, layers, "{name}");
            assert!((shape.active() / 1e9 / active - 1.0).abs() < 0.25, "{name}: {}", shape.active());
        }
    }

    #[test]
    fn a_name_without_a_base_is_guessed_from_its_size() {
        let koala = shape("BAIR/koala-13b", None, None);
        assert!((koala.dense / 13e9 - 1.0).abs() < 1e-9 && (35..50).contains(&koala.layers), "{koala:?}");
        let sparse = shape("somebody/new-100b", Some(100.0), Some(10.0));
        assert!((sparse.active() / 10e9 - 1.0).abs() < 1e-6, "{sparse:?}");
        assert!(sparse.touched(1.0) < sparse.touched(100.0) && sparse.touched(1e6) <= sparse.experts);
        assert_eq!(Shape::of(Catalog::builtin(), "nobody/knows", None, None), None);
    }
}
