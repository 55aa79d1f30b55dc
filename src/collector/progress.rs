//! Counters a worker, or the summary thread, shows to others: single writer, relaxed stores, read at any time.
//!
//! They count from the process' start and never go back, also where what they are taken from is made anew.

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

/// Takes over a counter that grows elsewhere, and starts again at 0 when that is made anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Follower {
    seen: u64,
}

impl Follower {
    /// Adds to `total` what came to `now` since the last call.
    #[inline]
    pub fn follow(&mut self, total: &Cell, now: u64) {
        total.add(now.checked_sub(self.seen).unwrap_or(now));
        self.seen = now;
    }
}

/// Upper bounds of the buckets of [`Lateness`], nanoseconds; what is later counts beyond the last.
pub const LATENESS_BOUNDS_NS: [u64; 18] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
];

/// How late probes left, from due to handed to the kernel, since the start.
#[derive(Debug, Default)]
pub struct Lateness {
    /// Probes by bucket, the last one without a bound; each probe counts in one.
    buckets: [Cell; LATENESS_BOUNDS_NS.len() + 1],
    /// Sum of all, nanoseconds.
    sum_ns: Cell,
}

impl Lateness {
    /// Counts a probe.
    #[inline]
    pub fn record(&self, lateness_ns: u64) {
        // punctual probes are the many: the search begins with them
        let bucket = LATENESS_BOUNDS_NS.iter().take_while(|bound| lateness_ns > **bound).count();
        self.buckets[bucket].add(1);
        self.sum_ns.add(lateness_ns);
    }

    /// Probes by bucket, and the sum in nanoseconds.
    pub fn read(&self) -> ([u64; LATENESS_BOUNDS_NS.len() + 1], u64) {
        (self.buckets.each_ref().map(Cell::get), self.sum_ns.get())
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
    /// Probes without any answer within the loss threshold.
    pub lost: Cell,
    /// Probes whose reply came with a changed payload.
    pub corrupted: Cell,
    /// Probes larger than what a link carries.
    pub too_big: Cell,
    /// Probes answered by ICMP port unreachable.
    pub refused: Cell,
    /// Probes answered by another ICMP error.
    pub unreachable: Cell,
    /// Probes the kernel did not take.
    pub send_failed: Cell,
    /// Probes due and not sent in time.
    pub not_sent: Cell,
    /// Replies after the loss threshold.
    pub late: Cell,
    /// Replies beyond a probe's first.
    pub duplicates: Cell,
    /// Replies overtaken by a later probe's reply.
    pub reordered: Cell,
    /// Probes in flight now.
    pub in_flight: Cell,
    /// Probes in flight at most.
    pub in_flight_limit: Cell,
    /// How late probes left.
    pub lateness: Lateness,
    /// Datagrams that are no reply of the socket's method.
    pub unreadable: Cell,
    /// Replies and ICMP errors that belong to no probe remembered, or come from elsewhere.
    pub unasked: Cell,
    /// Transmit stamps that belong to no probe remembered, or a second one.
    pub stray_stamps: Cell,
    /// Replied probes without a round trip because their transmit stamp never came.
    pub stamps_missing: Cell,
    /// Replies whose reflector's stamps cannot be true; measured as if they carried none.
    pub implausible_residence: Cell,
    /// Steps of the wall clock.
    pub clock_steps: Cell,
    /// Tallies handed to the summary thread.
    pub handed_over: Cell,
    /// Tallies given up because the summary thread fell behind.
    pub given_up: Cell,
    /// Outcomes of intervals already closed, not counted in any summary.
    pub after_close: Cell,
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
    /// Probes that left and brought no reply: upstream's `lost`.
    pub fn unanswered(&self) -> u64 {
        let known = [&self.corrupted, &self.too_big, &self.refused, &self.unreachable];
        self.lost.get() + known.into_iter().map(Cell::get).sum::<u64>()
    }
}

/// What [`Progress`] takes over from a worker's parts, and how far it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    local_drops: Follower,
    unstamped: Follower,
    ring_overflows: Follower,
    rearmed: Follower,
    receive_errors: Follower,
    implausible_residence: Follower,
}

impl Taken {
    /// Takes over the network's counters.
    pub fn net(&mut self, progress: &Progress, counters: &NetCounters) {
        self.local_drops.follow(&progress.local_drops, counters.local_drops);
        self.unstamped.follow(&progress.unstamped, counters.unstamped);
        self.ring_overflows.follow(&progress.ring_overflows, counters.ring_overflows);
        self.rearmed.follow(&progress.rearmed, counters.rearmed);
        self.receive_errors.follow(&progress.receive_errors, counters.receive_errors + counters.truncated);
    }

    /// Takes over the count of implausible residence times of all in-flight rings.
    pub fn implausible_residence(&mut self, progress: &Progress, now: u64) {
        self.implausible_residence.follow(&progress.implausible_residence, now);
    }
}

/// The summary thread's counters since its start.
#[derive(Debug, Default)]
pub struct Intervals {
    /// Tallies taken from the workers.
    pub taken: Cell,
    /// Intervals closed and handed on.
    pub closed: Cell,
    /// Of these: without the tally of some worker.
    pub incomplete: Cell,
    /// Round trips that histograms had no page for, counted at the nearest page's edge.
    pub displaced: Cell,
    /// End of the last interval closed, nanoseconds since 1970; 0 before the first.
    pub last_end_ns: Cell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lateness_on_a_bound_counts_below_it() {
        let lateness = Lateness::default();
        for ns in [0, 1_000, 1_001, 500_000_000, 500_000_001, u64::from(u32::MAX)] {
            lateness.record(ns);
        }
        let (buckets, sum) = lateness.read();
        assert_eq!((buckets[0], buckets[1], buckets[17], buckets[18]), (2, 1, 1, 2));
        assert_eq!(buckets.iter().sum::<u64>(), 6);
        assert_eq!(sum, 1_000_002_002 + u64::from(u32::MAX));
    }

    proptest! {
        /// However often the followed counter is made anew, the total only grows, and by all that is seen.
        #[test]
        fn a_total_never_goes_back(lives in prop::collection::vec(prop::collection::vec(0u64..5, 1..6), 1..6)) {
            let (total, mut follower) = (Cell::default(), Follower::default());
            let mut expected = 0;
            for steps in lives {
                let mut counter = 0;
                for (at, step) in steps.into_iter().enumerate() {
                    let (before, seen) = (total.get(), follower.seen);
                    counter += step;
                    follower.follow(&total, counter);
                    prop_assert!(total.get() >= before);
                    // a new counter that has already passed the old one looks like the old one grown
                    expected += if at == 0 && counter >= seen { counter - seen } else if at == 0 { counter } else { step };
                }
                prop_assert_eq!(total.get(), expected);
            }
        }
    }
}
