//! What became of the summaries given to one sink, readable by anyone at any time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counters of one sink, written by its thread and by [`Sinks::deliver`](super::Sinks::deliver).
///
/// `accepted` = `delivered` + `refused` + `dropped` + `queued` whenever nothing is being counted at
/// that very moment.
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
    /// Summaries dropped because the queue was full or the output is gone for good.
    pub dropped: u64,
    /// Summaries waiting, the ones in the current attempt included.
    pub queued: u64,
    /// Bytes waiting.
    pub queued_bytes: u64,
    /// Requests or writes begun.
    pub attempts: u64,
    /// Of these: not successful, for whatever reason.
    pub failed_attempts: u64,
    /// Attempts that repeat a failed one.
    pub retried: u64,
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
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
