//! The embedded history: what was measured, kept on this machine's disk, so that the matrix needs no database.
//!
//! Responsible for keeping every summary as long as asked, finely at first and coarser later, through crashes, full
//! disks and damaged files, and for answering questions about it. Not responsible for what is asked nor how it is
//! shown. A summary's way: [`Writer::add`] → a bounded queue → the thread `history`, which alone writes the file →
//! [`Reader`], a [`Source`](crate::matrix::Source). Read [`Options`], then [`History`]; where what stands in the file
//! is in `layout.rs`.

mod block;
mod catalogue;
mod counters;
mod frame;
mod keeper;
mod layout;
mod number;
mod queue;
mod reader;
mod retention;
mod rollup;
mod row;
mod scan;
mod store;
#[cfg(test)]
mod tests;

pub use counters::{HistoryCounters, HistorySnapshot};
pub use queue::Limits;
pub use reader::Reader;

use crate::summary::figures::Figures;
use crate::summary::{FlowSummary, Path, Summary};
use crate::time::Wall;
use crossbeam_channel::{Receiver, bounded};
use queue::Queue;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Store;

/// A coarser level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coarser {
    /// Length of its slots: a multiple of the finer level's, 1 s at least.
    pub resolution: Duration,
    /// How long its entries are kept.
    pub max_age: Duration,
}

/// Where a history is, and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its directory, made when it is not there. One process at a time.
    pub directory: PathBuf,
    /// How long intervals are kept as they came.
    pub max_age: Duration,
    /// Bytes at most; beyond them the oldest goes first, of the level that holds most of its share. At least
    /// [`SMALLEST`]. `None`: [`MOST`], or half of what is free on the disk when that is less.
    pub max_bytes: Option<u64>,
    /// Coarser levels, finest first. They cannot change once there is a history.
    pub levels: Vec<Coarser>,
    /// How much may wait for the disk.
    pub limits: Limits,
    /// Bytes of the file kept in memory.
    pub cache_bytes: usize,
    /// Time between two commits at least: what many collectors send goes together.
    pub spacing: Duration,
}

/// Bytes that a history must be allowed at least.
pub const SMALLEST: u64 = 16 << 20;
/// Bytes that a history takes at most unless it is told otherwise: a day of 10 000 paths every 10 s as they came, and
/// as much again for coarser levels.
pub const MOST: u64 = 20 << 30;

impl Options {
    /// A day as it came, two weeks of 5 minutes, a year of hours; 20 GiB or half of the disk; a cache of 32 MiB.
    pub fn new(directory: PathBuf) -> Options {
        const DAY: Duration = Duration::from_secs(86_400);
        let five_minutes = Coarser { resolution: Duration::from_secs(300), max_age: 14 * DAY };
        let hour = Coarser { resolution: Duration::from_secs(3600), max_age: 366 * DAY };
        Options {
            directory,
            max_age: DAY,
            max_bytes: None,
            levels: vec![five_minutes, hour],
            limits: Limits::default(),
            cache_bytes: 32 << 20,
            spacing: Duration::from_millis(200),
        }
    }
}

/// Why a directory cannot be a history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The limit is too low.
    #[error("history: {0} bytes are too few for it; allow at least 16M")]
    Small(u64),
    /// The levels asked for do not divide one another.
    #[error("history: levels of {0:?} do not fit; each must be a multiple of the one before, and 1 s at least")]
    Levels(Vec<Duration>),
    /// The history has other levels.
    #[error(
        "history: {directory} has levels of {has:?} s, not of {asked:?} s; ask for these, or name another directory"
    )]
    OtherLevels {
        /// The directory.
        directory: PathBuf,
        /// Its levels, s.
        has: Vec<u64>,
        /// Those asked for, s.
        asked: Vec<u64>,
    },
    /// The directory or the file cannot be made, read or written.
    #[error("history: cannot use {path}: {source}; name a directory that can be written")]
    Use {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("history: {0} is in use by another process; stop it, or name another directory")]
    Locked(PathBuf),
    /// It was written by a newer version.
    #[error(
        "history: {path} has format {found}, and this version reads up to {known}; use the newer version, or name another directory"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format known.
        known: u64,
    },
    /// It can be neither read nor set aside.
    #[error("history: {path} is damaged and cannot be set aside: {reason}; move it away")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The database within says no.
    #[error("history: cannot use {path}: {reason}; see that it can be read and written, or name another directory")]
    Store {
        /// The file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
    /// No thread for it.
    #[error("cannot start a thread for the history: {0}")]
    Thread(std::io::Error),
}

/// One path in one interval, as the history keeps it: what a [`Summary`] says, or what is known where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Which path.
    pub path: Arc<Path>,
    /// Begin of the interval.
    pub start: Wall,
    /// End of the interval.
    pub end: Wall,
    /// What was measured.
    pub figures: Figures,
    /// Its worst flows.
    pub flows: Vec<FlowSummary>,
}

impl From<&Summary> for Measured {
    fn from(summary: &Summary) -> Measured {
        Measured {
            path: summary.path.clone(),
            start: summary.start,
            end: summary.end,
            figures: Figures::from(summary),
            flows: summary.worst_flows.clone(),
        }
    }
}

/// A history and its thread.
///
/// Dropping it gives up what waits in memory; [`History::close`] stores it first.
#[derive(Debug)]
pub struct History {
    store: Arc<Store>,
    queue: Arc<Queue>,
    /// Disconnects when the thread has ended.
    ended: Receiver<()>,
}

/// Takes summaries for a history, from any thread.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Queue>);

impl Writer {
    /// Hands summaries over. Never waits for the disk: where the queue is full, its oldest batches are dropped and
    /// counted.
    pub fn add(&self, summaries: &[Summary]) {
        self.add_measured(summaries.iter().map(Measured::from).collect());
    }

    /// The same with what is known of paths that no summary tells of. Counted as summaries.
    pub fn add_measured(&self, measured: Vec<Measured>) {
        self.0.push(measured);
    }
}

impl History {
    /// Opens the history in a directory, or begins one, and starts its thread. A damaged file is set aside, counted,
    /// and named in [`HistorySnapshot::last_error`]. After a crash nothing is to be repaired but for a moment.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub fn open(options: Options) -> Result<History, HistoryError> {
        let store = Arc::new(Store::open(options)?);
        let queue = Arc::new(Queue::new(store.options.limits, store.counters.clone()));
        let (ending, ended) = bounded::<()>(1);
        let (kept, waiting) = (store.clone(), queue.clone());
        std::thread::Builder::new()
            .name("history".into())
            .spawn(move || {
                keeper::run(&kept, &waiting);
                drop(kept);
                drop(ending);
            })
            .map_err(HistoryError::Thread)?;
        Ok(History { store, queue, ended })
    }

    /// Where summaries are handed over.
    pub fn writer(&self) -> Writer {
        Writer(self.queue.clone())
    }

    /// Where questions are asked; any number of them, in any thread. They see what is on disk, and never delay it.
    pub fn reader(&self) -> Arc<Reader> {
        Arc::new(Reader::new(self.store.clone()))
    }

    /// Its counters, to be read at any time, also after [`History::close`].
    pub fn counters(&self) -> Arc<HistoryCounters> {
        self.store.counters.clone()
    }

    /// Stores what waits, for at most `within`, closes the file, and says how many summaries are lost. Readers have no
    /// answers from then on.
    pub fn close(self, within: Duration) -> u64 {
        let (deadline, dropped) = (Instant::now() + within, self.store.counters.snapshot().dropped);
        self.queue.close(deadline);
        // an error means "ended" or "deadline"; the counters tell which
        let _ = self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let counters = self.store.counters.snapshot();
        self.queue.left() + counters.dropped - dropped
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.queue.close(Instant::now()); // the thread ends by itself; waiting for it is close()'s business
    }
}
