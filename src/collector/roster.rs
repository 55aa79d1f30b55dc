//! The book of what a worker has, by the worker's own numbers, and how it is carried on to another plan.
//!
//! A worker numbers its sockets, flows, in-flight rings and methods. While probes are in flight those numbers must go
//! on meaning the same: slots of a ring hold flow numbers, and so do the tallies of intervals that are still open. So a
//! flow that stays keeps its number; the number of one that leaves is given to another only after a later change.
//! Sockets, rings and methods are numbered anew: nothing in flight holds their numbers.
//!
//! Pure: nothing is opened here. Not responsible for what the worker does with it ([`super::outfit`]) nor for when
//! ([`super::reload`]). Read [`Roster`] and [`Roster::follow`] first.

use super::ledger;
use super::outfit::{LaneChange, Outfit, Seat, Sweeps};
use super::share::Share;
use super::worker::{self, Reader, Route};
use crate::config::{Matching, Plan};
use crate::net::{Limits, SocketId};
use crate::probe::inflight::{self, InFlight};
use crate::probe::method::Method;
use crate::probe::random::Random;
use crate::probe::schedule::Sweep;
use crate::probe::shape::{Pacing, Shape};
use crate::probe::{FlowId, Seq};
use crate::summary::tally::{Layout, Tally};
use crate::wire::stamp::ErrorEstimate;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Rings and methods of a worker at most: routes name them in 8 bits.
pub const MOST_NAMED: usize = 256;
/// Sockets of a worker at most, those that leave included: they are counted in 16 bits.
pub const MOST_SOCKETS: usize = 65_535;

/// What is the same for all workers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the kernel gives transmit stamps.
    pub kernel_stamps: bool,
    /// Probes in flight at most, instead of what the rate and the loss threshold ask for.
    pub in_flight: Option<usize>,
    /// How good the local clock is, for probes to say.
    pub clock: Option<ErrorEstimate>,
}

/// A plan would need more of something than a worker can number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{asked} {what} on one worker, {possible} possible while the old plan's probes are in flight; change less at once, or restart"
)]
pub struct TooMany {
    what: &'static str,
    asked: usize,
    possible: usize,
}

/// A flow of the plan before whose probes may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaving {
    number: u32,
    to: SocketAddr,
    socket: SocketId,
    /// Reads what comes back.
    reader: Reader,
}

/// The size of an in-flight ring.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ring {
    loss_threshold: Duration,
    /// Probes it remembers.
    slots: usize,
    /// Probes in flight at most.
    limit: usize,
    /// Flow numbers it knows.
    flows: usize,
}

/// What one worker has.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    worker: u16,
    /// Its part of the plan.
    pub share: Share,
    /// By position in [`Share::flows`]: the flow's number.
    numbers: Vec<u32>,
    /// By position in the sweeps: the number of the flow that stands there. The same numbers, but a sweep that goes on
    /// keeps the order it had.
    order: Vec<u32>,
    /// Flow numbers there are, with and without a flow.
    known: usize,
    /// Sockets after those of the share: sources of the plan before.
    leaving_sockets: usize,
    leaving: Vec<Leaving>,
    /// Those of the share first.
    rings: Vec<Ring>,
    /// By shape of the plan: its STAMP session-sender identifier.
    ssids: Vec<u16>,
    /// Shapes of the plan before that read what is in flight, named after those of the plan.
    leaving_shapes: Vec<Shape>,
    next_ssid: u16,
    /// What its tallies cover.
    pub layout: Arc<Layout>,
}

/// The plan a roster is carried on from, and what another one has of it.
#[derive(Clone, Copy, Debug)]
pub struct Succession<'p> {
    /// The plan before.
    pub former: &'p Plan,
    /// The plan now.
    pub plan: &'p Plan,
    /// What it has of the plan before.
    pub same: &'p Matching,
}

/// Stands where no flow is: nobody is asked and nobody may answer.
const NOBODY: Route = Route {
    to: SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0)),
    socket: SocketId(u16::MAX),
    lane: 0,
    method: 0,
    traffic_class: None,
    stamp_one_in: 0,
};

impl Roster {
    /// A worker that has nothing yet. Its first session-sender identifier is drawn here.
    pub fn new(worker: u16, random: &mut Random) -> Roster {
        Roster { worker, next_ssid: random.bits() as u16, ..Roster::default() }
    }

    /// Whether something of the plan before is still there.
    pub fn has_leaving(&self) -> bool {
        self.leaving_sockets > 0 || !self.leaving.is_empty()
    }

    /// The worker's roster under another plan, and what brings the worker there. What leaves stays on the books until
    /// [`Roster::settled`]; nothing of an earlier change may be left.
    ///
    /// # Errors
    /// More rings, methods or sockets than can be named.
    pub fn follow(
        &self,
        way: &Succession<'_>,
        share: Share,
        settings: &Settings,
        random: &mut Random,
    ) -> Result<(Roster, Outfit), TooMany> {
        let plan = way.plan;
        let (worker, known, next_ssid) = (self.worker, self.known, self.next_ssid);
        let mut next = Roster { worker, share, known, next_ssid, ..Roster::default() };
        let (seats, sockets_of) = next.seats(self, way, settings);
        let (thresholds, lane_of) = next.share.thresholds(plan);
        next.rings = thresholds.iter().map(|threshold| Ring::new(*threshold)).collect();
        next.name_shapes(self, way);
        let renumbered = next.number_flows(self, way, &sockets_of);
        // old probes may hold intervals of the new plan open
        let longest = next.rings.iter().map(|ring| ring.loss_threshold).max().unwrap_or_default();
        let tallies = ledger::tallies(plan.interval, longest);
        for (what, asked, possible) in [
            ("open intervals", ledger::overlapping(plan.interval, longest), ledger::MOST_OPEN),
            ("loss thresholds", next.rings.len(), MOST_NAMED),
            ("kinds of probes", plan.shapes.len() + next.leaving_shapes.len(), MOST_NAMED),
            ("sockets", seats.len(), MOST_SOCKETS),
        ] {
            if asked > possible {
                return Err(TooMany { what, asked, possible });
            }
        }
        let lanes = next.lanes(self, thresholds.len(), &lane_of, settings, random);
        let pairs = next.keep_sweeps(self);
        next.layout = Arc::new(next.layout(plan, settings));
        let identity = next.order.iter().zip(0..).all(|(number, position)| *number == position);
        let sweeps = Sweeps {
            sweeps: next.share.sweeps.clone(),
            order: if identity { Vec::new() } else { next.order.clone() },
            pairs,
            seed: random.bits(),
        };
        let tallies = (0..tallies).map(|_| Tally::new(&next.layout, worker)).collect();
        let rest = next.outfit(plan, seats, settings);
        Ok((next, Outfit { lanes, renumbered, sweeps: Some(sweeps), tallies, ..rest }))
    }

    /// The roster without what has left, and what brings the worker there, when no probe of the plan before is in
    /// flight any more.
    pub fn settled(&self, plan: &Plan, settings: &Settings) -> (Roster, Outfit) {
        let mut next = self.clone();
        (next.leaving, next.leaving_sockets, next.leaving_shapes) = (Vec::new(), 0, Vec::new());
        next.rings.truncate(next.share.thresholds(plan).0.len());
        let lanes =
            (0..).zip(&next.rings).map(|(lane, ring)| LaneChange { from: Some(lane), ring: None, limit: ring.limit });
        let lanes = lanes.collect();
        let stay = |socket| Seat { kept: Some(socket), spec: None, opened: None };
        let seats = (0..next.share.sources.len() as u16).map(stay).collect();
        let outfit = Outfit { lanes, ..next.outfit(plan, seats, settings) };
        (next, outfit)
    }

    /// Bytes of the worker's rings, routes, tallies, and buffers.
    pub fn memory(&self, plan: &Plan, limits: &Limits) -> usize {
        let longest = self.rings.iter().map(|ring| ring.loss_threshold).max().unwrap_or_default();
        let tallies = ledger::tallies(plan.interval, longest);
        self.rings.iter().map(|ring| InFlight::memory(ring.slots, ring.flows)).sum::<usize>()
            + tallies * Tally::memory(&self.layout)
            + self.known * size_of::<Route>()
            + usize::from(limits.buffers) * (limits.datagram + 256)
    }

    /// The sockets under the new plan; and, by source of the former plan, their new numbers.
    fn seats(&mut self, former: &Roster, way: &Succession<'_>, settings: &Settings) -> (Vec<Seat>, HashMap<u32, u16>) {
        let before: HashMap<u32, u16> = former.share.sources.iter().copied().zip(0..).collect();
        let connected = former.share.socket_specs(way.former, false);
        let specs = self.share.socket_specs(way.plan, settings.kernel_stamps);
        let mut seats = Vec::with_capacity(specs.len());
        let mut now = HashMap::new();
        for ((source, mut spec), at) in self.share.sources.iter().zip(specs).zip(0..) {
            let old = way.same.sources[*source as usize].filter(|old| before.contains_key(old));
            let kept = old.and_then(|old| before.get(&old).copied());
            if let (Some(old), Some(kept)) = (old, kept) {
                now.insert(old, at);
                // it must still hear from the targets it does not ask any more: it stays connected only to what
                // was its only target before
                spec.connect = spec.connect.filter(|to| connected[usize::from(kept)].connect == Some(*to));
            }
            seats.push(Seat { kept, spec: Some(spec), opened: None });
        }
        for (source, number) in former.share.sources.iter().zip(0..) {
            now.entry(*source).or_insert_with(|| {
                seats.push(Seat { kept: Some(number), spec: None, opened: None });
                self.leaving_sockets += 1;
                (seats.len() - 1) as u16
            });
        }
        (seats, now)
    }

    /// Gives every shape of the plan a session-sender identifier: the one it had, or a new one. One per shape: flows
    /// that differ in class alone are sessions of their own to a reflector that counts.
    fn name_shapes(&mut self, former: &Roster, way: &Succession<'_>) {
        for known in &way.same.shapes {
            let ssid = known.and_then(|old| former.ssids.get(old as usize).copied());
            self.ssids.push(ssid.unwrap_or_else(|| {
                let ssid = self.next_ssid.max(1);
                self.next_ssid = ssid.wrapping_add(1);
                ssid
            }));
        }
        for source in &former.share.sources {
            let shape = &way.former.shapes[way.former.sources[*source as usize].shape as usize];
            if !way.plan.shapes.contains(shape) && !self.leaving_shapes.contains(shape) {
                self.leaving_shapes.push(shape.clone());
            }
        }
    }

    /// Flows that stay keep their number, those that are new get free ones or more; returns the free ones given.
    fn number_flows(&mut self, former: &Roster, way: &Succession<'_>, sockets_of: &HashMap<u32, u16>) -> Vec<FlowId> {
        let mut number_of = vec![Layout::NONE; way.former.flows.len()];
        for (flow, number) in former.share.flows.iter().zip(&former.numbers) {
            number_of[*flow as usize] = *number;
        }
        let mut taken = vec![false; former.known];
        let kept = self.share.flows.iter().map(|flow| {
            let number = &mut number_of[way.same.flows[*flow as usize]? as usize];
            let number = std::mem::replace(number, Layout::NONE);
            (number != Layout::NONE).then(|| {
                taken[number as usize] = true;
                number
            })
        });
        let kept: Vec<Option<u32>> = kept.collect();
        for (flow, number) in way.former.flows.iter().zip(number_of) {
            if number == Layout::NONE {
                continue;
            }
            taken[number as usize] = true;
            let source = &way.former.sources[flow.source as usize];
            let shape = &way.former.shapes[source.shape as usize];
            let mut shapes = way.plan.shapes.iter().chain(&self.leaving_shapes);
            let method = shapes.position(|known| known == shape).unwrap_or_default() as u8;
            let lane = self.lane_of_leaving(source.loss_threshold);
            let socket = sockets_of.get(&flow.source).copied().unwrap_or(u16::MAX);
            let to = way.former.targets[flow.target as usize].address;
            self.leaving.push(Leaving { number, to, socket: SocketId(socket), reader: Reader { lane, method } });
        }
        let mut free = (0u32..).zip(taken).filter(|(_, taken)| !taken).map(|(number, _)| number);
        let mut renumbered = Vec::new();
        for kept in kept {
            let number = kept.or_else(|| free.next().inspect(|number| renumbered.push(FlowId(*number))));
            self.numbers.push(number.unwrap_or(self.known as u32));
            self.known += usize::from(number.is_none());
        }
        renumbered
    }

    /// The ring of probes that leave; behind those of the plan when it has none of that threshold.
    fn lane_of_leaving(&mut self, threshold: Duration) -> u8 {
        let known = self.rings.iter().position(|ring| ring.loss_threshold == threshold);
        let lane = known.unwrap_or_else(|| {
            self.rings.push(Ring::new(threshold));
            self.rings.len() - 1
        });
        lane as u8 // more than 256 are refused
    }

    /// Sizes the rings, of which the first `planned` are of the plan, and makes those that must be new or larger.
    fn lanes(
        &mut self,
        former: &Roster,
        planned: usize,
        lane_of: &[u8],
        settings: &Settings,
        random: &mut Random,
    ) -> Vec<LaneChange> {
        let mut lanes = Vec::with_capacity(self.rings.len());
        for (lane, ring) in self.rings.iter_mut().enumerate() {
            let from = former.rings.iter().position(|known| known.loss_threshold == ring.loss_threshold);
            let old = from.map_or(Ring::new(ring.loss_threshold), |from| former.rings[from]);
            let (mut limit, mut flows) = (old.limit, old.flows);
            if lane < planned {
                let rate = self.share.lane_rate(lane_of, lane as u8);
                let wanted = settings.in_flight.unwrap_or_else(|| inflight::room(rate, ring.loss_threshold));
                // never less than what may be in flight
                (limit, flows) = (limit.max(wanted), flows.max(self.known));
            }
            let slots = old.slots.max(InFlight::slots(2 * limit));
            *ring = Ring { slots, limit, flows, ..*ring };
            let new = from.is_none() || slots > old.slots || flows > old.flows;
            let threshold = ring.loss_threshold;
            let ring = new.then(|| InFlight::new(slots, flows, threshold, Seq(random.bits() as u32), limit));
            lanes.push(LaneChange { from: from.map(|from| from as u8), ring, limit });
        }
        lanes
    }

    /// Finds the sweeps of the same flows at the same rate, which go on; pairs of their positions.
    fn keep_sweeps(&mut self, former: &Roster) -> Vec<(u32, u32)> {
        let part = |order: &[u32], sweep: &Sweep| order[sweep.flows.start as usize..sweep.flows.end as usize].to_vec();
        let sorted = |order: &[u32], sweep: &Sweep| {
            let mut flows = part(order, sweep);
            flows.sort_unstable();
            (flows, sweep.cycles_per_second.to_bits(), sweep.pacing == Pacing::Poisson)
        };
        let mut known: HashMap<_, u32> =
            former.share.sweeps.iter().zip(0..).map(|(sweep, at)| (sorted(&former.order, sweep), at)).collect();
        self.order.clone_from(&self.numbers);
        let mut pairs = Vec::new();
        for (at, sweep) in (0..).zip(&self.share.sweeps) {
            let Some(old) = known.remove(&sorted(&self.numbers, sweep)) else { continue };
            let as_before = part(&former.order, &former.share.sweeps[old as usize]);
            self.order[sweep.flows.start as usize..sweep.flows.end as usize].copy_from_slice(&as_before);
            pairs.push((old, at));
        }
        pairs
    }

    /// What the worker's tallies cover.
    fn layout(&self, plan: &Plan, settings: &Settings) -> Layout {
        let mut local = vec![Layout::NONE; plan.paths.len()];
        let none = vec![Layout::NONE; self.known];
        let mut layout = Layout { flow_paths: none.clone(), flows: none, paths: Vec::new(), stamped: Vec::new() };
        for (index, number) in self.share.flows.iter().zip(&self.numbers) {
            let flow = plan.flows[*index as usize];
            let position = &mut local[flow.path as usize];
            let shape = &plan.shapes[plan.sources[flow.source as usize].shape as usize];
            let stamped = settings.kernel_stamps && self.share.one_in(shape.stamps) != 0;
            if *position == Layout::NONE {
                *position = layout.paths.len() as u32;
                layout.paths.push(flow.path);
                layout.stamped.push(stamped);
            }
            // a path with some unstamped flows would mix stamps of both kinds: the stamped ones count
            layout.stamped[*position as usize] |= stamped;
            layout.flow_paths[*number as usize] = *position;
            layout.flows[*number as usize] = *index;
        }
        layout
    }

    /// Everything a worker needs that follows from the roster alone.
    fn outfit(&self, plan: &Plan, seats: Vec<Seat>, settings: &Settings) -> Outfit {
        let (_, lane_of) = self.share.thresholds(plan);
        let shapes: Vec<&Shape> = plan.shapes.iter().chain(&self.leaving_shapes).collect();
        let methods = shapes.iter().zip(self.ssids.iter().chain(std::iter::repeat(&1))).map(|(shape, ssid)| {
            let method = Method::new(shape, *ssid);
            settings.clock.map_or(method.clone(), |clock| method.with_clock(clock))
        });
        let read =
            |(source, lane): (&u32, &u8)| Reader { lane: *lane, method: plan.sources[*source as usize].shape as u8 };
        let mut readers: Vec<Reader> = self.share.sources.iter().zip(&lane_of).map(read).collect();
        readers.resize(seats.len(), Reader { lane: 0, method: 0 });
        let routes = self.routes(plan, &lane_of, settings);
        let mut former = Vec::new();
        for Leaving { socket, reader, .. } in &self.leaving {
            let Some(now) = readers.get_mut(usize::from(socket.0)) else { continue };
            if usize::from(socket.0) >= self.share.sources.len() {
                *now = *reader;
                continue;
            }
            let (a, b) = (shapes[usize::from(now.method)], shapes[usize::from(reader.method)]);
            let read_alike = now.lane == reader.lane && (a.method, &a.key) == (b.method, &b.key);
            if !read_alike && !former.contains(&(*socket, *reader)) {
                former.push((*socket, *reader));
            }
        }
        let largest = shapes.iter().map(|shape| usize::from(shape.size)).max().unwrap_or(0);
        // 50 ms of replies may wait in the buffers; what is beyond waits in the sockets
        let waiting = (self.share.rate * 0.05).clamp(256.0, 16_384.0) as u16;
        let in_flight = settings.in_flight.unwrap_or(usize::MAX).min(usize::from(waiting));
        Outfit {
            seats,
            lanes: Vec::new(),
            thresholds: self.rings.iter().map(|ring| ring.loss_threshold).collect(),
            routes,
            readers,
            former,
            methods: methods.collect(),
            renumbered: Vec::new(),
            sweeps: None,
            tallies: Vec::new(),
            spin: self.share.rate >= worker::SPIN_RATE,
            max_lateness_ns: crate::time::nanos(worker::max_lateness(self.share.rate)),
            limits: Limits {
                batch: worker::BATCH as u16,
                buffers: in_flight.max(64).next_power_of_two() as u16,
                datagram: largest.max(128),
            },
        }
    }

    fn routes(&self, plan: &Plan, lane_of: &[u8], settings: &Settings) -> Vec<Route> {
        let mut routes = vec![NOBODY; self.known];
        for ((index, number), socket) in self.share.flows.iter().zip(&self.numbers).zip(&self.share.flow_sockets) {
            let flow = plan.flows[*index as usize];
            let shape = &plan.shapes[flow.shape as usize];
            let of_socket = &plan.shapes[plan.sources[flow.source as usize].shape as usize];
            routes[*number as usize] = Route {
                to: plan.targets[flow.target as usize].address,
                socket: SocketId(*socket),
                lane: lane_of[usize::from(*socket)],
                method: flow.shape as u8,
                traffic_class: (shape.dscp != of_socket.dscp).then(|| shape.dscp.traffic_class()),
                stamp_one_in: if settings.kernel_stamps { self.share.one_in(of_socket.stamps) } else { 0 },
            };
        }
        for Leaving { number, to, socket, reader } in &self.leaving {
            let gone = Route { to: *to, socket: *socket, lane: reader.lane, method: reader.method, ..NOBODY };
            routes[*number as usize] = gone;
        }
        routes
    }
}

impl Ring {
    fn new(loss_threshold: Duration) -> Ring {
        Ring { loss_threshold, slots: 0, limit: 0, flows: 0 }
    }
}
