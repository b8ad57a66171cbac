//! `datahall explain`: an error code, what a key of a blueprint means, or a whole blueprint with every default.

use std::path::PathBuf;

use clap::Args;
use dh_blueprint::{Blueprint, KeyDoc};
use dh_core::Kind;
use serde::Serialize;

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A code such as DH0103, or a section or key of a blueprint such as `pool` or `pool.nodes`; all sections if left out
    what: Option<String>,
    /// Print a blueprint with its bases merged in and every default written out
    #[arg(long, value_name = "BLUEPRINT", num_args = 0..=1, conflicts_with = "what")]
    #[expect(clippy::option_option, reason = "a flag, with a value or without")]
    effective: Option<Option<PathBuf>>,
}

#[derive(Serialize)]
struct Documented {
    keys: Vec<Key>,
}

#[derive(Serialize)]
struct Key {
    path: String,
    takes: String,
    required: bool,
    words: String,
}

impl Verb for Explain {
    const NAME: &'static str = "explain";
    const ABOUT: &'static str = "Explain an error code, a key of a blueprint, or every default of one";
    const AFTER: &'static str = "Examples:\n  datahall explain DH0103\n  datahall explain fabric\n  datahall explain pool.train.load\n  datahall explain --effective hall.toml";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        if let Some(file) = &self.effective {
            let path = blueprint_file::path(globals, file.as_deref());
            let text = blueprint_file::read(&path)?;
            let name = path.display().to_string();
            let whole = Blueprint::effective(&name, &text, blueprint_file::base)
                .map_err(|report| blueprint_file::reported(&name, &report))?;
            output::piece(whole);
            return Ok(0);
        }
        let Some(what) = &self.what else { return keys(sections(), globals) };
        if let Some(text) = dh_blueprint::explain(&what.to_ascii_uppercase()) {
            output::line(text.trim_end());
            return Ok(0);
        }
        let found = dh_blueprint::explain_path(what);
        if found.is_empty() {
            return Err(unknown(what));
        }
        keys(found, globals)
    }
}

/// The lines at the top of a blueprint: every section there is.
fn sections() -> Vec<KeyDoc> {
    [
        "schema", "name", "base", "site", "pool", "fabric", "store", "queue", "zone", "workload", "service", "policy",
        "edge", "target", "catalog",
    ]
    .iter()
    .flat_map(|section| {
        let found = dh_blueprint::explain_path(section);
        found.into_iter().take(1)
    })
    .collect()
}

fn unknown(what: &str) -> Failure {
    let looks_like_code =
        what.to_ascii_uppercase().starts_with("DH") && what.chars().skip(2).all(|c| c.is_ascii_digit());
    if looks_like_code {
        return Failure::new(Kind::NotFound, format!("there is no code `{what}`"))
            .hint("codes look like DH0103 and stand in brackets in the reports of `datahall check`");
    }
    let failure = Failure::new(Kind::NotFound, format!("a blueprint has no section or key `{what}`"));
    let paths = dh_blueprint::paths();
    let last = what.rsplit('.').next().unwrap_or(what);
    let same: Vec<&str> =
        paths.iter().filter(|path| path.rsplit('.').next() == Some(last)).map(String::as_str).collect();
    if same.is_empty() {
        failure.hint("`datahall explain` lists the sections, `datahall explain pool` the keys of one")
    } else {
        failure.hint(format!("did you mean {}?", same.join(" or ")))
    }
}

fn keys(found: Vec<KeyDoc>, globals: &Globals) -> Result<u8, Failure> {
    if globals.output.is_data() {
        let key = |doc: KeyDoc| Key { path: doc.path, takes: doc.takes, required: doc.required, words: doc.words };
        output::versioned(&Documented { keys: found.into_iter().map(key).collect() })?;
        return Ok(0);
    }
    if let [one] = found.as_slice() {
        output::line(format!("{}  {}", output::bold(&one.path), output::dim(&one.takes)));
        output::line(&one.words);
        return Ok(0);
    }
    let mut table = Table::new(&[("KEY", Side::Left), ("", Side::Left), ("", Side::Left)]);
    for doc in &found {
        let takes = if doc.required { format!("{}, needed", doc.takes) } else { doc.takes.clone() };
        let takes: String =
            if takes.chars().count() > 60 { takes.chars().take(59).chain(['…']).collect() } else { takes };
        table.row([doc.path.clone(), output::dim(takes), doc.words.clone()]);
    }
    table.lines().iter().for_each(output::line);
    Ok(0)
}
