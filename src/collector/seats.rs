//! Which of a worker's flows share a network socket.
//!
//! Over UDP every source port is a socket of its own. Raw sockets are shared by all source ports of one source
//! address, because the kernel offers each of them every packet of its protocol. Not responsible for which worker
//! has which source port ([`super::share`]). Read [`Seats`] first.

use super::share::Share;
use crate::config::Plan;
use crate::net::raw::{self, Held, Transport};
use crate::net::socket::{self, Socket};
use crate::net::{SocketSpec, TransmitStamps};
use crate::probe::shape::MethodKind;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

/// How ICMP echoes go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoPath {
    /// Over raw sockets (`CAP_NET_RAW`).
    Raw,
    /// Over ping sockets, one per identifier.
    PingSockets,
}

impl std::fmt::Display for EchoPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EchoPath::Raw => "raw sockets",
            EchoPath::PingSockets => "ping sockets (unprivileged)",
        })
    }
}

/// One network socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The worker's sources that use it, by position; one unless it is raw.
    pub sources: Vec<u16>,
    /// Where a raw one is bound: the source address, and its zone.
    pub raw: Option<(MethodKind, SocketAddr)>,
    /// Which in-flight ring its probes are in.
    pub lane: u8,
}

/// A worker's network sockets.
#[derive(Clone, Debug, Default)]
pub struct Seats {
    /// The sockets; the position is the network's socket number.
    pub seats: Vec<Seat>,
    /// Per flow of the worker: its socket.
    pub of_flow: Vec<u16>,
}

/// The sockets of a worker, open.
#[derive(Debug)]
pub struct Opened {
    /// For the network, by [`Seats::seats`].
    pub sockets: Vec<Socket>,
    /// Per source of the worker: its local address and port (identifier).
    pub locals: Vec<SocketAddr>,
    /// TCP ports that are to be held while the sockets are used.
    pub held: Vec<Held>,
}

impl Seats {
    /// Seats the flows of a share; `lanes` per source.
    pub fn new(plan: &Plan, share: &Share, lanes: &[u8], echo: EchoPath) -> Seats {
        let mut seats = Seats::default();
        let mut own = vec![None; share.sources.len()];
        let mut seated = HashSet::new();
        for (flow, source) in share.flows.iter().zip(&share.flow_sockets) {
            let flow = plan.flows[*flow as usize];
            let method = plan.shapes[flow.shape as usize].method;
            let lane = lanes[usize::from(*source)];
            let is_raw = method == MethodKind::TcpSyn || method == MethodKind::Icmp && echo == EchoPath::Raw;
            let seat = if is_raw {
                let mut local = plan.targets[flow.target as usize].address; // for its zone
                local.set_ip(plan.paths[flow.path as usize].src);
                local.set_port(0);
                let raw = Some((method, local));
                // few: one per source address, method and loss threshold
                let known = seats.seats.iter().position(|seat| seat.raw == raw && seat.lane == lane);
                known.unwrap_or_else(|| seats.add(Seat { sources: Vec::new(), raw, lane }))
            } else {
                *own[usize::from(*source)]
                    .get_or_insert_with(|| seats.add(Seat { sources: Vec::new(), raw: None, lane }))
            };
            if seated.insert((seat, *source)) {
                seats.seats[seat].sources.push(*source);
            }
            seats.of_flow.push(seat as u16);
        }
        seats
    }

    fn add(&mut self, seat: Seat) -> usize {
        self.seats.push(seat);
        self.seats.len() - 1
    }

    /// Opens the sockets. `base` is what identifiers of echoes over raw sockets are counted from.
    ///
    /// # Errors
    /// The kernel's, with the address; a missing privilege with what to do about it.
    pub fn open(&self, plan: &Plan, share: &Share, kernel_stamps: bool, base: u16) -> io::Result<Opened> {
        let specs = share.socket_specs(plan, kernel_stamps);
        let mut locals: Vec<SocketAddr> =
            share.sources.iter().map(|source| plan.sources[*source as usize].bind).collect();
        let mut held = Vec::new();
        for (local, source) in locals.iter_mut().zip(&share.sources) {
            match plan.shapes[plan.sources[*source as usize].shape as usize].method {
                MethodKind::TcpSyn => {
                    held.push(raw::hold(*local)?);
                    *local = held.last().map_or(*local, |held| held.local);
                }
                // numbered over all workers, so that none is taken for another's
                MethodKind::Icmp if local.port() == 0 => local.set_port(base.wrapping_add(*source as u16)),
                _ => {}
            }
        }
        let mut sockets = Vec::with_capacity(self.seats.len());
        for (number, seat) in self.seats.iter().enumerate() {
            let Some(first) = seat.sources.first().map(|source| usize::from(*source)) else { continue };
            let socket = match seat.raw {
                Some((method, local)) => {
                    let ports = seat.sources.iter().map(|source| locals[usize::from(*source)].port()).collect();
                    let transport = match method {
                        MethodKind::TcpSyn => Transport::Tcp { ports },
                        _ => Transport::Echo { identifiers: ports },
                    };
                    let spec = SocketSpec {
                        bind: local,
                        transport,
                        connect: self.only_target(plan, share, number),
                        receive_destination: local.is_ipv6(), // IPv4's header says it
                        transmit_stamps: stamps(seat.sources.iter().map(|source| &specs[usize::from(*source)])),
                        ..specs[first].clone()
                    };
                    socket::open(&spec)?
                }
                None => {
                    let shape = plan.sources[share.sources[first] as usize].shape;
                    let transport = match plan.shapes[shape as usize].method {
                        MethodKind::Icmp => Transport::Ping,
                        _ => Transport::Udp,
                    };
                    let socket = super::open_source(&SocketSpec { transport, ..specs[first].clone() })?;
                    locals[first] = socket.local;
                    socket
                }
            };
            sockets.push(socket);
        }
        Ok(Opened { sockets, locals, held })
    }

    /// The one host all flows of a socket go to, if it is one.
    fn only_target(&self, plan: &Plan, share: &Share, seat: usize) -> Option<SocketAddr> {
        let mut flows = share.flows.iter().zip(&self.of_flow).filter(|(_, of)| usize::from(**of) == seat);
        let host = |flow: &u32| raw::with_port(plan.targets[plan.flows[*flow as usize].target as usize].address, 0);
        let first = host(flows.next()?.0);
        flows.all(|(flow, _)| host(flow) == first).then_some(first)
    }
}

/// What serves all of the sockets that these would be.
fn stamps<'a>(specs: impl Iterator<Item = &'a SocketSpec>) -> TransmitStamps {
    let (mut all, mut none) = (true, true);
    for spec in specs {
        all &= spec.transmit_stamps == TransmitStamps::All;
        none &= spec.transmit_stamps == TransmitStamps::None;
    }
    match (all, none) {
        (_, true) => TransmitStamps::None,
        (true, _) => TransmitStamps::All,
        _ => TransmitStamps::Asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::share;
    use crate::config::{Surroundings, parse};
    use std::net::IpAddr;
    use std::path::Path;

    /// Two interfaces: 192.0.2.0/24 is reached from one, everything else from the other.
    struct TwoInterfaces;

    impl Surroundings for TwoInterfaces {
        fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            Err(io::Error::other(host.to_owned()))
        }

        fn source_address(&self, to: IpAddr) -> io::Result<IpAddr> {
            Ok(if to.to_string().starts_with("192.0.2.") { [192, 0, 2, 1].into() } else { [10, 0, 0, 1].into() })
        }
    }

    fn plan(ports: &str, group: &str) -> Plan {
        let text = format!(
            "ports: {{{ports}}}\nport_groups: {{default: [{group}]}}\ntargets: {{default: [{{ip: 192.0.2.7}}, {{ip: 192.0.2.8}}, {{ip: 10.0.0.7}}]}}\n"
        );
        parse(Path::new("test.yaml"), &text, 8100, &TwoInterfaces).expect("valid").plan
    }

    fn seats(plan: &Plan, echo: EchoPath) -> (Seats, Vec<u8>) {
        let share = &share::deal(plan, 1)[0];
        let (_, lanes) = share.thresholds(plan);
        (Seats::new(plan, share, &lanes, echo), lanes)
    }

    #[test]
    fn raw_sockets_are_one_per_source_address_method_and_threshold() {
        let plan = plan(
            "stamp: {}, syn: {method: tcp-syn}, slow: {method: tcp-syn, timeout: 2000}, echo: {method: icmp}",
            "{port: stamp, count: 3}, {port: syn, count: 5}, {port: slow, count: 2}, {port: echo, count: 4}",
        );
        let (raw, _) = seats(&plan, EchoPath::Raw);
        // three of UDP; from each of two addresses SYNs with either threshold, and echoes
        assert_eq!(raw.seats.len(), 3 + 2 * 3);
        let mut sources: Vec<usize> = raw.seats.iter().map(|seat| seat.sources.len()).collect();
        sources.sort_unstable();
        assert_eq!(sources, [1, 1, 1, 2, 2, 4, 4, 5, 5]);
        assert_eq!(raw.of_flow.len(), 14 * 3);
        let (ping, _) = seats(&plan, EchoPath::PingSockets);
        assert_eq!(ping.seats.len(), 3 + 2 * 2 + 4);
    }

    #[test]
    fn flows_of_one_method_and_address_share_a_socket() {
        let plan = plan("syn: {method: tcp-syn}", "{port: syn, count: 4}");
        let (seats, lanes) = seats(&plan, EchoPath::Raw);
        assert_eq!(seats.seats.len(), 2);
        let share = &share::deal(&plan, 1)[0];
        for (flow, seat) in share.flows.iter().zip(&seats.of_flow) {
            let source = plan.paths[plan.flows[*flow as usize].path as usize].src;
            let (_, local) = seats.seats[usize::from(*seat)].raw.expect("raw");
            assert_eq!((local.ip(), local.port()), (source, 0));
        }
        assert_eq!(lanes, [0; 4]);
        let by_address = |position: usize| seats.only_target(&plan, share, position);
        let far =
            seats.seats.iter().position(|seat| seat.raw.is_some_and(|raw| raw.1.ip() == IpAddr::from([10, 0, 0, 1])));
        assert_eq!(by_address(far.expect("there")), Some("10.0.0.7:0".parse().expect("valid")));
        assert_eq!(by_address(1 - far.expect("there")), None, "two targets");
    }
}
