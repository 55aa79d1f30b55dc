//! Which of a worker's flows share a network socket.
//!
//! Over UDP every source port is a socket of its own. Raw sockets are shared by all source ports of one source
//! address, because the kernel offers each of them every packet of its protocol. Not responsible for which worker
//! has which source port ([`super::share`]), nor for opening anything ([`super::outfit`]). Read [`Seats`] first.

use super::share::Share;
use crate::config::Plan;
use crate::config::plan::Source;
use crate::net::raw::{self, Transport};
use crate::net::{FlowLabels, SocketSpec, TransmitStamps};
use crate::probe::shape::{MethodKind, Shape};
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// What a raw socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawUse {
    /// Probes of this method.
    Probes(MethodKind),
    /// What ICMP errors quote of the others' probes: one for each family.
    Quotes,
}

/// One network socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The worker's sources that use it, by position; one unless it is raw.
    pub sources: Vec<u16>,
    /// What a raw one is for, and where it is bound: the source address, and its zone; for quotes, all addresses.
    pub raw: Option<(RawUse, SocketAddr)>,
    /// Which in-flight ring its probes are in.
    pub lane: u8,
    /// Its IPv6 flow labels; of IPv4 there are none.
    pub flow_labels: FlowLabels,
}

/// A worker's network sockets.
#[derive(Clone, Debug, Default)]
pub struct Seats {
    /// The sockets; the position is the network's socket number.
    pub seats: Vec<Seat>,
    /// Per flow of the worker: its socket.
    pub of_flow: Vec<u16>,
}

impl Seats {
    /// Seats the flows of a share; `lanes` per source.
    pub fn new(plan: &Plan, share: &Share, lanes: &[u8], echo: EchoPath) -> Seats {
        let mut seats = Seats::default();
        let mut own = vec![None; share.sources.len()];
        let mut seated = HashSet::new();
        // few: one per source address, method, loss threshold and kind of flow labels
        let mut raw_ones: Vec<usize> = Vec::new();
        for (flow, source) in share.flows.iter().zip(&share.flow_sockets) {
            let flow = plan.flows[*flow as usize];
            let method = plan.shapes[flow.shape as usize].method;
            let lane = lanes[usize::from(*source)];
            let labels = |local: SocketAddr| match local {
                SocketAddr::V4(_) => FlowLabels::System,
                SocketAddr::V6(_) => plan.sources[flow.source as usize].flow_labels,
            };
            let is_raw = method == MethodKind::TcpSyn || method == MethodKind::Icmp && echo == EchoPath::Raw;
            let seat = if is_raw {
                let mut local = plan.targets[flow.target as usize].address; // for its zone
                local.set_ip(plan.paths[flow.path as usize].src);
                local.set_port(0);
                let raw = Some((RawUse::Probes(method), local));
                let seat = Seat { sources: Vec::new(), raw, lane, flow_labels: labels(local) };
                let is_alike = |known: &Seat| {
                    (known.raw, known.lane, known.flow_labels) == (seat.raw, seat.lane, seat.flow_labels)
                };
                let known = raw_ones.iter().copied().find(|at| is_alike(&seats.seats[*at]));
                known.unwrap_or_else(|| {
                    raw_ones.push(seats.seats.len());
                    seats.add(seat)
                })
            } else {
                *own[usize::from(*source)].get_or_insert_with(|| {
                    let flow_labels = labels(plan.sources[flow.source as usize].bind);
                    seats.add(Seat { sources: Vec::new(), raw: None, lane, flow_labels })
                })
            };
            if seated.insert((seat, *source)) {
                seats.seats[seat].sources.push(*source);
            }
            seats.of_flow.push(seat as u16);
        }
        seats.listen_to_routers();
        seats
    }

    /// Adds a socket for quotes to the raw ones of each family.
    fn listen_to_routers(&mut self) {
        for all in [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))] {
            let of_family = |seat: &&Seat| seat.raw.is_some_and(|(_, local)| local.is_ipv4() == all.is_ipv4());
            let Some(lane) = self.seats.iter().find(of_family).map(|seat| seat.lane) else { continue };
            let mut known = HashSet::new();
            let sources = self.seats.iter().filter(of_family).flat_map(|seat| &seat.sources).copied();
            let sources = sources.filter(|source| known.insert(*source)).collect();
            let (raw, flow_labels) = (Some((RawUse::Quotes, all)), FlowLabels::System);
            self.seats.push(Seat { sources, raw, lane, flow_labels });
        }
    }

    fn add(&mut self, seat: Seat) -> usize {
        self.seats.push(seat);
        self.seats.len() - 1
    }

    /// What the sockets are to be like. Raw ones let in nothing yet: their ports are not known before they are held.
    ///
    /// Only UDP sockets are connected: the kernel takes a raw socket that is unconnected off its list for good
    /// (`__udp_disconnect`), and a ping socket loses its identifier.
    pub fn specs(&self, plan: &Plan, share: &Share, kernel_stamps: bool) -> Vec<SocketSpec> {
        let specs = share.socket_specs(plan, kernel_stamps);
        let of_seat = self.seats.iter().map(|seat| {
            let first = seat.sources.first().map_or(0, |source| usize::from(*source));
            let spec = specs[first].clone();
            match seat.raw {
                Some((RawUse::Quotes, all)) => {
                    SocketSpec { transport: Transport::Quotes { numbers: Vec::new() }, ..SocketSpec::new(all) }
                }
                Some((RawUse::Probes(method), local)) => SocketSpec {
                    bind: local,
                    transport: match method {
                        MethodKind::TcpSyn => Transport::Tcp { ports: Vec::new() },
                        _ => Transport::Echo { identifiers: Vec::new() },
                    },
                    connect: None,
                    receive_destination: local.is_ipv6(), // IPv4's header says it
                    transmit_stamps: stamps(seat.sources.iter().map(|source| &specs[usize::from(*source)])),
                    ..spec
                },
                None if self.shape_of(seat, plan, share).method == MethodKind::Icmp => {
                    SocketSpec { transport: Transport::Ping, connect: None, ..spec }
                }
                None => spec,
            }
        });
        of_seat.collect()
    }

    /// The shape of the probes that a socket sends first.
    pub fn shape_of<'p>(&self, seat: &Seat, plan: &'p Plan, share: &Share) -> &'p Shape {
        &plan.shapes[self.shape_number(seat, plan, share) as usize]
    }

    /// Its number in the plan.
    pub fn shape_number(&self, seat: &Seat, plan: &Plan, share: &Share) -> u32 {
        let first = seat.sources.first().map_or(0, |source| usize::from(*source));
        plan.sources[share.sources[first] as usize].shape
    }
}

/// Whether this process may send the plan's probes, and how ICMP echoes go out, when there are some.
///
/// # Errors
/// Which privilege is missing and what to do about it.
pub fn allowed(plan: &Plan, privilege: raw::Privilege) -> Result<Option<EchoPath>, String> {
    let has = |method| plan.shapes.iter().any(|shape| shape.method == method);
    if has(MethodKind::TcpSyn) && !privilege.raw {
        let icmp = if privilege.ping { ", and icmp uses ping sockets, which this process may open" } else { "" };
        return Err(format!(
            "method tcp-syn: raw sockets need CAP_NET_RAW, which this process has not; {}. Without it methods udp, llama and llama-python work{icmp}",
            raw::REMEDY
        ));
    }
    match (has(MethodKind::Icmp), privilege) {
        (false, _) => Ok(None),
        (true, raw::Privilege { raw: true, .. }) => Ok(Some(EchoPath::Raw)),
        (true, raw::Privilege { ping: true, .. }) => Ok(Some(EchoPath::PingSockets)),
        (true, _) => Err(format!(
            "method icmp: needs CAP_NET_RAW for raw sockets, or a group within sysctl net.ipv4.ping_group_range for ping sockets, and this process has neither; {}. Without it methods udp, llama and llama-python work",
            raw::REMEDY
        )),
    }
}

/// The identifiers of echoes over raw sockets, by source of the plan: as configured, else as `known`, else one that is
/// neither `taken` nor another source's. They are numbered over all workers, so that no echo is taken for another's.
/// The first ones are another process's only by chance.
///
/// # Errors
/// How many are asked for, when there are not enough.
pub fn identifiers(plan: &Plan, known: &[Option<u16>], taken: impl Iterator<Item = u16>) -> Result<Vec<u16>, usize> {
    let is_echo = |source: &Source| plan.shapes[source.shape as usize].method == MethodKind::Icmp;
    let own = |(at, source): (usize, &Source)| match source.bind.port() {
        _ if !is_echo(source) => Some(0),
        0 => known.get(at).copied().flatten(),
        port => Some(port),
    };
    let own: Vec<Option<u16>> = plan.sources.iter().enumerate().map(own).collect();
    let mut used: HashSet<u16> = own.iter().flatten().copied().chain(taken).chain([0]).collect();
    let asked = used.len() - 1 + own.iter().filter(|own| own.is_none()).count();
    if asked > usize::from(u16::MAX) {
        return Err(asked);
    }
    let mut next = (std::process::id() as u16).wrapping_mul(0x9e37);
    let mut free = || {
        while !used.insert(next) {
            next = next.wrapping_add(1); // there is one left
        }
        next
    };
    Ok(own.into_iter().map(|own| own.unwrap_or_else(&mut free)).collect())
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
    use std::io;
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
        // three of UDP; from each of two addresses SYNs with either threshold, and echoes; all of them heard about by one
        assert_eq!(raw.seats.len(), 3 + 2 * 3 + 1);
        let mut sources: Vec<usize> = raw.seats.iter().map(|seat| seat.sources.len()).collect();
        sources.sort_unstable();
        assert_eq!(sources, [1, 1, 1, 2, 2, 4, 4, 5, 5, 11]);
        assert_eq!(raw.of_flow.len(), 14 * 3);
        let (ping, _) = seats(&plan, EchoPath::PingSockets);
        assert_eq!(ping.seats.len(), 3 + 2 * 2 + 1 + 4);
    }

    #[test]
    fn flows_of_one_method_and_address_share_a_socket() {
        let plan = plan("syn: {method: tcp-syn}", "{port: syn, count: 4}");
        let (seats, lanes) = seats(&plan, EchoPath::Raw);
        assert_eq!(seats.seats.len(), 2 + 1);
        let share = &share::deal(&plan, 1)[0];
        for (flow, seat) in share.flows.iter().zip(&seats.of_flow) {
            let source = plan.paths[plan.flows[*flow as usize].path as usize].src;
            let (_, local) = seats.seats[usize::from(*seat)].raw.expect("raw");
            assert_eq!((local.ip(), local.port()), (source, 0));
        }
        assert_eq!(lanes, [0; 4]);
        assert!(seats.specs(&plan, share, true).iter().all(|spec| spec.connect.is_none()));
    }

    #[test]
    fn identifiers_stay_and_new_ones_are_nobody_elses() {
        let plan = plan(
            "stamp: {}, echo: {method: icmp}, fixed: {method: icmp, port: 700}",
            "{port: stamp}, {port: echo, count: 4}, {port: fixed, count: 2}",
        );
        let first = identifiers(&plan, &[], std::iter::empty()).expect("enough");
        assert_eq!((first.len(), first[0]), (7, 0));
        assert_eq!(first[5..], [700, 701]);
        let distinct: HashSet<&u16> = first.iter().collect();
        assert_eq!(distinct.len(), 7);
        let known: Vec<Option<u16>> = first.iter().map(|known| (*known == first[2]).then_some(*known)).collect();
        let second = identifiers(&plan, &known, first[1..5].iter().copied()).expect("enough");
        assert_eq!(second[2], first[2]);
        for at in [1, 3, 4] {
            assert!(!first.contains(&second[at]), "{first:?} {second:?}");
        }
        assert_eq!(identifiers(&plan, &[], 1..=u16::MAX - 3), Err(65_535 + 1));
    }
}
