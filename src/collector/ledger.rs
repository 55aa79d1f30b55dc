//! A worker's open tallies: of the current interval, and of the one before until its last probe is decided.
//!
//! All tallies are made at start and come back empty from the summary thread. The worker never waits
//! for one: when none has come back, the oldest closed one that could not be handed over is given up, and counted.

use crate::probe::IntervalId;
use crate::probe::outcome::{Outcome, Record};
use crate::summary::tally::Tally;
use crate::time::Monotonic;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::time::Duration;

/// A closed tally on its way to the summary thread.
#[derive(Debug)]
pub struct Closed {
    /// Position of the worker.
    pub worker: u16,
    /// The interval it counts.
    pub interval: IntervalId,
    /// The counters; `None` when the tally was given up.
    pub tally: Option<Tally>,
}

/// When intervals begin and end: the same for all workers.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    /// Start of interval 0.
    pub start: Monotonic,
    /// Length of an interval.
    pub interval: Duration,
}

impl Timetable {
    /// The interval an instant lies in.
    pub fn interval_at(&self, now: Monotonic) -> IntervalId {
        IntervalId((now.since(self.start) / crate::time::nanos(self.interval).max(1)) as u32)
    }

    /// When an interval ends.
    pub fn end(&self, interval: IntervalId) -> Monotonic {
        let ends = u64::from(interval.0) + 1;
        Monotonic(self.start.0.saturating_add(crate::time::nanos(self.interval).saturating_mul(ends)))
    }
}

/// The open tallies and the way out.
#[derive(Debug)]
pub struct Ledger {
    worker: u16,
    /// Oldest first.
    open: Vec<Tally>,
    /// Closed, and not taken yet because the channel was full.
    waiting: Option<Closed>,
    spare: Vec<Tally>,
    out: Sender<Closed>,
    back: Receiver<Tally>,
    /// Tallies (or the word that one was given up) handed to the summary thread.
    pub handed_over: u64,
    /// Tallies given up because the summary thread fell behind.
    pub given_up: u64,
    /// Records of intervals already closed, dropped.
    pub after_close: u64,
}

/// Tallies a worker needs: one for each interval that a probe in flight can belong to, and one that
/// is with the summary thread.
pub fn tallies(interval: Duration, loss_threshold: Duration) -> usize {
    let overlapping = loss_threshold.as_nanos().div_ceil(interval.as_nanos().max(1));
    usize::try_from(overlapping).unwrap_or(usize::MAX).min(MOST_OPEN) + 2
}

/// Intervals that wait for their last probes at most; with a loss threshold longer than this many
/// intervals, tallies run out and probes are not sent (and counted so): the configuration refuses that.
pub const MOST_OPEN: usize = 64;

impl Ledger {
    /// A ledger with these empty tallies.
    pub fn new(worker: u16, tallies: Vec<Tally>, out: Sender<Closed>, back: Receiver<Tally>) -> Ledger {
        let spare = tallies;
        Ledger {
            worker,
            open: Vec::with_capacity(MOST_OPEN + 2),
            waiting: None,
            spare,
            out,
            back,
            handed_over: 0,
            given_up: 0,
            after_close: 0,
        }
    }

    /// Makes sure the tally of `interval` is open. False when there is no memory for it now.
    pub fn open(&mut self, interval: IntervalId) -> bool {
        if self.open.last().is_some_and(|newest| newest.interval() >= interval) {
            return true;
        }
        while let Ok(tally) = self.back.try_recv() {
            self.spare.push(tally);
        }
        if self.spare.is_empty()
            && let Some(Closed { tally: tally @ Some(_), .. }) = &mut self.waiting
        {
            self.given_up += 1;
            self.spare.extend(tally.take());
        }
        let Some(mut tally) = self.spare.pop() else { return false };
        tally.open(interval);
        self.open.push(tally);
        true
    }

    /// Counts a record in its interval.
    ///
    /// What became known after its interval closed: a late reply or a duplicate is counted in the
    /// oldest open interval (it says something about the network); anything else is dropped and counted.
    #[inline]
    pub fn record(&mut self, record: &Record) {
        for tally in self.open.iter_mut().rev() {
            if tally.interval() == record.interval {
                return tally.record(record);
            }
        }
        match (record.outcome, self.open.first_mut()) {
            (Outcome::Late | Outcome::Duplicate, Some(oldest)) => oldest.record(record),
            _ => self.after_close += 1,
        }
    }

    /// The newest open tally, for what belongs to no probe.
    pub fn newest(&mut self) -> Option<&mut Tally> {
        self.open.last_mut()
    }

    /// The oldest open interval.
    pub fn oldest(&self) -> Option<IntervalId> {
        self.open.first().map(|tally| tally.interval())
    }

    /// Closes the oldest open tally and hands it over, or keeps it until the channel has room.
    pub fn close_oldest(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let tally = self.open.remove(0);
        self.hand_over();
        if let Some(stuck) = self.waiting.take() {
            // two intervals behind: the older is given up, the summary thread is told when it can be
            self.given_up += u64::from(stuck.tally.is_some());
            self.spare.extend(stuck.tally);
        }
        self.waiting = Some(Closed { worker: self.worker, interval: tally.interval(), tally: Some(tally) });
        self.hand_over();
    }

    /// Tries again to hand over what waits; true when nothing waits any more.
    pub fn hand_over(&mut self) -> bool {
        let Some(closed) = self.waiting.take() else { return true };
        match self.out.try_send(closed) {
            Err(TrySendError::Full(closed)) => {
                self.waiting = Some(closed);
                return false;
            }
            Err(TrySendError::Disconnected(_)) => {} // the summary thread is gone: nobody to count for
            Ok(()) => self.handed_over += 1,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_longer_than_an_interval_needs_more_tallies() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(10));
        assert_eq!(tallies(long, short), 3);
        assert_eq!(tallies(short, short), 3);
        assert_eq!(tallies(short, long), 12);
    }

    #[test]
    fn instants_belong_to_one_interval() {
        let table = Timetable { start: Monotonic(1_000), interval: Duration::from_nanos(100) };
        assert_eq!(table.interval_at(Monotonic(1_099)), IntervalId(0));
        assert_eq!(table.interval_at(Monotonic(1_100)), IntervalId(1));
        assert_eq!(table.end(IntervalId(0)), Monotonic(1_100));
    }
}
