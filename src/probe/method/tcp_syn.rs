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
//!   be an earlier probe's number and is never this one's: [`Unreadable::OldConnection`], so that it answers none. When
//!   half-open connections are reset, there are none to be taken for.
//! - A SYN cookie (RFC 4987 §3.6) is a SYN-ACK like any other: its number is chosen, what it acknowledges is not.
//! - A SYN-ACK sent once more, for want of the reset, is a duplicate of the first.
//!
//! **Half-open connections.** The kernel knows nothing of our SYN: to a SYN-ACK for a port on which it has no
//! connection it sends the RST that closes the target's half (RFC 9293 §3.10.7.1), unless a packet filter drops what
//! comes in before TCP sees it, or what goes out. Then [`TcpSyn::write_reset`] is the same segment from us.
//!
//! The SYN has no payload: a listener may keep it or not without a word (RFC 9293 §3.10.7.2 lets it wait), a
//! closed port acknowledges it too, which makes two rules of one, and middleboxes drop it. So it has one size.

use super::addressing::{Addressing, Arrived, Ports, Quote};
use super::{Answer, AnswerKind, Reply, Unreadable};
use crate::probe::Seq;
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

    /// The RST for a target's half-open connection: as the kernel sends it (RFC 9293 §3.10.7.1, to a segment with ACK),
    /// its number is what the SYN-ACK acknowledges.
    pub fn write_reset(&self, addressing: &Addressing, answered: Seq, buf: &mut [u8]) -> usize {
        let unspecified = match addressing.version() {
            Version::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Version::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let reset = Tcp { flags: Flags::RST, ..Tcp::default() };
        match reset.emit(unspecified, unspecified, buf) {
            0 => 0,
            len => finish(&mut buf[..len], addressing, Seq(answered.0.wrapping_add(1))),
        }
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
