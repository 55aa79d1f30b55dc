//! The book of what a worker has, by the worker's own numbers, and how it is carried on to another plan.
//!
//! A worker numbers its sockets, flows, in-flight rings and methods. While probes are in flight those numbers must go
//! on meaning the same: slots of a ring hold flow numbers, and so do the tallies of intervals that are still open. So a
//! flow that stays keeps its number; the number of one that leaves is given to another only after a later change.
//! Sockets, rings and methods are numbered anew: nothing in flight holds their numbers.
//!
//! Pure: nothing is opened here. Not responsible for what the worker does with it ([`super::outfit`]) nor for when
//! ([`super::reload`]). Read [`Roster`] and [`Roster::follow`] first.

use super::demand;
use super::ledger;
use super::outfit::{LaneChange, Outfit, PortChange, SocketChange, Sweeps};
use super::seats::{EchoPath, Seats};
use super::share::Share;
use super::worker::{self, Reader, Route};
use crate::config::{Matching, Plan};
use crate::net::{Limits, SocketId};
use crate::probe::inflight::{self, InFlight};
use crate::probe::method::{Addressing, Method};
use crate::probe::random::Random;
use crate::probe::schedule::Sweep;
use crate::probe::shape::{Dscp, MethodKind, Pacing, Shape};
use crate::probe::{FlowId, Seq};
use crate::summary::tally::{Layout, Tally};
use crate::wire::stamp::ErrorEstimate;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Rings and methods of a worker at most: routes name them in 8 bits.
pub const MOST_NAMED: usize = 256;
/// Sockets of a worker at most, and its ports, those that leave included: they are counted in 16 bits.
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
    /// How ICMP echoes go out.
    pub echo: EchoPath,
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
    from: IpAddr,
    to: SocketAddr,
    socket: SocketId,
    /// The place of its port.
    port: u16,
    /// Reads what comes back to its socket.
    reader: Reader,
    /// What its probes look like: of several classes and sizes not always what the reader's do.
    method: u8,
    dscp: Dscp,
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
    /// Its sockets.
    seats: Seats,
    /// Sockets after those: of the plan before.
    leaving_sockets: usize,
    /// Ports after those of the share: sources of the plan before.
    leaving_ports: usize,
    /// Raw sockets that are given answers to another one's probes.
    copies: Vec<(SocketId, SocketId)>,
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
    /// By source of the plan now: the identifier of its echoes (see [`super::seats::identifiers`]).
    pub identifiers: &'p [u16],
}

/// How sockets and ports are carried on.
struct Carried {
    sockets: Vec<SocketChange>,
    ports: Vec<PortChange>,
    /// Of each socket of the plan before, its new place.
    socket_of: Vec<u16>,
    /// Of each port of the plan before, its new place.
    port_of: Vec<u16>,
}

/// Stands where no flow is: nobody is asked and nobody may answer.
fn nobody() -> Route {
    let to = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Route {
        to,
        addressing: Addressing::new(to, to),
        socket: SocketId(u16::MAX),
        lane: 0,
        method: 0,
        traffic_class: None,
        dscp: Dscp(0),
        stamp_one_in: 0,
        flow_label: 0,
    }
}

impl Roster {
    /// A worker that has nothing yet. Its first session-sender identifier is drawn here.
    pub fn new(worker: u16, random: &mut Random) -> Roster {
        Roster { worker, next_ssid: random.bits() as u16, ..Roster::default() }
    }

    /// Whether something of the plan before is still there.
    pub fn has_leaving(&self) -> bool {
        self.leaving_sockets > 0 || self.leaving_ports > 0 || !self.leaving.is_empty()
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
        let (thresholds, lane_of) = next.share.thresholds(plan);
        next.rings = thresholds.iter().map(|threshold| Ring::new(*threshold)).collect();
        next.seats = Seats::new(plan, &next.share, &lane_of, settings.echo);
        let carried = next.carry(self, way, settings);
        next.name_shapes(self, way);
        let renumbered = next.number_flows(self, way, &carried);
        let Carried { sockets, ports, .. } = carried;
        // old probes may hold intervals of the new plan open
        let longest = next.rings.iter().map(|ring| ring.loss_threshold).max().unwrap_or_default();
        let tallies = ledger::tallies(plan.interval, longest);
        for (what, asked, possible) in [
            ("open intervals", ledger::overlapping(plan.interval, longest), ledger::MOST_OPEN),
            ("loss thresholds", next.rings.len(), MOST_NAMED),
            ("kinds of probes", plan.shapes.len() + next.leaving_shapes.len(), MOST_NAMED),
            ("sockets", sockets.len(), MOST_SOCKETS),
            ("ports", ports.len(), MOST_SOCKETS),
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
        let rest = next.outfit(plan, sockets, ports, settings);
        Ok((next, Outfit { lanes, renumbered, sweeps: Some(sweeps), tallies, ..rest }))
    }

    /// The roster without what has left, and what brings the worker there, when no probe of the plan before is in
    /// flight any more.
    pub fn settled(&self, plan: &Plan, settings: &Settings) -> (Roster, Outfit) {
        let mut next = self.clone();
        (next.leaving, next.leaving_sockets, next.leaving_shapes) = (Vec::new(), 0, Vec::new());
        (next.leaving_ports, next.copies) = (0, Vec::new());
        next.rings.truncate(next.share.thresholds(plan).0.len());
        let lanes =
            (0..).zip(&next.rings).map(|(lane, ring)| LaneChange { from: Some(lane), ring: None, limit: ring.limit });
        let lanes = lanes.collect();
        // a raw socket lets in no more what has left
        let specs = next.seats.specs(plan, &next.share, settings.kernel_stamps);
        let sockets = (0..).zip(&next.seats.seats).zip(specs).map(|((at, seat), spec)| SocketChange {
            kept: Some(at),
            spec: seat.raw.map(|_| spec),
            ports: seat.sources.clone(),
            opened: None,
        });
        let ports = (0..).zip(&next.share.sources);
        let ports = ports.map(|(at, source)| PortChange {
            kept: Some(at),
            bind: plan.sources[*source as usize].bind,
            hold: false,
            flow_labels: plan.sources[*source as usize].flow_labels,
        });
        let outfit = Outfit { lanes, ..next.outfit(plan, sockets.collect(), ports.collect(), settings) };
        (next, outfit)
    }

    /// Its sockets, without those that leave.
    pub fn sockets(&self) -> usize {
        self.seats.seats.len()
    }

    /// Bytes of the worker's rings, routes, tallies, and buffers.
    pub fn memory(&self, plan: &Plan, limits: &Limits) -> usize {
        let longest = self.rings.iter().map(|ring| ring.loss_threshold).max().unwrap_or_default();
        let tallies = ledger::tallies(plan.interval, longest);
        self.rings.iter().map(|ring| InFlight::memory(ring.slots, ring.flows)).sum::<usize>()
            + tallies * Tally::memory(&self.layout)
            + self.known * size_of::<Route>()
            + demand::buffer_bytes(limits)
    }

    /// The sockets and ports under the new plan.
    fn carry(&mut self, former: &Roster, way: &Succession<'_>, settings: &Settings) -> Carried {
        let (ports, port_of) = self.carry_ports(former, way);
        let kept = self.kept_sockets(former, &ports);
        let before = former.seats.specs(way.former, &former.share, false);
        let specs = self.seats.specs(way.plan, &self.share, settings.kernel_stamps);
        let mut sockets = Vec::with_capacity(specs.len());
        let mut socket_of = vec![u16::MAX; former.seats.seats.len()];
        let now = |port: &u16| port_of.get(usize::from(*port)).copied();
        for (((seat, mut spec), kept), at) in self.seats.seats.iter().zip(specs).zip(&kept).zip(0..) {
            let mut ports: BTreeSet<u16> = seat.sources.iter().copied().collect();
            if let Some(kept) = kept.map(usize::from) {
                socket_of[kept] = at;
                // it must still hear from the targets it does not ask any more: it stays connected only to what
                // was its only target before, and lets in what it has let in
                spec.connect = spec.connect.filter(|to| before[kept].connect == Some(*to));
                ports.extend(former.seats.seats[kept].sources.iter().filter_map(now));
            }
            sockets.push(SocketChange {
                kept: *kept,
                spec: Some(spec),
                ports: ports.into_iter().collect(),
                opened: None,
            });
        }
        for (old, place) in socket_of.iter_mut().enumerate().filter(|(_, place)| **place == u16::MAX) {
            *place = sockets.len() as u16; // more than 65535 are refused
            self.leaving_sockets += 1;
            let ports = former.seats.seats[old].sources.iter().filter_map(now).collect();
            sockets.push(SocketChange { kept: Some(old as u16), spec: None, ports, opened: None });
        }
        self.copies = self.find_copies(former, &sockets);
        Carried { sockets, ports, socket_of, port_of }
    }

    /// The ports under the new plan; and, by port of the former one, their new places.
    fn carry_ports(&mut self, former: &Roster, way: &Succession<'_>) -> (Vec<PortChange>, Vec<u16>) {
        let before: HashMap<u32, u16> = former.share.sources.iter().copied().zip(0..).collect();
        let mut port_of = vec![u16::MAX; former.share.sources.len()];
        let mut ports = Vec::with_capacity(self.share.sources.len());
        for (index, at) in self.share.sources.iter().zip(0..) {
            let source = &way.plan.sources[*index as usize];
            let kept = way.same.sources[*index as usize].and_then(|old| before.get(&old).copied());
            if let Some(kept) = kept {
                port_of[usize::from(kept)] = at;
            }
            let mut bind = source.bind;
            let method = way.plan.shapes[source.shape as usize].method;
            if method == MethodKind::Icmp
                && let Some(identifier) = way.identifiers.get(*index as usize)
            {
                bind.set_port(*identifier);
            }
            let (hold, flow_labels) = (method == MethodKind::TcpSyn, source.flow_labels);
            ports.push(PortChange { kept, bind, hold, flow_labels });
        }
        for (old, place) in port_of.iter_mut().enumerate().filter(|(_, place)| **place == u16::MAX) {
            *place = ports.len() as u16; // more than 65535 are refused
            self.leaving_ports += 1;
            let source = &way.former.sources[former.share.sources[old] as usize];
            let (bind, flow_labels) = (source.bind, source.flow_labels);
            ports.push(PortChange { kept: Some(old as u16), bind, hold: false, flow_labels });
        }
        (ports, port_of)
    }

    /// By socket: which one it is of those there were. A UDP socket is its port's; a raw one is that of the same address,
    /// method, loss threshold and flow labels, else one of others that would leave.
    fn kept_sockets(&self, former: &Roster, ports: &[PortChange]) -> Vec<Option<u16>> {
        let mut own = HashMap::new();
        let mut raw: Vec<u16> = Vec::new();
        for (at, seat) in (0..).zip(&former.seats.seats) {
            match (seat.raw, seat.sources.first()) {
                (None, Some(port)) => drop(own.insert(*port, at)),
                _ => raw.push(at),
            }
        }
        let mut kept = vec![None; self.seats.seats.len()];
        for alike in [true, false] {
            for (seat, kept) in self.seats.seats.iter().zip(&mut kept).filter(|(_, kept)| kept.is_none()) {
                if seat.raw.is_none() {
                    let port = seat.sources.first().and_then(|port| ports.get(usize::from(*port)));
                    *kept = port.and_then(|port| own.get(&port.kept?).copied());
                    continue;
                }
                let threshold = self.rings[usize::from(seat.lane)].loss_threshold;
                let fits = |old: &u16| {
                    let old = &former.seats.seats[usize::from(*old)];
                    let known = former.rings[usize::from(old.lane)].loss_threshold;
                    let is_alike = known == threshold && old.flow_labels == seat.flow_labels;
                    old.raw == seat.raw && (is_alike || !alike)
                };
                *kept = raw.iter().position(fits).map(|at| raw.swap_remove(at));
            }
        }
        kept
    }

    /// Pairs of raw sockets of one address and method that let in answers to the same port: each is given what the other
    /// one has asked for.
    fn find_copies(&self, former: &Roster, sockets: &[SocketChange]) -> Vec<(SocketId, SocketId)> {
        let raw = sockets.iter().enumerate().filter_map(|(at, socket)| {
            let of_plan = self.seats.seats.get(at);
            let seat = of_plan.or_else(|| former.seats.seats.get(usize::from(socket.kept?)))?;
            Some((SocketId(at as u16), seat.raw?, &socket.ports))
        });
        let raw: Vec<_> = raw.collect();
        let mut copies = Vec::new();
        for (a, of_a, ports) in &raw {
            let ports: BTreeSet<&u16> = ports.iter().collect();
            for (b, of_b, others) in &raw {
                if a != b && of_a == of_b && others.iter().any(|port| ports.contains(port)) {
                    copies.push((*a, *b));
                }
            }
        }
        copies
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
        let of_sources = former.share.sources.iter().map(|source| way.former.sources[*source as usize].shape);
        let of_flows = former.share.flows.iter().map(|flow| way.former.flows[*flow as usize].shape);
        let in_use: BTreeSet<u32> = of_sources.chain(of_flows).collect();
        for shape in in_use {
            let shape = &way.former.shapes[shape as usize];
            if !way.plan.shapes.contains(shape) && !self.leaving_shapes.contains(shape) {
                self.leaving_shapes.push(shape.clone());
            }
        }
    }

    /// Flows that stay keep their number, those that are new get free ones or more; returns the free ones given.
    fn number_flows(&mut self, former: &Roster, way: &Succession<'_>, carried: &Carried) -> Vec<FlowId> {
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
        for (position, index) in former.share.flows.iter().enumerate() {
            let number = number_of[*index as usize];
            if number == Layout::NONE {
                continue;
            }
            taken[number as usize] = true;
            let flow = way.former.flows[*index as usize];
            let source = &way.former.sources[flow.source as usize];
            let method_of = |shape: u32| {
                let mut shapes = way.plan.shapes.iter().chain(&self.leaving_shapes);
                shapes.position(|known| *known == way.former.shapes[shape as usize]).unwrap_or_default() as u8
            };
            let (reads, method) = (method_of(source.shape), method_of(flow.shape));
            let lane = self.lane_of_leaving(source.loss_threshold);
            self.leaving.push(Leaving {
                number,
                from: way.former.paths[flow.path as usize].src,
                to: way.former.targets[flow.target as usize].address,
                socket: SocketId(carried.socket_of[usize::from(former.seats.of_flow[position])]),
                port: carried.port_of[usize::from(former.share.flow_sockets[position])],
                reader: Reader { lane, method: reads },
                method,
                dscp: way.former.shapes[flow.shape as usize].dscp,
            });
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
    fn outfit(&self, plan: &Plan, sockets: Vec<SocketChange>, ports: Vec<PortChange>, settings: &Settings) -> Outfit {
        let shapes: Vec<&Shape> = plan.shapes.iter().chain(&self.leaving_shapes).collect();
        let methods = shapes.iter().zip(self.ssids.iter().chain(std::iter::repeat(&1))).map(|(shape, ssid)| {
            let method = Method::new(shape, *ssid);
            settings.clock.map_or(method.clone(), |clock| method.with_clock(clock))
        });
        let read = self
            .seats
            .seats
            .iter()
            .map(|seat| Reader { lane: seat.lane, method: self.seats.shape_number(seat, plan, &self.share) as u8 });
        let mut readers: Vec<Reader> = read.collect();
        readers.resize(sockets.len(), Reader { lane: 0, method: 0 });
        let mut former = Vec::new();
        for Leaving { socket, reader, .. } in &self.leaving {
            let Some(now) = readers.get_mut(usize::from(socket.0)) else { continue };
            if usize::from(socket.0) >= self.sockets() {
                *now = *reader;
                continue;
            }
            let (a, b) = (shapes[usize::from(now.method)], shapes[usize::from(reader.method)]);
            let read_alike = now.lane == reader.lane && (a.method, &a.key) == (b.method, &b.key);
            if !read_alike && !former.contains(&(*socket, *reader)) {
                former.push((*socket, *reader));
            }
        }
        let raw = |reader: &&Reader| !shapes[usize::from(reader.method)].method.is_udp();
        let of_former = former.iter().map(|(_, reader)| reader);
        let mut quote_readers: Vec<Reader> = Vec::new();
        for reader in readers.iter().chain(of_former).filter(raw) {
            if !quote_readers.contains(reader) {
                quote_readers.push(*reader);
            }
        }
        let own = former.clone();
        for (from, to) in &self.copies {
            let theirs = own.iter().filter(|(socket, _)| socket == from).map(|(_, reader)| *reader);
            for reader in std::iter::once(readers[usize::from(from.0)]).chain(theirs) {
                if reader != readers[usize::from(to.0)] && !former.contains(&(*to, reader)) {
                    former.push((*to, reader));
                }
            }
        }
        let (routes, port_of) = self.routes(plan, settings);
        Outfit {
            seats: sockets,
            ports,
            port_of,
            held: Vec::new(),
            lanes: Vec::new(),
            thresholds: self.rings.iter().map(|ring| ring.loss_threshold).collect(),
            routes,
            readers,
            former,
            quote_readers,
            methods: methods.collect(),
            renumbered: Vec::new(),
            sweeps: None,
            tallies: Vec::new(),
            spin: self.share.rate >= worker::SPIN_RATE,
            max_lateness_ns: crate::time::nanos(worker::max_lateness(self.share.rate)),
            limits: demand::limits(self.share.rate, shapes.iter().copied(), &self.seats, settings.in_flight),
        }
    }

    /// By flow number: its route, and its port's place.
    fn routes(&self, plan: &Plan, settings: &Settings) -> (Vec<Route>, Vec<u16>) {
        let mut routes = vec![nobody(); self.known];
        let mut port_of = vec![u16::MAX; self.known];
        let flows = self.share.flows.iter().zip(&self.numbers).zip(&self.share.flow_sockets).zip(&self.seats.of_flow);
        for (((index, number), port), socket) in flows {
            let flow = plan.flows[*index as usize];
            let shape = &plan.shapes[flow.shape as usize];
            let seat = &self.seats.seats[usize::from(*socket)];
            let of_source = &plan.shapes[plan.sources[flow.source as usize].shape as usize];
            let to = plan.targets[flow.target as usize].address;
            let of_socket = self.seats.shape_of(seat, plan, &self.share);
            routes[*number as usize] = Route {
                to,
                // what the probes leave with, where the source is bound to a wildcard; the port is not known yet
                addressing: Addressing::new(SocketAddr::new(plan.paths[flow.path as usize].src, 0), to),
                socket: SocketId(*socket),
                lane: seat.lane,
                method: flow.shape as u8,
                traffic_class: (shape.dscp != of_socket.dscp).then(|| shape.dscp.traffic_class()),
                dscp: shape.dscp,
                flow_label: 0, // nor is this
                stamp_one_in: if settings.kernel_stamps { self.share.one_in(of_source.stamps) } else { 0 },
            };
            port_of[*number as usize] = *port;
        }
        for leaving in &self.leaving {
            let Leaving { number, from, to, socket, port, reader, method, dscp } = *leaving;
            let addressing = Addressing::new(SocketAddr::new(from, 0), to);
            let lane = reader.lane;
            routes[number as usize] = Route { to, addressing, socket, lane, method, dscp, ..nobody() };
            port_of[number as usize] = port;
        }
        (routes, port_of)
    }
}

impl Ring {
    fn new(loss_threshold: Duration) -> Ring {
        Ring { loss_threshold, slots: 0, limit: 0, flows: 0 }
    }
}
