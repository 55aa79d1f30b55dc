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
    /// Length of the newest interval.
    pub interval: Duration,
    /// Resolutions, finest first.
    pub levels: Vec<Level>,
}

impl Extent {
    /// The newest interval alone; `None` while there is nothing.
    pub fn latest(&self) -> Option<Window> {
        Some(self.at(self.newest?))
    }

    /// A window of one interval that ends at `to`. Collectors do not end their intervals together: over many of them
    /// it holds the newest of each, give or take one.
    pub fn at(&self, to: Wall) -> Window {
        let length = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        Window { from: Wall(to.0.saturating_sub(length)), to }
    }
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
