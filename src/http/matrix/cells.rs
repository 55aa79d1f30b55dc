//! `/api/v1/matrix`: groups × groups.
//!
//! Read [`answer`].

use super::question::Asked;
use super::records::{FIELDS, row, text, values, window};
use super::{Shown, extent};
use crate::http::answer::{Refusal, joined, json_text};
use crate::http::api::query::mistake;
use crate::matrix::grid::{Cell, Grid};
use crate::matrix::{Answer, Key, PathFigures};
use crate::sink::rfc3339;
use axum::http::Uri;
use axum::response::Response;
use std::iter::once;
use std::time::Duration;

/// The farthest other time that a matrix is compared with: some ten years, in seconds.
const BEFORE_S: u64 = 316_000_000;

/// A question for a matrix.
pub(super) struct Question {
    asked: Asked,
    rows: Option<Key>,
    columns: Option<Key>,
    before: Option<Duration>,
}

pub(super) fn parse(uri: &Uri) -> Result<Question, Refusal> {
    let (asked, parameters) = Asked::of(uri, &["rows", "columns", "before"])?;
    let key = |name: &str| match parameters.get(name) {
        Some("") => Err(mistake(name, "", "give src_ip, dst_ip, method, dscp, size, group or a tag")),
        key => Ok(key.map(Key::parse)),
    };
    let before = parameters.number("before", 1..=BEFORE_S)?.map(Duration::from_secs);
    Ok(Question { asked, rows: key("rows")?, columns: key("columns")?, before })
}

/// A matrix' head and its cells, written when their turn comes; its closing bracket is the caller's.
fn parts(
    answer: &Answer<Vec<PathFigures>>,
    (rows, columns): (&Key, &Key),
    fields: &str,
) -> impl Iterator<Item = Vec<u8>> + Send + Unpin + use<> {
    let Grid { rows: row_values, columns: column_values, cells, left_out } = Grid::of(&answer.value, rows, columns);
    let axis = |key: &Key, values: &[String]| format!(r#"{{"key":{},"values":{}}}"#, text(&key.name()), text(&values));
    let (rows, columns) = (axis(rows, &row_values), axis(columns, &column_values));
    let window = window(answer);
    let head = format!(r#"{{{window},"rows":{rows},"columns":{columns},"left_out":{left_out},{fields}"cells":["#);
    let cell = |(position, Cell { row: of_row, column, paths, stalest, figures }): (usize, Cell)| {
        let head = [of_row.into(), column.into(), paths.into(), rfc3339(stalest).into()];
        row(position, head.into_iter().chain(values(&figures)))
    };
    once(head.into_bytes()).chain(cells.into_iter().enumerate().map(cell))
}

/// `GET /api/v1/matrix`.
pub(super) fn answer(question: Question, shown: &Shown) -> Result<Response, Refusal> {
    let Question { asked, rows, columns, before } = question;
    let source = shown.source();
    let when = asked.time.when(&source.extent()?);
    let (rows, columns) = match (rows, columns) {
        (Some(rows), Some(columns)) => (rows, columns),
        (rows, columns) => {
            let paths = source.paths(extent::looked_at(when.window()))?;
            let suggested = extent::suggested(&extent::keys(&paths));
            (rows.unwrap_or(suggested.0), columns.unwrap_or(suggested.1))
        }
    };
    let keys = (&rows, &columns);
    let fields: Vec<&str> = ["row", "column", "paths", "stalest"].into_iter().chain(FIELDS).collect();
    let now = parts(&when.figures(source, &asked.filter)?, keys, &format!(r#""fields":{},"#, text(&fields)));
    let before = match before {
        None => None,
        Some(by) => Some(parts(&when.earlier(by).figures(source, &asked.filter)?, keys, "")),
    };
    let (middle, end) = if before.is_some() { ("],\"before\":", "]}}") } else { ("],\"before\":null", "}") };
    let whole = now
        .chain(once(middle.as_bytes().to_vec()))
        .chain(before.into_iter().flatten())
        .chain(once(end.as_bytes().to_vec()));
    Ok(json_text(joined(whole)))
}
