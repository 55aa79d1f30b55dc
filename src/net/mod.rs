//! Datagrams in and out, with kernel timestamps: every system call of the data path.
//!
//! Responsible for bytes, addresses, timestamps and the kernel's own counters. Not responsible for
//! what the bytes mean. One seam, [`Network`], with three implementations: `uring` (io_uring),
//! `mmsg` (`sendmmsg`/`recvmmsg`) and `sim` (simulated time). Read [`Network`] and [`Event`] first.

pub mod address;
pub mod ancillary;
pub mod clock_state;
#[cfg(test)]
mod conformance;
pub mod error_queue;
pub mod features;
pub mod message;
pub mod mmsg;
mod quotes;
pub mod raw;
pub mod sim;
pub mod socket;
pub mod stamp_keys;
pub mod terminal;
pub mod thread;
pub mod uring;

pub use crate::wire::icmp::{IcmpMeaning, Quoted};

use crate::time::{Monotonic, Timestamp};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// [`Event::SendFailed`]'s error number for a datagram that this host's own interface is too narrow for.
pub const TOO_LONG: i32 = nix::libc::EMSGSIZE;

/// A socket of a worker's network, by its position in the list it was opened from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u16);

/// Which datagrams of a socket get a kernel transmit timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransmitStamps {
    /// None.
    #[default]
    None,
    /// Those that ask for one ([`Outgoing::stamp`]).
    Asked,
    /// All of them; cheaper per datagram than asking for each.
    All,
}

impl TransmitStamps {
    /// Whether this datagram gets one.
    #[inline]
    pub fn covers(self, datagram: &Outgoing) -> bool {
        match self {
            TransmitStamps::None => false,
            TransmitStamps::Asked => datagram.stamp,
            TransmitStamps::All => true,
        }
    }
}

/// IPv6 flow labels (RFC 6437) of a socket's datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowLabels {
    /// As the system's settings have it: Linux makes one from the five-tuple, anew after every start.
    #[default]
    System,
    /// As each datagram says: [`Outgoing::flow_label`].
    Own,
    /// None: label 0.
    Zero,
}

/// The flow label of what goes from one of this host's ports (identifiers) to a target: the same after every start, never
/// 0; 0 for IPv4, which has none.
///
/// Routers that choose among equal paths by addresses and label alone (RFC 6438) so tell flows apart as those do that look
/// at ports.
pub fn flow_label(port: u16, to: SocketAddr) -> u32 {
    let IpAddr::V6(ip) = to.ip() else { return 0 };
    let bits = ip.to_bits();
    let ports = u64::from(port) << 16 | u64::from(to.port());
    let mixed = [(bits >> 64) as u64, bits as u64, ports].into_iter().fold(0, |so_far: u64, word| {
        let mixed = (so_far ^ word ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 29
    });
    ((mixed >> 44) as u32).max(1)
}

/// What a socket shall be like. `SocketSpec::new(bind)` and then change fields.
#[derive(Clone, Debug)]
pub struct SocketSpec {
    /// Local address; port 0 lets the system choose. The port of a raw socket means nothing.
    pub bind: SocketAddr,
    /// What its datagrams are.
    pub transport: raw::Transport,
    /// The only address it will send to: then each datagram saves a route look-up, and the kernel drops what
    /// comes from elsewhere. Where there is no route yet the socket stays unconnected.
    pub connect: Option<SocketAddr>,
    /// IPv6 flow labels.
    pub flow_labels: FlowLabels,
    /// Traffic-class byte (DSCP << 2 | ECN) of datagrams that do not name their own.
    pub traffic_class: u8,
    /// Report the traffic-class byte of received datagrams.
    pub receive_traffic_class: bool,
    /// Report TTL / hop limit of received datagrams.
    pub receive_hop_limit: bool,
    /// Report the local address a datagram came to (for sockets bound to a wildcard).
    pub receive_destination: bool,
    /// Kernel transmit timestamps.
    pub transmit_stamps: TransmitStamps,
    /// Report ICMP errors as [`Event::Icmp`].
    pub icmp_errors: bool,
    /// Share the port with other sockets (`SO_REUSEPORT`), one per worker.
    pub reuse_port: bool,
    /// An IPv6 wildcard socket that also takes IPv4.
    pub dual_stack: bool,
    /// Bytes of receive buffer asked for (the kernel doubles it); may be limited by `rmem_max`.
    pub receive_buffer: usize,
}

impl SocketSpec {
    /// A plain UDP socket bound to `bind`: class 0, no reports, no transmit stamps.
    pub fn new(bind: SocketAddr) -> SocketSpec {
        SocketSpec {
            bind,
            transport: raw::Transport::Udp,
            connect: None,
            flow_labels: FlowLabels::System,
            traffic_class: 0,
            receive_traffic_class: false,
            receive_hop_limit: false,
            receive_destination: false,
            transmit_stamps: TransmitStamps::None,
            icmp_errors: false,
            reuse_port: false,
            dual_stack: false,
            receive_buffer: 1 << 20,
        }
    }
}

/// A datagram to send, without its payload.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Which socket sends it.
    pub socket: SocketId,
    /// Destination; only UDP looks at the port.
    pub to: SocketAddr,
    /// Comes back in [`Event::Transmitted`] and [`Event::SendFailed`].
    pub key: u32,
    /// Ask for a kernel transmit timestamp (needs [`TransmitStamps::Asked`] or `All`).
    pub stamp: bool,
    /// Traffic-class byte, when other than the socket's.
    pub traffic_class: Option<u8>,
    /// Source address, when the socket is bound to a wildcard and the choice matters.
    pub from: Option<IpAddr>,
    /// IPv6 flow label, 20 bits; 0 leaves it to the socket ([`FlowLabels`]).
    pub flow_label: u32,
}

/// A datagram that came in. `payload` is only valid until the next event.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Which socket received it.
    pub socket: SocketId,
    /// Its sender; IPv4 in IPv6 is shown as IPv4. The port is 0 unless it is UDP.
    pub from: SocketAddr,
    /// The local address it came to, when the socket reports it.
    pub to: Option<IpAddr>,
    /// What follows the UDP header, or the IP header of what is not UDP.
    pub payload: &'a [u8],
    /// When it came in; `StampSource::User` when the kernel gave no stamp.
    pub at: Timestamp,
    /// The traffic-class byte, when the socket reports it.
    pub traffic_class: Option<u8>,
    /// TTL or hop limit, when the socket reports it.
    pub hop_limit: Option<u8>,
}

/// Something the network reports.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A datagram came in.
    Received(Received<'a>),
    /// The kernel transmit timestamp of the datagram sent with this key.
    Transmitted {
        /// Which socket sent it.
        socket: SocketId,
        /// [`Outgoing::key`].
        key: u32,
        /// When it left.
        at: Timestamp,
    },
    /// The datagram with this key could not be sent.
    SendFailed {
        /// Which socket should have sent it.
        socket: SocketId,
        /// [`Outgoing::key`].
        key: u32,
        /// The error number.
        errno: i32,
    },
    /// This host's own interface carries no datagram as long as one of this socket's was; its [`Event::SendFailed`]
    /// with [`TOO_LONG`] comes before.
    TooBigHere {
        /// Which socket should have sent it.
        socket: SocketId,
        /// Where the datagram was going.
        to: IpAddr,
        /// What the interface carries, bytes with the IP header.
        mtu: u32,
    },
    /// An ICMP error came back for a datagram of this socket.
    Icmp {
        /// Which socket sent the datagram.
        socket: SocketId,
        /// Where the datagram was going; the port is 0 unless it was UDP.
        to: SocketAddr,
        /// The node that sent the error, when known.
        reporter: Option<IpAddr>,
        /// What the error means.
        meaning: IcmpMeaning,
        /// The start of the quoted datagram, as it was handed over; may be empty (RFC 792 quotes 8 bytes past the IP
        /// header, which are UDP's).
        quoted: &'a [u8],
    },
    /// What an ICMP error quotes of a packet of another of this host's sockets, its IP header included, came to a socket
    /// for that ([`raw::Transport::Quotes`]). The other socket reports the error itself.
    Quoted {
        /// Where the packet was going, as quoted; the port is 0.
        to: SocketAddr,
        /// The node that sent the error.
        reporter: IpAddr,
        /// The packet as that node saw it.
        packet: Quoted<'a>,
    },
}

/// How long [`Network::wait`] waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: hand over what is queued, collect what is there.
    No,
    /// Until the instant; events that come earlier do not end it.
    Until(Monotonic),
    /// Like `Until`, but busy: for waits shorter than a sleep costs. What is queued leaves first.
    SpinUntil(Monotonic),
    /// Until the first event, at the latest until the instant.
    EventOrUntil(Monotonic),
}

/// What the network itself has lost or met; counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Datagrams the sockets dropped because their receive buffer was full (`SO_RXQ_OVFL`).
    pub local_drops: u64,
    /// Datagrams too long for a receive buffer, dropped.
    pub truncated: u64,
    /// Datagrams received without a kernel timestamp.
    pub unstamped: u64,
    /// Times a multishot receive had to be armed again.
    pub rearmed: u64,
    /// Times the completion queue overflowed.
    pub ring_overflows: u64,
    /// Receive calls that failed for a reason that is not one of the above.
    pub receive_errors: u64,
}

impl NetCounters {
    /// Adds those of another network.
    pub fn add(&mut self, other: &NetCounters) {
        // taken apart by name, so that a new counter cannot be forgotten here
        let NetCounters { local_drops, truncated, unstamped, rearmed, ring_overflows, receive_errors } = other;
        self.local_drops += local_drops;
        self.truncated += truncated;
        self.unstamped += unstamped;
        self.rearmed += rearmed;
        self.ring_overflows += ring_overflows;
        self.receive_errors += receive_errors;
    }
}

/// Sizes of a network's queues; its memory is a sum of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams handed to the kernel at once, a power of two, at most 4096.
    pub batch: u16,
    /// Datagrams received and not yet looked at, a power of two, at most 32768.
    pub buffers: u16,
    /// Longest payload sent or received, bytes; longer ones are dropped and counted.
    pub datagram: usize,
}

impl Limits {
    /// Completions that may wait: a receive and a transmit stamp per buffer, and every send failing.
    pub fn completions(&self) -> u32 {
        (2 * u32::from(self.buffers) + u32::from(self.batch)).next_power_of_two().min(65_536)
    }
}

/// The sending half of a network.
pub trait Outbox {
    /// Queues a datagram; `write` fills its payload and returns the length.
    ///
    /// When the queue is full, what is queued is handed to the kernel first: the call does not
    /// wait, and it does not fail for want of room. A datagram that the kernel refuses comes back
    /// as [`Event::SendFailed`]. On sockets that report ICMP errors a datagram that the kernel refused
    /// for an earlier one's error is sent again, if no more than [`Limits::batch`] were sent since
    /// the last drain; else it fails too.
    fn send(&mut self, datagram: &Outgoing, write: impl FnOnce(&mut [u8]) -> usize);
}

/// A worker's sockets, as one object.
pub trait Network {
    /// The sending half, also handed to the callback of [`Network::drain`].
    type Outbox: Outbox;

    /// The sending half.
    fn outbox(&mut self) -> &mut Self::Outbox;

    /// Hands queued datagrams to the kernel and waits.
    ///
    /// # Errors
    /// Only what ends the worker: the ring or a socket is broken.
    fn wait(&mut self, wait: Wait) -> io::Result<()>;

    /// Calls `on` for every event that is there.
    fn drain(&mut self, on: impl FnMut(&mut Self::Outbox, Event<'_>));

    /// The local addresses of the sockets, by [`SocketId`].
    fn local_addresses(&self) -> &[SocketAddr];

    /// The network's own counters.
    fn counters(&self) -> NetCounters;
}
