//! Writes the page of a template to standard output: `cargo run -p dh-plan --example page -- su127 > su127.html`.

use std::io::Write;

use dh_blueprint::{Blueprint, template};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("name a template")?;
    let text = template(&name).ok_or("there is no such template")?;
    let (settings, origins) = Blueprint::read("hall.toml", text, |_, _| Err("a template has no base".to_owned()))
        .map_err(|report| report.to_string())?;
    let plan = dh_plan::plan(&settings, &origins)?;
    std::io::stdout().write_all(dh_plan::page::html(&plan, &settings).as_bytes())?;
    Ok(())
}
