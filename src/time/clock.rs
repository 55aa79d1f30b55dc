//! Reading the clocks. The only place that does; everything else takes instants as arguments.

use super::{Monotonic, Wall};
use nix::time::{ClockId, clock_gettime};

/// A source of both clocks: the system's, or a simulated one.
pub trait Clock {
    /// Now, `CLOCK_MONOTONIC`.
    fn monotonic(&self) -> Monotonic;
    /// Now, `CLOCK_REALTIME`.
    fn wall(&self) -> Wall;
}

/// The system's clocks, read through the vDSO (about 20 ns each).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

fn read(id: ClockId) -> u64 {
    match clock_gettime(id) {
        Ok(t) => (t.tv_sec() as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec() as u64),
        Err(_) => 0, // both clocks exist on every Linux; clock_gettime(2) has no other error for them
    }
}

impl Clock for SystemClock {
    #[inline]
    fn monotonic(&self) -> Monotonic {
        Monotonic(read(ClockId::CLOCK_MONOTONIC))
    }

    #[inline]
    fn wall(&self) -> Wall {
        Wall(read(ClockId::CLOCK_REALTIME))
    }
}
