//! TCP SYNs and ICMP echoes by ours, hping3 and fping, one after the other on the same wire, with a packet filter that drops
//! every tenth probe: who counts the loss right, and whose round trips are the wire's.
//!
//! The truth is the filter's own counter, and a packet capture on the prober's interface, answer by answer. Run it by
//! `scripts/agentless-peers`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench stops at the first surprise")]

mod capture;
#[path = "../tests/common/mod.rs"]
mod common;

use capture::{Capture, Seen};
use common::nft::{Drops, Hook, Which};
use common::process::{Finished, Process, llama_in};
use common::topology::TwoHosts;
use std::collections::HashMap;
use std::time::Duration;

/// Probes of each run.
const COUNT: usize = 2000;
/// One of so many is dropped.
const ONE_IN: u32 = 10;
/// A closed port.
const PORT: &str = "9";
const LIMIT: Duration = Duration::from_secs(60);

/// What a tool said.
struct Said {
    sent: u64,
    lost: u64,
    mean_us: f64,
}

struct Tool {
    name: &'static str,
    tcp: bool,
    run: fn(&TwoHosts) -> Option<Said>,
}

fn main() {
    let tools = [
        Tool { name: "llama ping --tcp", tcp: true, run: |hosts| Some(ours(hosts, "--tcp", ":9")) },
        Tool { name: "hping3 -S", tcp: true, run: hping3 },
        Tool { name: "llama ping --icmp", tcp: false, run: |hosts| Some(ours(hosts, "--icmp", "")) },
        Tool { name: "fping", tcp: false, run: fping },
    ];
    println!(
        "{:<18} {:>6} {:>8} {:>8} {:>13} {:>13} {:>7}",
        "", "sent", "dropped", "lost", "reported mean", "wire mean", "ratio"
    );
    for tool in tools {
        let hosts = TwoHosts::new();
        let (matching, filter) =
            if tool.tcp { ("tcp dport 9", "tcp port 9") } else { ("icmp type echo-request", "icmp") };
        let capture = Capture::start(&hosts.prober, TwoHosts::DEVICE, filter);
        let drops = Drops::start(&hosts.target, Hook::Input, matching, Which { one_in: ONE_IN, among_first: u32::MAX });
        let Some(said) = (tool.run)(&hosts) else {
            println!("{:<18} not installed, left out", tool.name);
            continue;
        };
        let dropped = drops.stop();
        let packets = capture.stop(2 * said.sent as usize - dropped as usize);
        let wire = wire_mean(&packets, tool.tcp);
        println!(
            "{:<18} {:>6} {dropped:>8} {:>8} {:>10.2} µs {:>10.2} µs {:>7.2}",
            tool.name,
            said.sent,
            said.lost,
            said.mean_us,
            wire,
            said.mean_us / wire
        );
    }
}

fn ours(hosts: &TwoHosts, method: &str, port: &str) -> Said {
    let (target, count) = (format!("{}{port}", TwoHosts::TARGET_V4), COUNT.to_string());
    let flags = ["ping", method, &target, "--count", &count, "--rate", "1000", "--timeout", "300ms", "--json"];
    let report = llama_in(&hosts.prober, &flags).finish_within(LIMIT).success().json();
    Said {
        sent: report["sent"].as_u64().unwrap(),
        lost: report["lost"].as_u64().unwrap(),
        mean_us: report["rtt_ms"]["mean"].as_f64().unwrap() * 1e3,
    }
}

fn hping3(hosts: &TwoHosts) -> Option<Said> {
    let (target, count) = (TwoHosts::TARGET_V4.to_string(), COUNT.to_string());
    let end = run(hosts, "hping3", &["-S", "-p", PORT, "-c", &count, "-i", "u1000", &target])?;
    // its line says "N packets tramitted, N packets received, N% packet loss"
    let line = end.stderr.lines().find(|line| line.contains("packets received")).unwrap().to_owned();
    let numbers: Vec<u64> = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let times: Vec<f64> =
        end.stdout.lines().filter_map(|line| line.split("rtt=").nth(1)?.split(' ').next()?.parse().ok()).collect();
    Some(Said { sent: numbers[0], lost: numbers[0] - numbers[1], mean_us: mean(&times) * 1e3 })
}

fn fping(hosts: &TwoHosts) -> Option<Said> {
    let (target, count) = (TwoHosts::TARGET_V4.to_string(), COUNT.to_string());
    let end = run(hosts, "fping", &["-c", &count, "-p", "1", "-i", "1", "-t", "300", &target])?;
    let times: Vec<f64> = end
        .stdout
        .lines()
        .filter_map(|line| line.split(" bytes, ").nth(1)?.split(" ms").next()?.trim().parse().ok())
        .collect();
    // "TARGET : xmt/rcv/%loss = N/N/N%, min/avg/max = …"
    let line = end.stderr.lines().find(|line| line.contains("xmt/rcv")).unwrap().to_owned();
    let counts: Vec<u64> = line.split("= ").nth(1).unwrap().split('/').filter_map(|word| word.parse().ok()).collect();
    Some(Said { sent: counts[0], lost: counts[0] - counts[1], mean_us: mean(&times) * 1e3 })
}

fn run(hosts: &TwoHosts, program: &str, arguments: &[&str]) -> Option<Finished> {
    std::process::Command::new(program).arg("-v").output().ok()?;
    Some(Process::spawn(hosts.prober.command(program, arguments)).finish_within(LIMIT))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean of answer minus probe over the probes that were answered, in µs.
fn wire_mean(packets: &[Seen], tcp: bool) -> f64 {
    let u32_at = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut probes = HashMap::new();
    let mut times = Vec::new();
    for packet in packets {
        let bytes = &packet.transport;
        // the prober's port and the number acknowledged; or identifier and sequence number
        let (is_probe, key) = match tcp {
            true if bytes[13] & 0x12 == 0x02 => (true, (packet.source_port, u32_at(bytes, 4).wrapping_add(1))),
            true => (false, (packet.destination_port, u32_at(bytes, 8))),
            false => (bytes[0] == 8, (0, u32_at(bytes, 4))),
        };
        if is_probe {
            probes.insert(key, packet.at_ns);
        } else if let Some(sent) = probes.remove(&key) {
            times.push((packet.at_ns - sent) as f64 / 1e3);
        }
    }
    mean(&times)
}
