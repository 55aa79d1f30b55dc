//! The two 64-bit timestamp formats of STAMP: NTP (RFC 5905 §6) and PTP truncated (IEEE 1588v2,
//! as used by RFC 8186 §2.1).

use super::Wall;

/// Seconds from 1900-01-01 (NTP era 0) to 1970-01-01.
const NTP_TO_UNIX_S: u64 = 2_208_988_800;
const NS_PER_S: u64 = 1_000_000_000;

/// NTP format: 32 bits of seconds since 1900 (modulo the era), 32 bits of fraction.
///
/// The nearest fraction is taken, so that [`from_ntp`] gives the same nanosecond back.
pub fn to_ntp(wall: Wall) -> u64 {
    let seconds = (wall.0 / NS_PER_S).wrapping_add(NTP_TO_UNIX_S) & 0xffff_ffff;
    // ceil, not floor: the way back floors, and 1 ns is more than 4 fractions wide
    let fraction = ((wall.0 % NS_PER_S) << 32).div_ceil(NS_PER_S);
    (seconds << 32) | fraction
}

/// The instant an NTP timestamp means; seconds before 1970 are read as era 1 (2036 onwards).
pub fn from_ntp(ntp: u64) -> Wall {
    let seconds = ntp >> 32;
    let since_1970 =
        if seconds >= NTP_TO_UNIX_S { seconds - NTP_TO_UNIX_S } else { seconds + (1 << 32) - NTP_TO_UNIX_S };
    let ns = ((ntp & 0xffff_ffff) * NS_PER_S) >> 32;
    Wall(since_1970 * NS_PER_S + ns)
}

/// PTP truncated format: 32 bits of seconds since 1970 (low bits), 32 bits of nanoseconds.
pub fn to_ptp(wall: Wall) -> u64 {
    (((wall.0 / NS_PER_S) & 0xffff_ffff) << 32) | (wall.0 % NS_PER_S)
}

/// The instant a PTP truncated timestamp means, `None` when its nanoseconds are 10^9 or more.
pub fn from_ptp(ptp: u64) -> Option<Wall> {
    let ns = ptp & 0xffff_ffff;
    (ns < NS_PER_S).then(|| Wall((ptp >> 32) * NS_PER_S + ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        assert_eq!(to_ntp(Wall(0)), NTP_TO_UNIX_S << 32);
        assert_eq!(to_ntp(Wall(500_000_000)), (NTP_TO_UNIX_S << 32) | 0x8000_0000);
        assert_eq!(to_ptp(Wall(1_500_000_000)), (1 << 32) | 500_000_000);
        assert_eq!(from_ptp(0xffff_ffff), None);
        // era 1 starts 2036-02-07 06:28:16 UTC
        assert_eq!(from_ntp(0), Wall(2_085_978_496 * NS_PER_S));
    }

    proptest! {
        #[test]
        fn both_formats_give_the_nanosecond_back(ns in 0u64..4_200_000_000 * NS_PER_S) {
            prop_assert_eq!(from_ntp(to_ntp(Wall(ns))), Wall(ns));
            prop_assert_eq!(from_ptp(to_ptp(Wall(ns))), Some(Wall(ns)));
        }
    }
}
