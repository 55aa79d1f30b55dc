//! Answers from the history's file.
//!
//! Responsible for choosing a level that answers in time, and for joining its entries. Not responsible for what stands
//! where (see `scan.rs`). Every question is answered from one snapshot of the file. Read [`Reader`].

use super::catalogue::{Catalogue, Entry, Selected};
use super::frame::Total;
use super::layout::Kind;
use super::row;
use super::scan::{Piece, View, Wanted};
use super::store::{Store, Trouble};
use crate::matrix::source::nominal;
use crate::matrix::{
    Answer, Extent, Filter, FlowAt, Level, Moment, PathFigures, Point, REACH, Source, SourceError, Window,
};
use crate::summary::Path;
use crate::summary::figures::Figures;
use crate::summary::path_id::PathId;
use crate::time::Wall;
use redb::ReadableDatabase;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Entries that one answer is joined from at most: about a second.
pub const ENTRIES: u64 = 1_000_000;
/// Flows of one answer at most.
pub const FLOWS: usize = 200_000;
/// Points of one series at most.
pub const POINTS: usize = 20_000;

/// Answers questions about a history. Any number of threads may ask at the same time.
#[derive(Debug)]
pub struct Reader {
    store: Arc<Store>,
}

/// What stops an answer.
enum Stop {
    Trouble(Trouble),
    TooMuch(String),
}

impl<E: Into<Trouble>> From<E> for Stop {
    fn from(trouble: E) -> Stop {
        Stop::Trouble(trouble.into())
    }
}

/// The level chosen for a question, and the window widened to it.
struct Chosen {
    level: u8,
    window: Window,
    resolution: Duration,
}

impl Chosen {
    fn piece(&self) -> Piece {
        Piece { level: self.level, from: self.window.from.0, to: self.window.to.0 }
    }

    fn answer<T>(self, value: T) -> Answer<T> {
        Answer { value, window: self.window, resolution: self.resolution }
    }
}

impl Reader {
    pub(super) fn new(store: Arc<Store>) -> Reader {
        Reader { store }
    }

    /// Asks one snapshot of the file.
    fn ask<T>(&self, f: impl FnOnce(&View<'_>, &Catalogue) -> Result<T, Stop>) -> Result<T, SourceError> {
        let catalogue = self.store.catalogue();
        let answered = self.store.with(|database| {
            let view = View::new(database.begin_read()?, &self.store.layout, &self.store.counters.damaged_blocks)?;
            match f(&view, &catalogue) {
                Ok(answer) => Ok(Ok(answer)),
                Err(Stop::TooMuch(text)) => Ok(Err(SourceError::TooMuch(text))),
                Err(Stop::Trouble(trouble)) => Err(trouble),
            }
        });
        match answered {
            Ok(answer) => answer,
            Err(Trouble::Disk(text)) => Err(SourceError::Away(format!("{}: {text}; it is tried again", self.name()))),
            Err(Trouble::Damage(text)) => {
                self.store.suspect(&text);
                Err(SourceError::Broken(format!("{}: {text}; it is checked at the next interval", self.name())))
            }
        }
    }

    /// The finest level, from `least` on, that reaches back to the window and has few enough entries in it.
    fn choose(&self, view: &View<'_>, window: Window, least: u8, per_entry: u64) -> Result<Chosen, Stop> {
        let interval = view.number("interval")?.max(1_000_000);
        let held = |level: u8| view.periods.iter().filter(move |period| period.level == level);
        let mut entries = 0;
        for level in self.reaching(view, window.from, least)? {
            let layout = self.store.layout.level(level);
            let (from, to) = layout.widened(window.from.0, window.to.0);
            let oldest = held(level).chain(held(0)).map(|period| period.oldest).min().unwrap_or(to);
            let newest = held(0).map(|period| period.newest).max().unwrap_or(from);
            let there = to.min(newest.max(from)).saturating_sub(from.max(oldest.saturating_sub(interval)));
            let length = if level == 0 { interval } else { layout.resolution };
            entries = there.div_ceil(length).saturating_mul(per_entry);
            if entries <= ENTRIES {
                let resolution = nominal(Duration::from_nanos(length));
                return Ok(Chosen { level, window: Window { from: Wall(from), to: Wall(to) }, resolution });
            }
        }
        Err(Stop::TooMuch(format!(
            "{}: about {entries} entries asked for, {ENTRIES} at most; choose a shorter time or fewer paths",
            self.name()
        )))
    }

    /// Levels from `least` on that reach back to an instant, finest first.
    fn reaching(&self, view: &View<'_>, from: Wall, least: u8) -> Result<Vec<u8>, Stop> {
        let mut reaching = Vec::new();
        let mut floors = Vec::new();
        for level in 0..self.store.layout.0.len() as u8 {
            let floor = view.number(&format!("floor/{level}"))?;
            floors.push((floor, level));
            if level >= least && floor <= from.0 {
                reaching.push(level);
            }
        }
        if reaching.is_empty() {
            // none reaches back so far: the one that reaches farthest
            floors.sort_by_key(|(floor, level)| (*floor, *level));
            let farthest = floors.first().map_or(0, |(_, level)| *level);
            reaching.extend(farthest..floors.len() as u8);
        }
        Ok(reaching)
    }

    /// The newest row of each path at an instant; in the order of the series.
    fn newest<T>(
        &self,
        view: &View<'_>,
        catalogue: &Catalogue,
        (moment, filter): (Moment, &Filter),
        of: fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<Newest<T>>, Stop> {
        let selected = catalogue.select(filter);
        let lengths: BTreeMap<u32, u64> =
            view.lengths(moment.at.0)?.into_iter().map(|(source, (longest, ..))| (source, longest)).collect();
        let own = |source: u32| {
            let known = lengths.get(&source).filter(|longest| **longest > 0);
            known.map_or(moment.interval, |longest| Duration::from_nanos(*longest))
        };
        // a level that reaches back for all of them
        let longest = selected.iter().map(|selected| own(selected.source)).max().unwrap_or(moment.interval);
        let level = self.reaching(view, moment.reach(longest).from, 0)?.first().copied().unwrap_or(0);
        let layout = self.store.layout.level(level);
        let mut found: BTreeMap<u32, Newest<T>> = BTreeMap::new();
        for Selected { source, series: mut unseen, .. } in selected {
            let length = own(source);
            let reach = moment.reach(length);
            let (from, to) = layout.widened(reach.from.0, reach.to.0);
            let length = if level == 0 { nominal(length) } else { Duration::from_nanos(layout.resolution) };
            for piece in view.pieces(source, Piece { level, from, to }).into_iter().rev() {
                let level = piece.level;
                view.newest(source, piece, &mut unseen, &mut |end, series, row| {
                    let Some((value, entry)) = of(row).zip(catalogue.get(series)) else { return };
                    found.insert(series, Newest { entry: entry.clone(), series, level, end, length, value });
                })?;
            }
        }
        Ok(newest_of_paths(found))
    }

    fn few_enough(&self, flows: &[FlowAt]) -> Result<(), Stop> {
        match flows.len() <= FLOWS {
            true => Ok(()),
            false => Err(Stop::TooMuch(format!(
                "{}: more than {FLOWS} flows asked for; choose a shorter time or fewer paths",
                self.name()
            ))),
        }
    }

    /// The flows of what was selected.
    fn flows_of(
        &self,
        view: &View<'_>,
        catalogue: &Catalogue,
        selected: &[Selected],
        piece: Piece,
    ) -> Result<Vec<FlowAt>, Stop> {
        let mut found: Vec<FlowAt> = Vec::new();
        for (selected, kind) in selected.iter().flat_map(|one| [(one, Kind::Flows), (one, Kind::Sound)]) {
            each_row(view, kind, selected, piece, &mut |end, series, bytes| {
                add_flows(&mut found, catalogue, (end, series), bytes);
                Ok(())
            })?;
        }
        self.few_enough(&found)?;
        Ok(found)
    }

    /// The flows of a window, from the finest level that has them.
    fn flows_over(
        &self,
        view: &View<'_>,
        catalogue: &Catalogue,
        window: Window,
        selected: &[Selected],
    ) -> Result<Answer<Vec<FlowAt>>, Stop> {
        let mut chosen = self.choose(view, window, 0, number(selected))?;
        let all = self.with_all_flows(view, window, chosen.level)?;
        // of less than a slot, what lost a probe then tells more than all flows of the slot
        let within = window.length() < Duration::from_nanos(self.store.layout.level(all).resolution);
        let mut found = Vec::new();
        if all == chosen.level || within {
            found = self.flows_of(view, catalogue, selected, chosen.piece())?;
        }
        if found.is_empty() && all > chosen.level {
            chosen = self.choose(view, window, all, number(selected))?;
            found = self.flows_of(view, catalogue, selected, chosen.piece())?;
        }
        found.sort_by_key(|flow| flow.end);
        Ok(chosen.answer(found))
    }

    /// The finest level from the chosen one on that has the flows of all paths back to the window, sound ones too; the
    /// chosen one when there is none.
    fn with_all_flows(&self, view: &View<'_>, window: Window, chosen: u8) -> Result<u8, Stop> {
        for level in chosen..self.store.layout.0.len() as u8 {
            if view.number(&format!("sound/{level}"))? <= window.from.0 {
                return Ok(level);
            }
        }
        Ok(chosen)
    }

    /// The coarsest level whose slots fill a step.
    fn level_of(&self, step: u64) -> u8 {
        let fits = |(_, level): &(u8, super::layout::LevelLayout)| step.is_multiple_of(level.resolution);
        self.store.layout.coarser().filter(fits).map(|(level, _)| level).next_back().unwrap_or(0)
    }
}

/// The rows of what was selected of a source.
fn each_row(
    view: &View<'_>,
    kind: Kind,
    selected: &Selected,
    piece: Piece,
    f: &mut impl FnMut(u64, u32, &[u8]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let wanted = match selected.all {
        true => Wanted::Between(0, u32::MAX),
        false => Wanted::These(&selected.series),
    };
    for piece in view.pieces(selected.source, piece) {
        view.rows(kind, selected.source, wanted, piece, f)?;
    }
    Ok(())
}

fn number(selected: &[Selected]) -> u64 {
    selected.iter().map(|selected| selected.series.len() as u64).sum()
}

/// Series of one path, whose tags have changed, as one path with the newest tags; in the order of their numbers.
fn by_path(catalogue: &Catalogue, series: BTreeMap<u32, (Figures, u64)>) -> Vec<PathFigures> {
    let mut position: HashMap<PathId, usize> = HashMap::with_capacity(series.len());
    let mut found: Vec<PathFigures> = Vec::with_capacity(series.len());
    for (number, (figures, newest)) in series {
        let Some(entry) = catalogue.get(number) else { continue };
        let newest = Wall(newest);
        match position.get(&entry.id).and_then(|at| found.get_mut(*at)) {
            Some(known) => {
                known.figures.add_time(&figures);
                if known.newest < newest {
                    (known.newest, known.path) = (newest, entry.path.clone());
                }
            }
            None => {
                position.insert(entry.id, found.len());
                found.push(PathFigures { path: entry.path.clone(), figures, newest });
            }
        }
    }
    found
}

/// Adds the flows of a row, unless there are too many already.
fn add_flows(found: &mut Vec<FlowAt>, catalogue: &Catalogue, (end, series): (u64, u32), bytes: &[u8]) {
    let Some(entry) = catalogue.get(series).filter(|_| found.len() <= FLOWS) else { return };
    let flows = row::flows(bytes, &entry.path).unwrap_or_default();
    found.extend(flows.into_iter().map(|flow| FlowAt { path: entry.path.clone(), end: Wall(end), flow }));
}

/// The newest row of a series at an instant.
struct Newest<T> {
    entry: Arc<Entry>,
    series: u32,
    level: u8,
    end: u64,
    /// Length of what ended then.
    length: Duration,
    value: T,
}

/// Of several series of one path, whose tags have changed, the one with the newest row.
fn newest_of_paths<T>(series: BTreeMap<u32, Newest<T>>) -> Vec<Newest<T>> {
    let mut position: HashMap<PathId, usize> = HashMap::with_capacity(series.len());
    let mut found: Vec<Newest<T>> = Vec::with_capacity(series.len());
    for one in series.into_values() {
        match position.get(&one.entry.id).and_then(|at| found.get_mut(*at)) {
            Some(known) if known.end <= one.end => *known = one,
            Some(_) => {}
            None => {
                position.insert(one.entry.id, found.len());
                found.push(one);
            }
        }
    }
    found
}

/// The answer that was made of these rows.
fn answer_at<T, U>(moment: Moment, rows: &[Newest<T>], value: U) -> Answer<U> {
    let window = moment.window(rows.iter().map(|row| (Wall(row.end), row.length)));
    let resolution = rows.iter().map(|row| row.length).max().unwrap_or(moment.interval);
    Answer { value, window, resolution }
}

/// One step of a series while it is added up, per series or in total.
struct Steps {
    step: u64,
    done: BTreeMap<u64, Figures>,
    /// The step that a source is in, and its parts by series; in total, there is one part.
    open: Option<(u64, BTreeMap<u32, Figures>)>,
    sum: Total,
}

impl Steps {
    fn add(&mut self, end: u64, part: u32, figures: Figures) {
        let step = end.div_ceil(self.step).saturating_mul(self.step);
        if self.open.as_ref().is_some_and(|(open, _)| *open != step) {
            self.close();
        }
        let (_, parts) = self.open.get_or_insert_with(|| (step, BTreeMap::new()));
        match parts.get_mut(&part) {
            Some(known) => known.add_time(&figures),
            None => {
                parts.insert(part, figures);
            }
        }
    }

    fn close(&mut self) {
        let Some((step, parts)) = self.open.take() else { return };
        if self.done.len() > POINTS {
            return; // it is too much, and said so at the end
        }
        let before = self.done.remove(&step);
        if before.is_none() && parts.len() == 1 {
            self.done.extend(parts.into_values().map(|figures| (step, figures)));
            return;
        }
        before.into_iter().chain(parts.into_values()).for_each(|figures| self.sum.add(figures));
        self.done.extend(self.sum.take().map(|sum| (step, sum)));
    }
}

impl Source for Reader {
    fn name(&self) -> String {
        format!("history in {}", self.store.options.directory.display())
    }

    fn extent(&self) -> Result<Extent, SourceError> {
        self.ask(|view, _| {
            let newest = view.periods.iter().filter(|period| period.level == 0).map(|period| period.newest).max();
            let newest = newest.or_else(|| view.periods.iter().map(|period| period.newest).max());
            // sources that are still heard of, and the longest of their intervals
            let current = newest.map_or(Ok(BTreeMap::new()), |newest| view.lengths(newest))?;
            let current = current.into_values().filter(|(_, end, length)| {
                newest.is_some_and(|newest| newest < end.saturating_add(length.saturating_mul(REACH.into())))
            });
            let longest = current.map(|(_, _, length)| length).max();
            let interval = match longest {
                Some(longest) => longest,
                None => view.number("interval")?,
            };
            let interval = nominal(Duration::from_nanos(interval));
            let level = |(level, layout): (usize, &super::layout::LevelLayout)| {
                let of_level = view.periods.iter().filter(|period| usize::from(period.level) == level);
                let resolution = if level == 0 { interval } else { Duration::from_nanos(layout.resolution) };
                Some(Level { resolution, oldest: Wall(of_level.map(|period| period.oldest).min()?) })
            };
            Ok(Extent {
                oldest: view.periods.iter().map(|period| period.oldest).min().map(Wall),
                newest: newest.map(Wall),
                interval,
                levels: self.store.layout.0.iter().enumerate().filter_map(level).collect(),
            })
        })
    }

    fn paths(&self, window: Window) -> Result<Vec<Arc<Path>>, SourceError> {
        self.ask(|view, catalogue| {
            let selected = catalogue.select(&Filter::all());
            let chosen = self.choose(view, window, 0, number(&selected))?;
            let mut series = BTreeSet::new();
            for selected in &selected {
                each_row(view, Kind::Figures, selected, chosen.piece(), &mut |_, number, _| {
                    series.insert(number);
                    Ok(())
                })?;
            }
            let mut position: HashMap<PathId, usize> = HashMap::new();
            let mut found: Vec<Arc<Path>> = Vec::new();
            for entry in series.into_iter().filter_map(|number| catalogue.get(number)) {
                match position.get(&entry.id).and_then(|at| found.get_mut(*at)) {
                    Some(known) => *known = entry.path.clone(), // the newest tags
                    None => {
                        position.insert(entry.id, found.len());
                        found.push(entry.path.clone());
                    }
                }
            }
            Ok(found)
        })
    }

    fn figures(&self, window: Window, filter: &Filter) -> Result<Answer<Vec<PathFigures>>, SourceError> {
        self.ask(|view, catalogue| {
            let selected = catalogue.select(filter);
            let chosen = self.choose(view, window, 0, number(&selected))?;
            let mut found: BTreeMap<u32, (Figures, u64)> = BTreeMap::new();
            for selected in &selected {
                each_row(view, Kind::Figures, selected, chosen.piece(), &mut |end, series, bytes| {
                    let Some(figures) = row::figures(bytes) else { return Ok(()) };
                    match found.get_mut(&series) {
                        Some((known, newest)) => {
                            known.add_time(&figures);
                            *newest = end.max(*newest);
                        }
                        None => {
                            found.insert(series, (figures, end));
                        }
                    }
                    Ok(())
                })?;
            }
            Ok(chosen.answer(by_path(catalogue, found)))
        })
    }

    fn instant(&self, moment: Moment, filter: &Filter) -> Result<Answer<Vec<PathFigures>>, SourceError> {
        self.ask(|view, catalogue| {
            let mut rows = self.newest(view, catalogue, (moment, filter), row::figures)?;
            let of = |row: &mut Newest<Figures>| PathFigures {
                path: row.entry.path.clone(),
                figures: std::mem::take(&mut row.value),
                newest: Wall(row.end),
            };
            let figures = rows.iter_mut().map(of).collect();
            Ok(answer_at(moment, &rows, figures))
        })
    }

    fn instant_flows(&self, moment: Moment, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        self.ask(|view, catalogue| {
            // figures tell which interval is the newest: in it there may be no flows
            let rows = self.newest(view, catalogue, (moment, filter), |_| Some(()))?;
            let mut frames: BTreeMap<(u64, u8, u32), Vec<u32>> = BTreeMap::new();
            for row in &rows {
                frames.entry((row.end, row.level, row.entry.source)).or_default().push(row.series);
            }
            let mut found: Vec<FlowAt> = Vec::new();
            for ((end, level, source), mut series) in frames {
                series.sort_unstable();
                view.flows(source, (level, end), &series, &mut |end, series, bytes| {
                    add_flows(&mut found, catalogue, (end, series), bytes);
                    Ok(())
                })?;
            }
            self.few_enough(&found)?;
            let answer = answer_at(moment, &rows, found);
            if answer.value.is_empty() && !rows.is_empty() {
                // sound paths' flows may be kept no more but in a coarser level
                return self.flows_over(view, catalogue, answer.window, &catalogue.select(filter));
            }
            Ok(answer)
        })
    }

    fn series(&self, window: Window, filter: &Filter, step: Duration) -> Result<Answer<Vec<Point>>, SourceError> {
        let step = crate::time::nanos(step).max(1);
        self.ask(|view, catalogue| {
            let selected = catalogue.select(filter);
            let in_total = filter.is_all();
            let per_entry = if in_total { selected.len() as u64 } else { number(&selected) };
            let chosen = self.choose(view, window, self.level_of(step), per_entry)?;
            let mut steps = Steps { step, done: BTreeMap::new(), open: None, sum: Total::default() };
            for selected in &selected {
                match in_total {
                    true => {
                        for piece in view.pieces(selected.source, chosen.piece()) {
                            view.totals(selected.source, piece, &mut |end, figures| steps.add(end, 0, figures))?;
                        }
                    }
                    false => each_row(view, Kind::Figures, selected, chosen.piece(), &mut |end, series, bytes| {
                        if let Some(figures) = row::figures(bytes) {
                            steps.add(end, series, figures);
                        }
                        Ok(())
                    })?,
                }
                steps.close();
            }
            if steps.done.len() > POINTS {
                let text = format!("{}: more than {POINTS} points asked for; choose longer steps", self.name());
                return Err(Stop::TooMuch(text));
            }
            let points = steps.done.into_iter().map(|(end, figures)| Point { end: Wall(end), figures });
            Ok(chosen.answer(points.collect()))
        })
    }

    fn flows(&self, window: Window, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        self.ask(|view, catalogue| self.flows_over(view, catalogue, window, &catalogue.select(filter)))
    }
}
