//! Names: which are allowed, and which one was probably meant.

/// Characters of a name; a DNS label has the same bound.
const NAME_MAX: usize = 63;

/// Known names that one misspelled name is compared with.
const COMPARED_MAX: usize = 256;

/// Whether `name` is kebab-case: starts with a letter, single hyphens only inside.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// `text` made into a name, if anything of it can be kept.
pub(crate) fn as_name(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    // What is left of a name without its letters says nothing.
    if lower.chars().any(|c| c.is_alphabetic() && !c.is_ascii()) {
        return None;
    }
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").chars().take(NAME_MAX).collect();
    let name = name.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()).trim_end_matches('-');
    is_name(name).then(|| name.to_owned())
}

/// The known name that `written` is nearest to, if it is near enough to have been meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Beyond this a comparison costs more than the hint is worth.
    if written.len() > 2 * NAME_MAX {
        return None;
    }
    let lower = written.to_lowercase();
    known
        .into_iter()
        .take(COMPARED_MAX)
        // Of two that are equally near, the one that is as long.
        .map(|name| (strsim::damerau_levenshtein(&lower, name), name.len().abs_diff(lower.len()), name))
        .filter(|(distance, _, name)| {
            let shorter = name.chars().count().min(lower.chars().count());
            // One letter for another is another name.
            *distance <= 1.max(shorter / 3) && *distance < shorter
        })
        .min()
        .map(|(.., name)| name)
}

/// Known names that `written` is the start of, or that start it: `h100` of `h100-80gb-sxm`.
fn begun<'a>(written: &str, known: &[&'a str]) -> Vec<&'a str> {
    let lower = written.to_lowercase();
    let near =
        |name: &&&str| (lower.len() >= 3 && name.starts_with(&lower)) || (name.len() >= 4 && lower.starts_with(**name));
    known.iter().take(COMPARED_MAX).filter(near).copied().collect()
}

/// `a, b or c`.
pub(crate) fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}

/// "did you mean `x`?" or a list of what there is.
pub(crate) fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str>, what: &str) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = nearest(written, known.iter().copied()) {
        return format!("did you mean `{name}`?");
    }
    let begun: Vec<String> = begun(written, &known).into_iter().map(|name| format!("`{name}`")).collect();
    if (1..=4).contains(&begun.len()) {
        return format!("did you mean {}?", either(&begun));
    }
    match known.len() {
        0 => format!("no {what} is described"),
        1..=12 => format!("known: {}", known.join(", ")),
        more => {
            format!("known: {}, and {} more", known.iter().take(12).copied().collect::<Vec<_>>().join(", "), more - 12)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case() {
        for good in ["a", "first-hall", "a1", "x9-y"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "A", "1a", "a-", "-a", "a--b", "a_b", "é", "a b", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(as_name("First Hall"), Some("first-hall".to_owned()));
        assert_eq!(as_name("My_Lab 2"), Some("my-lab-2".to_owned()));
        assert_eq!(as_name("7 Labs-"), Some("labs".to_owned()));
        assert_eq!(as_name("Größe"), None);
        assert_eq!(as_name("???"), None);
    }

    #[test]
    fn a_name_that_is_only_begun_is_completed() {
        let known = ["h100-80gb-pcie", "h100-80gb-sxm", "h200-141gb-sxm", "rail"];
        assert_eq!(suggestion("h100", known, "node"), "did you mean `h100-80gb-pcie` or `h100-80gb-sxm`?");
        assert_eq!(suggestion("Rail-Optimised", known, "node"), "did you mean `rail`?");
        assert_eq!(
            suggestion("h", known, "node"),
            "known: h100-80gb-pcie, h100-80gb-sxm, h200-141gb-sxm, rail",
            "one letter begins too much"
        );
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_near() {
        let known = ["epochs", "batch", "seed"];
        assert_eq!(nearest("epoch", known), Some("epochs"));
        assert_eq!(nearest("BATCH", known), Some("batch"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("sead", known), Some("seed"));
        assert_eq!(nearest("b", ["a", "bb"]), None);
    }
}
