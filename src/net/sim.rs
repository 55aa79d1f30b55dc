//! A simulated network in simulated time, behind the same seam as the real ones.
//!
//! Responsible for delay, loss, duplication, reordering, class rewriting, ICMP errors, the prober's clock
//! and its shortcomings; everything decided by a seed. Not responsible for what the bytes mean: a peer is a
//! closure from a datagram to its answer. Read [`SimNetwork`], [`Link`] and [`Host`] first.
//!
//! Time only passes in [`Network::wait`]: it moves the [`SimClock`] to the next event or to the deadline, so a
//! day of probing runs as fast as its packets can be counted, and every run with one seed is the same.

use super::{
    Event, IcmpMeaning, NetCounters, Network, Outbox, Outgoing, Received, SocketId, SocketSpec, TransmitStamps, Wait,
};
use crate::probe::random::Random;
use crate::time::{Clock, Delay, Monotonic, StampSource, Timestamp, Wall};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Longest payload of a simulated datagram, bytes.
pub const LONGEST: usize = 2048;
/// First port given to a socket that is bound to port 0.
const FIRST_PORT: u16 = 40_000;
/// Time that a wait without waiting takes, so that a caller that spins does not stand still, ns.
const SPIN_NS: u64 = 1_000;
const HOP_LIMIT: u8 = 64;

/// The prober's clocks. Clones show the same time; only [`SimNetwork`] moves it.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Instants>);

#[derive(Debug)]
struct Instants {
    monotonic: AtomicU64,
    /// Wall clock minus monotonic, modulo 2^64.
    offset: AtomicU64,
}

impl SimClock {
    /// A clock that shows these two instants now.
    pub fn new(monotonic: Monotonic, wall: Wall) -> SimClock {
        SimClock(Arc::new(Instants {
            monotonic: AtomicU64::new(monotonic.0),
            offset: AtomicU64::new(wall.0.wrapping_sub(monotonic.0)),
        }))
    }

    fn set(&self, monotonic: u64) {
        self.0.monotonic.store(monotonic, Relaxed);
    }

    fn step(&self, by: Delay) {
        self.0.offset.fetch_add(by.0 as u64, Relaxed);
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.monotonic.load(Relaxed))
    }

    fn wall(&self) -> Wall {
        Wall(self.0.monotonic.load(Relaxed).wrapping_add(self.0.offset.load(Relaxed)))
    }
}

/// What is added to a link's delay, anew for every datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Jitter {
    /// Nothing.
    #[default]
    None,
    /// 0 to so many ns, all equally likely.
    Uniform(u64),
    /// Exponentially distributed, with this mean in ns.
    Exponential(u64),
}

/// Which datagrams a link drops.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with this probability.
    Random(f64),
    /// The k-th, the 2k-th, … of those it applies to.
    Every(u64),
}

/// One direction of a way. All instants are ns since the start of the simulation.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// What every datagram takes, ns.
    pub delay_ns: u64,
    /// What some take more. Datagrams may overtake each other.
    pub jitter: Jitter,
    /// What is dropped.
    pub loss: Loss,
    /// Restricts `loss` to flows with these source ports of the prober: one broken path of many.
    pub loss_ports: Option<RangeInclusive<u16>>,
    /// When everything is dropped.
    pub outages: Vec<Range<u64>>,
    /// The k-th, the 2k-th, … datagram that passes arrives twice.
    pub duplicate_every: Option<u64>,
    /// The k-th, the 2k-th, … datagram that passes is held back, by so many ns.
    pub hold_every: Option<(u64, u64)>,
    /// The traffic-class byte every datagram arrives with.
    pub rewrite_class: Option<u8>,
}

/// A destination: two links, a clock, and the time it takes to answer.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// To the peer.
    pub forward: Link,
    /// And back.
    pub reverse: Link,
    /// From a datagram's arrival at the peer to its answer's departure, ns.
    pub residence_ns: u64,
    /// The peer's clock minus the prober's at the start, ns. It runs on when the prober's steps.
    pub clock_offset_ns: i64,
    /// The peer answers with this ICMP error in place of asking the closure.
    pub icmp: Option<IcmpMeaning>,
}

/// What becomes of the transmit stamps that are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StampQuality {
    /// From departure to the stamp being there for the prober, ns: more than a round trip lets replies come first.
    pub delay_ns: u64,
    /// The k-th, the 2k-th, … never comes.
    pub missing_every: Option<u64>,
    /// The k-th, the 2k-th, … comes twice.
    pub twice_every: Option<u64>,
}

impl Default for StampQuality {
    fn default() -> StampQuality {
        StampQuality { delay_ns: 1_000, missing_every: None, twice_every: None }
    }
}

/// The prober's host. All instants are ns since the start of the simulation.
#[derive(Clone, Debug)]
pub struct Host {
    /// From the send call to the wire (and its transmit stamp), ns.
    pub send_delay_ns: u64,
    /// Transmit stamps.
    pub stamps: StampQuality,
    /// Whether the kernel stamps what comes in; else it is stamped when it is drained.
    pub receive_stamps: bool,
    /// Datagrams that fit into the receive buffers of all sockets; more are dropped and counted.
    pub receive_buffer: usize,
    /// When the prober is not scheduled: a wait that would end inside ends at the range's end.
    pub stalls: Vec<Range<u64>>,
    /// When its wall clock steps, and by how much.
    pub clock_steps: Vec<(u64, Delay)>,
    /// The k-th, the 2k-th, … send fails with `ENOBUFS`.
    pub send_fails_every: Option<u64>,
}

impl Default for Host {
    fn default() -> Host {
        Host {
            send_delay_ns: 0,
            stamps: StampQuality::default(),
            receive_stamps: true,
            receive_buffer: 4096,
            stalls: Vec::new(),
            clock_steps: Vec::new(),
            send_fails_every: None,
        }
    }
}

/// A datagram at a peer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// When it came, by the peer's clock: T2.
    pub at: Wall,
    /// When an answer will leave, by the peer's clock: T3.
    pub leaves: Wall,
    /// The prober's address.
    pub from: SocketAddr,
    /// The peer's address.
    pub to: SocketAddr,
    /// The UDP payload.
    pub bytes: &'a [u8],
    /// The traffic-class byte it came with.
    pub traffic_class: u8,
}

/// What a peer does: the answer's payload, or none. The answer leaves with the class the datagram came with.
pub type Peer = Box<dyn FnMut(&Arrival<'_>) -> Option<Vec<u8>> + Send>;

/// What has happened on the wire: the truth that results are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Datagrams the prober sent.
    pub sent: u64,
    /// Dropped on the way to a peer.
    pub dropped_forward: u64,
    /// Dropped on the way back.
    pub dropped_reverse: u64,
    /// Doubled, either way.
    pub doubled: u64,
    /// Answers that peers gave.
    pub answered: u64,
    /// Transmit stamps withheld.
    pub stamps_withheld: u64,
}

#[derive(Debug)]
struct Socket {
    address: SocketAddr,
    spec: SocketSpec,
}

impl Socket {
    fn open(spec: &SocketSpec, next_port: &mut u16) -> Socket {
        let ip = match spec.bind.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        };
        let port = if spec.bind.port() == 0 { *next_port } else { spec.bind.port() };
        *next_port += 1;
        Socket { address: SocketAddr::new(ip, port), spec: spec.clone() }
    }
}

struct Destination {
    way: Way,
    peer: Peer,
    forward_seen: Seen,
    reverse_seen: Seen,
}

/// Datagrams of a link so far.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    lossy: u64,
    passed: u64,
}

/// Something that will happen.
#[derive(Debug)]
enum Pending {
    Arrive { socket: SocketId, to: SocketAddr, bytes: Vec<u8>, traffic_class: u8 },
    Come(Ready),
    Step(Delay),
}

/// Something the prober can drain. Stamps of what comes in are set when it does.
#[derive(Clone, Debug)]
enum Ready {
    Datagram { socket: SocketId, from: SocketAddr, bytes: Vec<u8>, traffic_class: u8, at: Wall },
    Stamp { socket: SocketId, key: u32, at: Wall },
    Failed { socket: SocketId, key: u32 },
    Icmp { socket: SocketId, to: SocketAddr, meaning: IcmpMeaning, quoted: Vec<u8> },
}

impl Ready {
    fn socket(&mut self) -> &mut SocketId {
        match self {
            Ready::Datagram { socket, .. }
            | Ready::Stamp { socket, .. }
            | Ready::Failed { socket, .. }
            | Ready::Icmp { socket, .. } => socket,
        }
    }
}

/// The sending half: sockets, ways, and what is on its way.
pub struct SimOutbox {
    clock: SimClock,
    start: u64,
    host: Host,
    sockets: Vec<Socket>,
    addresses: Vec<SocketAddr>,
    next_port: u16,
    ways: BTreeMap<SocketAddr, Destination>,
    /// When, in which order, what: numbers index `pending`.
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    pending: BTreeMap<u64, Pending>,
    scheduled: u64,
    random: Random,
    stamps_asked: u64,
    truth: Truth,
    buffer: Box<[u8; LONGEST]>,
}

/// The simulated network of one worker.
pub struct SimNetwork {
    outbox: SimOutbox,
    ready: VecDeque<Ready>,
    counters: NetCounters,
}

impl SimNetwork {
    /// A network with these sockets that begins now by `clock`. Wildcard addresses become 192.0.2.1 and
    /// 2001:db8::1; port 0 becomes a free one. Datagrams to an address without a peer vanish.
    pub fn new(seed: u64, clock: &SimClock, sockets: &[SocketSpec], host: Host) -> SimNetwork {
        let mut next_port = FIRST_PORT;
        let sockets: Vec<Socket> = sockets.iter().map(|spec| Socket::open(spec, &mut next_port)).collect();
        let steps = host.clock_steps.clone();
        let mut outbox = SimOutbox {
            clock: clock.clone(),
            start: clock.monotonic().0,
            host,
            addresses: sockets.iter().map(|socket| socket.address).collect(),
            sockets,
            next_port,
            ways: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            pending: BTreeMap::new(),
            scheduled: 0,
            random: Random::new(seed),
            stamps_asked: 0,
            truth: Truth::default(),
            buffer: Box::new([0; LONGEST]),
        };
        for (at, by) in steps {
            outbox.schedule(outbox.start + at, Pending::Step(by));
        }
        SimNetwork { outbox, ready: VecDeque::new(), counters: NetCounters::default() }
    }

    /// Puts a peer at an address; a former one there is replaced, as if it had restarted.
    pub fn peer(
        &mut self,
        address: SocketAddr,
        way: Way,
        peer: impl FnMut(&Arrival<'_>) -> Option<Vec<u8>> + Send + 'static,
    ) {
        let (forward_seen, reverse_seen) = Default::default();
        self.outbox.ways.insert(address, Destination { way, peer: Box::new(peer), forward_seen, reverse_seen });
    }

    /// A datagram that nobody asked for, at a socket, so many ns after the start.
    pub fn inject(&mut self, after_ns: u64, socket: SocketId, from: SocketAddr, payload: &[u8]) {
        let stray = Ready::Datagram { socket, from, bytes: payload.to_vec(), traffic_class: 0, at: Wall(0) };
        self.outbox.schedule(self.outbox.start + after_ns, Pending::Come(stray));
    }

    /// Changes the sockets as a network does that is closed and followed by another: `seats` names for each new
    /// socket the one it was, if any, and what it is to be like (as it was, when nothing is said). What is on its
    /// way to a socket that stays finds it; the rest is lost.
    pub fn reseat(&mut self, seats: &[(Option<SocketId>, Option<SocketSpec>)]) {
        let outbox = &mut self.outbox;
        let mut now_at: BTreeMap<u16, SocketId> = BTreeMap::new();
        let mut former: Vec<Option<Socket>> = std::mem::take(&mut outbox.sockets).into_iter().map(Some).collect();
        for (position, (kept, spec)) in seats.iter().enumerate() {
            let stays = kept.and_then(|kept| former.get_mut(usize::from(kept.0))?.take().map(|socket| (kept, socket)));
            let socket = match (stays, spec) {
                (Some((kept, mut socket)), spec) => {
                    now_at.insert(kept.0, SocketId(position as u16));
                    socket.spec = spec.clone().unwrap_or(socket.spec);
                    socket
                }
                (None, Some(spec)) => Socket::open(spec, &mut outbox.next_port),
                (None, None) => continue,
            };
            outbox.sockets.push(socket);
        }
        outbox.addresses = outbox.sockets.iter().map(|socket| socket.address).collect();
        let find = |socket: &mut SocketId| now_at.get(&socket.0).map(|now| *socket = *now).is_some();
        outbox.pending.retain(|_, pending| match pending {
            Pending::Arrive { socket, .. } => find(socket),
            Pending::Come(ready) => find(ready.socket()),
            Pending::Step(_) => true,
        });
        self.ready.retain_mut(|ready| find(ready.socket()));
    }

    /// What has happened on the wire so far.
    pub fn truth(&self) -> Truth {
        self.outbox.truth
    }

    /// Lets everything happen that is due until `end`, and the time pass; or until the first thing the prober
    /// can drain.
    fn pass(&mut self, end: u64, until_event: bool) {
        while let Some(Reverse((at, number))) = self.outbox.agenda.peek().copied() {
            if at > end || (until_event && !self.ready.is_empty()) {
                break;
            }
            self.outbox.agenda.pop();
            self.outbox.clock.set(at.max(self.outbox.clock.monotonic().0));
            match self.outbox.pending.remove(&number) {
                Some(Pending::Arrive { socket, to, bytes, traffic_class }) => {
                    self.outbox.arrive(socket, to, &bytes, traffic_class);
                }
                Some(Pending::Step(by)) => self.outbox.clock.step(by),
                Some(Pending::Come(ready)) => self.come(ready),
                None => {}
            }
        }
        if !until_event || self.ready.is_empty() {
            self.outbox.clock.set(end.max(self.outbox.clock.monotonic().0));
        }
    }

    fn come(&mut self, mut ready: Ready) {
        if let Ready::Datagram { at, .. } = &mut ready {
            *at = self.outbox.clock.wall();
            let waiting = self.ready.iter().filter(|ready| matches!(ready, Ready::Datagram { .. })).count();
            if waiting >= self.outbox.host.receive_buffer {
                self.counters.local_drops += 1;
                return;
            }
        }
        self.ready.push_back(ready);
    }
}

impl Network for SimNetwork {
    type Outbox = SimOutbox;

    fn outbox(&mut self) -> &mut SimOutbox {
        &mut self.outbox
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let now = self.outbox.clock.monotonic().0;
        let least = now + SPIN_NS;
        match wait {
            Wait::No => self.pass(least, false),
            Wait::Until(deadline) | Wait::SpinUntil(deadline) => self.pass(deadline.0.max(least), false),
            Wait::EventOrUntil(deadline) => self.pass(deadline.0.max(least), true),
        }
        let awake = self.outbox.clock.monotonic().0 - self.outbox.start;
        let stall = self.outbox.host.stalls.iter().find(|stall| stall.contains(&awake)).map(|stall| stall.end);
        if let Some(end) = stall {
            self.pass(self.outbox.start + end, false);
        }
        Ok(())
    }

    fn drain(&mut self, mut on: impl FnMut(&mut SimOutbox, Event<'_>)) {
        while let Some(ready) = self.ready.pop_front() {
            match ready {
                Ready::Datagram { socket, from, bytes, traffic_class, at } => {
                    let Some(Socket { spec, address }) = self.outbox.sockets.get(usize::from(socket.0)) else {
                        continue;
                    };
                    let (classes, hops) = (spec.receive_traffic_class, spec.receive_hop_limit);
                    let to = spec.receive_destination.then_some(address.ip());
                    let at = if self.outbox.host.receive_stamps {
                        Timestamp { wall: at, source: StampSource::Kernel }
                    } else {
                        self.counters.unstamped += 1;
                        Timestamp { wall: self.outbox.clock.wall(), source: StampSource::User }
                    };
                    let received = Received {
                        socket,
                        from,
                        to,
                        payload: &bytes,
                        at,
                        traffic_class: classes.then_some(traffic_class),
                        hop_limit: hops.then_some(HOP_LIMIT),
                    };
                    on(&mut self.outbox, Event::Received(received));
                }
                Ready::Stamp { socket, key, at } => {
                    let at = Timestamp { wall: at, source: StampSource::Kernel };
                    on(&mut self.outbox, Event::Transmitted { socket, key, at });
                }
                Ready::Failed { socket, key } => {
                    on(&mut self.outbox, Event::SendFailed { socket, key, errno: nix::libc::ENOBUFS });
                }
                Ready::Icmp { socket, to, meaning, quoted } => {
                    let reporter = Some(to.ip());
                    on(&mut self.outbox, Event::Icmp { socket, to, reporter, meaning, quoted: &quoted });
                }
            }
        }
    }

    fn local_addresses(&self) -> &[SocketAddr] {
        &self.outbox.addresses
    }

    fn counters(&self) -> NetCounters {
        self.counters
    }
}

/// Lent to a worker that keeps its network, so that [`SimNetwork::truth`] can be asked afterwards.
impl Network for &mut SimNetwork {
    type Outbox = SimOutbox;

    fn outbox(&mut self) -> &mut SimOutbox {
        (**self).outbox()
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        (**self).wait(wait)
    }

    fn drain(&mut self, on: impl FnMut(&mut SimOutbox, Event<'_>)) {
        (**self).drain(on);
    }

    fn local_addresses(&self) -> &[SocketAddr] {
        (**self).local_addresses()
    }

    fn counters(&self) -> NetCounters {
        (**self).counters()
    }
}

impl Outbox for SimOutbox {
    fn send(&mut self, datagram: &Outgoing, write: impl FnOnce(&mut [u8]) -> usize) {
        let length = write(self.buffer.as_mut_slice()).min(LONGEST);
        let bytes = self.buffer[..length].to_vec();
        let Some(socket) = self.sockets.get(usize::from(datagram.socket.0)) else { return };
        let (spec_class, stamps, port) =
            (socket.spec.traffic_class, socket.spec.transmit_stamps, socket.address.port());
        let traffic_class = datagram.traffic_class.unwrap_or(spec_class);
        let now = self.clock.monotonic().0;
        let (socket, key) = (datagram.socket, datagram.key);
        self.truth.sent += 1;
        if every(self.host.send_fails_every, self.truth.sent) {
            return self.schedule(now, Pending::Come(Ready::Failed { socket, key }));
        }
        let leaves = now + self.host.send_delay_ns;
        let stamped = match stamps {
            TransmitStamps::None => false,
            TransmitStamps::Asked => datagram.stamp,
            TransmitStamps::All => true,
        };
        if stamped {
            self.stamp(socket, key, leaves);
        }
        let to = datagram.to;
        let Some(destination) = self.ways.get_mut(&to) else {
            self.truth.dropped_forward += 1;
            return;
        };
        let link = &destination.way.forward;
        let passage = cross(link, &mut destination.forward_seen, leaves, self.start, port, &mut self.random);
        if passage.copies == 0 {
            self.truth.dropped_forward += 1;
        }
        self.truth.doubled += u64::from(passage.copies == 2);
        let traffic_class = link.rewrite_class.unwrap_or(traffic_class);
        for _ in 0..passage.copies {
            self.schedule(passage.arrives, Pending::Arrive { socket, to, bytes: bytes.clone(), traffic_class });
        }
    }
}

impl SimOutbox {
    fn schedule(&mut self, at: u64, what: Pending) {
        self.agenda.push(Reverse((at, self.scheduled)));
        self.pending.insert(self.scheduled, what);
        self.scheduled += 1;
    }

    fn stamp(&mut self, socket: SocketId, key: u32, leaves: u64) {
        let quality = self.host.stamps;
        self.stamps_asked += 1;
        if every(quality.missing_every, self.stamps_asked) {
            self.truth.stamps_withheld += 1;
            return;
        }
        // the wall clock at departure; a step in between is not foreseen, as by a kernel
        let at = self.clock.wall().plus(Delay((leaves - self.clock.monotonic().0) as i64));
        let there = leaves + quality.delay_ns;
        self.schedule(there, Pending::Come(Ready::Stamp { socket, key, at }));
        if every(quality.twice_every, self.stamps_asked) {
            let at = at.plus(Delay(quality.delay_ns as i64));
            self.schedule(there + 1, Pending::Come(Ready::Stamp { socket, key, at }));
        }
    }

    /// A datagram is at its peer.
    fn arrive(&mut self, socket: SocketId, to: SocketAddr, bytes: &[u8], traffic_class: u8) {
        let now = self.clock.monotonic().0;
        let Some(Socket { address: from, .. }) = self.sockets.get(usize::from(socket.0)) else { return };
        let from = *from;
        let Some(destination) = self.ways.get_mut(&to) else { return };
        let residence = destination.way.residence_ns;
        let answer = match destination.way.icmp {
            Some(meaning) => Ready::Icmp { socket, to, meaning, quoted: bytes.to_vec() },
            None => {
                // the peer's clock does not take part in the prober's steps
                let steps: i64 =
                    self.host.clock_steps.iter().filter(|(at, _)| self.start + at <= now).map(|(_, by)| by.0).sum();
                let at = self.clock.wall().plus(Delay(destination.way.clock_offset_ns - steps));
                let leaves = at.plus(Delay(residence as i64));
                let Some(bytes) = (destination.peer)(&Arrival { at, leaves, from, to, bytes, traffic_class }) else {
                    return;
                };
                self.truth.answered += 1;
                let traffic_class = destination.way.reverse.rewrite_class.unwrap_or(traffic_class);
                Ready::Datagram { socket, from: to, bytes, traffic_class, at: Wall(0) }
            }
        };
        let (link, seen) = (&destination.way.reverse, &mut destination.reverse_seen);
        let passage = cross(link, seen, now + residence, self.start, from.port(), &mut self.random);
        if passage.copies == 0 {
            self.truth.dropped_reverse += 1;
        }
        self.truth.doubled += u64::from(passage.copies == 2);
        for _ in 0..passage.copies {
            self.schedule(passage.arrives, Pending::Come(answer.clone()));
        }
    }
}

impl std::fmt::Debug for SimOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimOutbox").field("truth", &self.truth).field("pending", &self.pending.len()).finish()
    }
}

impl std::fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNetwork").field("outbox", &self.outbox).field("ready", &self.ready.len()).finish()
    }
}

/// How a datagram crosses a link.
struct Passage {
    copies: u8,
    arrives: u64,
}

fn cross(link: &Link, seen: &mut Seen, leaves: u64, start: u64, port: u16, random: &mut Random) -> Passage {
    let since_start = leaves - start;
    let mut dropped = link.outages.iter().any(|outage| outage.contains(&since_start));
    if link.loss_ports.as_ref().is_none_or(|ports| ports.contains(&port)) {
        seen.lossy += 1;
        dropped |= match link.loss {
            Loss::None => false,
            Loss::Random(probability) => random.unit() < probability,
            Loss::Every(k) => every(Some(k), seen.lossy),
        };
    }
    if dropped {
        return Passage { copies: 0, arrives: leaves };
    }
    seen.passed += 1;
    let jitter = match link.jitter {
        Jitter::None => 0,
        Jitter::Uniform(most) => random.below(most + 1),
        Jitter::Exponential(mean) => (mean as f64 * random.exponential()) as u64,
    };
    let held = link.hold_every.filter(|(k, _)| every(Some(*k), seen.passed)).map_or(0, |(_, ns)| ns);
    let copies = if every(link.duplicate_every, seen.passed) { 2 } else { 1 };
    Passage { copies, arrives: leaves + link.delay_ns + jitter + held }
}

/// Whether the `number`-th (from 1) is one of every k-th.
fn every(k: Option<u64>, number: u64) -> bool {
    k.is_some_and(|k| k > 0 && number.is_multiple_of(k))
}

#[cfg(test)]
#[path = "sim_tests.rs"]
mod tests;
