//! What reports for a terminal share: tables, lines of bars, colours.

use std::fmt::{self, Write};

use pgweir_core::time::Instant;

use super::page::{Table, Tone};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Columns of a line of bars.
pub(crate) const COLUMNS: usize = 72;

/// A colour of terminals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Green,
    Yellow,
    Red,
    Cyan,
    Dim,
}

/// `text` in a colour, if there are colours.
pub(super) fn paint(coloured: bool, paint: Paint, text: &str) -> String {
    if !coloured {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Green => 32,
        Paint::Yellow => 33,
        Paint::Red => 31,
        Paint::Cyan => 36,
        Paint::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Zero is a dot; every other value is at least the lowest bar.
pub(crate) fn sparkline(values: &[u32], most: u32) -> String {
    let bar = |value: u32| match value {
        0 => '·',
        value => BARS[((u64::from(value) * 8).div_ceil(u64::from(most)) as usize).clamp(1, 8) - 1],
    };
    values.iter().map(|value| bar(*value)).collect()
}

/// Values in [`COLUMNS`] columns, the most of each; fewer if there are fewer.
pub(super) fn fold(values: impl ExactSizeIterator<Item = u32>, of: usize) -> Vec<u32> {
    let mut columns = Vec::new();
    for (index, value) in values.enumerate() {
        let column = index * COLUMNS / of.max(1);
        if columns.len() <= column {
            columns.resize(column + 1, 0);
        }
        columns[column] = value.max(columns[column]);
    }
    columns
}

/// A table, as wide as it has to be.
pub(super) fn table(f: &mut impl Write, table: &Table, coloured: bool) -> fmt::Result {
    let count = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..table.head.len())
        .map(|column| {
            let cells = table.rows.iter().filter_map(|row| row.get(column)).map(|cell| count(&cell.text));
            cells.chain([count(&table.head[column])]).max().unwrap_or(0)
        })
        .collect();
    let number = |column: usize| table.rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.number);
    let mut line = String::new();
    for (column, name) in table.head.iter().enumerate() {
        line.push_str(&pad(name, widths[column], number(column)));
        line.push_str("  ");
    }
    writeln!(f, "  {}", paint(coloured, Paint::Dim, line.trim_end()))?;
    for row in &table.rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let text = pad(&cell.text, *width, cell.number);
            line.push_str(&match cell.tone {
                Tone::Plain => text,
                Tone::Good => paint(coloured, Paint::Green, &text),
                Tone::Bad => paint(coloured, Paint::Red, &text),
            });
            line.push_str("  ");
        }
        writeln!(f, "  {}", line.trim_end())?;
    }
    Ok(())
}

fn pad(text: &str, width: usize, right: bool) -> String {
    let gap = " ".repeat(width.saturating_sub(text.chars().count()));
    if right { format!("{gap}{text}") } else { format!("{text}{gap}") }
}

/// A moment: seconds with three digits.
pub(super) fn moment(at: Instant) -> String {
    let nanos = at.as_nanos();
    format!("{}.{:03}s", nanos / 1_000_000_000, nanos / 1_000_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Cell;

    #[test]
    fn bars_show_nothing_little_and_all() {
        assert_eq!(sparkline(&[0, 1, 5, 10], 10), "·▁▄█");
        assert_eq!(sparkline(&[0, 0], 0), "··");
        assert_eq!(sparkline(&[u32::MAX], u32::MAX), "█");
    }

    #[test]
    fn values_fold_into_columns() {
        assert_eq!(fold((0..720).map(|n| n % 10), 720), [9; COLUMNS]);
        assert_eq!(fold([5, 7].into_iter(), COLUMNS), [5, 7]);
        assert!(fold(std::iter::empty(), 0).is_empty());
    }

    #[test]
    fn tables_align() {
        let row = |name: &str, number: u32| vec![Cell::text(name), Cell::number(number).toned(Tone::Bad)];
        let head = vec!["name".to_owned(), "count".to_owned()];
        let all = Table { caption: String::new(), head, rows: vec![row("äöü", 7), row("a longer one", 123_456)] };
        let mut plain = String::new();
        table(&mut plain, &all, false).expect("written");
        assert_eq!(plain, "  name           count\n  äöü                7\n  a longer one  123456\n");
        let mut coloured = String::new();
        table(&mut coloured, &all, true).expect("written");
        assert!(coloured.contains("\x1b[31m     7\x1b[0m"), "{coloured:?}");
    }
}
