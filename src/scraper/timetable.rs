//! When each collector is due: once per interval, at a phase of its own that its name decides.
//!
//! Pure: instants are arguments, in nanoseconds of any one clock. Due times are absolute and never slide; what
//! was missed (the machine slept) is skipped and counted, not made up for in a burst. Read [`Timetable`].

use super::fingerprint::Fingerprint;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Due times of things known by a number.
#[derive(Debug)]
pub struct Timetable {
    interval: u64,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Turns that were skipped because their time had passed.
    pub skipped: u64,
}

impl Timetable {
    /// An empty timetable; `interval` in nanoseconds, 1 or more.
    pub fn new(interval: u64) -> Timetable {
        Timetable { interval: interval.max(1), due: BinaryHeap::new(), skipped: 0 }
    }

    /// Adds `number`, known to others as `name`: due at the first instant from `now` on that lies at its phase.
    ///
    /// `epoch` is an instant at which an interval begins; with one that is the same in every run, a collector is
    /// pulled at the same times of day after a restart.
    pub fn add(&mut self, number: usize, name: &str, epoch: u64, now: u64) {
        let phase = Fingerprint::new().take(name.as_bytes()).bits() % self.interval;
        let into =
            (u128::from(now) + u128::from(self.interval) * 2 - u128::from(epoch % self.interval) - u128::from(phase))
                % u128::from(self.interval);
        let wait = (u128::from(self.interval) - into) % u128::from(self.interval);
        self.due.push(Reverse((now + wait as u64, number)));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes one that is due at `now`; it is due again an interval later.
    pub fn take_due(&mut self, now: u64) -> Option<usize> {
        let mut top = self.due.peek_mut()?;
        let Reverse((due, number)) = *top;
        if due > now {
            return None;
        }
        let missed = (now - due) / self.interval;
        self.skipped += missed;
        *top = Reverse((due + (missed + 1) * self.interval, number));
        Some(number)
    }

    /// Takes `number` off the table.
    pub fn remove(&mut self, number: usize) {
        self.due.retain(|Reverse((_, other))| *other != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn two_hundred_are_spread_over_the_interval() {
        let mut table = Timetable::new(10 * S);
        (0..200).for_each(|n| table.add(n, &format!("host{n}:5000"), 0, 0));
        let mut most = 0;
        for second in 0..10 {
            let mut here = 0;
            while table.next().is_some_and(|due| due < (second + 1) * S) {
                let due = table.next().unwrap();
                assert!(table.take_due(due).is_some());
                here += 1;
            }
            most = most.max(here);
        }
        assert!(most < 40, "{most} of 200 in one second of ten");
        assert_eq!(table.skipped, 0);
    }

    #[test]
    fn a_long_sleep_gives_one_turn_and_counts_the_rest() {
        let mut table = Timetable::new(S);
        table.add(7, "a", 0, 0);
        let due = table.next().unwrap();
        assert_eq!(table.take_due(due + 10 * S), Some(7));
        assert_eq!((table.take_due(due + 10 * S), table.skipped), (None, 10));
        assert_eq!(table.next(), Some(due + 11 * S));
        table.remove(7);
        assert_eq!(table.next(), None);
    }

    proptest! {
        #[test]
        fn the_phase_is_the_same_whenever_one_begins(
            name in "[a-z]{1,9}", interval in 1..100 * S, epoch in 0..1u64 << 60, now in 0..1u64 << 60, later in 0..1u64 << 60,
        ) {
            let mut table = Timetable::new(interval);
            table.add(1, &name, epoch, now);
            table.add(2, &name, epoch, now + later);
            let mut dues: Vec<(usize, u64)> = table.due.iter().map(|Reverse((due, n))| (*n, *due)).collect();
            dues.sort_unstable();
            prop_assert!(dues[0].1 >= now && dues[0].1 - now < interval);
            prop_assert!(dues[1].1 >= now + later && dues[1].1 - now - later < interval);
            prop_assert_eq!(dues[0].1 % interval, dues[1].1 % interval);
        }
    }
}
