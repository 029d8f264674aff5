//! Tables as `kubectl` has them: capitals above, three spaces between, no lines.

use anstyle::Style;

use super::style::{PLAIN, paint};

const BETWEEN: usize = 3;

/// What stands in a row and column.
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, PLAIN)
    }
}

/// A table with a heading, each line after `indent`.
pub fn table<const N: usize>(indent: &str, heading: [&str; N], rows: impl IntoIterator<Item = [Cell; N]>) -> String {
    let mut all = vec![heading.map(Cell::from)];
    all.extend(rows);
    let width = |column: usize| all.iter().map(|row| row[column].text.chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &all {
        let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or_default();
        text.push_str(indent);
        for (column, cell) in row.iter().enumerate().take(last + 1) {
            text.push_str(&paint(&cell.text, cell.style));
            if column < last {
                text.push_str(&" ".repeat(widths[column] - cell.text.chars().count() + BETWEEN));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::style::{GOOD, stripped};
    use super::*;

    #[test]
    fn columns_stand_under_each_other_whatever_their_colour() {
        let rows = [[Cell::new("ümlaut", GOOD), "1".into()], ["a".into(), "".into()]];
        assert_eq!(stripped(&table("  ", ["NAME", "N"], rows)), "  NAME     N\n  ümlaut   1\n  a\n");
    }
}
