//! The plan: what a collector will do, with nothing optional left and every name resolved.
//!
//! Workers share it read-only. Indices are `u32` positions in the plan's own lists. Read [`Plan`]
//! first; [`Single`] builds one without a file.

use super::assemble;
use super::draft::{Bind, Draft, GroupDraft, GroupItem, Located, PortDraft, RateDraft, TargetDraft, TargetGroup};
use super::problem::{ConfigError, Problems, Warnings};
use super::surroundings::Surroundings;
use crate::net::FlowLabels;
use crate::probe::shape::{Dscp, Pacing, Shape, Verify};
use crate::summary::Path;
use crate::summary::tally::Layout;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Targets of one collector at most.
pub const MAX_TARGETS: usize = 250_000;
/// Flows of one collector at most.
pub const MAX_FLOWS: usize = 1_000_000;
/// Sockets of one collector at most; they are counted in 16 bits.
pub const MAX_SOURCES: usize = 60_000;
/// Shapes of probes of one collector at most: classes times sizes, over all entries of `ports` in use.
pub const MAX_SHAPES: usize = 256;
/// Tests of one collector at most.
pub const MAX_TESTS: usize = 1_000;
/// Probes per second of one collector at most.
pub const MAX_RATE: f64 = 10_000_000.0;
/// Slots of all in-flight rings at most: 4 GiB of 64 bytes.
pub const MAX_IN_FLIGHT: usize = 1 << 26;
/// Bytes of a slot of an in-flight ring.
pub const SLOT_BYTES: usize = 64;

/// A socket: one source port of one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Local address; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// The shape of the probes it sends first; others on the same socket share method and key.
    pub shape: u32,
    /// Loss threshold of its probes.
    pub loss_threshold: Duration,
    /// IPv6 flow labels of its probes.
    pub flow_labels: FlowLabels,
}

/// Where probes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As written in the configuration: address or host name.
    pub host: String,
    /// Resolved.
    pub address: SocketAddr,
    /// The `targets` group it stands in.
    pub group: String,
    /// Its tags.
    pub tags: Arc<BTreeMap<String, String>>,
}

/// One five-tuple and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Index into [`Plan::sources`].
    pub source: u32,
    /// Index into [`Plan::targets`].
    pub target: u32,
    /// Index into [`Plan::shapes`].
    pub shape: u32,
    /// Index into [`Plan::paths`].
    pub path: u32,
}

/// A test: flows that are swept together, once per cycle each.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// Name of its group of targets.
    pub targets: String,
    /// Name of its group of ports.
    pub port_group: String,
    /// Its flows: a range of [`Plan::flows`], source by source and target by target.
    pub flows: Range<u32>,
    /// Cycles per second; each sends one probe on every flow.
    pub cycles_per_second: f64,
    /// When within the cycle.
    pub pacing: Pacing,
}

impl Test {
    /// Probes per second.
    pub fn rate(&self) -> f64 {
        self.flows.len() as f64 * self.cycles_per_second
    }
}

/// What a collector will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One reporting period.
    pub interval: Duration,
    /// Where upstream's configuration wants the API.
    pub api: Option<SocketAddr>,
    /// What probes look like.
    pub shapes: Vec<Shape>,
    /// Sockets, at most [`MAX_SOURCES`].
    pub sources: Vec<Source>,
    /// Destinations.
    pub targets: Vec<Target>,
    /// Flows, in the order of the tests, at most [`MAX_FLOWS`].
    pub flows: Vec<Flow>,
    /// What is summarised: one per source address, destination address, method, class and, where several are named, size.
    pub paths: Vec<Path>,
    /// Tests, in the order of the file.
    pub tests: Vec<Test>,
    /// SYNs per second to one target at most, the least of those that apply; `None` without method `tcp-syn`.
    pub syn_limit: Option<u32>,
}

/// Size of the in-flight ring of one loss threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ring {
    /// The loss threshold.
    pub loss_threshold: Duration,
    /// Probes per second that use it.
    pub rate: f64,
    /// Slots: twice what is sent within the threshold, rounded up to a power of two.
    pub slots: usize,
}

impl Plan {
    /// Probes per second of all tests.
    pub fn rate(&self) -> f64 {
        self.tests.iter().map(Test::rate).sum()
    }

    /// The in-flight rings if one worker did everything, by loss threshold.
    pub fn in_flight(&self) -> Vec<Ring> {
        let mut rates: BTreeMap<Duration, f64> = BTreeMap::new();
        for (test, flow) in self.flows_by_test() {
            let threshold = self.sources[flow.source as usize].loss_threshold;
            *rates.entry(threshold).or_default() += test.cycles_per_second;
        }
        let ring = |(loss_threshold, rate)| Ring { loss_threshold, rate, slots: assemble::slots(rate, loss_threshold) };
        rates.into_iter().map(ring).collect()
    }

    /// Every flow with its test.
    pub fn flows_by_test(&self) -> impl Iterator<Item = (&Test, &Flow)> {
        self.tests.iter().flat_map(|test| {
            let flows = self.flows.get(test.flows.start as usize..test.flows.end as usize).unwrap_or_default();
            flows.iter().map(move |flow| (test, flow))
        })
    }

    /// The layout of the tallies if one worker did everything.
    pub fn layout(&self) -> Layout {
        Layout {
            flow_paths: self.flows.iter().map(|flow| flow.path).collect(),
            flows: (0..self.flows.len() as u32).collect(),
            paths: (0..self.paths.len() as u32).collect(),
            stamped: vec![true; self.paths.len()],
        }
    }
}

/// What the probes of a [`Single`] look like: every class in every size.
#[derive(Clone, Debug)]
pub struct Probes {
    /// What they have in common; its class and size count for nothing.
    pub shape: Shape,
    /// Classes, at least one: each is a flow of its own.
    pub classes: Vec<Dscp>,
    /// Payloads, at least one: likewise.
    pub sizes: Vec<u16>,
    /// Whether reflectors are asked for the class that reached them.
    pub verify: Verify,
    /// IPv6 flow labels.
    pub flow_labels: FlowLabels,
}

impl Probes {
    /// Probes of one shape.
    pub fn of(shape: Shape) -> Probes {
        let (classes, sizes) = (vec![shape.dscp], vec![shape.size]);
        Probes { shape, classes, sizes, verify: Verify::Auto, flow_labels: FlowLabels::Own }
    }
}

/// A plan from code: some targets, one shape, one rate. Targets of several groups become a test each.
#[derive(Clone, Debug)]
pub struct Single {
    /// Where probes go; [`Target::host`] is only shown.
    pub targets: Vec<Target>,
    /// Source ports, 1 or more; chosen by the system.
    pub source_ports: u32,
    /// Probes per second on every flow.
    pub cycles_per_second: f64,
    /// When within the cycle.
    pub pacing: Pacing,
    /// What probes look like.
    pub probes: Probes,
    /// Local address; `None` lets the routing table choose.
    pub bind: Option<IpAddr>,
    /// Wait after which a probe is lost.
    pub loss_threshold: Duration,
    /// One reporting period.
    pub interval: Duration,
}

/// The plan of [`Single`] with one test and pacing that is even: what `ping` needs.
///
/// # Errors
/// As [`Single::plan`].
pub fn single(
    targets: Vec<Target>,
    source_ports: u32,
    cycles_per_second: f64,
    shape: Shape,
    loss_threshold: Duration,
    interval: Duration,
    surroundings: &impl Surroundings,
) -> Result<Plan, ConfigError> {
    let pacing = Pacing::Periodic;
    let probes = Probes::of(shape);
    let single =
        Single { targets, source_ports, cycles_per_second, pacing, probes, bind: None, loss_threshold, interval };
    single.plan(surroundings).map(|(plan, _)| plan)
}

impl Single {
    /// Checks counts and routes, and makes the plan.
    ///
    /// # Errors
    /// No target, no source port, no positive rate, more than a limit of this module, or a target
    /// without a route. Keys are those of a configuration file.
    pub fn plan(self, surroundings: &impl Surroundings) -> Result<(Plan, Warnings), ConfigError> {
        let mut problems = Problems::new(None);
        let mut groups: Vec<TargetGroup> = Vec::new();
        let mut positions: HashMap<String, usize> = HashMap::new();
        for target in self.targets {
            let position = *positions.entry(target.group.clone()).or_insert_with(|| {
                groups.push(TargetGroup { name: target.group.clone(), place: None, targets: Vec::new() });
                groups.len() - 1
            });
            groups[position].targets.push(TargetDraft {
                place: None,
                host: target.host,
                ip: Some(target.address.ip().to_canonical()),
                zone: match target.address {
                    SocketAddr::V6(address) if address.scope_id() != 0 => Some(address.scope_id().to_string()),
                    _ => None,
                },
                port: Some(target.address.port()),
                tags: target.tags,
            });
        }
        if self.source_ports == 0 || self.source_ports > super::keys::MAX_COUNT {
            let what = format!("{} asked, 1 to {} possible", self.source_ports, super::keys::MAX_COUNT);
            problems.error(None, "source ports", what, "change it");
        }
        // not `<=`: NaN is no rate either
        if !(self.cycles_per_second > 0.0 && self.cycles_per_second.is_finite()) {
            problems.error(None, "rate", format!("{} probes/s asked", self.cycles_per_second), "give more than 0");
        }
        let mut port = PortDraft::built_in("default");
        port.ip.value = match self.bind {
            Some(ip) if !ip.is_unspecified() => Bind::Address(ip.to_canonical()),
            _ => Bind::Any(None),
        };
        port.timeout.value = self.loss_threshold;
        let port_name = "default".to_string();
        let Probes { shape, classes, sizes, verify, flow_labels } = self.probes;
        port.shape = Shape { port_name, ..shape };
        (port.classes, port.sizes, port.verify, port.flow_labels) = (classes, sizes, verify, flow_labels);
        port.syn_limit.value = u32::MAX; // for whoever asks by code to decide
        let item = GroupItem { port: Located::default("default".into()), count: Located::default(self.source_ports) };
        let mut draft = Draft {
            interval: Located::default(self.interval),
            api: None,
            ports: vec![port],
            groups: vec![GroupDraft { name: "default".into(), place: None, items: vec![item] }],
            rates: vec![RateDraft { name: "default".into(), place: None, cps: self.cycles_per_second }],
            tests: Vec::new(),
            targets: groups,
        };
        draft.complete();
        for test in &mut draft.tests {
            test.pacing = self.pacing;
        }
        let plan = if problems.failed() { None } else { assemble::assemble(&draft, surroundings, &mut problems) };
        problems.finish(plan)
    }
}
