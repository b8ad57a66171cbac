//! A run, and policies side by side, as one page of HTML that stands alone.
//!
//! Tables and curves are there without script; a short one adds the values under the pointer or the slider, and the strips of
//! nodes. Everything is drawn in both colour schemes, from 380 pixels of width on.
//! Invariant: pure and deterministic; whatever comes from outside passes `markup::escape` or `markup::json`; at most
//! [`SIZE_MAX`] bytes for any run with names of sane length: series are thinned to 1,000 points, strips until they fit.

/// Appends formatted text to a string, which never fails.
macro_rules! put {
    ($to:expr, $($text:tt)*) => {{
        use std::fmt::Write as _;
        $to.write_fmt(format_args!($($text)*)).unwrap_or_default()
    }};
}

mod axis;
mod figures;
mod groups;
mod histograms;
mod markup;
mod plots;
mod policies;
mod services;
mod strips;
mod style;

use crate::comparison::Comparison;
use crate::measure::Outcome;
use crate::play::Answers;
use crate::timeline::Chart;
use markup::escape;

/// Bytes of a page, at most.
pub const SIZE_MAX: usize = 1_500_000;

/// What a page is about.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Its title: what was simulated.
    pub title: &'a str,
    /// The same in a sentence.
    pub lead: &'a str,
    /// Cluster, trace, policy, seed, version: terms and what they are.
    pub facts: &'a [(String, String)],
    /// The run that is shown at length.
    pub outcome: &'a Outcome,
    /// Its picture.
    pub chart: Option<&'a Chart>,
    /// Names of queues, by their number.
    pub queues: &'a [String],
    /// All policies, if there are several.
    pub comparison: Option<&'a Comparison>,
    /// What those who asked services have seen, if any were asked.
    pub services: &'a [Answers],
}

/// A section: its anchor, its heading, and what writes it; none where there is nothing to say.
type Section = (&'static str, &'static str, fn(&Page<'_>) -> Option<String>);

/// Sections in the order in which they stand. To add one: a file, and a line here.
const SECTIONS: &[Section] = &[
    ("figures", "Figures", figures::section),
    ("policies", "Policies side by side", policies::section),
    ("services", "Services", services::section),
    ("timeline", "Over time", plots::section),
    ("nodes", "Nodes", strips::section),
    ("jobs", "How long jobs took", histograms::section),
    ("queues", "Queues and sizes", groups::section),
];

/// The page.
pub fn html(page: &Page<'_>) -> String {
    let sections: Vec<(&str, &str, String)> =
        SECTIONS.iter().filter_map(|(anchor, title, write)| Some((*anchor, *title, write(page)?))).collect();
    let title = escape(page.title);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"generator\" content=\"Datahall {}\">\n<title>{title}: simulated hall</title>\n<style>{}</style>\n</head>\n\
         <body>\n<a class=\"skip\" href=\"#main\">Skip to the figures</a>\n{}<nav aria-label=\"Sections\"><ul>",
        env!("CARGO_PKG_VERSION"),
        style::sheet(),
        figures::head(page)
    );
    for (anchor, title, _) in &sections {
        put!(text, "<li><a href=\"#{anchor}\">{title}</a></li>");
    }
    text.push_str("</ul></nav>\n<main id=\"main\">\n");
    for (anchor, title, content) in &sections {
        put!(
            text,
            "<section id=\"{anchor}\" aria-labelledby=\"{anchor}-h\"><h2 id=\"{anchor}-h\">{title}</h2>\n{content}</section>\n"
        );
    }
    put!(
        text,
        "</main>\n<footer><p>Simulated by Datahall {}. The same blueprint, trace, policy and seed give the same page.</p></footer>\n\
         <script>{}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        include_str!("page.js")
    );
    text
}
