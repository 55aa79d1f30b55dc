//! The Python generation's probe: 36 octets, little-endian, without gaps.
//!
//! `signature` 10 octets, always the same · `tos` u8 · `sent`, `rcvd`, `rtt` in milliseconds, f64 · `lost` u8.

use super::SIGNATURE_LEN;
use std::ops::Range;

/// Octets of a probe.
pub const LEN: usize = 36;
/// The first octets of every probe.
pub const SIGNATURE: [u8; SIGNATURE_LEN] = *b"__llama__\0";
/// The port its reflector listens on when not told.
pub const DEFAULT_PORT: u16 = 60_000;

mod field {
    use std::ops::Range;

    pub const SIGNATURE: Range<usize> = 0..10;
    pub const TOS: usize = 10;
    pub const SENT: Range<usize> = 11..19;
    pub const RCVD: Range<usize> = 19..27;
    pub const RTT: Range<usize> = 27..35;
    pub const LOST: usize = 35;
}

/// Why bytes are not a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProbe {
    /// Not [`LEN`] octets.
    #[error("a probe has {LEN} bytes")]
    WrongSize,
    /// Does not begin with [`SIGNATURE`].
    #[error("a probe begins with __llama__")]
    WrongSignature,
}

/// A view of bytes that are a probe.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Looks at `bytes` as a probe.
    ///
    /// # Errors
    /// Another size or signature.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Packet<T>, NoProbe> {
        let packet = Packet::new_sized(bytes)?;
        if packet.bytes.as_ref().starts_with(&SIGNATURE) { Ok(packet) } else { Err(NoProbe::WrongSignature) }
    }

    /// Looks at `bytes` as room for a probe.
    ///
    /// # Errors
    /// Another size.
    #[inline]
    pub fn new_sized(bytes: T) -> Result<Packet<T>, NoProbe> {
        if bytes.as_ref().len() == LEN { Ok(Packet { bytes }) } else { Err(NoProbe::WrongSize) }
    }

    /// The traffic-class byte the reply shall leave with.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.bytes.as_ref()[field::TOS]
    }

    /// When the collector sent it, ms since 1970.
    #[inline]
    pub fn sent(&self) -> f64 {
        self.number(field::SENT)
    }

    /// When the collector received the reply, ms since 1970; 0 on upstream's wire.
    #[inline]
    pub fn rcvd(&self) -> f64 {
        self.number(field::RCVD)
    }

    /// Round-trip time, ms; 0 on upstream's wire.
    #[inline]
    pub fn rtt(&self) -> f64 {
        self.number(field::RTT)
    }

    /// Whether the collector took it for lost; false on upstream's wire.
    #[inline]
    pub fn lost(&self) -> bool {
        self.bytes.as_ref()[field::LOST] != 0
    }

    #[inline]
    fn number(&self, field: Range<usize>) -> f64 {
        let mut raw = [0; 8];
        raw.copy_from_slice(&self.bytes.as_ref()[field]);
        f64::from_le_bytes(raw)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the traffic-class byte of the reply.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.bytes.as_mut()[field::TOS] = tos;
    }

    /// Sets when it is sent, ms since 1970.
    #[inline]
    pub fn set_sent(&mut self, ms: f64) {
        self.bytes.as_mut()[field::SENT].copy_from_slice(&ms.to_le_bytes());
    }

    /// Sets when the reply was received.
    #[inline]
    pub fn set_rcvd(&mut self, ms: f64) {
        self.bytes.as_mut()[field::RCVD].copy_from_slice(&ms.to_le_bytes());
    }

    /// Sets the round-trip time.
    #[inline]
    pub fn set_rtt(&mut self, ms: f64) {
        self.bytes.as_mut()[field::RTT].copy_from_slice(&ms.to_le_bytes());
    }

    /// Sets whether it is lost.
    #[inline]
    pub fn set_lost(&mut self, lost: bool) {
        self.bytes.as_mut()[field::LOST] = lost.into();
    }

    fn set_signature(&mut self) {
        self.bytes.as_mut()[field::SIGNATURE].copy_from_slice(&SIGNATURE);
    }
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// The traffic-class byte the reply shall leave with.
    pub tos: u8,
    /// When it was sent, ms since 1970.
    pub sent: f64,
    /// When the reply was received, ms since 1970.
    pub rcvd: f64,
    /// Round-trip time, ms.
    pub rtt: f64,
    /// Whether it was taken for lost.
    pub lost: bool,
}

impl Probe {
    /// Reads all fields.
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Probe {
        Probe { tos: packet.tos(), sent: packet.sent(), rcvd: packet.rcvd(), rtt: packet.rtt(), lost: packet.lost() }
    }

    /// Writes the whole packet.
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<T>) {
        packet.set_signature();
        packet.set_tos(self.tos);
        packet.set_sent(self.sent);
        packet.set_rcvd(self.rcvd);
        packet.set_rtt(self.rtt);
        packet.set_lost(self.lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `struct.pack('<10sBddd?', b'__llama__', 0x28, 1700000000123.25, 1700000000124.5, 1.25, True)` in Python 3.11.
    #[rustfmt::skip]
    const BYTES: [u8; LEN] = [
        0x5f, 0x5f, 0x6c, 0x6c, 0x61, 0x6d, 0x61, 0x5f, 0x5f, 0x00, // signature
        0x28,                                                       // tos
        0x00, 0xb4, 0x87, 0x56, 0xfe, 0xbc, 0x78, 0x42,             // sent
        0x00, 0xc8, 0x87, 0x56, 0xfe, 0xbc, 0x78, 0x42,             // rcvd
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf4, 0x3f,             // rtt
        0x01,                                                       // lost
    ];

    const VALUE: Probe =
        Probe { tos: 0x28, sent: 1_700_000_000_123.25, rcvd: 1_700_000_000_124.5, rtt: 1.25, lost: true };

    #[test]
    fn take_apart() {
        let packet = Packet::new_checked(&BYTES[..]).unwrap();
        assert_eq!(packet.tos(), 0x28);
        assert_eq!(packet.sent(), 1_700_000_000_123.25);
        assert_eq!(packet.rcvd(), 1_700_000_000_124.5);
        assert_eq!(packet.rtt(), 1.25);
        assert!(packet.lost());
    }

    #[test]
    fn build() {
        let mut bytes = [0xa5; LEN];
        let mut packet = Packet::new_sized(&mut bytes[..]).unwrap();
        packet.set_signature();
        packet.set_tos(0x28);
        packet.set_sent(1_700_000_000_123.25);
        packet.set_rcvd(1_700_000_000_124.5);
        packet.set_rtt(1.25);
        packet.set_lost(true);
        assert_eq!(bytes, BYTES);
    }

    #[test]
    fn parse() {
        assert_eq!(Probe::parse(&Packet::new_checked(&BYTES[..]).unwrap()), VALUE);
    }

    #[test]
    fn emit() {
        let mut bytes = [0xa5; LEN];
        VALUE.emit(&mut Packet::new_sized(&mut bytes[..]).unwrap());
        assert_eq!(bytes, BYTES);
    }

    #[test]
    fn another_size_or_signature_is_refused() {
        for len in (0..100).filter(|&len| len != LEN) {
            let mut bytes = BYTES.to_vec();
            bytes.resize(len, 0);
            assert_eq!(Packet::new_checked(bytes).err(), Some(NoProbe::WrongSize));
        }
        for at in 0..SIGNATURE_LEN {
            let mut bytes = BYTES;
            bytes[at] ^= 1;
            assert_eq!(Packet::new_checked(bytes).err(), Some(NoProbe::WrongSignature));
        }
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_identity(tos: u8, sent: f64, rcvd: f64, rtt: f64, lost: bool) {
            let value = Probe { tos, sent, rcvd, rtt, lost };
            let mut packet = Packet::new_sized([0xa5; LEN]).unwrap();
            value.emit(&mut packet);
            let checked = Packet::new_checked(packet.bytes).unwrap();
            prop_assert_eq!(Probe::parse(&checked), value);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = Packet::new_checked(&bytes) {
                Probe::parse(&packet);
            }
        }
    }
}
