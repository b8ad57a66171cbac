//! What a key of models may use: which models, how much in a minute, how much money.

use serde::{Deserialize, Serialize};

use crate::DataClass;

/// The bounds of one caller of models. An absent bound bounds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The models it may ask; all if there are none here. A closing `*` stands for any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Requests in any 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens, read and written, in any 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Money in all, in millionths of a dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_micro_usd: Option<u64>,
    /// The class of its requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Its share where callers wait for the same engines, beside others'; 1 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// What its data is at least: engines that are not cleared for it are not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_class: Option<DataClass>,
}

impl Grant {
    /// Whether the caller may ask `model`.
    pub fn allows(&self, model: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => model.starts_with(start),
            None => model == pattern,
        };
        self.models.is_empty() || self.models.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::Grant;

    #[test]
    fn scopes_name_models_or_their_beginnings() {
        let grant =
            |models: &[&str]| Grant { models: models.iter().map(ToString::to_string).collect(), ..Grant::default() };
        assert!(Grant::default().allows("any"));
        assert!(grant(&["a", "llama-*"]).allows("llama-3"));
        assert!(grant(&["a", "llama-*"]).allows("a"));
        assert!(!grant(&["a", "llama-*"]).allows("ab"));
        assert!(grant(&["*"]).allows("x"));
    }
}
