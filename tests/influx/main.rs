//! Delivery to InfluxDB: real servers, read back by query, and a stub for the answers that a real
//! one gives only in bad times.

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod killed;
mod real;
mod server;
mod spooled;
mod stub;
mod unwell;

use llama::probe::shape::{Dscp, MethodKind};
use llama::sink::influx::{Options, Policy, Target};
use llama::sink::{Limits, SinkSnapshot, Sinks};
use llama::summary::{Counts, Extremes, FlowSummary, Path, Statistics, Summary, Suspicion};
use llama::time::{StampSource, Wall};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whole seconds: the end of interval 0.
const T0: u64 = 1_709_209_800_000_000_000;

/// Short pauses, so that tests need not wait for the long ones of a production policy.
fn quick() -> Policy {
    Policy {
        backoff: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        denied: Duration::from_millis(50),
        ..Policy::default()
    }
}

fn sinks(url: &str, token: Option<&str>, policy: Policy, limits: Limits) -> Sinks {
    let mut sinks = Sinks::new();
    let target = Target::parse(url, token).expect("target");
    sinks.add_influx(Options { policy, ..Options::new(target) }, limits).expect("sink");
    sinks
}

fn counters(sinks: &Sinks) -> SinkSnapshot {
    sinks.counters()[0].snapshot()
}

/// Waits until the sink's counters are as `done` says, and gives them; for a minute at most in which nothing is delivered.
fn wait_for(sinks: &Sinks, what: &str, done: impl Fn(&SinkSnapshot) -> bool) -> SinkSnapshot {
    let (mut begin, mut delivered) = (Instant::now(), 0);
    loop {
        let counters = counters(sinks);
        if done(&counters) {
            return counters;
        }
        if counters.delivered != delivered {
            (begin, delivered) = (Instant::now(), counters.delivered);
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "waited a minute for {what}: {counters:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Interval `n` of one path: 100 sent, 90 replied.
fn summary(n: u32, tags: &[(&str, &str)]) -> Summary {
    let extremes = |n: i64| Some(Extremes { samples: 2, mean: n as f64 * 1e6, min: -n, max: n * 2_000_000 });
    Summary {
        path: Arc::new(Path {
            src: [10, 0, 0, 1].into(),
            dst: "2001:db8::2".parse().expect("address"),
            method: MethodKind::Udp,
            dscp: Dscp(46),
            size: None,
            group: "far".into(),
            tags: Arc::new(tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()),
        }),
        interval: n,
        start: Wall(T0 + u64::from(n) * 30_000_000_000 - 30_000_000_000),
        end: Wall(T0 + u64::from(n) * 30_000_000_000 + 1),
        counts: Counts { sent: 101, replied: 90, lost: 10, send_failed: 1, late: 3, ..Counts::default() },
        rtt: Some(Statistics {
            samples: 90,
            mean: 1_500_000.0,
            min: 1_000_000,
            p50: 1_400_000,
            p90: 1_900_000,
            p99: 2_000_000,
            p999: 2_100_000,
            max: 2_250_000,
        }),
        ipdv: extremes(1),
        owd_forward: extremes(3),
        owd_reverse: extremes(5),
        residence: extremes(7),
        rtt_histogram: vec![],
        sent_by: Some(StampSource::Kernel),
        received_by: Some(StampSource::Kernel),
        lateness: None,
        local_drops: 0,
        flows: 16,
        flows_with_loss: 1,
        worst_flows: vec![FlowSummary {
            source: ([10, 0, 0, 1], 40_000).into(),
            target: ([10, 0, 0, 2], 8100).into(),
            dscp: Dscp(46),
            sent: 40,
            lost: 10,
            lost_forward: 0,
            lost_reverse: 0,
            dscp_changed_forward: 0,
            dscp_changed_reverse: 0,
            rtt: None,
        }],
        reporter: None,
        seen: Default::default(),
        suspect: vec![Suspicion::NotSent],
    }
}

/// The same path and interval, but nothing came back.
fn silent(n: u32) -> Summary {
    Summary {
        counts: Counts { sent: 10, lost: 10, ..Counts::default() },
        rtt: None,
        ipdv: None,
        owd_forward: None,
        owd_reverse: None,
        residence: None,
        sent_by: None,
        received_by: None,
        worst_flows: vec![],
        reporter: None,
        seen: Default::default(),
        suspect: vec![],
        ..summary(n, &[])
    }
}
