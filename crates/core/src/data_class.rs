//! How far data may travel: what an engine is cleared for, and what a request needs.

use serde::{Deserialize, Serialize};

/// From what anybody may read to what nearly nobody may. An engine that is cleared for one is cleared for those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataClass {
    /// Anybody may read it.
    #[default]
    Public,
    /// The house's own.
    Internal,
    /// For some of the house.
    Confidential,
    /// Under a law or a contract.
    Restricted,
}

impl DataClass {
    /// All of them with their words, the widest first.
    pub const ALL: [(&str, Self); 4] = [
        ("public", Self::Public),
        ("internal", Self::Internal),
        ("confidential", Self::Confidential),
        ("restricted", Self::Restricted),
    ];

    /// The class of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, class)| *class)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, class)| *class == self).map_or("", |(word, _)| word)
    }
}

#[cfg(test)]
mod tests {
    use super::DataClass;

    #[test]
    fn words_are_in_order_and_read_back() {
        for ((word, class), (_, next)) in DataClass::ALL.iter().zip(DataClass::ALL.iter().skip(1)) {
            assert!(class < next);
            assert_eq!((DataClass::parse(word), class.word()), (Some(*class), *word));
        }
        assert_eq!(DataClass::parse("secret"), None);
    }
}
