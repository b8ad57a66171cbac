//! From a row of fine-tuning to a run: what its notes say and what the source's recipes set.
//!
//! Invariant: recipes' settings are those of the public files named here; what is taken from elsewhere is a stated assumption.
//! Sources: Lightning-AI/litgpt `tutorials/resource-tables.md` (the longest samples, in tokens) and `config_hub/finetune`
//! (ranks, places, quantisation); pytorch/torchtune `README.md` and `recipes/configs`.

use dh_units::real;

use super::{Refusal, Row};
use crate::architecture::Architecture;
use crate::memory::tuning::{Base, Gathered, Gradients, Kept, Kernels, Places, Trained, Tuning, Untied};

/// The run of `row` and what it rests on; `None` where the row is of another kind.
pub(super) fn read(row: &Row, shape: Option<&Architecture>) -> Option<Result<(Architecture, Tuning, String), Refusal>> {
    let source = row.source.split(':').next()?;
    let (tuning, note) = match source {
        "Lightning-AI/litgpt" => litgpt(row),
        "pytorch/torchtune" => torchtune(row)?,
        _ => return None,
    };
    let Some(shape) = shape else { return Some(Err("the model's shape is not known".to_owned())) };
    Some(tuning.map(|tuning| (*shape, tuning, note.to_owned())))
}

/// A plain run: one device, half precision, everything kept.
const PLAIN: Tuning = Tuning {
    trained: Trained::All { optimizer: 4.0, gradients: Gradients::Kept },
    adapters: None,
    base: Base::Half,
    tokens: 0.0,
    devices: 1,
    gathered: Gathered::Layers,
    kernels: Kernels::Eager,
    kept: Kept::All,
    input_copies: 1.0,
    untied: Untied::Always,
    // The loss takes logits in chunks, but all chunks' logits, log-softmax and gradient are there at the end, in 16 and 32 bits.
    logit: 8.0,
};

/// The longest sample of the Alpaca data set by tokenizer, from the resource tables.
const LONGEST: [(&str, f64); 4] = [("phi", 1044.0), ("StableLM", 1034.0), ("Llama 2", 1304.0), ("Falcon", 1079.0)];

fn litgpt(row: &Row) -> (Result<Tuning, Refusal>, &'static str) {
    let batch = row.micro_batch.map_or(1.0, real);
    if row.source.contains("resource-tables") {
        let longest = LONGEST.iter().find(|(start, _)| row.model.starts_with(start));
        let Some((_, tokens)) = longest else {
            return (Err("the longest sample is not published".to_owned()), "");
        };
        let trainable = number_after(&row.notes, "trainable parameters ");
        let several = row.n_accel.unwrap_or(1) > 1;
        let trained = if row.notes.contains("with LoRA") {
            Trained::LowRank { places: Places::QueriesAndValues, rank: 8 }
        // Both adapters are in one section; the second has a factor and an offset at each product and more parameters.
        } else if trainable.is_some_and(|count| count > 2e6) {
            Trained::Factors
        } else {
            Trained::Prompts
        };
        let base = match row.precision.as_str() {
            "bnb.nf4" => Base::FourBit,
            "bnb.nf4-dq" => Base::FourBitTwice,
            _ => Base::Half,
        };
        return (
            Ok(Tuning {
                trained,
                adapters: trainable,
                base,
                tokens: batch * tokens,
                devices: row.n_accel.unwrap_or(1),
                gathered: Gathered::Model,
                kept: if several { Kept::Inputs } else { Kept::All },
                ..PLAIN
            }),
            "litgpt's resource tables: the longest Alpaca sample; several devices checkpoint layers and hold the model gathered",
        );
    }
    // These recipes' files have one device, whatever machine they ran on.
    let single = ["tiny-llama", "llama-3.2", "Phi-3"].iter().any(|start| row.model.starts_with(start));
    let sharded = row.zero == "fsdp" && !single;
    let quantised = row.notes.starts_with("qlora");
    let trained =
        if row.notes.starts_with("full") && (row.model.starts_with("llama-3.2") || row.model.starts_with("Phi-3")) {
            // Stated assumption: the moments of these are not on the device, since those of the 3B and the 3.8B would overflow the
            // 24 GB that they ran on.
            Trained::All { optimizer: 0.0, gradients: Gradients::OfOneLayer }
        } else if row.notes.starts_with("full") {
            PLAIN.trained
        } else {
            let (places, rank) = recipe(&row.model, quantised);
            Trained::LowRank { places, rank }
        };
    (
        Ok(Tuning {
            trained,
            base: if quantised { Base::FourBit } else { Base::Half },
            // The longest samples are cut at the maximum, so that the peak has it.
            tokens: batch * row.seq_len.map_or(512.0, real),
            devices: if sharded { row.n_accel.unwrap_or(1) } else { 1 },
            gathered: Gathered::Model,
            kept: if sharded { Kept::Inputs } else { Kept::All },
            // Fitted: the recipes' four-bit runs keep each product's input twice, as given and as cast.
            input_copies: 2.0,
            ..PLAIN
        }),
        "litgpt's recipes: ranks and places of its files; samples cut at the maximum",
    )
}

/// Rank and places of a recipe of `config_hub/finetune`.
fn recipe(model: &str, quantised: bool) -> (Places, u64) {
    let everywhere = ["phi", "Phi", "tiny", "gemma"].iter().any(|start| model.starts_with(start));
    match (everywhere, model) {
        (true, "gemma-7b" | "gemma-2-9b") => (Places::AttentionAndFeedForward, 16),
        (true, "tiny-llama") => (Places::AttentionAndFeedForward, 32),
        (true, "gemma-2b") if quantised => (Places::AttentionAndFeedForward, 16),
        (true, _) => (Places::AttentionAndFeedForward, 8),
        (false, _) => (Places::QueriesAndValues, 32),
    }
}

/// `None` where the general reading answers: full fine-tuning without the techniques that only these recipes have.
fn torchtune(row: &Row) -> Option<(Result<Tuning, Refusal>, &'static str)> {
    let has = |words: &str| row.notes.contains(words);
    if has("(unpacked)") {
        return Some((Err("sequences are shorter than the maximum, by an unpublished amount".to_owned()), ""));
    }
    let after_checkpointing = has("+optimizer step") || has("+activation offloading") || has("+8-bit");
    if ["+packed", "+compile", "+chunked", "+activation check", "CPU offload"].iter().any(|words| has(words)) {
        return None;
    }
    let tokens = row.micro_batch.map_or(1.0, real) * row.seq_len.map_or(2048.0, real);
    let compiled = Tuning {
        tokens,
        devices: row.n_accel.unwrap_or(1),
        kernels: Kernels::Compiled,
        kept: Kept::Inputs,
        untied: Untied::AsTheModel,
        // Eight chunks; half precision, single precision and gradient.
        logit: 10.0 / 8.0,
        ..PLAIN
    };
    let rank = if row.model.contains("3.2 3B") {
        64
    } else if row.model.contains("70B") || row.model.contains("405B") {
        16
    } else {
        8
    };
    let lora = Trained::LowRank { places: Places::AttentionAndFeedForward, rank };
    // The table lists two cards for one recipe; stated assumption: the one with room runs without checkpointing.
    let roomy = row.memory_gb.is_some_and(|memory| memory > 40.0) && row.n_accel == Some(1);
    let all = |optimizer, gradients| Trained::All { optimizer, gradients };
    let kept = if has("(all of the above") || has("+activation offloading") || has("+8-bit") {
        Kept::Nothing
    } else if roomy {
        Kept::All
    } else {
        Kept::Inputs
    };
    let run = if has("QLoRA") {
        Tuning { trained: lora, base: Base::FourBitTwice, input_copies: 0.0, kept, ..compiled }
    } else if has("LoRA") {
        Tuning { trained: lora, kept, ..compiled }
    } else if after_checkpointing {
        let optimizer = if has("+8-bit") { 2.0 } else { 4.0 };
        Tuning { trained: all(optimizer, Gradients::OfOneLayer), kept, ..compiled }
    } else {
        // PagedAdamW8bit, whose pages are the host's, stepping inside the backward pass.
        Tuning { trained: all(0.0, Gradients::OfOneLayer), kept, ..compiled }
    };
    Some((Ok(run), "torchtune: the recipe's file"))
}

fn number_after(text: &str, words: &str) -> Option<f64> {
    let rest = text.split(words).nth(1)?;
    rest.chars()
        .take_while(|c| c.is_ascii_digit() || *c == ',')
        .filter(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::tests::llama_8b;

    fn row(source: &str, notes: &str) -> Row {
        Row {
            source: source.to_owned(),
            model: "llama-3-8b".to_owned(),
            n_accel: Some(1),
            micro_batch: Some(2),
            seq_len: Some(512),
            notes: notes.to_owned(),
            ..Row::default()
        }
    }

    #[test]
    fn a_recipe_is_read_from_its_words() {
        let read = |source: &str, notes: &str| read(&row(source, notes), Some(&llama_8b()));
        let (_, lora, _) = read("Lightning-AI/litgpt:config_hub", "lora fine-tuning").unwrap().unwrap();
        assert_eq!(lora.trained, Trained::LowRank { places: Places::QueriesAndValues, rank: 32 });
        assert!((lora.tokens - 1024.0).abs() < 1e-9);
        let (_, four, _) = read("Lightning-AI/litgpt:config_hub", "qlora fine-tuning").unwrap().unwrap();
        assert_eq!((four.base, four.kept), (Base::FourBit, Kept::All));
        let (_, tune, _) = read("pytorch/torchtune:README.md", "GiB; LoRA; packed dataset").unwrap().unwrap();
        assert_eq!((tune.kernels, tune.kept), (Kernels::Compiled, Kept::Inputs));
        assert!(read("pytorch/torchtune:README.md", "+packed").is_none());
        assert!(read("pytorch/torchtitan:x", "").is_none());
    }

    #[test]
    fn numbers_with_commas_are_read() {
        assert_eq!(number_after("trainable parameters 1,572,864; x", "trainable parameters "), Some(1_572_864.0));
        assert_eq!(number_after("nothing", "trainable parameters "), None);
    }
}
