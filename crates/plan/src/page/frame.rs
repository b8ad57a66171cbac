//! What every section is made of: links to numbers, tables, figures, legends.

use dh_blueprint::Settings;
use dh_units::{Usd, Value, significant};

use super::svg::escape;
use crate::plan::Plan;

/// What the page is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) settings: &'a Settings,
}

impl Subject<'_> {
    /// The value of a number in its base unit; none where there is no such number, or it is a text.
    pub(crate) fn value(&self, id: &str) -> Option<f64> {
        self.plan.ledger.get(id).and_then(|number| number.value.number())
    }

    /// The text of a number; a dash where there is none.
    pub(crate) fn text(&self, id: &str) -> String {
        self.plan.ledger.get(id).map_or_else(|| "–".to_owned(), |number| shown(&number.value))
    }

    /// `text` (markup) as a link to the row of number `id`, where there is one.
    pub(crate) fn link(&self, id: &str, text: &str) -> String {
        match self.plan.ledger.get(id) {
            Some(number) => {
                format!("<a href=\"#{}\" title=\"{}\">{text}</a>", escape(id), escape(&number.title))
            }
            None => text.to_owned(),
        }
    }

    /// The text of a number as a link to its row.
    pub(crate) fn number(&self, id: &str) -> String {
        self.link(id, &escape(self.text(id)))
    }
}

/// A value as the page prints it: money below a million with its digits in groups, all else as everywhere.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other quantities print themselves")]
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Usd(usd) => money(*usd),
        other => other.to_string(),
    }
}

/// `$967,980`.
pub(crate) fn money(usd: Usd) -> String {
    let text = usd.to_string();
    match text.strip_prefix('$') {
        Some(digits) => format!("${}", grouped(digits)),
        None => text,
    }
}

/// `2,832`: a number of things that need not be whole.
pub(crate) fn amount(number: f64) -> String {
    grouped(&significant(number))
}

/// Digits in groups of three where there are only digits; any other text as it is.
fn grouped(digits: &str) -> String {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.to_owned();
    }
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,016`.
pub(crate) fn count(count: u64) -> String {
    Value::Count(count).to_string()
}

/// `1 rack`, `1,016 racks`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `0.925` as `92.5 %`, `0.000122` as `0.0122 %`.
pub(crate) fn percent(ratio: f64) -> String {
    let text = significant(ratio * 100.0);
    if ratio < 1.0 && text == "100" { "99.9… %".to_owned() } else { format!("{text} %") }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Words, held at the left.
    Words(&'static str),
    /// Numbers, held at the right.
    Numbers(&'static str),
}

/// A table; cells are markup, the first of each row heads it. Nothing where there is no row.
pub(crate) fn table(caption: &str, columns: &[Column], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("<div class=\"table\"><table><caption>{}</caption><thead><tr>", escape(caption));
    for column in columns {
        let (class, name) = match column {
            Column::Words(name) => ("", name),
            Column::Numbers(name) => (" class=\"r\"", name),
        };
        put!(text, "<th scope=\"col\"{class}>{name}</th>");
    }
    text.push_str("</tr></thead><tbody>");
    for row in rows {
        text.push_str("<tr>");
        for (place, cell) in row.iter().enumerate() {
            let class = if matches!(columns.get(place), Some(Column::Numbers(_))) { " class=\"r\"" } else { "" };
            let cell = if place == 0 {
                format!("<th scope=\"row\"{class}>{cell}</th>")
            } else {
                format!("<td{class}>{cell}</td>")
            };
            text.push_str(&cell);
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table></div>\n");
    text
}

/// A picture with what is to be said below it (markup), and the table behind it, folded.
pub(crate) fn figure(picture: &str, caption: &str, behind: &str) -> String {
    let behind = if behind.is_empty() {
        String::new()
    } else {
        format!("<details><summary>The numbers behind this picture</summary>{behind}</details>")
    };
    format!("<figure>{picture}<figcaption>{caption}</figcaption></figure>{behind}\n")
}

/// Names of colours; names are plain text.
pub(crate) fn legend<'a>(entries: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let entry = |(class, name): (&str, String)| format!("<li><i class=\"{class}\"></i>{}</li>", escape(name));
    format!("<ul class=\"legend\">{}</ul>", entries.into_iter().map(entry).collect::<String>())
}

/// Terms with what they are (markup).
pub(crate) fn facts(entries: &[(&str, String)]) -> String {
    let entry = |(term, what): &(&str, String)| format!("<div><dt>{term}</dt><dd>{what}</dd></div>");
    format!("<dl class=\"facts\">{}</dl>", entries.iter().map(entry).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_grouped_where_it_is_written_out() {
        let texts = [0.0, 68.33, 1_250.0, 967_980.0, 3_870_000.0].map(|usd| money(Usd(usd)));
        assert_eq!(texts, ["$0.00", "$68.33", "$1,250", "$967,980", "$3.87 M"]);
    }

    #[test]
    fn amounts_are_grouped_where_they_are_whole() {
        assert_eq!([0.838, 62.0, 2_832.3].map(amount), ["0.838", "62", "2,832"]);
    }

    #[test]
    fn what_is_not_all_is_not_called_all() {
        assert_eq!([1.0, 0.999_95, 0.5, 0.000_122].map(percent), ["100 %", "99.9… %", "50 %", "0.0122 %"]);
    }
}
