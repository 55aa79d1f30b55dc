//! What the API answers, checked: names of columns, rows of values.
//!
//! Nothing of it is trusted: positions are in range and rows are whole once [`read`] has taken them. Read [`Matrix`] and
//! [`Figures`].

use crate::sink::parse_rfc3339;
use crate::time::Wall;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// What the API has: where from, and how long an interval is.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Extent {
    /// Its name for people.
    pub source: String,
    /// Who answers: collector, scraper, demo, matrix.
    #[serde(default)]
    pub role: String,
    /// End of the newest interval.
    pub newest: Option<String>,
    /// Length of an interval, seconds; 0 while nothing is known.
    pub interval_s: Option<f64>,
}

/// Columns by name. `from` and `to` are instants; both are missing while there is nothing.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Span {
    /// Where the window begins, exclusive.
    pub from: Option<String>,
    /// Where it ends, inclusive.
    pub to: Option<String>,
    /// Length of the entries that were joined, seconds.
    pub resolution_s: Option<f64>,
}

impl Span {
    /// Both ends.
    pub fn ends(&self) -> Option<(Wall, Wall)> {
        let instant = |text: &Option<String>| text.as_deref().and_then(parse_rfc3339);
        instant(&self.from).zip(instant(&self.to))
    }

    fn check(&self) -> Result<(), String> {
        for text in [&self.from, &self.to].into_iter().flatten() {
            parse_rfc3339(text).ok_or_else(|| format!("{text:?} is no instant"))?;
        }
        Ok(())
    }
}

/// Rows or columns of a matrix.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Axis {
    /// What they are grouped by.
    pub key: String,
    /// Its values; an empty one stands for paths without the key.
    pub values: Vec<String>,
}

/// A matrix of groups.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Matrix {
    /// Its time.
    #[serde(flatten)]
    pub span: Span,
    /// Its rows.
    pub rows: Axis,
    /// Its columns.
    pub columns: Axis,
    /// Paths that are not in it: there are too many rows or columns.
    #[serde(default)]
    pub left_out: u64,
    /// Names of a cell's values; an earlier matrix has those of the later one.
    #[serde(default)]
    pub fields: Fields,
    /// Its cells.
    pub cells: Vec<Vec<Value>>,
    /// The same question of an earlier time.
    #[serde(default)]
    pub before: Option<Box<Matrix>>,
}

/// Paths or flows, worst first.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Paths {
    /// Paths there are.
    pub total: u64,
    /// Names of their values.
    pub fields: Fields,
    /// The worst of them.
    pub paths: Vec<Vec<Value>>,
}

/// Flows, worst first.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Flows {
    /// Flows there are.
    pub total: u64,
    /// The worst of them.
    pub flows: Vec<Map<String, Value>>,
}

/// The probers of a time.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Probers {
    /// One per source address.
    pub probers: Vec<Prober>,
}

/// What a prober did by itself.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Prober {
    /// Its address.
    pub src_ip: String,
    /// Summaries of it.
    #[serde(default)]
    pub summaries: u64,
    /// Of these, those whose numbers may be its own doing.
    #[serde(default)]
    pub suspects: u64,
    /// By reason.
    #[serde(default)]
    pub suspect: BTreeMap<String, u64>,
    /// Everything it told besides.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// Positions of named columns.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Fields {
    names: Vec<String>,
    positions: HashMap<String, usize>,
}

impl TryFrom<Vec<String>> for Fields {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Fields, String> {
        let positions: HashMap<String, usize> =
            names.iter().cloned().enumerate().map(|(at, name)| (name, at)).collect();
        if positions.len() < names.len() {
            return Err("a field is named twice".into());
        }
        Ok(Fields { names, positions })
    }
}

impl Fields {
    /// Their names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Values with these names.
    pub fn of<'a>(&'a self, values: &'a [Value]) -> Figures<'a> {
        Figures { fields: self, values }
    }

    fn check(&self, rows: &[Vec<Value>]) -> Result<(), String> {
        match rows.iter().find(|row| row.len() != self.names.len()) {
            Some(row) => Err(format!("{} values where {} fields are named", row.len(), self.names.len())),
            None => Ok(()),
        }
    }
}

/// The figures of a cell or a path.
#[derive(Clone, Copy, Debug)]
pub struct Figures<'a> {
    fields: &'a Fields,
    values: &'a [Value],
}

impl<'a> Figures<'a> {
    /// The value of a name; `None` where there is none.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.values.get(*self.fields.positions.get(name)?).filter(|value| !value.is_null())
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.value(name)?.as_f64()
    }

    /// A count, 0 where there is none.
    pub fn count(&self, name: &str) -> u64 {
        self.value(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.value(name)?.as_str()
    }

    /// Names and values, in the order of the answer.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.fields.names.iter().map(String::as_str).zip(self.values)
    }
}

impl Matrix {
    /// Each cell: its row, its column, its figures.
    pub fn cells<'a>(&'a self, fields: &'a Fields) -> impl Iterator<Item = (usize, usize, Figures<'a>)> {
        self.cells.iter().map(|values| {
            let figures = fields.of(values);
            (figures.count("row") as usize, figures.count("column") as usize, figures)
        })
    }

    fn check(&self, fields: &Fields) -> Result<(), String> {
        self.span.check()?;
        fields.check(&self.cells)?;
        for (name, axis) in [("row", &self.rows), ("column", &self.columns)] {
            let position = |values| fields.of(values).value(name).and_then(Value::as_u64);
            let wrong = self.cells.iter().find(|cell| position(cell).is_none_or(|at| at >= axis.values.len() as u64));
            if wrong.is_some() {
                return Err(format!("a cell without a {name} of the {} there are", axis.values.len()));
            }
        }
        Ok(())
    }
}

/// What can be checked once it is read.
pub trait Checked {
    /// Says what cannot be.
    ///
    /// # Errors
    /// A row that is not whole, a position out of range, an instant that is none.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Checked for Extent {}
impl Checked for Flows {}
impl Checked for Probers {}

impl Checked for Paths {
    fn check(&self) -> Result<(), String> {
        self.fields.check(&self.paths)
    }
}

impl Checked for Matrix {
    fn check(&self) -> Result<(), String> {
        Matrix::check(self, &self.fields)?;
        self.before.as_ref().map_or(Ok(()), |before| Matrix::check(before, &self.fields))
    }
}

/// Reads an answer.
///
/// # Errors
/// Says what it is instead.
pub fn read<T: Checked + for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, String> {
    let answer: T = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    answer.check()?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"from":"2024-02-29T12:30:00Z","to":"2024-02-29T12:30:10Z","resolution_s":10,"rows":{"key":"a","values":["x"]},
        "columns":{"key":"b","values":["y","z"]},"left_out":0,"fields":["row","column","paths","sent","loss_percent"],
        "cells":[[0,1,2,10,null]],"before":null,"and":"more"}"#;

    #[test]
    fn a_matrix_is_read() {
        let matrix: Matrix = read(GOOD.as_bytes()).unwrap();
        let cells: Vec<_> = matrix.cells(&matrix.fields).collect();
        let (row, column, figures) = cells[0];
        assert_eq!((row, column, figures.count("sent"), figures.number("loss_percent")), (0, 1, 10, None));
        assert_eq!(figures.count("no such"), 0);
        assert!(matrix.span.ends().is_some_and(|(from, to)| to.0 - from.0 == 10_000_000_000));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (is, instead, says) in [
            ("[[0,1,2,10,null]]", "[[0,2,2,10,null]]", "without a column of the 2"),
            ("[[0,1,2,10,null]]", "[[-1,1,2,10,null]]", "without a row of the 1"),
            ("[[0,1,2,10,null]]", "[[0,1]]", "2 values where 5"),
            ("\"sent\"", "\"paths\"", "named twice"),
            ("12:30:10Z", "noon", "no instant"),
            (
                "\"before\":null",
                "\"before\":{\"rows\":{\"key\":\"\",\"values\":[]},\"columns\":{\"key\":\"\",\"values\":[]},\"cells\":[[0,0,0,0,0]]}",
                "without a row of the 0",
            ),
            ("{\"from\"", "[\"from\"", "expected"),
        ] {
            let body = GOOD.replacen(is, instead, 1);
            let error = read::<Matrix>(body.as_bytes()).unwrap_err();
            assert!(error.contains(says), "{instead}: {error}");
        }
    }
}
