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
//! once a tick) and its ends of channels. After start it does not allocate, lock, log or block, but when it is
//! put under another plan: then [`Worker::run`] returns, and a worker over another network goes on ([`Bare`]).
//! What a network reports, and what it means for probes in flight, is in [`super::reading`].

use super::Options;
use super::clock_watch::ClockWatch;
use super::ledger::{Ledger, Timetable};
use super::outfit::{Leftovers, Outfit};
use super::progress::{Progress, Taken};
use super::reading::{TooBig, note};
use super::samples::Samples;
use super::turn::{Change, Turn};
use crate::net::raw::Held;
use crate::net::{Event, NetCounters, Network, Outbox, Outgoing, SocketId, Wait};
use crate::probe::inflight::{Departure, InFlight};
use crate::probe::method::{Addressing, Method, Ports};
use crate::probe::outcome::{Outcome, Record};
use crate::probe::schedule::{Due, Schedule};
use crate::probe::shape::Dscp;
use crate::probe::{FlowId, IntervalId};
use crate::time::{Clock, Monotonic};
use crossbeam_channel::Receiver;
use std::io;
use std::net::SocketAddr;
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
    pub(super) fn is_to(&self, other: SocketAddr, ports: Option<Ports>) -> bool {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Which in-flight ring its probes are in.
    pub lane: u8,
    /// Which method reads them.
    pub method: u8,
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
    /// More readers of a socket: of probes that the plan before sent.
    pub former: Vec<(SocketId, Reader)>,
    /// Readers of what ICMP errors quote of probes from raw sockets.
    pub quote_readers: Vec<Reader>,
    /// Ways to write and read probes.
    pub methods: Vec<Method>,
    /// Open tallies.
    pub ledger: Ledger,
    /// TCP ports that are nobody else's while the sockets are used.
    pub held: Vec<Arc<Held>>,
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
    /// Other plans.
    pub changes: Receiver<Box<Change>>,
}

/// Why [`Worker::run`] returned.
#[derive(Debug)]
pub enum Ended {
    /// Stopped, and the last probe in flight is decided.
    Done,
    /// Another plan has come: get ready for it, tell, and [`Worker::await_turn`].
    Asked(Box<Change>),
    /// It is time for the other plan.
    Due,
    /// The other plan is not to be.
    Withdrawn,
}

/// The worker.
pub struct Worker<N: Network, C: Clock> {
    network: N,
    bare: Bare<C>,
}

/// A worker without a network: before its first, and between two.
#[derive(Debug)]
pub struct Bare<C: Clock> {
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
    /// Counters of the networks before.
    before: NetCounters,
    /// When it is time for another plan, while one is coming.
    turn: Option<Arc<Turn>>,
    /// When the network was laid down last.
    laid_down: Monotonic,
    /// Probes due before are as late as if they were due then: they could not leave, for want of a network.
    resumed: Monotonic,
}

impl<C: Clock> Bare<C> {
    /// A worker that needs a network.
    pub fn new(clock: C, parts: Parts) -> Bare<C> {
        Bare {
            clock,
            parts,
            watch: ClockWatch::default(),
            held: None,
            probes: 0,
            stopped_at: None,
            drops_seen: 0,
            taken: Taken::default(),
            before: NetCounters::default(),
            turn: None,
            laid_down: Monotonic::default(),
            resumed: Monotonic::default(),
        }
    }

    /// A worker that is ready to run. The network's sockets are as the last [`Bare::fit`] seated them.
    pub fn over<N: Network>(mut self, network: N) -> Worker<N, C> {
        let now = self.clock.monotonic();
        // longer than that it was held up: no burst makes that good
        if now.since(self.laid_down) <= crate::time::nanos(SLOW_MAX_LATENESS) {
            self.resumed = now;
        }
        Worker { network, bare: self }
    }

    /// Takes in what a network reports while it is closed.
    pub fn take(&mut self, event: Event<'_>) {
        self.parts.take(event, self.watch.epoch());
    }

    /// Keeps the counters of a network that was closed.
    pub fn closed(&mut self, counters: &NetCounters) {
        self.before.add(counters);
    }

    /// Puts the worker under another plan; see [`Parts::fit`]. The turn it waited for is over.
    pub fn fit(&mut self, outfit: Outfit) -> Leftovers {
        if let Some(due) = self.held.take() {
            // it may be of a flow that is gone
            let interval = self.parts.timetable.interval_at(due.at);
            self.parts.ledger.record(&Record { flow: due.flow, interval, outcome: Outcome::NotSent });
            self.parts.progress.not_sent.add(1);
        }
        let (cut, now) = (self.turn.take().and_then(|turn| turn.cut()), self.clock.monotonic());
        self.parts.fit(outfit, cut, cut.map_or(now, |cut| cut.start))
    }
}

impl<N: Network, C: Clock> Worker<N, C> {
    /// Runs until stopped and the last probe in flight is decided, or until it needs another network.
    ///
    /// # Errors
    /// The network broke: a ring or socket error that no retry mends.
    pub fn run(&mut self) -> io::Result<Ended> {
        loop {
            let now = self.bare.clock.monotonic();
            self.look_for_stop(now);
            let until = match self.bare.turn.as_deref() {
                None if self.bare.parts.changes.is_empty() || self.bare.stopped_at.is_some() => Monotonic(u64::MAX),
                None => match self.bare.parts.changes.try_recv() {
                    Ok(change) => return Ok(Ended::Asked(change)),
                    Err(_) => Monotonic(u64::MAX),
                },
                Some(turn) => match turn.at() {
                    None => return Ok(Ended::Withdrawn),
                    Some(Turn::AT_ONCE) => return Ok(Ended::Due),
                    Some(at) => at,
                },
            };
            // before the other plan's time, what was due until then
            let more = self.fill(now, now.min(Monotonic(until.0 - 1)));
            if now >= until && !more {
                return Ok(Ended::Due);
            }
            self.network.wait(self.how_long(now, until, more))?;
            let emptied = self.drain();
            let now = self.bare.clock.monotonic();
            if emptied {
                self.expire(now);
            }
            let done = self.hand_over(now);
            self.publish();
            if done {
                self.bare.parts.progress.oldest_open.set(u64::MAX);
                return Ok(Ended::Done);
            }
        }
    }

    /// From now on [`Worker::run`] looks for this.
    pub fn await_turn(&mut self, turn: Arc<Turn>) {
        self.bare.turn = Some(turn);
    }

    /// Gives up waiting for a turn that was withdrawn.
    pub fn forget_turn(&mut self) {
        self.bare.turn = None;
    }

    /// Takes the network away.
    pub fn lay_down(mut self) -> (N, Bare<C>) {
        self.bare.laid_down = self.bare.clock.monotonic();
        (self.network, self.bare)
    }

    /// Sends what was due by `due_by`; true when more is due than one batch.
    fn fill(&mut self, now: Monotonic, due_by: Monotonic) -> bool {
        if self.bare.stopped_at.is_some() || now < self.bare.parts.timetable.last().start {
            return false;
        }
        let interval = self.bare.parts.timetable.interval_at(due_by);
        if !self.bare.parts.ledger.open(interval) {
            return false; // no tally has come back: what is due is late, then not sent
        }
        let (mut sent, mut given_up) = (0, 0);
        while sent < BATCH && given_up < GIVE_UP_BATCH {
            let Some(due) = self.bare.held.take().or_else(|| self.bare.parts.schedule.take_due(due_by)) else {
                return false;
            };
            let lateness = now.since(due.at);
            if lateness > self.bare.parts.max_lateness_ns
                && now.since(self.bare.resumed) > self.bare.parts.max_lateness_ns
            {
                given_up += 1;
                self.bare.parts.ledger.record(&Record { flow: due.flow, interval, outcome: Outcome::NotSent });
                self.bare.parts.progress.not_sent.add(1);
                continue;
            }
            if !self.depart(due.flow, interval, now) {
                self.bare.held = Some(due);
                return false;
            }
            if let Some(tally) = self.bare.parts.ledger.newest() {
                tally.sent_late_by(lateness);
            }
            self.bare.parts.progress.lateness.record(lateness);
            sent += 1;
            if self.bare.parts.count.is_some_and(|count| self.bare.probes >= count) {
                self.stop(now);
                return false;
            }
        }
        true
    }

    /// Sends one probe of a flow; false when its ring is full.
    #[inline]
    fn depart(&mut self, flow: FlowId, interval: IntervalId, now: Monotonic) -> bool {
        let Parts { routes, lanes, methods, ledger, progress, samples, .. } = &mut self.bare.parts;
        let route = &routes[flow.0 as usize];
        let lane = &mut lanes[usize::from(route.lane)];
        if lane.next().is_none() {
            return false;
        }
        let stamped = route.stamp_one_in != 0 && self.bare.probes.is_multiple_of(u64::from(route.stamp_one_in));
        self.bare.probes += 1;
        let wall = self.bare.clock.wall();
        let departure = Departure { flow, interval, at: now, wall, stamped, clock_epoch: self.bare.watch.epoch() };
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
    fn how_long(&self, now: Monotonic, until: Monotonic, more: bool) -> Wait {
        if more {
            return Wait::No;
        }
        let longest = now.after(LONGEST_WAIT).min(until);
        if let Some(stopped) = self.bare.stopped_at {
            // nothing to send: replies end the wait, so that the last one ends the run
            let decided = stopped.after(self.bare.parts.longest_threshold());
            return Wait::EventOrUntil(decided.min(longest).max(now.after(TICK)));
        }
        if self.bare.held.is_some() {
            // only replies make room: let some gather, a datagram at a time costs twice as much
            let soon = now.after(HELD_TICK);
            return if self.bare.parts.spin { Wait::SpinUntil(soon) } else { Wait::Until(soon) };
        }
        let due = self.bare.parts.schedule.next_due().unwrap_or(longest).max(self.bare.parts.timetable.last().start);
        if self.bare.parts.spin && due < longest {
            return Wait::SpinUntil(due);
        }
        Wait::Until(due.max(now.after(TICK)).min(longest))
    }

    /// Takes in what the network reports; false when it may have more, so that nothing may expire yet.
    fn drain(&mut self) -> bool {
        if self.bare.watch.stepped(&self.bare.clock) {
            self.bare.parts.progress.clock_steps.add(1);
            if let Some(tally) = self.bare.parts.ledger.newest() {
                tally.clock_stepped();
            }
        }
        let (parts, epoch) = (&mut self.bare.parts, self.bare.watch.epoch());
        let mut events = 0usize;
        self.network.drain(|_, event| {
            events += 1;
            parts.take(event, epoch);
        });
        let drops = self.network.counters().local_drops + self.bare.before.local_drops;
        if drops != self.bare.drops_seen
            && let Some(tally) = self.bare.parts.ledger.newest()
        {
            tally.local_drops(drops - self.bare.drops_seen);
            self.bare.drops_seen = drops;
        }
        events < 2 * BATCH
    }

    /// Declares lost what has waited a loss threshold.
    fn expire(&mut self, now: Monotonic) {
        let Parts { lanes, ledger, progress, samples, .. } = &mut self.bare.parts;
        for lane in lanes {
            lane.expire(now, &mut |record| note(&record, ledger, progress, samples));
        }
    }

    /// Closes intervals whose probes are all decided; true when the worker is done.
    fn hand_over(&mut self, now: Monotonic) -> bool {
        let longest = self.bare.parts.longest_threshold();
        let Parts { ledger, timetable, lanes, thresholds, .. } = &mut self.bare.parts;
        let idle = lanes.iter().all(|lane| lane.is_empty() && lane.awaiting_stamps() == 0);
        let flushed = self.bare.stopped_at.is_some() && idle;
        while let Some(oldest) = ledger.oldest() {
            let end = timetable.end(oldest);
            // the clock alone is not enough: expiry waits while the network may still hold replies
            let decided = end.after(longest) <= now
                && lanes
                    .iter()
                    .zip(&*thresholds)
                    .all(|(lane, threshold)| lane.next_expiry().is_none_or(|expiry| expiry >= end.after(*threshold)));
            // at the end there is time: nothing is given up because the summary thread takes one after the other
            if !decided && (!flushed || !ledger.hand_over()) {
                break;
            }
            ledger.close_oldest();
        }
        let handed = ledger.hand_over();
        flushed && handed && ledger.oldest().is_none()
    }

    fn look_for_stop(&mut self, now: Monotonic) {
        let over = self.bare.parts.end.is_some_and(|end| now >= end);
        if self.bare.stopped_at.is_none() && (over || self.bare.parts.stop.load(Ordering::Relaxed)) {
            self.stop(now);
        }
    }

    fn stop(&mut self, now: Monotonic) {
        self.bare.stopped_at = Some(now);
        self.bare.held = None;
        self.bare.turn = None;
    }

    /// Shows the counters to others, once a tick.
    fn publish(&mut self) {
        let Bare { parts, taken, before, .. } = &mut self.bare;
        let Parts { lanes, ledger, timetable, progress, .. } = &*parts;
        progress.in_flight.set(lanes.iter().map(InFlight::len).sum::<usize>() as u64);
        progress.in_flight_limit.set(lanes.iter().map(InFlight::limit).sum::<usize>() as u64);
        progress.handed_over.set(ledger.handed_over);
        progress.given_up.set(ledger.given_up);
        progress.after_close.set(ledger.after_close);
        progress.oldest_open.set(ledger.oldest().unwrap_or_else(|| timetable.last().first).0.into());
        let implausible = lanes.iter().map(|lane| lane.totals().implausible_residence).sum();
        taken.implausible_residence(progress, implausible);
        let mut counters = self.network.counters();
        counters.add(before);
        taken.net(progress, &counters);
    }
}

impl Parts {
    /// The parts of a worker that has no plan yet: [`Parts::fit`] brings the first.
    pub fn new(ledger: Ledger, options: &Options, stop: Arc<AtomicBool>, changes: Receiver<Box<Change>>) -> Parts {
        let never = Monotonic(u64::MAX);
        Parts {
            schedule: Schedule::new(&[], never, 0),
            lanes: Vec::new(),
            thresholds: Vec::new(),
            routes: Vec::new(),
            readers: Vec::new(),
            former: Vec::new(),
            quote_readers: Vec::new(),
            methods: Vec::new(),
            held: Vec::new(),
            ledger,
            timetable: Timetable::new(never, Duration::MAX),
            spin: false,
            max_lateness_ns: 0,
            end: None,
            count: options.count,
            samples: options.samples.clone(),
            too_big: TooBig::default(),
            progress: Arc::default(),
            stop,
            changes,
        }
    }

    fn longest_threshold(&self) -> Duration {
        self.thresholds.iter().copied().max().unwrap_or_default()
    }
}
