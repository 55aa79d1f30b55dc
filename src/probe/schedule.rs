//! Which flow is due when: an absolute, open-loop schedule that never slides.

use super::FlowId;
use super::shape::Pacing;
use crate::time::Monotonic;
use std::ops::Range;

/// One test's share on one worker.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The worker's flows it sweeps.
    pub flows: Range<u32>,
    /// Cycles per second.
    pub cycles_per_second: f64,
    /// When within the cycle.
    pub pacing: Pacing,
}

/// A probe that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which flow sends.
    pub flow: FlowId,
    /// When it should leave.
    pub at: Monotonic,
}

/// All sweeps of a worker, merged.
#[derive(Debug)]
pub struct Schedule;

impl Schedule {
    /// A schedule that starts at `start`; `seed` decides phases, orders and Poisson gaps.
    pub fn new(_sweeps: &[Sweep], _start: Monotonic, _seed: u64) -> Schedule {
        todo!()
    }

    /// When the next probe is due; `None` when there is nothing to send.
    pub fn next_due(&self) -> Option<Monotonic> {
        todo!()
    }

    /// The next probe, when it is due at `now` or earlier.
    pub fn take_due(&mut self, _now: Monotonic) -> Option<Due> {
        todo!()
    }
}
