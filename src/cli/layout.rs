//! Columns and styles shared by the views. Widths count characters; styles are added last.
//!
//! Views always style; [`super::exit::print`] takes the styles out where they do not belong.

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Headings.
pub const HEAD: Style = Style::new().bold();
/// Sound.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Doubtful.
pub const DOUBT: Style = AnsiColor::Yellow.on_default();
/// Broken.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Beside the point.
pub const DIM: Style = Style::new().dimmed();

/// Terminal width when standard output is not one.
pub const WIDTH: usize = 80;

/// Columns of the terminal that standard output is, else [`WIDTH`].
pub fn terminal_width() -> usize {
    // a terminal that does not know its size says 0
    Table::new().width().filter(|columns| *columns > 0).map_or(WIDTH, usize::from).max(20)
}

/// `text` in `style`; nothing is added to an empty text.
pub fn paint(style: Style, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
}

/// Which side a column's text stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Left.
    Left,
    /// Right, as numbers.
    Right,
}

/// Rows under headings, two blanks between columns, `indent` blanks before the first; one string per
/// line, the headings first, no trailing blanks.
pub fn columns(indent: usize, heads: &[(&str, Side)], rows: &[Vec<String>]) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
    table.set_header(heads.iter().map(|(head, _)| *head));
    for row in rows {
        table.add_row(row);
    }
    let last = heads.len().saturating_sub(1);
    for (at, (_, side)) in heads.iter().enumerate() {
        if let Some(column) = table.column_mut(at) {
            column.set_padding((if at == 0 { indent as u16 } else { 0 }, if at == last { 0 } else { 2 }));
            let right = *side == Side::Right;
            column.set_cell_alignment(if right { CellAlignment::Right } else { CellAlignment::Left });
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// `text` cut to `width` characters, the last an ellipsis when something was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

/// `text` broken between words into lines of at most `width` characters; longer words stay whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut();
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let rows = [vec!["a".into(), "1".into(), "x".into()], vec!["bcd".into(), "100".into(), String::new()]];
        let lines = columns(2, &[("name", Side::Left), ("n", Side::Right), ("note", Side::Left)], &rows);
        assert_eq!(lines, ["  name    n  note", "  a       1  x", "  bcd   100"]);
    }

    #[test]
    fn text_is_cut_and_wrapped() {
        assert_eq!(cut("reflector", 9), "reflector");
        assert_eq!(cut("reflector", 5), "refl…");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable x", 4), ["unbreakable", "x"]);
    }
}
