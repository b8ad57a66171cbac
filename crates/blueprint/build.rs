//! Makes the table of the catalogue's files, so that adding an item is adding a file.
//!
//! Invariant: for each folder of `catalog/` one table of (name, text), sorted by name; a file that is in the wrong place
//! or not called like an item stops the build, because it would be ignored in silence otherwise.
#![expect(clippy::disallowed_methods, reason = "a build script writes what it makes")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

/// Folders, which are the plurals of the kinds in `src/catalog/kind.rs`; a test there compares the two.
const FOLDERS: [&str; 9] =
    ["accelerators", "nics", "switches", "cables", "links", "nodes", "drives", "models", "efficiency"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=catalog");
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("catalog");
    for entry in std::fs::read_dir(&root)? {
        let entry = entry?.file_name();
        if !FOLDERS.iter().any(|folder| entry == *folder) {
            return Err(format!("catalog/{} is not the folder of a kind", entry.display()).into());
        }
    }
    let mut table = String::new();
    for folder in FOLDERS {
        println!("cargo::rerun-if-changed=catalog/{folder}");
        writeln!(table, "pub(in crate::catalog) static {}: Files = &[", folder.to_uppercase())?;
        for name in names(&root.join(folder))? {
            let file = format!("/catalog/{folder}/{name}.toml");
            writeln!(table, "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {file:?}))),")?;
        }
        writeln!(table, "];")?;
    }
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("catalogue.rs"), table)?;
    Ok(())
}

/// Names of the items of one folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let kebab = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if name.is_empty() || !kebab || path.extension().is_none_or(|extension| extension != "toml") {
            return Err(format!("{} is not called like a catalogue item: NAME.toml", path.display()).into());
        }
        names.push(name.to_owned());
    }
    names.sort();
    Ok(names)
}
