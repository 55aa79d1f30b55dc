//! Bytes ↔ values: the packet formats, pure.
//!
//! Responsible for field positions, ranges and digests. Not responsible for what a packet means to
//! the one who got it ([`crate::probe::method`], [`crate::reflector`]); reads no clock and no socket.
//! Read [`stamp`] first; [`llama`] is upstream's. The headers that the kernel writes for UDP, and we for
//! what goes through raw sockets: [`ipv4`], [`ipv6`], [`tcp`], [`icmp`], with their [`checksum`].

pub mod checksum;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod llama;
mod octets;
#[cfg(test)]
mod oracle_tests;
pub mod stamp;
pub mod tcp;

/// UDP ports whose owners answer datagrams they did not ask for: the reflector ports of STAMP and
/// TWAMP Light (862), of both upstream LLAMA generations (8100, 60000), and the old echo, daytime,
/// quote, character generator and time services (7, 13, 17, 19, 37).
///
/// A reflector answers no packet that claims to come from one of these, so that two reflectors cannot
/// be made to talk to each other. Hence a prober must not use one as its source port: 60000 lies
/// within Linux' range of system-chosen ports.
pub const REFLECTOR_PORTS: [u16; 8] = [7, 13, 17, 19, 37, 862, 8100, 60000];
