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
    pseudo.add_bytes(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::octets::capture::hex;

    // what Linux sent and answered
    const REQUEST: &str = "08002421 42420007 61626364 65666768";
    const REPLY: &str = "00002c21 42420007 61626364 65666768";
    const REQUEST_V6: &str = "80005062 42420007 61626364 65666768";
    const REPLY_V6: &str = "81004f62 42420007 61626364 65666768";

    fn host(version: Version) -> IpAddr {
        let text = match version {
            Version::V4 => "192.0.2.1",
            Version::V6 => "2001:db8::1",
        };
        text.parse().unwrap()
    }

    fn captured() -> [(Vec<u8>, Echo); 4] {
        let all = [
            (REQUEST, Version::V4, EchoKind::Request),
            (REPLY, Version::V4, EchoKind::Reply),
            (REQUEST_V6, Version::V6, EchoKind::Request),
            (REPLY_V6, Version::V6, EchoKind::Reply),
        ];
        all.map(|(text, version, kind)| (hex(text), Echo { version, kind, identifier: 0x4242, seq: 7 }))
    }

    #[test]
    fn take_apart() {
        for (bytes, Echo { version, kind, .. }) in captured() {
            let message = EchoMessage::new_checked(&bytes[..], version).unwrap();
            assert_eq!((message.kind(), message.identifier(), message.seq()), (kind, 0x4242, 7));
            assert_eq!(message.checksum().to_be_bytes(), bytes[2..4]);
            assert_eq!(message.data(), b"abcdefgh");
            assert!(message.is_checksum_right(host(version), host(version)));
            let elsewhere = match version {
                Version::V4 => "192.0.2.2",
                Version::V6 => "2001:db8::2",
            };
            // ICMPv6's covers the addresses
            let elsewhere = message.is_checksum_right(elsewhere.parse().unwrap(), host(version));
            assert_eq!(elsewhere, version == Version::V4);
        }
    }

    #[test]
    fn build() {
        for (bytes, Echo { version, .. }) in captured() {
            let mut built = [0xa5; 16];
            built[..2].copy_from_slice(&bytes[..2]);
            let mut message = EchoMessage::new_checked(&mut built[..], version).unwrap();
            message.set_identifier(0x4242);
            message.set_seq(7);
            message.data_mut().copy_from_slice(b"abcdefgh");
            message.set_checksum(u16::from_be_bytes([bytes[2], bytes[3]]));
            assert_eq!(built, bytes[..]);
        }
    }

    #[test]
    fn parse() {
        for (bytes, echo) in captured() {
            assert_eq!(Echo::parse(&EchoMessage::new_checked(&bytes[..], echo.version).unwrap()), echo);
        }
    }

    #[test]
    fn emit() {
        for (bytes, echo) in captured() {
            let mut emitted = [0xa5; 16];
            emitted[HEADER_LEN..].copy_from_slice(b"abcdefgh");
            assert!(echo.emit(host(echo.version), host(echo.version), &mut emitted));
            assert_eq!(emitted, bytes[..]);

            let mut short = [0xa5; 7];
            assert!(!echo.emit(host(echo.version), host(echo.version), &mut short));
            assert_eq!(short, [0xa5; 7]);
        }
    }

    #[test]
    fn what_is_no_echo_is_refused() {
        for (bytes, Echo { version, .. }) in captured() {
            let other = match version {
                Version::V4 => Version::V6,
                Version::V6 => Version::V4,
            };
            assert_eq!(EchoMessage::new_checked(&bytes[..], other).err(), Some(NotOne));
            for len in 0..HEADER_LEN {
                assert_eq!(EchoMessage::new_checked(&bytes[..len], version).err(), Some(NotOne));
            }
            let mut coded = bytes.clone();
            coded[1] = 1;
            assert_eq!(EchoMessage::new_checked(&coded[..], version).err(), Some(NotOne));
        }
    }
}
