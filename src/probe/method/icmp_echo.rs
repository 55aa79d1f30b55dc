//! ICMP echo, whose data say which probe it is and whether a bit of them changed. RFC 792 p. 14, RFC 4443 §4.
//!
//! ```text
//!  8  number of the probe, 32 bits      14  check over both, 16 bits
//! 12  octets of data, 16 bits           16  the pattern, to the end
//! ```
//! The identifier stands for the flow: a load balancer may hash it, and it tells senders on one host apart. The
//! echo's own sequence number, 16 bits, is the low half of ours: all that a router has to quote of it.
//!
//! An unprivileged ping socket puts its own number in place of the identifier, and computes the checksum. So nothing
//! in the data depends on the identifier, and [`Ports::local`] is what came back: that socket's bound port.
//!
//! The whole reply is compared, octet for octet, and nothing is left to the checksum, which a middlebox may have
//! put right again behind the damage.

use super::addressing::{Addressing, Ports, Quote};
use super::{Answer, AnswerKind, Reply, Unreadable, pattern};
use crate::probe::Seq;
use crate::probe::class::SentBack;
use crate::probe::shape::Shape;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{Echo, EchoKind, EchoMessage, HEADER_LEN, Version};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Octets of data before the pattern.
const LABEL_LEN: usize = 8;
/// Octets of pattern that show a reply with a damaged label to be ours: a stranger's holds them once in 2^64.
const TELLING: usize = 8;

/// What the data start with.
struct Label {
    seq: Seq,
    len: u16,
}

impl Label {
    #[inline]
    fn bytes(&self) -> [u8; LABEL_LEN] {
        let ([s0, s1, s2, s3], [l0, l1]) = (self.seq.0.to_be_bytes(), self.len.to_be_bytes());
        let [c0, c1] = self.check().to_be_bytes();
        [s0, s1, s2, s3, l0, l1, c0, c1]
    }

    /// 16 bits of a product in which every bit of both counts.
    #[inline]
    fn check(&self) -> u16 {
        let both = u64::from(self.seq.0) << 16 | u64::from(self.len);
        let mixed = (both ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) >> 48) as u16
    }

    /// `None` when the check does not fit, or the data are shorter.
    #[inline]
    fn read(data: &[u8]) -> Option<Label> {
        let bytes = data.first_chunk::<LABEL_LEN>()?;
        let [s0, s1, s2, s3, l0, l1, _, _] = *bytes;
        let label = Label { seq: Seq(u32::from_be_bytes([s0, s1, s2, s3])), len: u16::from_be_bytes([l0, l1]) };
        (label.bytes() == *bytes).then_some(label)
    }
}

/// An echo request of each family, complete but for identifier, numbers and check, which are zero.
#[derive(Clone, Debug)]
pub struct IcmpEcho {
    /// Label and pattern.
    data: Box<[u8]>,
    v4: [u8; HEADER_LEN],
    v6: [u8; HEADER_LEN],
}

impl IcmpEcho {
    pub fn new(shape: &Shape) -> IcmpEcho {
        let len = usize::from(shape.size).max(LABEL_LEN);
        let mut message = vec![0; HEADER_LEN + len];
        message[HEADER_LEN + 4..HEADER_LEN + 6].copy_from_slice(&(len as u16).to_be_bytes());
        pattern::fill(&mut message[HEADER_LEN + LABEL_LEN..]);
        let mut header = |version| {
            let unspecified = match version {
                Version::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Version::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            let request = Echo { version, kind: EchoKind::Request, identifier: 0, seq: 0 };
            request.emit(unspecified, unspecified, &mut message);
            message.first_chunk().copied().unwrap_or_default()
        };
        let (v4, v6) = (header(Version::V4), header(Version::V6));
        IcmpEcho { data: message[HEADER_LEN..].into(), v4, v6 }
    }

    pub fn len(&self) -> usize {
        HEADER_LEN + self.data.len()
    }

    #[inline]
    pub fn write(&self, addressing: &Addressing, seq: Seq, buf: &mut [u8]) -> usize {
        let Some(probe) = buf.get_mut(..self.len()) else { return 0 };
        let (header, data) = probe.split_at_mut(HEADER_LEN);
        let (version, identifier) = (addressing.version(), addressing.ports.local);
        let addresses = match version {
            Version::V4 => {
                header.copy_from_slice(&self.v4);
                0
            }
            Version::V6 => {
                header.copy_from_slice(&self.v6);
                addressing.addresses()
            }
        };
        data.copy_from_slice(&self.data);
        let label = Label { seq, len: self.data.len() as u16 };
        data[..LABEL_LEN].copy_from_slice(&label.bytes());
        let Ok(mut message) = EchoMessage::new_checked(&mut *probe, version) else { return 0 };
        let sum = Sum::resume(message.checksum())
            .add_u16(addresses)
            .add_u16(identifier)
            .add_u16(seq.0 as u16)
            .add_u32(seq.0)
            .add_u16(label.check());
        message.set_identifier(identifier);
        message.set_seq(seq.0 as u16);
        message.set_checksum(sum.checksum());
        probe.len()
    }

    #[inline]
    pub fn read(&self, version: Version, bytes: &[u8]) -> Result<Answer, Unreadable> {
        let message = EchoMessage::new_checked(bytes, version).map_err(|_| Unreadable::Malformed)?;
        if message.kind() != EchoKind::Reply {
            return Err(Unreadable::Malformed);
        }
        let data = message.data();
        let rest = data.get(LABEL_LEN..).unwrap_or_default();
        let Some(Label { seq, len }) = Label::read(data) else {
            let ours = rest.len() >= TELLING && pattern::holds(rest);
            return Err(if ours { Unreadable::Corrupt(None) } else { Unreadable::Malformed });
        };
        if usize::from(len) != data.len() || message.seq() != seq.0 as u16 || !pattern::holds(rest) {
            return Err(Unreadable::Corrupt(Some(seq)));
        }
        Ok(Answer {
            reply: Reply { seq, reflector_seq: None, received: None, sent: None },
            kind: AnswerKind::Echo,
            sent_back: SentBack::Copied,
            ports: Some(Ports { local: message.identifier(), remote: 0 }),
        })
    }

    pub fn read_quote(&self, bytes: &[u8], newest: Seq) -> Option<Quote> {
        let request = [Version::V4, Version::V6].into_iter().find_map(|version| {
            let message = EchoMessage::new_checked(bytes, version).ok()?;
            (message.kind() == EchoKind::Request).then_some(message)
        })?;
        let low = request.seq();
        let seq = match request.data().first_chunk::<4>() {
            Some(seq) => Seq(u32::from_be_bytes(*seq)),
            // the newest number with this low half
            None => Seq(newest.0.wrapping_sub(u32::from((newest.0 as u16).wrapping_sub(low)))),
        };
        (seq.0 as u16 == low).then_some(Quote { seq, ports: Some(Ports { local: request.identifier(), remote: 0 }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::method::{Arrived, Method};
    use crate::probe::shape::{Dscp, MethodKind, StampPolicy};
    use crate::time::Wall;
    use etherparse::{Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type};
    use proptest::prelude::*;
    use std::net::{IpAddr, SocketAddr};

    fn method(size: u16) -> Method {
        let shape = Shape {
            port_name: "test".into(),
            method: MethodKind::Icmp,
            dscp: Dscp(0),
            size,
            stamps: StampPolicy::Off,
            key: None,
            class_report: false,
        };
        Method::new(&shape, 7)
    }

    fn flows() -> [(SocketAddr, SocketAddr); 2] {
        [("192.0.2.1:4660", "198.51.100.2:0"), ("[2001:db8::1]:4660", "[2001:db8:f::2]:0")]
            .map(|(local, remote)| (local.parse().unwrap(), remote.parse().unwrap()))
    }

    fn probe(size: u16, (local, remote): (SocketAddr, SocketAddr), seq: u32) -> Vec<u8> {
        let mut buf = vec![0xa5; 10_000];
        let len = method(size).write_for(&Addressing::new(local, remote), Seq(seq), Wall(0), &mut buf);
        assert!(buf[len..].iter().all(|&byte| byte == 0xa5), "writes past the probe");
        buf.truncate(len);
        buf
    }

    /// What a host makes of the probe.
    fn reply(probe: &[u8], (local, remote): (SocketAddr, SocketAddr)) -> (Arrived, Vec<u8>) {
        let version = Version::of(local.ip());
        let asked = Echo::parse(&EchoMessage::new_checked(probe, version).unwrap());
        let mut bytes = probe.to_vec();
        Echo { kind: EchoKind::Reply, ..asked }.emit(remote.ip(), local.ip(), &mut bytes);
        (Arrived { from: remote.ip(), to: local.ip() }, bytes)
    }

    fn answer(seq: u32, identifier: u16) -> Answer {
        Answer {
            reply: Reply { seq: Seq(seq), reflector_seq: None, received: None, sent: None },
            kind: AnswerKind::Echo,
            sent_back: SentBack::Copied,
            ports: Some(Ports { local: identifier, remote: 0 }),
        }
    }

    /// As etherparse reads a request: identifier, number, and whether the checksum is right.
    fn seen(bytes: &[u8], local: IpAddr, remote: IpAddr) -> (u16, u16, bool) {
        match (local, remote) {
            (IpAddr::V4(_), _) => {
                let slice = Icmpv4Slice::from_slice(bytes).unwrap();
                let kind = slice.icmp_type();
                let Icmpv4Type::EchoRequest(header) = &kind else { unreachable!("a request") };
                (header.id, header.seq, kind.calc_checksum(slice.payload()) == slice.checksum())
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                let slice = Icmpv6Slice::from_slice(bytes).unwrap();
                let Icmpv6Type::EchoRequest(header) = slice.icmp_type() else { unreachable!("a request") };
                (header.id, header.seq, slice.is_checksum_valid(local.octets(), remote.octets()))
            }
            _ => unreachable!("of one family"),
        }
    }

    #[test]
    fn a_probe_has_the_size_asked_behind_its_header() {
        for flow in flows() {
            for size in (0..300).chain([1472, 9000]) {
                let probe = probe(size, flow, 0x0001_0002);
                assert_eq!(probe.len(), 8 + usize::from(size).max(8));
                assert_eq!(probe.len(), method(size).len());
                assert_eq!(seen(&probe, flow.0.ip(), flow.1.ip()), (4660, 2, true));
            }
        }
    }

    #[test]
    fn a_short_buffer_and_a_udp_payload_get_nothing() {
        let (local, remote) = flows()[0];
        let mut buf = [0xa5; 63];
        assert_eq!(method(56).write_for(&Addressing::new(local, remote), Seq(1), Wall(0), &mut buf), 0);
        assert_eq!(method(8).write(Seq(1), Wall(0), &mut buf), 0);
        assert_eq!(buf, [0xa5; 63]);
    }

    #[test]
    fn any_method_reads_the_replies_of_every_size() {
        for flow in flows() {
            for size in [8, 9, 56, 1472, 9000] {
                let (arrived, bytes) = reply(&probe(size, flow, 0xfedc_ba98), flow);
                assert_eq!(method(56).read_answer(&arrived, &bytes), Ok(answer(0xfedc_ba98, 4660)));
            }
        }
    }

    #[test]
    fn a_ping_socket_may_put_its_own_identifier() {
        for flow in flows() {
            let mut probe = probe(56, flow, 7);
            let version = Version::of(flow.0.ip());
            let asked = Echo::parse(&EchoMessage::new_checked(&probe[..], version).unwrap());
            Echo { identifier: 999, ..asked }.emit(flow.0.ip(), flow.1.ip(), &mut probe);
            let (arrived, bytes) = reply(&probe, flow);
            assert_eq!(method(56).read_answer(&arrived, &bytes), Ok(answer(7, 999)));
        }
    }

    #[test]
    fn every_flipped_bit_of_the_data_is_noticed() {
        for flow in flows() {
            let (arrived, whole) = reply(&probe(40, flow, 7), flow);
            for bit in HEADER_LEN * 8..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                // whether or not a middlebox has put the checksum right
                let seq = (bit >= (HEADER_LEN + LABEL_LEN) * 8).then_some(Seq(7));
                assert_eq!(method(40).read_answer(&arrived, &bytes), Err(Unreadable::Corrupt(seq)), "bit {bit}");
            }
            let mut bytes = whole.clone();
            bytes[7] ^= 1;
            let corrupt = Err(Unreadable::Corrupt(Some(Seq(7))));
            assert_eq!(method(40).read_answer(&arrived, &bytes), corrupt, "its own number against the label's");
        }
    }

    #[test]
    fn a_reply_cut_short_or_made_longer_is_corrupt() {
        let flow = flows()[0];
        let (arrived, whole) = reply(&probe(56, flow, 7), flow);
        for len in HEADER_LEN + LABEL_LEN..whole.len() {
            let read = method(56).read_answer(&arrived, &whole[..len]);
            assert_eq!(read, Err(Unreadable::Corrupt(Some(Seq(7)))));
        }
        let (_, longer) = reply(&probe(100, flow, 7), flow);
        let longer = [&whole[..], &longer[whole.len()..]].concat();
        assert_eq!(method(56).read_answer(&arrived, &longer), Err(Unreadable::Corrupt(Some(Seq(7)))));
    }

    #[test]
    fn what_is_none_of_our_replies() {
        for flow in flows() {
            let request = probe(56, flow, 7);
            let (arrived, whole) = reply(&request, flow);
            let read = |bytes: &[u8]| method(56).read_answer(&arrived, bytes);
            assert_eq!(read(&request), Err(Unreadable::Malformed), "our own request, seen on loopback");
            for len in 0..HEADER_LEN + LABEL_LEN {
                assert_eq!(read(&whole[..len]), Err(Unreadable::Malformed));
            }
            // another program's: 56 octets counted up, as ping fills them
            let mut strange = whole.clone();
            strange[HEADER_LEN..].iter_mut().zip(0..).for_each(|(octet, at)| *octet = at);
            assert_eq!(read(&strange), Err(Unreadable::Malformed));
            let other =
                Arrived { from: flows().map(|(local, _)| local.ip())[usize::from(flow.0.is_ipv4())], ..arrived };
            assert_eq!(method(56).read_answer(&other, &whole), Err(Unreadable::Malformed), "the other family's");
            assert_eq!(method(56).read(&whole), Err(Unreadable::Malformed), "no UDP payload");
        }
    }

    #[test]
    fn a_quote_names_the_probe() {
        for flow in flows() {
            let probe = probe(56, flow, 0x0005_fffe);
            for (newest, found) in [
                (0x0005_ffff_u32, 0x0005_fffe_u32),
                (0x0005_fffe, 0x0005_fffe),
                (0x0006_0001, 0x0005_fffe),
                (0x0006_fffd, 0x0005_fffe),
                (0x0006_fffe, 0x0006_fffe), // eight octets cannot tell
                (0x0000_0001, 0xffff_fffe),
            ] {
                for len in 0..probe.len() {
                    let seq = if len >= 12 { 0x0005_fffe } else { found };
                    let quote = Quote { seq: Seq(seq), ports: Some(Ports { local: 4660, remote: 0 }) };
                    let read = method(56).read_quote(&probe[..len], Seq(newest));
                    assert_eq!(read, (len >= 8).then_some(quote), "{newest:x} {len}");
                }
            }
            let mut damaged = probe.clone();
            damaged[HEADER_LEN + 3] ^= 1;
            assert_eq!(method(56).read_quote(&damaged, Seq(0)), None, "two numbers that do not agree");
            assert_eq!(method(56).read_quote(&reply(&probe, flow).1, Seq(0)), None, "a reply is no probe");
        }
    }

    proptest! {
        #[test]
        fn every_probe_is_right_and_every_number_comes_back(
            v6: bool, from: [u8; 16], to: [u8; 16], identifier: u16, seq: u32, size in 8u16..1500,
        ) {
            let ip = |octets: [u8; 16]| match v6 {
                true => IpAddr::from(octets),
                false => IpAddr::from(*octets.first_chunk::<4>().unwrap()),
            };
            let flow = (SocketAddr::new(ip(from), identifier), SocketAddr::new(ip(to), 0));
            let probe = probe(size, flow, seq);
            prop_assert_eq!(seen(&probe, flow.0.ip(), flow.1.ip()), (identifier, seq as u16, true));
            let (arrived, bytes) = reply(&probe, flow);
            prop_assert_eq!(method(56).read_answer(&arrived, &bytes), Ok(answer(seq, identifier)));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), first in 0usize..5, newest: u32) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() {
                *byte = [0, 8, 128, 129, *byte][first];
            }
            for ip in ["192.0.2.1", "2001:db8::1"] {
                let ip = ip.parse().unwrap();
                let _ = method(56).read_answer(&Arrived { from: ip, to: ip }, &bytes);
            }
            let _ = method(56).read_quote(&bytes, Seq(newest));
        }
    }
}
