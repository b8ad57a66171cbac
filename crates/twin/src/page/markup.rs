//! Text that is safe in a page, and tables.

use std::fmt::Display;

/// Text of anywhere, safe between tags and in attributes in double quotes.
pub(crate) fn escape(text: impl Display) -> String {
    let text = text.to_string();
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Text of anywhere as a string of JSON that is safe inside of a script element.
pub(crate) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 2);
    safe.push('"');
    for letter in text.chars() {
        match letter {
            ' '..='~' if !matches!(letter, '"' | '\\' | '<' | '>' | '&') => safe.push(letter),
            other => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    put!(safe, "\\u{unit:04x}");
                }
            }
        }
    }
    safe.push('"');
    safe
}

/// A coordinate: one digit after the point, none where it is zero.
pub(crate) fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// `1,016`.
pub(crate) fn count(count: u64) -> String {
    crate::comparison::grouped(&count.to_string())
}

/// `0.925` as `92.5 %`; what is not all is not called all.
pub(crate) fn percent(ratio: f64) -> String {
    let text = dh_units::significant(ratio * 100.0);
    if ratio < 1.0 && text == "100" { "99.9… %".to_owned() } else { format!("{text} %") }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column<'a> {
    /// Words, held at the left.
    Words(&'a str),
    /// Numbers, held at the right.
    Numbers(&'a str),
}

/// A table of plain text; the first cell of each row heads it. Nothing where there is no row.
pub(crate) fn table(caption: &str, columns: &[Column<'_>], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
        escape(caption)
    );
    for column in columns {
        let (class, name) = match column {
            Column::Words(name) => ("", name),
            Column::Numbers(name) => (" class=\"r\"", name),
        };
        put!(text, "<th scope=\"col\"{class}>{}</th>", escape(name));
    }
    text.push_str("</tr></thead><tbody>");
    for row in rows {
        text.push_str("<tr>");
        for (place, cell) in row.iter().enumerate() {
            let class = if matches!(columns.get(place), Some(Column::Numbers(_))) { " class=\"r\"" } else { "" };
            let (open, close) = if place == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
            put!(text, "<{open}{class}>{}</{close}>", escape(cell));
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table></div>\n");
    text
}

/// Something that need not be seen at once.
pub(crate) fn folded(summary: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<details><summary>{}</summary>{content}</details>\n", escape(summary))
}

/// The place of a thing among its like, as a coordinate.
#[expect(clippy::cast_precision_loss, reason = "what is drawn is counted in thousands")]
pub(crate) const fn nth(place: usize) -> f64 {
    place as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_markup_is_escaped() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        let text = table("<i>", &[Column::Words("<b>")], &[vec!["</td><script>".to_owned()]]);
        assert!(!text.contains("<i>") && !text.contains("<b>") && !text.contains("<script>"), "{text}");
    }

    #[test]
    fn a_string_in_a_script_ends_neither_string_nor_script() {
        let text = "a\"b\\c</script>é\u{1f600}\n\u{2028}";
        let safe = json(text);
        assert!(safe.is_ascii() && !safe.contains('<'), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([0.0, -0.01, 1.04, 2.5, 100.0].map(at), ["0", "0", "1", "2.5", "100"]);
        assert_eq!((count(78_085), percent(0.99996)), ("78,085".to_owned(), "99.9… %".to_owned()));
    }
}
