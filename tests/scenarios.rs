//! Network situations as data: the collector's worker and the reflector's responder, as shipped, over the
//! simulated network, and what must come out. One file each in `tests/scenarios/`; all are run.
//!
//! # Format
//! ```yaml
//! about: one sentence                  # required
//! seed: 1                              # of the whole simulation
//! probing:
//!   target: "198.51.100.1:8100"
//!   flows: 4                           # source ports, from 40000
//!   rate: 400                          # probes per second of all flows together
//!   pacing: periodic                   # or poisson
//!   duration_s: 10
//!   interval_s: 5
//!   loss_threshold_ms: 500
//!   method: udp                        # or llama, llama-python
//!   size: 64                           # bytes of UDP payload
//!   stamps: 1                          # transmit stamp on one probe in so many; 0: none
//!   key: secret                        # authenticated mode; absent: open
//! reflector:
//!   stateful: false
//!   residence_us: 100
//!   clock_offset_s: 0                  # its clock minus the prober's
//!   restarts_at_s: [3]                 # forgets its sessions
//!   icmp: refused                      # or unreachable: nobody answers, an ICMP error does
//! forward: &link                       # to the reflector; `reverse` has the same keys
//!   delay_ms: 2
//!   jitter_ms: 1                       # 0 to so much more, evenly
//!   jitter_mean_ms: 1                  # instead: exponential with this mean
//!   loss: 0.01                         # probability …
//!   lose_every: 7                      # … or the 7th, the 14th, …
//!   loss_ports: [40002, 40002]         # only flows with these source ports lose
//!   outages_s: [[3, 4.5]]              # everything is dropped
//!   duplicate_every: 10
//!   hold_every: [20, 600]              # every 20th comes 600 ms later
//! host:                                # the prober's
//!   send_delay_us: 30                  # from the send call to the wire
//!   stamp_delay_us: 1                  # from the wire to the stamp being there
//!   stamp_missing_every: 100
//!   stamp_twice_every: 3
//!   receive_stamps: true
//!   receive_buffer: 4096               # datagrams
//!   send_fails_every: 100
//!   stalls_s: [[5, 7]]                 # not scheduled
//!   clock_steps_s: [[5, 3600]]         # at 5 s, by an hour
//! strays:                              # datagrams nobody asked for, to the first socket
//!   - {at_s: 1, from: "203.0.113.9:53", text: hello}
//! expect:                              # required; sums over all intervals
//!   suspect: [ClockStep]               # exactly these (see `Suspicion`); empty when absent
//!   sent: 4000                         # a number: exactly that
//!   lost: [30, 60]                     # a range: ends included
//!   lost_forward: dropped_forward      # a name: the same as that one
//! ```
//! Names: every field of `Counts`, `unanswered`, `samples`, `{rtt,ipdv,owd_forward,owd_reverse,residence}_{min,mean,max}_ms`,
//! `rtt_{p50,p90,p99}_ms`, `lateness_max_ms`, `intervals`, `flows`, `flows_with_loss`, `worst_port`, `local_drops`,
//! `unreadable`, `unasked`, `clock_steps`, `stray_stamps`; what the wire did: `wire_sent`, `dropped_forward`, `dropped_reverse`,
//! `dropped`, `doubled`, `answered`, `stamps_withheld`. A delay that was not measured has no name.
//!
//! Whatever a file expects, probes are conserved and every interval is delivered.

use llama::collector::Options;
use llama::collector::ledger::{Ledger, Timetable};
use llama::collector::progress::Progress;
use llama::collector::worker::{Bare, Ended, Parts, Reader, Route};
use llama::net::sim::{Host, Jitter, Link, Loss, SimClock, SimNetwork, StampQuality, Truth, Way};
use llama::net::{IcmpMeaning, SocketId, SocketSpec, TransmitStamps};
use llama::probe::inflight::InFlight;
use llama::probe::method::{Addressing, Method};
use llama::probe::random::Random;
use llama::probe::schedule::{Schedule, Sweep};
use llama::probe::shape::{Dscp, Key, MethodKind, Pacing, Shape, StampPolicy};
use llama::probe::{IntervalId, Seq};
use llama::reflector::responder::{self, Responder, Setup};
use llama::summary::accumulator::Accumulator;
use llama::summary::interval::{FlowAddress, Merger, Span};
use llama::summary::tally::{Layout, Tally};
use llama::summary::{Extremes, Path, Summary};
use llama::time::{Delay, Monotonic, Wall};
use llama::wire::stamp::Signer;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const START: Monotonic = Monotonic(1_000_000_000_000);
const WALL: Wall = Wall(1_700_000_000_000_000_000);
const FIRST_PORT: u16 = 40_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    #[allow(dead_code, reason = "for people")]
    about: String,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    probing: Probing,
    #[serde(default)]
    reflector: Reflector,
    #[serde(default)]
    forward: OneWay,
    #[serde(default)]
    reverse: OneWay,
    #[serde(default)]
    host: HostSpec,
    #[serde(default)]
    strays: Vec<Stray>,
    expect: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Probing {
    target: SocketAddr,
    flows: u32,
    rate: f64,
    pacing: String,
    duration_s: f64,
    interval_s: f64,
    loss_threshold_ms: u64,
    method: String,
    size: u16,
    stamps: u32,
    key: Option<String>,
}

impl Default for Probing {
    fn default() -> Probing {
        Probing {
            target: SocketAddr::from(([198, 51, 100, 1], 8100)),
            flows: 4,
            rate: 400.0,
            pacing: "periodic".to_owned(),
            duration_s: 10.0,
            interval_s: 5.0,
            loss_threshold_ms: 500,
            method: "udp".to_owned(),
            size: 64,
            stamps: 1,
            key: None,
        }
    }
}

impl Probing {
    fn method(&self) -> MethodKind {
        let method = MethodKind::ALL.into_iter().find(|method| method.name() == self.method);
        method.unwrap_or_else(|| panic!("method: {} is none", self.method))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reflector {
    stateful: bool,
    residence_us: f64,
    clock_offset_s: f64,
    restarts_at_s: Vec<f64>,
    icmp: Option<String>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OneWay {
    delay_ms: f64,
    jitter_ms: f64,
    jitter_mean_ms: f64,
    loss: f64,
    lose_every: u64,
    loss_ports: Option<[u16; 2]>,
    outages_s: Vec<[f64; 2]>,
    duplicate_every: Option<u64>,
    hold_every: Option<(u64, f64)>,
}

impl Default for OneWay {
    fn default() -> OneWay {
        OneWay {
            delay_ms: 2.0,
            jitter_ms: 0.0,
            jitter_mean_ms: 0.0,
            loss: 0.0,
            lose_every: 0,
            loss_ports: None,
            outages_s: Vec::new(),
            duplicate_every: None,
            hold_every: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostSpec {
    send_delay_us: f64,
    stamp_delay_us: f64,
    stamp_missing_every: Option<u64>,
    stamp_twice_every: Option<u64>,
    receive_stamps: bool,
    receive_buffer: usize,
    send_fails_every: Option<u64>,
    stalls_s: Vec<[f64; 2]>,
    clock_steps_s: Vec<[f64; 2]>,
}

impl Default for HostSpec {
    fn default() -> HostSpec {
        HostSpec {
            send_delay_us: 0.0,
            stamp_delay_us: 1.0,
            stamp_missing_every: None,
            stamp_twice_every: None,
            receive_stamps: true,
            receive_buffer: 4096,
            send_fails_every: None,
            stalls_s: Vec::new(),
            clock_steps_s: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stray {
    at_s: f64,
    from: SocketAddr,
    text: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Exactly(f64),
    Within([f64; 2]),
    Same(String),
    Suspicions(Vec<String>),
}

fn ns(value: f64, unit: f64) -> u64 {
    (value * unit).round() as u64
}

fn ranges(seconds: &[[f64; 2]]) -> Vec<Range<u64>> {
    seconds.iter().map(|[from, to]| ns(*from, 1e9)..ns(*to, 1e9)).collect()
}

impl OneWay {
    fn link(&self) -> Link {
        Link {
            delay_ns: ns(self.delay_ms, 1e6),
            jitter: match (self.jitter_ms > 0.0, self.jitter_mean_ms > 0.0) {
                (true, _) => Jitter::Uniform(ns(self.jitter_ms, 1e6)),
                (_, true) => Jitter::Exponential(ns(self.jitter_mean_ms, 1e6)),
                _ => Jitter::None,
            },
            loss: match (self.lose_every, self.loss > 0.0) {
                (0, true) => Loss::Random(self.loss),
                (0, false) => Loss::None,
                (every, _) => Loss::Every(every),
            },
            loss_ports: self.loss_ports.map(|[first, last]| first..=last),
            outages: ranges(&self.outages_s),
            duplicate_every: self.duplicate_every,
            hold_every: self.hold_every.map(|(every, ms)| (every, ns(ms, 1e6))),
            rewrite_class: None,
        }
    }
}

impl HostSpec {
    fn host(&self) -> Host {
        let step = |[at, by]: &[f64; 2]| (ns(*at, 1e9), Delay((by * 1e9).round() as i64));
        Host {
            send_delay_ns: ns(self.send_delay_us, 1e3),
            stamps: StampQuality {
                delay_ns: ns(self.stamp_delay_us, 1e3),
                missing_every: self.stamp_missing_every,
                twice_every: self.stamp_twice_every,
            },
            receive_stamps: self.receive_stamps,
            receive_buffer: self.receive_buffer,
            stalls: ranges(&self.stalls_s),
            clock_steps: self.clock_steps_s.iter().map(step).collect(),
            send_fails_every: self.send_fails_every,
        }
    }
}

impl Reflector {
    fn way(&self, scenario: &Scenario) -> Way {
        Way {
            forward: scenario.forward.link(),
            reverse: scenario.reverse.link(),
            residence_ns: ns(self.residence_us, 1e3),
            clock_offset_ns: (self.clock_offset_s * 1e9).round() as i64,
            icmp: self.icmp.as_deref().map(|what| match what {
                "refused" => IcmpMeaning::Refused,
                "unreachable" => IcmpMeaning::Unreachable,
                other => panic!("icmp: {other} is neither refused nor unreachable"),
            }),
        }
    }

    /// The reflector's logic as a peer of the simulated network; a new one after every restart.
    fn peer(&self, key: Option<&str>) -> impl FnMut(&llama::net::sim::Arrival<'_>) -> Option<Vec<u8>> + Send + 'static {
        let setup = Setup {
            signer: key.map(|key| Signer::new(key.as_bytes())),
            sessions: if self.stateful { 1024 } else { 0 },
            seed: 7,
            ..Setup::default()
        };
        let offset = Delay((self.clock_offset_s * 1e9).round() as i64);
        let mut restarts: Vec<Wall> =
            self.restarts_at_s.iter().map(|at| WALL.plus(offset).plus(Delay(ns(*at, 1e9) as i64))).collect();
        restarts.sort();
        let mut responder = Responder::new(setup.clone());
        move |arrival| {
            while restarts.first().is_some_and(|restart| arrival.at >= *restart) {
                restarts.remove(0);
                responder = Responder::new(setup.clone());
            }
            let seen = responder::Arrival {
                bytes: arrival.bytes,
                from: arrival.from,
                to: Some(arrival.to.ip()),
                local_port: arrival.to.port(),
                received: arrival.at,
                traffic_class: Some(arrival.traffic_class),
                hop_limit: Some(64),
            };
            let mut out = vec![0; arrival.bytes.len()];
            let reply = responder.respond(Monotonic(arrival.at.0), &seen, arrival.leaves, &mut out).ok()?;
            out.truncate(reply.len);
            Some(out)
        }
    }
}

/// What came out: everything that can be expected, by name.
struct Outcome {
    values: BTreeMap<&'static str, f64>,
    suspect: Vec<String>,
}

impl Scenario {
    fn run(&self) -> Outcome {
        let clock = SimClock::new(START, WALL);
        let sockets = self.sockets();
        let mut network = SimNetwork::new(self.seed, &clock, &sockets, self.host.host());
        network.peer(self.probing.target, self.reflector.way(self), self.reflector.peer(self.probing.key.as_deref()));
        for stray in &self.strays {
            network.inject(ns(stray.at_s, 1e9), SocketId(0), stray.from, stray.text.as_bytes());
        }

        let layout = Arc::new(self.layout());
        let interval = Duration::from_secs_f64(self.probing.interval_s);
        let intervals = (self.probing.duration_s / self.probing.interval_s).ceil() as usize;
        let timetable = Timetable::new(START, interval);
        // nobody takes tallies while the worker runs: there is one for every interval
        let (closed, taken) = crossbeam_channel::unbounded();
        let (_back, no_tallies) = crossbeam_channel::bounded(0);
        let tallies = (0..intervals + 2).map(|_| Tally::new(&layout, 0)).collect();
        let mut ledger = Ledger::new(0, closed, no_tallies);
        ledger.renew(IntervalId(0), tallies);
        let parts = self.parts(ledger, timetable.clone());
        let progress = Arc::clone(&parts.progress);
        let mut worker = Bare::new(clock.clone(), parts).over(&mut network);
        let ended = worker.run().expect("a simulated network does not break");
        assert!(matches!(ended, Ended::Done));
        drop(worker);

        let path = Arc::new(self.path(sockets[0].bind));
        let target = self.probing.target;
        let address = move |flow: u32| FlowAddress { source: sockets[flow as usize].bind, target, dscp: Dscp(0) };
        let mut merger = Merger::new(vec![path], vec![layout], address);
        let mut all = Accumulator::new();
        for (number, closed) in taken.into_iter().enumerate() {
            assert_eq!(closed.interval.0 as usize, number, "intervals come in order");
            let tally = closed.tally.expect("nothing is given up: there are tallies enough");
            let span = |instant: Monotonic| WALL.plus(Delay(instant.since(START) as i64));
            let end = timetable.end(closed.interval);
            let span = Span { start: span(Monotonic(end.0 - interval.as_nanos() as u64)), end: span(end) };
            for summary in merger.add(&tally, span).expect("one worker") {
                let counts = summary.counts;
                assert_eq!(
                    counts.sent,
                    counts.replied + counts.unanswered() + counts.send_failed,
                    "probes are not conserved in interval {number}: {counts:?}"
                );
                all.add(&summary);
            }
        }
        let summary = all.summary().expect("at least one interval");
        assert_eq!(summary.interval as usize + 1, intervals, "every interval is delivered");
        let truth = network.truth();
        assert_progress_agrees(&progress, &summary);
        Outcome {
            values: values(&summary, &truth, &progress),
            suspect: summary.suspect.iter().map(|suspicion| format!("{suspicion:?}")).collect(),
        }
    }

    fn sockets(&self) -> Vec<SocketSpec> {
        let ip: std::net::IpAddr = if self.probing.target.is_ipv4() {
            [192, 0, 2, 1].into()
        } else {
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()
        };
        let socket = |i: u32| SocketSpec {
            transmit_stamps: match self.probing.stamps {
                0 => TransmitStamps::None,
                1 => TransmitStamps::All,
                _ => TransmitStamps::Asked,
            },
            icmp_errors: true,
            ..SocketSpec::new(SocketAddr::new(ip, FIRST_PORT + i as u16))
        };
        (0..self.probing.flows).map(socket).collect()
    }

    fn layout(&self) -> Layout {
        let flows = self.probing.flows;
        Layout {
            flow_paths: vec![0; flows as usize],
            flows: (0..flows).collect(),
            paths: vec![0],
            stamped: vec![self.probing.stamps != 0],
        }
    }

    fn path(&self, source: SocketAddr) -> Path {
        Path {
            src: source.ip(),
            dst: self.probing.target.ip(),
            method: self.probing.method(),
            dscp: Dscp(0),
            size: None,
            group: "g".to_owned(),
            tags: Arc::default(),
        }
    }

    fn parts(&self, ledger: Ledger, timetable: Timetable) -> Parts {
        let Probing { target, flows, rate, loss_threshold_ms, size, stamps, .. } = self.probing;
        let threshold = Duration::from_millis(loss_threshold_ms);
        let limit = (rate * (threshold.as_secs_f64() + 0.2)) as usize + 64;
        let mut random = Random::new(self.seed);
        let pacing = match self.probing.pacing.as_str() {
            "periodic" => Pacing::Periodic,
            "poisson" => Pacing::Poisson,
            other => panic!("pacing: {other} is neither periodic nor poisson"),
        };
        let shape = Shape {
            port_name: "p".to_owned(),
            method: self.probing.method(),
            dscp: Dscp(0),
            size,
            stamps: StampPolicy::All,
            key: self.probing.key.as_ref().map(|key| Arc::new(Key(key.clone().into_bytes()))),
            class_report: false,
        };
        let sweep = Sweep { flows: 0..flows, cycles_per_second: rate / f64::from(flows), pacing };
        let route = |socket| Route {
            to: target,
            addressing: Addressing::new(target, target), // nothing to UDP
            socket: SocketId(socket),
            lane: 0,
            method: 0,
            traffic_class: None,
            dscp: Dscp(0),
            flow_label: 0,
            stamp_one_in: stamps,
        };
        Parts {
            schedule: Schedule::new(&[sweep], START, random.bits()),
            lanes: vec![InFlight::new(2 * limit, flows as usize, threshold, Seq(random.bits() as u32), limit)],
            thresholds: vec![threshold],
            routes: (0..flows as u16).map(route).collect(),
            readers: vec![Reader { lane: 0, method: 0 }; flows as usize],
            methods: vec![Method::new(&shape, 1)],
            timetable,
            max_lateness_ns: 50_000_000,
            end: Some(START.after(Duration::from_secs_f64(self.probing.duration_s))),
            // nobody brings another plan
            ..Parts::new(ledger, &Options::default(), Arc::default(), crossbeam_channel::never())
        }
    }

    /// What is not as expected.
    fn complaints(&self) -> Vec<String> {
        let Outcome { values, suspect } = self.run();
        let value = |name: &str| values.get(name).copied().ok_or_else(|| format!("{name}: nothing has that name"));
        let check = |name: &str, expected: &Expected| -> Result<(), String> {
            match expected {
                Expected::Exactly(number) if value(name)? != *number => {
                    Err(format!("{name}: {} instead of {number}", value(name)?))
                }
                Expected::Within([least, most]) if !(*least..=*most).contains(&value(name)?) => {
                    Err(format!("{name}: {} is not within {least} and {most}", value(name)?))
                }
                Expected::Same(other) if value(name)? != value(other)? => {
                    Err(format!("{name}: {} instead of {} as {other}", value(name)?, value(other)?))
                }
                Expected::Suspicions(_) => Err(format!("{name}: a list of words is only for `suspect`")),
                _ => Ok(()),
            }
        };
        let mut complaints: Vec<String> = self
            .expect
            .iter()
            .filter(|(name, _)| *name != "suspect")
            .filter_map(|(name, expected)| check(name, expected).err())
            .collect();
        let expected = match self.expect.get("suspect") {
            Some(Expected::Suspicions(list)) => list.clone(),
            None => Vec::new(),
            Some(_) => panic!("suspect: a list of words is wanted"),
        };
        if suspect != expected {
            complaints.push(format!("suspect: {suspect:?} instead of {expected:?}"));
        }
        if !complaints.is_empty() {
            complaints.push(format!("what came out: {values:?}"));
        }
        complaints
    }
}

/// The counters of the metrics say what the summaries say.
fn assert_progress_agrees(progress: &Progress, summary: &Summary) {
    let counts = &summary.counts;
    let lateness = progress.lateness.read().0;
    assert_eq!(progress.after_close.get(), 0, "there is a tally for everything here");
    for (name, shown, counted) in [
        ("sent", progress.sent.get(), counts.sent),
        ("lateness", lateness.iter().sum(), counts.sent),
        ("replied", progress.replied.get(), counts.replied),
        ("lost", progress.lost.get(), counts.lost),
        ("corrupted", progress.corrupted.get(), counts.corrupted),
        ("too_big", progress.too_big.get(), counts.too_big),
        ("refused", progress.refused.get(), counts.refused),
        ("unreachable", progress.unreachable.get(), counts.unreachable),
        ("send_failed", progress.send_failed.get(), counts.send_failed),
        ("not_sent", progress.not_sent.get(), counts.not_sent),
        ("late", progress.late.get(), counts.late),
        ("duplicates", progress.duplicates.get(), counts.duplicates),
        ("reordered", progress.reordered.get(), counts.reordered),
        ("stamps_missing", progress.stamps_missing.get(), counts.stamps_missing),
        ("local_drops", progress.local_drops.get(), summary.local_drops),
        ("in flight", progress.in_flight.get(), 0),
    ] {
        assert_eq!(shown, counted, "{name}");
    }
}

fn values(summary: &Summary, truth: &Truth, progress: &Progress) -> BTreeMap<&'static str, f64> {
    let c = &summary.counts;
    let counts = [
        ("sent", c.sent),
        ("replied", c.replied),
        ("lost", c.lost),
        ("lost_forward", c.lost_forward),
        ("lost_reverse", c.lost_reverse),
        ("late", c.late),
        ("duplicates", c.duplicates),
        ("reordered", c.reordered),
        ("corrupted", c.corrupted),
        ("too_big", c.too_big),
        ("refused", c.refused),
        ("unreachable", c.unreachable),
        ("send_failed", c.send_failed),
        ("not_sent", c.not_sent),
        ("clock_stepped", c.clock_stepped),
        ("stamps_missing", c.stamps_missing),
        ("unanswered", c.unanswered()),
        ("samples", summary.rtt.map_or(0, |rtt| rtt.samples)),
        ("intervals", u64::from(summary.interval) + 1),
        ("flows", u64::from(summary.flows)),
        ("flows_with_loss", u64::from(summary.flows_with_loss)),
        ("worst_port", summary.worst_flows.first().map_or(0, |flow| u64::from(flow.source.port()))),
        ("local_drops", summary.local_drops),
        ("unreadable", progress.unreadable.get()),
        ("unasked", progress.unasked.get()),
        ("clock_steps", progress.clock_steps.get()),
        ("stray_stamps", progress.stray_stamps.get()),
        ("wire_sent", truth.sent),
        ("dropped_forward", truth.dropped_forward),
        ("dropped_reverse", truth.dropped_reverse),
        ("dropped", truth.dropped_forward + truth.dropped_reverse),
        ("doubled", truth.doubled),
        ("answered", truth.answered),
        ("stamps_withheld", truth.stamps_withheld),
    ];
    let mut values: BTreeMap<&'static str, f64> = counts.map(|(name, count)| (name, count as f64)).into();
    if let Some(rtt) = summary.rtt {
        let exact =
            [("rtt_min_ms", rtt.min), ("rtt_p50_ms", rtt.p50), ("rtt_p90_ms", rtt.p90), ("rtt_p99_ms", rtt.p99)];
        values.extend(exact.map(|(name, ns)| (name, ns as f64 / 1e6)));
        values.extend([("rtt_mean_ms", rtt.mean / 1e6), ("rtt_max_ms", rtt.max as f64 / 1e6)]);
    }
    let mut add = |names: [&'static str; 3], sample: Option<Extremes>| {
        if let Some(Extremes { min, mean, max, .. }) = sample {
            values.extend(names.into_iter().zip([min as f64 / 1e6, mean / 1e6, max as f64 / 1e6]));
        }
    };
    add(["ipdv_min_ms", "ipdv_mean_ms", "ipdv_max_ms"], summary.ipdv);
    add(["owd_forward_min_ms", "owd_forward_mean_ms", "owd_forward_max_ms"], summary.owd_forward);
    add(["owd_reverse_min_ms", "owd_reverse_mean_ms", "owd_reverse_max_ms"], summary.owd_reverse);
    add(["residence_min_ms", "residence_mean_ms", "residence_max_ms"], summary.residence);
    values.extend(summary.lateness.map(|lateness| ("lateness_max_ms", lateness.max as f64 / 1e6)));
    values
}

#[test]
fn every_scenario_comes_out_as_expected() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 20, "only {} scenarios found", files.len());
    let mut complaints = Vec::new();
    for file in files {
        let name = file.file_stem().expect("a file").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("readable");
        let scenario: Scenario =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}.yaml does not parse: {error}"));
        complaints.extend(scenario.complaints().into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn one_seed_is_one_story() {
    let text = "{about: noisy, seed: 3, forward: {loss: 0.1, jitter_mean_ms: 3}, expect: {}}";
    let story = || serde_saphyr::from_str::<Scenario>(text).expect("parses").run().values;
    let first = story();
    assert_eq!(first, story());
    assert!(first["lost"] > 0.0 && first["reordered"] > 0.0, "{first:?}");
}
