//! Which worker does what: sources (sockets) are dealt out to workers by probe rate; a socket, its
//! flows and their probes in flight belong to one worker alone.

use crate::config::Plan;
use crate::net::{SocketSpec, TransmitStamps};
use crate::probe::schedule::Sweep;
use crate::probe::shape::{Pacing, StampPolicy};
use std::net::SocketAddr;
use std::time::Duration;

/// Transmit stamps per second and worker that `auto` allows; above, one probe in N is stamped.
pub const AUTO_STAMPS_PER_SECOND: f64 = 20_000.0;

/// One worker's part of the plan.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// Sockets: indices into the plan's sources; the position is the worker's socket number.
    pub sources: Vec<u32>,
    /// Flows: indices into the plan's flows, those of a sweep together; the position is the worker's flow number.
    pub flows: Vec<u32>,
    /// Per flow: its socket's position in `sources`.
    pub flow_sockets: Vec<u16>,
    /// The tests' parts.
    pub sweeps: Vec<Sweep>,
    /// Probes per second.
    pub rate: f64,
}

/// Deals the plan out to at most `workers` workers; fewer when there are fewer sockets.
pub fn deal(plan: &Plan, workers: usize) -> Vec<Share> {
    let busy = rates(plan).into_iter().filter(|rate| *rate > 0.0).count();
    redeal(plan, workers.clamp(1, busy.max(1)), &vec![None; plan.sources.len()])
}

/// Deals the plan out to as many workers as there are: sources that a worker has already stay with it, whatever
/// that does to the balance.
pub fn redeal(plan: &Plan, workers: usize, seated: &[Option<usize>]) -> Vec<Share> {
    let rates = rates(plan);
    let mut order: Vec<usize> = (0..rates.len()).filter(|source| rates[*source] > 0.0).collect();
    order.sort_by(|a, b| rates[*b].total_cmp(&rates[*a]).then(a.cmp(b)));
    let seat = |source: usize| seated.get(source).copied().flatten();
    order.sort_by_key(|source| seat(*source).is_none()); // stable: still the busiest first
    let mut shares = vec![Share::default(); workers.max(1)];
    let mut owner = vec![(0usize, 0u16); plan.sources.len()];
    for source in order {
        // greedy: the busiest socket goes to the idlest worker
        let mut idlest = 0;
        for (worker, share) in shares.iter().enumerate() {
            if share.rate < shares[idlest].rate {
                idlest = worker;
            }
        }
        let worker = seat(source).filter(|worker| *worker < shares.len()).unwrap_or(idlest);
        let share = &mut shares[worker];
        owner[source] = (worker, share.sources.len() as u16);
        share.sources.push(source as u32);
        share.rate += rates[source];
    }
    for test in &plan.tests {
        let starts: Vec<u32> = shares.iter().map(|share| share.flows.len() as u32).collect();
        for index in test.flows.clone() {
            let (worker, socket) = owner[plan.flows[index as usize].source as usize];
            shares[worker].flows.push(index);
            shares[worker].flow_sockets.push(socket);
        }
        for (share, start) in shares.iter_mut().zip(starts) {
            let flows = start..share.flows.len() as u32;
            if !flows.is_empty() {
                share.sweeps.push(Sweep { flows, cycles_per_second: test.cycles_per_second, pacing: test.pacing });
            }
        }
    }
    shares
}

/// Probes per second of each source.
fn rates(plan: &Plan) -> Vec<f64> {
    let mut rates = vec![0.0; plan.sources.len()];
    for (test, flow) in plan.flows_by_test() {
        rates[flow.source as usize] += test.cycles_per_second;
    }
    rates
}

impl Share {
    /// Whether each of the worker's probes is stamped, one in N, or none (0), under `policy`.
    pub fn one_in(&self, policy: StampPolicy) -> u32 {
        match policy {
            StampPolicy::All => 1,
            StampPolicy::OneIn(n) => n,
            StampPolicy::Off => 0,
            StampPolicy::Auto => (self.rate / AUTO_STAMPS_PER_SECOND).ceil().max(1.0) as u32,
        }
    }

    /// The sockets to open.
    pub fn socket_specs(&self, plan: &Plan, kernel_stamps: bool) -> Vec<SocketSpec> {
        let only = self.only_targets(plan);
        let specs = self.sources.iter().zip(only).map(|(source, only)| {
            let source = &plan.sources[*source as usize];
            let shape = &plan.shapes[source.shape as usize];
            SocketSpec {
                traffic_class: shape.dscp.traffic_class(),
                icmp_errors: true,
                flow_labels: source.flow_labels,
                receive_traffic_class: true,
                connect: only,
                transmit_stamps: match self.one_in(shape.stamps) {
                    _ if !kernel_stamps => TransmitStamps::None,
                    0 => TransmitStamps::None,
                    1 => TransmitStamps::All,
                    _ => TransmitStamps::Asked,
                },
                // what may wait while the worker is held up; the kernel charges about 1 KiB a datagram
                receive_buffer: if self.rate > 5_000.0 { 4 << 20 } else { 1 << 20 },
                ..SocketSpec::new(source.bind)
            }
        });
        specs.collect()
    }

    /// Per socket: the one address all its flows go to, if it is one.
    fn only_targets(&self, plan: &Plan) -> Vec<Option<SocketAddr>> {
        let mut first = vec![None; self.sources.len()];
        let mut several = vec![false; self.sources.len()];
        for (flow, socket) in self.flows.iter().zip(&self.flow_sockets) {
            let to = plan.targets[plan.flows[*flow as usize].target as usize].address;
            let socket = usize::from(*socket);
            several[socket] |= *first[socket].get_or_insert(to) != to;
        }
        first.into_iter().zip(several).map(|(first, several)| first.filter(|_| !several)).collect()
    }

    /// The distinct loss thresholds of the worker's sockets, and per socket which one is its.
    pub fn thresholds(&self, plan: &Plan) -> (Vec<Duration>, Vec<u8>) {
        let mut thresholds: Vec<Duration> = Vec::new();
        let lanes = self.sources.iter().map(|source| {
            let threshold = plan.sources[*source as usize].loss_threshold;
            let known = thresholds.iter().position(|t| *t == threshold);
            known.unwrap_or_else(|| {
                thresholds.push(threshold);
                thresholds.len() - 1
            }) as u8
        });
        let lanes = lanes.collect();
        (thresholds, lanes)
    }

    /// Probes per second on the sockets of one loss threshold.
    pub fn lane_rate(&self, lanes: &[u8], lane: u8) -> f64 {
        let sweeps = self.sweeps.iter();
        sweeps
            .map(|sweep| {
                let flows = &self.flow_sockets[sweep.flows.start as usize..sweep.flows.end as usize];
                let count = flows.iter().filter(|socket| lanes[usize::from(**socket)] == lane).count();
                // a Poisson schedule bunches: room for half as much again
                count as f64 * sweep.cycles_per_second * if sweep.pacing == Pacing::Poisson { 1.5 } else { 1.0 }
            })
            .sum()
    }
}
