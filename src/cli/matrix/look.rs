//! How each cell looks: its text, how bad it is, and which marks the legend has to explain.
//!
//! Read [`Looks`].

use super::answer::{Figures, Matrix};
use super::metric::{Level, Metric, Scale};
use std::collections::HashMap;

/// A pair of groups without any path.
pub const NO_DATA: &str = "·";
/// A cell that has no value: nothing came back, or nothing was sent.
const NO_VALUE: &str = "–";

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Marks and number.
    pub text: String,
    /// How bad it is.
    pub level: Level,
    /// What cells are ranked by: the value shown.
    pub value: f64,
    /// Probes lost.
    pub lost: u64,
}

/// Which marks are in a matrix, so that the legend explains those and no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A pair without a path.
    pub no_data: bool,
    /// A pair without a value.
    pub no_value: bool,
    /// Numbers that may be the prober's own doing.
    pub suspect: bool,
    /// Percentiles that are only known to be not above what is said.
    pub bound: bool,
    /// A pair that was not there before.
    pub new: bool,
}

/// All cells of a matrix.
#[derive(Clone, Debug)]
pub struct Looks {
    /// By row and column.
    pub cells: HashMap<(usize, usize), Look>,
    /// What they share.
    pub scale: Scale,
    /// What they contain.
    pub marks: Marks,
    /// Whether they show what has changed.
    pub changes: bool,
}

impl Looks {
    /// The cells of a matrix; with a matrix before, what has changed.
    pub fn of(matrix: &Matrix, metric: Metric) -> Looks {
        let before = matrix.before.as_deref().map(|before| by_names(before, matrix));
        let cells: Vec<_> = matrix.cells(&matrix.fields).collect();
        let mut values: Vec<f64> = cells.iter().filter_map(|(_, _, figures)| metric.value(figures)).collect();
        let scale = Scale::of(metric, before.is_some(), &mut values);
        let mut marks =
            Marks { no_data: cells.len() < matrix.rows.values.len() * matrix.columns.values.len(), ..Marks::default() };
        let looks = cells.into_iter().map(|(row, column, figures)| {
            let earlier = before.as_ref().map(|before| before.get(&(row, column)));
            ((row, column), look(metric, &scale, &figures, earlier, &mut marks))
        });
        let cells = looks.collect();
        Looks { cells, scale, marks, changes: before.is_some() }
    }
}

/// The cells of `before`, at the positions that their rows and columns have in `matrix`.
fn by_names<'a>(before: &'a Matrix, matrix: &'a Matrix) -> HashMap<(usize, usize), Figures<'a>> {
    let positions = |values: &'a [String]| -> HashMap<&str, usize> {
        values.iter().enumerate().map(|(at, value)| (value.as_str(), at)).collect()
    };
    let (rows, columns) = (positions(&matrix.rows.values), positions(&matrix.columns.values));
    let cells = before.cells(&matrix.fields).filter_map(|(row, column, figures)| {
        let row = rows.get(before.rows.values[row].as_str())?;
        let column = columns.get(before.columns.values[column].as_str())?;
        Some(((*row, *column), figures))
    });
    cells.collect()
}

/// One cell; `earlier` is `Some` where changes are shown, with the figures before where there are some.
fn look(
    metric: Metric,
    scale: &Scale,
    figures: &Figures,
    earlier: Option<Option<&Figures>>,
    marks: &mut Marks,
) -> Look {
    let lost = figures.count("lost");
    let suspect = figures.count("suspects") > 0;
    marks.suspect |= suspect;
    let doubt = if suspect { "~" } else { "" };
    let Some(value) = metric.value(figures) else {
        marks.no_value = true;
        // times without any round trip: all was lost, which is worse than any time
        let level = Level::Bad(if lost > 0 { 5 } else { 0 });
        return Look { text: format!("{doubt}{NO_VALUE}"), level, value: f64::INFINITY, lost };
    };
    let bound = metric.is_bound(figures);
    let was =
        earlier.map(|figures| figures.and_then(|figures| Some((metric.value(figures)?, metric.is_bound(figures)))));
    let (mark, number, level, rank) = match was {
        None => (if bound { "≤" } else { "" }, scale.number(value), scale.level(value), value),
        Some(None) => {
            marks.new = true;
            ("*", scale.number(value), scale.level(value), value)
        }
        Some(Some((was, was_bound))) => {
            marks.bound |= was_bound;
            let change = value - was;
            (if bound || was_bound { "≈" } else { "" }, scale.signed(change), scale.change_level(was, change), change)
        }
    };
    marks.bound |= bound;
    Look { text: format!("{doubt}{mark}{number}"), level, value: rank, lost }
}
