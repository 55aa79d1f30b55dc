//! What a server counts about its clients, readable by anyone at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one server since its start.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) answers: [AtomicU64; 5],
    pub(super) bytes: AtomicU64,
}

/// A copy of a server's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountersSnapshot {
    /// Connections taken.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections closed at once because as many as allowed were open.
    pub rejected: u64,
    /// Connections closed, and requests given up, because a time limit was reached.
    pub timed_out: u64,
    /// Connections the kernel could not hand over, mostly for want of file descriptors.
    pub accept_errors: u64,
    /// Answers that ended in a bug of ours.
    pub panics: u64,
    /// Answers by the first digit of their status, 1 to 5.
    pub answers: [u64; 5],
    /// Bytes written to clients.
    pub bytes: u64,
}

impl Counters {
    /// Counts an answer.
    pub(super) fn answered(&self, status: u16) {
        if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|class| self.answers.get(class)) {
            class.fetch_add(1, Relaxed);
        }
    }

    /// All counters, each read once.
    pub fn snapshot(&self) -> CountersSnapshot {
        CountersSnapshot {
            accepted: self.accepted.load(Relaxed),
            open: self.open.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            accept_errors: self.accept_errors.load(Relaxed),
            panics: self.panics.load(Relaxed),
            answers: std::array::from_fn(|class| self.answers[class].load(Relaxed)),
            bytes: self.bytes.load(Relaxed),
        }
    }
}
