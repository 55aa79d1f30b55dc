//! What probes look like and when they are due, as values without optional parts.

use std::sync::Arc;

/// Differentiated services code point, 0 to 63 (RFC 2474).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dscp(pub u8);

impl Dscp {
    /// The traffic-class byte with this code point and ECN 0.
    pub fn traffic_class(self) -> u8 {
        self.0 << 2
    }
}

/// How a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MethodKind {
    /// STAMP test packets over UDP (RFC 8762).
    Udp,
    /// TCP SYN segments; needs no agent.
    TcpSyn,
    /// ICMP echo requests; needs no agent.
    Icmp,
}

/// When the probes of a test are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// Spread evenly over the cycle.
    Periodic,
    /// Exponential gaps with the same mean (RFC 2330 §11.1.1).
    Poisson,
}

/// Which probes get a kernel transmit timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampPolicy {
    /// All while it costs little, one in N above.
    Auto,
    /// Every probe.
    All,
    /// One probe in N, N ≥ 2.
    OneIn(u32),
    /// None: T1 is taken in user space.
    Off,
}

/// A shared secret for authenticated STAMP; does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a probe looks like; one per `ports` entry of the configuration.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Name of the `ports` entry.
    pub port_name: String,
    /// How it asks.
    pub method: MethodKind,
    /// Its class.
    pub dscp: Dscp,
    /// UDP payload bytes, 44 or more (112 or more with a key); octets of an ICMP echo's data, 8 or more; without
    /// meaning for TCP.
    pub size: u16,
    /// Which probes are stamped on transmit.
    pub stamps: StampPolicy,
    /// Authenticated mode when present.
    pub key: Option<Arc<Key>>,
}
