//! What a flow's addresses have to do with its probes' bytes.

use crate::probe::Seq;
use crate::wire::checksum::Sum;
use crate::wire::icmp::Version;
use std::net::{IpAddr, SocketAddr};

/// Ports of a flow, or what stands for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Ours: source port of probes; the identifier of echo requests.
    pub local: u16,
    /// The target's: destination port of probes; 0 with ICMP.
    pub remote: u16,
}

/// What of a flow's addresses goes into the bytes of its probes: made once per flow, small enough to lie beside
/// whatever else is needed to send.
///
/// UDP's header is the kernel's, so methods over UDP need none of it. A TCP segment starts with the ports, and
/// its checksum covers the addresses; so does ICMPv6's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// The ports.
    pub ports: Ports,
    /// Both addresses' part of a pseudo header's sum.
    addresses: u16,
    version: Version,
}

impl Addressing {
    /// Of probes from `local` to `remote`: for TCP both ports count, for ICMP the port of `local` is the
    /// identifier. Both addresses must be of one family, and `local` the one the probes leave with, not a
    /// wildcard: it is in the checksum.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Addressing {
        Addressing {
            ports: Ports { local: local.port(), remote: remote.port() },
            addresses: Sum::ZERO.add_addresses(local.ip(), remote.ip()).folded(),
            version: Version::of(remote.ip()),
        }
    }

    #[inline]
    pub(super) fn version(&self) -> Version {
        self.version
    }

    #[inline]
    pub(super) fn addresses(&self) -> u16 {
        self.addresses
    }
}

/// Where a packet that came in says it comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Source address.
    pub from: IpAddr,
    /// Destination address: ours.
    pub to: IpAddr,
}

/// Which probe an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Its sequence number.
    pub seq: Seq,
    /// Its flow's ports, when the quoted bytes hold them.
    pub ports: Option<Ports>,
}
