//! Echo request and reply: RFC 792 p. 14, RFC 4443 §4.1 and §4.2.

use super::{HEADER_LEN, NotOne, Version};
use crate::wire::checksum::Sum;
use crate::wire::octets::{read_u16, write};
use std::net::IpAddr;

mod field {
    use std::ops::Range;

    pub const KIND: usize = 0;
    pub const CODE: usize = 1;
    pub const CHECKSUM: Range<usize> = 2..4;
    pub const IDENTIFIER: Range<usize> = 4..6;
    pub const SEQ: Range<usize> = 6..8;
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoKind {
    /// Asks.
    Request,
    /// Answers.
    Reply,
}

impl EchoKind {
    /// Its type number.
    pub const fn number(self, version: Version) -> u8 {
        match (version, self) {
            (Version::V4, EchoKind::Request) => 8,
            (Version::V4, EchoKind::Reply) => 0,
            (Version::V6, EchoKind::Request) => 128,
            (Version::V6, EchoKind::Reply) => 129,
        }
    }
}

/// A view of bytes that are an echo request or reply.
#[derive(Clone, Copy, Debug)]
pub struct EchoMessage<T> {
    bytes: T,
    version: Version,
    kind: EchoKind,
}

impl<T: AsRef<[u8]>> EchoMessage<T> {
    /// Looks at `bytes`, from the ICMP header on.
    ///
    /// # Errors
    /// Fewer than [`HEADER_LEN`], another type, or a code other than 0.
    #[inline]
    pub fn new_checked(bytes: T, version: Version) -> Result<EchoMessage<T>, NotOne> {
        let kind = match *bytes.as_ref() {
            [number, 0, _, _, _, _, _, _, ..] if number == EchoKind::Reply.number(version) => EchoKind::Reply,
            [number, 0, _, _, _, _, _, _, ..] if number == EchoKind::Request.number(version) => EchoKind::Request,
            _ => return Err(NotOne),
        };
        Ok(EchoMessage { bytes, version, kind })
    }

    /// Request or reply.
    #[inline]
    pub fn kind(&self) -> EchoKind {
        self.kind
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        read_u16(self.bytes.as_ref(), &field::CHECKSUM)
    }

    /// Identifier.
    #[inline]
    pub fn identifier(&self) -> u16 {
        read_u16(self.bytes.as_ref(), &field::IDENTIFIER)
    }

    /// Sequence number.
    #[inline]
    pub fn seq(&self) -> u16 {
        read_u16(self.bytes.as_ref(), &field::SEQ)
    }

    /// What a reply sends back as it was.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..]
    }

    /// Whether the checksum is right, over the whole message and, for ICMPv6, a pseudo header of these addresses.
    pub fn is_checksum_right(&self, source: IpAddr, destination: IpAddr) -> bool {
        covered(self.version, source, destination, self.bytes.as_ref()).is_right()
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> EchoMessage<T> {
    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        write(self.bytes.as_mut(), &field::CHECKSUM, &checksum.to_be_bytes());
    }

    /// Sets the identifier.
    #[inline]
    pub fn set_identifier(&mut self, identifier: u16) {
        write(self.bytes.as_mut(), &field::IDENTIFIER, &identifier.to_be_bytes());
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u16) {
        write(self.bytes.as_mut(), &field::SEQ, &seq.to_be_bytes());
    }

    /// The data, to be written.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER_LEN..]
    }
}

/// What an ICMP checksum covers.
fn covered(version: Version, source: IpAddr, destination: IpAddr, bytes: &[u8]) -> Sum {
    let pseudo = match version {
        Version::V4 => Sum::ZERO,
        // RFC 4443 §2.3
        Version::V6 => {
            Sum::ZERO.add_addresses(source, destination).add_protocol(version.protocol(), bytes.len() as u32)
        }
    };
    pseudo.add(bytes)
}

/// What the header of an echo says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Which ICMP.
    pub version: Version,
    /// Request or reply.
    pub kind: EchoKind,
    /// Identifier: tells senders on one host apart.
    pub identifier: u16,
    /// Sequence number.
    pub seq: u16,
}

impl Echo {
    /// Reads a header.
    pub fn parse<T: AsRef<[u8]>>(message: &EchoMessage<T>) -> Echo {
        Echo { version: message.version, kind: message.kind, identifier: message.identifier(), seq: message.seq() }
    }

    /// Writes the header in front of the data, which stands at [`HEADER_LEN`] already, checksum over all of
    /// `message` included; false, and nothing written, when it is shorter than a header.
    pub fn emit(&self, source: IpAddr, destination: IpAddr, message: &mut [u8]) -> bool {
        let Some(header) = message.get_mut(..HEADER_LEN) else { return false };
        header[field::KIND] = self.kind.number(self.version);
        header[field::CODE] = 0;
        write(header, &field::CHECKSUM, &[0, 0]);
        write(header, &field::IDENTIFIER, &self.identifier.to_be_bytes());
        write(header, &field::SEQ, &self.seq.to_be_bytes());
        let checksum = covered(self.version, source, destination, message).checksum();
        write(message, &field::CHECKSUM, &checksum.to_be_bytes());
        true
    }
}
