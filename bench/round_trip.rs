//! Round trips per second: the bare floor and ours, in one run.
//!
//! Two namespaces on a veth pair, one core each. The cases run by turns (A B C A B C …), so that what
//! else the machine does hits all alike; printed are the medians and each case's ratio to its floor.
//! Only the ratio means something beyond this run.
//!
//! `cargo bench --bench round_trip -- [--seconds S] [--rounds N] [--only WORDS] [--variants] [--json]`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench stops at the first surprise")]

#[path = "../tests/common/mod.rs"]
mod common;
mod floor;

use common::process::{ANSWERING, llama_in};
use common::thread::spawn_in;
use common::topology::TwoHosts;
use floor::Sender;
use llama::collector::{Collector, Options};
use llama::config::System;
use llama::config::plan::{Probes, Single, Target};
use llama::net::features::IoChoice;
use llama::probe::shape::{Dscp, MethodKind, Pacing, Shape, StampPolicy};
use llama::summary::Counts;
use std::cell::Cell;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The core of whatever sends probes.
const SENDER_CORE: usize = 0;
/// The core of whatever sends them back.
const REFLECTOR_CORE: usize = 1;
/// The best bare sender: connected, no stamps.
const BARE: Sender = Sender { sockets: 1, connected: true, receive_stamps: false, window: 256 };
const PORT: u16 = 8100;
/// What is asked of an open-loop sender, as a multiple of the floor.
const OFFERED: f64 = 1.1;
/// Flows of the collector.
const SOURCE_PORTS: u32 = 16;
const FLOOR: &str = "floor: bare sender, bare reflector";
const USAGE: &str = "usage: [--seconds S] [--rounds N] [--only WORDS] [--variants] [--json]";

/// Where the cases run.
struct Bed {
    hosts: TwoHosts,
    duration: Duration,
    /// The best floor so far, round trips per second.
    best_floor: Cell<f64>,
}

/// What one run of a case gave.
#[derive(Clone, Copy, Debug)]
struct Measure {
    round_trips_per_s: f64,
    lost: u64,
}

/// Something to measure.
struct Case {
    name: &'static str,
    /// The lowest acceptable median ratio to the floor, where one is set.
    goal: Option<f64>,
    run: Box<dyn Fn(&Bed) -> Measure>,
}

impl Case {
    fn new(name: &'static str, goal: Option<f64>, run: impl Fn(&Bed) -> Measure + 'static) -> Case {
        Case { name, goal, run: Box::new(run) }
    }
}

impl Bed {
    fn target() -> SocketAddrV4 {
        let IpAddr::V4(address) = TwoHosts::TARGET_V4 else { unreachable!("the constant is IPv4") };
        SocketAddrV4::new(address, PORT)
    }

    /// Runs `measure` while a bare reflector sends back what comes to [`Bed::target`].
    fn with_bare_reflector(&self, measure: impl FnOnce() -> Measure) -> Measure {
        let stop = Arc::new(AtomicBool::new(false));
        let (bound, is_bound) = std::sync::mpsc::channel();
        let reflector = spawn_in(&self.hosts.target, Some(REFLECTOR_CORE), {
            let stop = Arc::clone(&stop);
            move || {
                let socket = floor::reflector(Bed::target()).unwrap();
                bound.send(()).unwrap();
                floor::reflect(&socket, true, &stop).unwrap()
            }
        });
        is_bound.recv().unwrap();
        let measure = measure();
        stop.store(true, Ordering::Relaxed);
        reflector.join().unwrap();
        measure
    }

    /// A bare sender against whatever reflects at [`Bed::target`].
    fn bare_sender(&self, sender: Sender) -> Measure {
        let duration = self.duration;
        let run = spawn_in(&self.hosts.prober, Some(SENDER_CORE), move || {
            floor::closed_loop(sender, Bed::target(), duration).unwrap()
        });
        let achieved = run.join().unwrap();
        Measure { round_trips_per_s: achieved.round_trips as f64 / achieved.elapsed.as_secs_f64(), lost: achieved.lost }
    }
}

/// The collector with all its statistics, as fast as it goes with as many probes in flight as the
/// floor: more is asked of it than the floor achieves, and what finds no room waits for its turn.
fn collector(bed: &Bed, io: IoChoice, stamps: StampPolicy) -> Measure {
    let (duration, rate) = (bed.duration, bed.best_floor.get() * OFFERED);
    bed.with_bare_reflector(|| {
        let run = spawn_in(&bed.hosts.prober, None, move || {
            let plan = Single {
                targets: vec![Target {
                    host: String::new(),
                    address: Bed::target().into(),
                    group: String::new(),
                    tags: Arc::default(),
                }],
                source_ports: SOURCE_PORTS,
                cycles_per_second: rate / f64::from(SOURCE_PORTS),
                pacing: Pacing::Periodic,
                probes: Probes::of(Shape {
                    port_name: String::new(),
                    method: MethodKind::Udp,
                    dscp: Dscp(0),
                    size: 44,
                    stamps,
                    key: None,
                    class_report: false,
                }),
                bind: None,
                loss_threshold: Duration::from_millis(200),
                interval: Duration::from_millis(500),
            };
            let (plan, _) = plan.plan(&System).unwrap();
            let options = Options {
                io,
                cores: vec![SENDER_CORE],
                duration: Some(duration),
                in_flight: Some(BARE.window),
                ..Options::default()
            };
            let sum = Arc::new(Mutex::new(Counts::default()));
            let counted = Arc::clone(&sum);
            let collector = Collector::start(&Arc::new(plan), &options, move |summaries| {
                let mut sum = counted.lock().unwrap();
                for summary in summaries {
                    sum.replied += summary.counts.replied;
                    sum.lost += summary.counts.lost;
                }
            });
            collector.unwrap().join().unwrap();
            *sum.lock().unwrap()
        });
        let counts = run.join().unwrap();
        Measure { round_trips_per_s: counts.replied as f64 / duration.as_secs_f64(), lost: counts.lost }
    })
}

/// The bare sender against `llama reflector`.
fn reflector(bed: &Bed, flags: &[&str]) -> Measure {
    let (listen, core) = (Bed::target().to_string(), REFLECTOR_CORE.to_string());
    let arguments = ["reflector", "--listen", &listen, "--cores", &core];
    let reflector = llama_in(&bed.hosts.target, &[&arguments[..], flags].concat());
    reflector.wait_for(ANSWERING);
    bed.bare_sender(BARE)
}

/// The first case is the floor all others are compared with.
fn cases(variants: bool) -> Vec<Case> {
    let mut cases = vec![Case::new(FLOOR, None, |bed| bed.with_bare_reflector(|| bed.bare_sender(BARE)))];
    // the engine's cases: name, goal, I/O, transmit stamps
    for (name, goal, io, stamps) in [
        ("collector, receive stamps, uring", Some(0.9), IoChoice::Uring, StampPolicy::Off),
        ("collector, receive stamps, mmsg", None, IoChoice::Mmsg, StampPolicy::Off),
        ("collector, transmit stamp on each, uring", Some(0.75), IoChoice::Uring, StampPolicy::All),
        ("collector, transmit stamp on each, mmsg", None, IoChoice::Mmsg, StampPolicy::All),
    ] {
        cases.push(Case::new(name, goal, move |bed| collector(bed, io, stamps)));
    }
    for (name, goal, flags) in [
        ("reflector, uring", Some(0.95), &["--io", "uring"][..]),
        ("reflector, mmsg", None, &["--io", "mmsg"]),
        ("reflector, stateful, uring", None, &["--io", "uring", "--stateful"]),
    ] {
        cases.push(Case::new(name, goal, move |bed| reflector(bed, flags)));
    }
    if variants {
        for (name, sender) in [
            ("bare, unconnected", Sender { connected: false, ..BARE }),
            ("bare, 16 sockets", Sender { sockets: 16, ..BARE }),
            ("bare, 16 sockets unconnected", Sender { sockets: 16, connected: false, ..BARE }),
            ("bare, receive stamps", Sender { receive_stamps: true, ..BARE }),
            (
                "bare, 16 sockets unconnected, receive stamps",
                Sender { sockets: 16, connected: false, receive_stamps: true, ..BARE },
            ),
            ("bare, window 64", Sender { window: 64, ..BARE }),
            ("bare, window 1024", Sender { window: 1024, ..BARE }),
        ] {
            cases.push(Case::new(name, None, move |bed| bed.with_bare_reflector(|| bed.bare_sender(sender))));
        }
    }
    cases
}

fn main() {
    let mut bed = Bed { hosts: TwoHosts::new(), duration: Duration::from_secs(2), best_floor: Cell::new(0.0) };
    let (mut rounds, mut only, mut variants, mut json) = (5_usize, None, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument}: value missing\n{USAGE}"));
        match argument.as_str() {
            "--seconds" => bed.duration = Duration::from_secs_f64(value().parse().expect(USAGE)),
            "--rounds" => rounds = value().parse().expect(USAGE),
            "--only" => only = Some(value()),
            "--variants" => variants = true,
            "--json" => json = true,
            "--bench" => {} // cargo says so
            _ => panic!("{argument}: unknown\n{USAGE}"),
        }
    }
    let mut cases = cases(variants);
    if let Some(words) = &only {
        let mut first = true;
        cases.retain(|case| std::mem::take(&mut first) || case.name.contains(words.as_str()));
    }

    let mut measures = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 1..=rounds {
        for (case, measures) in cases.iter().zip(&mut measures) {
            let measure = (case.run)(&bed);
            if case.name == FLOOR {
                bed.best_floor.set(bed.best_floor.get().max(measure.round_trips_per_s));
            }
            eprintln!(
                "round {round}/{rounds}  {:>9.0} /s  lost {}  {}",
                measure.round_trips_per_s, measure.lost, case.name
            );
            measures.push(measure);
        }
    }
    report(&cases, &measures, json);
}

fn report(cases: &[Case], measures: &[Vec<Measure>], json: bool) {
    let floors: Vec<f64> = measures[0].iter().map(|measure| measure.round_trips_per_s).collect();
    let (least, most) = floors.iter().fold((f64::MAX, 0.0_f64), |(least, most), f| (least.min(*f), most.max(*f)));
    if least < 0.8 * most {
        eprintln!(
            "the floor itself ranged from {least:.0} to {most:.0} /s: something else used the cores, measure again"
        );
    }
    let mut rows = Vec::new();
    for (case, measures) in cases.iter().zip(measures) {
        let rates: Vec<f64> = measures.iter().map(|measure| measure.round_trips_per_s).collect();
        // each run against the floor of its own round
        let ratios: Vec<f64> = rates.iter().zip(&floors).map(|(rate, floor)| rate / floor).collect();
        let lost: u64 = measures.iter().map(|measure| measure.lost).sum();
        rows.push((case, median(&rates), median(&ratios), lost));
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(case, rate, ratio, lost)| {
                serde_json::json!({"case": case.name, "round_trips_per_s": rate, "ratio": ratio, "goal": case.goal, "lost": lost})
            })
            .collect();
        println!("{}", serde_json::json!({ "round_trip": rows }));
        return;
    }
    println!("{:<48} {:>13} {:>7} {:>6} {:>6}", "case (medians)", "round trips/s", "ratio", "goal", "lost");
    for (case, rate, ratio, lost) in rows {
        let goal = case.goal.map_or(String::new(), |goal| format!("{goal:.2}"));
        println!("{:<48} {rate:>13.0} {ratio:>7.2} {goal:>6} {lost:>6}", case.name);
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}
