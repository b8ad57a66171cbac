//! Every key of every section, misspelled by one letter: the report must name the key that was meant.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;

use dh_blueprint::{Blueprint, Code, Problem, Report, template};

/// A key, or the kind of a section, and where it stands in the text.
struct Word {
    at: usize,
    length: usize,
    section: bool,
}

impl Word {
    fn of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.at..self.at + self.length).unwrap()
    }

    /// The text with `bad` in its place.
    fn replaced(&self, text: &str, bad: &str) -> String {
        format!("{}{bad}{}", text.get(..self.at).unwrap(), text.get(self.at + self.length..).unwrap())
    }
}

/// Words of the text: what stands before ` = ` at the start of a line or inside braces, and the kind in a header. Names that
/// are free (`[pool.NAME]`, variables of `env`) are no keys.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(header) = line.strip_prefix('[') {
            let length = header.find(['.', ']']).unwrap();
            words.push(Word { at: start + 1, length, section: true });
        } else if !line.starts_with('#') {
            for (end, _) in line.match_indices(" = ") {
                let from = line.get(..end).unwrap().rfind([' ', '{']).map_or(0, |at| at + 1);
                let free = line.starts_with("env") || line.starts_with("numbers");
                if !free || from == 0 {
                    words.push(Word { at: start + from, length: end - from, section: false });
                }
            }
        }
        start += line.len();
    }
    words
}

/// `good` with the letter at `at` doubled, dropped, changed, and swapped with the next.
fn misspelled(good: &str, at: usize) -> BTreeSet<String> {
    let (before, rest) = good.split_at(at);
    let (letter, after) = rest.split_at(1);
    let mut bad = BTreeSet::from([
        format!("{before}{letter}{rest}"),
        format!("{before}{after}"),
        format!("{before}q{after}"),
        format!("{before}{}{letter}{}", after.get(..1).unwrap_or(""), after.get(1..).unwrap_or("")),
    ]);
    // Of one or two letters too little is left.
    bad.retain(|bad| bad != good && bad.len() > 2);
    bad
}

/// Misspelled words of the reference, a different letter of each: what was meant, what is written, the report.
fn reports(section: bool, mut check: impl FnMut(&str, &str, Report)) -> usize {
    let text = template("reference").unwrap();
    let mut count = 0;
    for (number, word) in words(text).iter().enumerate().filter(|(_, word)| word.section == section) {
        let good = word.of(text);
        // `nodes` without its s is another key.
        for bad in misspelled(good, number % good.len()).into_iter().filter(|bad| bad != "node") {
            count += 1;
            match Blueprint::parse("hall.toml", &word.replaced(text, &bad)) {
                Ok(_) => panic!("`{bad}` for `{good}` was accepted"),
                Err(report) => check(good, &bad, report),
            }
        }
    }
    count
}

/// The key that the hint names.
fn meant(problem: &Problem) -> &str {
    let hint = problem.hint.as_deref().unwrap_or_default();
    hint.strip_prefix("did you mean `").and_then(|hint| hint.strip_suffix("`?")).unwrap_or_default()
}

/// The key alone is reported as unknown; beside it at most what it would have said is missing.
#[test]
fn a_key_misspelled_by_one_letter_is_named() {
    let mut other = BTreeSet::new();
    let tried = reports(false, |good, bad, report| {
        let (unknown, beside): (Vec<_>, Vec<_>) =
            report.problems.iter().partition(|problem| problem.code == Code::UNKNOWN_KEY);
        assert_eq!(unknown.len(), 1, "{report}");
        assert_eq!(unknown[0].message, format!("unknown key `{bad}`"));
        if meant(unknown[0]) != good {
            // Another key that is as near.
            let distance = strsim::damerau_levenshtein(bad, meant(unknown[0]));
            assert_eq!(distance, 1, "{bad} for {good}: {report}");
            other.insert(good.to_owned());
        }
        for problem in beside {
            let about = problem.message.contains(&format!("`{good}`"));
            // An item without its base lacks whatever it does not say itself.
            let about = about || (good == "base" && problem.code == Code::MISSING_KEY);
            let about_it = [Code::MISSING_KEY, Code::ONE_OF, Code::ELSEWHERE].contains(&problem.code) && about;
            assert!(about_it, "{bad} for {good}: {report}");
        }
    });
    assert!(tried > 500, "{tried}");
    // `nods` may be `node`, and `pice` may be `pcie`.
    let known = BTreeSet::from(["nodes".to_owned(), "price".to_owned()]);
    assert!(other.is_subset(&known), "{other:?}");
}

#[test]
fn a_section_misspelled_by_one_letter_is_named() {
    let tried = reports(true, |good, bad, report| {
        let named = |problem: &Problem| problem.code == Code::UNKNOWN_SECTION && meant(problem) == good;
        assert!(report.problems.iter().any(named), "{bad} for {good}: {report}");
    });
    assert!(tried > 80, "{tried}");
}
