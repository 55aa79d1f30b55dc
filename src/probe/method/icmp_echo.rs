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
