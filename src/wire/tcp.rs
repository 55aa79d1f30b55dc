//! TCP headers, RFC 9293 §3.1: the SYN that asks and what comes back.
//!
//! Responsible for fields, flags and the MSS option. Not responsible for what a segment answers
//! ([`crate::probe::method`]). Read [`Tcp`] first.

use super::checksum::Sum;
use super::octets::{read_u16, read_u32, write};
use std::net::IpAddr;

/// TCP's number in IP headers.
pub const PROTOCOL: u8 = 6;
/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the MSS option (RFC 9293 §3.7.1).
pub const MSS_LEN: usize = 4;

mod field {
    use std::ops::Range;

    pub const SOURCE: Range<usize> = 0..2;
    pub const DESTINATION: Range<usize> = 2..4;
    pub const SEQ: Range<usize> = 4..8;
    pub const ACK: Range<usize> = 8..12;
    /// Data offset in the high four bits, then three reserved ones, then [`super::Flags`].
    pub const OFFSET_FLAGS: Range<usize> = 12..14;
    pub const WINDOW: Range<usize> = 14..16;
    pub const CHECKSUM: Range<usize> = 16..18;
    pub const URGENT: Range<usize> = 18..20;
}

/// Control bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x001);
    /// Synchronise sequence numbers.
    pub const SYN: Flags = Flags(0x002);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x004);
    /// Push.
    pub const PSH: Flags = Flags(0x008);
    /// The acknowledgement number counts.
    pub const ACK: Flags = Flags(0x010);
    /// The urgent pointer counts.
    pub const URG: Flags = Flags(0x020);
    /// ECN echo (RFC 3168 §6.1).
    pub const ECE: Flags = Flags(0x040);
    /// Congestion window reduced (RFC 3168 §6.1).
    pub const CWR: Flags = Flags(0x080);
    /// Accurate ECN (RFC 9768 §3.1), once the nonce sum.
    pub const AE: Flags = Flags(0x100);

    /// Both sets together.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Those of `mask` that are set.
    pub const fn of(self, mask: Flags) -> Flags {
        Flags(self.0 & mask.0)
    }

    /// Whether all of `other` are set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The bytes are no TCP header, or fewer than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole TCP header")]
pub struct NoHeader;

/// What a checksum field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The right checksum.
    Right,
    /// The pseudo header's sum alone. So the kernel hands a segment on inside one host, veth and loopback
    /// included, when the device computes checksums: it was never on a wire.
    Offloaded,
    /// Neither: the segment was changed on its way.
    Wrong,
}

/// A view of bytes that hold a whole TCP header.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<T>(T);

impl<T: AsRef<[u8]>> TcpSegment<T> {
    /// Looks at `bytes`, from the TCP header to the end of the segment.
    ///
    /// # Errors
    /// Fewer bytes than the data offset says, or a data offset below [`HEADER_LEN`].
    #[inline]
    pub fn new_checked(bytes: T) -> Result<TcpSegment<T>, NoHeader> {
        let len = bytes.as_ref().len();
        if len < HEADER_LEN {
            return Err(NoHeader);
        }
        let segment = TcpSegment(bytes);
        if (HEADER_LEN..=len).contains(&segment.header_len()) { Ok(segment) } else { Err(NoHeader) }
    }

    /// Source port.
    #[inline]
    pub fn source(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::SOURCE)
    }

    /// Destination port.
    #[inline]
    pub fn destination(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::DESTINATION)
    }

    /// Sequence number.
    #[inline]
    pub fn seq(&self) -> u32 {
        read_u32(self.0.as_ref(), &field::SEQ)
    }

    /// Acknowledgement number; means something with [`Flags::ACK`] only.
    #[inline]
    pub fn ack(&self) -> u32 {
        read_u32(self.0.as_ref(), &field::ACK)
    }

    /// Bytes of the header, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(read_u16(self.0.as_ref(), &field::OFFSET_FLAGS) >> 12) * 4
    }

    /// Control bits.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(read_u16(self.0.as_ref(), &field::OFFSET_FLAGS) & 0x1ff)
    }

    /// Window, not scaled.
    pub fn window(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::WINDOW)
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::CHECKSUM)
    }

    /// Urgent pointer; means something with [`Flags::URG`] only.
    pub fn urgent(&self) -> u16 {
        read_u16(self.0.as_ref(), &field::URGENT)
    }

    /// The options, with what pads them to a multiple of four.
    pub fn options(&self) -> &[u8] {
        &self.0.as_ref()[HEADER_LEN..self.header_len()]
    }

    /// The maximum segment size option, when there is one before anything unreadable.
    pub fn mss(&self) -> Option<u16> {
        let mut left = self.options();
        loop {
            left = match *left {
                [] | [option::END, ..] => return None,
                [option::NOTHING, ref rest @ ..] => rest,
                [option::MSS, 4, high, low, ..] => return Some(u16::from_be_bytes([high, low])),
                [_, len @ 2..=u8::MAX, ..] => left.get(usize::from(len)..)?,
                _ => return None,
            };
        }
    }

    /// What follows the header.
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[self.header_len()..]
    }

    /// Compares the checksum with the one over segment and pseudo header; the bytes must be the whole segment.
    #[inline]
    pub fn check(&self, source: IpAddr, destination: IpAddr) -> Checked {
        let bytes = self.0.as_ref();
        let pseudo = Sum::ZERO.add_addresses(source, destination).add_protocol(PROTOCOL, bytes.len() as u32);
        if pseudo.add_bytes(bytes).is_right() {
            Checked::Right
        } else if pseudo.folded() == self.checksum() {
            Checked::Offloaded
        } else {
            Checked::Wrong
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> TcpSegment<T> {
    /// Sets the source port.
    #[inline]
    pub fn set_source(&mut self, port: u16) {
        write(self.0.as_mut(), &field::SOURCE, &port.to_be_bytes());
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_destination(&mut self, port: u16) {
        write(self.0.as_mut(), &field::DESTINATION, &port.to_be_bytes());
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) {
        write(self.0.as_mut(), &field::SEQ, &seq.to_be_bytes());
    }

    /// Sets the acknowledgement number.
    pub fn set_ack(&mut self, ack: u32) {
        write(self.0.as_mut(), &field::ACK, &ack.to_be_bytes());
    }

    /// Sets the control bits; the reserved ones become zero.
    pub fn set_flags(&mut self, flags: Flags) {
        let [offset, _] = read_u16(self.0.as_ref(), &field::OFFSET_FLAGS).to_be_bytes();
        let both = u16::from(offset & 0xf0) << 8 | flags.0 & 0x1ff;
        write(self.0.as_mut(), &field::OFFSET_FLAGS, &both.to_be_bytes());
    }

    /// Sets the window.
    pub fn set_window(&mut self, window: u16) {
        write(self.0.as_mut(), &field::WINDOW, &window.to_be_bytes());
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        write(self.0.as_mut(), &field::CHECKSUM, &checksum.to_be_bytes());
    }
}

mod option {
    pub const END: u8 = 0;
    pub const NOTHING: u8 = 1;
    pub const MSS: u8 = 2;
}

/// What a segment's header says; of the options, the MSS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; 0 without [`Flags::ACK`].
    pub ack: u32,
    /// Control bits.
    pub flags: Flags,
    /// Window, not scaled.
    pub window: u16,
    /// Maximum segment size, bytes; only a SYN says it.
    pub mss: Option<u16>,
}

impl Tcp {
    /// Reads a header.
    pub fn parse<T: AsRef<[u8]>>(segment: &TcpSegment<T>) -> Tcp {
        Tcp {
            source: segment.source(),
            destination: segment.destination(),
            seq: segment.seq(),
            ack: segment.ack(),
            flags: segment.flags(),
            window: segment.window(),
            mss: segment.mss(),
        }
    }

    /// Bytes of the header.
    pub const fn len(&self) -> usize {
        HEADER_LEN + if self.mss.is_some() { MSS_LEN } else { 0 }
    }

    /// Never: a header has bytes.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes a segment without payload, checksum included, and returns its length; 0, and nothing written,
    /// when `buf` is shorter than [`Tcp::len`].
    pub fn emit(&self, source: IpAddr, destination: IpAddr, buf: &mut [u8]) -> usize {
        let len = self.len();
        let Some(bytes) = buf.get_mut(..len) else { return 0 };
        bytes.fill(0);
        bytes[field::OFFSET_FLAGS.start] = (len as u8 / 4) << 4;
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            bytes[HEADER_LEN..].copy_from_slice(&[option::MSS, MSS_LEN as u8, high, low]);
        }
        let Ok(mut segment) = TcpSegment::new_checked(&mut *bytes) else { return 0 };
        segment.set_source(self.source);
        segment.set_destination(self.destination);
        segment.set_seq(self.seq);
        segment.set_ack(self.ack);
        segment.set_flags(self.flags);
        segment.set_window(self.window);
        let sum = Sum::of(bytes).add_addresses(source, destination).add_protocol(PROTOCOL, len as u32);
        write(bytes, &field::CHECKSUM, &sum.checksum().to_be_bytes());
        len
    }
}

/// What every ICMP error quotes of a segment: the first eight octets (RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedTcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub seq: u32,
}

impl QuotedTcp {
    /// Reads the start of a segment; `None` when it is shorter than eight octets.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<QuotedTcp> {
        let bytes = bytes.get(..field::SEQ.end)?;
        Some(QuotedTcp {
            source: read_u16(bytes, &field::SOURCE),
            destination: read_u16(bytes, &field::DESTINATION),
            seq: read_u32(bytes, &field::SEQ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::octets::capture::hex;
    use std::sync::LazyLock;

    // segments that Linux sent
    /// 192.0.2.2 rejects from 192.0.2.1 port 37454 to 192.0.2.130 port 22.
    static SYN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        hex("c2a80016 ffd4872a 00000000 a002fff0 84b20000 020404ec 0402080a d61b4725 00000000 0103030a")
    });
    /// 192.0.2.1 to itself over loopback: the checksum is the pseudo header's.
    static SYN_ACK: LazyLock<Vec<u8>> = LazyLock::new(|| {
        hex("1f9096f4 a822c5c3 c61402f8 a012ffcb 84310000 0204ffd7 0402080a 65d07380 a9d58fa7 0103030a")
    });
    /// 192.0.2.1 to itself, from a closed port.
    static RST_ACK: LazyLock<Vec<u8>> = LazyLock::new(|| hex("005181fa 00000000 0cc7cc92 50140000 d0280000"));
    /// 2001:db8::1 to itself over loopback, from a closed port.
    static RST_ACK_V6: LazyLock<Vec<u8>> = LazyLock::new(|| hex("0051cb4e 00000000 ee8fb257 50140000 5b8e0000"));

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn take_apart() {
        let syn = TcpSegment::new_checked(&SYN[..]).unwrap();
        assert_eq!((syn.source(), syn.destination()), (0xc2a8, 22));
        assert_eq!((syn.seq(), syn.ack(), syn.flags()), (0xffd4_872a, 0, Flags::SYN));
        assert_eq!((syn.header_len(), syn.window(), syn.checksum(), syn.urgent()), (40, 0xfff0, 0x84b2, 0));
        assert_eq!((syn.options(), syn.mss(), syn.payload()), (&SYN[20..], Some(0x04ec), &[][..]));

        let syn_ack = TcpSegment::new_checked(&SYN_ACK[..]).unwrap();
        assert_eq!((syn_ack.source(), syn_ack.destination()), (8080, 0x96f4));
        assert_eq!((syn_ack.seq(), syn_ack.ack()), (0xa822_c5c3, 0xc614_02f8));
        assert_eq!(syn_ack.flags(), Flags::SYN.and(Flags::ACK));
        assert!(syn_ack.flags().has(Flags::ACK) && !syn_ack.flags().has(Flags::SYN.and(Flags::RST)));

        let reset = TcpSegment::new_checked(&RST_ACK[..]).unwrap();
        assert_eq!((reset.seq(), reset.ack()), (0, 0x0cc7_cc92));
        assert_eq!((reset.flags(), reset.options(), reset.mss()), (Flags::RST.and(Flags::ACK), &[][..], None));
    }

    #[test]
    fn checksums_right_offloaded_and_wrong() {
        let check = |bytes: &[u8], source: &str, destination: &str| {
            TcpSegment::new_checked(bytes).unwrap().check(ip(source), ip(destination))
        };
        // the router rewrote nothing that TCP's checksum covers, but the sender's device was to complete it
        assert_eq!(check(&SYN, "192.0.2.1", "192.0.2.130"), Checked::Offloaded);
        assert_eq!(check(&SYN_ACK, "192.0.2.1", "192.0.2.1"), Checked::Offloaded);
        assert_eq!(check(&RST_ACK_V6, "2001:db8::1", "2001:db8::1"), Checked::Offloaded);
        assert_eq!(check(&RST_ACK, "192.0.2.1", "192.0.2.1"), Checked::Right);
        assert_eq!(check(&RST_ACK, "192.0.2.1", "192.0.2.3"), Checked::Wrong);
        for bit in 0..RST_ACK.len() * 8 {
            let mut bytes = RST_ACK.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(segment) = TcpSegment::new_checked(&bytes[..]) {
                assert_eq!(segment.check(ip("192.0.2.1"), ip("192.0.2.1")), Checked::Wrong, "bit {bit}");
            }
        }
    }

    #[test]
    fn build() {
        let mut bytes = [0xa5; 28];
        bytes[12] = 0x55; // an offset of 20, a reserved bit set
        bytes[18..20].fill(0);
        let mut segment = TcpSegment::new_checked(&mut bytes[..]).unwrap();
        segment.set_source(81);
        segment.set_destination(0x81fa);
        segment.set_seq(0);
        segment.set_ack(0x0cc7_cc92);
        segment.set_flags(Flags::RST.and(Flags::ACK));
        segment.set_window(0);
        segment.set_checksum(0xd028);
        assert_eq!(bytes[..20], RST_ACK[..]);
        assert_eq!(bytes[20..], [0xa5; 8], "the payload is not touched");
    }

    #[test]
    fn all_nine_flags_fit() {
        let mut bytes = RST_ACK.clone();
        let mut segment = TcpSegment::new_checked(&mut bytes[..]).unwrap();
        let all =
            [Flags::FIN, Flags::SYN, Flags::RST, Flags::PSH, Flags::ACK, Flags::URG, Flags::ECE, Flags::CWR, Flags::AE];
        for flag in all {
            segment.set_flags(flag);
            assert_eq!((segment.flags(), segment.header_len()), (flag, 20));
        }
        segment.set_flags(Flags(0xffff));
        assert_eq!((segment.flags(), segment.header_len()), (Flags(0x1ff), 20));
    }

    fn syn() -> Tcp {
        let (source, destination, seq) = (0xc2a8, 22, 0xffd4_872a);
        Tcp { source, destination, seq, ack: 0, flags: Flags::SYN, window: 0xfff0, mss: Some(0x04ec) }
    }

    #[test]
    fn parse() {
        assert_eq!(Tcp::parse(&TcpSegment::new_checked(&SYN[..]).unwrap()), syn());
        let reset = Tcp::parse(&TcpSegment::new_checked(&RST_ACK[..]).unwrap());
        let flags = Flags::RST.and(Flags::ACK);
        assert_eq!(reset, Tcp { source: 81, destination: 0x81fa, ack: 0x0cc7_cc92, flags, ..Tcp::default() });
    }

    #[test]
    fn emit() {
        let mut bytes = [0xa5; 32];
        assert_eq!(syn().emit(ip("192.0.2.1"), ip("192.0.2.130"), &mut bytes), 24);
        // the capture's, but for the other options: offset and checksum
        assert_eq!(bytes[..12], SYN[..12]);
        assert_eq!(bytes[12..16], [0x60, 0x02, 0xff, 0xf0]);
        assert_eq!(bytes[18..24], SYN[18..24]);
        assert_eq!(bytes[24..], [0xa5; 8]);
        let check = TcpSegment::new_checked(&bytes[..24]).unwrap().check(ip("192.0.2.1"), ip("192.0.2.130"));
        assert_eq!(check, Checked::Right);

        let mut bytes = [0xa5; 20];
        let reset = Tcp::parse(&TcpSegment::new_checked(&RST_ACK[..]).unwrap());
        assert_eq!(reset.emit(ip("192.0.2.1"), ip("192.0.2.1"), &mut bytes), 20);
        assert_eq!(bytes, RST_ACK[..]);
    }

    #[test]
    fn a_short_buffer_gets_nothing() {
        let mut bytes = [0xa5; 23];
        assert_eq!(syn().emit(ip("192.0.2.1"), ip("192.0.2.130"), &mut bytes), 0);
        assert_eq!(bytes, [0xa5; 23]);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for len in 0..40 {
            assert_eq!(TcpSegment::new_checked(&SYN[..len]).err(), Some(NoHeader));
        }
        let mut bytes = SYN.clone();
        bytes[12] = 0x40;
        assert_eq!(TcpSegment::new_checked(&bytes[..]).err(), Some(NoHeader));
    }

    #[test]
    fn options_that_cannot_be_read_have_no_mss() {
        let mss = |options: [u8; 8]| {
            let mut bytes = [RST_ACK.as_slice(), &options].concat();
            bytes[12] = 0x70;
            TcpSegment::new_checked(&bytes[..]).unwrap().mss()
        };
        assert_eq!(mss([1, 1, 2, 4, 5, 0xb4, 0, 0]), Some(1460));
        assert_eq!(mss([3, 3, 7, 1, 2, 4, 5, 0xb4]), Some(1460));
        assert_eq!(mss([0, 1, 2, 4, 5, 0xb4, 0, 0]), None, "behind the end");
        assert_eq!(mss([9, 0, 2, 4, 5, 0xb4, 0, 0]), None, "a length of 0 would not end");
        assert_eq!(mss([9, 1, 2, 4, 5, 0xb4, 0, 0]), None);
        assert_eq!(mss([9, 9, 2, 4, 5, 0xb4, 0, 0]), None, "longer than the header");
        assert_eq!(mss([2, 3, 5, 2, 4, 5, 0xb4, 0]), Some(1460), "an MSS of another length is none");
        assert_eq!(mss([1, 1, 1, 1, 1, 1, 2, 4]), None);
    }

    #[test]
    fn eight_octets_name_a_segment() {
        for len in 0..SYN.len() {
            let quoted = QuotedTcp { source: 0xc2a8, destination: 22, seq: 0xffd4_872a };
            assert_eq!(QuotedTcp::parse(&SYN[..len]), (len >= 8).then_some(quoted));
        }
    }
}
