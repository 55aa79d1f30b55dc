//! IPv4 headers, RFC 791 §3.1.
//!
//! Read from raw sockets, which deliver them, and from ICMP errors, which quote them. Read [`Ipv4`] first.

use super::checksum::Sum;
use super::octets::{read_u16, write};
use std::net::Ipv4Addr;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

mod field {
    use std::ops::Range;

    /// Version in the high four bits, header length in words of four octets in the low ones.
    pub const VERSION_LENGTH: usize = 0;
    pub const TRAFFIC_CLASS: usize = 1;
    pub const TOTAL_LEN: Range<usize> = 2..4;
    pub const IDENTIFICATION: Range<usize> = 4..6;
    pub const FRAGMENT: Range<usize> = 6..8;
    pub const HOP_LIMIT: usize = 8;
    pub const PROTOCOL: usize = 9;
    pub const CHECKSUM: Range<usize> = 10..12;
    pub const SOURCE: Range<usize> = 12..16;
    pub const DESTINATION: Range<usize> = 16..20;

    pub const DONT_FRAGMENT: u16 = 0x4000;
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    pub const FRAGMENT_OFFSET: u16 = 0x1fff;
}

/// The bytes are no IPv4 header, or fewer than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole IPv4 header")]
pub struct NoHeader;

/// A view of bytes that hold a whole IPv4 header, and of the packet behind it as much as there is.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet<T>(T);

impl<T: AsRef<[u8]>> Ipv4Packet<T> {
    /// Looks at `bytes`. The packet may be cut short, as ICMP errors do.
    ///
    /// # Errors
    /// Another version, fewer bytes than the header has, or a header length below [`HEADER_LEN`] or above
    /// the total length.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Ipv4Packet<T>, NoHeader> {
        let len = bytes.as_ref().len();
        if len < HEADER_LEN || bytes.as_ref()[field::VERSION_LENGTH] >> 4 != 4 {
            return Err(NoHeader);
        }
        let packet = Ipv4Packet(bytes);
        let longest = len.min(usize::from(packet.total_len()));
        if (HEADER_LEN..=longest).contains(&packet.header_len()) { Ok(packet) } else { Err(NoHeader) }
    }

    /// Bytes of the header, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.0.as_ref()[field::VERSION_LENGTH] & 0x0f) * 4
    }

    /// The byte with DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.0.as_ref()[field::TRAFFIC_CLASS]
    }

    /// Bytes of header and payload, as sent.
    #[inline]
    pub fn total_len(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::TOTAL_LEN)
    }

    /// What fragments of one packet have in common.
    pub fn identification(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::IDENTIFICATION)
    }

    /// Whether routers must not cut it.
    pub fn dont_fragment(&self) -> bool {
        read_u16(self.0.as_ref(), &field::FRAGMENT) & field::DONT_FRAGMENT != 0
    }

    /// Whether another fragment follows.
    pub fn more_fragments(&self) -> bool {
        read_u16(self.0.as_ref(), &field::FRAGMENT) & field::MORE_FRAGMENTS != 0
    }

    /// Where the fragment stands in the packet, in octets.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (read_u16(self.0.as_ref(), &field::FRAGMENT) & field::FRAGMENT_OFFSET) << 3
    }

    /// Time to live.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.0.as_ref()[field::HOP_LIMIT]
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.0.as_ref()[field::PROTOCOL]
    }

    /// The header's checksum.
    pub fn checksum(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::CHECKSUM)
    }

    /// Whether the header's checksum is right.
    pub fn is_checksum_right(&self) -> bool {
        Sum::of(&self.0.as_ref()[..self.header_len()]).is_right()
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        address(self.0.as_ref(), &field::SOURCE)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        address(self.0.as_ref(), &field::DESTINATION)
    }

    /// Options, with what pads them to a multiple of four.
    pub fn options(&self) -> &[u8] {
        &self.0.as_ref()[HEADER_LEN..self.header_len()]
    }

    /// What follows the header: as much as the total length says, or less when the packet was cut short.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        &bytes[self.header_len()..bytes.len().min(usize::from(self.total_len()))]
    }
}

fn address(bytes: &[u8], field: &std::ops::Range<usize>) -> Ipv4Addr {
    let mut octets = [0; 4];
    octets.copy_from_slice(&bytes[field.clone()]);
    Ipv4Addr::from(octets)
}

/// What the header of a packet says that is in one piece and has no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// The byte with DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes behind the header; at most 65 515.
    pub payload_len: u16,
    /// What fragments would have in common.
    pub identification: u16,
    /// Whether routers must not cut it.
    pub dont_fragment: bool,
    /// Time to live.
    pub hop_limit: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Ipv4 {
    /// Reads a header; options and fragmentation are left out.
    pub fn parse<T: AsRef<[u8]>>(packet: &Ipv4Packet<T>) -> Ipv4 {
        Ipv4 {
            traffic_class: packet.traffic_class(),
            payload_len: packet.total_len() - packet.header_len() as u16,
            identification: packet.identification(),
            dont_fragment: packet.dont_fragment(),
            hop_limit: packet.hop_limit(),
            protocol: packet.protocol(),
            source: packet.source(),
            destination: packet.destination(),
        }
    }

    /// Writes the header, checksum included, and returns [`HEADER_LEN`]; 0, and nothing written, when `buf`
    /// is shorter or the payload does not fit into a packet.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        let Some(total) = self.payload_len.checked_add(HEADER_LEN as u16) else { return 0 };
        let Some(bytes) = buf.get_mut(..HEADER_LEN) else { return 0 };
        bytes.fill(0);
        bytes[field::VERSION_LENGTH] = 4 << 4 | (HEADER_LEN / 4) as u8;
        bytes[field::TRAFFIC_CLASS] = self.traffic_class;
        write(bytes, &field::TOTAL_LEN, &total.to_be_bytes());
        write(bytes, &field::IDENTIFICATION, &self.identification.to_be_bytes());
        let fragment = if self.dont_fragment { field::DONT_FRAGMENT } else { 0 };
        write(bytes, &field::FRAGMENT, &fragment.to_be_bytes());
        bytes[field::HOP_LIMIT] = self.hop_limit;
        bytes[field::PROTOCOL] = self.protocol;
        write(bytes, &field::SOURCE, &self.source.octets());
        write(bytes, &field::DESTINATION, &self.destination.octets());
        let checksum = Sum::of(bytes).checksum();
        write(bytes, &field::CHECKSUM, &checksum.to_be_bytes());
        HEADER_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::octets::capture::hex;
    use std::sync::LazyLock;

    /// An echo request of class EF that Linux sent to itself.
    static PLAIN: LazyLock<Vec<u8>> =
        LazyLock::new(|| hex("45b80024 3cf64000 40017928 c0000201 c0000201 08002421 42420007 61626364 65666768"));
    /// A datagram with a Record Route option, as Linux had filled it.
    static OPTIONS: LazyLock<Vec<u8>> =
        LazyLock::new(|| hex("47000026 822a4000 401121d1 c0000201 c0000201 070708c0 00020100 9abb0009 000a841e 6869"));

    const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn value() -> Ipv4 {
        Ipv4 {
            traffic_class: 0xb8,
            payload_len: 16,
            identification: 0x3cf6,
            dont_fragment: true,
            hop_limit: 64,
            protocol: 1,
            source: HOST,
            destination: HOST,
        }
    }

    #[test]
    fn take_apart() {
        let packet = Ipv4Packet::new_checked(&PLAIN[..]).unwrap();
        assert_eq!((packet.header_len(), packet.total_len(), packet.traffic_class()), (20, 36, 0xb8));
        assert_eq!((packet.identification(), packet.fragment_offset()), (0x3cf6, 0));
        assert!(packet.dont_fragment() && !packet.more_fragments());
        assert_eq!((packet.hop_limit(), packet.protocol(), packet.checksum()), (64, 1, 0x7928));
        assert!(packet.is_checksum_right());
        assert_eq!((packet.source(), packet.destination()), (HOST, HOST));
        assert_eq!((packet.options(), packet.payload()), (&[][..], &PLAIN[20..]));

        let packet = Ipv4Packet::new_checked(&OPTIONS[..]).unwrap();
        assert_eq!((packet.header_len(), packet.options()), (28, &OPTIONS[20..28]));
        assert_eq!((packet.protocol(), packet.payload()), (17, &OPTIONS[28..]));
        assert!(packet.is_checksum_right());
    }

    #[test]
    fn build() {
        let mut bytes = [0xa5; 20];
        let longest = Ipv4 { payload_len: 65_515, dont_fragment: false, ..value() };
        assert_eq!(longest.emit(&mut bytes), 20);
        let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!((packet.total_len(), packet.dont_fragment()), (65_535, false));
        assert!(packet.is_checksum_right());
        assert_eq!(Ipv4 { payload_len: 65_516, ..value() }.emit(&mut bytes), 0);
        assert_eq!(value().emit(&mut [0xa5; 19]), 0);
    }

    #[test]
    fn parse() {
        assert_eq!(Ipv4::parse(&Ipv4Packet::new_checked(&PLAIN[..]).unwrap()), value());
        let value = Ipv4::parse(&Ipv4Packet::new_checked(&OPTIONS[..]).unwrap());
        assert_eq!((value.payload_len, value.protocol, value.identification), (10, 17, 0x822a));
    }

    #[test]
    fn emit() {
        let mut bytes = [0xa5; 24];
        assert_eq!(value().emit(&mut bytes), 20);
        assert_eq!(bytes[..20], PLAIN[..20]);
        assert_eq!(bytes[20..], [0xa5; 4]);
    }

    #[test]
    fn a_payload_ends_with_the_packet_or_where_it_was_cut() {
        let longer = [PLAIN.as_slice(), &[0; 10]].concat();
        assert_eq!(Ipv4Packet::new_checked(&longer[..]).unwrap().payload(), &PLAIN[20..]);
        for len in 20..PLAIN.len() {
            assert_eq!(Ipv4Packet::new_checked(&PLAIN[..len]).unwrap().payload(), &PLAIN[20..len]);
        }
    }

    #[test]
    fn fragments_are_told() {
        let mut bytes = PLAIN.clone();
        bytes[6..8].copy_from_slice(&[0x20, 0xb9]);
        let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        assert!(!packet.dont_fragment() && packet.more_fragments() && !packet.is_checksum_right());
        assert_eq!(packet.fragment_offset(), 1480);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for len in 0..28 {
            assert_eq!(Ipv4Packet::new_checked(&OPTIONS[..len]).err(), Some(NoHeader), "{len}");
        }
        for (at, wrong) in [(0, 0x65), (0, 0x44), (3, 19)] {
            let mut bytes = PLAIN.clone();
            bytes[at] = wrong;
            assert_eq!(Ipv4Packet::new_checked(&bytes[..]).err(), Some(NoHeader));
        }
    }
}
