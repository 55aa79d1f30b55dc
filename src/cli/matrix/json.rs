//! The same as one JSON object, for scripts: cells as objects with the names of their groups.
//!
//! Read [`line()`].

use super::answer::{Axis, Fields, Figures, Matrix, Span};
use super::text::steers;
use super::view::Picture;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value};
use std::fmt::Write;

#[derive(Serialize)]
struct Shown<'a> {
    url: &'a str,
    source: &'a str,
    role: &'a str,
    interval_s: Option<f64>,
    #[serde(flatten)]
    matrix: ShownMatrix<'a>,
    left_out: u64,
    total: Total,
    before: Option<ShownMatrix<'a>>,
    worst: Worst<'a>,
    probers: Vec<Map<String, Value>>,
}

#[derive(Serialize)]
struct ShownMatrix<'a> {
    from: Option<&'a str>,
    to: Option<&'a str>,
    resolution_s: Option<f64>,
    rows: ShownAxis<'a>,
    columns: ShownAxis<'a>,
    cells: Cells<'a>,
}

#[derive(Serialize)]
struct ShownAxis<'a> {
    key: &'a str,
    values: &'a [String],
}

#[derive(Serialize)]
struct Total {
    paths: u64,
    sent: u64,
    lost: u64,
    loss_percent: Option<f64>,
}

#[derive(Serialize)]
struct Worst<'a> {
    paths: Option<Rows<'a>>,
    flows: Option<&'a [Map<String, Value>]>,
}

/// Cells as objects.
struct Cells<'a>(&'a Matrix, &'a Fields);

/// Paths as objects.
struct Rows<'a>(&'a [Vec<Value>], &'a Fields);

/// Figures as an object, after the names of a cell's groups.
struct Named<'a>(Option<(&'a str, &'a str)>, Figures<'a>);

impl Serialize for Cells<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.cells.len()))?;
        for (row, column, figures) in self.0.cells(self.1) {
            list.serialize_element(&Named(Some((&self.0.rows.values[row], &self.0.columns.values[column])), figures))?;
        }
        list.end()
    }
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|values| Named(None, self.1.of(values))))
    }
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some((row, column)) = self.0 {
            map.serialize_entry("row", row)?;
            map.serialize_entry("column", column)?;
        }
        for (name, value) in self.1.entries().filter(|(name, _)| self.0.is_none() || !["row", "column"].contains(name))
        {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn shown<'a>(matrix: &'a Matrix, fields: &'a Fields) -> ShownMatrix<'a> {
    let Span { from, to, resolution_s } = &matrix.span;
    let axis = |Axis { key, values }: &'a Axis| ShownAxis { key, values };
    ShownMatrix {
        from: from.as_deref(),
        to: to.as_deref(),
        resolution_s: *resolution_s,
        rows: axis(&matrix.rows),
        columns: axis(&matrix.columns),
        cells: Cells(matrix, fields),
    }
}

/// The picture as one line of JSON. Its texts are the server's as they are, but what steers a terminal is written as
/// `\uXXXX`.
///
/// # Errors
/// None that a picture can cause.
pub fn line(picture: &Picture) -> serde_json::Result<String> {
    let (paths, sent, lost) = picture.totals();
    let matrix = &picture.matrix;
    let shown = Shown {
        url: &picture.url,
        source: &picture.extent.source,
        role: &picture.extent.role,
        interval_s: picture.extent.interval_s,
        matrix: shown(matrix, &matrix.fields),
        left_out: matrix.left_out,
        total: Total { paths, sent, lost, loss_percent: (sent > 0).then(|| 100.0 * lost as f64 / sent as f64) },
        before: matrix.before.as_deref().map(|before| shown(before, &matrix.fields)),
        worst: Worst {
            paths: picture.paths.as_ref().map(|answer| Rows(&answer.paths, &answer.fields)),
            flows: picture.flows.as_ref().map(|answer| answer.flows.as_slice()),
        },
        probers: picture.probers.probers.iter().map(prober).collect(),
    };
    Ok(escaped(&serde_json::to_string(&shown)?) + "\n")
}

fn prober(prober: &super::answer::Prober) -> Map<String, Value> {
    let mut all = prober.others.clone();
    all.insert("src_ip".into(), prober.src_ip.clone().into());
    all.insert("summaries".into(), prober.summaries.into());
    all.insert("suspects".into(), prober.suspects.into());
    all.insert("suspect".into(), prober.suspect.iter().map(|(reason, n)| (reason.clone(), Value::from(*n))).collect());
    all
}

/// JSON with every character that steers a terminal as an escape; such stand in its strings only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}"); // into a String: always fits
            }
        } else {
            text.push(c);
        }
    }
    text
}
