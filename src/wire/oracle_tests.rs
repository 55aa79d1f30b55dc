//! The headers of IP, TCP and ICMP against another implementation, etherparse: what either writes the other
//! reads equally. And any bytes at all.

use super::checksum::Sum;
use super::icmp::{Echo, EchoKind, EchoMessage, IcmpError, IcmpMeaning, Quoted, Version};
use super::ipv4::{Ipv4, Ipv4Packet};
use super::ipv6::{self, Ipv6, Ipv6Packet};
use super::tcp::{Checked, Flags, QuotedTcp, Tcp, TcpSegment};
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpAuthHeader, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, LaxSlicedPacket, PacketBuilder, TcpHeader, TcpOptionElement,
    TransportSlice, icmpv4, icmpv6,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Two addresses of one family.
fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(from, to)| (from.into(), to.into()));
    let v6 = any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(from, to)| (from.into(), to.into()));
    prop_oneof![v4, v6]
}

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=longest)
}

/// What etherparse computes for a segment between these addresses.
fn tcp_checksum(header: &TcpHeader, from: IpAddr, to: IpAddr, payload: &[u8]) -> u16 {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload).unwrap()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload).unwrap()
        }
        _ => unreachable!("of one family"),
    }
}

fn flags(header: &TcpHeader) -> Flags {
    let all = [
        (header.fin, Flags::FIN),
        (header.syn, Flags::SYN),
        (header.rst, Flags::RST),
        (header.psh, Flags::PSH),
        (header.ack, Flags::ACK),
        (header.urg, Flags::URG),
        (header.ece, Flags::ECE),
        (header.cwr, Flags::CWR),
        (header.ns, Flags::AE),
    ];
    all.into_iter().filter(|(set, _)| *set).fold(Flags(0), |flags, (_, flag)| flags.and(flag))
}

/// An IP packet as etherparse builds it, around `upper`.
fn packet(from: IpAddr, to: IpAddr, class: u8, hops: u8, protocol: u8, upper: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let mut header = Ipv4Header::new(upper.len() as u16, hops, IpNumber(protocol), from, to).unwrap();
            header.dscp = (class >> 2).try_into().unwrap();
            header.ecn = (class & 3).try_into().unwrap();
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut out).unwrap();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                traffic_class: class,
                payload_length: upper.len() as u16,
                next_header: IpNumber(protocol),
                hop_limit: hops,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            header.write(&mut out).unwrap();
        }
        _ => unreachable!("of one family"),
    }
    out.extend(upper);
    out
}

/// An ICMP error as etherparse builds it, of a type whose meaning is known, around `quoted`.
fn error(from: IpAddr, to: IpAddr, which: usize, mtu: u16, quoted: &[u8]) -> (Vec<u8>, IcmpMeaning) {
    let mut out = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            use icmpv4::DestUnreachableHeader::*;
            let types = [
                (Icmpv4Type::DestinationUnreachable(Port), IcmpMeaning::Refused),
                (Icmpv4Type::DestinationUnreachable(FilterProhibited), IcmpMeaning::Prohibited),
                (Icmpv4Type::DestinationUnreachable(NetworkProhibited), IcmpMeaning::Prohibited),
                (Icmpv4Type::DestinationUnreachable(HostProhibited), IcmpMeaning::Prohibited),
                (Icmpv4Type::DestinationUnreachable(Host), IcmpMeaning::Unreachable),
                (Icmpv4Type::DestinationUnreachable(Protocol), IcmpMeaning::Unreachable),
                (
                    Icmpv4Type::DestinationUnreachable(FragmentationNeeded { next_hop_mtu: mtu }),
                    IcmpMeaning::TooBig(mtu.into()),
                ),
                (Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit), IcmpMeaning::TimeExceeded),
                (
                    Icmpv4Type::ParameterProblem(icmpv4::ParameterProblemHeader::MissingRequiredOption),
                    IcmpMeaning::Unreachable,
                ),
            ];
            let (kind, meaning) = types[which % types.len()].clone();
            PacketBuilder::ipv4(from.octets(), to.octets(), 64).icmpv4(kind).write(&mut out, quoted).unwrap();
            (out.split_off(20), meaning)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            use icmpv6::DestUnreachableCode::*;
            let types = [
                (Icmpv6Type::DestinationUnreachable(Port), IcmpMeaning::Refused),
                (Icmpv6Type::DestinationUnreachable(Prohibited), IcmpMeaning::Prohibited),
                (Icmpv6Type::DestinationUnreachable(RejectRoute), IcmpMeaning::Prohibited),
                (Icmpv6Type::DestinationUnreachable(SourceAddressFailedPolicy), IcmpMeaning::Prohibited),
                (Icmpv6Type::DestinationUnreachable(NoRoute), IcmpMeaning::Unreachable),
                (Icmpv6Type::DestinationUnreachable(Address), IcmpMeaning::Unreachable),
                (Icmpv6Type::PacketTooBig { mtu: mtu.into() }, IcmpMeaning::TooBig(mtu.into())),
                (Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded), IcmpMeaning::TimeExceeded),
                (
                    Icmpv6Type::ParameterProblem(icmpv6::ParameterProblemHeader {
                        code: icmpv6::ParameterProblemCode::UnrecognizedNextHeader,
                        pointer: mtu.into(),
                    }),
                    IcmpMeaning::Unreachable,
                ),
            ];
            let (kind, meaning) = types[which % types.len()];
            PacketBuilder::ipv6(from.octets(), to.octets(), 64).icmpv6(kind).write(&mut out, quoted).unwrap();
            (out.split_off(40), meaning)
        }
        _ => unreachable!("of one family"),
    }
}

fn option() -> impl Strategy<Value = TcpOptionElement> {
    prop_oneof![
        Just(TcpOptionElement::Noop),
        any::<u16>().prop_map(TcpOptionElement::MaximumSegmentSize),
        any::<u8>().prop_map(TcpOptionElement::WindowScale),
        Just(TcpOptionElement::SelectiveAcknowledgementPermitted),
        any::<(u32, u32)>().prop_map(|(a, b)| TcpOptionElement::Timestamp(a, b)),
    ]
}

proptest! {
    #[test]
    fn segments_of_etherparse_are_read_equally(
        (from, to) in addresses(),
        ports: (u16, u16), numbers: (u32, u32), set: [bool; 9], window: u16, urgent: u16,
        options in proptest::collection::vec(option(), 0..4), payload in bytes(60), bit: usize,
    ) {
        let mut header = TcpHeader::new(ports.0, ports.1, numbers.0, window);
        header.acknowledgment_number = numbers.1;
        header.urgent_pointer = urgent;
        [header.fin, header.syn, header.rst, header.psh, header.ack, header.urg, header.ece, header.cwr, header.ns] = set;
        header.set_options(&options).unwrap();
        header.checksum = tcp_checksum(&header, from, to, &payload);
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(&payload);

        let segment = TcpSegment::new_checked(&bytes[..]).unwrap();
        let mss = options.iter().find_map(|option| match option {
            TcpOptionElement::MaximumSegmentSize(mss) => Some(*mss),
            _ => None,
        });
        let read = Tcp {
            source: ports.0, destination: ports.1, seq: numbers.0, ack: numbers.1, flags: flags(&header), window, mss,
        };
        prop_assert_eq!(Tcp::parse(&segment), read);
        prop_assert_eq!((segment.urgent(), segment.checksum()), (urgent, header.checksum));
        prop_assert_eq!((segment.options(), segment.payload()), (header.options.as_slice(), &payload[..]));
        prop_assert_eq!(segment.check(from, to), Checked::Right);

        let bit = bit % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(segment) = TcpSegment::new_checked(&bytes[..]) {
            prop_assert_ne!(segment.check(from, to), Checked::Right);
        }
    }

    #[test]
    fn our_segments_are_read_equally(
        (from, to) in addresses(),
        ports: (u16, u16), numbers: (u32, u32), bits in 0u16..0x200, window: u16, mss: Option<u16>,
    ) {
        let said = Tcp {
            source: ports.0, destination: ports.1, seq: numbers.0, ack: numbers.1, flags: Flags(bits), window, mss,
        };
        let mut bytes = [0xa5; 24];
        let len = said.emit(from, to, &mut bytes);
        prop_assert_eq!(len, said.len());
        let (header, payload) = TcpHeader::from_slice(&bytes[..len]).unwrap();
        prop_assert!(payload.is_empty());
        prop_assert_eq!((header.source_port, header.destination_port), ports);
        prop_assert_eq!((header.sequence_number, header.acknowledgment_number), numbers);
        prop_assert_eq!((flags(&header), header.window_size, header.urgent_pointer), (Flags(bits), window, 0));
        let options: Vec<_> = header.options_iterator().collect();
        prop_assert_eq!(options, mss.map(TcpOptionElement::MaximumSegmentSize).map(Ok).into_iter().collect::<Vec<_>>());
        prop_assert_eq!(header.checksum, tcp_checksum(&header, from, to, &[]));
    }

    #[test]
    fn ipv4_headers_of_etherparse_are_read_equally(
        from: Ipv4Addr, to: Ipv4Addr, class: u8, identification: u16, flags: (bool, bool), offset in 0u16..0x2000,
        hops: u8, protocol: u8, options in 0usize..=10, payload in bytes(60), filler: u8,
    ) {
        let mut header = Ipv4Header {
            dscp: (class >> 2).try_into().unwrap(),
            ecn: (class & 3).try_into().unwrap(),
            identification,
            dont_fragment: flags.0,
            more_fragments: flags.1,
            fragment_offset: IpFragOffset::try_from(offset).unwrap(),
            time_to_live: hops,
            protocol: IpNumber(protocol),
            source: from.octets(),
            destination: to.octets(),
            options: Ipv4Options::try_from(&vec![filler; options * 4][..]).unwrap(),
            ..Ipv4Header::default()
        };
        header.set_payload_len(payload.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(&payload);

        let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        let read = Ipv4 {
            traffic_class: class, payload_len: payload.len() as u16, identification, dont_fragment: flags.0,
            hop_limit: hops, protocol, source: from, destination: to,
        };
        prop_assert_eq!(Ipv4::parse(&packet), read);
        prop_assert_eq!((packet.more_fragments(), packet.fragment_offset()), (flags.1, offset * 8));
        prop_assert_eq!((packet.options(), packet.payload()), (header.options.as_slice(), &payload[..]));
        prop_assert!(packet.is_checksum_right());
        bytes[8] ^= 1;
        prop_assert!(!Ipv4Packet::new_checked(&bytes[..]).unwrap().is_checksum_right());
    }

    #[test]
    fn our_ipv4_headers_are_read_equally(
        from: Ipv4Addr, to: Ipv4Addr, class: u8, identification: u16, dont_fragment: bool, hops: u8, protocol: u8,
        payload_len in 0u16..=65_515,
    ) {
        let said = Ipv4 {
            traffic_class: class, payload_len, identification, dont_fragment, hop_limit: hops, protocol,
            source: from, destination: to,
        };
        let mut bytes = [0xa5; 20];
        prop_assert_eq!(said.emit(&mut bytes), 20);
        let (header, _) = Ipv4Header::from_slice(&bytes).unwrap();
        prop_assert_eq!((header.dscp.value() << 2) | header.ecn.value(), class);
        prop_assert_eq!(header.payload_len().unwrap(), payload_len);
        prop_assert_eq!((header.identification, header.dont_fragment), (identification, dont_fragment));
        prop_assert!(!header.is_fragmenting_payload());
        prop_assert_eq!((header.time_to_live, header.protocol.0), (hops, protocol));
        prop_assert_eq!((header.source, header.destination), (from.octets(), to.octets()));
        prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
    }

    #[test]
    fn ipv6_headers_are_read_equally_both_ways(
        from: Ipv6Addr, to: Ipv6Addr, class: u8, label in 0u32..0x10_0000, payload in bytes(60), next: u8, hops: u8,
    ) {
        let said = Ipv6 {
            traffic_class: class, flow_label: label, payload_len: payload.len() as u16, next_header: next,
            hop_limit: hops, source: from, destination: to,
        };
        let mut ours = [0xa5; 40];
        prop_assert_eq!(said.emit(&mut ours), 40);
        let theirs = Ipv6Header {
            traffic_class: class,
            flow_label: Ipv6FlowLabel::try_from(label).unwrap(),
            payload_length: payload.len() as u16,
            next_header: IpNumber(next),
            hop_limit: hops,
            source: from.octets(),
            destination: to.octets(),
        };
        prop_assert_eq!(ours, theirs.to_bytes());
        prop_assert_eq!(Ipv6Header::from_slice(&ours).unwrap().0, theirs);
        let bytes = [&ours[..], &payload].concat();
        let packet = Ipv6Packet::new_checked(&bytes[..]).unwrap();
        prop_assert_eq!(Ipv6::parse(&packet), said);
        prop_assert_eq!(packet.payload(), &payload[..]);
    }

    #[test]
    fn extension_headers_of_etherparse_are_passed(
        chain in proptest::collection::vec((0usize..6, 0usize..4), 0..=ipv6::MAX_EXTENSIONS),
        protocol in prop_oneof![Just(6u8), Just(17), Just(58), Just(50), Just(59)],
        upper in bytes(40),
    ) {
        const NUMBERS: [u8; 6] = [0, 43, 60, 135, 51, 44];
        let mut bytes = Vec::new();
        for (at, &(which, words)) in chain.iter().enumerate() {
            let next = IpNumber(chain.get(at + 1).map_or(protocol, |(which, _)| NUMBERS[*which]));
            match NUMBERS[which] {
                51 => bytes.extend(IpAuthHeader::new(next, 1, 2, &vec![7; words * 4]).unwrap().to_bytes()),
                44 => bytes.extend(Ipv6FragmentHeader::new(next, IpFragOffset::ZERO, true, 3).to_bytes()),
                _ => bytes.extend(Ipv6RawExtHeader::new_raw(next, &vec![7; 6 + words * 8]).unwrap().to_bytes()),
            }
        }
        let extensions = bytes.len();
        bytes.extend(&upper);
        let first = chain.first().map_or(protocol, |(which, _)| NUMBERS[*which]);
        let found = ipv6::Upper { protocol, bytes: &upper, fragment_offset: 0 };
        prop_assert_eq!(ipv6::upper_layer(first, &bytes), Some(found));
        let (next, rest) = Ipv6Header::skip_all_header_extensions_in_slice(&bytes, IpNumber(first)).unwrap();
        prop_assert_eq!((next.0, rest), (protocol, &upper[..]));
        // cut within the extensions there is nothing behind them
        if extensions > 0 {
            prop_assert_eq!(ipv6::upper_layer(first, &bytes[..extensions - 1]), None);
        }
    }

    #[test]
    fn echoes_of_etherparse_are_read_equally(
        (from, to) in addresses(), reply: bool, identifier: u16, seq: u16, data in bytes(80), bit: usize,
    ) {
        let mut bytes = Vec::new();
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 64);
                let builder = match reply {
                    true => builder.icmpv4_echo_reply(identifier, seq),
                    false => builder.icmpv4_echo_request(identifier, seq),
                };
                builder.write(&mut bytes, &data).unwrap();
                bytes.drain(..20);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let builder = PacketBuilder::ipv6(from.octets(), to.octets(), 64);
                let builder = match reply {
                    true => builder.icmpv6_echo_reply(identifier, seq),
                    false => builder.icmpv6_echo_request(identifier, seq),
                };
                builder.write(&mut bytes, &data).unwrap();
                bytes.drain(..40);
            }
            _ => unreachable!("of one family"),
        }
        let version = Version::of(from);
        let kind = if reply { EchoKind::Reply } else { EchoKind::Request };
        let said = Echo { version, kind, identifier, seq };
        let message = EchoMessage::new_checked(&bytes[..], version).unwrap();
        prop_assert_eq!(Echo::parse(&message), said);
        prop_assert_eq!(message.data(), &data[..]);
        prop_assert!(message.is_checksum_right(from, to));

        // the other way: the same octets
        let mut ours = vec![0xa5; bytes.len()];
        ours[8..].copy_from_slice(&data);
        prop_assert!(said.emit(from, to, &mut ours));
        prop_assert_eq!(&ours, &bytes);

        let bit = bit % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(message) = EchoMessage::new_checked(&bytes[..], version) {
            prop_assert!(!message.is_checksum_right(from, to));
        }
    }

    #[test]
    fn errors_of_etherparse_tell_what_they_quote(
        (from, to) in addresses(), which: usize, mtu: u16, class: u8, hops: u8,
        (protocol, upper) in prop_oneof![
            any::<((u16, u16), u32)>().prop_map(|((source, destination), seq)| {
                (6u8, TcpHeader::new(source, destination, seq, 1000).to_bytes().to_vec())
            }),
            any::<(u16, u16)>().prop_map(|(source, destination)| {
                let ports = [source.to_be_bytes(), destination.to_be_bytes()];
                (17, [ports.concat(), vec![0, 12, 0, 0, 1, 2, 3, 4]].concat())
            }),
        ],
        cut in 8usize..40, extension: Option<bool>,
    ) {
        let inner = packet(to, from, class, hops, protocol, &upper);
        let header = inner.len() - upper.len();
        let cut = (header + cut).min(inner.len());
        let mut quoted = inner[..cut].to_vec();
        if let Some(filler) = extension {
            quoted.resize(128, if filler { 0 } else { 0xee });
            quoted.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 1, 1]);
        }
        let (mut bytes, meaning) = error(from, to, which, mtu, &quoted);
        let version = Version::of(from);
        // the kinds that have a length say it
        let says_length = version == Version::V4 || matches!(bytes[0], 1 | 3);
        if extension.is_some() && says_length {
            match version {
                Version::V4 => bytes[5] = 128 / 4,
                Version::V6 => bytes[4] = 128 / 8,
            }
        }
        let read = IcmpError::parse(&bytes, version).unwrap();
        prop_assert_eq!((read.kind, read.code, read.meaning), (bytes[0], bytes[1], meaning));
        let shown = if extension.is_some() && says_length { 128 } else { quoted.len() };
        prop_assert_eq!(read.quoted, &quoted[..shown]);
        let packet = read.packet().unwrap();
        let whole = Quoted { source: to, destination: from, traffic_class: class, hop_limit: hops, protocol, upper: &[] };
        prop_assert_eq!(Quoted { upper: &[], ..packet }, whole);
        prop_assert_eq!(&packet.upper[..cut - header], &upper[..cut - header]);
        prop_assert!(packet.upper.len() <= upper.len(), "what fills the quote is not taken for it");
        let ports = QuotedTcp::parse(&upper).unwrap();
        prop_assert_eq!(packet.ports(), Some((ports.source, ports.destination)));
        prop_assert_eq!(packet.tcp(), (protocol == 6).then_some(ports));

        // and as etherparse reads the whole of a quote
        if cut == inner.len()
            && let Some(TransportSlice::Tcp(tcp)) = LaxSlicedPacket::from_ip(read.quoted).unwrap().transport
        {
            prop_assert_eq!((tcp.source_port(), tcp.destination_port()), packet.ports().unwrap());
            prop_assert_eq!(tcp.sequence_number(), packet.tcp().unwrap().seq);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in bytes(200), first: u8, (from, to) in addresses()) {
        Sum::of(&bytes).checksum();
        ipv6::upper_layer(first, &bytes);
        QuotedTcp::parse(&bytes);
        if let Ok(segment) = TcpSegment::new_checked(&bytes[..]) {
            Tcp::parse(&segment);
            segment.check(from, to);
            segment.payload();
        }
        if let Ok(packet) = Ipv4Packet::new_checked(&bytes[..]) {
            Ipv4::parse(&packet);
            packet.is_checksum_right();
            packet.payload();
        }
        if let Ok(packet) = Ipv6Packet::new_checked(&bytes[..]) {
            Ipv6::parse(&packet);
            packet.payload();
        }
        for version in [Version::V4, Version::V6] {
            if let Ok(message) = EchoMessage::new_checked(&bytes[..], version) {
                Echo::parse(&message);
                message.is_checksum_right(from, to);
            }
            look_at_error(&bytes, version);
        }
    }

    /// The same with the numbers that let them in, so that what is behind is reached.
    #[test]
    fn no_errors_panic(mut bytes in proptest::collection::vec(any::<u8>(), 8..200), next in 0usize..8, which in 0usize..5) {
        for (version, first, kinds) in [(Version::V4, 0x45, [3, 3, 11, 12, 3]), (Version::V6, 0x60, [1, 2, 3, 4, 1])] {
            bytes[0] = kinds[which];
            if let Some(byte) = bytes.get_mut(8) {
                *byte = first | (*byte & 3);
            }
            if let Some(byte) = bytes.get_mut(8 + 6) {
                *byte = [0, 43, 44, 51, 60, 6, 17, 58][next];
            }
            look_at_error(&bytes, version);
        }
    }
}

fn look_at_error(bytes: &[u8], version: Version) {
    let Ok(error) = IcmpError::parse(bytes, version) else { return };
    if let Some(packet) = error.packet() {
        packet.ports();
        packet.tcp();
        packet.echo_request();
    }
}
