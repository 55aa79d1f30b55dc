//! Paths joined to a matrix: rows and columns are the values of two keys.
//!
//! Read [`Grid`] first.

use super::question::Key;
use super::source::PathFigures;
use crate::summary::figures::Figures;
use crate::time::Wall;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

/// Rows at most, and columns at most: beyond, the picture says nothing to anyone.
pub const SIDE: usize = 1000;

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Position in [`Grid::rows`].
    pub row: usize,
    /// Position in [`Grid::columns`].
    pub column: usize,
    /// Paths joined.
    pub paths: u64,
    /// End of the newest interval of the path that was heard of longest ago.
    pub stalest: Wall,
    /// Their figures.
    pub figures: Figures,
}

/// A matrix. A pair of groups without any path has no cell: no data is not the same as no loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    /// Values of the rows' key, ascending; an empty text stands for paths without one.
    pub rows: Vec<String>,
    /// Values of the columns' key, likewise.
    pub columns: Vec<String>,
    /// Cells, by row and then column.
    pub cells: Vec<Cell>,
    /// Paths left out because their row or column is beyond [`SIDE`].
    pub left_out: u64,
}

/// The order people expect: numbers within texts by their value.
fn natural(text: &str) -> Vec<(u64, Cow<'_, str>)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let others = rest[digits..].bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let number = rest[..digits].parse().unwrap_or(if digits == 0 { 0 } else { u64::MAX });
        parts.push((number, Cow::Borrowed(&rest[digits..digits + others])));
        rest = &rest[digits + others..];
    }
    parts
}

/// Each value once, in the order people expect: numbers within texts by their value.
pub fn ordered<'a>(values: impl Iterator<Item = Cow<'a, str>>) -> Vec<String> {
    let distinct: BTreeSet<Cow<'a, str>> = values.collect();
    let mut ordered: Vec<String> = distinct.into_iter().map(Cow::into_owned).collect();
    ordered.sort_by(|a, b| natural(a).cmp(&natural(b)).then_with(|| a.cmp(b)));
    ordered
}

/// The values, in order, and each one's position.
fn axis<'a>(values: impl Iterator<Item = Cow<'a, str>>) -> (Vec<String>, HashMap<String, usize>) {
    let mut ordered = ordered(values);
    ordered.truncate(SIDE);
    let positions = ordered.iter().enumerate().map(|(position, value)| (value.clone(), position)).collect();
    (ordered, positions)
}

impl Grid {
    /// Joins paths to cells by the values of two keys.
    pub fn of(paths: &[PathFigures], rows: &Key, columns: &Key) -> Grid {
        let (row_values, row_of) = axis(paths.iter().map(|one| rows.of(&one.path)));
        let (column_values, column_of) = axis(paths.iter().map(|one| columns.of(&one.path)));
        let mut cells: HashMap<(usize, usize), Cell> = HashMap::new();
        let mut left_out = 0;
        for one in paths {
            let (row, column) = (row_of.get(&*rows.of(&one.path)), column_of.get(&*columns.of(&one.path)));
            let (Some(&row), Some(&column)) = (row, column) else {
                left_out += 1;
                continue;
            };
            let empty = || Cell { row, column, paths: 0, stalest: one.newest, figures: Figures::default() };
            let cell = cells.entry((row, column)).or_insert_with(empty);
            cell.paths += 1;
            cell.stalest = cell.stalest.min(one.newest);
            cell.figures.add_path(&one.figures);
        }
        let mut cells: Vec<Cell> = cells.into_values().collect();
        cells.sort_by_key(|cell| (cell.row, cell.column));
        Grid { rows: row_values, columns: column_values, cells, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::samples;
    use crate::summary::Path;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn path(rack: &str, group: &str, lost: u64) -> PathFigures {
        let tags = BTreeMap::from([("rack".to_string(), rack.to_string())]);
        let path = Path { tags: Arc::new(tags), group: group.into(), ..(*samples::full().path).clone() };
        let mut figures = Figures { summaries: 1, ..Figures::default() };
        (figures.counts.sent, figures.counts.lost) = (10, lost);
        PathFigures { path: Arc::new(path), figures, newest: Wall(10 + lost) }
    }

    #[test]
    fn paths_meet_in_cells() {
        let paths = [path("r10", "a", 1), path("r2", "a", 2), path("r10", "a", 4), path("r2", "b", 0)];
        let grid = Grid::of(&paths, &Key::Group, &Key::Tag("rack".into()));
        assert_eq!(
            (grid.rows.as_slice(), grid.columns.as_slice()),
            (&["a".into(), "b".into()][..], &["r2".into(), "r10".into()][..])
        );
        let cells: Vec<_> = grid.cells.iter().map(|c| (c.row, c.column, c.paths, c.figures.counts.lost)).collect();
        assert_eq!(cells, [(0, 0, 1, 2), (0, 1, 2, 5), (1, 0, 1, 0)]);
        assert_eq!(grid.cells.iter().map(|c| c.stalest.0).collect::<Vec<_>>(), [12, 11, 10]);
        let none = Grid::of(&paths, &Key::Tag("no such".into()), &Key::Group);
        assert_eq!((none.rows.as_slice(), none.cells.len()), (&[String::new()][..], 2));
    }

    #[test]
    fn what_is_beyond_the_picture_is_counted() {
        let paths: Vec<PathFigures> = (0..SIDE + 3).map(|n| path(&format!("r{n}"), "a", 0)).collect();
        let grid = Grid::of(&paths, &Key::Group, &Key::Tag("rack".into()));
        assert_eq!((grid.columns.len(), grid.cells.len(), grid.left_out), (SIDE, SIDE, 3));
    }
}
