//! `datahall catalog [KIND] [NAME]`: hardware and models that a blueprint may name, every number with its source.

use std::path::PathBuf;

use clap::Args;
use dh_blueprint::{Catalog as Items, Field, Kind as ItemKind};
use dh_core::Kind;
use serde::Serialize;

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Catalog {
    /// accelerator, nic, switch, cable, link, drive, node or model
    kind: Option<String>,
    /// One item of that kind
    name: Option<String>,
    /// Show what this blueprint adds or overrides, too
    #[arg(long, value_name = "BLUEPRINT")]
    with: Option<PathBuf>,
}

#[derive(Serialize)]
struct Kinds {
    kinds: Vec<Count>,
}

#[derive(Serialize)]
struct Count {
    kind: &'static str,
    items: usize,
}

#[derive(Serialize)]
struct Listed {
    kind: &'static str,
    items: Vec<std::collections::BTreeMap<&'static str, String>>,
}

#[derive(Serialize)]
struct One<'a> {
    kind: &'static str,
    name: &'a str,
    fields: Vec<Field>,
}

impl Verb for Catalog {
    const NAME: &'static str = "catalog";
    const ABOUT: &'static str = "Show the hardware and models that a blueprint may name, with sources";
    const AFTER: &'static str = "Examples:\n  datahall catalog\n  datahall catalog node\n  datahall catalog accelerator h100-80gb-sxm\nA blueprint adds or changes items: [catalog.node.my-node] with base = \"dgx-h100\" and what differs.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let items = match &self.with {
            Some(path) => blueprint_file::load(path)?.catalog,
            None => Items::default(),
        };
        let Some(word) = &self.kind else { return kinds(&items, globals).map(|()| 0) };
        let kind = ItemKind::from_word(word).ok_or_else(|| {
            let known: Vec<&str> = ItemKind::ALL.iter().map(|kind| kind.word()).collect();
            Failure::new(Kind::NotFound, format!("the catalogue has no kind `{word}`"))
                .hint(format!("there is {}", known.join(", ")))
        })?;
        match &self.name {
            Some(name) => one(&items, kind, name, globals)?,
            None => list(&items, kind, globals)?,
        }
        Ok(0)
    }
}

fn kinds(items: &Items, globals: &Globals) -> Result<(), Failure> {
    let kinds: Vec<Count> =
        ItemKind::ALL.iter().map(|kind| Count { kind: kind.word(), items: items.names(*kind).len() }).collect();
    if globals.output.is_data() {
        return output::versioned(&Kinds { kinds });
    }
    let mut table = Table::new(&[("KIND", Side::Left), ("ITEMS", Side::Right)]);
    for count in &kinds {
        table.row([count.kind.to_owned(), count.items.to_string()]);
    }
    table.lines().iter().for_each(output::line);
    Ok(())
}

fn list(items: &Items, kind: ItemKind, globals: &Globals) -> Result<(), Failure> {
    let summary = items.summary(kind);
    if globals.output.is_data() {
        let items = summary.rows.iter().map(|row| summary.columns.iter().copied().zip(row.iter().cloned()).collect());
        return output::versioned(&Listed { kind: kind.word(), items: items.collect() });
    }
    let heads: Vec<String> = summary.columns.iter().map(|column| column.to_uppercase().replace('_', " ")).collect();
    let heads: Vec<(&str, Side)> = heads.iter().map(|head| (head.as_str(), Side::Left)).collect();
    let mut table = Table::new(&heads);
    for row in summary.rows {
        table.row(row);
    }
    table.lines().iter().for_each(output::line);
    Ok(())
}

fn one(items: &Items, kind: ItemKind, name: &str, globals: &Globals) -> Result<(), Failure> {
    let fields = items.describe(kind, name).ok_or_else(|| {
        let failure = Failure::new(Kind::NotFound, format!("the catalogue has no {kind} `{name}`"));
        match items.nearest(kind, name) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint(format!("`datahall catalog {kind}` lists them")),
        }
    })?;
    if globals.output.is_data() {
        return output::versioned(&One { kind: kind.word(), name, fields });
    }
    let mut table = Table::new(&[(name, Side::Left), ("", Side::Left), ("", Side::Left)]);
    for field in fields {
        table.row([field.key.to_owned(), field.value, output::dim(field.source.unwrap_or_default())]);
    }
    table.lines().iter().for_each(output::line);
    Ok(())
}
