//! What a server answers: JSON, one object per chunk.
//!
//! Read [`Chunk`]. Not responsible for what columns mean.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// One object of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    /// Results; absent in what is no answer to a question.
    pub results: Option<Vec<Outcome>>,
    /// Why the question was not understood, in whatever form.
    pub error: Option<serde_json::Value>,
}

/// What one statement came to, or a part of it.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    /// Position of the statement in the question.
    #[serde(default)]
    pub statement_id: usize,
    /// Rows by series.
    #[serde(default)]
    pub series: Vec<Series>,
    /// Why there are none.
    pub error: Option<String>,
    /// Whether more of the statement follows.
    #[serde(default)]
    pub partial: bool,
}

/// Rows of one set of tags.
#[derive(Debug, Deserialize)]
pub(super) struct Series {
    /// The tags that were grouped by; empty texts stand for none.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows.
    #[serde(default)]
    pub values: Vec<Vec<Cell>>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// Nothing.
    Null,
    /// Yes or no.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
}

impl Cell {
    /// As a number.
    pub fn float(&self) -> Option<f64> {
        match self {
            Cell::Integer(number) => Some(*number as f64),
            Cell::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// As a whole number that is not negative.
    pub fn whole(&self) -> Option<u64> {
        match self {
            Cell::Integer(number) => u64::try_from(*number).ok(),
            Cell::Float(number) if *number >= 0.0 => Some(number.round() as u64),
            _ => None,
        }
    }

    /// As a text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cell, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Cell;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a column")
            }

            fn visit_unit<E: Error>(self) -> Result<Cell, E> {
                Ok(Cell::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Cell, E> {
                Ok(Cell::Boolean(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Cell, E> {
                Ok(Cell::Integer(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Cell, E> {
                Ok(i64::try_from(value).map_or(Cell::Float(value as f64), Cell::Integer))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Cell, E> {
                Ok(Cell::Float(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Cell, E> {
                Ok(Cell::Text(value.into()))
            }

            fn visit_string<E: Error>(self, value: String) -> Result<Cell, E> {
                Ok(Cell::Text(value))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_of_a_real_server() {
        let text = r#"{"results":[{"statement_id":1,"series":[{"name":"m","tags":{"a":"1","b":""},"columns":["time","x","y","z"],
            "values":[[10000000000,1.5,null,"t"],[1,true,18446744073709551615,-3]]}],"partial":true}]}"#;
        let chunk: Chunk = serde_json::from_str(text).expect("chunk");
        let outcome = &chunk.results.expect("results")[0];
        assert_eq!((outcome.statement_id, outcome.partial, outcome.series[0].tags.len()), (1, true, 2));
        let rows = &outcome.series[0].values;
        assert_eq!(rows[0], [Cell::Integer(10_000_000_000), Cell::Float(1.5), Cell::Null, Cell::Text("t".into())]);
        assert_eq!((rows[1][2].whole(), rows[1][3].whole(), rows[1][3].float()), (Some(u64::MAX), None, Some(-3.0)));
    }
}
