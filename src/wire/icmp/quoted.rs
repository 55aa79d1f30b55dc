//! The packet in an ICMP error: what it was, as far as it is quoted.

use super::{Echo, EchoKind, EchoMessage, Version};
use crate::wire::ipv4::Ipv4Packet;
use crate::wire::ipv6::{self, Ipv6Packet};
use crate::wire::tcp::{self, QuotedTcp};
use std::net::IpAddr;

/// UDP's number in IP headers.
const UDP: u8 = 17;

/// A quoted packet. Its fields are as the node saw them that sent the error, not as they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The byte with DSCP and ECN.
    pub traffic_class: u8,
    /// TTL or hop limit that was left.
    pub hop_limit: u8,
    /// What the packet carried, extension headers of IPv6 passed over.
    pub protocol: u8,
    /// The start of what it carried; RFC 792 promises eight octets. Empty for a later fragment.
    pub upper: &'a [u8],
}

impl<'a> Quoted<'a> {
    pub(super) fn parse(bytes: &'a [u8], version: Version) -> Option<Quoted<'a>> {
        match version {
            Version::V4 => {
                let packet = Ipv4Packet::new_checked(bytes).ok()?;
                let end = bytes.len().min(usize::from(packet.total_len()));
                let upper = &bytes[packet.header_len()..end];
                Some(Quoted {
                    source: packet.source().into(),
                    destination: packet.destination().into(),
                    traffic_class: packet.traffic_class(),
                    hop_limit: packet.hop_limit(),
                    protocol: packet.protocol(),
                    upper: if packet.fragment_offset() == 0 { upper } else { &[] },
                })
            }
            Version::V6 => {
                let packet = Ipv6Packet::new_checked(bytes).ok()?;
                let end = bytes.len().min(ipv6::HEADER_LEN + usize::from(packet.payload_len()));
                let upper = ipv6::upper_layer(packet.next_header(), &bytes[ipv6::HEADER_LEN..end])?;
                Some(Quoted {
                    source: packet.source().into(),
                    destination: packet.destination().into(),
                    traffic_class: packet.traffic_class(),
                    hop_limit: packet.hop_limit(),
                    protocol: upper.protocol,
                    upper: if upper.fragment_offset == 0 { upper.bytes } else { &[] },
                })
            }
        }
    }

    /// Source and destination port, of TCP and UDP.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match (self.protocol, self.upper) {
            (tcp::PROTOCOL | UDP, [s0, s1, d0, d1, ..]) => {
                Some((u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1])))
            }
            _ => None,
        }
    }

    /// Ports and sequence number of a TCP segment.
    pub fn tcp(&self) -> Option<QuotedTcp> {
        if self.protocol == tcp::PROTOCOL { QuotedTcp::parse(self.upper) } else { None }
    }

    /// Identifier and sequence number of an echo request.
    pub fn echo_request(&self) -> Option<Echo> {
        let version = Version::of(self.source);
        if self.protocol != version.protocol() {
            return None;
        }
        let message = EchoMessage::new_checked(self.upper, version).ok()?;
        (message.kind() == EchoKind::Request).then(|| Echo::parse(&message))
    }
}
