//! The bounded queue between the summary thread and one sink's thread.
//!
//! Holds rendered lines, bounded in number and bytes. A full queue drops the oldest line, also when
//! that line is in the attempt under way: the attempt's end decides whether it was delivered or
//! dropped, so that nothing is counted twice. Read [`Queue`].

use super::counters::SinkCounters;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much one sink's queue may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Summaries, 1 or more.
    pub summaries: usize,
    /// Bytes of rendered lines, without the queue's own overhead of 16 bytes each.
    pub bytes: usize,
}

impl Default for Limits {
    /// 120 000 summaries or 64 MiB: about an hour of 1000 paths summarised every 30 s.
    fn default() -> Limits {
        Limits { summaries: 120_000, bytes: 64 << 20 }
    }
}

/// What became of the lines of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// At their destination.
    Delivered,
    /// Refused for good.
    Refused,
    /// On disk, where they wait on.
    Spooled,
    /// To be tried again.
    Returned,
}

/// Lines waiting for one sink. Lines are numbered from 0 in the order they came.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limits: Limits,
    counters: Arc<SinkCounters>,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    /// When lines came: of the first of each push that is still here, its number and instant.
    came: VecDeque<(u64, Instant)>,
    /// Number of the line at the front.
    first: u64,
    bytes: usize,
    /// The attempt under way. Its lines stay in the queue unless they had to make room.
    trying: Option<Range<u64>>,
    /// Set when no more lines come: until when the rest may be delivered.
    deadline: Option<Instant>,
    /// Set by closing, until one pause was cut short for it.
    hurry: bool,
    /// Pushes, nudges and closings so far.
    events: u64,
}

impl State {
    /// Lines of the attempt under way that had to make room.
    fn evicted(&self) -> u64 {
        self.trying.as_ref().map_or(0, |t| self.first.clamp(t.start, t.end) - t.start)
    }

    fn pop(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.first += 1;
            self.bytes -= line.len();
            // the push that the next line came with
            while self.came.get(1).is_some_and(|(first, _)| *first <= self.first) {
                self.came.pop_front();
            }
            if self.lines.is_empty() {
                self.came.clear();
            }
        }
    }
}

impl Queue {
    pub(super) fn new(limits: Limits, counters: Arc<SinkCounters>) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), limits, counters }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // the state is consistent between any two statements that could panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counters(&self) -> &SinkCounters {
        &self.counters
    }

    fn publish(&self, state: &State) {
        self.counters.queued.store(state.lines.len() as u64 + state.evicted(), Relaxed);
        self.counters.queued_bytes.store(state.bytes as u64, Relaxed);
    }

    /// Appends lines, dropping the oldest ones where there is no room. Never waits.
    pub(super) fn push(&self, lines: Vec<Box<[u8]>>) {
        self.push_at(lines, Instant::now());
    }

    /// [`Queue::push`] of lines that came at `now`.
    pub(super) fn push_at(&self, lines: Vec<Box<[u8]>>, now: Instant) {
        let mut state = self.lock();
        let mut dropped = 0;
        let came = (state.first + state.lines.len() as u64, now);
        self.counters.accepted.fetch_add(lines.len() as u64, Relaxed);
        for line in lines {
            if line.len() > self.limits.bytes || self.limits.summaries == 0 {
                dropped += 1;
                continue;
            }
            while state.lines.len() >= self.limits.summaries || state.bytes + line.len() > self.limits.bytes {
                let in_attempt = state.trying.as_ref().is_some_and(|t| t.contains(&state.first));
                state.pop();
                dropped += u64::from(!in_attempt);
            }
            state.bytes += line.len();
            state.lines.push_back(line);
            if state.came.back().is_none_or(|(first, _)| *first < came.0) {
                state.came.push_back(came);
            }
        }
        self.counters.dropped.fetch_add(dropped, Relaxed);
        self.publish(&state);
        state.events += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Pushes, nudges and closings so far; what [`Queue::sleep`] compares with.
    pub(super) fn events(&self) -> u64 {
        self.lock().events
    }

    /// Ends a sleep: something happened elsewhere.
    pub(super) fn nudge(&self) {
        self.lock().events += 1;
        self.changed.notify_all();
    }

    /// Waits until something happened since there were `seen` events, or until the instant.
    pub(super) fn sleep(&self, seen: u64, until: Option<Instant>) {
        let mut state = self.lock();
        while state.events == seen {
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Number of the oldest line, and when it came.
    pub(super) fn oldest(&self) -> Option<(u64, Instant)> {
        let state = self.lock();
        state.came.front().map(|(_, came)| (state.first, *came))
    }

    /// Waits until there is a line, and gives the number of the first; `None` when the queue is
    /// closed and empty, or its deadline is past.
    pub(super) fn wait(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.deadline.is_some_and(|d| state.lines.is_empty() || d <= Instant::now()) {
                return None;
            }
            if !state.lines.is_empty() {
                return Some(state.first);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for `time`, or until the deadline. The first pause that meets a closed queue ends at
    /// once: there is one attempt more right after closing.
    pub(super) fn pause(&self, time: Duration) {
        let mut state = self.lock();
        let until = Instant::now() + time;
        loop {
            let now = Instant::now();
            let until = state.deadline.map_or(until, |deadline| until.min(deadline));
            if std::mem::take(&mut state.hurry) || until <= now {
                return;
            }
            state = self.changed.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Begins an attempt: copies the oldest lines, at least one and otherwise at most `max_lines`
    /// and `max_bytes`, into `buffer`, which is emptied before. Gives their numbers.
    pub(super) fn begin(&self, max_lines: usize, max_bytes: usize, buffer: &mut Vec<u8>) -> Range<u64> {
        buffer.clear();
        let mut state = self.lock();
        let mut end = state.first;
        for line in state.lines.iter().take(max_lines.max(1)) {
            if end > state.first && buffer.len() + line.len() > max_bytes {
                break;
            }
            buffer.extend_from_slice(line);
            end += 1;
        }
        let range = state.first..end;
        state.trying = Some(range.clone());
        range
    }

    /// Ends the attempt under way.
    pub(super) fn end(&self, fate: Fate) {
        let mut state = self.lock();
        let evicted = state.evicted();
        let Some(range) = state.trying.take() else { return };
        if fate != Fate::Returned {
            while state.first < range.end && !state.lines.is_empty() {
                state.pop();
            }
        }
        let (counter, lines) = match fate {
            Fate::Delivered => (&self.counters.delivered, range.end - range.start),
            Fate::Refused => (&self.counters.refused, range.end - range.start),
            Fate::Spooled => (&self.counters.spooled, range.end - range.start),
            Fate::Returned => (&self.counters.dropped, evicted),
        };
        counter.fetch_add(lines, Relaxed);
        self.publish(&state);
    }

    /// Drops everything that waits, counted: the output is gone for good.
    pub(super) fn clear(&self) {
        self.end(Fate::Returned);
        let mut state = self.lock();
        self.counters.dropped.fetch_add(state.lines.len() as u64, Relaxed);
        while !state.lines.is_empty() {
            state.pop();
        }
        self.publish(&state);
    }

    /// No more lines come; what waits may be delivered until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        let mut state = self.lock();
        if state.deadline.is_none() {
            state.deadline = Some(deadline);
            state.hurry = true;
            state.events += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Until when the rest may be delivered; `None` while the queue is open.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    /// Time left to deliver; `None` while the queue is open.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.lock().deadline.map(|d| d.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(summaries: usize, bytes: usize) -> Queue {
        Queue::new(Limits { summaries, bytes }, Arc::new(SinkCounters::new("test".into())))
    }

    fn lines(texts: &[&str]) -> Vec<Box<[u8]>> {
        texts.iter().map(|t| t.as_bytes().into()).collect()
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let q = queue(3, 10);
        q.push(lines(&["a", "b", "c", "d"]));
        let mut buffer = Vec::new();
        assert_eq!(q.begin(9, 99, &mut buffer), 1..4);
        assert_eq!(buffer, b"bcd");
        q.end(Fate::Returned);
        q.push(lines(&["123456789"]));
        assert_eq!(q.begin(9, 99, &mut buffer), 3..5);
        assert_eq!(buffer, b"d123456789");
        q.end(Fate::Delivered);
        q.push(lines(&["longer than the queue"]));
        let s = q.counters().snapshot();
        assert_eq!((s.accepted, s.delivered, s.dropped, s.queued, s.queued_bytes), (6, 2, 4, 0, 0));
    }

    #[test]
    fn lines_evicted_during_an_attempt_are_counted_by_its_end() {
        for (fate, expected) in [
            (Fate::Delivered, (2, 0, 0, 0)),
            (Fate::Refused, (0, 2, 0, 0)),
            (Fate::Returned, (0, 0, 1, 0)),
            (Fate::Spooled, (0, 0, 0, 2)),
        ] {
            let q = queue(2, 99);
            q.push(lines(&["a", "b"]));
            assert_eq!(q.begin(2, 99, &mut Vec::new()), 0..2);
            q.push(lines(&["c"]));
            let s = q.counters().snapshot();
            assert_eq!((s.dropped, s.queued), (0, 3), "undecided");
            q.end(fate);
            let s = q.counters().snapshot();
            assert_eq!((s.delivered, s.refused, s.dropped, s.spooled), expected);
            assert_eq!(s.queued, 3 - expected.0 - expected.1 - expected.2 - expected.3);
        }
    }

    #[test]
    fn a_batch_ends_before_the_byte_limit_but_has_one_line() {
        let q = queue(9, 99);
        q.push(lines(&["1234", "5678", "9"]));
        let mut buffer = Vec::new();
        assert_eq!(q.begin(9, 8, &mut buffer), 0..2);
        q.end(Fate::Returned);
        assert_eq!(q.begin(9, 1, &mut buffer), 0..1);
    }

    #[test]
    fn the_oldest_line_keeps_the_instant_it_came_with() {
        let q = queue(3, 99);
        assert_eq!(q.oldest(), None);
        q.push(lines(&["a", "b"]));
        let first = q.oldest().expect("a line");
        q.push(lines(&["c"]));
        assert_eq!(q.oldest(), Some(first));
        q.push(lines(&["d"]));
        assert_eq!(q.oldest(), Some((1, first.1)), "b came with a");
        q.push(lines(&["e", "f", "g", "h"]));
        let (number, came) = q.oldest().expect("a line");
        assert!(number == 5 && came >= first.1);
        q.begin(9, 99, &mut Vec::new());
        q.end(Fate::Delivered);
        assert_eq!(q.oldest(), None);
    }

    #[test]
    fn sleep_ends_for_what_happened_before_it_too() {
        let q = queue(9, 99);
        let far = Some(Instant::now() + Duration::from_secs(3600));
        for happen in [|q: &Queue| q.push(vec![]), Queue::nudge, |q: &Queue| q.close(Instant::now())] {
            let seen = q.events();
            happen(&q);
            q.sleep(seen, far);
        }
        q.sleep(q.events(), Some(Instant::now()));
    }

    #[test]
    fn closing_ends_waits_and_pauses() {
        let q = Arc::new(queue(9, 99));
        let waiter = std::thread::spawn({
            let q = q.clone();
            move || {
                q.pause(Duration::from_secs(3600));
                let first = q.wait();
                q.begin(1, 9, &mut Vec::new());
                q.end(Fate::Delivered);
                (first, q.wait())
            }
        });
        q.push(lines(&["a"]));
        q.close(Instant::now() + Duration::from_secs(3600));
        assert_eq!(waiter.join().expect("waiter"), (Some(0), None));

        let q = queue(9, 99);
        q.push(lines(&["a"]));
        q.close(Instant::now());
        assert_eq!(q.wait(), None, "a past deadline leaves lines undelivered");
        q.pause(Duration::from_secs(3600));
        assert_eq!(q.time_left(), Some(Duration::ZERO));
        assert_eq!(q.counters().snapshot().queued, 1);
    }

    proptest! {
        #[test]
        fn every_line_is_counted_once(
            steps in proptest::collection::vec((0u8..6, 0usize..9), 0..80),
            limit in 1usize..6,
            bytes in 1usize..30,
        ) {
            let q = queue(limit, bytes);
            for (what, n) in steps {
                match what {
                    0 | 1 => q.push((0..n).map(|i| vec![b'x'; i].into_boxed_slice()).collect()),
                    2 => {
                        q.end(Fate::Returned);
                        q.begin(n, n * 3, &mut Vec::new());
                    }
                    3 => q.end(Fate::Delivered),
                    4 => q.end(if n < 5 { Fate::Refused } else { Fate::Spooled }),
                    _ if n == 0 => q.clear(),
                    _ => q.end(Fate::Returned),
                }
                let s = q.counters().snapshot();
                prop_assert_eq!(s.accepted, s.delivered + s.refused + s.dropped + s.spooled + s.queued);
                prop_assert_eq!(q.oldest().is_some(), !q.lock().lines.is_empty());
                prop_assert!(s.queued_bytes <= bytes as u64);
            }
        }
    }
}
