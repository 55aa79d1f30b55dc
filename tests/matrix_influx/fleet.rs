//! Made summaries with everything that summaries can have, the same in every run.

use super::{INTERVAL, T0};
use llama::probe::shape::{Dscp, MethodKind};
use llama::summary::histogram::{Bucket, Buckets};
use llama::summary::{Counts, Extremes, FlowSummary, Path, Statistics, Summary, Suspicion};
use llama::time::{StampSource, Wall};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

/// Paths and intervals of the fleet.
pub const PATHS: u64 = 24;
pub const INTERVALS: u64 = 12;

/// Numbers without a pattern.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn extremes(&mut self, signed: bool) -> Option<Extremes> {
        let samples = self.below(90);
        let shift = if signed { 300_000 } else { 0 };
        let (a, b) = (self.below(1_000_000) as i64 - shift, self.below(1_000_000) as i64 - shift);
        let (min, max) = (a.min(b), a.max(b));
        (samples > 0).then(|| Extremes { samples, mean: (min + max) as f64 / 2.0 + 0.37, min, max })
    }
}

pub fn path(n: u64) -> Arc<Path> {
    let mut tags = BTreeMap::from([
        ("rack".to_string(), format!("r{}", n % 5)),
        ("group".to_string(), format!("users own {}", n % 2)),
    ]);
    if n.is_multiple_of(3) {
        tags.insert("metro".into(), "fra".into());
    }
    let v6 = |text: &str| text.parse::<IpAddr>().expect("address");
    Arc::new(Path {
        src: if n.is_multiple_of(7) { v6("2001:db8::1") } else { [10, 0, 0, 1 + (n % 3) as u8].into() },
        dst: if n.is_multiple_of(7) { v6("2001:db8::1:0:2") } else { [10, 0, 1, n as u8].into() },
        method: MethodKind::ALL[(n % 3) as usize],
        dscp: Dscp(if n.is_multiple_of(4) { 46 } else { 0 }),
        group: if n.is_multiple_of(5) { String::new() } else { format!("group {}", n % 4) },
        tags: Arc::new(tags),
    })
}

/// One path in one interval.
pub fn summary(n: u64, interval: u64) -> Summary {
    let mut numbers = Numbers(n * 1000 + interval);
    numbers.below(2); // seeds that are near each other begin alike
    let sent = 50 + numbers.below(50);
    let [lost, refused, unreachable, send_failed] = std::array::from_fn(|_| numbers.below(4));
    let replied = sent - lost - refused - unreachable - send_failed;
    // now and then nothing has a round trip
    let trips = if numbers.below(10) == 0 { 0 } else { replied };
    let mut values: Vec<u64> = (0..trips).map(|_| 100_000 + numbers.below(1 << (10 + numbers.0 % 16))).collect();
    values.sort_unstable();
    let mut histogram = Buckets::default();
    values.iter().for_each(|ns| histogram.add(std::iter::once((Bucket::of(*ns), 1))));
    let rtt = values.first().zip(values.last()).map(|(min, max)| {
        let (min, max) = (*min as i64, *max as i64);
        let quantiles = histogram.percentiles([0.5, 0.9, 0.99, 0.999]);
        let [p50, p90, p99, p999] = quantiles.map(|ns| (ns as i64).clamp(min, max));
        let mean = values.iter().sum::<u64>() as f64 / trips as f64;
        Statistics { samples: trips, mean, min, p50, p90, p99, p999, max }
    });
    let lateness = (numbers.below(8) > 0).then(|| {
        let p99 = numbers.below(90_000) as i64;
        Statistics { samples: sent, mean: 5000.0, min: 1, p50: 4000, p90: 8000, p99, p999: p99, max: p99 + 77 }
    });
    let suspect = Suspicion::ALL.into_iter().filter(|_| numbers.below(9) == 0).collect();
    let worst_flows = (0..numbers.below(4)).map(|flow| FlowSummary {
        source: ([10, 0, 0, 1], 40_000 + flow as u16).into(),
        target: ([10, 0, 1, n as u8], 8100).into(),
        dscp: Dscp(46),
        sent: 8,
        lost: (3 - flow).min(lost),
        lost_forward: numbers.below(2),
        lost_reverse: numbers.below(2),
        rtt: numbers.extremes(false),
    });
    let worst_flows = worst_flows.collect();
    // collectors do not end their intervals together
    let end = T0 + interval * INTERVAL + (n % 3) * 2_500_000_001;
    Summary {
        path: path(n),
        interval: interval as u32,
        start: Wall(end - INTERVAL),
        end: Wall(end),
        counts: Counts {
            sent,
            replied,
            lost,
            lost_forward: lost / 2,
            lost_reverse: lost / 3,
            late: numbers.below(5),
            duplicates: numbers.below(5),
            reordered: numbers.below(5),
            refused,
            unreachable,
            send_failed,
            not_sent: numbers.below(3),
            clock_stepped: numbers.below(2),
            stamps_missing: replied - trips,
        },
        rtt,
        ipdv: numbers.extremes(false),
        owd_forward: numbers.extremes(true),
        owd_reverse: numbers.extremes(true),
        residence: numbers.extremes(false),
        rtt_histogram: histogram.values(),
        sent_by: Some(StampSource::Kernel),
        received_by: Some(StampSource::Kernel),
        lateness,
        local_drops: numbers.below(9),
        flows: 16 + n as u32 % 2,
        flows_with_loss: numbers.below(9) as u32,
        worst_flows,
        suspect,
    }
}

/// All of them; some paths have no summary of some intervals.
pub fn summaries() -> &'static [Summary] {
    static ALL: LazyLock<Vec<Summary>> = LazyLock::new(|| {
        let all = (0..INTERVALS).flat_map(|interval| (0..PATHS).map(move |n| (n, interval)));
        all.filter(|(n, interval)| (n + interval) % 11 != 0).map(|(n, interval)| summary(n, interval)).collect()
    });
    &ALL
}
