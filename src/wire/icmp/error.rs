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
