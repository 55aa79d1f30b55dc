//! IPv6 headers and the way through extension headers, RFC 8200 §3 and §4.
//!
//! Read from ICMP errors, which quote them; raw sockets deliver what is behind them. Read [`Ipv6`] first,
//! then [`upper_layer`].

use super::octets::{read_u16, read_u32, write};
use std::net::Ipv6Addr;

/// Bytes of a header without extensions.
pub const HEADER_LEN: usize = 40;
/// Extension headers looked through at most. In RFC 8200 §4.1 six come before what can be read, one of them
/// twice; the rest is for mobility and host identity.
pub const MAX_EXTENSIONS: usize = 8;

mod field {
    use std::ops::Range;

    /// Version 4 bits, traffic class 8, flow label 20.
    pub const FIRST: Range<usize> = 0..4;
    pub const PAYLOAD_LEN: Range<usize> = 4..6;
    pub const NEXT_HEADER: usize = 6;
    pub const HOP_LIMIT: usize = 7;
    pub const SOURCE: Range<usize> = 8..24;
    pub const DESTINATION: Range<usize> = 24..40;
}

/// Numbers of extension headers.
mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
    pub const MOBILITY: u8 = 135;
    pub const HOST_IDENTITY: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// The bytes are no IPv6 header, or fewer than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole IPv6 header")]
pub struct NoHeader;

/// A view of bytes that hold a whole IPv6 header, and of the packet behind it as much as there is.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Packet<T>(T);

impl<T: AsRef<[u8]>> Ipv6Packet<T> {
    /// Looks at `bytes`. The packet may be cut short, as ICMP errors do.
    ///
    /// # Errors
    /// Another version, or fewer bytes than [`HEADER_LEN`].
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Ipv6Packet<T>, NoHeader> {
        let whole = bytes.as_ref().len() >= HEADER_LEN && bytes.as_ref()[0] >> 4 == 6;
        if whole { Ok(Ipv6Packet(bytes)) } else { Err(NoHeader) }
    }

    /// The byte with DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (read_u32(self.0.as_ref(), &field::FIRST) >> 20) as u8
    }

    /// Flow label, 20 bits (RFC 6437).
    pub fn flow_label(&self) -> u32 {
        read_u32(self.0.as_ref(), &field::FIRST) & 0xf_ffff
    }

    /// Bytes behind the header, extensions included, as sent.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::PAYLOAD_LEN)
    }

    /// What follows the header: an extension or the upper layer.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.0.as_ref()[field::NEXT_HEADER]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.0.as_ref()[field::HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        address(self.0.as_ref(), &field::SOURCE)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        address(self.0.as_ref(), &field::DESTINATION)
    }

    /// What follows the header: as much as the payload length says, or less when the packet was cut short.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        &bytes[HEADER_LEN..bytes.len().min(HEADER_LEN + usize::from(self.payload_len()))]
    }
}

fn address(bytes: &[u8], field: &std::ops::Range<usize>) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[field.clone()]);
    Ipv6Addr::from(octets)
}

/// What stands behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper<'a> {
    /// What it is.
    pub protocol: u8,
    /// Its bytes. In a fragment that is not the first one, they are not its start.
    pub bytes: &'a [u8],
    /// Where the fragment stands in the packet, in octets; 0 also when there is none.
    pub fragment_offset: u16,
}

/// Goes through extension headers, [`MAX_EXTENSIONS`] at most, to the upper layer; `first` is the header
/// that `bytes` start with.
///
/// `None` when the bytes end before, or there are more. What encrypts (ESP) and "no next header" count as upper
/// layer: nothing can be read behind them. So does what follows the header of a later fragment.
pub fn upper_layer(first: u8, bytes: &[u8]) -> Option<Upper<'_>> {
    let (mut protocol, mut bytes) = (first, bytes);
    for _ in 0..=MAX_EXTENSIONS {
        let len = match protocol {
            // RFC 8200 §4.5: eight octets, the offset in the high 13 bits of the third and fourth
            extension::FRAGMENT => {
                let (header, rest) = bytes.split_first_chunk::<8>()?;
                let fragment_offset = u16::from_be_bytes([header[2], header[3]]) & !7;
                if fragment_offset != 0 {
                    return Some(Upper { protocol: header[0], bytes: rest, fragment_offset });
                }
                8
            }
            // RFC 4302 §2.2: in words of four octets, less two
            extension::AUTHENTICATION => (usize::from(*bytes.get(1)?) + 2) * 4,
            // RFC 6564 §4: in words of eight octets, the first not counted
            extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::DESTINATION
            | extension::MOBILITY
            | extension::HOST_IDENTITY
            | extension::SHIM6 => (usize::from(*bytes.get(1)?) + 1) * 8,
            _ => return Some(Upper { protocol, bytes, fragment_offset: 0 }),
        };
        protocol = *bytes.first()?;
        bytes = bytes.get(len..)?;
    }
    None
}

/// What a packet's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// The byte with DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 0 to 2^20 − 1.
    pub flow_label: u32,
    /// Bytes behind the header.
    pub payload_len: u16,
    /// What follows the header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6 {
    /// Reads a header.
    pub fn parse<T: AsRef<[u8]>>(packet: &Ipv6Packet<T>) -> Ipv6 {
        Ipv6 {
            traffic_class: packet.traffic_class(),
            flow_label: packet.flow_label(),
            payload_len: packet.payload_len(),
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            source: packet.source(),
            destination: packet.destination(),
        }
    }

    /// Writes the header and returns [`HEADER_LEN`]; 0, and nothing written, when `buf` is shorter. Of the
    /// flow label, the low 20 bits.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        let Some(bytes) = buf.get_mut(..HEADER_LEN) else { return 0 };
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        write(bytes, &field::FIRST, &first.to_be_bytes());
        write(bytes, &field::PAYLOAD_LEN, &self.payload_len.to_be_bytes());
        bytes[field::NEXT_HEADER] = self.next_header;
        bytes[field::HOP_LIMIT] = self.hop_limit;
        write(bytes, &field::SOURCE, &self.source.octets());
        write(bytes, &field::DESTINATION, &self.destination.octets());
        HEADER_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::octets::capture::hex;
    use std::sync::LazyLock;

    /// An echo request that Linux sent to itself; the class is made EF.
    static PLAIN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        hex("6b87418e 00103a40 20010db8000000000000000000000001 20010db8000000000000000000000001
             80005062 42420007 61626364 65666768")
    });
    /// A datagram with hop-by-hop and destination options, as Linux sent it.
    static EXTENDED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        hex("60020464 001a0040 20010db8000000000000000000000001 20010db8000000000000000000000001
             3c000104 00000000 11000104 00000000 a3780009 000a987b 6869")
    });

    const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

    fn value() -> Ipv6 {
        Ipv6 {
            traffic_class: 0xb8,
            flow_label: 0x7_418e,
            payload_len: 16,
            next_header: 58,
            hop_limit: 64,
            source: HOST,
            destination: HOST,
        }
    }

    #[test]
    fn take_apart() {
        let packet = Ipv6Packet::new_checked(&PLAIN[..]).unwrap();
        assert_eq!((packet.traffic_class(), packet.flow_label(), packet.payload_len()), (0xb8, 0x7_418e, 16));
        assert_eq!((packet.next_header(), packet.hop_limit()), (58, 64));
        assert_eq!((packet.source(), packet.destination()), (HOST, HOST));
        assert_eq!(packet.payload(), &PLAIN[40..]);
    }

    #[test]
    fn build() {
        let mut bytes = [0xa5; 40];
        Ipv6 { flow_label: 0xfff_ffff, traffic_class: 0, ..value() }.emit(&mut bytes);
        let packet = Ipv6Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!((packet.traffic_class(), packet.flow_label()), (0, 0xf_ffff));
        assert_eq!(value().emit(&mut [0xa5; 39]), 0);
    }

    #[test]
    fn parse() {
        assert_eq!(Ipv6::parse(&Ipv6Packet::new_checked(&PLAIN[..]).unwrap()), value());
    }

    #[test]
    fn emit() {
        let mut bytes = [0xa5; 44];
        assert_eq!(value().emit(&mut bytes), 40);
        assert_eq!(bytes[..40], PLAIN[..40]);
        assert_eq!(bytes[40..], [0xa5; 4]);
    }

    #[test]
    fn a_payload_ends_with_the_packet_or_where_it_was_cut() {
        let longer = [PLAIN.as_slice(), &[0; 10]].concat();
        assert_eq!(Ipv6Packet::new_checked(&longer[..]).unwrap().payload(), &PLAIN[40..]);
        for len in 40..PLAIN.len() {
            assert_eq!(Ipv6Packet::new_checked(&PLAIN[..len]).unwrap().payload(), &PLAIN[40..len]);
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for len in 0..40 {
            assert_eq!(Ipv6Packet::new_checked(&PLAIN[..len]).err(), Some(NoHeader));
        }
        let mut bytes = PLAIN.clone();
        bytes[0] = 0x4b;
        assert_eq!(Ipv6Packet::new_checked(&bytes[..]).err(), Some(NoHeader));
    }

    #[test]
    fn the_upper_layer_is_behind_the_extensions() {
        let whole = |bytes| Ipv6Packet::new_checked(bytes).unwrap();
        let packet = whole(&PLAIN[..]);
        let upper = Upper { protocol: 58, bytes: &PLAIN[40..], fragment_offset: 0 };
        assert_eq!(upper_layer(packet.next_header(), packet.payload()), Some(upper));

        let packet = whole(&EXTENDED[..]);
        let upper = Upper { protocol: 17, bytes: &EXTENDED[56..], fragment_offset: 0 };
        assert_eq!(upper_layer(packet.next_header(), packet.payload()), Some(upper));
        for len in 0..16 {
            assert_eq!(upper_layer(packet.next_header(), &packet.payload()[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn authentication_counts_in_words_of_four() {
        let bytes = [&[6, 4][..], &[0; 22], &[1, 2, 3, 4]].concat();
        assert_eq!(upper_layer(51, &bytes).map(|upper| (upper.protocol, upper.bytes)), Some((6, &[1, 2, 3, 4][..])));
    }

    #[test]
    fn later_fragments_are_not_the_start_of_anything() {
        let fragment = |offset: u16, next| {
            let [high, low] = (offset | 1).to_be_bytes(); // more fragments
            [next, 0, high, low, 0, 0, 0, 9, 17, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]
        };
        let first = fragment(0, 60);
        let upper = Upper { protocol: 17, bytes: &[1, 2, 3, 4], fragment_offset: 0 };
        assert_eq!(upper_layer(44, &first), Some(upper));
        let later = fragment(1480, 60);
        let upper = Upper { protocol: 60, bytes: &later[8..], fragment_offset: 1480 };
        assert_eq!(upper_layer(44, &later), Some(upper));
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let chain = |headers: usize| {
            let mut bytes = [60, 0, 0, 0, 0, 0, 0, 0].repeat(headers);
            bytes[headers * 8 - 8] = 6;
            bytes
        };
        assert_eq!(upper_layer(60, &chain(MAX_EXTENSIONS)).map(|upper| upper.protocol), Some(6));
        assert_eq!(upper_layer(60, &chain(MAX_EXTENSIONS + 1)), None);
        assert_eq!(upper_layer(59, &[]), Some(Upper { protocol: 59, bytes: &[], fragment_offset: 0 }));
    }
}
