//! The session-reflector's base packet: RFC 8762 §4.3, session identifier of RFC 8972 §3.

use super::{ErrorEstimate, Mode, TooShort, read_u16, read_u32, read_u64, write};

mod field {
    use std::ops::Range;

    /// Where the fields are; everything else in the base packet must be zero.
    pub struct Layout {
        pub seq: Range<usize>,
        pub timestamp: Range<usize>,
        pub error_estimate: Range<usize>,
        pub ssid: Range<usize>,
        pub receive_timestamp: Range<usize>,
        pub sender_seq: Range<usize>,
        pub sender_timestamp: Range<usize>,
        pub sender_error_estimate: Range<usize>,
        pub sender_ttl: usize,
    }

    pub static OPEN: Layout = Layout {
        seq: 0..4,
        timestamp: 4..12,
        error_estimate: 12..14,
        ssid: 14..16,
        receive_timestamp: 16..24,
        sender_seq: 24..28,
        sender_timestamp: 28..36,
        sender_error_estimate: 36..38,
        sender_ttl: 40,
    };
    pub static AUTHENTICATED: Layout = Layout {
        seq: 0..4,
        timestamp: 16..24,
        error_estimate: 24..26,
        ssid: 26..28,
        receive_timestamp: 32..40,
        sender_seq: 48..52,
        sender_timestamp: 64..72,
        sender_error_estimate: 72..74,
        sender_ttl: 80,
    };
}

/// A view of bytes that are at least a reflector's base packet long.
#[derive(Clone, Copy, Debug)]
pub struct ReflectedPacket<T> {
    bytes: T,
    mode: Mode,
}

impl<T: AsRef<[u8]>> ReflectedPacket<T> {
    /// Looks at `bytes` as a reflector's packet in `mode`.
    ///
    /// # Errors
    /// Fewer bytes than [`Mode::base_len`].
    #[inline]
    pub fn new_checked(bytes: T, mode: Mode) -> Result<ReflectedPacket<T>, TooShort> {
        if bytes.as_ref().len() < mode.base_len() { Err(TooShort) } else { Ok(ReflectedPacket { bytes, mode }) }
    }

    #[inline]
    fn layout(&self) -> &'static field::Layout {
        match self.mode {
            Mode::Open => &field::OPEN,
            Mode::Authenticated => &field::AUTHENTICATED,
        }
    }

    /// The reflector's sequence number: the sender's, or its own count when stateful.
    #[inline]
    pub fn seq(&self) -> u32 {
        read_u32(self.bytes.as_ref(), &self.layout().seq)
    }

    /// T3, in the format [`Self::error_estimate`] tells.
    #[inline]
    pub fn timestamp(&self) -> u64 {
        read_u64(self.bytes.as_ref(), &self.layout().timestamp)
    }

    /// Error estimate of T2 and T3.
    #[inline]
    pub fn error_estimate(&self) -> ErrorEstimate {
        ErrorEstimate::from_bits(read_u16(self.bytes.as_ref(), &self.layout().error_estimate))
    }

    /// Session-sender identifier, copied; 0 from a reflector that knows none.
    #[inline]
    pub fn ssid(&self) -> u16 {
        read_u16(self.bytes.as_ref(), &self.layout().ssid)
    }

    /// T2, in the format [`Self::error_estimate`] tells.
    #[inline]
    pub fn receive_timestamp(&self) -> u64 {
        read_u64(self.bytes.as_ref(), &self.layout().receive_timestamp)
    }

    /// The sender's sequence number, copied.
    #[inline]
    pub fn sender_seq(&self) -> u32 {
        read_u32(self.bytes.as_ref(), &self.layout().sender_seq)
    }

    /// T1, copied.
    #[inline]
    pub fn sender_timestamp(&self) -> u64 {
        read_u64(self.bytes.as_ref(), &self.layout().sender_timestamp)
    }

    /// Error estimate of T1, copied.
    #[inline]
    pub fn sender_error_estimate(&self) -> ErrorEstimate {
        ErrorEstimate::from_bits(read_u16(self.bytes.as_ref(), &self.layout().sender_error_estimate))
    }

    /// TTL or hop limit the sender's packet arrived with.
    #[inline]
    pub fn sender_ttl(&self) -> u8 {
        self.bytes.as_ref()[self.layout().sender_ttl]
    }

    /// TLVs or padding after the base packet.
    #[inline]
    pub fn tail(&self) -> &[u8] {
        &self.bytes.as_ref()[self.mode.base_len()..]
    }
}

/// What a reflector's base packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reflected {
    /// The reflector's sequence number.
    pub seq: u32,
    /// T3, raw.
    pub timestamp: u64,
    /// Error estimate of T2 and T3.
    pub error_estimate: ErrorEstimate,
    /// Session-sender identifier, copied.
    pub ssid: u16,
    /// T2, raw.
    pub receive_timestamp: u64,
    /// The sender's sequence number, copied.
    pub sender_seq: u32,
    /// T1, raw, copied.
    pub sender_timestamp: u64,
    /// Error estimate of T1, copied.
    pub sender_error_estimate: ErrorEstimate,
    /// TTL or hop limit the sender's packet arrived with; 0 when not known.
    pub sender_ttl: u8,
}

impl Reflected {
    /// Reads all fields; what must be zero is ignored (RFC 8762 §4.3.1).
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &ReflectedPacket<T>) -> Reflected {
        Reflected {
            seq: packet.seq(),
            timestamp: packet.timestamp(),
            error_estimate: packet.error_estimate(),
            ssid: packet.ssid(),
            receive_timestamp: packet.receive_timestamp(),
            sender_seq: packet.sender_seq(),
            sender_timestamp: packet.sender_timestamp(),
            sender_error_estimate: packet.sender_error_estimate(),
            sender_ttl: packet.sender_ttl(),
        }
    }

    /// Writes the whole base packet. The HMAC is left zero: [`super::Signer::sign_base`] comes last.
    #[inline]
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut ReflectedPacket<T>) {
        let layout = packet.layout();
        let bytes = &mut packet.bytes.as_mut()[..packet.mode.base_len()];
        bytes.fill(0);
        write(bytes, &layout.seq, &self.seq.to_be_bytes());
        write(bytes, &layout.timestamp, &self.timestamp.to_be_bytes());
        write(bytes, &layout.error_estimate, &self.error_estimate.bits().to_be_bytes());
        write(bytes, &layout.ssid, &self.ssid.to_be_bytes());
        write(bytes, &layout.receive_timestamp, &self.receive_timestamp.to_be_bytes());
        write(bytes, &layout.sender_seq, &self.sender_seq.to_be_bytes());
        write(bytes, &layout.sender_timestamp, &self.sender_timestamp.to_be_bytes());
        write(bytes, &layout.sender_error_estimate, &self.sender_error_estimate.bits().to_be_bytes());
        bytes[layout.sender_ttl] = self.sender_ttl;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::stamp::Signer;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const OPEN: [u8; 44] = [
        0x00, 0x00, 0x00, 0x07,                         // the reflector's own sequence
        0xe8, 0xf5, 0x9a, 0x80, 0x80, 0x00, 0x00, 0x00, // T3
        0x80, 0x01, 0xbe, 0xef,                         // error estimate, SSID
        0xe8, 0xf5, 0x9a, 0x80, 0x40, 0x00, 0x00, 0x00, // T2
        0x00, 0x00, 0x00, 0x2a,                         // sender's sequence
        0xe8, 0xf5, 0x9a, 0x80, 0x20, 0x00, 0x00, 0x00, // T1
        0x20, 0x01, 0x00, 0x00,                         // sender's error estimate, zero
        0x3f, 0x00, 0x00, 0x00,                         // TTL, zero
    ];

    fn authenticated() -> [u8; 112] {
        let mut bytes = [0; 112];
        bytes[0..4].copy_from_slice(&OPEN[0..4]);
        bytes[16..28].copy_from_slice(&OPEN[4..16]);
        bytes[32..40].copy_from_slice(&OPEN[16..24]);
        bytes[48..52].copy_from_slice(&OPEN[24..28]);
        bytes[64..74].copy_from_slice(&OPEN[28..38]);
        bytes[80] = 0x3f;
        bytes[96..].copy_from_slice(&HMAC);
        bytes
    }

    /// Of the above with key "secret", computed with another implementation (python3 hmac).
    const HMAC: [u8; 16] =
        [0x37, 0xc4, 0x91, 0x20, 0x99, 0x7f, 0xa7, 0x60, 0x26, 0x65, 0xec, 0xd3, 0x93, 0x81, 0xc3, 0xbe];

    fn value() -> Reflected {
        Reflected {
            seq: 7,
            timestamp: 0xe8f5_9a80_8000_0000,
            error_estimate: ErrorEstimate { synchronised: true, ptp: false, scale: 0, multiplier: 1 },
            ssid: 0xbeef,
            receive_timestamp: 0xe8f5_9a80_4000_0000,
            sender_seq: 42,
            sender_timestamp: 0xe8f5_9a80_2000_0000,
            sender_error_estimate: ErrorEstimate::UNSYNCHRONISED,
            sender_ttl: 63,
        }
    }

    #[test]
    fn take_apart() {
        for (bytes, mode) in [(&OPEN[..], Mode::Open), (&authenticated()[..], Mode::Authenticated)] {
            let packet = ReflectedPacket::new_checked(bytes, mode).unwrap();
            assert_eq!(packet.seq(), 7);
            assert_eq!(packet.timestamp(), 0xe8f5_9a80_8000_0000);
            assert_eq!(packet.error_estimate().bits(), 0x8001);
            assert_eq!(packet.ssid(), 0xbeef);
            assert_eq!(packet.receive_timestamp(), 0xe8f5_9a80_4000_0000);
            assert_eq!(packet.sender_seq(), 42);
            assert_eq!(packet.sender_timestamp(), 0xe8f5_9a80_2000_0000);
            assert_eq!(packet.sender_error_estimate().bits(), 0x2001);
            assert_eq!(packet.sender_ttl(), 63);
            assert!(packet.tail().is_empty());
        }
        assert!(Signer::new(b"secret").verify_base(&authenticated()));
    }

    #[test]
    fn parse() {
        for (bytes, mode) in [(&OPEN[..], Mode::Open), (&authenticated()[..], Mode::Authenticated)] {
            assert_eq!(Reflected::parse(&ReflectedPacket::new_checked(bytes, mode).unwrap()), value());
        }
    }

    #[test]
    fn build_in_place_leaves_the_tail() {
        let mut bytes = [0xa5; 50];
        value().emit(&mut ReflectedPacket::new_checked(&mut bytes[..], Mode::Open).unwrap());
        assert_eq!(bytes[..44], OPEN);
        assert_eq!(bytes[44..], [0xa5; 6]);
    }

    #[test]
    fn emit() {
        let mut bytes = [0xa5; 112];
        value().emit(&mut ReflectedPacket::new_checked(&mut bytes[..], Mode::Authenticated).unwrap());
        Signer::new(b"secret").sign_base(&mut bytes);
        assert_eq!(bytes, authenticated());
    }

    #[test]
    fn shorter_than_a_base_packet_is_refused() {
        for mode in [Mode::Open, Mode::Authenticated] {
            for len in 0..mode.base_len() {
                assert_eq!(ReflectedPacket::new_checked(vec![0; len], mode).err(), Some(TooShort));
            }
        }
    }

    prop_compose! {
        fn any_value()(
            seq: u32, timestamp: u64, bits: u16, ssid: u16, receive_timestamp: u64,
            sender_seq: u32, sender_timestamp: u64, sender_bits: u16, sender_ttl: u8,
        ) -> Reflected {
            Reflected {
                seq, timestamp, ssid, receive_timestamp, sender_seq, sender_timestamp, sender_ttl,
                error_estimate: ErrorEstimate::from_bits(bits),
                sender_error_estimate: ErrorEstimate::from_bits(sender_bits),
            }
        }
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_identity(value in any_value(), authenticated: bool) {
            let mode = if authenticated { Mode::Authenticated } else { Mode::Open };
            let mut packet = ReflectedPacket::new_checked(vec![0xa5; mode.base_len()], mode).unwrap();
            value.emit(&mut packet);
            prop_assert_eq!(Reflected::parse(&packet), value);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for mode in [Mode::Open, Mode::Authenticated] {
                if let Ok(packet) = ReflectedPacket::new_checked(&bytes, mode) {
                    Reflected::parse(&packet);
                    packet.tail();
                }
            }
        }
    }
}
