//! Summaries joined over intervals, over paths, or both: the last line of a table, the result of a run.
//!
//! Responsible for adding up what adds up. Not exact where a summary is not: flows beyond those listed are
//! not known one by one, and percentiles of lateness cannot be joined. Read [`Accumulator`] first.

use super::histogram::nearest_ranks;
use super::{Counts, Extremes, FlowSummary, Path, PathKey, Seen, Statistics, Summary, Suspicion};
use crate::probe::shape::Dscp;
use crate::time::{StampSource, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Adds summaries up; [`Accumulator::summary`] reads the sum at any time.
///
/// Counts, means, extremes and the round-trip histogram are joined without loss. Lateness keeps the largest
/// of each percentile. Lateness and local drops belong to workers, not paths: of several summaries of
/// one interval, the largest is taken, provided that those of an interval are added one after the other.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    path: Option<Arc<Path>>,
    interval: u32,
    start: Wall,
    end: Wall,
    counts: Counts,
    rtt: Option<Extremes>,
    ipdv: Option<Extremes>,
    owd_forward: Option<Extremes>,
    owd_reverse: Option<Extremes>,
    residence: Option<Extremes>,
    histogram: BTreeMap<u64, u64>,
    sent_by: Option<StampSource>,
    received_by: Option<StampSource>,
    lateness: Option<Statistics>,
    local_drops: u64,
    /// Local drops of `interval` so far.
    interval_drops: u64,
    /// Flows and most flows with loss in an interval, per path.
    paths: BTreeMap<PathKey, (u32, u32)>,
    flows: BTreeMap<(SocketAddr, SocketAddr, Dscp), FlowSummary>,
    reporter: Option<IpAddr>,
    seen: Seen,
    suspect: BTreeSet<Suspicion>,
}

impl Accumulator {
    /// Nothing yet.
    pub fn new() -> Accumulator {
        Accumulator::default()
    }

    /// Adds a summary.
    pub fn add(&mut self, summary: &Summary) {
        let first = self.path.is_none();
        let same_interval = !first && summary.interval == self.interval;
        self.path.get_or_insert_with(|| Arc::clone(&summary.path));
        self.start = if first { summary.start } else { self.start.min(summary.start) };
        self.end = self.end.max(summary.end);
        self.counts += &summary.counts;
        self.rtt = Extremes::of_both(self.rtt, summary.rtt.map(Extremes::from));
        self.ipdv = Extremes::of_both(self.ipdv, summary.ipdv);
        self.owd_forward = Extremes::of_both(self.owd_forward, summary.owd_forward);
        self.owd_reverse = Extremes::of_both(self.owd_reverse, summary.owd_reverse);
        self.residence = Extremes::of_both(self.residence, summary.residence);
        for &(value, count) in &summary.rtt_histogram {
            *self.histogram.entry(value).or_default() += count;
        }
        self.sent_by = self.sent_by.max(summary.sent_by);
        self.received_by = self.received_by.max(summary.received_by);
        if !same_interval {
            self.interval_drops = 0;
        }
        self.local_drops += summary.local_drops.saturating_sub(self.interval_drops);
        self.interval_drops = self.interval_drops.max(summary.local_drops);
        if let Some(lateness) = &summary.lateness {
            self.lateness = Some(match &self.lateness {
                Some(so_far) => worst_lateness(so_far, lateness, same_interval),
                None => *lateness,
            });
        }
        self.interval = summary.interval;
        let flows = self.paths.entry(summary.path.key()).or_default();
        *flows = (flows.0.max(summary.flows), flows.1.max(summary.flows_with_loss));
        for flow in &summary.worst_flows {
            self.add_flow(flow);
        }
        self.reporter = summary.reporter.or(self.reporter);
        self.seen = self.seen.followed_by(summary.seen);
        self.suspect.extend(&summary.suspect);
    }

    fn add_flow(&mut self, flow: &FlowSummary) {
        let known = self.flows.entry((flow.source, flow.target, flow.dscp));
        known.and_modify(|known| *known += flow).or_insert_with(|| flow.clone());
    }

    /// What was counted so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The sum, under the name of the first path that was added; `None` when nothing was.
    ///
    /// It lists every flow that a summary has listed, worst first, with what was listed of it. `flows_with_loss` is at
    /// least the number of flows listed with a loss.
    pub fn summary(&self) -> Option<Summary> {
        let path = Arc::clone(self.path.as_ref()?);
        let total = self.histogram.values().sum();
        let rtt = self.rtt.map(|exact| {
            let [p50, p90, p99, p999] = match total {
                0 => [exact.mean as i64, exact.max, exact.max, exact.max],
                _ => nearest_ranks(self.histogram.iter().map(|(v, c)| (*v, *c)), total, [0.5, 0.9, 0.99, 0.999])
                    .map(|p| (p as i64).clamp(exact.min, exact.max)),
            };
            let Extremes { samples, mean, min, max } = exact;
            Statistics { samples, mean, min, p50, p90, p99, p999, max }
        });
        let mut worst_flows: Vec<FlowSummary> = self.flows.values().cloned().collect();
        worst_flows.sort_by(FlowSummary::worse_first);
        let listed_with_loss = worst_flows.iter().filter(|flow| flow.lost > 0).count() as u32;
        Some(Summary {
            path,
            interval: self.interval,
            start: self.start,
            end: self.end,
            counts: self.counts,
            rtt,
            ipdv: self.ipdv,
            owd_forward: self.owd_forward,
            owd_reverse: self.owd_reverse,
            residence: self.residence,
            rtt_histogram: self.histogram.iter().map(|(value, count)| (*value, *count)).collect(),
            sent_by: self.sent_by,
            received_by: self.received_by,
            lateness: self.lateness,
            local_drops: self.local_drops,
            flows: self.paths.values().map(|(flows, _)| flows).sum(),
            flows_with_loss: listed_with_loss.max(self.paths.values().map(|(_, with_loss)| with_loss).sum()),
            worst_flows,
            reporter: self.reporter,
            seen: self.seen,
            suspect: self.suspect.iter().copied().collect(),
        })
    }
}

/// The worse of both, percentile by percentile. Samples of the same workers are not counted twice.
fn worst_lateness(a: &Statistics, b: &Statistics, same_interval: bool) -> Statistics {
    let (samples, mean) = if same_interval {
        (a.samples.max(b.samples), a.mean.max(b.mean))
    } else {
        let samples = a.samples + b.samples;
        (samples, (a.mean * a.samples as f64 + b.mean * b.samples as f64) / samples.max(1) as f64)
    };
    Statistics {
        samples,
        mean,
        min: a.min.min(b.min),
        p50: a.p50.max(b.p50),
        p90: a.p90.max(b.p90),
        p99: a.p99.max(b.p99),
        p999: a.p999.max(b.p999),
        max: a.max.max(b.max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::shape::MethodKind;
    use crate::summary::histogram::Bucket;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn summary(interval: u32, dst: u8, rtts: &[u64]) -> Summary {
        let mut histogram = BTreeMap::new();
        for &rtt in rtts {
            *histogram.entry(Bucket::of(rtt).middle()).or_insert(0) += 1;
        }
        let mean = rtts.iter().sum::<u64>() as f64 / rtts.len().max(1) as f64;
        let exact = rtts.iter().min().zip(rtts.iter().max()).map(|(min, max)| (*min as i64, *max as i64));
        let total = rtts.len() as u64;
        let ranks =
            nearest_ranks(histogram.iter().map(|(v, c)| (*v, *c)), total, [0.5, 0.9, 0.99, 0.999]).map(|p| p as i64);
        let rtt = exact.map(|(min, max)| {
            let [p50, p90, p99, p999] = ranks.map(|p| p.clamp(min, max));
            Statistics { samples: total, mean, min, p50, p90, p99, p999, max }
        });
        Summary {
            path: Arc::new(Path {
                src: IpAddr::V4(Ipv4Addr::LOCALHOST),
                dst: IpAddr::V4(Ipv4Addr::new(127, 0, 0, dst)),
                method: MethodKind::Udp,
                dscp: Dscp(0),
                size: None,
                group: String::new(),
                tags: Arc::default(),
            }),
            interval,
            start: Wall(u64::from(interval) * 10),
            end: Wall(u64::from(interval) * 10 + 10),
            counts: Counts { sent: total + 1, replied: total, lost: 1, ..Counts::default() },
            rtt,
            ipdv: None,
            owd_forward: None,
            owd_reverse: None,
            residence: None,
            rtt_histogram: histogram.into_iter().collect(),
            sent_by: exact.map(|_| StampSource::Kernel),
            received_by: exact.map(|_| StampSource::Kernel),
            lateness: None,
            local_drops: 5,
            flows: 3,
            flows_with_loss: 1,
            worst_flows: vec![FlowSummary {
                source: SocketAddr::from(([127, 0, 0, 1], 1000)),
                target: SocketAddr::from(([127, 0, 0, dst], 8100)),
                dscp: Dscp(0),
                sent: total + 1,
                lost: 1,
                lost_forward: 1,
                lost_reverse: 0,
                dscp_changed_forward: 0,
                dscp_changed_reverse: 0,
                rtt: None,
            }],
            reporter: None,
            seen: Default::default(),
            suspect: vec![Suspicion::LocalDrops],
        }
    }

    #[test]
    fn over_intervals_and_paths() {
        let mut all = Accumulator::new();
        assert!(all.summary().is_none());
        for (interval, dst) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            all.add(&summary(interval, dst, &[1_000_000, 2_000_000]));
        }
        let sum = all.summary().expect("four");
        assert_eq!((sum.start, sum.end, sum.interval), (Wall(0), Wall(20), 1));
        assert_eq!((sum.counts.sent, sum.counts.lost, all.counts().replied), (12, 4, 8));
        assert_eq!((sum.flows, sum.flows_with_loss), (6, 2));
        assert_eq!(sum.local_drops, 10, "the same worker's, once per interval");
        assert_eq!(sum.suspect, [Suspicion::LocalDrops]);
        let flows: Vec<(u64, u64)> = sum.worst_flows.iter().map(|flow| (flow.sent, flow.lost_forward)).collect();
        assert_eq!(flows, [(6, 2), (6, 2)]);
        assert_eq!(sum.rtt.map(|rtt| (rtt.samples, rtt.mean)), Some((8, 1.5e6)));
    }

    proptest! {
        #[test]
        fn many_intervals_are_as_one(parts in prop::collection::vec(prop::collection::vec(1u64..1 << 36, 0..50), 1..8)) {
            let mut all = Accumulator::new();
            for (interval, part) in parts.iter().enumerate() {
                all.add(&summary(interval as u32, 1, part));
            }
            let sum = all.summary().expect("at least one");
            let whole = summary(0, 1, &parts.concat());
            prop_assert_eq!(&sum.rtt_histogram, &whole.rtt_histogram);
            prop_assert_eq!(sum.rtt.is_some(), whole.rtt.is_some());
            if let (Some(a), Some(b)) = (sum.rtt, whole.rtt) {
                prop_assert!((a.mean - b.mean).abs() <= b.mean * 1e-9);
                prop_assert_eq!(
                    (a.samples, a.min, a.p50, a.p90, a.p99, a.p999, a.max),
                    (b.samples, b.min, b.p50, b.p90, b.p99, b.p999, b.max)
                );
            }
        }
    }
}
