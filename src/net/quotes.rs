//! What ICMP errors quote: the packet as the node saw it that sent the error, its IP header included.
//!
//! A socket's own error queue hands over what follows the quoted IP header. Raw ICMP sockets get the whole message, so
//! one more of them, which lets in nothing but errors about the worker's packets ([`super::raw::Transport::Quotes`]),
//! tells the rest. Not responsible for which probe is meant. Read [`event`].

use super::message::Reports;
use super::socket::Socket;
use super::{Event, SocketId};
use crate::time::Wall;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{IcmpError, Version};
use std::net::SocketAddr;

/// What it means that a socket received `payload`, the IP header taken off; `None` for what says nothing.
#[inline]
pub(super) fn event<'a>(
    opened: &Socket,
    socket: SocketId,
    from: SocketAddr,
    reports: &Reports,
    payload: &'a [u8],
    now: Wall,
) -> Option<Event<'a>> {
    if opened.quotes {
        return quoted(from, payload);
    }
    Some(Event::Received(reports.datagram(socket, from, payload, now)))
}

#[cold]
fn quoted(from: SocketAddr, message: &[u8]) -> Option<Event<'_>> {
    let version = Version::of(from.ip());
    // the kernel looks at the checksum of ICMPv6 for raw sockets, and leaves that of ICMP to them
    if version == Version::V4 && !Sum::of(message).is_right() {
        return None;
    }
    let packet = IcmpError::parse(message, version).ok()?.packet()?;
    let mut to = SocketAddr::new(packet.destination, 0);
    if let (SocketAddr::V6(to), SocketAddr::V6(from)) = (&mut to, from)
        && to.ip().is_unicast_link_local()
    {
        to.set_scope_id(from.scope_id()); // a packet does not name its zone
    }
    Some(Event::Quoted { to, reporter: from.ip(), packet })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{
        Icmpv4Type, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header,
        Ipv6RawExtHeader, PacketBuilder, icmpv4, icmpv6,
    };
    use proptest::prelude::*;

    const ROUTER: &str = "192.0.2.254:0";
    const ROUTER_V6: &str = "[2001:db8::fe]:0";
    /// The start of a SYN from port 4321 to port 443.
    const SYN: [u8; 8] = [0x10, 0xe1, 0x01, 0xbb, 0xab, 0xcd, 0xef, 0x01];

    /// An IPv4 header with a Record Route option and what follows it.
    fn packet_v4() -> Vec<u8> {
        let mut header = Ipv4Header::new(SYN.len() as u16, 9, IpNumber::TCP, [192, 0, 2, 1], [203, 0, 113, 1]).unwrap();
        header.dscp = 10.try_into().unwrap();
        header.ecn = 3.try_into().unwrap();
        header.options = Ipv4Options::try_from(&[7, 7, 4, 0, 0, 0, 0, 0][..]).unwrap();
        header.set_payload_len(SYN.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &SYN].concat()
    }

    /// An IPv6 header with destination options and the header of an atomic fragment, and what follows them.
    fn packet_v6(to: &str) -> Vec<u8> {
        let options = Ipv6RawExtHeader::new_raw(IpNumber::IPV6_FRAGMENTATION_HEADER, &[1, 4, 0, 0, 0, 0]).unwrap();
        let fragment = Ipv6FragmentHeader::new(IpNumber::TCP, IpFragOffset::ZERO, false, 1);
        let behind = [&options.to_bytes()[..], &fragment.to_bytes(), &SYN].concat();
        let header = Ipv6Header {
            traffic_class: 0xb8,
            payload_length: behind.len() as u16,
            next_header: IpNumber::IPV6_DESTINATION_OPTIONS,
            hop_limit: 9,
            source: "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
            destination: to.parse::<std::net::Ipv6Addr>().unwrap().octets(),
            ..Ipv6Header::default()
        };
        [&header.to_bytes()[..], &behind].concat()
    }

    fn error_v4(quote: &[u8]) -> Vec<u8> {
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FilterProhibited);
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 254], [192, 0, 2, 1], 64).icmpv4(kind).write(&mut packet, quote).unwrap();
        packet.split_off(20)
    }

    fn error_v6(quote: &[u8]) -> Vec<u8> {
        let kind = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Prohibited);
        let mut packet = Vec::new();
        PacketBuilder::ipv6([0; 16], [0; 16], 64).icmpv6(kind).write(&mut packet, quote).unwrap();
        packet.split_off(40)
    }

    fn read(from: &str, message: &[u8]) -> Option<(SocketAddr, u8, u8, Vec<u8>)> {
        let from: SocketAddr = from.parse().unwrap();
        match quoted(from, message)? {
            Event::Quoted { to, reporter, packet } => {
                assert_eq!(reporter, from.ip());
                Some((to, packet.protocol, packet.traffic_class, packet.upper.to_vec()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_header_with_options_says_class_and_probe() {
        let expected = ("203.0.113.1:0".parse().unwrap(), 6, 0x2b, SYN.to_vec());
        assert_eq!(read(ROUTER, &error_v4(&packet_v4())), Some(expected));
    }

    #[test]
    fn extension_headers_are_passed_over() {
        let expected = |to: &str| Some((to.parse().unwrap(), 6, 0xb8, SYN.to_vec()));
        assert_eq!(read(ROUTER_V6, &error_v6(&packet_v6("2001:db8:b::1"))), expected("[2001:db8:b::1]:0"));
        // of an address that needs its zone, the one that the error came from
        let local = error_v6(&packet_v6("fe80::1"));
        assert_eq!(read("[fe80::1%3]:0", &local), expected("[fe80::1%3]:0"));
    }

    #[test]
    fn what_is_cut_short_says_no_class() {
        let packet = packet_v4();
        for len in 0..=packet.len() {
            let said = read(ROUTER, &error_v4(&packet[..len])).map(|(.., class, upper)| (class, upper));
            assert_eq!(said, (len >= 28).then(|| (0x2b, packet[28.min(len)..len].to_vec())), "{len}");
        }
        let packet = packet_v6("2001:db8:b::1");
        for len in 0..=packet.len() {
            let said = read(ROUTER_V6, &error_v6(&packet[..len])).map(|(.., class, upper)| (class, upper));
            assert_eq!(said, (len >= 56).then(|| (0xb8, packet[56.min(len)..len].to_vec())), "{len}");
        }
    }

    #[test]
    fn a_damaged_message_proves_nothing() {
        let message = error_v4(&packet_v4());
        for at in 0..message.len() {
            let mut damaged = message.clone();
            damaged[at] ^= 4;
            assert_eq!(read(ROUTER, &damaged), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(message: Vec<u8>, v6: bool) {
            let _ = read(if v6 { ROUTER_V6 } else { ROUTER }, &message);
        }
    }
}
