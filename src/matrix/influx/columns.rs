//! What points hold, by field: one table for reading single points and for letting the server join many.
//!
//! A new counter is one line in [`COUNTERS`]. Read [`Row`] and [`Row::figures`].

use super::answer::Cell;
use crate::matrix::Figures;
use crate::sink::influx::detail::parse_histogram;
use crate::sink::record::{suspicion_name, suspicion_of};
use crate::summary::histogram::Bucket;
use crate::summary::{Counts, Extremes, Suspicion};
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

/// A count in [`Counts`].
type Counter = fn(&mut Counts) -> &mut u64;

/// Fields that are counts, to be added. `sent` is without `send_failed`, `lost` with `refused` and `unreachable`.
const COUNTERS: [(&str, Counter); 14] = [
    ("sent", |counts| &mut counts.sent),
    ("replied", |counts| &mut counts.replied),
    ("lost", |counts| &mut counts.lost),
    ("lost_forward", |counts| &mut counts.lost_forward),
    ("lost_reverse", |counts| &mut counts.lost_reverse),
    ("late", |counts| &mut counts.late),
    ("duplicates", |counts| &mut counts.duplicates),
    ("reordered", |counts| &mut counts.reordered),
    ("refused", |counts| &mut counts.refused),
    ("unreachable", |counts| &mut counts.unreachable),
    ("send_failed", |counts| &mut counts.send_failed),
    ("not_sent", |counts| &mut counts.not_sent),
    ("clock_stepped", |counts| &mut counts.clock_stepped),
    ("stamps_missing", |counts| &mut counts.stamps_missing),
];

/// A delay in [`Figures`].
type Delay = fn(&mut Figures) -> &mut Option<Extremes>;

/// Fields of a delay, in milliseconds: samples, mean, smallest, largest.
pub(super) const DELAYS: [([&str; 4], Delay); 5] = [
    (["rtt_samples", "rtt", "rtt_min", "rtt_max"], |figures| &mut figures.rtt),
    (["ipdv_samples", "ipdv_mean", "ipdv_min", "ipdv_max"], |figures| &mut figures.ipdv),
    (["owd_forward_samples", "owd_forward_mean", "owd_forward_min", "owd_forward_max"], |figures| {
        &mut figures.owd_forward
    }),
    (["owd_reverse_samples", "owd_reverse_mean", "owd_reverse_min", "owd_reverse_max"], |figures| {
        &mut figures.owd_reverse
    }),
    (["residence_samples", "residence_mean", "residence_min", "residence_max"], |figures| &mut figures.residence),
];

/// Percentiles of the round trips, in milliseconds.
const PERCENTILES: [&str; 4] = ["rtt_p50", "rtt_p90", "rtt_p99", "rtt_p999"];

/// Fields of which the largest is kept.
const LARGEST: [&str; 6] = ["lateness_p99", "lateness_max", "local_drops", "flows", "flows_with_loss", "interval_s"];

/// Fields that only single points can be asked for.
const SINGLE: [&str; 3] = ["suspect", "suspect_reasons", "rtt_histogram"];

/// How many points the server joined.
pub(super) const SUMMARIES: &str = "summaries";

/// The sum of the first LLAMA's round trips: its points have no sample size, only probes sent and lost.
pub(super) const UPSTREAMS_SUM: &str = "upstreams_sum";

/// No count of one row is larger: the sum of all rows of an answer then fits into 64 bits.
const MOST: u64 = 1 << 44;
/// Nor one of a histogram, which has more of them.
const MOST_OF_VALUE: u64 = 1 << 32;

/// Every column, in the order of [`Row`]'s cells.
static COLUMNS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let delays = DELAYS.iter().flat_map(|(names, _)| *names);
    let counters = COUNTERS.iter().map(|(name, _)| *name);
    let others = PERCENTILES.into_iter().chain(LARGEST).chain(SINGLE).chain([SUMMARIES, UPSTREAMS_SUM]);
    counters.chain(delays).chain(others).collect()
});

static POSITIONS: LazyLock<HashMap<&str, usize>> =
    LazyLock::new(|| COLUMNS.iter().enumerate().map(|(position, name)| (*name, position)).collect());

/// What to select of single points.
pub(super) fn single() -> String {
    let asked = COLUMNS.iter().filter(|name| ![SUMMARIES, UPSTREAMS_SUM].contains(name));
    asked.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// What to select where the server joins points, but for means.
pub(super) fn joined() -> String {
    let by = |how: &'static str| move |name: &str| format!("{how}(\"{name}\") AS \"{name}\"");
    let mut all = vec![format!("count(\"sent\") AS \"{SUMMARIES}\"")];
    all.extend(COUNTERS.iter().map(|(name, _)| by("sum")(name)));
    for ([samples, _, min, max], _) in DELAYS {
        all.extend([by("sum")(samples), by("min")(min), by("max")(max)]);
    }
    all.extend(PERCENTILES.into_iter().chain(LARGEST).map(by("max")));
    all.join(", ")
}

/// What to select of single points, and then of these where the server joins them: each mean times its samples.
pub(super) fn sums() -> (String, String) {
    let of = |([samples, mean, ..], _): &([&str; 4], Delay)| {
        let sum = format!("sum(\"{mean}\") AS \"{mean}\"");
        (format!("\"{mean}\" * \"{samples}\" AS \"{mean}\""), sum)
    };
    let (mut each, mut all): (Vec<_>, Vec<_>) = DELAYS.iter().map(of).unzip();
    each.push(format!("\"rtt\" * (\"sent\" - \"lost\") AS \"{UPSTREAMS_SUM}\""));
    all.push(format!("sum(\"{UPSTREAMS_SUM}\") AS \"{UPSTREAMS_SUM}\""));
    (each.join(", "), all.join(", "))
}

/// A condition that only points with this suspicion fulfil.
pub(super) fn suspected_of(suspicion: Suspicion) -> String {
    format!("\"suspect_reasons\" =~ /(^|,){}(,|$)/", suspicion_name(suspicion))
}

/// The values of one point, or of many that the server joined.
#[derive(Clone, Debug)]
pub(super) struct Row(Vec<Cell>);

/// Where the columns of a series stand in a row; columns that are no field have no place.
pub(super) struct Places(Vec<Option<usize>>);

impl Places {
    /// Of a series' columns.
    pub fn of(columns: &[String]) -> Places {
        Places(columns.iter().map(|name| POSITIONS.get(name.as_str()).copied()).collect())
    }
}

impl Default for Row {
    fn default() -> Row {
        Row(vec![Cell::Null; COLUMNS.len()])
    }
}

impl Row {
    /// Takes the values of a series' row.
    pub fn take(&mut self, places: &Places, cells: Vec<Cell>) {
        for (cell, place) in cells.into_iter().zip(&places.0) {
            if let Some(slot) = place.and_then(|place| self.0.get_mut(place))
                && cell != Cell::Null
            {
                *slot = cell;
            }
        }
    }

    fn get(&self, name: &str) -> &Cell {
        POSITIONS.get(name).and_then(|position| self.0.get(*position)).unwrap_or(&Cell::Null)
    }

    fn count(&self, name: &str) -> u64 {
        self.get(name).whole().unwrap_or(0).min(MOST)
    }

    fn float(&self, name: &str) -> Option<f64> {
        self.get(name).float().filter(|number| number.is_finite())
    }

    /// Milliseconds as nanoseconds.
    fn ns(&self, name: &str) -> Option<i64> {
        Some((self.float(name)? * 1e6).round() as i64) // saturates
    }

    /// Length of the interval, or of the longest.
    pub fn interval(&self) -> Option<Duration> {
        self.float("interval_s").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// Whether the first LLAMA wrote it.
    fn is_upstreams(&self) -> bool {
        *self.get("replied") == Cell::Null
    }

    /// Turns sums into the means of the samples: [`Row::figures`] then reads the joined points as one.
    pub fn make_means(&mut self) {
        let answered = self.count("sent").saturating_sub(self.count("lost"));
        for ([samples, mean, ..], _) in DELAYS {
            let of_upstream = mean == "rtt" && self.is_upstreams();
            let (sum, samples) = match of_upstream {
                true => (self.float(UPSTREAMS_SUM), answered),
                false => (self.float(mean), self.count(samples)),
            };
            let value = sum.filter(|_| samples > 0).map_or(Cell::Null, |sum| Cell::Float(sum / samples as f64));
            if let Some(slot) = POSITIONS.get(mean).and_then(|position| self.0.get_mut(*position)) {
                *slot = value;
            }
        }
    }

    /// The figures. Of what the server joined, suspicions are to be added.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures { summaries: 1, ..Figures::default() };
        if let Some(summaries) = self.get(SUMMARIES).whole() {
            figures.summaries = summaries.min(MOST);
        }
        let counts = &mut figures.counts;
        for (name, counter) in COUNTERS {
            *counter(counts) = self.count(name);
        }
        if self.is_upstreams() {
            counts.replied = counts.sent.saturating_sub(counts.lost);
        }
        counts.sent += counts.send_failed;
        counts.lost = counts.lost.saturating_sub(counts.refused + counts.unreachable);
        let upstreams_samples = if self.is_upstreams() { counts.replied } else { 0 };
        for (names, delay) in DELAYS {
            *delay(&mut figures) = self.extremes(names, if names[1] == "rtt" { upstreams_samples } else { 0 });
        }
        if figures.rtt.is_some() {
            self.distribution(&mut figures);
        }
        figures.lateness_p99 = self.ns("lateness_p99");
        figures.lateness_max = self.ns("lateness_max");
        figures.local_drops = self.count("local_drops");
        figures.flows = self.count("flows");
        figures.flows_with_loss = self.count("flows_with_loss");
        if *self.get("suspect") == Cell::Boolean(true) {
            figures.suspects = 1;
            let reasons = self.get("suspect_reasons").text().unwrap_or_default();
            let known: Vec<_> = reasons.split(',').filter_map(suspicion_of).collect();
            figures.suspect = Suspicion::ALL.map(|suspicion| u64::from(known.contains(&suspicion)));
        }
        figures
    }

    /// A delay. Where a point has a mean alone, that is all that is known of its extremes.
    fn extremes(&self, [samples, mean, min, max]: [&str; 4], otherwise: u64) -> Option<Extremes> {
        let samples = if *self.get(samples) == Cell::Null { otherwise } else { self.count(samples) };
        let mean = self.float(mean).filter(|_| samples > 0)? * 1e6;
        let (min, max) = (self.ns(min).unwrap_or(mean as i64), self.ns(max).unwrap_or(mean as i64));
        Some(Extremes { samples, mean, min: min.min(max), max: max.max(min) })
    }

    /// The histogram where there is one, else the percentiles.
    fn distribution(&self, figures: &mut Figures) {
        if let Some(values) = self.get("rtt_histogram").text().and_then(parse_histogram) {
            let mut counts: Vec<_> = values.into_iter().map(|(ns, n)| (Bucket::of(ns), n.min(MOST_OF_VALUE))).collect();
            counts.sort_by_key(|(bucket, _)| *bucket);
            figures.histogram.add(counts.into_iter());
        }
        if figures.histogram.counts().is_empty()
            && let [Some(p50), Some(p90), Some(p99), Some(p999)] = PERCENTILES.map(|name| self.ns(name))
        {
            figures.bound = Some([p50, p90, p99, p999]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, Cell)]) -> Row {
        let mut row = Row::default();
        let columns: Vec<String> = cells.iter().map(|(name, _)| name.to_string()).collect();
        row.take(&Places::of(&columns), cells.iter().map(|(_, cell)| cell.clone()).collect());
        row
    }

    #[test]
    fn a_point_of_the_first_llama() {
        let cells = [("sent", 10.0), ("lost", 4.0), ("loss", 40.0), ("rtt", 1.5)].map(|(n, v)| (n, Cell::Float(v)));
        let figures = row(&cells).figures();
        assert_eq!((figures.counts.sent, figures.counts.lost, figures.counts.replied), (10, 4, 6));
        let rtt = figures.rtt.expect("round trips");
        assert_eq!((rtt.samples, rtt.mean, rtt.min, rtt.max), (6, 1.5e6, 1_500_000, 1_500_000));
        assert_eq!(figures.percentiles(), None);
        let none = [("sent", 10.0), ("lost", 10.0), ("rtt", 0.0)].map(|(n, v)| (n, Cell::Float(v)));
        assert_eq!(row(&none).figures().rtt, None, "0 when nothing came back");
    }

    #[test]
    fn nonsense_is_bounded() {
        let names = COLUMNS.iter().copied();
        for cell in [
            Cell::Integer(i64::MAX),
            Cell::Integer(i64::MIN),
            Cell::Float(f64::MAX),
            Cell::Float(-1e300),
            Cell::Text("1:2 3".into()),
            Cell::Boolean(true),
        ] {
            let all: Vec<_> = names.clone().map(|name| (name, cell.clone())).collect();
            let mut row = row(&all);
            let mut figures = row.figures();
            figures.add_path(&row.figures());
            let _ = (figures.percentiles(), row.interval(), figures.counts.loss_percent());
            row.make_means();
            let _ = row.figures().percentiles();
        }
        let swapped = [("rtt_samples", 1.0), ("rtt", 5.0), ("rtt_min", 9.0), ("rtt_max", 1.0), ("replied", 1.0)];
        let percentiles = PERCENTILES.map(|name| (name, Cell::Float(7.0)));
        let figures = row(&[&swapped.map(|(n, v)| (n, Cell::Float(v)))[..], &percentiles].concat()).figures();
        assert_eq!(figures.percentiles().expect("percentiles").p50, 7_000_000);
    }
}
