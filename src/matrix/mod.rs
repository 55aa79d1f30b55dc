//! What people ask of measured summaries: the matrix of groups, its cells taken apart, and how it went over time.
//!
//! A question's way: a [`Window`] of time and a [`Filter`] → a [`Source`] gives [`Figures`] per path → [`grid`] joins
//! them to cells. Sources are the embedded history and InfluxDB. Not responsible for how it is asked over HTTP or
//! shown. Read [`Source`] first.

pub mod grid;
pub mod influx;
pub mod question;
pub mod source;

pub use crate::summary::figures::{Figures, Percentiles};
pub use question::{Filter, Key, Term, Window};
pub use source::{Answer, Extent, FlowAt, Level, Moment, PathFigures, Point, REACH, Source, SourceError};
