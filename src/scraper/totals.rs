//! Counts of all collectors together, readable by anyone at any time.

use super::fetch::Failure;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the histogram of a turn's duration, seconds.
pub const DURATIONS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// What the scraper counts about its own work.
#[derive(Debug, Default)]
pub struct Totals {
    /// Turns that worked.
    pub fine: AtomicU64,
    /// Turns that failed, by [`Failure::KINDS`].
    pub failed: [AtomicU64; Failure::KINDS.len()],
    /// Turns by duration, by [`DURATIONS`] and above.
    pub durations: [AtomicU64; DURATIONS.len() + 1],
    /// Sum of the durations, nanoseconds.
    pub duration_ns: AtomicU64,
    /// Turns left out because the collector's last one was still under way.
    pub overruns: AtomicU64,
    /// Turns left out because their time had passed.
    pub skipped: AtomicU64,
    /// Lists of collectors that were wrong.
    pub lists_refused: AtomicU64,
}

impl Totals {
    /// Counts a turn.
    pub fn turn(&self, took: Duration, failure: Option<&Failure>) {
        let counter = failure.map_or(&self.fine, |failure| &self.failed[failure.kind()]);
        counter.fetch_add(1, Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = DURATIONS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATIONS.len());
        self.durations[bucket].fetch_add(1, Relaxed);
        self.duration_ns.fetch_add(crate::time::nanos(took), Relaxed);
    }
}
