//! Style that a machine can check: file sizes, words, headers, what must not be in a repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::gate::root;

/// Beyond this a hand-written file wants a seam.
const FILE_LINES_MAX: usize = 600;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// Marks of unfinished work.
const UNFINISHED: &[&str] = &["FIXME", "XXX", "HACK", "TODO", "unimplemented!("];

pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let mut faults = Vec::new();
    for file in tracked(&root)? {
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else { continue };
        if file.extension().is_some_and(|extension| extension == "rs") {
            check_rust(&file, &text, &mut faults);
        }
        check_any(&file, &text, &mut faults);
    }
    for needed in ["README.md", "README.zh.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"] {
        if !root.join(needed).is_file() {
            faults.push(format!("{needed} is missing"));
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("tidy:\n  {}", faults.join("\n  ")) }
}

fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    let names = String::from_utf8_lossy(&output.stdout);
    let files: Vec<PathBuf> = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    if files.is_empty() {
        bail!("git lists no file; run this inside a clone");
    }
    Ok(files)
}

fn check_rust(file: &Path, text: &str, faults: &mut Vec<String>) {
    let shown = file.display();
    let lines = text.lines().count();
    let long_test = file.components().any(|part| part.as_os_str() == "tests");
    if lines > FILE_LINES_MAX && !long_test {
        faults.push(format!("{shown} has {lines} lines; look for a seam below {FILE_LINES_MAX}"));
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        faults.push(format!("{shown}: `{stem}` says nothing; name the file for what is in it"));
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        faults.push(format!("{shown} has no header that says what it is for"));
    }
    let in_xtask = file.starts_with("xtask");
    for (number, line) in text.lines().enumerate() {
        if let Some(mark) = UNFINISHED.iter().find(|mark| line.contains(**mark))
            && !in_xtask
        {
            faults.push(format!("{shown}:{}: `{mark}`: finish it or open an issue", number + 1));
        }
    }
}

fn check_any(file: &Path, text: &str, faults: &mut Vec<String>) {
    let shown = file.display();
    for (number, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t']) && file.extension().is_none_or(|extension| extension != "md") {
            faults.push(format!("{shown}:{}: trailing white space", number + 1));
        }
        if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
            faults.push(format!("{shown}:{}: a conflict mark", number + 1));
        }
    }
}
