//! What a worker is given to begin with, and to go on with under another plan.
//!
//! Everything large in it is made by the thread that reloads; the worker moves it into place between two ticks.
//! Not responsible for what belongs into it ([`super::roster`]). Read [`Outfit`] and [`Parts::fit`] first.

use super::ledger::Segment;
use super::worker::{Parts, Reader, Route};
use crate::net::raw::{self, Held};
use crate::net::socket::{self, Socket};
use crate::net::{FlowLabels, Limits, SocketId, SocketSpec, flow_label};
use crate::probe::inflight::InFlight;
use crate::probe::method::Method;
use crate::probe::schedule::{Schedule, Sweep};
use crate::probe::{FlowId, IntervalId};
use crate::summary::tally::Tally;
use crate::time::Monotonic;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A socket's place in a worker's list.
#[derive(Debug)]
pub struct SocketChange {
    /// Which socket it is of those the worker has.
    pub kept: Option<u16>,
    /// What it is to be like; `None` for one that stays as it is.
    pub spec: Option<SocketSpec>,
    /// Which ports it sends from, by their new places; its own one unless it is raw.
    pub ports: Vec<u16>,
    /// The socket, when it is a new one and open.
    pub opened: Option<Socket>,
}

/// A source's port, as the worker has it: of UDP, of TCP, or an ICMP identifier.
#[derive(Clone, Debug)]
pub struct Port {
    /// Local address and port.
    pub local: SocketAddr,
    /// Keeps a TCP port from others.
    held: Option<Arc<Held>>,
}

/// A port's place in a worker's list.
#[derive(Clone, Copy, Debug)]
pub struct PortChange {
    /// Which port it is of those the worker has.
    pub kept: Option<u16>,
    /// Address and port of one that is new; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Whether it is to be held, as one of TCP.
    pub hold: bool,
    /// IPv6 flow labels of what it sends.
    pub flow_labels: FlowLabels,
}

/// An in-flight ring's place in a worker's list.
#[derive(Debug)]
pub struct LaneChange {
    /// Which ring it is of those the worker has.
    pub from: Option<u8>,
    /// A new ring, which takes over from the other, if there is one.
    pub ring: Option<InFlight>,
    /// Probes in flight at most, if that is more than before.
    pub limit: usize,
}

/// What is probed when.
#[derive(Debug)]
pub struct Sweeps {
    /// The tests' parts.
    pub sweeps: Vec<Sweep>,
    /// Flow numbers by position in the sweeps; empty when they are the same.
    pub order: Vec<u32>,
    /// Sweeps that go on: position before, position now.
    pub pairs: Vec<(u32, u32)>,
    /// Decides phases and orders.
    pub seed: u64,
}

/// All of it.
#[derive(Debug)]
pub struct Outfit {
    /// Sockets.
    pub seats: Vec<SocketChange>,
    /// Ports.
    pub ports: Vec<PortChange>,
    /// By flow: its port's place; 65535 where no flow is.
    pub port_of: Vec<u16>,
    /// TCP ports, held while they are used; [`Outfit::open`] brings them.
    pub held: Vec<Arc<Held>>,
    /// Probes in flight.
    pub lanes: Vec<LaneChange>,
    /// By lane.
    pub thresholds: Vec<Duration>,
    /// By flow.
    pub routes: Vec<Route>,
    /// By socket.
    pub readers: Vec<Reader>,
    /// More readers of a socket, for replies to probes of the plan before.
    pub former: Vec<(SocketId, Reader)>,
    /// Readers of what ICMP errors quote of probes from raw sockets.
    pub quote_readers: Vec<Reader>,
    /// Ways to write and read probes.
    pub methods: Vec<Method>,
    /// Flow numbers that another flow had.
    pub renumbered: Vec<FlowId>,
    /// `None`: as before.
    pub sweeps: Option<Sweeps>,
    /// Empty tallies; none: as before.
    pub tallies: Vec<Tally>,
    /// Whether to spin between probes.
    pub spin: bool,
    /// How late a probe may leave, in nanoseconds.
    pub max_lateness_ns: u64,
    /// Sizes of the network's queues.
    pub limits: Limits,
}

/// What a worker has no use for any more; to be dropped by another thread, since freeing takes time too.
#[derive(Debug, Default)]
pub struct Leftovers {
    lanes: Vec<InFlight>,
    tallies: Vec<Tally>,
    routes: Vec<Route>,
    held: Vec<Arc<Held>>,
    /// Sockets that are closed with it.
    pub sockets: Vec<Socket>,
}

impl Outfit {
    /// Opens the sockets and holds the ports that are new; returns all ports, by their places. `had` are those the
    /// worker has.
    ///
    /// # Errors
    /// The kernel's, with the address.
    pub fn open(&mut self, had: &[Port]) -> io::Result<Vec<Port>> {
        let mut ports = Vec::with_capacity(self.ports.len());
        for change in &self.ports {
            let kept = change.kept.and_then(|kept| had.get(usize::from(kept)));
            ports.push(match kept {
                Some(port) => port.clone(),
                None if change.hold => {
                    let held = raw::hold(change.bind)?;
                    Port { local: held.local, held: Some(Arc::new(held)) }
                }
                None => Port { local: change.bind, held: None },
            });
        }
        for SocketChange { kept, spec, ports: own, opened } in &mut self.seats {
            let Some(spec) = spec else { continue };
            let numbers = own.iter().filter_map(|port| ports.get(usize::from(*port)));
            spec.transport = spec.transport.with_ports(numbers.map(|port| port.local.port()).collect());
            if kept.is_some() {
                continue;
            }
            let socket = open_source(spec)?;
            if !spec.transport.is_raw()
                && let Some(port) = own.first().and_then(|port| ports.get_mut(usize::from(*port)))
            {
                port.local = socket.local;
            }
            *opened = Some(socket);
        }
        for (route, port) in self.routes.iter_mut().zip(&self.port_of) {
            let at = usize::from(*port);
            if let (Some(port), Some(change)) = (ports.get(at), self.ports.get(at)) {
                route.addressing.ports.local = port.local.port();
                route.flow_label = match change.flow_labels {
                    FlowLabels::Own => flow_label(port.local.port(), route.to),
                    FlowLabels::System | FlowLabels::Zero => 0,
                };
            }
        }
        self.held = ports.iter().filter_map(|port| port.held.clone()).collect();
        Ok(ports)
    }

    /// Seats the sockets: those the worker has, changed as far as needed, and those that were opened. Which are not
    /// seated come second.
    ///
    /// # Errors
    /// An option that the kernel refused.
    pub fn seat(&mut self, had: Vec<Socket>) -> io::Result<(Vec<Socket>, Vec<Socket>)> {
        let mut had: Vec<Option<Socket>> = had.into_iter().map(Some).collect();
        let mut seated = Vec::with_capacity(self.seats.len());
        for SocketChange { kept, spec, opened, .. } in self.seats.drain(..) {
            let kept = kept.and_then(|kept| had.get_mut(usize::from(kept))?.take());
            let mut socket = kept.or(opened).ok_or_else(|| io::Error::other("a socket was not opened"))?;
            if let Some(spec) = spec {
                socket.adapt(&spec)?;
            }
            seated.push(socket);
        }
        Ok((seated, had.into_iter().flatten().collect()))
    }
}

impl Parts {
    /// Puts the worker under another plan, or its first: what is probed next is as `outfit` says, what is in flight is
    /// remembered. `cut` begins the new plan's intervals, sweeps that are new begin at `start`.
    pub fn fit(&mut self, outfit: Outfit, cut: Option<Segment>, start: Monotonic) -> Leftovers {
        let mut left = Leftovers::default();
        let mut had: Vec<Option<InFlight>> = self.lanes.drain(..).map(Some).collect();
        for LaneChange { from, ring, limit } in outfit.lanes {
            let former = from.and_then(|from| had.get_mut(usize::from(from))?.take());
            let Some(mut lane) = (match (former, ring) {
                (Some(former), Some(mut larger)) => {
                    larger.succeed(&former);
                    left.lanes.push(former);
                    Some(larger)
                }
                (former, ring) => former.or(ring),
            }) else {
                continue;
            };
            lane.allow(limit);
            outfit.renumbered.iter().for_each(|flow| lane.renumber(*flow));
            self.lanes.push(lane);
        }
        left.lanes.extend(had.into_iter().flatten());
        if let Some(Sweeps { sweeps, order, pairs, seed }) = outfit.sweeps {
            let schedule = Schedule::new(&sweeps, start, seed).numbered(order);
            let former = std::mem::replace(&mut self.schedule, schedule);
            self.schedule.follow(former, &pairs);
        }
        left.held = std::mem::replace(&mut self.held, outfit.held);
        left.routes = std::mem::replace(&mut self.routes, outfit.routes);
        self.thresholds = outfit.thresholds;
        self.readers = outfit.readers;
        self.former = outfit.former;
        self.quote_readers = outfit.quote_readers;
        self.methods = outfit.methods;
        self.spin = outfit.spin;
        self.max_lateness_ns = outfit.max_lateness_ns;
        self.too_big.forget();
        if let Some(cut) = cut {
            if let Some(before) = cut.first.0.checked_sub(1) {
                // it may have begun since the last tick; without a tally left it is missing from the summaries
                self.ledger.open(IntervalId(before));
            }
            left.tallies = self.ledger.renew(cut.first, outfit.tallies);
            self.timetable.push(cut, self.ledger.oldest().unwrap_or(cut.first));
        }
        left
    }
}

/// Opens a socket; one whose port the system chooses gets none that reflectors refuse to answer
/// (60000 lies in the range the system chooses from).
fn open_source(spec: &SocketSpec) -> io::Result<Socket> {
    let mut refused = Vec::new(); // kept open, so that the system does not choose it again
    loop {
        let socket = socket::open(spec)?;
        if spec.bind.port() != 0 || !crate::wire::REFLECTOR_PORTS.contains(&socket.local.port()) {
            return Ok(socket);
        }
        refused.push(socket);
    }
}
