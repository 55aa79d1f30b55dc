//! Is the reported round-trip time true? Every single one is compared with a packet capture on the
//! prober's interface.
//!
//! `error = reported − (reply − request on the wire − residence)`, with the residence time (T3 − T2)
//! as the captured reply carries it. Measured idle and with a busy loop on every core; irtt and fping
//! are measured in the same way, mean against mean, when they are installed. Run it by `scripts/truth`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench stops at the first surprise")]

mod capture;
#[path = "../tests/common/mod.rs"]
mod common;

use capture::{Capture, Seen};
use common::process::{ANSWERING, Process, llama_in};
use common::topology::TwoHosts;
use llama::time::ntp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PORT: u16 = 8100;
const RATE: u32 = 1000;
const USAGE: &str = "usage: scripts/truth [--seconds S] [--check]";

/// Limits of the absolute error in nanoseconds.
struct Limits {
    median: i64,
    p99: i64,
}

const IDLE: Limits = Limits { median: 2_000, p99: 10_000 };
const BUSY: Limits = Limits { median: i64::MAX, p99: 30_000 };

fn main() {
    let (mut seconds, mut check) = (20_u32, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => seconds = arguments.next().expect(USAGE).parse().expect(USAGE),
            "--check" => check = true,
            "--bench" => {} // cargo says so
            _ => panic!("{argument}: unknown\n{USAGE}"),
        }
    }
    let mut missed = Vec::new();
    let mut means = Vec::new();
    println!(
        "{:<6} {:>7} {:>12} {:>12} | {:>9} {:>9} {:>9} {:>9} {:>9}",
        "cores", "probes", "wire mean", "rtt mean", "|error|", "p90", "p99", "max", "bias"
    );
    println!(
        "{:<6} {:>7} {:>12} {:>12} | {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "", "µs", "µs", "p50 µs", "µs", "µs", "µs", "p50 µs"
    );
    for (load, limits) in [("idle", IDLE), ("busy", BUSY)] {
        let _load = (load == "busy").then(BusyCores::start);
        let run = ours(seconds);
        println!(
            "{load:<6} {:>7} {:>12.2} {:>12.2} | {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            run.errors.len(),
            run.wire_mean / 1e3,
            run.reported_mean / 1e3,
            us(rank(&run.errors, 0.5)),
            us(rank(&run.errors, 0.9)),
            us(rank(&run.errors, 0.99)),
            us(*run.errors.last().unwrap()),
            us(run.bias)
        );
        for (what, value, limit) in
            [("median", rank(&run.errors, 0.5), limits.median), ("p99", rank(&run.errors, 0.99), limits.p99)]
        {
            if value > limit {
                missed.push(format!(
                    "{load}: {what} of |error| is {:.2} µs, at most {:.2} allowed",
                    us(value),
                    us(limit)
                ));
            }
        }
        means.push(("llama", load, run.reported_mean, run.wire_mean));
        for (name, peer) in [("irtt", irtt as fn(u32) -> Option<(f64, f64)>), ("fping", fping)] {
            if let Some((reported, wire)) = peer(seconds.min(5)) {
                means.push((name, load, reported, wire));
            }
        }
    }
    println!("\n{:<8} {:<6} {:>14} {:>14} {:>8}", "", "cores", "reported mean", "wire mean", "ratio");
    for (name, load, reported, wire) in means {
        println!("{name:<8} {load:<6} {:>11.2} µs {:>11.2} µs {:>8.2}", reported / 1e3, wire / 1e3, reported / wire);
    }
    for line in &missed {
        println!("MISSED {line}");
    }
    if check && !missed.is_empty() {
        std::process::exit(1);
    }
}

/// A run of ours, all in nanoseconds.
struct Run {
    /// |error|, ascending.
    errors: Vec<i64>,
    /// Median of the signed error.
    bias: i64,
    wire_mean: f64,
    reported_mean: f64,
}

fn ours(seconds: u32) -> Run {
    let hosts = TwoHosts::new();
    let reflector = llama_in(&hosts.target, &["reflector"]);
    reflector.wait_for(ANSWERING);
    let capture = Capture::start(&hosts.prober, TwoHosts::DEVICE, &format!("udp port {PORT}"));
    let directory = tempfile::tempdir().unwrap();
    let samples = directory.path().join("samples.csv");
    let (count, rate, target) = ((seconds * RATE).to_string(), RATE.to_string(), TwoHosts::TARGET_V4.to_string());
    let arguments = ["ping", &target, "--json", "--count", &count, "--rate", &rate, "--tx-timestamps", "all"];
    let samples_flag = ["--samples", samples.to_str().unwrap()];
    llama_in(&hosts.prober, &[&arguments[..], &samples_flag].concat())
        .finish_within(Duration::from_secs(u64::from(seconds) + 30))
        .success();
    let wire = wire(&capture.stop(2 * (seconds * RATE) as usize));
    let samples = samples_of(&std::fs::read_to_string(&samples).unwrap());
    assert!(samples.len() * 100 >= (seconds * RATE) as usize * 99, "only {} samples", samples.len());

    let mut signed = Vec::with_capacity(samples.len());
    let (mut wire_sum, mut reported_sum) = (0_i64, 0_i64);
    for sample in &samples {
        let wire = wire
            .get(&(sample.source_port, sample.seq))
            .unwrap_or_else(|| panic!("port {} sequence {} never was on the wire", sample.source_port, sample.seq));
        signed.push(sample.rtt_ns - wire);
        wire_sum += wire;
        reported_sum += sample.rtt_ns;
    }
    signed.sort_unstable();
    let bias = rank(&signed, 0.5);
    let mut errors: Vec<i64> = signed.into_iter().map(i64::abs).collect();
    errors.sort_unstable();
    let n = samples.len() as f64;
    Run { errors, bias, wire_mean: wire_sum as f64 / n, reported_mean: reported_sum as f64 / n }
}

/// One line of `llama ping --samples`.
struct Sample {
    seq: u32,
    source_port: u16,
    rtt_ns: i64,
}

/// The file's columns are found by name.
fn samples_of(file: &str) -> Vec<Sample> {
    let mut lines = file.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column =
        |name: &str| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no column {name} in {names:?}"));
    let (seq, source_port, rtt_ns) = (column("seq"), column("source_port"), column("rtt_ns"));
    lines
        .map(|line| line.split(',').collect::<Vec<&str>>())
        .map(|fields| Sample {
            seq: fields[seq].parse().unwrap(),
            source_port: fields[source_port].parse().unwrap(),
            rtt_ns: fields[rtt_ns].parse().unwrap(),
        })
        .collect()
}

/// Round trips on the wire without the residence time, by source port and sequence number.
fn wire(packets: &[Seen]) -> HashMap<(u16, u32), i64> {
    let u32_at = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut requests = HashMap::new();
    let mut round_trips = HashMap::new();
    for packet in packets {
        let payload = &packet.payload;
        if payload.len() < 44 {
            continue;
        }
        if packet.destination_port == PORT {
            requests.insert((packet.source_port, u32_at(payload, 0)), packet.at_ns);
            continue;
        }
        // RFC 8762 §4.3.1: 4 T3, 12 error estimate, 16 T2, 24 the sender's sequence number
        let key = (packet.destination_port, u32_at(payload, 24));
        let ptp = payload[12] & 0x40 != 0;
        let instant = |bits: u64| if ptp { ntp::from_ptp(bits).unwrap() } else { ntp::from_ntp(bits) };
        let residence = instant(u64_at(payload, 4)).minus(instant(u64_at(payload, 16))).0;
        let request = requests.get(&key).unwrap_or_else(|| panic!("a reply to {key:?} before its request"));
        round_trips.entry(key).or_insert(packet.at_ns - request - residence);
    }
    round_trips
}

/// Mean of replies minus requests: needs no pairing when as many came back as went out.
fn wire_mean(packets: &[Seen], is_request: impl Fn(&Seen) -> bool) -> Option<f64> {
    let (requests, replies): (Vec<&Seen>, Vec<&Seen>) = packets.iter().partition(|packet| is_request(packet));
    if requests.is_empty() || requests.len() != replies.len() {
        eprintln!("{} requests, {} replies on the wire: no mean", requests.len(), replies.len());
        return None;
    }
    let origin = requests[0].at_ns;
    let sum = |packets: &[&Seen]| packets.iter().map(|packet| packet.at_ns - origin).sum::<i64>();
    Some((sum(&replies) - sum(&requests)) as f64 / requests.len() as f64)
}

/// Reported mean and wire mean of irtt, both without the server's processing time.
fn irtt(seconds: u32) -> Option<(f64, f64)> {
    installed("irtt", "version")?;
    let hosts = TwoHosts::new();
    let address = format!("{}:2112", TwoHosts::TARGET_V4);
    let _server = Process::spawn(hosts.target.command("irtt", &["server", "-i", "100us", "-b", &address]));
    bound(&hosts, ":2112");
    // the handshake is left out: it has no interval
    let capture = Capture::start(&hosts.prober, TwoHosts::DEVICE, "udp port 2112 and greater 80");
    let duration = format!("{seconds}s");
    let end = Process::spawn(
        hosts.prober.command("irtt", &["client", "-i", "1ms", "-d", &duration, "-l", "100", "-Q", "-o", "-", &address]),
    )
    .finish_within(Duration::from_secs(u64::from(seconds) + 30))
    .success();
    let packets: Vec<Seen> =
        capture.stop(2 * (seconds * RATE) as usize).into_iter().filter(|packet| packet.payload.len() >= 100).collect();
    let report: serde_json::Value = serde_json::from_str(&end.stdout).ok()?;
    let mean = |name: &str| report["stats"][name]["mean"].as_f64();
    let processing = mean("server_processing_time").unwrap_or(0.0);
    let wire = wire_mean(&packets, |packet| packet.destination_port == 2112)?;
    Some((mean("rtt")?, wire - processing))
}

/// Reported mean and wire mean of fping.
fn fping(seconds: u32) -> Option<(f64, f64)> {
    installed("fping", "-v")?;
    let hosts = TwoHosts::new();
    let capture = Capture::start(&hosts.prober, TwoHosts::DEVICE, "icmp");
    let (count, target) = ((seconds * RATE).to_string(), TwoHosts::TARGET_V4.to_string());
    // it goes through its list once per period; its own statistics are rounded, the lines are less so
    let end = Process::spawn(hosts.prober.command("fping", &["-c", &count, "-p", "1", "-i", "1", &target]))
        .finish_within(Duration::from_secs(u64::from(seconds) * 3 + 30));
    let times: Vec<f64> = end
        .stdout
        .lines()
        .filter_map(|line| line.split(" bytes, ").nth(1)?.split(" ms").next()?.trim().parse().ok())
        .collect();
    let wire = wire_mean(&capture.stop(2 * (seconds * RATE) as usize), |packet| packet.first == 8)?;
    (!times.is_empty()).then(|| (times.iter().sum::<f64>() / times.len() as f64 * 1e6, wire))
}

/// Waits until something in the target has bound a UDP port.
fn bound(hosts: &TwoHosts, port: &str) {
    let deadline = std::time::Instant::now() + common::process::PATIENCE;
    while !hosts.target.run("ss", &["-Hlun"]).contains(port) {
        assert!(std::time::Instant::now() < deadline, "nothing listens on {port}");
        std::thread::yield_now();
    }
}

fn installed(program: &str, flag: &str) -> Option<()> {
    if std::process::Command::new(program).arg(flag).output().is_ok() {
        return Some(());
    }
    eprintln!("{program}: not installed, left out");
    None
}

/// A busy loop on every core, of the same weight as everybody else.
struct BusyCores {
    stop: Arc<AtomicBool>,
}

impl BusyCores {
    fn start() -> BusyCores {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for _ in 0..cores {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(0);
                }
            });
        }
        BusyCores { stop }
    }
}

impl Drop for BusyCores {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Nearest rank of an ascending list.
fn rank(sorted: &[i64], share: f64) -> i64 {
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

fn us(ns: i64) -> f64 {
    ns as f64 / 1e3
}
