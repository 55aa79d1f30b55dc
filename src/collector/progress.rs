//! Counters a worker shows to others: single writer, relaxed stores, read at any time.

use crate::net::NetCounters;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds; a load and a store, because nobody else writes.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One worker's counters since its start.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Progress {
    /// Probes handed to the network.
    pub sent: Cell,
    /// Probes replied to in time.
    pub replied: Cell,
    /// Probes that brought no reply (lost, refused, unreachable).
    pub lost: Cell,
    /// Probes the kernel did not take.
    pub send_failed: Cell,
    /// Probes due and not sent in time.
    pub not_sent: Cell,
    /// Probes in flight now.
    pub in_flight: Cell,
    /// Datagrams that are no reply of the socket's method.
    pub unreadable: Cell,
    /// Replies and ICMP errors that belong to no probe remembered, or come from elsewhere.
    pub unasked: Cell,
    /// Transmit stamps that belong to no probe remembered, or a second one.
    pub stray_stamps: Cell,
    /// Steps of the wall clock.
    pub clock_steps: Cell,
    /// Tallies given up because the summary thread fell behind.
    pub given_up: Cell,
    /// The oldest interval that is not closed: all probes of earlier ones are decided.
    pub oldest_open: Cell,
    /// The last errno of a failed send; 0: none.
    pub last_send_error: Cell,
    /// Datagrams dropped by the sockets for want of buffer.
    pub local_drops: Cell,
    /// Datagrams received without a kernel stamp.
    pub unstamped: Cell,
    /// Completion queue overflows.
    pub ring_overflows: Cell,
    /// Multishot receives armed again.
    pub rearmed: Cell,
    /// Receive calls that failed, and datagrams too long.
    pub receive_errors: Cell,
}

impl Progress {
    /// Takes over the network's counters.
    pub fn net(&self, counters: &NetCounters) {
        self.local_drops.set(counters.local_drops);
        self.unstamped.set(counters.unstamped);
        self.ring_overflows.set(counters.ring_overflows);
        self.rearmed.set(counters.rearmed);
        self.receive_errors.set(counters.receive_errors + counters.truncated);
    }
}
