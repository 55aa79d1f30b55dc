//! The bounded queue between whoever has summaries and the history's thread.
//!
//! Holds batches as they came, bounded in summaries and bytes; a full queue drops the oldest batch. Read [`Queue`].

use super::Measured;
use super::counters::HistoryCounters;
use crate::summary::FlowSummary;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Summaries.
    pub summaries: usize,
    /// Bytes they take in memory, their histograms and flows included.
    pub bytes: usize,
}

impl Default for Limits {
    /// 100 000 summaries or 128 MiB: some five intervals of 10 000 paths.
    fn default() -> Limits {
        Limits { summaries: 100_000, bytes: 128 << 20 }
    }
}

/// Summaries at most that are taken for one commit, unless one batch alone has more.
const AT_ONCE: usize = 50_000;

/// Batches waiting for the disk, and the one in hand.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limits: Limits,
    counters: Arc<HistoryCounters>,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    summaries: usize,
    bytes: usize,
    /// Summaries in the hands of the thread.
    in_hand: usize,
    /// Set when no more come: until when the rest may be stored.
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Batch {
    summaries: Vec<Measured>,
    bytes: usize,
}

fn bytes(summary: &Measured) -> usize {
    size_of::<Measured>()
        + size_of_val(summary.figures.histogram.counts())
        + summary.flows.len() * size_of::<FlowSummary>()
}

impl Queue {
    pub(super) fn new(limits: Limits, counters: Arc<HistoryCounters>) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), limits, counters }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // the state is consistent between any two statements that could panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        self.counters.queued.store((state.summaries + state.in_hand) as u64, Relaxed);
        self.counters.queued_bytes.store(state.bytes as u64, Relaxed);
    }

    /// Appends a batch, dropping the oldest where there is no room. Never waits for the disk.
    pub(super) fn push(&self, summaries: Vec<Measured>) {
        if summaries.is_empty() {
            return;
        }
        let number = summaries.len();
        let batch = Batch { bytes: summaries.iter().map(bytes).sum(), summaries };
        let mut state = self.lock();
        self.counters.added.fetch_add(number as u64, Relaxed);
        if state.deadline.is_some() {
            self.counters.dropped.fetch_add(number as u64, Relaxed);
            return;
        }
        state.summaries += number;
        state.bytes += batch.bytes;
        state.batches.push_back(batch);
        let mut dropped = Vec::new(); // freed without the lock
        while state.summaries > self.limits.summaries || state.bytes > self.limits.bytes {
            let Some(oldest) = state.batches.pop_front() else { break };
            state.summaries -= oldest.summaries.len();
            state.bytes -= oldest.bytes;
            self.counters.dropped.fetch_add(oldest.summaries.len() as u64, Relaxed);
            dropped.push(oldest);
        }
        self.publish(&state);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for batches, and gives as many as one commit takes; `None` when the queue is closed and empty, or its
    /// deadline is past. What is given is in hand until [`Queue::settle`].
    pub(super) fn take(&self) -> Option<Vec<Measured>> {
        let mut state = self.lock();
        loop {
            if state.deadline.is_some_and(|d| state.batches.is_empty() || d <= Instant::now()) {
                return None;
            }
            if !state.batches.is_empty() {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Vec::new();
        while let Some(next) = state.batches.front() {
            if !taken.is_empty() && taken.len() + next.summaries.len() > AT_ONCE {
                break;
            }
            let Some(batch) = state.batches.pop_front() else { break };
            state.summaries -= batch.summaries.len();
            state.bytes -= batch.bytes;
            taken.extend(batch.summaries);
        }
        state.in_hand = taken.len();
        self.publish(&state);
        Some(taken)
    }

    /// What was taken is no longer in hand.
    pub(super) fn settle(&self) {
        let mut state = self.lock();
        state.in_hand = 0;
        self.publish(&state);
    }

    /// Waits for `time`, at most until the deadline. False when the deadline is past.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let end = state.deadline.map_or(until, |deadline| until.min(deadline));
            if end <= now {
                return state.deadline.is_none_or(|deadline| now < deadline);
            }
            state = self.changed.wait_timeout(state, end - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No more summaries come; what waits may be stored until the deadline.
    pub(super) fn close(&self, deadline: Instant) {
        let mut state = self.lock();
        state.deadline.get_or_insert(deadline);
        drop(state);
        self.changed.notify_all();
    }

    /// Summaries that wait or are in hand.
    pub(super) fn left(&self) -> u64 {
        let state = self.lock();
        (state.summaries + state.in_hand) as u64
    }

    /// Gives up what still waits or is in hand.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        self.counters.dropped.fetch_add((state.summaries + state.in_hand) as u64, Relaxed);
        *state = State { deadline: state.deadline, ..State::default() };
        self.publish(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::samples;
    use crate::summary::Summary;
    use crate::time::Wall;

    fn queue(summaries: usize) -> Queue {
        Queue::new(Limits { summaries, bytes: 1 << 20 }, Arc::default())
    }

    fn numbered(numbers: std::ops::Range<u32>) -> Vec<Measured> {
        numbers.map(|n| Measured::from(&Summary { end: Wall(n.into()), ..samples::full() })).collect()
    }

    #[test]
    fn the_oldest_batch_makes_room() {
        let queue = queue(5);
        queue.push(numbered(0..3));
        queue.push(numbered(3..5));
        queue.push(numbered(5..7));
        let taken: Vec<u64> = queue.take().expect("some").iter().map(|summary| summary.end.0).collect();
        assert_eq!(taken, [3, 4, 5, 6]);
        let counters = queue.counters.snapshot();
        assert_eq!((counters.added, counters.dropped, counters.queued), (7, 3, 4));
        queue.settle();
        assert_eq!(queue.counters.snapshot().queued, 0);
        queue.push(numbered(0..6));
        assert_eq!(queue.counters.snapshot().dropped, 9, "a batch beyond the limit has no room at all");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = queue(1_000_000);
        for _ in 0..3 {
            queue.push(numbered(0..1000));
        }
        let counters = queue.counters.snapshot();
        assert!(counters.queued_bytes <= 1 << 20 && counters.dropped >= 1000, "{counters:?}");
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_nothing() {
        let queue = queue(10);
        queue.push(numbered(0..1));
        queue.close(Instant::now() + Duration::from_secs(60));
        queue.push(numbered(1..2));
        assert_eq!(queue.take().map(|taken| taken.len()), Some(1));
        queue.settle();
        assert!(queue.take().is_none());
        let counters = queue.counters.snapshot();
        assert_eq!((counters.added, counters.dropped, counters.queued), (2, 1, 0));
    }
}
