//! From a [`Draft`] to a [`Plan`]: resolves hosts, and lists sources, flows and paths in the order of the file.
//!
//! Everything is counted before it is allocated. Not responsible for the ranges of single values.
//! Read [`assemble`] first.

use super::draft::*;
use super::file::not_one_host;
use super::link::{Linked, bounds, link};
use super::plan::{self, Flow, Plan, Source, Target, Test};
use super::problem::{Place, Problems};
use super::surroundings::Surroundings;
use crate::probe::inflight;
use crate::probe::shape::{Dscp, MethodKind};
use crate::summary::{self, PathKey};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Threads that ask the resolver at the same time.
const RESOLVERS: usize = 16;

/// Makes the plan, or notes why not.
pub(super) fn assemble(draft: &Draft, surroundings: &impl Surroundings, problems: &mut Problems) -> Option<Plan> {
    let tests = link(draft, problems);
    if problems.failed() {
        return None; // a group may lack a port: the counts would be wrong
    }
    bounds(draft, &tests, problems);
    if problems.failed() {
        return None;
    }
    let hosts = resolve(draft, &tests, surroundings);
    let mut assembly = Assembly::new(draft, surroundings, hosts, problems);
    let api = assembly.api();
    for test in &tests {
        assembly.test(test);
    }
    let Assembly { mut plan, shapes, .. } = assembly.finish();
    plan.api = api;
    limits_of(&plan, problems);
    plan.syn_limit = syn_limit(&plan, draft, &shapes, problems);
    (!problems.failed()).then_some(plan)
}

/// Checks what is only known of the whole plan.
fn limits_of(plan: &Plan, problems: &mut Problems) {
    if plan.sources.len() > plan::MAX_SOURCES {
        let what = format!("{} sockets asked, {} possible", plan.sources.len(), plan::MAX_SOURCES);
        problems.error(None, "port_groups", what, "lower a count");
    }
    if plan.shapes.len() > plan::MAX_SHAPES {
        let what = format!(
            "{} kinds of probes asked, classes times sizes of all, {} possible",
            plan.shapes.len(),
            plan::MAX_SHAPES
        );
        problems.error(None, "ports", what, "name fewer classes or sizes");
    }
    let slots: usize = plan.in_flight().iter().map(|ring| ring.slots).sum();
    if slots > plan::MAX_IN_FLIGHT {
        let what = format!("{slots} probes in flight asked, {} possible", plan::MAX_IN_FLIGHT);
        problems.error(None, "rate_limits", what, "lower cps, or a timeout");
    }
}

/// Checks how many SYNs each target is to get, and gives the least limit. `shapes`: of each draft port, its shapes.
fn syn_limit(
    plan: &Plan,
    draft: &Draft,
    shapes: &HashMap<usize, Vec<Variant>>,
    problems: &mut Problems,
) -> Option<u32> {
    let of_port = |(port, shapes): (&usize, &Vec<Variant>)| {
        let port = &draft.ports[*port];
        shapes.iter().map(move |variant| (variant.shape, port)).collect::<Vec<_>>()
    };
    let ports: HashMap<u32, &PortDraft> = shapes.iter().flat_map(of_port).collect();
    let mut asked: BTreeMap<IpAddr, (f64, &PortDraft)> = BTreeMap::new();
    for (test, flow) in plan.flows_by_test() {
        let Some(port) = ports.get(&flow.shape).filter(|port| port.shape.method == MethodKind::TcpSyn) else {
            continue;
        };
        let (rate, least) = asked.entry(plan.targets[flow.target as usize].address.ip()).or_insert((0.0, port));
        *rate += test.cycles_per_second;
        if port.syn_limit.value < least.syn_limit.value {
            *least = port;
        }
    }
    let busiest = asked.iter().max_by(|a, b| a.1.0.total_cmp(&b.1.0));
    if let Some((ip, (rate, port))) = busiest
        && *rate > f64::from(port.syn_limit.value)
    {
        let what = format!("{rate} SYNs/s to {ip} asked by all tests, {} possible", port.syn_limit.value);
        let key = format!("ports.{}.syn_limit", port.shape.port_name);
        problems.error(port.syn_limit.place.or(port.place), &key, what, "lower cps or a count, or raise it");
    }
    asked.values().map(|(_, port)| port.syn_limit.value).min()
}

type Hosts = HashMap<String, Result<Vec<IpAddr>, String>>;

/// Asks for every name in use once, several at a time.
fn resolve(draft: &Draft, tests: &[Linked], surroundings: &impl Surroundings) -> Hosts {
    let mut names = BTreeSet::new();
    let mut ask = |name: &str| names.insert(name.to_string());
    for test in tests {
        for target in draft.targets[test.targets].targets.iter().filter(|target| target.ip.is_none()) {
            ask(&target.host);
        }
        for &port in &test.ports {
            if let Bind::Host(name) = &draft.ports[port].ip.value {
                ask(name);
            }
        }
    }
    if let Some(ApiDraft { ip: Bind::Host(name), .. }) = &draft.api {
        ask(name);
    }
    let names: Vec<String> = names.into_iter().collect();
    let answer = |name: &String| {
        let found = surroundings.resolve(name).map_err(|e| e.to_string());
        let found = found.and_then(|ips| if ips.is_empty() { Err("no address".to_string()) } else { Ok(ips) });
        (name.clone(), found.map(|ips| ips.into_iter().map(|ip| ip.to_canonical()).collect()))
    };
    let share = names.len().div_ceil(RESOLVERS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            names.chunks(share).map(|part| scope.spawn(move || part.iter().map(answer).collect::<Vec<_>>())).collect();
        // a resolver that panics leaves its names out: they are reported as unresolved
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// Whose ports a source port is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Protocol {
    Udp,
    Tcp,
    Icmp,
}

impl Protocol {
    fn of(method: MethodKind) -> Protocol {
        match method {
            MethodKind::Udp | MethodKind::Llama | MethodKind::LlamaPython => Protocol::Udp,
            MethodKind::TcpSyn => Protocol::Tcp,
            MethodKind::Icmp => Protocol::Icmp,
        }
    }

    /// A target's port.
    fn port(self, written: Option<u16>) -> u16 {
        match self {
            Protocol::Udp => written.unwrap_or(super::DEFAULT_PORT),
            // as upstream's: nothing listens there, so that every host answers by a RST
            Protocol::Tcp => written.unwrap_or(0),
            Protocol::Icmp => 0,
        }
    }
}

/// One class and size of an entry of `ports`.
#[derive(Clone, Copy, Debug)]
struct Variant {
    shape: u32,
    dscp: Dscp,
    /// See [`summary::Path::size`].
    size: Option<u16>,
}

/// The lists of a plan, growing.
struct Assembly<'d, S> {
    draft: &'d Draft,
    surroundings: &'d S,
    hosts: Hosts,
    problems: &'d mut Problems,
    plan: Plan,
    shapes: HashMap<usize, Vec<Variant>>,
    fixed_sources: HashMap<(Protocol, SocketAddr), u32>,
    /// Per protocol, family and fixed port: the addresses bound.
    bound: HashMap<(Protocol, Family, u16), (bool, IpAddr)>,
    /// Per draft target: its index in the plan by family, and by protocol, whose usual ports differ.
    targets: HashMap<(usize, usize), [Option<u32>; 6]>,
    paths: HashMap<PathKey, u32>,
    source_addresses: HashMap<(IpAddr, u32), Option<IpAddr>>,
    /// Mistakes about hosts already noted.
    noted: HashSet<(usize, usize)>,
    /// Per destination: the draft target that stands last in the file.
    last_by_address: HashMap<IpAddr, (usize, usize)>,
}

impl<'d, S: Surroundings> Assembly<'d, S> {
    fn new(draft: &'d Draft, surroundings: &'d S, hosts: Hosts, problems: &'d mut Problems) -> Assembly<'d, S> {
        Assembly {
            draft,
            surroundings,
            hosts,
            problems,
            plan: Plan {
                interval: draft.interval.value,
                api: None,
                shapes: Vec::new(),
                sources: Vec::new(),
                targets: Vec::new(),
                flows: Vec::new(),
                paths: Vec::new(),
                tests: Vec::new(),
                syn_limit: None,
            },
            shapes: HashMap::new(),
            fixed_sources: HashMap::new(),
            bound: HashMap::new(),
            targets: HashMap::new(),
            paths: HashMap::new(),
            source_addresses: HashMap::new(),
            noted: HashSet::new(),
            last_by_address: HashMap::new(),
        }
    }

    fn api(&mut self) -> Option<SocketAddr> {
        let api = self.draft.api.as_ref()?;
        let ip = match &api.ip {
            Bind::Address(ip) => Some(*ip),
            Bind::Any(_) => Some(Ipv6Addr::UNSPECIFIED.into()),
            Bind::Host(name) => self.first_address(name, api.place, "api.bind"),
        };
        ip.map(|ip| SocketAddr::new(ip, api.port))
    }

    fn first_address(&mut self, name: &str, place: Option<Place>, key: &str) -> Option<IpAddr> {
        match self.hosts.get(name) {
            Some(Ok(ips)) => ips.first().copied(),
            unresolved => {
                let why = unresolved.and_then(|found| found.as_ref().err()).map_or("no answer", |e| e);
                let what = format!("cannot resolve {}: {why}", super::yaml::quote(name));
                self.problems.error(place, key, what, "correct the name, or give an address");
                None
            }
        }
    }

    fn test(&mut self, test: &Linked) {
        let draft = self.draft;
        let from = self.plan.flows.len() as u32;
        let mut seen = HashSet::new();
        for (i, item) in draft.groups[test.group].items.iter().enumerate() {
            let key = format!("port_groups.{}[{i}]", draft.groups[test.group].name);
            self.item(test, test.ports[i], item, &key, &mut seen);
        }
        self.duplicates(test);
        let test_draft = &draft.tests[test.index];
        self.plan.tests.push(Test {
            targets: test_draft.targets.value.clone(),
            port_group: test_draft.port_group.value.clone(),
            flows: from..self.plan.flows.len() as u32,
            cycles_per_second: test.cps,
            pacing: test_draft.pacing,
        });
    }

    /// The flows of one item of a port group: source by source, target by target.
    fn item(&mut self, test: &Linked, port: usize, item: &GroupItem, key: &str, seen: &mut HashSet<(u32, u32)>) {
        let draft = self.draft;
        let port_draft = &draft.ports[port];
        let bind = match &port_draft.ip.value {
            Bind::Host(name) => {
                let key = format!("ports.{}.ip", port_draft.shape.port_name);
                match self.first_address(name, port_draft.ip.place, &key) {
                    Some(ip) => Bind::Address(ip),
                    None => return,
                }
            }
            known => known.clone(),
        };
        let variants = self.variants(port);
        let Some(&Variant { shape: first, .. }) = variants.first() else { return };
        // the same for every source port of the item
        let mut legs = Vec::with_capacity(draft.targets[test.targets].targets.len());
        for index in 0..draft.targets[test.targets].targets.len() {
            legs.extend(self.leg(test.targets, index, port_draft, &variants, &bind));
        }
        let Some(zone) = self.zone(port_draft, &bind, &legs) else { return };
        let needs = |family| legs.iter().any(|leg: &Leg| leg.family == family);
        let families: Vec<Family> = [Family::V4, Family::V6].into_iter().filter(|&f| needs(f)).collect();
        for i in 0..item.count.value {
            let local_port = if port_draft.port == 0 { 0 } else { port_draft.port.saturating_add(i as u16) };
            let mut sources = [0; 2];
            for &family in &families {
                let ip = match bind {
                    Bind::Address(ip) => ip,
                    _ if family == Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                    _ => Ipv6Addr::UNSPECIFIED.into(),
                };
                let Some(source) = self.source(in_zone(ip, local_port, zone), first, port_draft, key) else { return };
                if !seen.insert((source, first)) {
                    let what = format!(
                        "source port {local_port} is used twice in one test: its flows are probed twice a cycle"
                    );
                    self.problems.warning(item.port.place, key, what, "remove one");
                }
                sources[family as usize] = source;
            }
            for (number, variant) in variants.iter().enumerate() {
                self.plan.flows.extend(legs.iter().map(|leg| Flow {
                    source: sources[leg.family as usize],
                    target: leg.target,
                    shape: variant.shape,
                    path: leg.paths[number],
                }));
            }
        }
    }

    /// Where one target is reached from a port; `None` with a noted mistake.
    fn leg(&mut self, group: usize, index: usize, port: &PortDraft, variants: &[Variant], bind: &Bind) -> Option<Leg> {
        let target = &self.draft.targets[group].targets[index];
        let key = || match self.draft.targets[group].place {
            Some(_) => format!("targets.{}[{index}].ip", self.draft.targets[group].name),
            None => target.host.clone(),
        };
        let ip = match target.ip {
            Some(ip) => ip,
            None => {
                let ips = match self.hosts.get(&target.host) {
                    Some(Ok(ips)) => ips,
                    _ if self.noted.contains(&(group, index)) => return None,
                    _ => {
                        let key = key();
                        self.noted.insert((group, index));
                        self.first_address(&target.host, target.place, &key);
                        return None;
                    }
                };
                let wanted = match bind {
                    Bind::Address(ip) => Some(Family::of(*ip)),
                    Bind::Any(family) => *family,
                    Bind::Host(_) => None,
                };
                let fitting = ips.iter().find(|&&ip| wanted == Some(Family::of(ip)));
                let ip = *fitting.or(ips.first())?;
                if let Some(kind) = not_one_host(ip) {
                    let what = format!("{} resolves to {ip}, {kind}", super::yaml::quote(&target.host));
                    let key = key();
                    self.problems.error(target.place, &key, what, "give the address of one host");
                    return None;
                }
                ip
            }
        };
        let family = Family::of(ip);
        let zone = match target.zone.as_deref().map(|zone| (zone, self.surroundings.zone(zone))) {
            None => 0,
            Some((_, Ok(zone))) => zone,
            Some((zone, Err(e))) => {
                let what = format!("{} is no interface of this host: {e}", super::yaml::quote(zone));
                self.problems.error(target.place, &key(), what, "correct it");
                return None;
            }
        };
        let src = match *bind {
            Bind::Address(src) if Family::of(src) != family => {
                let what = format!(
                    "{ip} is {}, ports.{}.ip {src} is {}",
                    family.name(),
                    port.shape.port_name,
                    Family::of(src).name()
                );
                let key = key();
                self.problems.error(target.place, &key, what, "test it with another port, or leave that ip out");
                return None;
            }
            Bind::Address(src) => src,
            _ => {
                let known = self.source_addresses.get(&(ip, zone)).copied();
                match known {
                    Some(src) => src?,
                    None => {
                        let asked = match zone {
                            0 => self.surroundings.source_address(ip),
                            zone => self.surroundings.source_address_in(ip, zone),
                        };
                        self.source_addresses.insert((ip, zone), asked.as_ref().ok().copied());
                        match asked {
                            Ok(src) => src,
                            Err(e) => {
                                let key = key();
                                let what = format!("no way to {ip}: {e}");
                                self.problems.error(target.place, &key, what, "add a route, or remove the target");
                                return None;
                            }
                        }
                    }
                }
            }
        };
        let last = self.last_by_address.entry(ip).or_insert((group, index));
        *last = (*last).max((group, index));
        let target_index = self.target(group, index, in_zone(ip, 0, zone), Protocol::of(port.shape.method));
        let of = |variant: &Variant| PathKey {
            src,
            dst: ip,
            method: port.shape.method,
            dscp: variant.dscp,
            size: variant.size,
        };
        let paths = variants.iter().map(|variant| self.path(of(variant))).collect();
        Some(Leg { family, target: target_index, zone, paths })
    }

    fn variants(&mut self, port: usize) -> Vec<Variant> {
        let shapes = &mut self.plan.shapes;
        let known = self.shapes.entry(port).or_insert_with(|| {
            let drafted = self.draft.ports[port].shapes().into_iter();
            drafted
                .map(|(shape, size)| {
                    let dscp = shape.dscp;
                    shapes.push(shape);
                    Variant { shape: shapes.len() as u32 - 1, dscp, size }
                })
                .collect()
        });
        known.clone()
    }

    /// The zone a source is bound in: as written, else of a link-local address that of its first target in one; 0 for
    /// none. `None` with a noted mistake.
    fn zone(&mut self, port: &PortDraft, bind: &Bind, legs: &[Leg]) -> Option<u32> {
        let Bind::Address(IpAddr::V6(ip)) = bind else { return Some(0) };
        let Some(zone) = &port.zone else {
            let of_targets = legs.iter().map(|leg| leg.zone).find(|zone| *zone != 0);
            return Some(of_targets.filter(|_| ip.is_unicast_link_local()).unwrap_or(0));
        };
        match self.surroundings.zone(zone) {
            Ok(zone) => Some(zone),
            Err(e) => {
                let what = format!("{} is no interface of this host: {e}", super::yaml::quote(zone));
                let key = format!("ports.{}.ip", port.shape.port_name);
                self.problems.error(port.ip.place, &key, what, "correct it");
                None
            }
        }
    }

    fn target(&mut self, group: usize, index: usize, mut address: SocketAddr, protocol: Protocol) -> u32 {
        let position = 2 * protocol as usize + Family::of(address.ip()) as usize;
        let slot = &mut self.targets.entry((group, index)).or_default()[position];
        *slot.get_or_insert_with(|| {
            let target = &self.draft.targets[group].targets[index];
            address.set_port(protocol.port(target.port));
            self.plan.targets.push(Target {
                host: target.host.clone(),
                address,
                group: self.draft.targets[group].name.clone(),
                tags: target.tags.clone(),
            });
            self.plan.targets.len() as u32 - 1
        })
    }

    fn path(&mut self, id: PathKey) -> u32 {
        *self.paths.entry(id).or_insert_with(|| {
            let PathKey { src, dst, method, dscp, size } = id;
            // group and tags follow when every test is known
            let (group, tags) = (String::new(), Default::default());
            self.plan.paths.push(summary::Path { src, dst, method, dscp, size, group, tags });
            self.plan.paths.len() as u32 - 1
        })
    }

    /// The socket bound to `bind`: a new one for port 0, else one for all that ask for it.
    fn source(&mut self, bind: SocketAddr, shape: u32, port: &PortDraft, key: &str) -> Option<u32> {
        let loss_threshold = port.timeout.value;
        let protocol = Protocol::of(port.shape.method);
        if bind.port() != 0 {
            if let Some(&known) = self.fixed_sources.get(&(protocol, bind)) {
                let source = &self.plan.sources[known as usize];
                let first = &self.plan.shapes[source.shape as usize];
                let differs = if source.loss_threshold != loss_threshold {
                    "timeout"
                } else if first.method != port.shape.method {
                    "method"
                } else if first.key != port.shape.key {
                    "key_file"
                } else if source.flow_labels != port.flow_labels {
                    "flow_label"
                } else {
                    return Some(known);
                };
                let what = format!(
                    "source port {} is also that of ports.{}, with another {differs}",
                    bind.port(),
                    first.port_name
                );
                let remedy = format!("use the same {differs}, or another port");
                self.problems.error(port.place, &format!("ports.{}.{differs}", port.shape.port_name), what, remedy);
                return None;
            }
            let is_wildcard = bind.ip().is_unspecified();
            let slot = (protocol, Family::of(bind.ip()), bind.port());
            let (wildcard, ip) = *self.bound.entry(slot).or_insert((is_wildcard, bind.ip()));
            if wildcard != is_wildcard {
                let what = format!("source port {} is bound to {ip} and to {}", bind.port(), bind.ip());
                self.problems.error(port.ip.place.or(port.place), key, what, "use different ports, or the same ip");
                return None;
            }
        }
        let index = self.plan.sources.len() as u32;
        self.plan.sources.push(Source { bind, shape, loss_threshold, flow_labels: port.flow_labels });
        if bind.port() != 0 {
            self.fixed_sources.insert((protocol, bind), index);
        }
        Some(index)
    }

    /// Warns of targets that one test has twice.
    fn duplicates(&mut self, test: &Linked) {
        let mut first: HashMap<(usize, SocketAddr), u32> = HashMap::new();
        for index in 0..self.draft.targets[test.targets].targets.len() {
            let Some(slots) = self.targets.get(&(test.targets, index)) else { continue };
            for (slot, target) in slots.iter().enumerate().filter_map(|(slot, target)| Some((slot, (*target)?))) {
                let address = self.plan.targets[target as usize].address;
                // port 0 of TCP and the none of ICMP are not the same
                let known = *first.entry((slot, address)).or_insert(target);
                // a second test of the same group would only say it again
                if known != target && self.noted.insert((test.targets, index)) {
                    let group = &self.draft.targets[test.targets];
                    self.problems.warning(
                        group.targets[index].place,
                        &format!("targets.{}[{index}]", group.name),
                        format!("{address} stands in this group twice and is probed twice"),
                        "remove one",
                    );
                }
            }
        }
    }

    /// Gives paths the group and the tags of the last target with their address, as upstream does.
    fn finish(mut self) -> Self {
        for path in &mut self.plan.paths {
            if let Some(&(group, index)) = self.last_by_address.get(&path.dst) {
                path.group = self.draft.targets[group].name.clone();
                path.tags = self.draft.targets[group].targets[index].tags.clone();
            }
        }
        let mut targets: Vec<_> = self.targets.iter().collect();
        targets.sort_unstable_by_key(|&(position, _)| *position);
        for (&(group, index), slots) in targets {
            for &target in slots.iter().flatten() {
                let target = &self.plan.targets[target as usize];
                let Some(&last) = self.last_by_address.get(&target.address.ip()) else { continue };
                let winner = &self.draft.targets[last.0];
                if target.tags != winner.targets[last.1].tags || target.group != winner.name {
                    self.problems.warning(
                        self.draft.targets[group].targets[index].place,
                        &format!("targets.{}[{index}]", target.group),
                        format!(
                            "{} stands in targets.{}[{}] too: summaries carry that one's group and tags",
                            target.address.ip(),
                            winner.name,
                            last.1
                        ),
                        "give both the same tags",
                    );
                }
            }
        }
        self
    }
}

/// A target's address, with the zone of one that is link-local.
fn in_zone(ip: IpAddr, port: u16, zone: u32) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => SocketAddr::from((ip, port)),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, zone).into(),
    }
}

/// How one target is reached from one port.
struct Leg {
    family: Family,
    target: u32,
    /// Of a link-local target; else 0.
    zone: u32,
    /// By class and size.
    paths: Vec<u32>,
}

/// Slots an in-flight ring needs: twice what may be in flight, a power of two.
pub(super) fn slots(rate: f64, loss_threshold: Duration) -> usize {
    // MAX_IN_FLIGHT is checked by the caller
    (2 * inflight::room(rate, loss_threshold).min(1 << 40)).next_power_of_two()
}
