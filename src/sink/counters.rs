//! What became of the summaries given to one sink, readable by anyone at any time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counters of one sink, written by its thread and by [`Sinks::deliver`](super::Sinks::deliver). Points that are no
/// summaries are counted with them.
///
/// `accepted` + `spool_found` = `delivered` + `refused` + `dropped` + `queued` + `spool_summaries` + `spool_damaged`
/// whenever nothing is being counted at that very moment.
#[derive(Debug)]
pub struct SinkCounters {
    name: String,
    pub(super) accepted: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) queued: AtomicU64,
    pub(super) queued_bytes: AtomicU64,
    pub(super) attempts: AtomicU64,
    pub(super) failed_attempts: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) spool_found: AtomicU64,
    pub(super) spooled: AtomicU64,
    pub(super) spool_delivered: AtomicU64,
    pub(super) spool_dropped: AtomicU64,
    pub(super) spool_damaged: AtomicU64,
    pub(super) spool_refused: AtomicU64,
    pub(super) spool_bytes: AtomicU64,
    pub(super) spool_summaries: AtomicU64,
    pub(super) spool_segments: AtomicU64,
    pub(super) spool_errors: AtomicU64,
    pub(super) spool_oldest: AtomicU64,
    pub(super) gone: AtomicBool,
    last_error: Mutex<Option<String>>,
}

/// A copy of a sink's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkSnapshot {
    /// The sink, for people; carries no secret.
    pub name: String,
    /// Summaries given to the sink.
    pub accepted: u64,
    /// Summaries written or stored by the server.
    pub delivered: u64,
    /// Summaries the server refused for good.
    pub refused: u64,
    /// Summaries dropped because the queue or the spool was full, or the output is gone for good.
    pub dropped: u64,
    /// Summaries waiting in memory, the ones in the current attempt included unless they are in the spool.
    pub queued: u64,
    /// Bytes waiting in memory.
    pub queued_bytes: u64,
    /// Requests or writes begun.
    pub attempts: u64,
    /// Of these: not successful, for whatever reason.
    pub failed_attempts: u64,
    /// Attempts that repeat a failed one.
    pub retried: u64,
    /// Summaries found in the spool at the start, the damaged ones among them included.
    pub spool_found: u64,
    /// Summaries written to the spool.
    pub spooled: u64,
    /// Of `delivered`: out of the spool.
    pub spool_delivered: u64,
    /// Of `dropped`: out of the spool, because it was full or they were too old.
    pub spool_dropped: u64,
    /// Summaries in records of the spool that could not be read back; a stretch whose number of summaries is not
    /// known counts as one.
    pub spool_damaged: u64,
    /// Of `refused`: kept in the spool's file of refused lines.
    pub spool_refused: u64,
    /// Bytes of the spool's segments.
    pub spool_bytes: u64,
    /// Summaries waiting in the spool.
    pub spool_summaries: u64,
    /// Segments of the spool.
    pub spool_segments: u64,
    /// Writes to the spool that failed.
    pub spool_errors: u64,
    /// Time of the oldest point in the spool, nanoseconds since 1970; 0 when nothing waits there.
    pub spool_oldest: u64,
    /// The latest error's text, kept after recovery.
    pub last_error: Option<String>,
}

impl SinkCounters {
    pub(super) fn new(name: String) -> SinkCounters {
        SinkCounters {
            name,
            accepted: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            failed_attempts: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            spool_found: AtomicU64::new(0),
            spooled: AtomicU64::new(0),
            spool_delivered: AtomicU64::new(0),
            spool_dropped: AtomicU64::new(0),
            spool_damaged: AtomicU64::new(0),
            spool_refused: AtomicU64::new(0),
            spool_bytes: AtomicU64::new(0),
            spool_summaries: AtomicU64::new(0),
            spool_segments: AtomicU64::new(0),
            spool_errors: AtomicU64::new(0),
            spool_oldest: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            last_error: Mutex::new(None),
        }
    }

    /// The sink, for people: kind and destination without secrets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether nothing more can be delivered: the reader went away.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    pub(super) fn failed(&self, error: String) {
        self.failed_attempts.fetch_add(1, Relaxed);
        self.note(error);
    }

    /// Keeps an error that is no failed attempt as the latest one.
    pub(super) fn note(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// All counters, each read once; between two of them the sink may count on.
    pub fn snapshot(&self) -> SinkSnapshot {
        SinkSnapshot {
            name: self.name.clone(),
            accepted: self.accepted.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            refused: self.refused.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            queued: self.queued.load(Relaxed),
            queued_bytes: self.queued_bytes.load(Relaxed),
            attempts: self.attempts.load(Relaxed),
            failed_attempts: self.failed_attempts.load(Relaxed),
            retried: self.retried.load(Relaxed),
            spool_found: self.spool_found.load(Relaxed),
            spooled: self.spooled.load(Relaxed),
            spool_delivered: self.spool_delivered.load(Relaxed),
            spool_dropped: self.spool_dropped.load(Relaxed),
            spool_damaged: self.spool_damaged.load(Relaxed),
            spool_refused: self.spool_refused.load(Relaxed),
            spool_bytes: self.spool_bytes.load(Relaxed),
            spool_summaries: self.spool_summaries.load(Relaxed),
            spool_segments: self.spool_segments.load(Relaxed),
            spool_errors: self.spool_errors.load(Relaxed),
            spool_oldest: self.spool_oldest.load(Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
