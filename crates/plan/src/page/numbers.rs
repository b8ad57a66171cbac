//! Every number of the plan: what it is, how it was computed, from which others, or where it comes from.

use std::collections::BTreeMap;

use dh_units::Number;

use super::frame::{Subject, shown};
use super::svg::escape;

pub(crate) fn section(subject: Subject<'_>) -> String {
    let numbers = subject.plan.ledger.numbers();
    let mut order: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&Number>> = BTreeMap::new();
    for number in numbers {
        let name = group(&number.id);
        let members = groups.entry(name).or_default();
        if members.is_empty() {
            order.push(name);
        }
        members.push(number);
    }
    let mut text = format!(
        "<p>{} numbers. Each was given, and says by whom, or computed from others that are in this table too. \
         <code>datahall plan --why ID</code> follows one down to its sources.</p>\
         <div class=\"filter\" hidden><label for=\"filter\">Show those with</label>\
         <input id=\"filter\" type=\"search\" placeholder=\"power rated\"><span id=\"found\" role=\"status\"></span></div>\
         <div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"All numbers\"><table id=\"numbers-table\">\
         <caption>All numbers, in groups, each group in the order in which it was computed</caption><thead><tr>\
         <th scope=\"col\">Id</th><th scope=\"col\">What</th><th scope=\"col\" class=\"r\">Value</th>\
         <th scope=\"col\">Formula or source</th><th scope=\"col\">Computed from</th></tr></thead>",
        numbers.len()
    );
    for name in order {
        let Some(members) = groups.get(name) else { continue };
        put!(
            text,
            "<tbody><tr class=\"group\"><th colspan=\"5\" scope=\"rowgroup\">{} ({})</th></tr>\n",
            escape(name),
            members.len()
        );
        for number in members {
            row(&mut text, number);
        }
        text.push_str("</tbody>");
    }
    text.push_str("</table></div>");
    text
}

/// The group of an id: its first word, and the second where the first holds many things.
fn group(id: &str) -> &str {
    let first = id.find('.').unwrap_or(id.len());
    let several = matches!(id.get(..first), Some("network" | "training" | "storage"));
    let second = id.get(first + 1..).and_then(|rest| rest.find('.')).map_or(id.len(), |dot| first + 1 + dot);
    id.get(..if several { second } else { first }).unwrap_or(id)
}

fn row(text: &mut String, number: &Number) {
    let id = escape(&number.id);
    let how = match &number.source {
        Some(source) => source,
        None => &number.formula,
    };
    put!(
        text,
        "<tr id=\"{id}\"><th scope=\"row\" class=\"id\">{id}</th><td>{}</td><td class=\"r\">{}</td><td>{}</td><td class=\"in\">",
        escape(&number.title),
        escape(shown(&number.value)),
        escape(how)
    );
    for (place, input) in number.inputs.iter().enumerate() {
        let input = escape(input);
        put!(text, "{}<a href=\"#{input}\">{input}</a>", if place > 0 { " " } else { "" });
    }
    text.push_str("</td></tr>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_with_their_like() {
        for (id, name) in [
            ("power.main.rated", "power"),
            ("network.compute.leaf", "network.compute"),
            ("training.llm.failures.rate.nic", "training.llm"),
            ("failures", "failures"),
        ] {
            assert_eq!(group(id), name, "{id}");
        }
    }
}
