//! Which packets are answered, and how: the reflector without clocks and sockets.
//!
//! Two steps, so that T3 is taken after everything that takes time: [`Responder::admit`] decides and counts,
//! [`Responder::write`] fills in the reply. Never allocates after [`Responder::new`]. Read [`Setup`] first.

use super::counters::{Answered, DropReason, Dropped, Notes, Replied};
use super::extensions::{self, Extensions, SeenClass};
use super::rate::{Rate, Used};
use super::recognise::{Kind, recognise, without_key};
use super::table::{Found, Table};
use crate::time::{Monotonic, Wall, nanos};
use crate::wire::REFLECTOR_PORTS;
use crate::wire::stamp::{ErrorEstimate, Mode, Reflected, ReflectedPacket, Sender, SenderPacket, Signer};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Code points a reply may leave with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DscpSet(pub u64);

impl DscpSet {
    /// All 64.
    pub const ALL: DscpSet = DscpSet(u64::MAX);

    /// Whether `dscp` (0 to 63) is one of them.
    pub fn contains(self, dscp: u8) -> bool {
        self.0 >> (dscp & 0x3f) & 1 == 1
    }
}

/// How a responder shall behave.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Answer authenticated packets with this key, and no others.
    pub signer: Option<Signer>,
    /// Sessions that get a sequence number of their own; 0 for a stateless reflector.
    pub sessions: usize,
    /// A session not heard of for this long is forgotten.
    pub session_idle: Duration,
    /// Packets per second answered in all.
    pub rate: Option<Rate>,
    /// Packets per second answered to one IPv4 address or IPv6 /64.
    pub source_rate: Option<Rate>,
    /// Sources remembered at once for `source_rate`.
    pub sources: usize,
    /// Longest packet answered, bytes; what the network can send.
    pub longest: usize,
    /// Code points a probe may ask for.
    pub dscps: DscpSet,
    /// How good the local clock is.
    pub clock: ErrorEstimate,
    /// The ports the reflector listens on.
    pub own_ports: Vec<u16>,
    /// Seed of the tables' hashes; not to be guessed from outside.
    pub seed: u64,
}

impl Default for Setup {
    /// Stateless, open, without limits.
    fn default() -> Setup {
        Setup {
            signer: None,
            sessions: 0,
            session_idle: Duration::from_secs(300),
            rate: None,
            source_rate: None,
            sources: 8192,
            longest: 1472,
            dscps: DscpSet::ALL,
            clock: ErrorEstimate::UNSYNCHRONISED,
            own_ports: Vec::new(),
            seed: 0,
        }
    }
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The UDP payload.
    pub bytes: &'a [u8],
    /// Its sender.
    pub from: SocketAddr,
    /// The local address it came to, when known.
    pub to: Option<IpAddr>,
    /// The local port it came to.
    pub local_port: u16,
    /// T2.
    pub received: Wall,
    /// The traffic-class byte, when known.
    pub traffic_class: Option<u8>,
    /// TTL or hop limit, when known.
    pub hop_limit: Option<u8>,
}

/// A packet that will be answered; what is left is [`Responder::write`].
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'a> {
    bytes: &'a [u8],
    form: Form,
    /// The traffic-class byte the reply leaves with: the DSCP asked for, else the probe's own; ECN 0.
    pub traffic_class: u8,
}

/// What a reply consists of.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The fields of STAMP.
    Stamp(Stamped),
    /// The probe's own bytes: upstream's formats.
    Echo,
}

/// What a STAMP reply is written from.
#[derive(Clone, Copy, Debug)]
struct Stamped {
    mode: Mode,
    asked: Sender,
    seq: u32,
    received: Wall,
    hop_limit: u8,
    extensions: Extensions,
    seen: SeenClass,
}

/// A reply written by [`Responder::respond`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its bytes: as many as the probe's.
    pub len: usize,
    /// The traffic-class byte it leaves with.
    pub traffic_class: u8,
}

/// A stateful reflector's knowledge of a session.
#[derive(Clone, Copy, Debug, Default)]
struct Session {
    /// Replies so far: the next one's sequence number (RFC 8762 §4.3.1).
    next_seq: u32,
    last: Monotonic,
}

/// The reflector's logic.
#[derive(Debug)]
pub struct Responder {
    setup: Setup,
    sessions: Option<Table<Session, 5>>,
    used: Used,
    sources: Option<Table<Used, 2>>,
    /// Packets answered.
    pub replied: Replied,
    /// Packets not answered.
    pub dropped: Dropped,
    /// Noteworthy about those that were.
    pub notes: Notes,
}

impl Responder {
    /// A responder with all the memory it will ever need.
    pub fn new(setup: Setup) -> Responder {
        Responder {
            sessions: (setup.sessions > 0).then(|| Table::new(setup.sessions, setup.seed)),
            sources: setup.source_rate.is_some().then(|| Table::new(setup.sources, setup.seed)),
            used: Used::default(),
            replied: Replied::default(),
            dropped: Dropped::default(),
            notes: Notes::default(),
            setup,
        }
    }

    /// Decides whether a packet is answered, and counts it among sessions and limits if so.
    ///
    /// The cheap and stateless checks come first, then the key, then the limits: what is forged or
    /// malformed uses up nobody's share. A source over its own limit uses up nothing of the common one.
    ///
    /// # Errors
    /// Why it is not; already counted in [`Responder::dropped`].
    #[inline]
    pub fn admit<'a>(&mut self, now: Monotonic, arrival: &Arrival<'a>) -> Result<Admitted<'a>, DropReason> {
        self.decide(now, arrival).inspect_err(|&reason| self.dropped.count(reason))
    }

    #[inline]
    fn decide<'a>(&mut self, now: Monotonic, arrival: &Arrival<'a>) -> Result<Admitted<'a>, DropReason> {
        let bytes = arrival.bytes;
        if bytes.len() > self.setup.longest {
            return Err(DropReason::TooLong);
        }
        let kind = recognise(bytes, self.setup.signer.is_some())?;
        self.check_peer(arrival)?;
        if let Some(signer) = &self.setup.signer
            && !signer.verify_base(bytes)
        {
            return Err(without_key(bytes).unwrap_or(DropReason::Unauthentic));
        }
        self.check_rates(now, arrival.from.ip())?;
        let (format, admitted) = match kind {
            Kind::Stamp(mode) => (Answered::Stamp, self.stamp(now, arrival, mode)?),
            Kind::Llama { tos } => (Answered::Llama, self.echo(arrival, tos)),
            Kind::LlamaPython { tos } => (Answered::LlamaPython, self.echo(arrival, tos)),
        };
        self.replied.count(format);
        Ok(admitted)
    }

    #[inline]
    fn stamp<'a>(&mut self, now: Monotonic, arrival: &Arrival<'a>, mode: Mode) -> Result<Admitted<'a>, DropReason> {
        let bytes = arrival.bytes;
        let packet = SenderPacket::new_checked(bytes, mode).map_err(|_| DropReason::TooShort)?;
        let asked = Sender::parse(&packet);
        let extensions = match packet.tail() {
            [] => Extensions::default(),
            tail => extensions::examine(tail, asked.seq, mode, self.setup.signer.as_ref()),
        };
        let (traffic_class, refused) = self.class(arrival, extensions.wanted_dscp);
        self.notes.malformed_tlvs += u64::from(extensions.malformed);
        self.notes.unauthentic_tlvs += u64::from(extensions.unauthentic);
        let stamped = Stamped {
            mode,
            asked,
            seq: self.next_seq(now, arrival, &asked),
            received: arrival.received,
            hop_limit: arrival.hop_limit.unwrap_or(0),
            extensions,
            seen: SeenClass { traffic_class: arrival.traffic_class.unwrap_or(0), refused },
        };
        Ok(Admitted { bytes, form: Form::Stamp(stamped), traffic_class })
    }

    /// A probe of upstream's. Its reflectors set the whole byte that it asks for; here the two ECN bits stay 00, as
    /// in every reply: with others a reply would claim to be of a sender that slows down when it is told of
    /// congestion (RFC 3168 §5), and routers would mark it where they drop what they are asked to measure.
    fn echo<'a>(&mut self, arrival: &Arrival<'a>, tos: u8) -> Admitted<'a> {
        let (traffic_class, _) = self.class(arrival, Some(tos >> 2));
        Admitted { bytes: arrival.bytes, form: Form::Echo, traffic_class }
    }

    /// The traffic-class byte of a reply, and whether the policy refused the DSCP wanted. RFC 8972 §4.4: the DSCP asked
    /// for if the policy allows it, else the one the probe came with.
    #[inline]
    fn class(&mut self, arrival: &Arrival<'_>, wanted: Option<u8>) -> (u8, bool) {
        let refused = wanted.is_some_and(|dscp| !self.setup.dscps.contains(dscp));
        self.notes.refused_dscps += u64::from(refused);
        match wanted {
            Some(dscp) if !refused => (dscp << 2, false),
            _ => (arrival.traffic_class.unwrap_or(0) & !0x03, refused),
        }
    }

    /// Writes the reply into `out` and returns its length, that of the probe; 0, and nothing written, when
    /// `out` is shorter. `t3` is best read just before the call.
    #[inline]
    pub fn write(&self, admitted: &Admitted<'_>, t3: Wall, out: &mut [u8]) -> usize {
        let Some(out) = out.get_mut(..admitted.bytes.len()) else { return 0 };
        let stamped = match &admitted.form {
            Form::Stamp(stamped) => stamped,
            Form::Echo => {
                out.copy_from_slice(admitted.bytes);
                return out.len();
            }
        };
        let Some((base, tail)) = out.split_at_mut_checked(stamped.mode.base_len()) else { return 0 };
        let clock = self.setup.clock;
        let reply = Reflected {
            seq: stamped.seq,
            timestamp: clock.timestamp(t3),
            error_estimate: clock,
            ssid: stamped.asked.ssid,
            receive_timestamp: clock.timestamp(stamped.received),
            sender_seq: stamped.asked.seq,
            sender_timestamp: stamped.asked.timestamp,
            sender_error_estimate: stamped.asked.error_estimate,
            sender_ttl: stamped.hop_limit,
        };
        if let Ok(mut packet) = ReflectedPacket::new_checked(&mut *base, stamped.mode) {
            reply.emit(&mut packet);
        }
        let signer = self.setup.signer.as_ref();
        if let Some(signer) = signer {
            signer.sign_base(base);
        }
        if !tail.is_empty() {
            let asked = &admitted.bytes[stamped.mode.base_len()..];
            tail.copy_from_slice(asked);
            extensions::answer(asked, tail, stamped.seq, &stamped.extensions, stamped.seen, signer);
        }
        admitted.bytes.len()
    }

    /// [`Responder::admit`] and [`Responder::write`] in one.
    ///
    /// # Errors
    /// Why there is no reply; already counted in [`Responder::dropped`].
    pub fn respond(
        &mut self,
        now: Monotonic,
        arrival: &Arrival<'_>,
        t3: Wall,
        out: &mut [u8],
    ) -> Result<Reply, DropReason> {
        let admitted = self.admit(now, arrival)?;
        Ok(Reply { len: self.write(&admitted, t3, out), traffic_class: admitted.traffic_class })
    }

    /// Refuses what could make two reflectors, or many, talk: see [`REFLECTOR_PORTS`].
    #[inline]
    fn check_peer(&self, arrival: &Arrival<'_>) -> Result<(), DropReason> {
        let port = arrival.from.port();
        if port == arrival.local_port || REFLECTOR_PORTS.contains(&port) || self.setup.own_ports.contains(&port) {
            return Err(DropReason::OtherReflector);
        }
        let is_one_host = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => !(ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified()),
            IpAddr::V6(ip) => !(ip.is_multicast() || ip.is_unspecified()),
        };
        if port == 0 || !is_one_host(arrival.from.ip()) || !arrival.to.is_none_or(is_one_host) {
            return Err(DropReason::NotUnicast);
        }
        Ok(())
    }

    #[inline]
    fn check_rates(&mut self, now: Monotonic, from: IpAddr) -> Result<(), DropReason> {
        if let (Some(rate), Some(sources)) = (self.setup.source_rate, &mut self.sources) {
            let [high, low] = words(from);
            let key = if from.is_ipv6() { [high, 0] } else { [high, low] };
            let used = match sources.find(key, |used| used.is_free(now)) {
                Found::Known(used) | Found::New(used) => used,
                Found::Full => {
                    self.notes.sources_forgotten += 1;
                    sources.replace(key, Used::until)
                }
            };
            if !used.take(rate, now) {
                return Err(DropReason::SourceRateLimit);
            }
        }
        match self.setup.rate {
            Some(rate) if !self.used.take(rate, now) => Err(DropReason::RateLimit),
            _ => Ok(()),
        }
    }

    /// The reply's sequence number: the probe's, or a stateful reflector's own count for the session
    /// (RFC 8762 §4.3.1; identified as in RFC 8972 §3). Without room for the session the probe's, as from a stateless
    /// reflector: round trips and losses stay right, only their direction cannot be told.
    #[inline]
    fn next_seq(&mut self, now: Monotonic, arrival: &Arrival<'_>, asked: &Sender) -> u32 {
        let Some(sessions) = &mut self.sessions else { return asked.seq };
        let [from_high, from_low] = words(arrival.from.ip());
        let [to_high, to_low] = arrival.to.map_or([0; 2], words);
        let ports = u64::from(arrival.from.port()) << 32 | u64::from(arrival.local_port) << 16 | u64::from(asked.ssid);
        let idle = nanos(self.setup.session_idle);
        let key = [from_high, from_low, to_high, to_low, ports];
        let session = match sessions.find(key, |session| now.since(session.last) > idle) {
            Found::Known(session) => session,
            Found::New(session) => {
                self.notes.sessions += 1;
                session
            }
            Found::Full => {
                self.notes.sessions_full += 1;
                return asked.seq;
            }
        };
        session.last = now;
        let seq = session.next_seq;
        session.next_seq = seq.wrapping_add(1);
        seq
    }
}

/// An address as two words; IPv4 as IPv4-mapped IPv6.
fn words(ip: IpAddr) -> [u64; 2] {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

#[cfg(test)]
#[path = "responder_tests.rs"]
mod tests;
