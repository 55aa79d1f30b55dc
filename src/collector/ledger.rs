//! When intervals are, and a worker's open tallies: of the current interval, and of the one before until its last
//! probe is decided.
//!
//! All tallies are made at start and come back empty from the summary thread. The worker never waits
//! for one: when none has come back, the oldest closed one that could not be handed over is given up, and counted.

use crate::probe::IntervalId;
use crate::probe::outcome::{Outcome, Record};
use crate::summary::tally::{Layout, Tally};
use crate::time::Monotonic;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::sync::Arc;
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

/// Intervals of one length that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first interval.
    pub first: IntervalId,
    /// Its start, and the end of the segment before.
    pub start: Monotonic,
    /// Length of an interval.
    pub interval: Duration,
}

impl Segment {
    fn start_of(&self, interval: IntervalId) -> Monotonic {
        let before = u64::from(interval.0.saturating_sub(self.first.0));
        Monotonic(self.start.0.saturating_add(crate::time::nanos(self.interval).saturating_mul(before)))
    }
}

/// When intervals begin and end: the same for all workers. A new segment cuts the running interval short.
#[derive(Clone, Debug)]
pub struct Timetable {
    /// Oldest first, never empty.
    segments: Vec<Segment>,
}

impl Timetable {
    /// Intervals of one length from `start` on.
    pub fn new(start: Monotonic, interval: Duration) -> Timetable {
        Timetable { segments: vec![Segment { first: IntervalId(0), start, interval }] }
    }

    /// The segment that begins at `start`, with the interval after the one before `start`.
    pub fn cut(&self, start: Monotonic, interval: Duration) -> Segment {
        let before = self.interval_at(Monotonic(start.0.saturating_sub(1)));
        Segment { first: IntervalId(before.0.saturating_add(1)), start, interval }
    }

    /// Adds a segment from [`Timetable::cut`] and forgets those that end before interval `needed`. The first one may be
    /// given again.
    pub fn push(&mut self, segment: Segment, needed: IntervalId) {
        if segment == self.last() {
            return;
        }
        let ended = self.segments.windows(2).take_while(|pair| pair[1].first <= needed).count();
        self.segments.drain(..ended);
        self.segments.push(segment);
    }

    /// The last segment.
    pub fn last(&self) -> Segment {
        self.segments[self.segments.len() - 1]
    }

    /// The interval of the last segment that an instant lies in; its first one for what was before.
    pub fn interval_at(&self, now: Monotonic) -> IntervalId {
        let last = self.last();
        let since = now.since(last.start) / crate::time::nanos(last.interval).max(1);
        IntervalId(last.first.0.saturating_add(since as u32))
    }

    /// When an interval begins.
    pub fn start(&self, interval: IntervalId) -> Monotonic {
        self.segment_of(interval).0.start_of(interval)
    }

    /// When an interval ends.
    pub fn end(&self, interval: IntervalId) -> Monotonic {
        let (segment, next) = self.segment_of(interval);
        let end = segment.start_of(IntervalId(interval.0.saturating_add(1)));
        next.map_or(end, |next| end.min(next.start))
    }

    /// The segment of an interval, and the one after it.
    fn segment_of(&self, interval: IntervalId) -> (Segment, Option<Segment>) {
        let position = self.segments.iter().rposition(|segment| segment.first <= interval).unwrap_or(0);
        (self.segments[position], self.segments.get(position + 1).copied())
    }
}

/// The open tallies and the way out.
#[derive(Debug)]
pub struct Ledger {
    worker: u16,
    /// What a tally of the current plan covers.
    layout: Arc<Layout>,
    /// Oldest first; those of an earlier plan have another layout, in which kept flows have the same numbers.
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
    overlapping(interval, loss_threshold).min(MOST_OPEN) + 2
}

/// Intervals that a probe in flight can belong to.
pub fn overlapping(interval: Duration, loss_threshold: Duration) -> usize {
    let overlapping = loss_threshold.as_nanos().div_ceil(interval.as_nanos().max(1));
    usize::try_from(overlapping).unwrap_or(usize::MAX)
}

/// Intervals that wait for their last probes at most; with a loss threshold longer than this many
/// intervals, tallies run out and probes are not sent (and counted so): the configuration refuses that.
pub const MOST_OPEN: usize = 64;

impl Ledger {
    /// A ledger without tallies: [`Ledger::renew`] brings some.
    pub fn new(worker: u16, out: Sender<Closed>, back: Receiver<Tally>) -> Ledger {
        Ledger {
            worker,
            layout: Arc::default(),
            open: Vec::with_capacity(2 * (MOST_OPEN + 2)),
            waiting: None,
            spare: Vec::new(),
            out,
            back,
            handed_over: 0,
            given_up: 0,
            after_close: 0,
        }
    }

    /// From interval `first` on these empty tallies are used, of one layout; open ones stay until they are closed.
    /// What was empty of an earlier layout is returned.
    ///
    /// A tally of the old layout that is open for `first` or later is given up: the plan changed before the interval did.
    pub fn renew(&mut self, first: IntervalId, tallies: Vec<Tally>) -> Vec<Tally> {
        if let Some(tally) = tallies.first() {
            self.layout = Arc::clone(tally.layout());
        }
        let mut former = std::mem::replace(&mut self.spare, tallies);
        former.extend(self.back.try_iter());
        while self.open.last().is_some_and(|newest| newest.interval() >= first) {
            self.given_up += 1;
            former.extend(self.open.pop());
        }
        former
    }

    /// Makes sure the tally of `interval` is open. False when there is no memory for it now.
    pub fn open(&mut self, interval: IntervalId) -> bool {
        if self.open.last().is_some_and(|newest| newest.interval() >= interval) {
            return true;
        }
        while let Ok(tally) = self.back.try_recv() {
            if Arc::ptr_eq(tally.layout(), &self.layout) {
                self.spare.push(tally);
            }
        }
        if self.spare.is_empty()
            && let Some(Closed { tally, .. }) = &mut self.waiting
            && tally.as_ref().is_some_and(|tally| Arc::ptr_eq(tally.layout(), &self.layout))
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
            self.spare.extend(stuck.tally.filter(|tally| Arc::ptr_eq(tally.layout(), &self.layout)));
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
        let table = Timetable::new(Monotonic(1_000), Duration::from_nanos(100));
        assert_eq!(table.interval_at(Monotonic(1_099)), IntervalId(0));
        assert_eq!(table.interval_at(Monotonic(1_100)), IntervalId(1));
        assert_eq!(table.end(IntervalId(0)), Monotonic(1_100));
    }

    #[test]
    fn a_new_length_cuts_the_running_interval_and_numbers_go_on() {
        let mut table = Timetable::new(Monotonic(1_000), Duration::from_nanos(100));
        let cut = table.cut(Monotonic(1_230), Duration::from_nanos(1_000));
        assert_eq!(cut.first, IntervalId(3));
        // between two intervals none is cut
        assert_eq!(table.cut(Monotonic(1_200), Duration::from_nanos(1)).first, IntervalId(2));
        table.push(cut, IntervalId(1));
        let ends: Vec<u64> = (0..5).map(|interval| table.end(IntervalId(interval)).0).collect();
        assert_eq!(ends, [1_100, 1_200, 1_230, 2_230, 3_230]);
        let starts: Vec<u64> = (0..5).map(|interval| table.start(IntervalId(interval)).0).collect();
        assert_eq!(starts, [1_000, 1_100, 1_200, 1_230, 2_230]);
        assert_eq!(table.interval_at(Monotonic(2_230)), IntervalId(4));
        // before the cut the caller asks for instants before it
        assert_eq!(table.interval_at(Monotonic(1_229)), IntervalId(3));
        table.push(table.cut(Monotonic(9_000), Duration::from_nanos(10)), IntervalId(9));
        assert_eq!((table.segments.len(), table.start(IntervalId(9)).0), (2, 7_230));
        assert_eq!((table.start(IntervalId(11)).0, table.end(IntervalId(11)).0), (9_000, 9_010));
    }
}
