//! Tables: columns as wide as their widest cell, numbers to the right, no lines.

use crate::output;

/// Which side a column's text keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table with a head.
pub(crate) struct Table {
    head: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(head: &[(&str, Side)]) -> Self {
        Self { head: head.iter().map(|(name, side)| ((*name).to_owned(), *side)).collect(), rows: Vec::new() }
    }

    pub(crate) fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines of the table, the head first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let widths: Vec<usize> = self
            .head
            .iter()
            .enumerate()
            .map(|(column, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
                cells.chain([width(name)]).max().unwrap_or(0)
            })
            .collect();
        let draw = |cells: &[String]| {
            let drawn: Vec<String> = cells
                .iter()
                .zip(&self.head)
                .zip(&widths)
                .map(|((cell, (_, side)), columns)| {
                    let space = " ".repeat(columns.saturating_sub(width(cell)));
                    match side {
                        Side::Left => format!("{cell}{space}"),
                        Side::Right => format!("{space}{cell}"),
                    }
                })
                .collect();
            drawn.join("  ").trim_end().to_owned()
        };
        let head: Vec<String> = self.head.iter().map(|(name, _)| name.clone()).collect();
        let mut lines = vec![output::bold(draw(&head))];
        lines.extend(self.rows.iter().map(|row| draw(row)));
        lines
    }
}

/// Columns that `text` takes, without its colour codes.
fn width(text: &str) -> usize {
    let mut columns = 0;
    let mut in_code = false;
    for character in text.chars() {
        match character {
            '\x1b' => in_code = true,
            'm' if in_code => in_code = false,
            _ if in_code => {}
            _ => columns += 1,
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::{Side, Table};

    #[test]
    fn columns_line_up_and_colours_take_no_room() {
        let mut table = Table::new(&[("NAME", Side::Left), ("SIZE", Side::Right)]);
        table.row(["a".to_owned(), "1.5 GB".to_owned()]);
        table.row(["\x1b[32mlonger\x1b[0m".to_owned(), "7".to_owned()]);
        let lines = table.lines();
        assert_eq!(lines[0], "NAME      SIZE");
        assert_eq!(lines[1], "a       1.5 GB");
        assert_eq!(lines[2], "\x1b[32mlonger\x1b[0m       7");
    }
}
