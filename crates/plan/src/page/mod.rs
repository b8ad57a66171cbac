//! The plan as one page of HTML that stands alone: pictures, tables and every number with its basis.
//!
//! The page needs nothing from outside and no script; a short one adds a box that filters the numbers. Every picture has a
//! title, a text that says what it shows, and the numbers behind it.
//!
//! Invariant: pure and deterministic; whatever comes from a blueprint or a catalogue passes `svg::escape`. Cost: once over all
//! racks and, for the drawings of networks, once over all wires.

/// Appends formatted text to a string, which never fails.
macro_rules! put {
    ($to:expr, $($text:tt)*) => {{
        use std::fmt::Write as _;
        $to.write_fmt(format_args!($($text)*)).unwrap_or_default()
    }};
}

mod cables;
mod charts;
mod clos;
mod cost;
mod dragonfly;
mod elevation;
mod fabric;
mod findings;
mod floor;
mod frame;
mod hall;
mod head;
mod layouts;
mod numbers;
mod power;
mod racks;
mod services;
mod solid;
mod style;
mod svg;
mod torus;
mod work;

use dh_blueprint::Settings;

use crate::plan::Plan;
use frame::Subject;
use svg::escape;

/// A section of the page: its anchor, its name in the list of contents, and what writes it.
type Section = (&'static str, &'static str, fn(Subject<'_>) -> String);

/// Sections in the order in which they stand. To add one: a file, and a line here.
const SECTIONS: &[Section] = &[
    ("findings", "Findings", findings::section),
    ("fabric", "Fabric", fabric::section),
    ("racks", "Racks", racks::section),
    ("power", "Power", power::section),
    ("cost", "Cost", cost::section),
    ("cables", "Cables", cables::section),
    ("work", "Storage and work", work::section),
    ("numbers", "All numbers", numbers::section),
];

/// `plan` of the hall that `settings` describe, as a page.
pub fn html(plan: &Plan, settings: &Settings) -> String {
    let subject = Subject { plan, settings };
    let name = escape(&plan.name);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"generator\" content=\"Datahall {}\">\n<title>{name}: plan of an AI data center</title>\n<style>{}</style>\n</head>\n\
         <body>\n<a class=\"skip\" href=\"#main\">Skip to the plan</a>\n{}",
        env!("CARGO_PKG_VERSION"),
        style::sheet(),
        // Stripes that mark an area beside its colour; pictures of the page refer to them.
        "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs><pattern id=\"hatch\" width=\"7\" \
         height=\"7\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><path class=\"hatch-on\" d=\"M0 0V7\"/></pattern>\
         </defs></svg>\n"
    );
    page.push_str(&head::head(subject));
    page.push_str("<nav aria-label=\"Sections\"><ul>");
    for (anchor, title, _) in SECTIONS {
        put!(page, "<li><a href=\"#{anchor}\">{title}</a></li>");
    }
    page.push_str("</ul></nav>\n<main id=\"main\">\n");
    for (anchor, title, write) in SECTIONS {
        put!(page, "<section id=\"{anchor}\" aria-labelledby=\"{anchor}-h\"><h2 id=\"{anchor}-h\">{title}</h2>\n");
        page.push_str(&write(subject));
        page.push_str("</section>\n");
    }
    put!(
        page,
        "</main>\n<footer><p>{} numbers, each with its formula or its source. Made by Datahall from the blueprint of {name}: the same \
         blueprint gives the same page.</p></footer>\n<script>{}</script>\n</body>\n</html>\n",
        plan.ledger.numbers().len(),
        include_str!("filter.js")
    );
    page
}
