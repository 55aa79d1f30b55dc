//! Limits of packets per second: one instant per limit, no timer.
//!
//! The generic cell rate algorithm: a limit remembers when it will be as good as unused again, and every
//! packet moves that instant on by one packet's share of a second.

use crate::time::Monotonic;

/// A limit's rate and burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_packet_ns: u64,
    burst_ns: u64,
}

impl Rate {
    /// `pps` packets per second, at least 1, and at once as many as a tenth of a second or 16 packets allow,
    /// whichever is more, but no more than a second's worth.
    pub fn per_second(pps: u64) -> Rate {
        let pps = pps.max(1);
        let per_packet_ns = (1_000_000_000 / pps).max(1);
        let burst = (pps / 10).max(pps.min(16));
        Rate { per_packet_ns, burst_ns: burst.saturating_mul(per_packet_ns) }
    }
}

/// How much of a limit is used up. The default is unused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    until: Monotonic,
}

impl Used {
    /// Takes one packet at `now`; false, and nothing taken, above the limit.
    #[inline]
    pub fn take(&mut self, rate: Rate, now: Monotonic) -> bool {
        let until = self.until.max(now).0.saturating_add(rate.per_packet_ns);
        let within = until - now.0 <= rate.burst_ns;
        if within {
            self.until = Monotonic(until);
        }
        within
    }

    /// Whether this is as good as unused at `now`.
    pub fn is_free(&self, now: Monotonic) -> bool {
        self.until <= now
    }

    /// The instant from which it is as good as unused.
    pub fn until(&self) -> Monotonic {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn burst_then_rate() {
        let rate = Rate::per_second(1000);
        let mut used = Used::default();
        let now = Monotonic(5 * SECOND);
        assert_eq!((0..1000).filter(|_| used.take(rate, now)).count(), 100);
        // a millisecond later there is room for one
        assert!(used.take(rate, Monotonic(now.0 + 1_000_000)));
        assert!(!used.take(rate, Monotonic(now.0 + 1_000_000)));
        assert!(!used.is_free(now));
        assert!(used.is_free(used.until()));
    }

    #[test]
    fn slow_rates_allow_a_second_at_once() {
        for pps in [1, 5, 16] {
            let mut used = Used::default();
            let rate = Rate::per_second(pps);
            assert_eq!((0..100).filter(|_| used.take(rate, Monotonic(SECOND))).count() as u64, pps);
        }
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        let mut used = Used::default();
        assert!(used.take(Rate::per_second(u64::MAX), Monotonic(SECOND)));
        assert!(used.take(Rate::per_second(0), Monotonic(u64::MAX - SECOND)));
        assert!(!used.take(Rate::per_second(1), Monotonic(u64::MAX - 2 * SECOND)));
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst(
            pps in 1u64..100_000,
            gaps in proptest::collection::vec(0u64..2_000_000, 1..500),
        ) {
            let rate = Rate::per_second(pps);
            let mut used = Used::default();
            let (mut now, mut taken) = (SECOND, 0);
            for gap in gaps {
                now += gap;
                taken += u64::from(used.take(rate, Monotonic(now)));
            }
            let allowed = (rate.burst_ns + now - SECOND) / rate.per_packet_ns + 1;
            prop_assert!(taken <= allowed, "{} of {}", taken, allowed);
        }
    }
}
