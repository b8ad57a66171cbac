//! `datahall plan --why NUMBER`: a number, its formula, and the numbers it comes from, down to what was given.

use std::collections::BTreeSet;

use dh_core::Kind;
use dh_plan::Plan;
use dh_units::Number;
use serde::Serialize;

use crate::commands::Globals;
use crate::failure::Failure;
use crate::output;

/// Numbers that a part of an id may mean before they are listed instead of explained.
const FEW: usize = 12;

#[derive(Serialize)]
struct Explained<'a> {
    number: &'a Number,
    /// Every number it comes from, itself last.
    numbers: Vec<&'a Number>,
}

/// Prints what `wanted` rests on: an id, or a part of one.
pub(super) fn print(plan: &Plan, wanted: &str, globals: &Globals) -> Result<(), Failure> {
    let number = find(plan, wanted)?;
    if globals.output.is_data() {
        let mut below = BTreeSet::new();
        collect(plan, number, &mut below);
        let numbers = plan.ledger.numbers().iter().filter(|number| below.contains(number.id.as_str())).collect();
        return output::versioned(&Explained { number, numbers });
    }
    let mut shown = BTreeSet::new();
    tree(plan, number, "", "", &mut shown);
    Ok(())
}

fn find<'p>(plan: &'p Plan, wanted: &str) -> Result<&'p Number, Failure> {
    if let Some(number) = plan.ledger.get(wanted) {
        return Ok(number);
    }
    let lower = wanted.to_lowercase();
    let matches = |number: &&Number| number.id.contains(&lower) || number.title.to_lowercase().contains(&lower);
    let found: Vec<&Number> = plan.ledger.numbers().iter().filter(matches).collect();
    match found.as_slice() {
        [] => {
            let failure = Failure::new(Kind::NotFound, format!("the plan has no number `{wanted}`"));
            Err(match plan.ledger.nearest(wanted) {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure.hint("`datahall plan --basis` lists all of them"),
            })
        }
        [one] => Ok(one),
        several => {
            let mut lines: Vec<String> =
                several.iter().take(FEW).map(|number| format!("{}  ({})", number.id, number.title)).collect();
            if several.len() > FEW {
                lines.push(format!("and {} more", several.len() - FEW));
            }
            Err(Failure::new(Kind::Invalid, format!("`{wanted}` is a part of {} numbers; name one", several.len()))
                .hint(lines.join("\n      ")))
        }
    }
}

fn collect<'p>(plan: &'p Plan, number: &'p Number, below: &mut BTreeSet<&'p str>) {
    if below.insert(&number.id) {
        for input in number.inputs.iter().filter_map(|id| plan.ledger.get(id)) {
            collect(plan, input, below);
        }
    }
}

/// Draws a number and what is below it. What was drawn before is only named again.
fn tree<'p>(plan: &'p Plan, number: &'p Number, head: &str, indent: &str, shown: &mut BTreeSet<&'p str>) {
    let value = output::bold(&number.value);
    output::line(format!("{head}{}  {value}  {}", number.title, output::dim(&number.id)));
    if !shown.insert(&number.id) {
        if !number.inputs.is_empty() {
            output::line(format!("{indent}   {}", output::dim("as above")));
        }
        return;
    }
    let inputs: Vec<&Number> = number.inputs.iter().filter_map(|id| plan.ledger.get(id)).collect();
    let stem = if inputs.is_empty() { "  " } else { "│ " };
    if !number.formula.is_empty() {
        output::line(format!("{indent}{stem} = {}", number.formula));
    }
    if let Some(source) = &number.source {
        output::line(format!("{indent}{stem} {} {source}", output::dim("from")));
    }
    for (place, input) in inputs.iter().enumerate() {
        let last = place + 1 == inputs.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        tree(plan, input, &format!("{indent}{branch}"), &format!("{indent}{below}"), shown);
    }
}
