//! Delivering summaries: JSON lines, InfluxDB.
//!
//! Responsible for getting every [`Summary`] to each destination or counting it as dropped or
//! refused, without ever making the summary thread wait. Not responsible for what a summary says.
//! Read [`Sinks`] first, then [`Limits`] for the bounds and [`record`] for the names people see.
//!
//! A summary is rendered to its line by the thread that delivers it (microseconds each; a line is
//! smaller than a summary and its size is exact) and queued per sink. Each sink has one thread, which
//! alone waits for disks and servers.

mod calendar;
mod counters;
pub mod influx;
mod json_lines;
mod parsed;
mod queue;
pub mod record;
pub mod spool;
pub mod stats;

pub use calendar::{parse_rfc3339, rfc3339};
pub use counters::{SinkCounters, SinkSnapshot};
pub use queue::Limits;
pub use stats::CollectorStats;

use crate::summary::Summary;
use crossbeam_channel::{Receiver, bounded};
use queue::Queue;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a sink could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The output file cannot be opened for appending.
    #[error("output: cannot open {path}: {source}; name a writable file, or - for standard output")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of trusted certificates cannot be used.
    #[error("influx: cannot use the certificates in {path}: {reason}; give a PEM file")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
    /// No thread for it.
    #[error("cannot start a thread for {name}: {source}")]
    Thread {
        /// The sink.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What a sink had not delivered at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The sink's counters at the end; `queued` of them are lost.
    pub counters: SinkSnapshot,
}

/// All destinations of a collector's summaries.
///
/// Dropping it gives up what waits, or leaves it to the spool; [`Sinks::close`] delivers it first.
#[derive(Debug, Default)]
pub struct Sinks {
    sinks: Vec<Running>,
}

/// A line of output, its newline included, for one summary.
type Render = fn(&Summary, &mut Vec<u8>);

#[derive(Debug)]
struct Running {
    queue: Arc<Queue>,
    counters: Arc<SinkCounters>,
    render: Render,
    /// Whether it takes points that are no summaries.
    points: bool,
    /// Disconnects when the sink's thread has ended.
    ended: Receiver<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queue.close(Instant::now()); // the thread ends by itself; waiting for it is close()'s business
    }
}

impl Sinks {
    /// No destination yet.
    pub fn new() -> Sinks {
        Sinks::default()
    }

    /// True without any destination.
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Adds JSON lines appended to `file`, or written to standard output when it is `-`.
    ///
    /// # Errors
    /// The file cannot be opened, no thread can be started.
    pub fn add_json_lines(&mut self, file: &Path, limits: Limits) -> Result<(), SinkError> {
        let (output, name) = json_lines::open(file)?;
        self.add(name, limits, record::json_line, false, move |queue| {
            let queue = queue.clone();
            Ok(move || json_lines::run(&queue, output))
        })
    }

    /// Adds an InfluxDB server.
    ///
    /// # Errors
    /// The file of trusted certificates or the spool cannot be used, no thread can be started. That the server
    /// can be reached is not checked: it may come later.
    pub fn add_influx(&mut self, options: influx::Options, limits: Limits) -> Result<(), SinkError> {
        let name = options.target.to_string();
        let render = if options.detail { influx::detailed_line } else { influx::line };
        self.add(name, limits, render, true, move |queue| {
            let (shipper, queue) = (influx::Shipper::new(&options, queue)?, queue.clone());
            Ok(move || shipper.run(&queue))
        })
    }

    /// Starts a thread with what `prepare` makes of the queue.
    fn add<R: FnOnce() + Send + 'static>(
        &mut self,
        name: String,
        limits: Limits,
        render: Render,
        points: bool,
        prepare: impl FnOnce(&Arc<Queue>) -> Result<R, SinkError>,
    ) -> Result<(), SinkError> {
        let counters = Arc::new(SinkCounters::new(name.clone()));
        let queue = Arc::new(Queue::new(limits, counters.clone()));
        let run = prepare(&queue)?;
        let (ending, ended) = bounded::<()>(1);
        std::thread::Builder::new()
            .name("sink".into())
            .spawn(move || {
                run();
                drop(ending);
            })
            .map_err(|source| SinkError::Thread { name, source })?;
        self.sinks.push(Running { queue, counters, render, points, ended });
        Ok(())
    }

    /// Hands summaries to every sink. Never waits for a destination: where a queue is full, the
    /// oldest summaries in it are dropped and counted.
    pub fn deliver(&self, summaries: &[Summary]) {
        let mut buffer = Vec::new();
        for sink in &self.sinks {
            let lines = summaries
                .iter()
                .map(|summary| {
                    buffer.clear();
                    (sink.render)(summary, &mut buffer);
                    Box::from(buffer.as_slice())
                })
                .collect();
            sink.queue.push(lines);
        }
    }

    /// Hands points that are no summaries to every database; files of JSON lines do not get them. Never waits,
    /// as [`Sinks::deliver`]. A point that is no line ([`influx::Point::line`]) is left out, uncounted.
    pub fn deliver_points(&self, points: &[influx::Point]) {
        for sink in self.sinks.iter().filter(|sink| sink.points) {
            let lines = points.iter().filter_map(|point| Some(point.line()?.into_boxed_slice())).collect();
            sink.queue.push(lines);
        }
    }

    /// Hands a collector's own state to every database, as [`Sinks::deliver_points`].
    pub fn deliver_stats(&self, stats: &CollectorStats) {
        self.deliver_points(&[stats.point()]);
    }

    /// Queues lines as they are for every sink: what [`Sinks::deliver`] does after rendering. For
    /// tests of what a server refuses.
    #[doc(hidden)]
    pub fn deliver_lines(&self, lines: &[&str]) {
        for sink in &self.sinks {
            sink.queue.push(lines.iter().map(|line| Box::from(line.as_bytes())).collect());
        }
    }

    /// Whether there are destinations and none of them will ever take a summary again.
    pub fn all_gone(&self) -> bool {
        !self.sinks.is_empty() && self.sinks.iter().all(|sink| sink.counters.is_gone())
    }

    /// The counters of every sink, to be read at any time, also after [`Sinks::close`].
    pub fn counters(&self) -> Vec<Arc<SinkCounters>> {
        self.sinks.iter().map(|sink| sink.counters.clone()).collect()
    }

    /// Delivers what waits, for at most `within` in all, and names the sinks that could not.
    ///
    /// A thread that hangs in a write or a request at the deadline is left behind; its lines count
    /// as undelivered. What is in a spool then is not lost: the next run with that spool delivers it.
    pub fn close(self, within: Duration) -> Vec<Leftover> {
        let deadline = Instant::now() + within;
        for sink in &self.sinks {
            sink.queue.close(deadline);
        }
        let mut left = Vec::new();
        for sink in &self.sinks {
            // an error means "ended" or "deadline"; the counters tell which
            let _ = sink.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let counters = sink.counters.snapshot();
            if counters.queued > 0 {
                left.push(Leftover { counters });
            }
        }
        left
    }
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} summaries undelivered", self.counters.name, self.counters.queued)?;
        match &self.counters.last_error {
            Some(error) => write!(f, "; last error: {error}"),
            None => Ok(()),
        }
    }
}

/// A warning that repeats: said at most once a minute, with how often it was not said.
#[derive(Debug, Default)]
struct Warning {
    last: Option<Instant>,
    suppressed: u64,
}

impl Warning {
    const EVERY: Duration = Duration::from_secs(60);

    /// How many were suppressed since the last one, when one may be said at `now`.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < Warning::EVERY) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Warns that `sink` failed with `error`, unless it did so within the last minute.
    fn say(&mut self, counters: &SinkCounters, error: &str) {
        if let Some(suppressed) = self.due(Instant::now()) {
            let SinkSnapshot { name, queued, dropped, refused, .. } = counters.snapshot();
            tracing::warn!(sink = name, queued, dropped, refused, suppressed, "{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_said_once_a_minute_with_the_count_between() {
        let start = Instant::now();
        let mut warning = Warning::default();
        assert_eq!(warning.due(start), Some(0));
        assert_eq!(warning.due(start + Duration::from_secs(59)), None);
        assert_eq!(warning.due(start + Duration::from_secs(59)), None);
        assert_eq!(warning.due(start + Duration::from_secs(60)), Some(2));
        assert_eq!(warning.due(start + Duration::from_secs(120)), Some(0));
    }
}
