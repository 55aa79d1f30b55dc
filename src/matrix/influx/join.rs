//! Joining: here from single points, exactly, or by the server where there are too many.
//!
//! What the server joins has the same counts, means and extremes; percentiles are then the largest of the points'.

use super::answer::{Cell, Series};
use super::columns::{Places, Row, joined, single, sums, suspected_of};
use super::condition::{Condition, during};
use super::newest::{Newest, newest_answer};
use super::series_path::Identity;
use super::{InfluxSource, PATHS, Part};
use crate::matrix::Figures;
use crate::matrix::question::{Filter, Window};
use crate::matrix::source::{Answer, Moment, PathFigures, SourceError};
use crate::sink::influx::line::MEASUREMENT;
use crate::summary::{Path, Suspicion};
use crate::time::Wall;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Figures by end of the step, in ns, and the length of the longest interval.
type Steps = (BTreeMap<u64, Figures>, Duration);

/// A path that is being joined.
struct Joining {
    path: Arc<Path>,
    figures: Figures,
    newest: Wall,
}

/// Where the step ends that an interval's end is in.
fn step_end(end: u64, step_ns: u64) -> u64 {
    end.div_ceil(step_ns).saturating_mul(step_ns)
}

/// The rows of a series with their times.
fn rows(series: Series) -> impl Iterator<Item = (u64, Row)> {
    let places = Places::of(&series.columns);
    series.values.into_iter().filter_map(move |cells| {
        let time = cells.first()?.whole()?;
        let mut row = Row::default();
        row.take(&places, cells);
        Some((time, row))
    })
}

impl Joining {
    fn add(&mut self, path: &Arc<Path>, figures: &Figures, end: Wall) {
        self.figures.add_time(figures);
        if end > self.newest {
            self.newest = end;
            self.path = path.clone(); // its tags as they were last
        }
    }
}

/// The statements by which the server joins, `by` some grouping.
struct Statements {
    from: String,
    during: String,
    by: String,
}

impl Statements {
    /// Counts and extremes; then means times samples, of inner rows that are of one series each.
    fn values(&self) -> [String; 2] {
        let Statements { from, during, by } = self;
        let (each, all) = sums();
        let inner = format!("SELECT {each} {from} GROUP BY *");
        [format!("SELECT {} {from} {by}", joined()), format!("SELECT {all} FROM ({inner}) WHERE {during} {by}")]
    }

    /// Suspect points: all, then those of each suspicion.
    fn suspects(&self) -> Vec<String> {
        let Statements { from, by, .. } = self;
        let of = |terms: String| format!("SELECT count(\"sent\") {from} AND \"suspect\" = true{terms} {by}");
        let each = Suspicion::ALL.map(|suspicion| of(format!(" AND {}", suspected_of(suspicion))));
        std::iter::once(of(String::new())).chain(each).collect()
    }
}

/// Adds what the statement of this position in [`Statements::suspects`] counted.
fn add_suspects(figures: &mut Figures, position: usize, row: &[Cell]) {
    let count = row.get(1).and_then(Cell::whole).unwrap_or(0);
    match position.checked_sub(1) {
        None => figures.suspects = count,
        Some(suspicion) => {
            if let Some(slot) = figures.suspect.get_mut(suspicion) {
                *slot = count;
            }
        }
    }
}

impl InfluxSource {
    fn single(&self, window: Window, condition: &Condition) -> [String; 1] {
        let (fields, during, terms) = (single(), during(window), &condition.text);
        [format!("SELECT {fields} FROM \"{MEASUREMENT}\" WHERE {during}{terms} GROUP BY *")]
    }

    /// Whether there is any suspect point: counting them by suspicion is dear, and there are none as a rule.
    fn has_suspects(&self, from: &str) -> Result<bool, SourceError> {
        let row = self.one(format!("SELECT count(\"sent\") {from} AND \"suspect\" = true"))?;
        Ok(row.is_some())
    }

    /// Reads every point.
    pub(super) fn figures_by_rows(
        &self,
        window: Window,
        filter: &Filter,
        condition: &Condition,
    ) -> Result<(Vec<PathFigures>, Duration), SourceError> {
        let mut paths: HashMap<Identity, Joining> = HashMap::new();
        let mut resolution = Duration::ZERO;
        self.ask(&self.single(window, condition), filter, &mut |_, Part { identity, path, series }| {
            let empty = || Joining { path: path.clone(), figures: Figures::default(), newest: Wall(0) };
            let joining = paths.entry(identity).or_insert_with(empty);
            for (end, row) in rows(series) {
                resolution = resolution.max(row.interval().unwrap_or_default());
                joining.add(&path, &row.figures(), Wall(end));
            }
            Ok(())
        })?;
        Ok((finished(paths), resolution))
    }

    /// Reads the newest point of each series.
    pub(super) fn figures_at(
        &self,
        moment: Moment,
        filter: &Filter,
        condition: &Condition,
    ) -> Result<Answer<Vec<PathFigures>>, SourceError> {
        let newest = self.newest_of_each(moment, filter, condition, &single(), |columns, cells| {
            let mut row = Row::default();
            row.take(&Places::of(columns), cells);
            (row.interval(), row)
        })?;
        let figures =
            |one: &Newest<Row>| PathFigures { path: one.path.clone(), figures: one.value.figures(), newest: one.end };
        Ok(newest_answer(moment, &newest, newest.iter().map(figures).collect()))
    }

    /// Lets the server join the points of each series.
    pub(super) fn figures_by_server(
        &self,
        window: Window,
        filter: &Filter,
        condition: &Condition,
    ) -> Result<(Vec<PathFigures>, Duration), SourceError> {
        let (during, terms) = (during(window), &condition.text);
        let from = format!("FROM \"{MEASUREMENT}\" WHERE {during}{terms}");
        let asked = Statements { from: from.clone(), during, by: "GROUP BY *".into() };
        let [values, sums] = asked.values();
        let mut statements = vec![values, sums, format!("SELECT last(\"sent\") {from} GROUP BY *")];
        let before = statements.len();
        if self.has_suspects(&from)? {
            statements.extend(asked.suspects());
        }
        /// One series: its values, its newest point and what was suspected.
        struct OfSeries {
            identity: Identity,
            path: Arc<Path>,
            row: Row,
            newest: Wall,
            suspects: Figures,
        }
        let mut all: HashMap<BTreeMap<String, String>, OfSeries> = HashMap::new();
        self.ask(&statements, filter, &mut |statement, Part { identity, path, mut series }| {
            if all.len() >= PATHS {
                return Err(self.too_much(&format!("there are more than {PATHS} paths")));
            }
            let tags = std::mem::take(&mut series.tags);
            let empty =
                || OfSeries { identity, path, row: Row::default(), newest: Wall(0), suspects: Figures::default() };
            let one = all.entry(tags).or_insert_with(empty);
            let places = Places::of(&series.columns);
            for cells in series.values {
                match statement {
                    0 | 1 => one.row.take(&places, cells),
                    2 => one.newest = cells.first().and_then(Cell::whole).map_or(Wall(0), Wall),
                    _ => add_suspects(&mut one.suspects, statement - before, &cells),
                }
            }
            Ok(())
        })?;
        let mut paths: HashMap<Identity, Joining> = HashMap::new();
        let mut resolution = Duration::ZERO;
        for OfSeries { identity, path, mut row, newest, suspects } in all.into_values() {
            row.make_means();
            resolution = resolution.max(row.interval().unwrap_or_default());
            let figures = Figures { suspects: suspects.suspects, suspect: suspects.suspect, ..row.figures() };
            let empty = || Joining { path: path.clone(), figures: Figures::default(), newest: Wall(0) };
            paths.entry(identity).or_insert_with(empty).add(&path, &figures, newest);
        }
        Ok((finished(paths), resolution))
    }

    /// Reads every point. Flows are those of a path at most, added over paths.
    pub(super) fn series_by_rows(
        &self,
        window: Window,
        filter: &Filter,
        condition: &Condition,
        step_ns: u64,
    ) -> Result<Steps, SourceError> {
        let mut steps: BTreeMap<u64, Figures> = BTreeMap::new();
        let mut flows: HashMap<(usize, u64), (u64, u64)> = HashMap::new();
        let mut numbers: HashMap<Identity, usize> = HashMap::new();
        let mut resolution = Duration::ZERO;
        self.ask(&self.single(window, condition), filter, &mut |_, part| {
            let next = numbers.len();
            let number = *numbers.entry(part.identity).or_insert(next);
            for (end, row) in rows(part.series) {
                resolution = resolution.max(row.interval().unwrap_or_default());
                let end = step_end(end, step_ns);
                let mut figures = row.figures();
                let most = flows.entry((number, end)).or_default();
                *most = (most.0.max(figures.flows), most.1.max(figures.flows_with_loss));
                (figures.flows, figures.flows_with_loss) = (0, 0);
                steps.entry(end).or_default().add_path(&figures);
            }
            Ok(())
        })?;
        for ((_, end), (all, with_loss)) in flows {
            let figures = steps.entry(end).or_default();
            figures.flows += all;
            figures.flows_with_loss += with_loss;
        }
        Ok((steps, resolution))
    }

    /// Lets the server join all paths, step by step: those of the first LLAMA, which have less fields, apart.
    pub(super) fn series_by_server(
        &self,
        window: Window,
        condition: &Condition,
        step_ns: u64,
    ) -> Result<Steps, SourceError> {
        let mut steps = BTreeMap::new();
        let mut resolution = Duration::ZERO;
        for written_by in [" AND \"method\" != ''", " AND \"method\" = ''"] {
            let from = format!("FROM \"{MEASUREMENT}\" WHERE {}{}{written_by}", during(window), condition.text);
            // steps that begin before the window have their times there
            let begin = Wall(window.from.0 / step_ns * step_ns);
            let by = format!("GROUP BY time({step_ns}ns, 1ns)");
            let during = during(Window { from: begin, to: window.to });
            let asked = Statements { from: from.clone(), during: during.clone(), by: format!("{by} fill(none)") };
            let [values, sums] = asked.values();
            let flows = "\"flows\", max(\"flows_with_loss\") AS \"flows_with_loss\"";
            let of_paths = format!("SELECT max(\"flows\") AS {flows} {from} {by}, * fill(none)");
            let flows = "\"flows\", sum(\"flows_with_loss\") AS \"flows_with_loss\"";
            let of_all = format!("SELECT sum(\"flows\") AS {flows} FROM ({of_paths}) WHERE {during} {by} fill(none)");
            let mut statements = vec![values, sums, of_all];
            let before = statements.len();
            if self.has_suspects(&from)? {
                statements.extend(asked.suspects());
            }
            let mut all: BTreeMap<u64, (Row, Figures)> = BTreeMap::new();
            self.client.ask(&statements, &mut |statement, series| {
                let places = Places::of(&series.columns);
                for cells in series.values {
                    // a step's time is its first nanosecond
                    let Some(begin) = cells.first().and_then(Cell::whole) else { continue };
                    let (row, suspects) = all.entry(step_end(begin, step_ns)).or_default();
                    match statement.checked_sub(before) {
                        None => row.take(&places, cells),
                        Some(position) => add_suspects(suspects, position, &cells),
                    }
                }
                Ok(())
            })?;
            for (end, (mut row, suspects)) in all {
                row.make_means();
                resolution = resolution.max(row.interval().unwrap_or_default());
                let figures = Figures { suspects: suspects.suspects, suspect: suspects.suspect, ..row.figures() };
                steps.entry(end).or_insert_with(Figures::default).add_path(&figures);
            }
        }
        Ok((steps, resolution))
    }
}

fn finished(paths: HashMap<Identity, Joining>) -> Vec<PathFigures> {
    let one = |Joining { path, figures, newest }| PathFigures { path, figures, newest };
    paths.into_values().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_its_end_and_not_its_begin() {
        assert_eq!([1, 10, 11, 20].map(|end| step_end(end, 10)), [10, 10, 20, 20]);
    }
}
