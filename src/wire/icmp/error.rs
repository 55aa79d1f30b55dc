//! Errors: destination unreachable, packet too big, time exceeded, parameter problem.
//!
//! RFC 792, RFC 1191 §4, RFC 1812 §5.2.7.1, RFC 4443 §3; the length field and extensions of RFC 4884 §4 and §5.

use super::{HEADER_LEN, NotOne, Quoted, Version};

/// What an ICMP error means for the packet it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpMeaning {
    /// Port unreachable: the host is there, nothing listens.
    Refused,
    /// A rule forbids it: a packet filter, a reject route, a failed check of the source address.
    Prohibited,
    /// Any other destination unreachable, or a parameter problem.
    Unreachable,
    /// The hop limit was used up, or fragments were missing for too long.
    TimeExceeded,
    /// Too big for a link; the MTU told (bytes), 0 when not told.
    TooBig(u32),
}

impl IcmpMeaning {
    /// What type and code mean; `mtu` is what the message tells, if it is one that does. `None` for what is
    /// no error, and for source quench and redirect, which end no packet.
    pub const fn of(version: Version, kind: u8, code: u8, mtu: u32) -> Option<IcmpMeaning> {
        Some(match (version, kind, code) {
            (Version::V4, 3, 3) | (Version::V6, 1, 4) => IcmpMeaning::Refused,
            // network, host, and communication administratively prohibited
            (Version::V4, 3, 9 | 10 | 13) => IcmpMeaning::Prohibited,
            // RFC 4443 §3.1: source address failed policy (5) and reject route (6) are kinds of 1
            (Version::V6, 1, 1 | 5 | 6) => IcmpMeaning::Prohibited,
            (Version::V4, 3, 4) | (Version::V6, 2, _) => IcmpMeaning::TooBig(mtu),
            (Version::V4, 11, _) | (Version::V6, 3, _) => IcmpMeaning::TimeExceeded,
            (Version::V4, 3 | 12, _) | (Version::V6, 1 | 4, _) => IcmpMeaning::Unreachable,
            _ => return None,
        })
    }
}

/// An ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError<'a> {
    /// Type number.
    pub kind: u8,
    /// Code number.
    pub code: u8,
    /// What both mean.
    pub meaning: IcmpMeaning,
    /// The start of the packet that met the error, from its IP header on; without extensions.
    pub quoted: &'a [u8],
    version: Version,
}

impl<'a> IcmpError<'a> {
    /// Reads a message from the ICMP header on.
    ///
    /// # Errors
    /// Fewer bytes than [`HEADER_LEN`], or a type that is no error.
    pub fn parse(bytes: &'a [u8], version: Version) -> Result<IcmpError<'a>, NotOne> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(NotOne)?;
        let [kind, code, _, _, b4, b5, b6, b7] = *header;
        let mtu = match version {
            Version::V4 => u32::from(u16::from_be_bytes([b6, b7])),
            Version::V6 => u32::from_be_bytes([b4, b5, b6, b7]),
        };
        let meaning = IcmpMeaning::of(version, kind, code, mtu).ok_or(NotOne)?;
        // RFC 4884 §4: of ICMP all three, of ICMPv6 destination unreachable and time exceeded have a length, in
        // words of 32 and 64 bits; 0 says that there are no extensions
        let length = match (version, kind) {
            (Version::V4, _) => usize::from(b5) * 4,
            (Version::V6, 1 | 3) => usize::from(b4) * 8,
            (Version::V6, _) => 0,
        };
        let quoted = match length {
            0 => rest,
            length => rest.get(..length).unwrap_or(rest),
        };
        Ok(IcmpError { kind, code, meaning, quoted, version })
    }

    /// The quoted packet taken apart; `None` when its header is not whole.
    ///
    /// Nothing behind its own length counts, so that neither padding (RFC 4884 §4 wants 128 octets) nor
    /// extensions of a node that sets no length (RFC 4884 §5) are taken for it.
    pub fn packet(&self) -> Option<Quoted<'a>> {
        Quoted::parse(self.quoted, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::icmp::{Echo, EchoKind};
    use crate::wire::octets::capture::hex;
    use crate::wire::tcp::QuotedTcp;
    use std::net::IpAddr;

    // what Linux hosts and routers sent, from the ICMP header on
    const PORT_UNREACHABLE: &str =
        "030347f4 00000000 45000021 09df4000 4011acea c0000201 c0000201 ecfe0009 000d8421 68656c6c 6f";
    /// The quoted packet has a Record Route option.
    const OPTIONS: &str = "030375a6 00000000 47000026 822a4000 401121d1 c0000201 c0000201 070708c0 00020100
        9abb0009 000a841e 6869";
    /// Quotes 548 octets of 1428, less here; the next link's MTU is 1300.
    const TOO_BIG: &str = "0304c846 00000514 45000594 00004000 4011b0d5 c0000201 c0000282 a0020009 05808a15 00000000";
    const PROHIBITED: &str = "030d5a44 00000000 4500003c 90494000 3f0626ef c0000201 c0000282
        c2a80016 ffd4872a 00000000 a002fff0 84b20000 020404ec 0402080a d61b4725 00000000 0103030a";
    const TIME_EXCEEDED: &str = "0b00eb2a 00000000 4500001e 4b374000 0111aa14 c0000201 c0000282 9a27829a 000a849f 6869";
    const PORT_UNREACHABLE_V6: &str = "0104d62f 00000000
        60047393 000d1140 20010db8000000000000000000000001 20010db8000000000000000000000001 ed0c0009 000d5b92 68656c6c 6f";
    /// The quoted packet has hop-by-hop and destination options.
    const EXTENDED_V6: &str = "0104ef55 00000000
        60020464 001a0040 20010db8000000000000000000000001 20010db8000000000000000000000001
        3c000104 00000000 11000104 00000000 a3780009 000a987b 6869";
    const TOO_BIG_V6: &str = "020031bc 00000514
        600f69a5 05801140 20010db8000000000000000000000001 20010db8000100000000000000000009 c41e0009 0580610e 00000000";
    const PROHIBITED_V6: &str = "0101367f 00000000
        6004cf81 0028063f 20010db8000000000000000000000001 20010db8000100000000000000000009
        a1b80016 5f607cb3 00000000 a002fbe0 5bab0000 020404d8 0402080a 0539496e 00000000 0103030a";
    const TIME_EXCEEDED_V6: &str = "0300244d 00000000
        600ee522 000a1101 20010db8000000000000000000000001 20010db8000100000000000000000009 8469829a 000a5b98 6869";

    const HOST: &str = "192.0.2.1";
    const HOST_V6: &str = "2001:db8::1";
    const FAR: &str = "192.0.2.130";
    const FAR_V6: &str = "2001:db8:1::9";

    #[test]
    fn what_routers_say() {
        let udp = |source, destination| (17, (source, destination));
        let tcp = |source, destination| (6, (source, destination));
        let (v4, v6) = (Version::V4, Version::V6);
        for (text, version, meaning, to, class_and_hops, (protocol, ports)) in [
            (PORT_UNREACHABLE, v4, IcmpMeaning::Refused, HOST, (0, 64), udp(0xecfe, 9)),
            (OPTIONS, v4, IcmpMeaning::Refused, HOST, (0, 64), udp(0x9abb, 9)),
            (TOO_BIG, v4, IcmpMeaning::TooBig(1300), FAR, (0, 64), udp(0xa002, 9)),
            (PROHIBITED, v4, IcmpMeaning::Prohibited, FAR, (0, 63), tcp(0xc2a8, 22)),
            (TIME_EXCEEDED, v4, IcmpMeaning::TimeExceeded, FAR, (0, 1), udp(0x9a27, 33434)),
            (PORT_UNREACHABLE_V6, v6, IcmpMeaning::Refused, HOST_V6, (0, 64), udp(0xed0c, 9)),
            (EXTENDED_V6, v6, IcmpMeaning::Refused, HOST_V6, (0, 64), udp(0xa378, 9)),
            (TOO_BIG_V6, v6, IcmpMeaning::TooBig(1300), FAR_V6, (0, 64), udp(0xc41e, 9)),
            (PROHIBITED_V6, v6, IcmpMeaning::Prohibited, FAR_V6, (0, 63), tcp(0xa1b8, 22)),
            (TIME_EXCEEDED_V6, v6, IcmpMeaning::TimeExceeded, FAR_V6, (0, 1), udp(0x8469, 33434)),
        ] {
            let bytes = hex(text);
            let error = IcmpError::parse(&bytes, version).unwrap();
            assert_eq!((error.kind, error.code, error.meaning), (bytes[0], bytes[1], meaning));
            assert_eq!(error.quoted, &bytes[8..]);
            let packet = error.packet().unwrap();
            let from = if version == v4 { HOST } else { HOST_V6 };
            assert_eq!(packet.source, from.parse::<IpAddr>().unwrap());
            assert_eq!(packet.destination, to.parse::<IpAddr>().unwrap());
            assert_eq!((packet.traffic_class, packet.hop_limit), class_and_hops);
            assert_eq!((packet.protocol, packet.ports()), (protocol, Some(ports)));
            assert_eq!(packet.tcp().is_some(), protocol == 6);
            assert_eq!(packet.echo_request(), None);
        }
        let bytes = hex(PROHIBITED);
        let packet = IcmpError::parse(&bytes, v4).unwrap().packet().unwrap();
        assert_eq!(packet.tcp(), Some(QuotedTcp { source: 0xc2a8, destination: 22, seq: 0xffd4_872a }));
    }

    #[test]
    fn every_type_and_code_has_one_meaning() {
        use IcmpMeaning::*;
        for (kind, code) in (0..=u8::MAX).flat_map(|kind| (0..=u8::MAX).map(move |code| (kind, code))) {
            // RFC 1812 §5.2.7.1 has codes up to 15; what is not known is some unreachability
            let v4 = match (kind, code) {
                (3, 3) => Some(Refused),
                (3, 4) => Some(TooBig(1300)),
                (3, 9 | 10 | 13) => Some(Prohibited),
                (3 | 12, _) => Some(Unreachable),
                (11, _) => Some(TimeExceeded),
                _ => None,
            };
            assert_eq!(IcmpMeaning::of(Version::V4, kind, code, 1300), v4, "{kind}/{code}");
            let v6 = match (kind, code) {
                (1, 4) => Some(Refused),
                (1, 1 | 5 | 6) => Some(Prohibited),
                (1 | 4, _) => Some(Unreachable),
                (2, _) => Some(TooBig(1300)),
                (3, _) => Some(TimeExceeded),
                _ => None,
            };
            assert_eq!(IcmpMeaning::of(Version::V6, kind, code, 1300), v6, "{kind}/{code}");
        }
    }

    /// The message with its quote filled with zeros to 128 octets, as RFC 4884 §4 has it, and an extension behind.
    fn extended(text: &str, length_at: usize, length: u8) -> (Vec<u8>, usize) {
        let mut bytes = hex(text);
        let quoted = bytes.len() - 8;
        bytes.resize(8 + 128, 0);
        bytes[length_at] = length;
        // version 2, checksum, one MPLS label stack object (RFC 4950)
        bytes.extend([0x20, 0, 0xdf, 0xff, 0, 8, 1, 1, 0, 1, 0x01, 0x01]);
        (bytes, quoted)
    }

    #[test]
    fn extensions_are_not_quoted() {
        for (text, version, length_at, length) in
            [(TIME_EXCEEDED, Version::V4, 5, 32), (TIME_EXCEEDED_V6, Version::V6, 4, 16)]
        {
            let (bytes, quoted) = extended(text, length_at, length);
            let error = IcmpError::parse(&bytes, version).unwrap();
            assert_eq!(error.quoted, &bytes[8..8 + 128]);
            let upper = error.packet().unwrap().upper;
            assert_eq!(upper, &bytes[8 + quoted - 10..8 + quoted], "neither what fills it");

            // a node that says no length (RFC 4884 §5)
            let (bytes, quoted) = extended(text, length_at, 0);
            let error = IcmpError::parse(&bytes, version).unwrap();
            assert_eq!(error.packet().unwrap().upper, &bytes[8 + quoted - 10..8 + quoted]);

            // one that says more than there is
            let (bytes, _) = extended(text, length_at, 255);
            assert_eq!(IcmpError::parse(&bytes, version).unwrap().quoted, &bytes[8..]);
        }
    }

    #[test]
    fn the_length_of_a_cut_quote_counts() {
        // the quote ends with the segment's first eight octets although the packet was longer; 28 is 7 words
        let mut bytes = hex(PROHIBITED);
        bytes[5] = 7;
        let error = IcmpError::parse(&bytes, Version::V4).unwrap();
        let packet = error.packet().unwrap();
        assert_eq!(packet.upper, &bytes[28..36]);
        assert_eq!(packet.tcp(), Some(QuotedTcp { source: 0xc2a8, destination: 22, seq: 0xffd4_872a }));
    }

    #[test]
    fn an_mtu_is_no_length() {
        let mut bytes = hex(TOO_BIG_V6);
        bytes[4..8].copy_from_slice(&[0x01, 0x02, 0x03, 0x04]);
        let error = IcmpError::parse(&bytes, Version::V6).unwrap();
        assert_eq!((error.meaning, error.quoted), (IcmpMeaning::TooBig(0x0102_0304), &bytes[8..]));
    }

    #[test]
    fn quoted_echoes_are_told() {
        let request = "08002421 42420007 61626364 65666768";
        let quote = format!("030115cd 00000000 45b80024 3cf64000 40017928 c0000201 c0000201 {request}");
        let bytes = hex(&quote);
        let packet = IcmpError::parse(&bytes, Version::V4).unwrap().packet().unwrap();
        let echo = Echo { version: Version::V4, kind: EchoKind::Request, identifier: 0x4242, seq: 7 };
        assert_eq!((packet.echo_request(), packet.traffic_class), (Some(echo), 0xb8));
        assert_eq!((packet.ports(), packet.tcp()), (None, None));
        // a reply is quoted too when it meets an error, but it is no probe
        let bytes = hex(&quote.replace("08002421", "00002c21"));
        assert_eq!(IcmpError::parse(&bytes, Version::V4).unwrap().packet().unwrap().echo_request(), None);
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let bytes = hex(&TIME_EXCEEDED.replace("4b374000", "4b3700b9"));
        let packet = IcmpError::parse(&bytes, Version::V4).unwrap().packet().unwrap();
        assert_eq!((packet.protocol, packet.upper, packet.ports()), (17, &[][..], None));
    }

    #[test]
    fn what_is_cut_short_says_less() {
        let bytes = hex(PROHIBITED);
        for len in 0..bytes.len() {
            let error = IcmpError::parse(&bytes[..len], Version::V4);
            assert_eq!(error.is_ok(), len >= 8);
            let packet = error.ok().and_then(|error| error.packet());
            assert_eq!(packet.is_some(), len >= 28);
            assert_eq!(packet.and_then(|packet| packet.ports()).is_some(), len >= 32);
            assert_eq!(packet.and_then(|packet| packet.tcp()).is_some(), len >= 36);
        }
    }

    #[test]
    fn echoes_and_redirects_are_no_errors() {
        assert_eq!(IcmpError::parse(&hex("08002421 42420007"), Version::V4), Err(NotOne));
        assert_eq!(IcmpError::parse(&hex("05010000 c0000202"), Version::V4), Err(NotOne));
        assert_eq!(IcmpError::parse(&hex("81004f62 42420007"), Version::V6), Err(NotOne));
    }
}
