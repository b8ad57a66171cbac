//! Patterns of policies: `*`, `?`, and variables that are filled in from the request.
//!
//! Invariant: what comes out of a variable is literal, never a wildcard. Cost: `O(pattern * text)` at worst, without
//! recursion. Source: AWS IAM User Guide, "IAM policy elements: Variables and tags".

use super::Context;

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`: any one character.
    One,
    /// `*`: any characters.
    Any,
    /// `${name}` or `${name, 'default'}`.
    Variable {
        name: String,
        default: Option<String>,
    },
}

/// Whether the letters' case matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Matters,
    Ignored,
}

/// Whether `${...}` means something: it does from version 2012-10-17 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variables {
    Filled,
    Literal,
}

/// A pattern as written, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

/// A pattern whose variables are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filled(Vec<Piece>);

impl Pattern {
    pub(super) fn new(text: &str, variables: Variables) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            if variables == Variables::Filled
                && let Some((inside, after)) = rest.strip_prefix("${").and_then(|inside| inside.split_once('}'))
            {
                pieces.push(variable(inside));
                rest = after;
                continue;
            }
            pieces.push(match char {
                '*' => Piece::Any,
                '?' => Piece::One,
                char => Piece::Char(char),
            });
            rest = rest.get(char.len_utf8()..).unwrap_or_default();
        }
        Self(pieces)
    }

    /// The pattern with its variables filled in; `None` if the request lacks one.
    pub(super) fn fill(&self, context: &Context) -> Option<Filled> {
        let mut pieces = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            match piece {
                Piece::Variable { name, default } => {
                    // A variable with several values has no meaning in a pattern.
                    let value = match context.values(name) {
                        [value] => Some(value.as_str()),
                        _none_or_many => default.as_deref(),
                    };
                    pieces.extend(value?.chars().map(Piece::Char));
                }
                Piece::Char(_) | Piece::One | Piece::Any => pieces.push(piece.clone()),
            }
        }
        Some(Filled(pieces))
    }

    /// Whether any text matches.
    pub(super) fn is_everything(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|piece| *piece == Piece::Any)
    }

    /// Whether it is a text without wildcards and variables.
    pub(super) fn is_fixed(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Char(_)))
    }
}

fn variable(inside: &str) -> Piece {
    match inside {
        "*" => Piece::Char('*'),
        "?" => Piece::Char('?'),
        "$" => Piece::Char('$'),
        _name => {
            let (name, default) = match inside.split_once(',') {
                Some((name, default)) => {
                    (name, default.trim().strip_prefix('\'').and_then(|text| text.strip_suffix('\'')))
                }
                None => (inside, None),
            };
            Piece::Variable { name: name.trim().to_owned(), default: default.map(ToOwned::to_owned) }
        }
    }
}

impl Filled {
    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &str, case: Case) -> bool {
        let text: Vec<char> = text.chars().collect();
        let same = |piece: &Piece, char: char| match piece {
            Piece::One => true,
            Piece::Char(want) if case == Case::Matters => *want == char,
            Piece::Char(want) => *want == char || want.to_lowercase().eq(char.to_lowercase()),
            Piece::Any | Piece::Variable { .. } => false,
        };
        let (mut at, mut piece) = (0, 0);
        // The last `*`, and how far it reaches.
        let mut star: Option<(usize, usize)> = None;
        while let Some(char) = text.get(at) {
            match self.0.get(piece) {
                Some(Piece::Any) => {
                    star = Some((piece, at));
                    piece += 1;
                }
                Some(one) if same(one, *char) => {
                    at += 1;
                    piece += 1;
                }
                Some(_) | None => {
                    let Some((star_piece, reach)) = star else { return false };
                    star = Some((star_piece, reach + 1));
                    piece = star_piece + 1;
                    at = reach + 1;
                }
            }
        }
        self.0.iter().skip(piece).all(|piece| *piece == Piece::Any)
    }

    /// The text, if it holds no wildcard.
    pub(super) fn text(&self) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Char(char) => *char,
                Piece::One => '?',
                Piece::Any | Piece::Variable { .. } => '*',
            })
            .collect()
    }

    /// The six parts of an ARN, the last with all the colons that are left.
    pub(super) fn arn_parts(&self) -> Vec<Self> {
        self.0.splitn(6, |piece| *piece == Piece::Char(':')).map(|pieces| Self(pieces.to_vec())).collect()
    }
}
