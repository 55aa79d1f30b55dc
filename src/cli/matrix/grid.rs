//! Rows and columns laid out in the width and height there is.
//!
//! As long as there is room names stand in full; then they are shortened, then column names are written downwards; then
//! only the worst columns are shown, and what is left out is said. Read [`lay_out`].

use super::answer::Matrix;
use super::look::{Look, Looks, NO_DATA};
use super::metric::Metric;
use super::text::{self, cut, fit, left, right, width};
use crate::cli::layout::{DIM, HEAD, paint};
use crate::cli::units::several;
use std::cmp::Ordering;

/// Columns of a shortened name in the headings.
const SHORT: usize = 8;
/// Lines of a name written downwards at most.
const DOWN: usize = 12;
/// Columns that the names of rows take at least, and the share of the width that they take at most.
const LABEL: (usize, usize) = (6, 3);
/// What stands for paths without the key.
const WITHOUT: &str = "(none)";

/// How column names are written, and blanks between columns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heads {
    Full,
    Short,
    Down,
}

impl Heads {
    fn gap(self) -> usize {
        if self == Heads::Full { 2 } else { 1 }
    }

    /// Columns that a name takes.
    fn width(self, name: &str) -> usize {
        match self {
            Heads::Full => width(name),
            Heads::Short => width(name).min(SHORT),
            Heads::Down => downwards(name).iter().map(|part| width(part)).max().unwrap_or(0),
        }
    }

    fn lines(self, name: &str, columns: usize) -> Vec<String> {
        match self {
            Heads::Down => downwards(name),
            _ => vec![fit(name, columns)],
        }
    }
}

/// A name's characters, one a line; the middle is left out of long ones.
fn downwards(name: &str) -> Vec<String> {
    let count = name.chars().count();
    let (begin, end) = if count > DOWN { (DOWN / 2, count - (DOWN - DOWN / 2 - 1)) } else { (count, count) };
    let mut lines: Vec<String> = Vec::with_capacity(DOWN);
    for (at, c) in name.chars().enumerate() {
        if at == begin && end > begin {
            lines.push("…".into());
        }
        let alone = c.to_string();
        match lines.last_mut() {
            _ if (begin..end).contains(&at) => {}
            Some(line) if width(&(line.clone() + &alone)) == width(line) => line.push(c), // a combining mark
            _ => lines.push(alone),
        }
    }
    lines
}

/// Which of `count` rows or columns: all, or the worst `most` in their own order.
fn worst(count: usize, most: usize, rank: impl Fn(usize) -> (f64, u64)) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if count > most {
        order.sort_by(|a, b| worse(rank(*a), rank(*b)));
        order.truncate(most);
        order.sort_unstable();
    }
    order
}

fn worse(a: (f64, u64), b: (f64, u64)) -> Ordering {
    b.0.total_cmp(&a.0).then(b.1.cmp(&a.1))
}

/// The worst value of each row and each column, and the probes they lost.
struct Ranks {
    rows: Vec<(f64, u64)>,
    columns: Vec<(f64, u64)>,
}

impl Ranks {
    fn of(matrix: &Matrix, looks: &Looks) -> Ranks {
        let nothing = (f64::NEG_INFINITY, 0u64);
        let (mut rows, mut columns) =
            (vec![nothing; matrix.rows.values.len()], vec![nothing; matrix.columns.values.len()]);
        for ((row, column), look) in &looks.cells {
            for rank in [&mut rows[*row], &mut columns[*column]] {
                *rank = (rank.0.max(look.value), rank.1.saturating_add(look.lost));
            }
        }
        Ranks { rows, columns }
    }
}

/// What is said of those that are not shown.
fn hidden(ranks: &[(f64, u64)], shown: &[usize], what: &str, metric: Metric, looks: &Looks) -> Option<String> {
    let mut seen = shown.iter().peekable();
    let hidden: Vec<(f64, u64)> =
        (ranks.iter().enumerate()).filter(|(at, _)| seen.next_if_eq(&at).is_none()).map(|(_, rank)| *rank).collect();
    if hidden.is_empty() {
        return None;
    }
    let lossy = hidden.iter().filter(|(_, lost)| *lost > 0).count();
    let most = hidden.iter().map(|(value, _)| *value).filter(|value| value.is_finite()).max_by(f64::total_cmp);
    let which = match (metric, most) {
        (Metric::Loss, _) if lossy == 0 => "without loss".to_owned(),
        (Metric::Loss, _) => format!("{lossy} of them with loss"),
        (_, Some(most)) => format!("none above {}", looks.scale.number(most)),
        (_, None) => "without a value".to_owned(),
    };
    Some(format!("… {}, {which}", several(hidden.len() as u64, &format!("more {what}"))))
}

/// A matrix as lines of at most `most_width` columns, `most_rows` rows of cells at most.
pub fn lay_out(matrix: &Matrix, looks: &Looks, metric: Metric, most_width: usize, most_rows: usize) -> Vec<String> {
    if matrix.cells.is_empty() {
        return vec!["nothing was measured in this time".to_owned()];
    }
    let shown_name = |key: &str, value: &String| text::named(key, value, WITHOUT);
    let ranks = Ranks::of(matrix, looks);
    let rows = worst(matrix.rows.values.len(), most_rows, |row| ranks.rows[row]);
    let full: Vec<String> = matrix.columns.values.iter().map(|value| shown_name(&matrix.columns.key, value)).collect();
    let common = common(&full);

    let most_label = (most_width / LABEL.1).max(LABEL.0);
    let labels: Vec<String> =
        rows.iter().map(|row| fit(&shown_name(&matrix.rows.key, &matrix.rows.values[*row]), most_label)).collect();
    let corner = fit(&format!("{} \\ {}", text::clean(&matrix.rows.key), text::clean(&matrix.columns.key)), most_label);
    let label = labels.iter().chain([&corner]).map(|label| width(label)).max().unwrap_or(0);

    let mut cells = vec![width(NO_DATA); full.len()];
    for row in &rows {
        for (column, columns) in cells.iter_mut().enumerate() {
            *columns = (*columns).max(looks.cells.get(&(*row, column)).map_or(0, |look| width(&look.text)));
        }
    }
    let room = most_width.saturating_sub(label);
    let name = |heads: Heads, column: usize| {
        if heads == Heads::Full { full[column].as_str() } else { &full[column][common.len()..] }
    };
    let takes = |heads: Heads, column: usize| cells[column].max(heads.width(name(heads, column))) + heads.gap();
    let all = |heads: Heads| (0..full.len()).map(|column| takes(heads, column)).sum::<usize>();
    let heads = [Heads::Full, Heads::Short].into_iter().find(|heads| all(*heads) <= room).unwrap_or(Heads::Down);
    let columns = fitting(full.len(), room, |column| takes(heads, column), |column| ranks.columns[column]);

    let mut lines = Vec::new();
    if heads != Heads::Full && !common.is_empty() {
        lines.push(paint(DIM, &cut(&format!("columns: {common}…"), most_width)));
    }
    let shown = columns.iter().map(|column| (name(heads, *column), takes(heads, *column)));
    lines.extend(headings(heads, &corner, label, shown));
    for (row, name) in rows.iter().zip(&labels) {
        let mut line = left(name, label);
        for column in &columns {
            line += &painted(looks.cells.get(&(*row, *column)), heads.gap(), takes(heads, *column));
        }
        lines.push(line);
    }
    let notes =
        [hidden(&ranks.rows, &rows, "row", metric, looks), hidden(&ranks.columns, &columns, "column", metric, looks)];
    lines.extend(notes.into_iter().flatten().map(|note| paint(DIM, &cut(&note, most_width))));
    lines
}

/// How all names begin, where that is worth leaving out. It ends before a number, so that numbers stay whole.
fn common(names: &[String]) -> &str {
    let Some((first, others)) = names.split_first().filter(|(_, others)| !others.is_empty()) else { return "" };
    let alike = |other: &String| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let length = others.iter().map(alike).min().unwrap_or(0);
    let common = first.get(..length).unwrap_or("").trim_end_matches(|c: char| c.is_ascii_digit());
    let whole = names.iter().all(|name| name.len() > common.len());
    if whole && common.len() > 2 && common.is_ascii() { common } else { "" }
}

/// Columns that fit together: all, or the worst, in their own order. One always, however narrow it is.
fn fitting(
    count: usize,
    room: usize,
    takes: impl Fn(usize) -> usize,
    rank: impl Fn(usize) -> (f64, u64),
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if order.iter().map(|column| takes(*column)).sum::<usize>() > room {
        order.sort_by(|a, b| worse(rank(*a), rank(*b)));
        let mut used = 0;
        let fit = order.iter().take_while(|column| {
            used += takes(**column);
            used <= room
        });
        let fit = fit.count().max(1);
        order.truncate(fit);
        order.sort_unstable();
    }
    order
}

fn headings<'a>(
    heads: Heads,
    corner: &str,
    label: usize,
    columns: impl Iterator<Item = (&'a str, usize)>,
) -> Vec<String> {
    let columns: Vec<(Vec<String>, usize)> =
        columns.map(|(name, takes)| (heads.lines(name, takes - heads.gap()), takes)).collect();
    let height = columns.iter().map(|(name, _)| name.len()).max().unwrap_or(1);
    let line = |at: usize| {
        let mut line = left(if at + 1 == height { corner } else { "" }, label);
        for (name, takes) in &columns {
            // names end at the line above the cells
            let part = (at + name.len()).checked_sub(height).and_then(|at| name.get(at));
            line += &right(part.map_or("", String::as_str), *takes);
        }
        paint(HEAD, line.trim_end())
    };
    (0..height).map(line).collect()
}

/// A cell and the blanks before it, which are not painted.
fn painted(look: Option<&Look>, gap: usize, takes: usize) -> String {
    let (text, style) = look.map_or((NO_DATA, DIM), |look| (&look.text, look.level.style()));
    let inner = right(text, takes - gap);
    if style == anstyle::Style::new() {
        " ".repeat(gap) + &inner
    } else {
        format!("{}{style}{inner}{style:#}", " ".repeat(gap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_downwards() {
        assert_eq!(downwards("a1"), ["a", "1"]);
        assert_eq!(downwards("e\u{301}東"), ["e\u{301}", "東"]);
        assert_eq!(downwards("frankfurt-rack-17").concat(), "frankf…ck-17");
        assert_eq!(downwards("frankfurt-rack-17").len(), DOWN);
        assert_eq!(downwards("twelve-chars").len(), DOWN);
    }

    #[test]
    fn what_all_names_begin_with() {
        let of = |names: [&str; 2]| common(&names.map(str::to_owned)).to_owned();
        assert_eq!(of(["rack-100", "rack-101"]), "rack-");
        assert_eq!(of(["rack-", "rack-1"]), "");
        assert_eq!(of(["a1", "a2"]), "");
        assert_eq!(of(["münchen-1", "münchen-2"]), "");
        assert_eq!(common(&["alone".to_owned()]), "");
    }

    #[test]
    fn the_worst_keep_their_order() {
        let ranks = [(0.0, 0), (5.0, 1), (0.0, 2), (9.0, 1)];
        assert_eq!(worst(4, 3, |at| ranks[at]), [1, 2, 3]);
        assert_eq!(fitting(4, 7, |_| 3, |at| ranks[at]), [1, 3]);
        assert_eq!(fitting(4, 1, |_| 3, |at| ranks[at]), [3]);
        assert_eq!(fitting(4, 12, |_| 3, |at| ranks[at]), [0, 1, 2, 3]);
    }
}
