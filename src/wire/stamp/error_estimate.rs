//! The error estimate beside every timestamp: RFC 8762 §4.2.1, scale and multiplier of RFC 4656 §4.1.2.

use crate::time::{Wall, ntp};

const SYNCHRONISED: u16 = 0x8000;
const PTP: u16 = 0x4000;

/// How good the timestamps beside it are, and in which of the two formats they are written.
///
/// The error is `multiplier × 2^(scale − 32)` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorEstimate {
    /// Bit S: the clock is synchronised to UTC by an external source.
    pub synchronised: bool,
    /// Bit Z: the timestamps are in PTP truncated format, else NTP (RFC 8186 §2.3).
    pub ptp: bool,
    /// 0 to 63.
    pub scale: u8,
    /// 1 to 255; 0 is not allowed on the wire, but some peers send it.
    pub multiplier: u8,
}

impl ErrorEstimate {
    /// NTP timestamps of a clock nobody vouches for; claims no better than a second.
    pub const UNSYNCHRONISED: ErrorEstimate =
        ErrorEstimate { synchronised: false, ptp: false, scale: 32, multiplier: 1 };

    /// NTP timestamps of a synchronised clock that is at most `error_ns` off; rounded up.
    pub fn synchronised(error_ns: u64) -> ErrorEstimate {
        // in units of 2^-32 s; up to 2^64 ns fit u128 with room
        let mut units = ((u128::from(error_ns) << 32).div_ceil(1_000_000_000)).max(1);
        let mut scale = 0;
        while units > 0xff {
            units = units.div_ceil(2);
            scale += 1;
        }
        ErrorEstimate { synchronised: true, ptp: false, scale, multiplier: units as u8 }
    }

    /// From the 16 bits on the wire.
    pub fn from_bits(bits: u16) -> ErrorEstimate {
        ErrorEstimate {
            synchronised: bits & SYNCHRONISED != 0,
            ptp: bits & PTP != 0,
            scale: ((bits >> 8) & 0x3f) as u8,
            multiplier: bits as u8,
        }
    }

    /// The 16 bits on the wire; a scale above 63 loses its upper bits.
    pub fn bits(self) -> u16 {
        let s = if self.synchronised { SYNCHRONISED } else { 0 };
        let z = if self.ptp { PTP } else { 0 };
        s | z | (u16::from(self.scale & 0x3f) << 8) | u16::from(self.multiplier)
    }

    /// The instant a timestamp beside this estimate means: `Ok(None)` when it is zero (not taken).
    ///
    /// # Errors
    /// A PTP timestamp whose nanoseconds are 10^9 or more.
    pub fn instant(self, raw: u64) -> Result<Option<Wall>, OutOfRange> {
        match (raw, self.ptp) {
            (0, _) => Ok(None),
            (_, false) => Ok(Some(ntp::from_ntp(raw))),
            (_, true) => ntp::from_ptp(raw).map(Some).ok_or(OutOfRange),
        }
    }

    /// The timestamp of an instant in the format this estimate announces.
    pub fn timestamp(self, wall: Wall) -> u64 {
        if self.ptp { ntp::to_ptp(wall) } else { ntp::to_ntp(wall) }
    }
}

/// A timestamp that means no instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nanoseconds of a PTP timestamp are 10^9 or more")]
pub struct OutOfRange;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_are_where_the_rfc_puts_them() {
        let estimate = ErrorEstimate { synchronised: true, ptp: true, scale: 0x21, multiplier: 0x42 };
        assert_eq!(estimate.bits(), 0xe142);
        assert_eq!(ErrorEstimate::UNSYNCHRONISED.bits(), 0x2001);
    }

    #[test]
    fn error_is_rounded_up_never_down() {
        // 1 ms = 4 294 967.296 units of 2^-32 s
        let estimate = ErrorEstimate::synchronised(1_000_000);
        let seconds = f64::from(estimate.multiplier) * 2f64.powi(i32::from(estimate.scale) - 32);
        assert!((0.001..0.001_01).contains(&seconds), "{seconds}");
        assert_eq!(ErrorEstimate::synchronised(0).multiplier, 1);
        assert!(ErrorEstimate::synchronised(u64::MAX).scale < 64);
    }

    #[test]
    fn format_follows_the_z_bit() {
        let ntp = ErrorEstimate::UNSYNCHRONISED;
        let ptp = ErrorEstimate { ptp: true, ..ntp };
        let at = Wall(1_700_000_000_123_456_789);
        assert_eq!(ntp.instant(ntp::to_ntp(at)), Ok(Some(at)));
        assert_eq!(ptp.instant(ntp::to_ptp(at)), Ok(Some(at)));
        assert_eq!(ptp.instant(0), Ok(None));
        assert_eq!(ptp.instant(0xffff_ffff), Err(OutOfRange));
    }

    proptest! {
        #[test]
        fn bits_there_and_back(bits: u16) {
            prop_assert_eq!(ErrorEstimate::from_bits(bits).bits(), bits);
        }
    }
}
