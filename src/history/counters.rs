//! What became of the summaries given to the history, readable by anyone at any time.

use crate::time::Wall;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counters of a history, written by its thread and by [`Writer::add`](super::Writer::add).
///
/// `added` = `committed` + `dropped` + `refused` + `queued` whenever nothing is being counted at that very moment.
#[derive(Debug, Default)]
pub struct HistoryCounters {
    pub(super) added: AtomicU64,
    pub(super) committed: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) queued: AtomicU64,
    pub(super) queued_bytes: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) commit_ns: AtomicU64,
    pub(super) upkeep_ns: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) evicted_age: AtomicU64,
    pub(super) evicted_bytes: AtomicU64,
    pub(super) damaged_files: AtomicU64,
    pub(super) damaged_blocks: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) max_bytes: AtomicU64,
    pub(super) short: AtomicBool,
    pub(super) file_bytes: AtomicU64,
    pub(super) paths: AtomicU64,
    pub(super) oldest: AtomicU64,
    pub(super) newest: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// A copy of a history's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistorySnapshot {
    /// Summaries given to the history.
    pub added: u64,
    /// Summaries that are on disk, or were until they grew too old; one that replaced an earlier one counts again.
    pub committed: u64,
    /// Summaries dropped because the queue was full, or that were left at the end.
    pub dropped: u64,
    /// Summaries that it does not take: older than what is kept, from the future, or of a path too many.
    pub refused: u64,
    /// Summaries waiting in memory.
    pub queued: u64,
    /// Bytes waiting in memory.
    pub queued_bytes: u64,
    /// Transactions that brought summaries.
    pub commits: u64,
    /// Nanoseconds spent on them, waiting for the disk included.
    pub commit_ns: u64,
    /// Nanoseconds spent on coarser levels and on deleting.
    pub upkeep_ns: u64,
    /// Transactions that failed; they are tried again.
    pub errors: u64,
    /// Summaries and coarser entries deleted because they were too old.
    pub evicted_age: u64,
    /// Summaries and coarser entries deleted because the history was full.
    pub evicted_bytes: u64,
    /// Damaged files set aside.
    pub damaged_files: u64,
    /// Blocks of entries found damaged when read, and left out.
    pub damaged_blocks: u64,
    /// Bytes of what is kept.
    pub bytes: u64,
    /// Bytes that it may take.
    pub max_bytes: u64,
    /// Whether summaries are kept as they came for less than the time asked for: there was no room.
    pub short: bool,
    /// Bytes that the file takes on the disk: what is kept, and room that will be used again.
    pub file_bytes: u64,
    /// Paths known.
    pub paths: u64,
    /// End of the oldest entry, nanoseconds since 1970; 0 while there is none.
    pub oldest: u64,
    /// End of the newest interval, nanoseconds since 1970; 0 while there is none.
    pub newest: u64,
    /// The latest error's text, kept after recovery.
    pub last_error: Option<String>,
}

impl HistoryCounters {
    /// Keeps an error as the latest one.
    pub(super) fn note(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// End of the newest interval on disk; `None` while there is none.
    pub fn newest(&self) -> Option<Wall> {
        let newest = self.newest.load(Relaxed);
        (newest > 0).then_some(Wall(newest))
    }

    /// All counters, each read once; between two of them the history may count on.
    pub fn snapshot(&self) -> HistorySnapshot {
        HistorySnapshot {
            added: self.added.load(Relaxed),
            committed: self.committed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            refused: self.refused.load(Relaxed),
            queued: self.queued.load(Relaxed),
            queued_bytes: self.queued_bytes.load(Relaxed),
            commits: self.commits.load(Relaxed),
            commit_ns: self.commit_ns.load(Relaxed),
            upkeep_ns: self.upkeep_ns.load(Relaxed),
            errors: self.errors.load(Relaxed),
            evicted_age: self.evicted_age.load(Relaxed),
            evicted_bytes: self.evicted_bytes.load(Relaxed),
            damaged_files: self.damaged_files.load(Relaxed),
            damaged_blocks: self.damaged_blocks.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            max_bytes: self.max_bytes.load(Relaxed),
            short: self.short.load(Relaxed),
            file_bytes: self.file_bytes.load(Relaxed),
            paths: self.paths.load(Relaxed),
            oldest: self.oldest.load(Relaxed),
            newest: self.newest.load(Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
