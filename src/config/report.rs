//! What a plan will do and cost: the answer of `llama check`, as values.
//!
//! Not responsible for tables and colours. Read [`PlanReport`] first.

use super::dscp;
use super::plan::{Plan, SLOT_BYTES, Test};
use super::problem::Warnings;
use crate::probe::shape::{MethodKind, Pacing};
use crate::summary::tally::Layout;
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;

/// Numbers of equal paths whose coverage is reported.
pub const ECMP_WIDTHS: [u32; 6] = [2, 4, 8, 16, 32, 64];

/// What things cost in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Bytes of one tally of the whole plan.
    pub tally: usize,
    /// Tallies that exist at a time: two open, one on its way, one being merged.
    pub tallies: usize,
    /// Bytes of a slot of the in-flight ring.
    pub slot: usize,
    /// Bytes of a flow elsewhere: in the plan, the schedule, the in-flight ring.
    pub flow: usize,
    /// Bytes of a path elsewhere: in the plan and in its summary.
    pub path: usize,
    /// Bytes of a socket in this process.
    pub socket: usize,
    /// How many sockets there are.
    pub sockets: usize,
    /// Bytes of buffers that datagrams are received into.
    pub buffers: usize,
    /// Bytes that every collector takes: rings, threads.
    pub base: usize,
}

impl Costs {
    /// The costs of a plan with so many sockets and bytes of receive buffers; `tally` gives the bytes of a tally of a
    /// layout.
    pub fn of(plan: &Plan, (sockets, buffers): (usize, usize), tally: impl FnOnce(&Layout) -> usize) -> Costs {
        Costs {
            tally: tally(&plan.layout()),
            tallies: 4,
            slot: SLOT_BYTES,
            flow: 48,
            path: 512,
            socket: 128,
            sockets,
            buffers,
            base: 8 << 20,
        }
    }
}

/// Memory as a sum, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Counters and histograms.
    pub tallies: usize,
    /// Probes in flight.
    pub in_flight: usize,
    /// Flows.
    pub flows: usize,
    /// Paths.
    pub paths: usize,
    /// Sockets, without the kernel's buffers.
    pub sources: usize,
    /// Buffers that datagrams are received into.
    pub buffers: usize,
    /// What every collector takes.
    pub base: usize,
    /// All of it.
    pub total: usize,
}

/// Chance that flows to one target cross equal paths that are chosen by a hash of the five-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// Number of equal paths.
    pub ecmp_paths: u32,
    /// Chance that one given path is crossed, 0 to 1.
    pub given_path: f64,
    /// Chance that every path is crossed, 0 to 1.
    pub every_path: f64,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestReport {
    /// Name of its group of targets.
    pub targets_name: String,
    /// Name of its group of ports.
    pub port_group: String,
    /// Targets.
    pub targets: usize,
    /// Source ports per target.
    pub source_ports: usize,
    /// Flows.
    pub flows: usize,
    /// Cycles per second.
    pub cycles_per_second: f64,
    /// `periodic` or `poisson`.
    pub pacing: &'static str,
    /// Classes, by name where they have one.
    pub classes: Vec<String>,
    /// Bytes of payload.
    pub sizes: Vec<u16>,
    /// How its probes ask, as in the configuration.
    pub methods: Vec<&'static str>,
    /// Probes per second to one target.
    pub probes_per_second_per_target: f64,
    /// Probes per second from one source port.
    pub probes_per_second_per_source_port: f64,
    /// Probes per second.
    pub probes_per_second: f64,
    /// Chance to cover equal paths, per number of them.
    pub coverage: Vec<Coverage>,
}

/// What a plan will do and cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    /// Seconds per summary.
    pub interval_s: f64,
    /// Where the API is wanted.
    pub api: Option<SocketAddr>,
    /// Tests.
    pub tests: Vec<TestReport>,
    /// Targets.
    pub targets: usize,
    /// Paths: summaries per interval.
    pub paths: usize,
    /// Flows.
    pub flows: usize,
    /// Sockets: of `tcp-syn` and `icmp` as they are with `CAP_NET_RAW`, those that only hold a TCP port included.
    pub sockets: usize,
    /// Probes per second.
    pub probes_per_second: f64,
    /// SYNs per second to one target at most; `null` without method `tcp-syn`.
    pub syn_limit: Option<u32>,
    /// Bytes per second of IP packets sent; as many come back.
    pub ip_bytes_per_second: f64,
    /// Probes in flight that can be remembered.
    pub in_flight_slots: usize,
    /// Memory.
    pub memory: Memory,
    /// Doubts.
    pub warnings: Warnings,
}

impl PlanReport {
    /// Adds up a plan.
    pub fn new(plan: &Plan, warnings: &Warnings, costs: &Costs) -> PlanReport {
        let mut ip_bytes_per_second = 0.0;
        for (test, flow) in plan.flows_by_test() {
            let ip_header = if plan.targets[flow.target as usize].address.is_ipv4() { 20 } else { 40 };
            let shape = &plan.shapes[flow.shape as usize];
            let bytes = ip_header + shape.method.header_len() + usize::from(shape.size);
            ip_bytes_per_second += bytes as f64 * test.cycles_per_second;
        }
        let in_flight_slots = plan.in_flight().iter().map(|ring| ring.slots).sum();
        PlanReport {
            interval_s: plan.interval.as_secs_f64(),
            api: plan.api,
            tests: plan.tests.iter().map(|test| TestReport::new(plan, test)).collect(),
            targets: plan.targets.len(),
            paths: plan.paths.len(),
            flows: plan.flows.len(),
            sockets: costs.sockets,
            probes_per_second: plan.rate(),
            syn_limit: plan.syn_limit,
            ip_bytes_per_second,
            in_flight_slots,
            memory: Memory::new(plan, in_flight_slots, costs),
            warnings: warnings.clone(),
        }
    }
}

impl Memory {
    fn new(plan: &Plan, slots: usize, costs: &Costs) -> Memory {
        let tallies = costs.tally * costs.tallies;
        let in_flight = slots * costs.slot;
        let flows = plan.flows.len() * costs.flow;
        let paths = plan.paths.len() * costs.path;
        let sources = costs.sockets * costs.socket;
        let Costs { buffers, base, .. } = *costs;
        let total = tallies + in_flight + flows + paths + sources + buffers + base;
        Memory { tallies, in_flight, flows, paths, sources, buffers, base, total }
    }
}

impl TestReport {
    fn new(plan: &Plan, test: &Test) -> TestReport {
        let flows = plan.flows.get(test.flows.start as usize..test.flows.end as usize).unwrap_or_default();
        let targets: HashSet<u32> = flows.iter().map(|flow| flow.target).collect();
        let shapes: BTreeSet<u32> = flows.iter().map(|flow| flow.shape).collect();
        // every source port of a test serves every target, so one target stands for all; a port that
        // sends two classes is one to the routers' hash
        let of_one = flows.iter().filter(|flow| Some(flow.target) == flows.first().map(|first| first.target));
        let source_ports = of_one.map(|flow| flow.source).collect::<HashSet<u32>>().len();
        let per_target = if targets.is_empty() { 0.0 } else { test.rate() / targets.len() as f64 };
        let mut classes: Vec<String> = Vec::new();
        let methods: BTreeSet<MethodKind> = shapes.iter().map(|shape| plan.shapes[*shape as usize].method).collect();
        let sizes: BTreeSet<u16> = shapes.iter().map(|shape| plan.shapes[*shape as usize].size).collect();
        for shape in shapes {
            let dscp = plan.shapes[shape as usize].dscp;
            let name = dscp::name(dscp).map_or(dscp.0.to_string(), str::to_string);
            if !classes.contains(&name) {
                classes.push(name);
            }
        }
        TestReport {
            targets_name: test.targets.clone(),
            port_group: test.port_group.clone(),
            targets: targets.len(),
            source_ports,
            flows: flows.len(),
            cycles_per_second: test.cycles_per_second,
            pacing: match test.pacing {
                Pacing::Periodic => "periodic",
                Pacing::Poisson => "poisson",
            },
            classes,
            sizes: sizes.into_iter().collect(),
            methods: methods.into_iter().map(MethodKind::name).collect(),
            probes_per_second_per_target: per_target,
            probes_per_second_per_source_port: if source_ports == 0 { 0.0 } else { test.rate() / source_ports as f64 },
            probes_per_second: test.rate(),
            coverage: ECMP_WIDTHS.iter().map(|&width| coverage(source_ports, width)).collect(),
        }
    }
}

/// The chances when `flows` flows fall on `ecmp_paths` equal paths independently.
pub fn coverage(flows: usize, ecmp_paths: u32) -> Coverage {
    let width = f64::from(ecmp_paths);
    // the distribution of the number of paths crossed, flow by flow: inclusion and exclusion would
    // subtract large numbers from each other
    let mut crossed = vec![0.0; ecmp_paths as usize + 1];
    crossed[0] = 1.0;
    for _ in 0..flows {
        for k in (1..crossed.len()).rev() {
            let before = (k - 1) as f64;
            crossed[k] = crossed[k] * (k as f64 / width) + crossed[k - 1] * ((width - before) / width);
        }
        crossed[0] = 0.0;
    }
    let none = f64::powf(1.0 - 1.0 / width, flows as f64);
    let every_path = crossed.last().copied().unwrap_or(0.0).clamp(0.0, 1.0);
    Coverage { ecmp_paths, given_path: (1.0 - none).clamp(0.0, 1.0), every_path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn coverage_of_small_cases_is_exact() {
        // two coins: both faces in half of the cases
        assert!(near(coverage(2, 2).every_path, 0.5) && near(coverage(2, 2).given_path, 0.75));
        // 4 flows on 4 paths: 4!/4^4
        assert!(near(coverage(4, 4).every_path, 24.0 / 256.0));
        assert!(near(coverage(3, 4).every_path, 0.0));
        assert!(near(coverage(0, 2).given_path, 0.0) && near(coverage(0, 2).every_path, 0.0));
    }

    #[test]
    fn coverage_of_known_cases() {
        assert_eq!((coverage(4, 16).given_path * 100.0).round(), 23.0);
        assert_eq!((coverage(64, 16).given_path * 100.0).round(), 98.0);
        assert!(coverage(64_512, 64).every_path > 0.999_999);
    }
}
