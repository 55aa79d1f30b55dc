//! The newest point of each path at an instant: the server is asked for the last of each series, not for a window.
//!
//! Read [`InfluxSource::newest_of_each`].

use super::answer::Cell;
use super::condition::{Condition, during};
use super::series_path::{Identity, order};
use super::{InfluxSource, PATHS, Part};
use crate::matrix::question::{Filter, Window};
use crate::matrix::source::{Answer, LONGEST, Moment, SourceError, nominal};
use crate::sink::influx::line::MEASUREMENT;
use crate::summary::Path;
use crate::time::Wall;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Points are looked for so far back: each says how long its interval is, and with that whether it is too old.
const LOOK_BACK: Duration = Duration::from_secs(900);

/// The newest point of a path.
pub(super) struct Newest<T> {
    /// Its tags as they were then.
    pub path: Arc<Path>,
    /// End of its interval.
    pub end: Wall,
    /// Length of its interval.
    pub interval: Duration,
    /// What was made of it.
    pub value: T,
}

/// The answer that was made of these points.
pub(super) fn newest_answer<T, U>(moment: Moment, points: &[Newest<T>], value: U) -> Answer<U> {
    let window = moment.window(points.iter().map(|point| (point.end, nominal(point.interval))));
    let resolution = points.iter().map(|point| nominal(point.interval)).max().unwrap_or(moment.interval);
    Answer { value, window, resolution }
}

impl InfluxSource {
    /// Asks for `fields` of the newest point of each path, as one that says its interval, and what `of` makes of
    /// columns and cells: the interval, where it is said, and a value. In the order of paths.
    pub(super) fn newest_of_each<T>(
        &self,
        moment: Moment,
        filter: &Filter,
        condition: &Condition,
        fields: &str,
        of: impl Fn(&[String], Vec<Cell>) -> (Option<Duration>, T),
    ) -> Result<Vec<Newest<T>>, SourceError> {
        let reach = moment.reach(moment.interval);
        let from = reach.from.min(moment.at.before(LOOK_BACK));
        let (during, terms) = (during(Window { from, ..reach }), &condition.text);
        let statement = format!(
            "SELECT {fields} FROM \"{MEASUREMENT}\" WHERE {during}{terms} GROUP BY * ORDER BY time DESC LIMIT 1"
        );
        let mut found: HashMap<Identity, Newest<T>> = HashMap::new();
        self.ask(&[statement], filter, &mut |_, Part { identity, path, series }| {
            for cells in series.values {
                let Some(end) = cells.first().and_then(Cell::whole).map(Wall) else { continue };
                let (interval, value) = of(&series.columns, cells);
                let said = interval.filter(|interval| !interval.is_zero() && *interval <= LONGEST);
                let interval = said.unwrap_or(moment.interval);
                let older = found.get(&identity).is_some_and(|known| known.end > end);
                if older || !moment.reach(interval).holds(end) {
                    continue;
                }
                found.insert(identity.clone(), Newest { path: path.clone(), end, interval, value });
                if found.len() > PATHS {
                    return Err(self.too_much(&format!("there are more than {PATHS} paths")));
                }
            }
            Ok(())
        })?;
        let mut newest: Vec<_> = found.into_values().collect();
        newest.sort_by(|a, b| order(&a.path, &b.path));
        self.remember(newest.iter().map(|one| &one.path));
        Ok(newest)
    }
}
