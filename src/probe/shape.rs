//! What probes look like and when they are due, as values without optional parts.

use crate::wire::llama::{go, python};
use crate::wire::stamp::{Mode, digest, tlv};
use crate::wire::tcp;
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
    /// Probes of upstream's Go generation.
    Llama,
    /// Probes of upstream's Python generation.
    LlamaPython,
    /// TCP SYN segments; needs no agent.
    TcpSyn,
    /// ICMP echo requests; needs no agent.
    Icmp,
}

impl MethodKind {
    /// All of them.
    pub const ALL: [MethodKind; 5] =
        [MethodKind::Udp, MethodKind::Llama, MethodKind::LlamaPython, MethodKind::TcpSyn, MethodKind::Icmp];

    /// Its name in configurations and in every output.
    pub const fn name(self) -> &'static str {
        match self {
            MethodKind::Udp => "udp",
            MethodKind::Llama => "llama",
            MethodKind::LlamaPython => "llama-python",
            MethodKind::TcpSyn => "tcp-syn",
            MethodKind::Icmp => "icmp",
        }
    }

    /// Whether its probes are UDP datagrams, which need no privilege.
    pub const fn is_udp(self) -> bool {
        matches!(self, MethodKind::Udp | MethodKind::Llama | MethodKind::LlamaPython)
    }

    /// Which bytes of payload a probe may have, with a key or without, and has when not told.
    pub fn sizes(self, keyed: bool) -> Sizes {
        let (least, most, usual) = match self {
            MethodKind::Udp if keyed => (Mode::Authenticated.base_len(), LONGEST, Mode::Authenticated.base_len()),
            MethodKind::Udp => (Mode::Open.base_len(), LONGEST, Mode::Open.base_len()),
            MethodKind::Llama => (go::SentProbe::<&[u8]>::LEAST_LEN, LONGEST, go::USUAL_LEN),
            MethodKind::LlamaPython => (python::LEN, python::LEN, python::LEN),
            MethodKind::TcpSyn => (0, 0, 0),
            MethodKind::Icmp => (LEAST_ECHO, LONGEST, USUAL_ECHO),
        };
        Sizes { least: least as u16, most: most as u16, usual: usual as u16 } // all below LONGEST
    }

    /// Bytes between the IP header and the payload: UDP's or ICMP's header, or a SYN's with its option.
    pub const fn header_len(self) -> usize {
        match self {
            MethodKind::TcpSyn => tcp::HEADER_LEN + tcp::MSS_LEN,
            _ => 8,
        }
    }
}

/// Payload of a probe at most: a reflector answers none that is longer, and a jumbo frame carries no more.
pub const LONGEST: usize = 9000;
/// Data of an echo at least: they say which probe it is.
pub const LEAST_ECHO: usize = 8;
/// Data of an echo when not told: what ping(8) sends, so that the two compare.
const USUAL_ECHO: usize = 56;

/// Bytes of the shortest STAMP probe with room for the reflector's report of its class: the base packet, a Class of Service
/// TLV, and with a key the TLVs' HMAC.
pub const fn report_len(keyed: bool) -> u16 {
    let (mode, hmac) = match keyed {
        true => (Mode::Authenticated, tlv::HEADER_LEN + digest::LEN),
        false => (Mode::Open, 0),
    };
    (mode.base_len() + tlv::HEADER_LEN + tlv::ClassOfService::LEN + hmac) as u16
}

/// Whether probes ask the reflector which class reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Where there is room; probes of a class other than 0 are made long enough when no size is told.
    #[default]
    Auto,
    /// Always; a size without room is a mistake.
    On,
    /// Never: as short as can be, for reflectors that do not like what they do not know.
    Off,
}

impl Verify {
    /// All of them, with their names in configurations.
    pub const NAMES: [(Verify, &'static str); 3] = [(Verify::Auto, "auto"), (Verify::On, "on"), (Verify::Off, "off")];

    /// Whether a probe of this size asks.
    pub fn asks(self, method: MethodKind, keyed: bool, size: u16) -> bool {
        self != Verify::Off && method == MethodKind::Udp && size >= report_len(keyed)
    }

    /// The size of probes when none is told.
    pub fn usual_size(self, method: MethodKind, keyed: bool, classes: &[Dscp]) -> u16 {
        let asks = method == MethodKind::Udp
            && match self {
                Verify::Auto => classes.iter().any(|class| *class != Dscp::default()),
                Verify::On => true,
                Verify::Off => false,
            };
        if asks { report_len(keyed) } else { method.sizes(keyed).usual }
    }
}

/// Sizes of a method's probes, bytes of payload: of UDP, or of an echo's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// At least.
    pub least: u16,
    /// At most.
    pub most: u16,
    /// When not told.
    pub usual: u16,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Name of the `ports` entry.
    pub port_name: String,
    /// How it asks.
    pub method: MethodKind,
    /// Its class.
    pub dscp: Dscp,
    /// Bytes of payload, within [`MethodKind::sizes`]; of an ICMP echo its data.
    pub size: u16,
    /// Which probes are stamped on transmit.
    pub stamps: StampPolicy,
    /// Authenticated mode when present.
    pub key: Option<Arc<Key>>,
    /// Ask the reflector which class reached it; only method `udp`, and only a size of [`report_len`] or more.
    pub class_report: bool,
}
