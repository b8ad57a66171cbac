//! Every file of `broken/` is a blueprint with mistakes; beside it stands the report it must get. To accept changed
//! reports after reading them: `UPDATE_EXPECT=1 cargo test --release -p dh-blueprint --test broken`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and this one reads its cases from files"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dh_blueprint::{Blueprint, Code, Report, codes};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

fn report(path: &Path) -> Report {
    let text = std::fs::read_to_string(path).unwrap();
    // Bases lie in a folder beside the files; whatever path is written, only there.
    let bases = path.parent().unwrap().join("bases");
    let load = |_: &str, base: &str| {
        let text = std::fs::read_to_string(bases.join(base)).map_err(|error| error.kind().to_string())?;
        Ok((base.to_owned(), text))
    };
    match Blueprint::parse_with("hall.toml", &text, load) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(report) => report,
    }
}

#[test]
fn every_broken_blueprint_gets_its_report() {
    let files = files();
    assert!(files.len() >= 60);
    for path in files {
        let expected = path.with_extension("expected");
        expect_test::expect_file![expected].assert_eq(&(report(&path).render() + "\n"));
    }
}

#[test]
fn every_code_is_shown_by_some_file() {
    let shown: BTreeSet<Code> =
        files().iter().flat_map(|path| report(path).problems).map(|problem| problem.code).collect();
    let missing: Vec<String> = codes()
        .map(|(code, _)| code)
        .filter(|code| *code != Code::TOO_LARGE && !shown.contains(code))
        .map(|code| code.to_string())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_problem_has_a_place_inside_the_text() {
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        for problem in report(&path).problems.into_iter().filter(|problem| problem.file == "hall.toml") {
            let slice = text.get(problem.span.start..problem.span.end);
            assert!(slice.is_some(), "{}: {problem:?}", path.display());
            let line = text.get(..problem.span.start).unwrap().matches('\n').count() + 1;
            assert_eq!(problem.line, line, "{}: {problem:?}", path.display());
        }
    }
}
