//! The hot loop of a collector.
//!
//! ```text
//! schedule → method.write → in flight → network   (fill)
//! network → method.read → in flight → ledger      (drain)
//!                         in flight → ledger      (expire)
//!                                     ledger → summary thread (hand over)
//! ```
//!
//! One thread, pinned; it owns everything it touches and shares the stop flag, its counters (written
//! once a tick) and its end of a channel. After start it does not allocate, lock, log or block.

use super::clock_watch::ClockWatch;
use super::ledger::{Ledger, Timetable};
use super::progress::{Progress, Taken};
use super::samples::Samples;
use crate::net::{Event, IcmpMeaning, Network, Outbox, Outgoing, Received, SocketId, TOO_LONG, Wait};
use crate::probe::class::{self, SentBack};
use crate::probe::inflight::{Departure, InFlight};
use crate::probe::method::{Addressing, AnswerKind, Arrived, Method, Ports, Unreadable};
use crate::probe::outcome::{Outcome, Record};
use crate::probe::schedule::{Due, Schedule};
use crate::probe::shape::Dscp;
use crate::probe::{FlowId, IntervalId, Seq};
use crate::time::{Clock, Monotonic};
use crate::wire::{ipv4, ipv6};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A probe later than this is not sent any more: the schedule never slides, and after a stall the
/// network gets no burst longer than this. A slow worker, which cannot make a burst, waits longer:
/// see [`max_lateness`].
pub const MAX_LATENESS: Duration = Duration::from_millis(50);
/// A probe of the slowest worker may be so late.
const SLOW_MAX_LATENESS: Duration = Duration::from_millis(500);
/// Probes handed to the network per tick.
pub const BATCH: usize = 64;
/// Probes given up per tick after a stall, so that a tick stays short.
const GIVE_UP_BATCH: usize = 4096;
/// From this rate on the worker spins between probes; below, it sleeps.
pub const SPIN_RATE: f64 = 20_000.0;
/// The longest sleep: how soon a stop is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// How long replies gather while there is no room in flight.
const HELD_TICK: Duration = Duration::from_micros(50);
/// The shortest sleep of a worker that does not spin: one wake-up serves all probes due within it.
const TICK: Duration = Duration::from_micros(100);

/// How late a probe may leave: as long as what piles up is less than a batch, but at least
/// [`MAX_LATENESS`] and at most half a second.
pub fn max_lateness(probes_per_second: f64) -> Duration {
    let batch = Duration::try_from_secs_f64(BATCH as f64 / probes_per_second).unwrap_or(SLOW_MAX_LATENESS);
    batch.clamp(MAX_LATENESS, SLOW_MAX_LATENESS)
}

/// What a flow needs at sending time, in one cache line.
#[derive(Clone, Debug)]
pub struct Route {
    /// Destination.
    pub to: SocketAddr,
    /// What of the addresses goes into the probes' bytes.
    pub addressing: Addressing,
    /// The worker's socket.
    pub socket: SocketId,
    /// Which in-flight ring.
    pub lane: u8,
    /// Which method.
    pub method: u8,
    /// Traffic-class byte, when other than the socket's.
    pub traffic_class: Option<u8>,
    /// The probes' class.
    pub dscp: Dscp,
    /// Stamp one probe in this many; 0: none.
    pub stamp_one_in: u32,
    /// IPv6 flow label; 0 where it is left to the system.
    pub flow_label: u32,
}

impl Route {
    /// Whether this flow's target is who an answer, or whom an ICMP error, names: an address, and the ports where the
    /// bytes hold them, since the addresses of raw sockets have none.
    #[inline]
    fn is_to(&self, other: SocketAddr, ports: Option<Ports>) -> bool {
        match ports {
            None => self.to == other,
            Some(ports) => ports == self.addressing.ports && without_port(self.to) == without_port(other),
        }
    }
}

fn without_port(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}

/// What a socket's datagrams are read with.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Which in-flight ring its probes are in.
    pub lane: u8,
    /// Which method reads them.
    pub method: u8,
}

/// Probes longer than this host's interface carries, for a moment: first the kernel refuses them, then it tells the MTU.
#[derive(Debug)]
pub struct TooBig(Vec<(SocketId, FlowId, IntervalId)>);

/// As many as fail in a tick; of others the MTU is not noted.
const TOO_BIG_AT_ONCE: usize = 2 * BATCH;

impl Default for TooBig {
    fn default() -> TooBig {
        TooBig(Vec::with_capacity(TOO_BIG_AT_ONCE))
    }
}

/// All a worker is made of besides its network and clock.
#[derive(Debug)]
pub struct Parts {
    /// When probes are due.
    pub schedule: Schedule,
    /// Probes in flight, one ring per loss threshold.
    pub lanes: Vec<InFlight>,
    /// By lane: its loss threshold.
    pub thresholds: Vec<Duration>,
    /// By flow.
    pub routes: Vec<Route>,
    /// By socket.
    pub readers: Vec<Reader>,
    /// Ways to write and read probes.
    pub methods: Vec<Method>,
    /// Open tallies.
    pub ledger: Ledger,
    /// When intervals end.
    pub timetable: Timetable,
    /// Whether to spin between probes.
    pub spin: bool,
    /// From [`max_lateness`], in nanoseconds.
    pub max_lateness_ns: u64,
    /// Stop sending then.
    pub end: Option<Monotonic>,
    /// Stop sending after this many probes.
    pub count: Option<u64>,
    /// Where singletons go, when somebody wants them.
    pub samples: Option<Samples>,
    /// Probes longer than this host's interface carries, whose MTU the kernel has not told yet.
    pub too_big: TooBig,
    /// Counters for others to read.
    pub progress: Arc<Progress>,
    /// Stop sending when set.
    pub stop: Arc<AtomicBool>,
}

/// The worker.
pub struct Worker<N: Network, C: Clock> {
    network: N,
    clock: C,
    parts: Parts,
    watch: ClockWatch,
    /// A due probe for which there was no room in flight.
    held: Option<Due>,
    /// Counts probes, for stamping one in N.
    probes: u64,
    stopped_at: Option<Monotonic>,
    drops_seen: u64,
    taken: Taken,
}

impl<N: Network, C: Clock> Worker<N, C> {
    /// A worker that is ready to run.
    pub fn new(network: N, clock: C, parts: Parts) -> Worker<N, C> {
        Worker {
            network,
            clock,
            parts,
            watch: ClockWatch::default(),
            held: None,
            probes: 0,
            stopped_at: None,
            drops_seen: 0,
            taken: Taken::default(),
        }
    }

    /// Runs until stopped and the last probe in flight is decided.
    ///
    /// # Errors
    /// The network broke: a ring or socket error that no retry mends.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            let now = self.clock.monotonic();
            self.look_for_stop(now);
            let more = self.fill(now);
            self.network.wait(self.how_long(now, more))?;
            let emptied = self.drain();
            let now = self.clock.monotonic();
            if emptied {
                self.expire(now);
            }
            let done = self.hand_over(now);
            self.publish();
            if done {
                return Ok(());
            }
        }
    }

    /// Sends what is due; true when more is due than one batch.
    fn fill(&mut self, now: Monotonic) -> bool {
        if self.stopped_at.is_some() || now < self.parts.timetable.start {
            return false;
        }
        let interval = self.parts.timetable.interval_at(now);
        if !self.parts.ledger.open(interval) {
            return false; // no tally has come back: what is due is late, then not sent
        }
        let (mut sent, mut given_up) = (0, 0);
        while sent < BATCH && given_up < GIVE_UP_BATCH {
            let Some(due) = self.held.take().or_else(|| self.parts.schedule.take_due(now)) else { return false };
            let lateness = now.since(due.at);
            if lateness > self.parts.max_lateness_ns {
                given_up += 1;
                self.parts.ledger.record(&Record { flow: due.flow, interval, outcome: Outcome::NotSent });
                self.parts.progress.not_sent.add(1);
                continue;
            }
            if !self.depart(due.flow, interval, now) {
                self.held = Some(due);
                return false;
            }
            if let Some(tally) = self.parts.ledger.newest() {
                tally.sent_late_by(lateness);
            }
            self.parts.progress.lateness.record(lateness);
            sent += 1;
            if self.parts.count.is_some_and(|count| self.probes >= count) {
                self.stop(now);
                return false;
            }
        }
        true
    }

    /// Sends one probe of a flow; false when its ring is full.
    #[inline]
    fn depart(&mut self, flow: FlowId, interval: IntervalId, now: Monotonic) -> bool {
        let Parts { routes, lanes, methods, ledger, progress, samples, .. } = &mut self.parts;
        let route = &routes[flow.0 as usize];
        let lane = &mut lanes[usize::from(route.lane)];
        if lane.next().is_none() {
            return false;
        }
        let stamped = route.stamp_one_in != 0 && self.probes.is_multiple_of(u64::from(route.stamp_one_in));
        self.probes += 1;
        let wall = self.clock.wall();
        let departure = Departure { flow, interval, at: now, wall, stamped, clock_epoch: self.watch.epoch() };
        let seq = lane.depart(departure, &mut |record| note(&record, ledger, progress, samples));
        progress.sent.add(1);
        let datagram = Outgoing {
            socket: route.socket,
            to: route.to,
            key: seq.0,
            stamp: stamped,
            traffic_class: route.traffic_class,
            from: None,
            flow_label: route.flow_label,
        };
        let method = &methods[usize::from(route.method)];
        self.network.outbox().send(&datagram, |buffer| method.write_for(&route.addressing, seq, wall, buffer));
        true
    }

    /// When to look again: at once while more is due, else at the next probe; replies and stamps
    /// carry the kernel's times and wait for that.
    fn how_long(&self, now: Monotonic, more: bool) -> Wait {
        if more {
            return Wait::No;
        }
        let longest = now.after(LONGEST_WAIT);
        if let Some(stopped) = self.stopped_at {
            // nothing to send: replies end the wait, so that the last one ends the run
            let decided = stopped.after(self.parts.longest_threshold());
            return Wait::EventOrUntil(decided.min(longest).max(now.after(TICK)));
        }
        if self.held.is_some() {
            // only replies make room: let some gather, a datagram at a time costs twice as much
            let soon = now.after(HELD_TICK);
            return if self.parts.spin { Wait::SpinUntil(soon) } else { Wait::Until(soon) };
        }
        let due = self.parts.schedule.next_due().unwrap_or(longest).max(self.parts.timetable.start);
        if self.parts.spin && due < longest {
            return Wait::SpinUntil(due);
        }
        Wait::Until(due.max(now.after(TICK)).min(longest))
    }

    /// Takes in what the network reports; false when it may have more, so that nothing may expire yet.
    fn drain(&mut self) -> bool {
        if self.watch.stepped(&self.clock) {
            self.parts.progress.clock_steps.add(1);
            if let Some(tally) = self.parts.ledger.newest() {
                tally.clock_stepped();
            }
        }
        let (parts, epoch) = (&mut self.parts, self.watch.epoch());
        let mut events = 0usize;
        self.network.drain(|_, event| {
            events += 1;
            match event {
                Event::Received(datagram) => parts.received(&datagram, epoch),
                Event::Transmitted { socket, key, at } => {
                    let Parts { lanes, readers, ledger, progress, samples, .. } = &mut *parts;
                    let lane = &mut lanes[usize::from(readers[usize::from(socket.0)].lane)];
                    let known = lane.transmitted(Seq(key), at, &mut |record| {
                        note(&record, ledger, progress, samples);
                    });
                    progress.stray_stamps.add(u64::from(!known));
                }
                Event::SendFailed { socket, key, errno } => {
                    parts.send_failed(socket, Seq(key), errno);
                }
                Event::TooBigHere { socket, to, mtu } => parts.too_big_here(socket, to, mtu),
                Event::Icmp { socket, to, reporter, meaning, quoted } => {
                    parts.icmp(socket, to, reporter, meaning, quoted);
                }
            }
        });
        let drops = self.network.counters().local_drops;
        if drops != self.drops_seen
            && let Some(tally) = self.parts.ledger.newest()
        {
            tally.local_drops(drops - self.drops_seen);
            self.drops_seen = drops;
        }
        events < 2 * BATCH
    }

    /// Declares lost what has waited a loss threshold.
    fn expire(&mut self, now: Monotonic) {
        let Parts { lanes, ledger, progress, samples, .. } = &mut self.parts;
        for lane in lanes {
            lane.expire(now, &mut |record| note(&record, ledger, progress, samples));
        }
    }

    /// Closes intervals whose probes are all decided; true when the worker is done.
    fn hand_over(&mut self, now: Monotonic) -> bool {
        let longest = self.parts.longest_threshold();
        let Parts { ledger, timetable, lanes, thresholds, .. } = &mut self.parts;
        let idle = lanes.iter().all(|lane| lane.is_empty() && lane.awaiting_stamps() == 0);
        let flushed = self.stopped_at.is_some() && idle;
        while let Some(oldest) = ledger.oldest() {
            let end = timetable.end(oldest);
            // the clock alone is not enough: expiry waits while the network may still hold replies
            let decided = end.after(longest) <= now
                && lanes
                    .iter()
                    .zip(&*thresholds)
                    .all(|(lane, threshold)| lane.next_expiry().is_none_or(|expiry| expiry >= end.after(*threshold)));
            if !decided && !flushed {
                break;
            }
            ledger.close_oldest();
        }
        let handed = ledger.hand_over();
        flushed && handed && ledger.oldest().is_none()
    }

    fn look_for_stop(&mut self, now: Monotonic) {
        let over = self.parts.end.is_some_and(|end| now >= end);
        if self.stopped_at.is_none() && (over || self.parts.stop.load(Ordering::Relaxed)) {
            self.stop(now);
        }
    }

    fn stop(&mut self, now: Monotonic) {
        self.stopped_at = Some(now);
        self.held = None;
    }

    /// Shows the counters to others, once a tick.
    fn publish(&mut self) {
        let Parts { lanes, ledger, progress, .. } = &self.parts;
        progress.in_flight.set(lanes.iter().map(InFlight::len).sum::<usize>() as u64);
        progress.in_flight_limit.set(lanes.iter().map(InFlight::limit).sum::<usize>() as u64);
        progress.handed_over.set(ledger.handed_over);
        progress.given_up.set(ledger.given_up);
        progress.after_close.set(ledger.after_close);
        let implausible = lanes.iter().map(|lane| lane.totals().implausible_residence).sum();
        self.taken.implausible_residence(progress, implausible);
        self.taken.net(progress, &self.network.counters());
    }
}

/// One record into the tally, the counters and the samples.
#[inline]
fn note(record: &Record, ledger: &mut Ledger, progress: &Progress, samples: &mut Option<Samples>) {
    ledger.record(record);
    match record.outcome {
        Outcome::Replied { reordered } => {
            progress.replied.add(1);
            if reordered {
                progress.reordered.add(1);
            }
        }
        Outcome::Lost => progress.lost.add(1),
        Outcome::Corrupted => progress.corrupted.add(1),
        Outcome::TooBig => progress.too_big.add(1),
        Outcome::Refused => progress.refused.add(1),
        Outcome::Prohibited | Outcome::TimeExceeded | Outcome::Unreachable => progress.unreachable.add(1),
        Outcome::SendFailed => progress.send_failed.add(1),
        Outcome::Late => progress.late.add(1),
        Outcome::Duplicate => progress.duplicates.add(1),
        Outcome::StampMissing => progress.stamps_missing.add(1),
        Outcome::Measured(singleton) => {
            if let Some(samples) = samples {
                samples.push(record.flow, &singleton);
            }
        }
        // counted where they happen, or no probe's fate
        Outcome::Sent | Outcome::NotSent | Outcome::ClockStepped | Outcome::LossDirected(_) => {}
        Outcome::AnsweredBy(_)
        | Outcome::ClassReported
        | Outcome::ClassChanged(_)
        | Outcome::Reported(_)
        | Outcome::MtuTold(_) => {}
    }
}

impl Parts {
    fn longest_threshold(&self) -> Duration {
        self.thresholds.iter().copied().max().unwrap_or_default()
    }

    #[inline]
    fn received(&mut self, datagram: &Received<'_>, clock_epoch: u8) {
        let Parts { lanes, readers, methods, routes, ledger, progress, samples, .. } = self;
        let reader = readers[usize::from(datagram.socket.0)];
        let lane = &mut lanes[usize::from(reader.lane)];
        let from = datagram.from.ip();
        let arrived = Arrived { from, to: datagram.to.unwrap_or(from) };
        let answer = match methods[usize::from(reader.method)].read_answer(&arrived, datagram.payload) {
            Ok(answer) => answer,
            Err(Unreadable::Corrupt(Some(seq))) => return self.corrupted(datagram, seq),
            Err(_) => return progress.unreadable.add(1),
        };
        // only the one who was asked may answer, to the socket that asked
        let asked = lane.flow_of(answer.reply.seq).map(|flow| &routes[flow.0 as usize]);
        let asked = asked.filter(|route| route.is_to(datagram.from, answer.ports) && route.socket == datagram.socket);
        let Some(route) = asked else { return progress.unasked.add(1) };
        let change = datagram.traffic_class.and_then(|byte| class::judge(route.dscp, answer.sent_back, byte));
        lane.reply(&answer.reply, datagram.at, clock_epoch, &mut |record| {
            note(&record, ledger, progress, samples);
            if !matches!(record.outcome, Outcome::Replied { .. }) {
                return;
            }
            if answer.kind != AnswerKind::Reflected {
                ledger.record(&Record { outcome: Outcome::AnsweredBy(answer.kind), ..record });
            }
            if matches!(answer.sent_back, SentBack::Reported { .. }) {
                ledger.record(&Record { outcome: Outcome::ClassReported, ..record });
            }
            if let Some(change) = change {
                ledger.record(&Record { outcome: Outcome::ClassChanged(change), ..record });
            }
        });
    }

    /// A reply whose bytes were changed: it ends the probe it names, provided that it comes from where that one went.
    #[cold]
    fn corrupted(&mut self, datagram: &Received<'_>, seq: Seq) {
        let lane = &self.lanes[usize::from(self.readers[usize::from(datagram.socket.0)].lane)];
        let asked = lane.flow_of(seq).map(|flow| &self.routes[flow.0 as usize]);
        let is_asked = |route: &Route| {
            // what is not UDP has no port in its address, and bytes that were changed are no word for one
            let ports = (datagram.from.port() == 0).then_some(route.addressing.ports);
            route.is_to(datagram.from, ports) && route.socket == datagram.socket
        };
        if asked.is_some_and(is_asked) {
            self.end_probe(datagram.socket, seq, Outcome::Corrupted, None);
        } else {
            self.progress.unreadable.add(1);
        }
    }

    #[cold]
    fn send_failed(&mut self, socket: SocketId, seq: Seq, errno: i32) {
        if errno != TOO_LONG {
            self.progress.last_send_error.set(errno.unsigned_abs().into());
            return self.end_probe(socket, seq, Outcome::SendFailed, None);
        }
        let lane = &self.lanes[usize::from(self.readers[usize::from(socket.0)].lane)];
        if let (Some(flow), Some(interval)) = (lane.flow_of(seq), lane.interval_of(seq))
            && self.too_big.0.len() < TOO_BIG_AT_ONCE
        {
            self.too_big.0.push((socket, flow, interval));
        }
        self.end_probe(socket, seq, Outcome::TooBig, None);
    }

    /// The kernel tells the MTU once for every try to send: the first one counts.
    #[cold]
    fn too_big_here(&mut self, socket: SocketId, to: IpAddr, mtu: u32) {
        let TooBig(waiting) = &mut self.too_big;
        let told = |&(of, flow, _): &(SocketId, FlowId, IntervalId)| {
            of == socket && self.routes[flow.0 as usize].to.ip() == to
        };
        if let Some(at) = waiting.iter().position(told) {
            let (_, flow, interval) = waiting.swap_remove(at);
            self.ledger.record(&Record { flow, interval, outcome: Outcome::MtuTold(mtu) });
        }
    }

    fn icmp(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        reporter: Option<IpAddr>,
        meaning: IcmpMeaning,
        quoted: &[u8],
    ) {
        let outcome = match meaning {
            IcmpMeaning::Refused => Outcome::Refused,
            IcmpMeaning::Prohibited => Outcome::Prohibited,
            IcmpMeaning::TimeExceeded => Outcome::TimeExceeded,
            IcmpMeaning::TooBig(_) => Outcome::TooBig,
            IcmpMeaning::Unreachable => Outcome::Unreachable,
        };
        let reader = self.readers[usize::from(socket.0)];
        let lane = &self.lanes[usize::from(reader.lane)];
        let of = |flow: FlowId, ports| {
            let route = &self.routes[flow.0 as usize];
            route.is_to(to, ports) && route.socket == socket
        };
        let quote = self.methods[usize::from(reader.method)].read_quote(quoted, lane.newest());
        let known = quote.filter(|quote| lane.flow_of(quote.seq).is_some_and(|flow| of(flow, quote.ports)));
        if known.is_none() && quote.is_some_and(|quote| quote.ports.is_some()) {
            return; // a raw socket is told of every error that its protocol meets: another program's
        }
        let seq = known.map(|quote| quote.seq).or_else(|| {
            // a router may quote no more than the UDP header: then the flow's newest probe is meant, of several that
            // differ by class or size alone the first one's that can be
            let fits = |flow: FlowId| match meaning {
                IcmpMeaning::TooBig(mtu) => self.packet_len(flow) > mtu as usize,
                _ => true,
            };
            let of = |flow| of(flow, None) && fits(flow);
            let flow = (0..self.routes.len() as u32).map(FlowId).find(|flow| of(*flow))?;
            lane.newest_of(flow)
        });
        match seq {
            Some(seq) => {
                if let (IcmpMeaning::TooBig(mtu @ 1..), Some(flow), Some(interval)) =
                    (meaning, lane.flow_of(seq), lane.interval_of(seq))
                {
                    self.ledger.record(&Record { flow, interval, outcome: Outcome::MtuTold(mtu) });
                }
                self.end_probe(socket, seq, outcome, reporter);
            }
            None => self.progress.unasked.add(1),
        }
    }

    /// Bytes of a flow's packets, the IP header included.
    fn packet_len(&self, flow: FlowId) -> usize {
        let route = &self.routes[flow.0 as usize];
        let ip = if route.to.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        let method = &self.methods[usize::from(route.method)];
        ip + method.len_with_header()
    }

    fn end_probe(&mut self, socket: SocketId, seq: Seq, outcome: Outcome, reporter: Option<IpAddr>) {
        let Parts { lanes, readers, ledger, progress, samples, .. } = self;
        let lane = &mut lanes[usize::from(readers[usize::from(socket.0)].lane)];
        lane.fail(seq, outcome, &mut |record| {
            note(&record, ledger, progress, samples);
            if let Some(by) = reporter {
                ledger.record(&Record { outcome: Outcome::Reported(by), ..record });
            }
        });
    }
}
