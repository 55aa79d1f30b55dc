//! SYNs and echoes per second that are answered: a bare raw-socket loop and ours, in one run.
//!
//! Two namespaces on a veth pair; the other end is the target's kernel, which answers a SYN to a closed port by a RST and an
//! echo by its reply, on the core that sends. The cases run by turns; printed are medians and each case's ratio to the floor
//! of its method. Only the ratio means something beyond this run.
//!
//! `cargo bench --bench agentless -- [--seconds S] [--rounds N] [--json]`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench stops at the first surprise")]

#[path = "../tests/common/mod.rs"]
mod common;
mod raw_floor;

use common::thread::spawn_in;
use common::topology::TwoHosts;
use llama::collector::{Collector, Options};
use llama::config::System;
use llama::config::plan::{Probes, Single, Target};
use llama::net::features::IoChoice;
use llama::probe::Seq;
use llama::probe::method::{Addressing, Method};
use llama::probe::shape::{Dscp, MethodKind, Pacing, Shape, StampPolicy};
use llama::summary::Counts;
use llama::time::Wall;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The core of whatever sends.
const CORE: usize = 0;
/// Probes in flight, at most.
const WINDOW: usize = 256;
/// What is asked of the collector, as a multiple of the floor.
const OFFERED: f64 = 1.1;
/// Flows of the collector.
const SOURCE_PORTS: u32 = 16;
/// The lowest acceptable ratio to the floor.
const GOAL: f64 = 0.85;
const METHODS: [MethodKind; 2] = [MethodKind::TcpSyn, MethodKind::Icmp];
const USAGE: &str = "usage: [--seconds S] [--rounds N] [--json]";

fn shape(method: MethodKind, stamps: StampPolicy) -> Shape {
    Shape {
        port_name: String::new(),
        method,
        dscp: Dscp(0),
        size: method.sizes(false).usual,
        stamps,
        key: None,
        class_report: false,
    }
}

/// Answers per second and packets lost of the bare loop.
fn floor(hosts: &TwoHosts, method: MethodKind, duration: Duration) -> (f64, u64) {
    let IpAddr::V4(target) = TwoHosts::TARGET_V4 else { unreachable!("the constant is IPv4") };
    let protocol = if method == MethodKind::TcpSyn { libc::IPPROTO_TCP } else { libc::IPPROTO_ICMP };
    let writer = Method::new(&shape(method, StampPolicy::Off), 0);
    let probes = std::array::from_fn(|number| {
        let local = SocketAddr::new(TwoHosts::PROBER_V4, 40_000 + (number % 16) as u16);
        let mut probe = vec![0; writer.len()];
        let addressing = Addressing::new(local, SocketAddr::new(target.into(), 0));
        assert_eq!(writer.write_for(&addressing, Seq(number as u32), Wall(0), &mut probe), writer.len());
        probe
    });
    let run = spawn_in(&hosts.prober, Some(CORE), move || {
        raw_floor::closed_loop(protocol, target, &probes, WINDOW, duration).unwrap()
    });
    let achieved = run.join().unwrap();
    (achieved.round_trips as f64 / achieved.elapsed.as_secs_f64(), achieved.lost)
}

/// Replies per second and losses of the collector with all its statistics, as many in flight as the floor has.
fn collector(
    hosts: &TwoHosts,
    method: MethodKind,
    io: IoChoice,
    stamps: StampPolicy,
    rate: f64,
    duration: Duration,
) -> (f64, u64) {
    let run = spawn_in(&hosts.prober, None, move || {
        let address = SocketAddr::new(TwoHosts::TARGET_V4, 0);
        let plan = Single {
            targets: vec![Target { host: String::new(), address, group: String::new(), tags: Arc::default() }],
            source_ports: SOURCE_PORTS,
            cycles_per_second: rate / f64::from(SOURCE_PORTS),
            pacing: Pacing::Periodic,
            probes: Probes::of(shape(method, stamps)),
            bind: None,
            loss_threshold: Duration::from_millis(200),
            interval: Duration::from_millis(500),
        };
        let (plan, _) = plan.plan(&System).unwrap();
        let options =
            Options { io, cores: vec![CORE], duration: Some(duration), in_flight: Some(WINDOW), ..Options::default() };
        let sum = Arc::new(Mutex::new(Counts::default()));
        let counted = Arc::clone(&sum);
        let collector = Collector::start(&Arc::new(plan), &options, move |summaries| {
            summaries.iter().for_each(|summary| *counted.lock().unwrap() += &summary.counts);
        });
        collector.unwrap().join().unwrap();
        *sum.lock().unwrap()
    });
    let counts = run.join().unwrap();
    (counts.replied as f64 / duration.as_secs_f64(), counts.lost)
}

fn main() {
    let (mut seconds, mut rounds, mut json) = (1.0, 5_usize, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument}: value missing\n{USAGE}"));
        match argument.as_str() {
            "--seconds" => seconds = value().parse().expect(USAGE),
            "--rounds" => rounds = value().parse().expect(USAGE),
            "--json" => json = true,
            "--bench" => {} // cargo says so
            _ => panic!("{argument}: unknown\n{USAGE}"),
        }
    }
    let duration = Duration::from_secs_f64(seconds);
    let hosts = TwoHosts::new();
    let cases = [
        ("receive stamps, uring", IoChoice::Uring, StampPolicy::Off, Some(GOAL)),
        ("receive stamps, mmsg", IoChoice::Mmsg, StampPolicy::Off, None),
        ("transmit stamp on each, uring", IoChoice::Uring, StampPolicy::All, None),
        ("transmit stamp on each, mmsg", IoChoice::Mmsg, StampPolicy::All, None),
    ];
    let mut rows = Vec::new();
    for method in METHODS {
        let mut floors = Vec::new();
        let mut measured = vec![(Vec::new(), Vec::new(), 0); cases.len()];
        let mut best = 0.0_f64;
        for round in 1..=rounds {
            let (bare, lost) = floor(&hosts, method, duration);
            best = best.max(bare);
            floors.push(bare);
            eprintln!("round {round}/{rounds}  {bare:>9.0} /s  lost {lost}  {} floor", method.name());
            for ((name, io, stamps, _), (rates, ratios, all_lost)) in cases.iter().zip(&mut measured) {
                let (rate, lost) = collector(&hosts, method, *io, *stamps, best * OFFERED, duration);
                eprintln!("round {round}/{rounds}  {rate:>9.0} /s  lost {lost}  {} {name}", method.name());
                rates.push(rate);
                ratios.push(rate / bare);
                *all_lost += lost;
            }
        }
        rows.push((format!("{} floor: bare raw socket", method.name()), median(&floors), 1.0, None, 0));
        for ((name, .., goal), (rates, ratios, lost)) in cases.iter().zip(&measured) {
            let name = format!("{} collector, {name}", method.name());
            rows.push((name, median(rates), median(ratios), *goal, *lost));
        }
    }
    if json {
        let row = |(case, rate, ratio, goal, lost): &(String, f64, f64, Option<f64>, u64)| serde_json::json!({"case": case, "round_trips_per_s": rate, "ratio": ratio, "goal": goal, "lost": lost});
        println!("{}", serde_json::json!({ "agentless": rows.iter().map(row).collect::<Vec<_>>() }));
        return;
    }
    println!("{:<50} {:>9} {:>7} {:>6} {:>6}", "case (medians)", "answers/s", "ratio", "goal", "lost");
    for (name, rate, ratio, goal, lost) in rows {
        let goal = goal.map_or(String::new(), |goal| format!("{goal:.2}"));
        println!("{name:<50} {rate:>9.0} {ratio:>7.2} {goal:>6} {lost:>6}");
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}
