//! The memory of training as numbers of a ledger, each with its formula.
//!
//! Invariant: what is entered is what [`super::training`] computed; nothing is computed again.

use dh_units::{Ledger, significant, whole};

use super::Memory;
use crate::architecture::Architecture;
use crate::layout::{Layout, Recompute, Schedule, Sharding};

impl Memory {
    /// Enters the fullest stage under `prefix`: `memory` gives `memory.weights`, `memory.activations`, `memory.needed`.
    /// # Panics
    /// If the prefix was used for another layout: a mistake of the program.
    pub fn enter(&self, shape: &Architecture, layout: &Layout, prefix: &str, ledger: &mut Ledger) {
        let id = |name: &str| format!("{prefix}.{name}");
        let asked = "layout of the job";
        let [parameters, tp, pp, replicas] = ["parameters", "tp", "pp", "replicas"].map(id);
        ledger.given(&parameters, "parameters of the model", whole(shape.parameters()), "shape of the model");
        ledger.given(&tp, "tensor parallelism", layout.tp, asked);
        ledger.given(&pp, "pipeline stages", layout.pp, asked);
        ledger.given(&replicas, "replicas that share states out: dp x cp", whole(layout.shard_replicas()), asked);
        let [batch, sequence] = ["micro_batch", "sequence"].map(id);
        ledger.given(&batch, "sequences of a micro-batch", layout.micro_batch, asked);
        ledger.given(&sequence, "tokens of a sequence", layout.sequence, asked);
        let stage = self.fullest;
        let state = |from: Sharding, bytes: f64| {
            let bytes = significant(bytes);
            let shared = if layout.sharding >= from { ", divided by the replicas" } else { "" };
            format!("{bytes} B x parameters of stage {stage} on one of {} devices{shared}", layout.tp)
        };
        let over = [&parameters, &tp, &pp, &replicas].map(String::as_str);
        let [weights, gradients, optimizer] = ["weights", "gradients", "optimizer"].map(id);
        let peak = self.peak;
        let bytes = layout.precision;
        ledger.derived(&weights, "weights", peak.weights, state(Sharding::Weights, bytes.weight), &over);
        ledger.derived(&gradients, "gradients", peak.gradients, state(Sharding::Gradients, bytes.gradient), &over);
        let formula = state(Sharding::Optimizer, bytes.optimizer);
        ledger.derived(&optimizer, "optimiser states", peak.optimizer, formula, &over);
        let activations = id("activations");
        let kept = match layout.recompute {
            Recompute::None => "all that a layer computes",
            Recompute::Selective => "all but scores and softmax",
            Recompute::Operators => "attention's output and every second product",
            Recompute::Full => "the input of each layer",
        };
        let order = match layout.schedule {
            Schedule::OneForwardOneBackward => "1F1B",
            Schedule::AllForward => "all forwards first",
            Schedule::ZeroBubble => "zero bubble",
        };
        let formula = format!(
            "{kept} x {} tokens x {} micro-batches in flight ({order}); Korthikanti et al. 2022",
            layout.micro_batch.saturating_mul(layout.sequence) / layout.cp,
            significant(layout.in_flight(stage))
        );
        let of = [&tp, &pp, &batch, &sequence].map(String::as_str);
        ledger.derived(&activations, "activations kept for the backward pass", peak.activations, formula, &of);
        let buffers = id("buffers");
        let formula = "layer at work or logits + gathered weights + context + what the allocator holds";
        ledger.derived(&buffers, "buffers", peak.buffers, formula, &of);
        let parts = [&weights, &gradients, &optimizer, &activations, &buffers].map(String::as_str);
        let formula = format!(
            "{} + {} + {} + {} + {}",
            peak.weights, peak.gradients, peak.optimizer, peak.activations, peak.buffers
        );
        ledger.derived(&id("peak"), "memory of the fullest accelerator", self.total(), formula, &parts);
        let formula = "the same with the allocator pressed: the most of all stages";
        ledger.derived(&id("needed"), "memory that it cannot do without", self.needed, formula, &parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::tests::gpt;
    use crate::memory::{Overheads, training};
    use dh_units::Value;

    #[test]
    fn the_ledger_has_the_parts_and_their_sum() {
        let shape = gpt(96, 12_288, 96);
        let layout = Layout { tp: 8, pp: 8, vpp: 3, recompute: Recompute::Full, ..Layout::default() };
        let memory = training(&shape, &layout, Overheads::DEVICE).unwrap();
        let mut ledger = Ledger::new();
        memory.enter(&shape, &layout, "memory", &mut ledger);
        let value = |id: &str| ledger.get(id).unwrap().value.number().unwrap();
        let parts = ["weights", "gradients", "optimizer", "activations", "buffers"];
        let sum: f64 = parts.iter().map(|part| value(&format!("memory.{part}"))).sum();
        assert!((sum - value("memory.peak")).abs() < 0.5);
        assert_eq!(ledger.get("memory.needed").unwrap().value, Value::from(memory.needed));
        let formula = &ledger.get("memory.activations").unwrap().formula;
        assert_eq!(
            formula,
            "the input of each layer x 2048 tokens x 10.3 micro-batches in flight (1F1B); Korthikanti et al. 2022"
        );
    }
}
