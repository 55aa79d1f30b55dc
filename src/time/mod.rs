//! Instants, delays and where a timestamp was taken.
//!
//! Responsible for keeping clocks apart: [`Monotonic`] drives schedules, [`Wall`] is what kernel
//! timestamps and wire formats carry; the two do not subtract from each other. Not responsible
//! for wire formats' bytes (see [`ntp`] for the 64-bit values, [`crate::wire`] for packets).
//! Read [`Timestamp`] first.

pub mod clock;
pub mod ntp;

pub use clock::{Clock, SystemClock};

use std::fmt;
use std::time::Duration;

/// An instant of `CLOCK_MONOTONIC`, in nanoseconds since an arbitrary origin. Never steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub u64);

/// An instant of `CLOCK_REALTIME`, in nanoseconds since 1970-01-01 UTC. May step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// A signed difference of two instants of one clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delay(pub i64);

/// Where a timestamp was taken, from the closest to the wire to the farthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StampSource {
    /// By the network card.
    Hardware,
    /// By the kernel: on receive before protocol processing, on transmit by the driver.
    Kernel,
    /// By this process, before the send or after the receive call.
    User,
}

/// An instant and where it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// The instant, `CLOCK_REALTIME`.
    pub wall: Wall,
    /// Where it was taken.
    pub source: StampSource,
}

impl Monotonic {
    /// This instant moved on by `by`; saturates.
    pub fn after(self, by: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(nanos(by)))
    }

    /// Nanoseconds since `earlier`, 0 when `earlier` is later.
    pub fn since(self, earlier: Monotonic) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Wall {
    /// The signed time from `earlier` to this instant.
    pub fn minus(self, earlier: Wall) -> Delay {
        Delay(self.0.wrapping_sub(earlier.0) as i64)
    }

    /// This instant moved back by `by`; saturates.
    pub fn before(self, by: Duration) -> Wall {
        Wall(self.0.saturating_sub(nanos(by)))
    }

    /// This instant moved by `by`, which may be negative.
    pub fn plus(self, by: Delay) -> Wall {
        Wall(self.0.wrapping_add(by.0 as u64))
    }
}

impl Delay {
    /// The delay in milliseconds.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl std::ops::Sub for Delay {
    type Output = Delay;
    fn sub(self, other: Delay) -> Delay {
        Delay(self.0.wrapping_sub(other.0))
    }
}

impl fmt::Display for StampSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StampSource::Hardware => "hardware",
            StampSource::Kernel => "kernel",
            StampSource::User => "user",
        })
    }
}

/// `duration` in whole nanoseconds; saturates at about 584 years.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_signed() {
        assert_eq!(Wall(5).minus(Wall(7)), Delay(-2));
        assert_eq!(Wall(7).plus(Delay(-2)), Wall(5));
        assert_eq!(Delay(5) - Delay(7), Delay(-2));
    }

    #[test]
    fn monotonic_never_goes_below_zero() {
        assert_eq!(Monotonic(3).since(Monotonic(9)), 0);
        assert_eq!(Monotonic(u64::MAX).after(Duration::from_secs(1)), Monotonic(u64::MAX));
    }
}
