//! Notices steps of the wall clock, so that a probe whose flight spans one gives no round trip.
//!
//! `CLOCK_REALTIME` − `CLOCK_MONOTONIC` is constant but for steps: slewing moves both alike.

use crate::time::Clock;

/// Differences smaller than this are reading noise, in nanoseconds.
const STEP_NS: u64 = 20_000;
/// A reading that took longer than this was interrupted and says nothing.
const READING_NS: u64 = 5_000;

/// The offset between the clocks, and how often it has stepped.
#[derive(Debug, Default)]
pub struct ClockWatch {
    offset: Option<u64>,
    epoch: u8,
}

impl ClockWatch {
    /// Steps seen so far, modulo 256.
    pub fn epoch(&self) -> u8 {
        self.epoch
    }

    /// Looks at both clocks; true when the wall clock has stepped since the last look.
    pub fn stepped(&mut self, clock: &impl Clock) -> bool {
        let before = clock.monotonic();
        let wall = clock.wall();
        let after = clock.monotonic();
        if after.since(before) > READING_NS {
            return false;
        }
        let offset = wall.0.wrapping_sub(before.0 + after.since(before) / 2);
        let Some(last) = self.offset else {
            self.offset = Some(offset);
            return false;
        };
        let stepped = (offset.wrapping_sub(last) as i64).unsigned_abs() > STEP_NS;
        if stepped {
            self.offset = Some(offset);
            self.epoch = self.epoch.wrapping_add(1);
        }
        stepped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Monotonic, Wall};
    use std::cell::Cell;

    /// Each reading of the monotonic clock takes `pace` nanoseconds.
    struct Scripted {
        now: Cell<u64>,
        offset: Cell<u64>,
        pace: Cell<u64>,
    }

    impl Clock for Scripted {
        fn monotonic(&self) -> Monotonic {
            self.now.set(self.now.get() + self.pace.get());
            Monotonic(self.now.get())
        }
        fn wall(&self) -> Wall {
            Wall(self.now.get() + self.offset.get())
        }
    }

    #[test]
    fn steps_either_way_are_seen_once_and_interrupted_readings_are_ignored() {
        let clock = Scripted { now: Cell::new(0), offset: Cell::new(1 << 40), pace: Cell::new(100) };
        let mut watch = ClockWatch::default();
        assert!(!watch.stepped(&clock));
        clock.offset.set((1 << 40) + 1_000_000);
        assert!(watch.stepped(&clock));
        assert!(!watch.stepped(&clock));
        clock.offset.set(1 << 40);
        clock.pace.set(READING_NS + 1);
        assert!(!watch.stepped(&clock), "the reading was interrupted");
        clock.pace.set(100);
        assert!(watch.stepped(&clock));
        assert_eq!(watch.epoch(), 2);
    }
}
