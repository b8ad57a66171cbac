//! Efficiency profiles: what a model of performance has learned of hardware under a software stack, as data with a date.
//!
//! Invariant: a profile has numbers only; what each means, and what it is where a profile says nothing, is documented in the
//! model that reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::fact::{Fact, quoted, words};
use crate::catalog::item::item;
use crate::catalog::model::Aliases;
use crate::section::{Section, Spot};

words! {
    /// The model that reads a profile.
    Subject {
        /// The time of a training step.
        Training = "training",
        /// The times of serving a model.
        Serving = "serving",
        /// The power that an accelerator draws.
        Power = "power",
        /// The loading of training data.
        Loading = "loading",
        /// The time of an exchange between accelerators.
        Collectives = "collectives",
    }
}

/// Numbers by name; in a file a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbers(pub BTreeMap<String, f64>);

impl Fact for Numbers {
    fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>> {
        let at = section.value_at(key);
        section.number_table(key).map(|numbers| Spot { value: Self(numbers), at })
    }

    fn shown(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, number)| format!("{name} {number}")).collect();
        pairs.join(", ")
    }

    fn toml(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, number)| format!("{} = {number:?}", quoted(name))).collect();
        format!("{{ {} }}", pairs.join(", "))
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

item! {
    /// What a model of performance has learned of hardware under a software stack.
    EfficiencyItem: Efficiency, EFFICIENCY, efficiencies, ["subject", "stack", "date", "hardware"];
    needed {
        /// The model that reads it.
        subject: Subject,
        /// The software it was measured under.
        stack: String,
        /// When it was fitted, as `2026-11-25`.
        date: String,
        /// What was learned: numbers by the names that the model documents.
        numbers: Numbers,
    }
    known {
        /// The hardware it is of: names of accelerators, or words that the model documents. Left out: of any.
        hardware: Aliases,
    }
}
