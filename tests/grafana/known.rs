//! What each panel must show of the fleet, in the terms that both dashboards share.

use super::fleet::{SOURCE, TARGETS};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A row of a table or a point of a series: columns and labels by name.
pub type Row = Map<String, Value>;

/// Probes of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Probes {
    pub sent: f64,
    pub lost: f64,
    /// Summaries that are suspect, or the share of time.
    pub suspect: f64,
}

/// What is known of what is chosen on the dashboard.
pub struct Known {
    /// By destination; what is not chosen is not there.
    pub probes: BTreeMap<String, Probes>,
    /// Whether sites are rows and columns, else addresses.
    pub by_site: bool,
    /// Units of round trips in a second.
    pub rtt_per_second: f64,
    /// How much larger an extrapolated count may be than what was counted; 1 is exact.
    pub extrapolated: f64,
}

/// A number of a row, whether the database writes it as one or as text; `None` for null, NaN and what is not there.
pub fn number(row: &Row, column: &str) -> Option<f64> {
    let value = row.get(column)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|value| !value.is_nan())
}

/// The text of a row's column or label.
pub fn label<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {column} in {row:?}"))
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs().max(1.0)
}

impl Known {
    fn column(&self, dst: &str) -> String {
        let (_, site, _) = TARGETS.iter().find(|(ip, ..)| *ip == dst).unwrap();
        if self.by_site { (*site).to_owned() } else { dst.to_owned() }
    }

    fn source(&self) -> &str {
        if self.by_site { "here" } else { SOURCE }
    }

    /// Loss in percent by column of the matrix.
    fn losses(&self) -> BTreeMap<String, f64> {
        self.probes.iter().map(|(dst, probes)| (self.column(dst), 100.0 * probes.lost / probes.sent)).collect()
    }

    fn sum(&self, of: impl Fn(&Probes) -> f64) -> f64 {
        self.probes.values().map(of).sum()
    }

    /// Columns of destinations that are as `of` says, in order.
    fn columns(&self, of: impl Fn(&Probes) -> bool) -> Vec<String> {
        let mut columns: Vec<_> =
            self.probes.iter().filter(|(_, probes)| of(probes)).map(|(dst, _)| self.column(dst)).collect();
        columns.sort();
        columns
    }

    /// The matrix of a value: each column once, in the row of the only source.
    fn matrix(&self, rows: &[Row], value: &str) -> BTreeMap<String, f64> {
        let mut cells = BTreeMap::new();
        for row in rows {
            assert_eq!(label(row, "row"), self.source(), "{row:?}");
            let number = number(row, value).unwrap_or_else(|| panic!("no number {value}: {row:?}"));
            assert!(cells.insert(label(row, "column").to_owned(), number).is_none(), "twice: {row:?}");
        }
        cells
    }

    /// Whether a count is what was counted, as far as the database counts exactly.
    pub fn counts(&self, shown: f64, counted: f64) -> bool {
        shown >= counted * 0.999_999 && shown <= counted * self.extrapolated + 1e-6
    }

    /// Checks that a round trip is one of loopback.
    fn plausible(&self, row: &Row, column: &str) {
        let rtt = number(row, column).unwrap_or_else(|| panic!("no {column}: {row:?}")) / self.rtt_per_second;
        assert!(rtt > 0.0 && rtt < 2.0, "{rtt} s: {row:?}");
    }

    /// Checks a query that both dashboards have alike; `column` is where its number is. Gives whether it was known.
    pub fn check(&self, panel: &str, letter: &str, column: &str, rows: &[Row]) -> bool {
        let one = || {
            assert_eq!(rows.len(), 1, "{panel}: {rows:?}");
            number(&rows[0], column).unwrap_or_else(|| panic!("{panel} has no {column}: {rows:?}"))
        };
        let most = || rows.iter().filter_map(|row| number(row, column)).fold(f64::NAN, f64::max);
        let (sent, lost) = (self.sum(|probes| probes.sent), self.sum(|probes| probes.lost));
        match (panel, letter) {
            ("Loss, all", _) => assert!(close(one(), 100.0 * lost / sent), "{} is not {lost} of {sent}", one()),
            ("Lost probes", _) => assert!(self.counts(one(), lost), "{} is not {lost}", one()),
            ("Sent probes", _) => assert!(self.counts(one(), sent), "{} is not {sent}", one()),
            ("Round trip, all", _) => {
                one();
                self.plausible(&rows[0], column);
            }
            ("Loss", _) => {
                let (shown, known) = (self.matrix(rows, column), self.losses());
                let same = shown.len() == known.len()
                    && known.iter().all(|(key, loss)| shown.get(key).is_some_and(|shown| close(*shown, *loss)));
                assert!(same, "{shown:?} is shown, {known:?} is known");
            }
            ("Round trip, mean" | "Round trip, worst p99", _) => {
                let measured = self.columns(|probes| probes.lost < probes.sent);
                assert_eq!(self.matrix(rows, column).into_keys().collect::<Vec<_>>(), measured, "{panel}");
                rows.iter().for_each(|row| self.plausible(row, column));
            }
            ("Loss over time", "A") => {
                let points: Vec<_> = rows.iter().filter_map(|row| number(row, column)).collect();
                assert!(points.iter().all(|loss| (0.0..=100.0).contains(loss)), "{points:?}");
                assert!(!points.is_empty() && (lost == 0.0 || most() > 0.0), "{points:?}");
            }
            ("Loss over time", "B") => {
                let worst = self.losses().into_values().fold(0.0, f64::max);
                assert!(most() <= 100.0 + 1e-9 && (lost == 0.0 || most() > 0.0), "{rows:?}");
                // no part of the time is better than the whole; windows of counters overlap and leave gaps
                let comparable = self.extrapolated == 1.0 || worst == 100.0;
                assert!(!comparable || most() >= worst - 1e-9, "{} after {worst}: {rows:?}", most());
            }
            ("Round trip over time", _) => {
                assert!(!rows.is_empty());
                rows.iter().filter(|row| number(row, column).is_some()).for_each(|row| self.plausible(row, column));
                assert!(most() > 0.0, "{rows:?}");
            }
            ("Loss by $row" | "Loss by $column", _) => {
                let (is_row, key) = (panel == "Loss by $row", self.key(panel));
                let known =
                    if is_row { [(self.source().to_owned(), 100.0 * lost / sent)].into() } else { self.losses() };
                for (name, loss) in &known {
                    let points = rows.iter().filter(|row| label(row, key) == name);
                    let points: Vec<_> = points.filter_map(|row| number(row, column)).collect();
                    assert!(!points.is_empty(), "{panel}: no {name} in {rows:?}");
                    let all = |value: f64| points.iter().all(|loss| close(*loss, value));
                    assert!(*loss > 0.0 || all(0.0), "{name} lost nothing: {points:?}");
                    assert!(*loss < 100.0 || all(100.0), "{name} lost all: {points:?}");
                    assert!(*loss == 0.0 || points.iter().any(|loss| *loss > 0.0), "{name} lost {loss}: {points:?}");
                }
                assert!(rows.iter().all(|row| known.contains_key(label(row, key))), "{panel}: {rows:?}");
            }
            _ => return false,
        }
        true
    }

    fn key(&self, panel: &str) -> &'static str {
        match (panel == "Loss by $row", self.by_site, self.rtt_per_second > 1.0) {
            (true, false, true) => "src_ip",
            (false, false, true) => "dst_ip",
            (true, true, true) => "src_site",
            (false, true, true) => "dst_site",
            (true, false, false) => "src",
            (false, false, false) => "dst",
            (true, true, false) => "tag_src_site",
            (false, true, false) => "tag_dst_site",
        }
    }

    /// Checks a table of paths: those that lost at least three probes, most of its share first where `sorted`.
    pub fn worst(&self, rows: &[Row], dst: &str, sorted: bool, expected: impl Fn(&Row, &Probes)) {
        let mut shown: Vec<_> = rows.iter().map(|row| label(row, dst).to_owned()).collect();
        let share = |dst: &String| self.probes[dst].lost / self.probes[dst].sent;
        assert!(!sorted || shown.is_sorted_by(|a, b| share(a) >= share(b)), "the worst come first: {rows:?}");
        shown.sort();
        let bad = self.probes.iter().filter(|(_, probes)| probes.lost >= 3.0).map(|(dst, _)| dst.clone());
        assert_eq!(shown, bad.collect::<Vec<_>>(), "{rows:?}");
        rows.iter().for_each(|row| expected(row, &self.probes[label(row, dst)]));
    }
}
