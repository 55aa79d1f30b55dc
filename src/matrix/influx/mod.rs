//! A fleet's InfluxDB as the source of the matrix, over the query language of 1.x.
//!
//! Responsible for asking for what [`sink::influx`](crate::sink::influx) wrote, and what the first LLAMA wrote, and for
//! joining it to the same figures. Up to [`Options::row_limit`] points are read and joined here, exactly; of more the
//! server joins, and percentiles are bounds. Not responsible for keeping answers. Read [`InfluxSource`] first.
//!
//! A question's way: [`condition`] makes a window and a filter text, every text in it through [`quote`] → [`client`]
//! asks and reads the answer in chunks → [`series_path`] makes paths of tags, [`columns`] figures of values → [`join`]
//! joins them.

mod answer;
mod client;
mod columns;
mod condition;
mod flows;
mod join;
mod newest;
mod point;
mod quote;
mod series_path;

use super::question::{Filter, Window};
use super::source::LONGEST;
use super::source::{Answer, Extent, FlowAt, Level, Moment, PathFigures, Point, Source, SourceError, nominal};
use crate::sink::influx::Target;
use crate::sink::influx::line::MEASUREMENT;
use crate::summary::Path;
use crate::summary::path_id::PathId;
use crate::time::Wall;
use answer::{Cell, Series};
use client::Client;
use condition::{Condition, during};
use series_path::{Identity, order, path_of};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use point::read_point;

/// Requests under way at most; further ones wait.
pub const REQUESTS: usize = 4;
/// Points that are read at most to be joined here.
pub const ROW_LIMIT: u64 = 200_000;
/// Paths of an answer at most.
const PATHS: usize = 200_000;
/// Steps of a series at most.
const STEPS: u64 = 100_000;
/// Bytes of an answer at most, unpacked.
const ANSWER_BYTES: u64 = 512 << 20;
/// How long the oldest point is remembered: it changes with the retention only, and is dear to find.
const OLDEST_HOLDS: Duration = Duration::from_secs(60);
/// Where the newest point is looked for first.
const RECENT: &str = "now() - 1h";
/// Points of this time say how long intervals are now: collectors may differ.
const LAST: &str = "2m";
/// Length of an interval where points do not say it and there are no two of one series: the first LLAMA's.
const UPSTREAMS_INTERVAL: Duration = Duration::from_secs(30);

/// How a database is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which one; a database of InfluxDB 1.x.
    pub target: Target,
    /// Trusted certificates (PEM) instead of the public ones, for a private authority.
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect.
    pub connect: Duration,
    /// Longest time for a request, from resolving the name to the end of the answer.
    pub request: Duration,
    /// Points that are read and joined here; of more, the server joins.
    pub row_limit: u64,
    /// Bytes of an answer at most, unpacked.
    pub answer_bytes: u64,
}

impl Options {
    /// The target with everything else as it is best for most.
    pub fn new(target: Target) -> Options {
        let (connect, request) = (Duration::from_secs(5), Duration::from_secs(30));
        Options { target, ca_file: None, connect, request, row_limit: ROW_LIMIT, answer_bytes: ANSWER_BYTES }
    }
}

/// A database of summaries.
#[derive(Debug)]
pub struct InfluxSource {
    client: Client,
    row_limit: u64,
    /// Paths that were seen, so that one named by its id can be asked for.
    known: Mutex<HashMap<PathId, Arc<Path>>>,
    oldest: Mutex<Option<(Instant, Wall)>>,
    /// Whether it was said that series are left out.
    said: AtomicBool,
}

/// A part of an answer's rows that are of one path.
struct Part {
    identity: Identity,
    path: Arc<Path>,
    series: Series,
}

impl InfluxSource {
    /// A source that asks this database. Whether the server is there is seen with the first question.
    ///
    /// # Errors
    /// The target is a bucket, or the certificates cannot be used.
    pub fn new(options: &Options) -> Result<InfluxSource, SourceError> {
        Ok(InfluxSource {
            client: Client::new(options)?,
            row_limit: options.row_limit,
            known: Mutex::default(),
            oldest: Mutex::default(),
            said: AtomicBool::new(false),
        })
    }

    fn too_much(&self, what: &str) -> SourceError {
        SourceError::TooMuch(format!("{}: {what}; ask for less time or fewer paths", self.name()))
    }

    /// The condition of a filter; `None` when no point of the window can fulfil it.
    fn condition(&self, window: Window, filter: &Filter) -> Result<Option<Condition>, SourceError> {
        let Some(id) = filter.path else { return Ok(Condition::of(filter, None)) };
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let mut path = known();
        if path.is_none() {
            self.paths(window)?;
            path = known();
        }
        Ok(path.and_then(|path| Condition::of(filter, Some(&path))))
    }

    /// The path of a series that the filter takes; `None` for others.
    fn path_of_series(&self, series: &Series, filter: &Filter) -> Option<(Identity, Arc<Path>)> {
        let Some(path) = path_of(&series.tags) else {
            if !self.said.swap(true, Relaxed) {
                tracing::warn!(
                    "{} has points of a method or class that this version does not know; they are left out",
                    self.name()
                );
            }
            return None;
        };
        let path = filter.takes(&path).then(|| Arc::new(path))?;
        Some((Identity::of(&path), path))
    }

    fn remember<'a>(&self, paths: impl Iterator<Item = &'a Arc<Path>>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for path in paths {
            if known.len() >= PATHS {
                known.clear(); // what is asked for again is found again
            }
            known.insert(PathId::of(path), path.clone());
        }
    }

    /// Asks, and gives what is of paths that the filter takes.
    fn ask(
        &self,
        statements: &[String],
        filter: &Filter,
        each: &mut dyn FnMut(usize, Part) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        self.client.ask(statements, &mut |statement, series| match self.path_of_series(&series, filter) {
            Some((identity, path)) => each(statement, Part { identity, path, series }),
            None => Ok(()),
        })
    }

    /// The first row of one statement: its time, and its further values.
    fn one(&self, statement: String) -> Result<Option<(Wall, Vec<Cell>)>, SourceError> {
        let mut found = None;
        self.client.ask(&[statement], &mut |_, series| {
            if let Some(row) = series.values.into_iter().next()
                && let Some(time) = row.first().and_then(Cell::whole)
            {
                found = Some((Wall(time), row.into_iter().skip(1).collect()));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// How many points there are.
    fn points(&self, window: Window, condition: &Condition) -> Result<u64, SourceError> {
        let (during, terms) = (during(window), &condition.text);
        let row = self.one(format!("SELECT count(\"sent\") FROM \"{MEASUREMENT}\" WHERE {during}{terms}"))?;
        Ok(row.and_then(|(_, cells)| cells.first().and_then(Cell::whole)).unwrap_or(0))
    }

    /// End of the newest interval, and its length where points say it.
    fn newest(&self) -> Result<Option<(Wall, Option<Duration>)>, SourceError> {
        let last = |since: &str| format!("SELECT last(\"sent\"), \"interval_s\" FROM \"{MEASUREMENT}\"{since}");
        let row = match self.one(last(&format!(" WHERE time > {RECENT}")))? {
            Some(row) => Some(row),
            None => self.one(last(""))?,
        };
        Ok(row.map(|(time, cells)| {
            let seconds = cells.get(1).and_then(Cell::float);
            (time, seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
        }))
    }

    fn oldest(&self) -> Result<Option<Wall>, SourceError> {
        let held = || *self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, oldest)) = held().filter(|(at, _)| at.elapsed() < OLDEST_HOLDS) {
            return Ok(Some(oldest));
        }
        let row = self.one(format!("SELECT first(\"sent\") FROM \"{MEASUREMENT}\""))?;
        let oldest = row.map(|(time, _)| time);
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest.map(|oldest| (Instant::now(), oldest));
        Ok(oldest)
    }

    /// The longest interval that points say of the last time.
    fn longest(&self, newest: Wall) -> Result<Option<Duration>, SourceError> {
        let (measurement, to) = (MEASUREMENT, newest.0);
        let row = self.one(format!(
            "SELECT max(\"interval_s\") FROM \"{measurement}\" WHERE time > {to} - {LAST} AND time <= {to}"
        ))?;
        let seconds = row.and_then(|(_, cells)| cells.first().and_then(Cell::float));
        let longest = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(longest.filter(|longest| *longest <= LONGEST))
    }

    /// The time between two points of one series, for databases whose points do not say it.
    fn distance(&self, newest: Wall) -> Result<Option<Duration>, SourceError> {
        let mut times = Vec::new();
        let statement = format!(
            "SELECT \"sent\" FROM \"{MEASUREMENT}\" WHERE time > {} - 1d AND time <= {} GROUP BY * \
             ORDER BY time DESC LIMIT 2 SLIMIT 1",
            newest.0, newest.0
        );
        self.client.ask(&[statement], &mut |_, series| {
            times.extend(series.values.iter().filter_map(|row| row.first().and_then(Cell::whole)));
            Ok(())
        })?;
        Ok(match times[..] {
            [a, b] => Some(Duration::from_nanos(a.abs_diff(b))).filter(|distance| !distance.is_zero()),
            _ => None,
        })
    }
}

impl Source for InfluxSource {
    fn name(&self) -> String {
        format!("InfluxDB at {}", self.client.place())
    }

    fn extent(&self) -> Result<Extent, SourceError> {
        let Some((newest, said)) = self.newest()? else { return Ok(Extent::default()) };
        let interval = match said {
            Some(interval) => self.longest(newest)?.unwrap_or(interval),
            None => self.distance(newest)?.unwrap_or(UPSTREAMS_INTERVAL),
        };
        let interval = nominal(interval);
        let oldest = self.oldest()?.unwrap_or(newest);
        let levels = vec![Level { resolution: interval, oldest }];
        Ok(Extent { oldest: Some(oldest), newest: Some(newest), interval, levels })
    }

    fn paths(&self, window: Window) -> Result<Vec<Arc<Path>>, SourceError> {
        let Some(condition) = Condition::of(&Filter::all(), None) else { return Ok(Vec::new()) };
        let (during, terms) = (during(window), condition.text);
        let last = format!("SELECT last(\"sent\") FROM \"{MEASUREMENT}\" WHERE {during}{terms} GROUP BY *");
        let mut found: HashMap<Identity, (Wall, Arc<Path>)> = HashMap::new();
        self.ask(&[last], &Filter::all(), &mut |_, part| {
            let time =
                part.series.values.first().and_then(|row| row.first()).and_then(Cell::whole).map_or(Wall(0), Wall);
            if found.len() >= PATHS {
                return Err(self.too_much(&format!("there are more than {PATHS} paths")));
            }
            let newest = found.entry(part.identity).or_insert((time, part.path.clone()));
            if time > newest.0 {
                *newest = (time, part.path);
            }
            Ok(())
        })?;
        let mut paths: Vec<_> = found.into_values().map(|(_, path)| path).collect();
        paths.sort_by(|a, b| order(a, b));
        self.remember(paths.iter());
        Ok(paths)
    }

    fn figures(&self, window: Window, filter: &Filter) -> Result<Answer<Vec<PathFigures>>, SourceError> {
        let Some(condition) = self.condition(window, filter)? else {
            return Ok(Answer { value: Vec::new(), window, resolution: Duration::ZERO });
        };
        let (mut value, resolution) = match self.points(window, &condition)? <= self.row_limit {
            true => self.figures_by_rows(window, filter, &condition)?,
            false => self.figures_by_server(window, filter, &condition)?,
        };
        value.sort_by(|a, b| order(&a.path, &b.path));
        self.remember(value.iter().map(|one| &one.path));
        Ok(Answer { value, window, resolution })
    }

    fn instant(&self, moment: Moment, filter: &Filter) -> Result<Answer<Vec<PathFigures>>, SourceError> {
        match self.condition(moment.reach(moment.interval), filter)? {
            Some(condition) => self.figures_at(moment, filter, &condition),
            None => Ok(newest::newest_answer::<(), _>(moment, &[], Vec::new())),
        }
    }

    fn instant_flows(&self, moment: Moment, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        match self.condition(moment.reach(moment.interval), filter)? {
            Some(condition) => self.flows_at(moment, filter, &condition),
            None => Ok(newest::newest_answer::<(), _>(moment, &[], Vec::new())),
        }
    }

    fn series(&self, window: Window, filter: &Filter, step: Duration) -> Result<Answer<Vec<Point>>, SourceError> {
        let step_ns = crate::time::nanos(step);
        let steps = window.to.0.saturating_sub(window.from.0).checked_div(step_ns).unwrap_or(u64::MAX);
        if steps > STEPS {
            return Err(self.too_much(&format!("{steps} steps of {step:?} are asked for, {STEPS} are given at most")));
        }
        let Some(condition) = self.condition(window, filter)? else {
            return Ok(Answer { value: Vec::new(), window, resolution: Duration::ZERO });
        };
        let points = self.points(window, &condition)?;
        let (value, resolution): (BTreeMap<u64, _>, _) = match points <= self.row_limit {
            true => self.series_by_rows(window, filter, &condition, step_ns)?,
            false if condition.exact => self.series_by_server(window, &condition, step_ns)?,
            false => {
                let limit = self.row_limit;
                return Err(self.too_much(&format!("{points} points are asked for, {limit} at most with this filter")));
            }
        };
        let value = value.into_iter().map(|(end, figures)| Point { end: Wall(end), figures }).collect();
        Ok(Answer { value, window, resolution })
    }

    fn flows(&self, window: Window, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        let Some(condition) = self.condition(window, filter)? else {
            return Ok(Answer { value: Vec::new(), window, resolution: Duration::ZERO });
        };
        self.flows_by_rows(window, filter, &condition)
    }
}
