//! `docs/accuracy.md` and its pictures say what the code produces. `cargo xtask accuracy` writes them through this test.
//!
//! `DATAHALL_ACCURACY=write` writes instead of comparing; `held-out` also fits again without each source, which takes minutes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::expect_fun_call,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "a test reads files and fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dh_accuracy::report::{BEGIN, END, Judged, Part, Words, between, document, held_out_toml, judged, pictures};
use dh_accuracy::{Error, SUBJECTS, Validation};
use dh_blueprint::Catalog;

const STALE: &str = "is not what the code produces; run `cargo xtask accuracy` and commit what it writes";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn toml<T: serde::de::DeserializeOwned + Default>(name: &str) -> T {
    let path = root().join("docs/accuracy").join(name);
    fs::read_to_string(&path).map_or_else(|_| T::default(), |text| toml_edit::de::from_str(&text).expect(name))
}

fn published(subject: &str) -> String {
    let path = root().join(format!("data/published/{subject}.csv"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn held_out() -> String {
    let mut figures: Vec<(&str, Judged)> = Vec::new();
    for subject in SUBJECTS {
        let step = |source: &str| eprintln!("{}: without {source}", subject.word());
        match subject.calibrate(&Catalog::default(), &published(subject.word()), &step) {
            Ok(calibration) => figures.push((subject.word(), judged(&calibration.held_out))),
            Err(Error::Nothing(why)) => eprintln!("{}: {why}", subject.word()),
            Err(error) => panic!("{}: {error}", subject.word()),
        }
    }
    held_out_toml(&figures)
}

/// Every generated file but the held-out figures: its path below `docs`, and its text.
fn generated() -> BTreeMap<String, String> {
    let catalog = Catalog::default();
    let validations: Vec<Validation> = SUBJECTS
        .iter()
        .map(|subject| subject.validate(&catalog, &published(subject.word())).expect(subject.word()))
        .collect();
    let words = Words { why: toml("why.toml"), targets: toml("targets.toml"), held_out: toml("held-out.toml") };
    let mut files = BTreeMap::new();
    let mut shown = Vec::new();
    for (subject, validation) in SUBJECTS.iter().zip(&validations) {
        let mut names = Vec::new();
        for picture in pictures(subject.word(), validation) {
            assert!(picture.svg.len() < 150_000, "{} has {} bytes", picture.file, picture.svg.len());
            names.push((format!("accuracy/{}", picture.file), picture.title));
            files.insert(format!("accuracy/{}", picture.file), picture.svg);
        }
        shown.push(names);
    }
    let parts: Vec<Part<'_>> = SUBJECTS
        .iter()
        .zip(&validations)
        .zip(&shown)
        .map(|((subject, validation), pictures)| Part {
            subject: subject.word(),
            about: subject.about(),
            validation,
            pictures,
        })
        .collect();
    files.insert("accuracy.md".to_owned(), document(&parts, &words));
    files
}

#[test]
fn the_document_says_what_the_code_produces() {
    let docs = root().join("docs");
    let mode = std::env::var("DATAHALL_ACCURACY").unwrap_or_default();
    if mode == "held-out" {
        fs::create_dir_all(docs.join("accuracy")).unwrap();
        fs::write(docs.join("accuracy/held-out.toml"), held_out()).unwrap();
    }
    let files = generated();
    let committed = fs::read_to_string(docs.join("accuracy.md")).unwrap();
    if mode.is_empty() {
        let inside = between(&committed).expect("docs/accuracy.md has lost its marks");
        assert!(inside == files["accuracy.md"].trim_matches('\n'), "docs/accuracy.md {STALE}");
        for (name, text) in
            files.iter().filter(|(name, _)| Path::new(name).extension().is_some_and(|extension| extension == "svg"))
        {
            assert!(fs::read_to_string(docs.join(name)).is_ok_and(|have| have == *text), "docs/{name} {STALE}");
        }
        return;
    }
    let old = committed.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, foot) = old.expect("docs/accuracy.md has lost its marks");
    fs::write(docs.join("accuracy.md"), format!("{head}{BEGIN}\n\n{}\n{END}{foot}", files["accuracy.md"])).unwrap();
    for old in fs::read_dir(docs.join("accuracy")).unwrap().filter_map(Result::ok) {
        if old.path().extension().is_some_and(|extension| extension == "svg") {
            fs::remove_file(old.path()).unwrap();
        }
    }
    for (name, text) in
        files.iter().filter(|(name, _)| Path::new(name).extension().is_some_and(|extension| extension == "svg"))
    {
        fs::write(docs.join(name), text).unwrap();
    }
}
