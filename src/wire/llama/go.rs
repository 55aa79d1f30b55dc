//! The Go generation's probe, a protobuf 3 message, without allocation.
//!
//! ```text
//! 1 signature bytes   2 tos bytes   3 sent uint64   4 rcvd uint64   5 rtt uint64   6 lost bool   7 padding bytes
//! ```
//! `signature` is ten octets, `tos` one, `sent` nanoseconds since 1970. A fork carries `tos` as a varint: both are
//! read. Decoding follows the protobuf encoding as [prost] does it: defaults may be absent, unknown fields are
//! skipped, the last value of a field wins, a known field of another wire type is an error.
//!
//! [prost]: https://docs.rs/prost

use super::SIGNATURE_LEN;

/// The first octets of every probe: the key of field 1 and the length of its ten octets.
pub const START: [u8; 2] = [0x0a, SIGNATURE_LEN as u8];
/// Padding of the Go collector's probes, zeros.
pub const PADDING: usize = 1000;
/// Octets of the Go collector's probes: 28 and [`PADDING`].
pub const USUAL_LEN: usize = field::PADDING_LEN + 2 + PADDING;
/// Groups within groups that are skipped at most, as in prost.
const DEEPEST: usize = 100;

mod field {
    use std::ops::Range;

    // where a collector's fields are when encoded in their order, keys left out
    pub const SIGNATURE: Range<usize> = 2..12;
    pub const TOS: usize = 14;
    /// A varint of nine octets: from 1972 to 2262 an instant in nanoseconds has so many.
    pub const SENT: Range<usize> = 16..25;
    pub const PADDING_LEN: usize = 26;
}

/// Why bytes are not a probe's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// A field goes on behind the end.
    #[error("a field is longer than the packet")]
    Truncated,
    /// A varint above 64 bits.
    #[error("a varint is longer than 64 bits")]
    LongVarint,
    /// A key that there cannot be, a field of another type, or a group that is not closed as it was opened.
    #[error("a field is not what it can be")]
    Malformed,
}

/// What a probe says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe<'a> {
    /// What the collector knows it by; ten octets in a valid one.
    pub signature: &'a [u8],
    /// The traffic-class byte the reply shall have: the first octet of field 2, of a varint the lowest; `None` when
    /// there is none, which no reflector of upstream's survives.
    pub tos: Option<u8>,
    /// When the collector sent it, ns since 1970.
    pub sent: u64,
    /// When the collector received the reply; 0 on the wire.
    pub rcvd: u64,
    /// Round-trip time; 0 on the wire.
    pub rtt: u64,
    /// Whether the collector took it for lost; false on the wire.
    pub lost: bool,
    /// What makes it long.
    pub padding: &'a [u8],
}

impl<'a> Probe<'a> {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// What is wrong with the first field that cannot be read.
    pub fn parse(bytes: &'a [u8]) -> Result<Probe<'a>, Undecodable> {
        let mut probe = Probe::default();
        let mut left = Fields { left: bytes };
        while !left.left.is_empty() {
            match left.key()? {
                (1, Wire::Bytes) => probe.signature = left.bytes()?,
                (2, Wire::Bytes) => probe.tos = left.bytes()?.first().copied(),
                (2, Wire::Varint) => probe.tos = Some(left.varint()? as u8),
                (3, Wire::Varint) => probe.sent = left.varint()?,
                (4, Wire::Varint) => probe.rcvd = left.varint()?,
                (5, Wire::Varint) => probe.rtt = left.varint()?,
                (6, Wire::Varint) => probe.lost = left.varint()? != 0,
                (7, Wire::Bytes) => probe.padding = left.bytes()?,
                (1..=7, _) => return Err(Undecodable::Malformed),
                (number, Wire::Group) => left.skip_group(number)?,
                (_, wire) => left.skip(wire)?,
            }
        }
        Ok(probe)
    }
}

/// How a field's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Varint,
    Eight,
    Bytes,
    Group,
    EndOfGroup,
    Four,
}

/// The part of a message that is not read yet.
struct Fields<'a> {
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    fn varint(&mut self) -> Result<u64, Undecodable> {
        const LONGEST: usize = 10;
        let mut value = 0;
        for (place, &byte) in self.left.iter().take(LONGEST).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                if place == LONGEST - 1 && byte > 1 {
                    return Err(Undecodable::LongVarint);
                }
                self.left = &self.left[place + 1..];
                return Ok(value);
            }
        }
        Err(if self.left.len() < LONGEST { Undecodable::Truncated } else { Undecodable::LongVarint })
    }

    /// A field's number, 1 or more, and how its value is written.
    #[inline]
    fn key(&mut self) -> Result<(u32, Wire), Undecodable> {
        let key = u32::try_from(self.varint()?).map_err(|_| Undecodable::Malformed)?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Eight,
            2 => Wire::Bytes,
            3 => Wire::Group,
            4 => Wire::EndOfGroup,
            5 => Wire::Four,
            _ => return Err(Undecodable::Malformed),
        };
        if key >> 3 == 0 { Err(Undecodable::Malformed) } else { Ok((key >> 3, wire)) }
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], Undecodable> {
        let len = usize::try_from(len).map_err(|_| Undecodable::Truncated)?;
        let (taken, left) = self.left.split_at_checked(len).ok_or(Undecodable::Truncated)?;
        self.left = left;
        Ok(taken)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Undecodable> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Passes over the value of an unknown field that is no group.
    fn skip(&mut self, wire: Wire) -> Result<(), Undecodable> {
        match wire {
            Wire::Varint => self.varint().map(|_| ()),
            Wire::Eight => self.take(8).map(|_| ()),
            Wire::Four => self.take(4).map(|_| ()),
            Wire::Bytes => self.bytes().map(|_| ()),
            Wire::Group | Wire::EndOfGroup => Err(Undecodable::Malformed),
        }
    }

    /// Passes over the rest of a group, and the groups in it.
    #[cold]
    fn skip_group(&mut self, number: u32) -> Result<(), Undecodable> {
        let mut open = [number; DEEPEST];
        let mut depth = 1;
        while depth > 0 {
            match self.key()? {
                (number, Wire::EndOfGroup) if number == open[depth - 1] => depth -= 1,
                _ if depth == DEEPEST => return Err(Undecodable::Malformed),
                (number, Wire::Group) => {
                    open[depth] = number;
                    depth += 1;
                }
                (_, wire) => self.skip(wire)?,
            }
        }
        Ok(())
    }
}

/// Too few bytes for a probe, or more than its padding can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a probe has {} to {} bytes", SentProbe::<&[u8]>::LEAST_LEN, SentProbe::<&[u8]>::MOST_LEN)]
pub struct WrongLength;

/// A view of bytes that are filled by a probe as a collector sends it: `signature`, `tos`, `sent` and `padding`
/// in this order, so that the first three are always at the same places.
#[derive(Clone, Copy, Debug)]
pub struct SentProbe<T> {
    bytes: T,
}

impl<T> SentProbe<T> {
    /// With a padding of no octets.
    pub const LEAST_LEN: usize = field::PADDING_LEN + 1;
    /// With the longest padding whose length is a varint of two octets.
    pub const MOST_LEN: usize = field::PADDING_LEN + 2 + 0x3fff;
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> SentProbe<T> {
    /// Looks at `bytes` as room for a probe of exactly that length.
    ///
    /// # Errors
    /// Fewer than [`SentProbe::LEAST_LEN`], more than [`SentProbe::MOST_LEN`].
    #[inline]
    pub fn new_checked(bytes: T) -> Result<SentProbe<T>, WrongLength> {
        let fits = (Self::LEAST_LEN..=Self::MOST_LEN).contains(&bytes.as_ref().len());
        if fits { Ok(SentProbe { bytes }) } else { Err(WrongLength) }
    }

    /// Sets what the collector will know it by.
    #[inline]
    pub fn set_signature(&mut self, signature: &[u8; SIGNATURE_LEN]) {
        self.bytes.as_mut()[field::SIGNATURE].copy_from_slice(signature);
    }

    /// Sets the traffic-class byte of the reply.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.bytes.as_mut()[field::TOS] = tos;
    }

    /// Sets when it is sent, ns since 1970; the highest bit, needed from 2262 on, is lost.
    #[inline]
    pub fn set_sent(&mut self, sent: u64) {
        let bytes = &mut self.bytes.as_mut()[field::SENT];
        let last = bytes.len() - 1;
        for (place, byte) in bytes.iter_mut().enumerate() {
            let more = if place < last { 0x80 } else { 0 };
            *byte = (sent >> (7 * place)) as u8 & 0x7f | more;
        }
    }

    /// Writes keys, lengths and the padding: all but the values of the three fields.
    fn set_frame(&mut self) {
        let bytes = self.bytes.as_mut();
        bytes[..2].copy_from_slice(&START);
        bytes[field::TOS - 2..field::TOS].copy_from_slice(&[0x12, 1]);
        bytes[field::SENT.start - 1] = 0x18;
        let (head, padding) = bytes.split_at_mut(field::PADDING_LEN);
        head[field::PADDING_LEN - 1] = 0x3a;
        padding.fill(0);
        // 128 octets are a length of one octet and 127; of 129 the length takes two, though one would do for 127
        match padding.len() - 1 {
            len @ 0..=0x7f => padding[0] = len as u8,
            more => {
                let len = more - 1;
                padding[0] = len as u8 & 0x7f | 0x80;
                padding[1] = (len >> 7) as u8;
            }
        }
    }
}

/// What a collector sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What the collector knows it by.
    pub signature: [u8; SIGNATURE_LEN],
    /// The traffic-class byte of the reply.
    pub tos: u8,
    /// When, ns since 1970, up to the year 2262.
    pub sent: u64,
}

impl Sent {
    /// Writes the whole probe, padded with zeros to the packet's length.
    pub fn emit<T: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut SentProbe<T>) {
        packet.set_frame();
        packet.set_signature(&self.signature);
        packet.set_tos(self.tos);
        packet.set_sent(self.sent);
    }
}

#[cfg(test)]
#[path = "go_tests.rs"]
mod tests;
