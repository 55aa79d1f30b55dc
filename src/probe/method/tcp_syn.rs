//! TCP SYN: any host that has TCP answers, whether it listens on the port or not. RFC 9293 §3.5, §3.10.7.
//!
//! The probe's number is the segment's sequence number, so whatever answers it by the book names it: a SYN-ACK
//! and a RST-ACK both acknowledge it plus one (§3.10.7.1: a reset of a segment without ACK says
//! `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`). What else comes back:
//!
//! - A RST without ACK takes its own number from the ACK of the segment it answers. A SYN has none: such a RST
//!   answers something else, or is forged, and names no probe.
//! - An ACK alone (a "challenge ACK", RFC 5961 §4.2; RFC 9293 §3.10.7.4) says that the target takes the SYN for part
//!   of a connection it still has with these ports. It acknowledges what that connection awaits, which may
//!   be an earlier probe's number plus one and is never this one's; and it comes rarely, hosts limit its rate. So it
//!   answers no probe: [`Unreadable::OldConnection`].
//! - A SYN cookie (RFC 4987 §3.6) is a SYN-ACK like any other: its number is chosen, what it acknowledges is not.
//! - A SYN-ACK sent once more, for want of the reset, is a duplicate of the first.
//!
//! **Half-open connections.** The kernel knows nothing of our SYN: to a SYN-ACK for a port on which it has no
//! connection it sends the RST that closes the target's half (RFC 9293 §3.10.7.1), unless a packet filter drops what
//! comes in before TCP sees it, or what goes out. We send none of our own: a second would only cost. One that is left
//! half open answers the flow's next probe not as it answered the first: Linux resets a number within the old window,
//! as if nothing listened, and acknowledges others.
//!
//! The SYN has no payload: a listener may keep it or not without a word (RFC 9293 §3.10.7.2 lets it wait), a
//! closed port acknowledges it too, which makes two rules of one, and middleboxes drop it. So it has one size.

use super::addressing::{Addressing, Arrived, Ports, Quote};
use super::{Answer, AnswerKind, Reply, Unreadable};
use crate::probe::Seq;
use crate::probe::class::SentBack;
use crate::wire::checksum::Sum;
use crate::wire::icmp::Version;
use crate::wire::tcp::{self, Checked, Flags, QuotedTcp, Tcp, TcpSegment};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a SYN: the header and the MSS option, without which hosts assume 536 (RFC 9293 §3.7.1) and packet
/// filters that look for the unusual find it.
pub const LEN: usize = tcp::HEADER_LEN + tcp::MSS_LEN;
/// What a frame of 1500 octets carries, over IPv4 and IPv6.
const MSS: [u16; 2] = [1460, 1440];
const WINDOW: u16 = 65_535;

/// A SYN of each family, complete but for addresses, ports and number: those are zero.
#[derive(Clone, Debug)]
pub struct TcpSyn {
    v4: [u8; LEN],
    v6: [u8; LEN],
}

impl TcpSyn {
    pub fn new() -> TcpSyn {
        let [mut v4, mut v6] = [[0; LEN]; 2];
        let syn = Tcp { flags: Flags::SYN, window: WINDOW, mss: Some(MSS[0]), ..Tcp::default() };
        syn.emit(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into(), &mut v4);
        let syn = Tcp { mss: Some(MSS[1]), ..syn };
        syn.emit(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into(), &mut v6);
        TcpSyn { v4, v6 }
    }

    #[inline]
    pub fn write(&self, addressing: &Addressing, seq: Seq, buf: &mut [u8]) -> usize {
        let Some(probe) = buf.get_mut(..LEN) else { return 0 };
        probe.copy_from_slice(match addressing.version() {
            Version::V4 => &self.v4,
            Version::V6 => &self.v6,
        });
        finish(probe, addressing, seq)
    }

    #[inline]
    pub fn read(&self, arrived: &Arrived, bytes: &[u8]) -> Result<Answer, Unreadable> {
        let segment = TcpSegment::new_checked(bytes).map_err(|_| Unreadable::Malformed)?;
        // raw sockets see segments before TCP would have dropped those
        if segment.check(arrived.from, arrived.to) == Checked::Wrong {
            return Err(Unreadable::Corrupt(None));
        }
        const WHAT: Flags = Flags::SYN.and(Flags::ACK).and(Flags::RST).and(Flags::FIN);
        const SYN_ACK: Flags = Flags::SYN.and(Flags::ACK);
        const RST_ACK: Flags = Flags::RST.and(Flags::ACK);
        let kind = match segment.flags().of(WHAT) {
            SYN_ACK => AnswerKind::SynAck,
            RST_ACK => AnswerKind::Reset,
            Flags::ACK => return Err(Unreadable::OldConnection),
            _ => return Err(Unreadable::Malformed),
        };
        Ok(Answer {
            reply: Reply { seq: Seq(segment.ack().wrapping_sub(1)), reflector_seq: None, received: None, sent: None },
            kind,
            sent_back: SentBack::AsItPleased,
            ports: Some(Ports { local: segment.destination(), remote: segment.source() }),
        })
    }

    pub fn read_quote(&self, bytes: &[u8]) -> Option<Quote> {
        let quoted = QuotedTcp::parse(bytes)?;
        let ports = Ports { local: quoted.source, remote: quoted.destination };
        Some(Quote { seq: Seq(quoted.seq), ports: Some(ports) })
    }
}

/// Puts in what was zero and brings the checksum up to date (RFC 1624: of each, taking out zero costs nothing).
#[inline]
fn finish(bytes: &mut [u8], addressing: &Addressing, seq: Seq) -> usize {
    let len = bytes.len();
    let Ports { local, remote } = addressing.ports;
    let Ok(mut segment) = TcpSegment::new_checked(bytes) else { return 0 };
    let sum =
        Sum::resume(segment.checksum()).add_u16(addressing.addresses()).add_u16(local).add_u16(remote).add_u32(seq.0);
    segment.set_source(local);
    segment.set_destination(remote);
    segment.set_seq(seq.0);
    segment.set_checksum(sum.checksum());
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::method::Method;
    use crate::probe::shape::{Dscp, MethodKind, Shape, StampPolicy};
    use crate::time::Wall;
    use etherparse::{TcpHeader, TcpOptionElement};
    use proptest::prelude::*;
    use std::net::{IpAddr, SocketAddr};

    fn method() -> Method {
        let shape = Shape {
            port_name: "test".into(),
            method: MethodKind::TcpSyn,
            dscp: Dscp(0),
            size: 44,
            stamps: StampPolicy::Off,
            key: None,
            class_report: false,
        };
        Method::new(&shape, 7)
    }

    fn flow(local: &str, remote: &str) -> (SocketAddr, SocketAddr) {
        (local.parse().unwrap(), remote.parse().unwrap())
    }

    fn flows() -> [(SocketAddr, SocketAddr); 2] {
        [flow("192.0.2.1:50000", "198.51.100.2:443"), flow("[2001:db8::1]:50001", "[2001:db8:f::2]:0")]
    }

    /// The packet that `target` sends to `prober`, from the TCP header on.
    fn from_target(prober: SocketAddr, target: SocketAddr, flags: Flags, numbers: (u32, u32)) -> (Arrived, Vec<u8>) {
        let (seq, ack) = numbers;
        let said = Tcp { source: target.port(), destination: prober.port(), seq, ack, flags, window: 0, mss: None };
        let mut bytes = vec![0xa5; said.len()];
        said.emit(target.ip(), prober.ip(), &mut bytes);
        (Arrived { from: target.ip(), to: prober.ip() }, bytes)
    }

    fn checksum(header: &TcpHeader, from: IpAddr, to: IpAddr) -> u16 {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]).unwrap()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[]).unwrap()
            }
            _ => unreachable!("of one family"),
        }
    }

    const SYN_ACK: Flags = Flags::SYN.and(Flags::ACK);
    const RST_ACK: Flags = Flags::RST.and(Flags::ACK);

    #[test]
    fn a_probe_is_a_syn_that_carries_the_number() {
        for (local, remote) in flows() {
            let mut buf = [0xa5; 30];
            let len = method().write_for(&Addressing::new(local, remote), Seq(0xfedc_ba98), Wall(0), &mut buf);
            assert_eq!((len, method().len()), (24, 24));
            assert_eq!(buf[24..], [0xa5; 6]);
            let (header, payload) = TcpHeader::from_slice(&buf[..len]).unwrap();
            assert!(payload.is_empty());
            assert_eq!((header.source_port, header.destination_port), (local.port(), remote.port()));
            assert_eq!((header.sequence_number, header.acknowledgment_number), (0xfedc_ba98, 0));
            assert!(header.syn && !header.ack && !header.rst && !header.fin && !header.ece && !header.cwr);
            let mss = if local.is_ipv4() { 1460 } else { 1440 };
            let options: Vec<_> = header.options_iterator().collect();
            assert_eq!(options, [Ok(TcpOptionElement::MaximumSegmentSize(mss))]);
            assert_eq!(header.checksum, checksum(&header, local.ip(), remote.ip()));
        }
    }

    #[test]
    fn a_short_buffer_and_a_udp_payload_get_nothing() {
        let (local, remote) = flows()[0];
        let (method, addressing) = (method(), Addressing::new(local, remote));
        let mut buf = [0xa5; 23];
        assert_eq!(method.write_for(&addressing, Seq(1), Wall(0), &mut buf), 0);
        assert_eq!(buf, [0xa5; 23]);
        assert_eq!(method.write(Seq(1), Wall(0), &mut [0xa5; 100]), 0);
    }

    #[test]
    fn syn_ack_and_reset_are_answers_told_apart() {
        for (local, remote) in flows() {
            for seq in [0, 7, u32::MAX] {
                let ack = seq.wrapping_add(1);
                for (flags, kind) in [
                    (SYN_ACK, AnswerKind::SynAck),
                    (SYN_ACK.and(Flags::ECE), AnswerKind::SynAck),
                    (RST_ACK, AnswerKind::Reset),
                    (RST_ACK.and(Flags::PSH), AnswerKind::Reset),
                ] {
                    let (arrived, bytes) = from_target(local, remote, flags, (99, ack));
                    let reply = Reply { seq: Seq(seq), reflector_seq: None, received: None, sent: None };
                    let ports = Some(Ports { local: local.port(), remote: remote.port() });
                    let sent_back = SentBack::AsItPleased;
                    assert_eq!(method().read_answer(&arrived, &bytes), Ok(Answer { reply, kind, sent_back, ports }));
                }
            }
        }
    }

    #[test]
    fn what_answers_no_probe() {
        let (local, remote) = flows()[0];
        for (flags, why) in [
            (Flags::RST, Unreadable::Malformed), // acknowledges nothing
            (Flags::ACK, Unreadable::OldConnection),
            (Flags::ACK.and(Flags::PSH), Unreadable::OldConnection),
            (Flags::SYN, Unreadable::Malformed),
            (Flags::FIN.and(Flags::ACK), Unreadable::Malformed),
            (SYN_ACK.and(Flags::RST), Unreadable::Malformed),
            (SYN_ACK.and(Flags::FIN), Unreadable::Malformed),
            (Flags(0), Unreadable::Malformed),
        ] {
            let (arrived, bytes) = from_target(local, remote, flags, (99, 8));
            assert_eq!(method().read_answer(&arrived, &bytes), Err(why), "{flags:?}");
            assert_eq!(method().read(&bytes), Err(Unreadable::Malformed), "no UDP payload");
        }
        let (arrived, bytes) = from_target(local, remote, SYN_ACK, (99, 8));
        for len in 0..bytes.len() {
            assert_eq!(method().read_answer(&arrived, &bytes[..len]), Err(Unreadable::Malformed));
        }
    }

    #[test]
    fn a_changed_answer_is_corrupt_and_an_offloaded_one_is_not() {
        let (local, remote) = flows()[0];
        let (arrived, mut bytes) = from_target(local, remote, SYN_ACK, (99, 8));
        bytes[7] ^= 0x10;
        assert_eq!(method().read_answer(&arrived, &bytes), Err(Unreadable::Corrupt(None)));
        bytes[7] ^= 0x10;
        // inside one host the checksum is left to a device that the segment never reaches
        let pseudo = Sum::ZERO.add_addresses(arrived.from, arrived.to).add_protocol(6, bytes.len() as u32).folded();
        bytes[16..18].copy_from_slice(&pseudo.to_be_bytes());
        assert!(method().read_answer(&arrived, &bytes).is_ok());
        let elsewhere = Arrived { from: "203.0.113.9".parse().unwrap(), ..arrived };
        assert_eq!(method().read_answer(&elsewhere, &bytes), Err(Unreadable::Corrupt(None)));
    }

    #[test]
    fn a_quote_of_eight_octets_is_enough() {
        let (local, remote) = flows()[0];
        let mut probe = [0; 24];
        method().write_for(&Addressing::new(local, remote), Seq(0x0102_0304), Wall(0), &mut probe);
        for len in 0..probe.len() {
            let ports = Some(Ports { local: 50000, remote: 443 });
            let quote = Quote { seq: Seq(0x0102_0304), ports };
            assert_eq!(method().read_quote(&probe[..len], Seq(0)), (len >= 8).then_some(quote));
        }
    }

    proptest! {
        #[test]
        fn every_probe_has_a_right_checksum_and_every_answer_its_number(
            v6: bool, from: [u8; 16], to: [u8; 16], ports: (u16, u16), seq: u32, reset: bool,
        ) {
            let ip = |octets: [u8; 16]| match v6 {
                true => IpAddr::from(octets),
                false => IpAddr::from(*octets.first_chunk::<4>().unwrap()),
            };
            let (local, remote) = (SocketAddr::new(ip(from), ports.0), SocketAddr::new(ip(to), ports.1));
            let mut buf = [0xa5; 24];
            let len = method().write_for(&Addressing::new(local, remote), Seq(seq), Wall(0), &mut buf);
            let (header, _) = TcpHeader::from_slice(&buf[..len]).unwrap();
            prop_assert_eq!(header.checksum, checksum(&header, local.ip(), remote.ip()));

            let flags = if reset { RST_ACK } else { SYN_ACK };
            let (arrived, bytes) = from_target(local, remote, flags, (1, seq.wrapping_add(1)));
            prop_assert_eq!(method().read_answer(&arrived, &bytes).unwrap().reply.seq, Seq(seq));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), newest: u32) {
            let arrived = Arrived { from: "192.0.2.1".parse().unwrap(), to: "192.0.2.2".parse().unwrap() };
            let _ = method().read_answer(&arrived, &bytes);
            let _ = method().read_quote(&bytes, Seq(newest));
        }
    }
}
