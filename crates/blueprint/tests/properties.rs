//! What must hold for every text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use dh_blueprint::{Blueprint, Code, TEMPLATES};
use proptest::prelude::*;

fn never_panics(text: &str) -> Result<(), TestCaseError> {
    if let Err(report) = Blueprint::parse("hall.toml", text) {
        prop_assert!(!report.problems.is_empty());
        let rendered = report.render();
        prop_assert!(rendered.chars().all(|c| c == '\n' || !c.is_control()), "{rendered:?}");
        prop_assert!(serde_json::to_string(&report).is_ok());
        for problem in &report.problems {
            prop_assert!(text.get(problem.span.start..problem.span.end).is_some());
        }
    }
    Ok(())
}

/// Values that some key or other takes, and some that none does.
const VALUES: &[&str] = &[
    "0",
    "1",
    "2",
    "8",
    "4096",
    "0.5",
    "true",
    "[]",
    "{}",
    "[1]",
    "{ a = 1 }",
    "2020-01-01",
    "'''\n\n'''",
    "[\"a\"]",
    "[4, 4, 8]",
    "[\"pool.a\", \"internet\"]",
    "[{ to = \"a\", ports = [\"443/tcp\"], why = \"x\" }]",
    "{ cooling = 0.2, other = 1 }",
    "{ value = 8, source = \"s\" }",
    "\"\"",
    "\"main\"",
    "\"a\"",
    "\"workload:a\"",
    "\"http://a\"",
    "\"0.0.0.0\"",
    "\"8+3\"",
    "\"train\"",
    "\"command\"",
    "\"pretrain\"",
    "\"dense-2-2\"",
    "\"llama-3-8b\"",
    "\"fp8\"",
    "\"rail\"",
    "\"fat-tree\"",
    "\"k-ary\"",
    "\"rail-only\"",
    "\"dragonfly\"",
    "\"dragonfly-plus\"",
    "\"torus\"",
    "\"storage\"",
    "\"qm9700\"",
    "\"dgx-h100\"",
    "\"cpu-storage\"",
    "\"h100-80gb-sxm\"",
    "\"tpu-v5p\"",
    "\"10 GB\"",
    "\"65 W\"",
    "\"9 kW\"",
    "\"400 Gb/s\"",
    "\"7 GB/s\"",
    "\"4 M tokens\"",
    "\"90 min\"",
    "\"$5\"",
    "\"$0.1/kWh\"",
    "\"30 g/kWh\"",
    "\"0 s\"",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| if number.is_finite() { format!("{number:e}") } else { "nan".to_owned() }),
        6 => prop::sample::select(VALUES).prop_map(str::to_owned),
        1 => "[a-z0-9 .:/-]{0,12}".prop_map(|text| format!("\"{text}\"")),
    ]
}

/// Headers of every kind of section, and some that are none.
const HEADERS: &[&str] = &[
    "[site.main]",
    "[site.b]",
    "[pool.a]",
    "[pool.b]",
    "[fabric.compute]",
    "[fabric.storage]",
    "[fabric.x]",
    "[store.main]",
    "[store.b]",
    "[queue.default]",
    "[queue.b]",
    "[zone.a]",
    "[[zone.a.allow]]",
    "[zone.b]",
    "[workload.a]",
    "[workload.b]",
    "[workload.c]",
    "[service.a]",
    "[service.b]",
    "[policy]",
    "[policy.predict]",
    "[policy.stretch]",
    "[policy.health]",
    "[edge.a]",
    "[target]",
    "[catalog.node.mine]",
    "[catalog.accelerator.h200-141gb-sxm]",
    "[catalog.switch.mine]",
    "[catalog.model.mine]",
    "[site.main.pue_split]",
    "[[pool]]",
    "[pool]",
    "[a.b.c]",
];

/// A section with keys that it has and a few that it has not, each with any value.
fn section() -> impl Strategy<Value = String> {
    prop::sample::select(HEADERS).prop_flat_map(|header| {
        let kind = header.trim_matches(['[', ']']).split('.').next().unwrap_or_default();
        let all = dh_blueprint::paths();
        let mut own: Vec<String> =
            all.iter().filter_map(|path| path.strip_prefix(&format!("{kind}."))).map(str::to_owned).collect();
        own.extend(["base", "source", "rated", "accelerators", "ports", "x", "\"\u{7f}é\""].map(str::to_owned));
        let line = (prop::sample::select(own), value()).prop_map(|(key, value)| format!("{key} = {value}\n"));
        // Keys that are written twice end the reading at once.
        let lines = prop::collection::btree_map(0..100_u8, line, 0..8);
        lines.prop_map(move |lines| {
            let mut seen = std::collections::BTreeSet::new();
            let new = lines.into_values().filter(|line| seen.insert(line.split(" = ").next().map(str::to_owned)));
            format!("{header}\n{}", new.collect::<String>())
        })
    })
}

/// The start of a file that is right, and sections that are nearly right, so that the readers behind the TOML parser are
/// reached.
fn nearly_right() -> impl Strategy<Value = String> {
    prop::collection::vec(section(), 0..6).prop_map(|sections| {
        let mut seen = std::collections::BTreeSet::new();
        let new = sections
            .into_iter()
            .filter(|one| one.starts_with("[[") || seen.insert(one.lines().next().map(str::to_owned)));
        "schema = 1\nname = \"lab\"\n".to_owned() + &new.collect::<String>()
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        never_panics(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        never_panics(&text)?;
    }

    #[test]
    fn no_nearly_right_file_panics(text in nearly_right()) {
        never_panics(&text)?;
        let whole = text + "[pool.whole]\nnodes = 2\n[site.whole]\n";
        never_panics(&whole)?;
        printed_reads_back(&whole)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Bytes of good files that are changed, dropped or doubled.
    #[test]
    fn no_damaged_template_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6)) {
        for (_, text) in TEMPLATES {
            let mut bytes = text.as_bytes().to_vec();
            for (place, byte, kind) in &edits {
                let at = place.index(bytes.len());
                match kind {
                    0 => { bytes.remove(at); }
                    1 => bytes.insert(at, *byte),
                    _ => { if let Some(old) = bytes.get_mut(at) { *old = *byte; } }
                }
            }
            never_panics(&String::from_utf8_lossy(&bytes))?;
        }
    }

    /// Values of good files in place of each other: what is TOML still, and reaches the checks between keys.
    #[test]
    fn no_template_with_other_values_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), value()), 1..4)) {
        for (_, text) in TEMPLATES {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let keyed: Vec<usize> = (0..lines.len()).filter(|at| lines.get(*at).is_some_and(|line| line.contains(" = "))).collect();
            for (place, value) in &changes {
                let line = lines.get_mut(*place.get(&keyed)).unwrap();
                let key = line.split(" = ").next().unwrap_or_default();
                *line = format!("{key} = {value}");
            }
            let text = lines.join("\n");
            never_panics(&text)?;
            printed_reads_back(&text)?;
        }
    }
}

/// Some lines of the reference left out, some numbers changed: what is still a blueprint is printed and read as the same.
fn printed_reads_back(text: &str) -> Result<bool, TestCaseError> {
    let Ok(settings) = Blueprint::parse("hall.toml", text) else { return Ok(false) };
    let printed = settings.to_toml();
    let again = Blueprint::parse("printed.toml", &printed);
    prop_assert!(again.as_ref().is_ok_and(|again| *again == settings), "{again:?}\n{printed}");
    let effective = Blueprint::effective("hall.toml", text, |_, _| Err(String::new()));
    let again = effective.as_ref().ok().map(|text| Blueprint::parse("effective.toml", text));
    prop_assert!(again.is_some_and(|again| again.is_ok_and(|again| again == settings)), "{effective:?}");
    Ok(true)
}

#[test]
fn every_template_is_printed_and_read_as_the_same() {
    for (name, text) in TEMPLATES {
        assert!(printed_reads_back(text).unwrap(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_is_printed_reads_back(
        which in 0..TEMPLATES.len(),
        drop in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        change in prop::collection::vec((any::<prop::sample::Index>(), 0..2_000_u32, 0..4_u32), 0..6),
    ) {
        let text = TEMPLATES.get(which).unwrap().1;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (place, number, part) in change {
            let at = place.index(lines.len());
            if let Some((key, value)) = lines.get(at).and_then(|line| line.split_once(" = ")) {
                let digits: String = value.chars().filter(char::is_ascii_digit).collect();
                if !digits.is_empty() && !value.starts_with(['[', '{']) && key != "schema" {
                    let new = if part == 0 { number.to_string() } else { format!("{number}.{part}") };
                    let unit = value.rsplit_once(' ').map_or("", |(_, unit)| unit);
                    let changed = if unit.is_empty() { new } else { format!("\"{new} {unit}") };
                    lines[at] = format!("{key} = {changed}");
                }
            }
        }
        for place in drop {
            let at = place.index(lines.len());
            lines.remove(at);
        }
        printed_reads_back(&lines.join("\n"))?;
    }
}

#[test]
fn a_file_beyond_the_limit_is_refused_unread() {
    let text = "#".repeat((1 << 20) + 1);
    let report = Blueprint::parse("hall.toml", &text).unwrap_err();
    assert_eq!(report.problems.first().unwrap().code, Code::TOO_LARGE);
    assert!(report.render().len() < 1_000);
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    never_panics(&format!("a = {}", "[".repeat(100_000))).unwrap();
    never_panics(&format!("a = {}", "{a=".repeat(100_000))).unwrap();
    never_panics(&format!("[{}a]", "a.".repeat(100_000))).unwrap();
}

#[test]
fn thousands_of_problems_are_counted_and_the_first_shown() {
    let keys = (0..5_000).map(|number| format!("key{number} = 1")).collect::<Vec<_>>().join("\n");
    let report =
        Blueprint::parse("hall.toml", &format!("schema = 1\nname = \"lab\"\n[pool.a]\nnodes = 1\n{keys}")).unwrap_err();
    assert_eq!((report.problems.len(), report.more), (100, 4_900));
}

/// The largest files that refer to each other as badly as possible; they end in about a second, not in hours.
#[test]
fn the_largest_files_are_read_in_bounded_time() {
    let queues: String = (0..4_000).fold(String::new(), |text, number| text + &format!("[queue.q{number}x]\n"));
    let jobs: String =
        (0..4_000).fold(String::new(), |text, number| text + &format!("[workload.w{number}]\nqueue=\"q{number}y\"\n"));
    let report = Blueprint::parse("hall.toml", &format!("{queues}{jobs}")).unwrap_err();
    assert!(report.more > 4_000);
    let many: String = (0..80_000).fold(String::new(), |text, number| text + &format!("[pool.{number}]\n"));
    let text = many.get(..1 << 20).unwrap_or(&many);
    assert!(Blueprint::parse("hall.toml", text).is_err());
    let keys: String = (0..70_000).fold(String::new(), |text, number| text + &format!("k{number}=1\n"));
    let report = Blueprint::parse("hall.toml", &format!("[workload.a]\nkind=\"command\"\n[workload.a.env]\n{keys}"))
        .unwrap_err();
    assert!(report.more > 60_000);
}
