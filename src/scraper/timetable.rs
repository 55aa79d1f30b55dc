//! When each collector is due: once per interval, at a phase of its own that its name decides.
//!
//! Pure: instants are arguments, in nanoseconds of any one clock. Due times are absolute and never slide; what
//! was missed (the machine slept) is skipped and counted, not made up for in a burst. Read [`Timetable`].

use super::fingerprint::Fingerprint;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Within which the first turn of each comes, so that somebody who looks need not wait for an interval.
const FIRST_WITHIN: u64 = 2_000_000_000;

/// Due times of things known by a number.
#[derive(Debug)]
pub struct Timetable {
    interval: u64,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Remainder of the due times by the interval.
    phases: HashMap<usize, u64>,
    /// Turns that were skipped because their time had passed.
    pub skipped: u64,
}

impl Timetable {
    /// An empty timetable; `interval` in nanoseconds, 1 or more.
    pub fn new(interval: u64) -> Timetable {
        Timetable { interval: interval.max(1), due: BinaryHeap::new(), phases: HashMap::new(), skipped: 0 }
    }

    /// Adds `number`, known to others as `name`: due soon, and from then on once per interval at its phase.
    ///
    /// `epoch` is an instant at which an interval begins; with one that is the same in every run, a collector is
    /// pulled at the same times of day after a restart.
    pub fn add(&mut self, number: usize, name: &str, epoch: u64, now: u64) {
        let phase = Fingerprint::new().take(name.as_bytes()).bits() % self.interval;
        let phase = (u128::from(epoch) + u128::from(phase)) % u128::from(self.interval);
        self.phases.insert(number, phase as u64);
        let wait = self.wait(phase as u64, now);
        let soon = u128::from(wait) * u128::from(FIRST_WITHIN.min(self.interval)) / u128::from(self.interval);
        self.due.push(Reverse((now + soon as u64, number)));
    }

    /// From `now` to the next instant at a phase: 1 to the interval.
    fn wait(&self, phase: u64, now: u64) -> u64 {
        let into = now % self.interval;
        if phase > into { phase - into } else { self.interval - (into - phase) }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes one that is due at `now`; it is due again at its phase.
    pub fn take_due(&mut self, now: u64) -> Option<usize> {
        let Reverse((due, number)) = *self.due.peek()?;
        if due > now {
            return None;
        }
        self.due.pop();
        self.skipped += (now - due) / self.interval;
        let phase = self.phases.get(&number).copied().unwrap_or_default();
        self.due.push(Reverse((now + self.wait(phase, now), number)));
        Some(number)
    }

    /// Takes `number` off the table.
    pub fn remove(&mut self, number: usize) {
        self.phases.remove(&number);
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
        let mut turns = [0; 30];
        while let Some(due) = table.next().filter(|due| *due < 30 * S) {
            assert!(table.take_due(due).is_some());
            turns[(due / S) as usize] += 1;
        }
        assert!(turns[..2].iter().sum::<u32>() >= 200, "the first turns come at once: {turns:?}");
        assert_eq!(turns[10..20].iter().sum::<u32>(), 200, "{turns:?}");
        assert_eq!(turns[10..20], turns[20..]);
        assert!(turns[10..].iter().all(|turns| *turns < 40), "{turns:?}");
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
            let mut dues = Vec::new();
            for (number, now) in [(1, now), (2, now + later)] {
                table.add(number, &name, epoch, now);
                let first = table.due.iter().find(|Reverse((_, n))| *n == number).unwrap().0.0;
                prop_assert!(first >= now && first - now <= interval.min(FIRST_WITHIN));
                let next = first + table.wait(table.phases[&number], first);
                prop_assert!(next > first && next - first <= interval);
                dues.push(next % interval);
            }
            prop_assert_eq!(dues[0], dues[1]);
        }
    }
}
