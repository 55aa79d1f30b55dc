//! The session-sender's base packet: RFC 8762 §4.2, session identifier of RFC 8972 §3.

use super::{ErrorEstimate, Mode, TooShort, read_u16, read_u32, read_u64, write};

mod field {
    use std::ops::Range;

    /// Where the fields are; everything else in the base packet must be zero.
    pub struct Layout {
        pub seq: Range<usize>,
        pub timestamp: Range<usize>,
        pub error_estimate: Range<usize>,
        pub ssid: Range<usize>,
        /// The zeros behind the fields, where a reflected packet has T2 and what it copied.
        pub zero: Range<usize>,
    }

    pub static OPEN: Layout =
        Layout { seq: 0..4, timestamp: 4..12, error_estimate: 12..14, ssid: 14..16, zero: 16..44 };
    pub static AUTHENTICATED: Layout =
        Layout { seq: 0..4, timestamp: 16..24, error_estimate: 24..26, ssid: 26..28, zero: 28..96 };
}

/// A view of bytes that are at least a sender's base packet long.
#[derive(Clone, Copy, Debug)]
pub struct SenderPacket<T> {
    bytes: T,
    mode: Mode,
}

impl<T: AsRef<[u8]>> SenderPacket<T> {
    /// Looks at `bytes` as a sender's packet in `mode`.
    ///
    /// # Errors
    /// Fewer bytes than [`Mode::base_len`].
    #[inline]
    pub fn new_checked(bytes: T, mode: Mode) -> Result<SenderPacket<T>, TooShort> {
        if bytes.as_ref().len() < mode.base_len() { Err(TooShort) } else { Ok(SenderPacket { bytes, mode }) }
    }

    #[inline]
    fn layout(&self) -> &'static field::Layout {
        match self.mode {
            Mode::Open => &field::OPEN,
            Mode::Authenticated => &field::AUTHENTICATED,
        }
    }

    /// Sequence number.
    #[inline]
    pub fn seq(&self) -> u32 {
        read_u32(self.bytes.as_ref(), &self.layout().seq)
    }

    /// T1, in the format the error estimate tells.
    #[inline]
    pub fn timestamp(&self) -> u64 {
        read_u64(self.bytes.as_ref(), &self.layout().timestamp)
    }

    /// Error estimate of T1.
    #[inline]
    pub fn error_estimate(&self) -> ErrorEstimate {
        ErrorEstimate::from_bits(read_u16(self.bytes.as_ref(), &self.layout().error_estimate))
    }

    /// Session-sender identifier; 0 when not used.
    #[inline]
    pub fn ssid(&self) -> u16 {
        read_u16(self.bytes.as_ref(), &self.layout().ssid)
    }

    /// Whether the octets behind the fields are zero, as a sender sends them. In a reflected packet
    /// they are not: T2 and the copies of the sender's fields are there.
    #[inline]
    pub fn rest_is_zero(&self) -> bool {
        // without a branch per byte: the usual answer is yes
        self.bytes.as_ref()[self.layout().zero.clone()].iter().fold(0, |all, &byte| all | byte) == 0
    }

    /// TLVs or padding after the base packet.
    #[inline]
    pub fn tail(&self) -> &[u8] {
        &self.bytes.as_ref()[self.mode.base_len()..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> SenderPacket<T> {
    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) {
        let field = &self.layout().seq;
        write(self.bytes.as_mut(), field, &seq.to_be_bytes());
    }

    /// Sets T1.
    #[inline]
    pub fn set_timestamp(&mut self, timestamp: u64) {
        let field = &self.layout().timestamp;
        write(self.bytes.as_mut(), field, &timestamp.to_be_bytes());
    }

    /// Sets the error estimate.
    #[inline]
    pub fn set_error_estimate(&mut self, estimate: ErrorEstimate) {
        let field = &self.layout().error_estimate;
        write(self.bytes.as_mut(), field, &estimate.bits().to_be_bytes());
    }

    /// Sets the session-sender identifier.
    #[inline]
    pub fn set_ssid(&mut self, ssid: u16) {
        let field = &self.layout().ssid;
        write(self.bytes.as_mut(), field, &ssid.to_be_bytes());
    }

    fn clear(&mut self) {
        let len = self.mode.base_len();
        self.bytes.as_mut()[..len].fill(0);
    }
}

/// What a sender's base packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Sequence number.
    pub seq: u32,
    /// T1, raw.
    pub timestamp: u64,
    /// Error estimate of T1.
    pub error_estimate: ErrorEstimate,
    /// Session-sender identifier; 0 when not used.
    pub ssid: u16,
}

impl Sender {
    /// Reads all fields; what must be zero is ignored (RFC 8762 §4.2.1).
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &SenderPacket<T>) -> Sender {
        Sender {
            seq: packet.seq(),
            timestamp: packet.timestamp(),
            error_estimate: packet.error_estimate(),
            ssid: packet.ssid(),
        }
    }

    /// Writes the whole base packet. The HMAC is left zero: [`super::Signer::sign_base`] comes last.
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut SenderPacket<T>) {
        packet.clear();
        packet.set_seq(self.seq);
        packet.set_timestamp(self.timestamp);
        packet.set_error_estimate(self.error_estimate);
        packet.set_ssid(self.ssid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::stamp::Signer;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const OPEN: [u8; 48] = [
        0x00, 0x00, 0x00, 0x2a,                         // sequence
        0xe8, 0xf5, 0x9a, 0x80, 0x40, 0x00, 0x00, 0x00, // T1
        0x80, 0x01, 0xbe, 0xef,                         // error estimate, SSID
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x80, 0x01, 0x00, 0x00,                         // an empty Extra Padding TLV
    ];

    fn authenticated() -> [u8; 112] {
        let mut bytes = [0; 112];
        bytes[0..4].copy_from_slice(&OPEN[0..4]);
        bytes[16..28].copy_from_slice(&OPEN[4..16]);
        // HMAC-SHA-256 with key "secret", computed with another implementation (python3 hmac)
        bytes[96..].copy_from_slice(&HMAC);
        bytes
    }

    const HMAC: [u8; 16] =
        [0x74, 0xc6, 0xca, 0xc9, 0xec, 0xd8, 0x01, 0x52, 0x07, 0x36, 0xe0, 0xd4, 0x53, 0x76, 0xb8, 0x78];

    fn value() -> Sender {
        Sender {
            seq: 42,
            timestamp: 0xe8f5_9a80_4000_0000,
            error_estimate: ErrorEstimate { synchronised: true, ptp: false, scale: 0, multiplier: 1 },
            ssid: 0xbeef,
        }
    }

    #[test]
    fn take_apart() {
        for (bytes, mode) in [(&OPEN[..], Mode::Open), (&authenticated()[..], Mode::Authenticated)] {
            let packet = SenderPacket::new_checked(bytes, mode).unwrap();
            assert_eq!(packet.seq(), 42);
            assert_eq!(packet.timestamp(), 0xe8f5_9a80_4000_0000);
            assert_eq!(packet.error_estimate().bits(), 0x8001);
            assert_eq!(packet.ssid(), 0xbeef);
            assert!(packet.rest_is_zero());
            assert_eq!(packet.tail(), &bytes[mode.base_len()..]);
        }
        assert!(Signer::new(b"secret").verify_base(&authenticated()));
    }

    #[test]
    fn build() {
        let mut bytes = [0xa5; 48];
        let mut packet = SenderPacket::new_checked(&mut bytes[..], Mode::Open).unwrap();
        packet.clear();
        packet.set_seq(42);
        packet.set_timestamp(0xe8f5_9a80_4000_0000);
        packet.set_error_estimate(ErrorEstimate::from_bits(0x8001));
        packet.set_ssid(0xbeef);
        assert_eq!(bytes[..44], OPEN[..44]);
        assert_eq!(bytes[44..], [0xa5; 4], "what follows the base packet is not touched");
    }

    #[test]
    fn parse() {
        for (bytes, mode) in [(&OPEN[..], Mode::Open), (&authenticated()[..], Mode::Authenticated)] {
            assert_eq!(Sender::parse(&SenderPacket::new_checked(bytes, mode).unwrap()), value());
        }
    }

    #[test]
    fn emit() {
        let mut bytes = [0xa5; 44];
        value().emit(&mut SenderPacket::new_checked(&mut bytes[..], Mode::Open).unwrap());
        assert_eq!(bytes, OPEN[..44]);

        let mut bytes = [0xa5; 112];
        value().emit(&mut SenderPacket::new_checked(&mut bytes[..], Mode::Authenticated).unwrap());
        Signer::new(b"secret").sign_base(&mut bytes);
        assert_eq!(bytes, authenticated());
    }

    #[test]
    fn anything_behind_the_fields_is_noticed() {
        for at in 16..44 {
            let mut bytes = OPEN;
            bytes[at] = 1;
            assert!(!SenderPacket::new_checked(&bytes[..], Mode::Open).unwrap().rest_is_zero());
        }
    }

    #[test]
    fn shorter_than_a_base_packet_is_refused() {
        for mode in [Mode::Open, Mode::Authenticated] {
            for len in 0..mode.base_len() {
                assert_eq!(SenderPacket::new_checked(vec![0; len], mode).err(), Some(TooShort));
            }
        }
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_identity(seq: u32, timestamp: u64, bits: u16, ssid: u16, authenticated: bool) {
            let mode = if authenticated { Mode::Authenticated } else { Mode::Open };
            let value = Sender { seq, timestamp, error_estimate: ErrorEstimate::from_bits(bits), ssid };
            let mut packet = SenderPacket::new_checked(vec![0xa5; mode.base_len()], mode).unwrap();
            value.emit(&mut packet);
            prop_assert!(packet.rest_is_zero());
            prop_assert_eq!(Sender::parse(&packet), value);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for mode in [Mode::Open, Mode::Authenticated] {
                if let Ok(packet) = SenderPacket::new_checked(&bytes, mode) {
                    Sender::parse(&packet);
                    packet.rest_is_zero();
                    packet.tail();
                }
            }
        }
    }
}
