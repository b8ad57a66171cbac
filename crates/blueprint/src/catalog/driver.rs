//! Which accelerator of the catalogue a driver means: drivers say `NVIDIA H100 80GB HBM3` where the catalogue has
//! `h100-80gb-sxm`.
//!
//! Invariant: an item is meant only if all words of its model are in the driver's name and its memory is about as much; of several
//! the one with most words, then that whose form (`PCIe` card or module) agrees, then that with the nearest memory, then the first
//! by name. Nothing is better than a wrong guess.

use dh_units::Bytes;

use super::{AcceleratorItem, Catalog};

/// Drivers count what they keep for themselves differently: up to so many parts of a hundred more or less is the same memory.
const APART: u64 = 12;

impl Catalog {
    /// The accelerator that a driver calls `name`, with `memory` as it counts it if it does; none if no item is like that.
    pub fn accelerator_of_driver(&self, name: &str, memory: Option<Bytes>) -> Option<&AcceleratorItem> {
        let lower = name.to_lowercase();
        let said: Vec<&str> =
            lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let card = said.contains(&"pcie");
        let fits = |item: &&AcceleratorItem| {
            let model = model(&item.name);
            !model.is_empty() && model.iter().all(|word| said.contains(word))
        };
        let apart = |item: &AcceleratorItem| match (memory, item.memory.as_ref()) {
            (Some(said), Some(known)) => said.0.abs_diff(known.value.0).saturating_mul(100) / known.value.0.max(1),
            _ => 0,
        };
        let order = |item: &&AcceleratorItem| {
            let other_form = item.name.split('-').any(|word| word == "pcie") != card;
            (std::cmp::Reverse(model(&item.name).len()), other_form, apart(item), item.name.clone())
        };
        self.accelerators().filter(fits).filter(|item| apart(item) <= APART).min_by_key(order)
    }
}

/// The words of an item's name that are its model, without memory, form, and power.
fn model(name: &str) -> Vec<&str> {
    let number = |word: &str, unit: &str| {
        word.strip_suffix(unit)
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let form = ["sxm", "pcie", "oam", "hbm2e", "hbm3"];
    name.split('-').filter(|word| !form.contains(word) && !number(word, "gb") && !number(word, "w")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(name: &str, mebibytes: u64) -> Option<&'static str> {
        let memory = (mebibytes > 0).then_some(Bytes(mebibytes << 20));
        Catalog::builtin().accelerator_of_driver(name, memory).map(|item| item.name.as_str())
    }

    #[test]
    fn names_of_drivers_are_known() {
        for (name, mebibytes, item) in [
            ("NVIDIA H100 80GB HBM3", 81_559, "h100-80gb-sxm"),
            ("NVIDIA H100 PCIe", 81_559, "h100-80gb-pcie"),
            ("NVIDIA H200", 143_771, "h200-141gb-sxm"),
            ("NVIDIA A100-SXM4-40GB", 40_960, "a100-40gb-sxm"),
            ("NVIDIA A100-SXM4-80GB", 81_920, "a100-80gb-sxm"),
            ("NVIDIA A100 80GB PCIe", 81_920, "a100-80gb-pcie"),
            ("Tesla V100-SXM2-32GB", 32_768, "v100-32gb"),
            ("NVIDIA L40S", 46_068, "l40s"),
            ("NVIDIA L4", 23_034, "l4"),
            ("Tesla T4", 15_360, "t4"),
            ("NVIDIA GeForce RTX 4090", 24_564, "rtx-4090"),
            ("NVIDIA B200", 183_359, "b200-sxm"),
            ("AMD Instinct MI300X OAM", 196_592, "mi300x"),
            ("TPU v5e", 0, "tpu-v5e"),
        ] {
            assert_eq!(meant(name, mebibytes), Some(item), "{name}");
        }
    }

    #[test]
    fn what_the_catalogue_does_not_have_is_not_guessed() {
        assert_eq!(meant("NVIDIA GeForce GTX 1080", 8_192), None);
        assert_eq!(meant("NVIDIA H100 80GB HBM3", 16_384), None);
        assert_eq!(meant("", 81_559), None);
    }
}
