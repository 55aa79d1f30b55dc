//! Where the numbers of the matrix come from.
//!
//! Read [`Source`] first. There are two: the embedded history, and a fleet's InfluxDB.

use super::question::{Filter, Window};
use crate::summary::figures::Figures;
use crate::summary::{FlowSummary, Path};
use crate::time::Wall;
use std::sync::Arc;
use std::time::Duration;

/// Why a source has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It is away or does not answer; what it said, and what to do.
    #[error("{0}")]
    Away(String),
    /// More is asked than it answers at once; the limit and what to do.
    #[error("{0}")]
    TooMuch(String),
    /// It is damaged or says what cannot be.
    #[error("{0}")]
    Broken(String),
}

/// One resolution in which summaries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Time that one entry stands for.
    pub resolution: Duration,
    /// End of the oldest entry.
    pub oldest: Wall,
}

/// What a source has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// End of the oldest interval; `None` while there is nothing.
    pub oldest: Option<Wall>,
    /// End of the newest interval.
    pub newest: Option<Wall>,
    /// Length of the longest interval that is measured in now, to the millisecond: ends jitter.
    pub interval: Duration,
    /// Resolutions, finest first.
    pub levels: Vec<Level>,
}

impl Extent {
    /// The instant of the newest interval; `None` while there is nothing.
    pub fn latest(&self) -> Option<Moment> {
        Some(self.moment(self.newest?))
    }

    /// An instant.
    pub fn moment(&self, at: Wall) -> Moment {
        Moment { at, interval: self.interval }
    }

    /// A window of one interval that ends at `to`.
    pub fn at(&self, to: Wall) -> Window {
        Window { from: to.before(self.interval), to }
    }
}

/// Intervals after which a path that is not heard of again is no data.
pub const REACH: u32 = 3;

/// Intervals that are said to be longer are not believed: they would make an instant reach back for years.
pub(crate) const LONGEST: Duration = Duration::from_secs(86_400);

/// An instant: of each path it means the newest interval that ended up to then, unless that is [`REACH`] intervals ago.
/// Collectors do not end their intervals together, nor to the microsecond: a window would hold two of one path and
/// none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Wall,
    /// Length of the intervals of a path where the source does not know it.
    pub interval: Duration,
}

impl Moment {
    /// The window in which a path must have been heard of that is measured in intervals of this length.
    pub fn reach(&self, interval: Duration) -> Window {
        Window { from: self.at.before(interval.saturating_mul(REACH)), to: self.at }
    }

    /// The instant so much earlier.
    pub fn earlier(&self, by: Duration) -> Moment {
        Moment { at: self.at.before(by), ..*self }
    }

    /// What an answer is about, whose intervals ended at these instants and were so long; one interval when there is
    /// none.
    pub fn window(&self, intervals: impl Iterator<Item = (Wall, Duration)>) -> Window {
        let spans = intervals.map(|(end, interval)| Window { from: end.before(interval), to: end });
        spans
            .reduce(|a, b| Window { from: a.from.min(b.from), to: a.to.max(b.to) })
            .unwrap_or(Window { from: self.at.before(self.interval), to: self.at })
    }
}

/// The length that an interval was meant to have: ends jitter by microseconds.
pub(crate) fn nominal(interval: Duration) -> Duration {
    const JITTER: u128 = 1_000_000;
    let rounded = (interval.as_nanos() + JITTER / 2) / JITTER * JITTER;
    u64::try_from(rounded).ok().filter(|ns| *ns > 0).map_or(interval, Duration::from_nanos)
}

/// An answer, and how fine it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The time it is about: what was asked, widened to whole entries of `resolution`.
    pub window: Window,
    /// Length of the entries it was joined from.
    pub resolution: Duration,
}

/// One path and its figures over a window.
#[derive(Clone, Debug, PartialEq)]
pub struct PathFigures {
    /// Which path.
    pub path: Arc<Path>,
    /// Its figures.
    pub figures: Figures,
    /// End of its newest interval in the window.
    pub newest: Wall,
}

/// The joined figures of one step of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Where the step ends. A step without summaries has no point.
    pub end: Wall,
    /// What was measured in it.
    pub figures: Figures,
}

/// One flow of a path in one interval, or in one entry of a coarser level.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowAt {
    /// Path of the flow.
    pub path: Arc<Path>,
    /// Where the interval ends.
    pub end: Wall,
    /// What was counted. Of a path with many flows only the worst of each interval are kept.
    pub flow: FlowSummary,
}

/// What answers questions about measured summaries. Calls may wait for a disk or a server.
pub trait Source: Send + Sync {
    /// Its name for people: `history in DIR`, `InfluxDB at HOST:PORT`.
    fn name(&self) -> String;

    /// What it has.
    ///
    /// # Errors
    /// It does not answer.
    fn extent(&self) -> Result<Extent, SourceError>;

    /// Every path that was measured in the window; their order is the same in every call.
    ///
    /// # Errors
    /// It does not answer, or there are too many.
    fn paths(&self, window: Window) -> Result<Vec<Arc<Path>>, SourceError>;

    /// The figures of each path that the filter takes, over the window. It takes the finest level that answers in time.
    ///
    /// # Errors
    /// It does not answer, or it is asked for too much.
    fn figures(&self, window: Window, filter: &Filter) -> Result<Answer<Vec<PathFigures>>, SourceError>;

    /// The figures of each path that the filter takes in its newest interval at an instant, and nothing older of it. The
    /// answer's window begins with the oldest of these intervals and ends with the newest.
    ///
    /// # Errors
    /// It does not answer, or it is asked for too much.
    fn instant(&self, moment: Moment, filter: &Filter) -> Result<Answer<Vec<PathFigures>>, SourceError>;

    /// The flows kept of these intervals.
    ///
    /// # Errors
    /// It does not answer, or it is asked for too much.
    fn instant_flows(&self, moment: Moment, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError>;

    /// The joined figures of all paths that the filter takes, per `step`; steps end at multiples of `step` since 1970.
    /// Paths are joined by [`Figures::add_path`].
    ///
    /// # Errors
    /// It does not answer, or it is asked for too much.
    fn series(&self, window: Window, filter: &Filter, step: Duration) -> Result<Answer<Vec<Point>>, SourceError>;

    /// The flows kept of the paths that the filter takes, per interval, ascending by end.
    ///
    /// # Errors
    /// It does not answer, or it is asked for too much.
    fn flows(&self, window: Window, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_reaches_back_some_intervals() {
        let extent = Extent { newest: Some(Wall(100)), interval: Duration::from_nanos(10), ..Extent::default() };
        let moment = extent.latest().expect("something");
        assert_eq!(moment.reach(Duration::from_nanos(20)), Window { from: Wall(40), to: Wall(100) });
        assert_eq!(moment.earlier(Duration::from_nanos(30)).at, Wall(70));
        let intervals = [(Wall(95), Duration::from_nanos(10)), (Wall(80), Duration::from_nanos(60))];
        assert_eq!(moment.window(intervals.into_iter()), Window { from: Wall(20), to: Wall(95) });
        assert_eq!(moment.window([].into_iter()), extent.at(Wall(100)));
    }

    #[test]
    fn lengths_lose_their_jitter() {
        let of = |ns| nominal(Duration::from_nanos(ns)).as_nanos();
        assert_eq!(
            [9_999_950_000, 10_000_050_000, 250_000_000, 7].map(of),
            [10_000_000_000, 10_000_000_000, 250_000_000, 7]
        );
    }
}
