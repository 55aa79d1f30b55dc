//! Every method in one collector, on one worker: none takes another's packets.

use crate::IOS;
use crate::common::nft::{Drops, Hook, Which};
use crate::common::process::{ANSWERING, Process, llama_in};
use crate::common::topology::TwoHosts;
use crate::{LIMIT, count};
use serde_json::Value;
use std::collections::BTreeMap;

const CONFIGURATION: &str = "
summarization: {interval: 1}
ports:
  stamp: {timeout: 400, port: 33000}
  syn: {method: tcp-syn, timeout: 400, port: 33000, dscp: EF}
  slow-syn: {method: tcp-syn, timeout: 700, dscp: AF21}
  echo: {method: icmp, timeout: 400}
port_groups:
  all:
    - {port: stamp, count: 4}
    - {port: syn, count: 4}
    - {port: slow-syn, count: 4}
    - {port: echo, count: 4}
rate_limits: {fast: {cps: 25}}
tests: [{targets: both, port_group: all, rate_limit: fast}]
targets:
  both:
    - {ip: 192.0.2.2}
    - {ip: '2001:db8::2'}
";

#[test]
fn all_methods_share_a_collector() {
    let hosts = TwoHosts::new();
    let reflector = llama_in(&hosts.target, &["reflector"]);
    reflector.wait_for(ANSWERING);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.yaml");
    std::fs::write(&file, CONFIGURATION).unwrap();
    let drops =
        Drops::start(&hosts.target, Hook::Input, "tcp dport 0-65535", Which { one_in: 10, among_first: u32::MAX });
    for io in IOS {
        let (matched, dropped) = (drops.matched(), drops.dropped());
        let flags = ["collector", "--config", file.to_str().unwrap(), "--output", "-", "--duration", "3s", "--io", io];
        let finished = llama_in(&hosts.prober, &flags).finish_within(LIMIT).success();
        let mut sums: BTreeMap<(String, String, u64), BTreeMap<&str, u64>> = BTreeMap::new();
        for line in finished.stdout.lines() {
            let summary: Value = serde_json::from_str(line).unwrap();
            let of = |key: &str| summary[key].as_str().unwrap().to_owned();
            let sum = sums.entry((of("method"), of("dst_ip"), count(&summary, "dscp"))).or_default();
            for key in ["sent", "replied", "lost", "syn_acks", "resets", "duplicates", "late"] {
                *sum.entry(key).or_default() += count(&summary, key);
            }
        }
        assert_eq!(sums.len(), 8, "{sums:?}\n{}", finished.stderr);
        let (mut syns, mut lost) = (0, 0);
        for ((method, to, _), sum) in &sums {
            assert!(sum["sent"] > 150, "{method} to {to}: {sum:?}");
            assert_eq!((sum["duplicates"], sum["late"]), (0, 0), "{method} to {to}: {sum:?}");
            match method.as_str() {
                "tcp-syn" => {
                    assert_eq!(sum["resets"], sum["replied"]);
                    syns += sum["sent"];
                    lost += sum["lost"];
                }
                _ => assert_eq!(sum["replied"], sum["sent"], "{method} to {to}: {sum:?}"),
            }
        }
        assert_eq!((syns, lost), (drops.matched() - matched, drops.dropped() - dropped), "{sums:?}");
        for words in ["SYNs: at most 1000/s to one target", "ICMP echoes: over raw sockets"] {
            assert!(finished.stderr.contains(words), "{}", finished.stderr);
        }
        for words in ["nobody asked for", "that were no reply", "refused by the kernel"] {
            assert!(!finished.stderr.contains(words), "{}", finished.stderr);
        }
    }
}

/// Sockets that a process has open, by the file system's word.
fn sockets_of(process: &Process) -> usize {
    let directory = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    let links = directory.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn a_check_counts_the_sockets_that_are_opened() {
    let hosts = TwoHosts::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.yaml");
    let file = file.to_str().unwrap();
    let opened = |configuration: &str| {
        std::fs::write(file, configuration).unwrap();
        let flags = ["collector", "--config", file, "--output", "-", "--quiet"];
        let collector = llama_in(&hosts.prober, &flags);
        // they are there before the first probe
        collector.wait_for("\"sent\"");
        let opened = sockets_of(&collector);
        collector.terminate();
        opened
    };
    let counted = |configuration: &str| {
        std::fs::write(file, configuration).unwrap();
        let check = llama_in(&hosts.prober, &["check", file, "--json"]).finish_within(LIMIT).success();
        count(&check.json(), "sockets")
    };
    // what a collector has besides: found with a plan of one socket
    let udp = "summarization: {interval: 1}\nports: {u: {}}\nport_groups: {default: [{port: u}]}\n\
               targets: {default: [{ip: 192.0.2.2}]}\n";
    let besides = opened(udp) as u64 - counted(udp);
    assert_eq!(opened(CONFIGURATION) as u64 - besides, counted(CONFIGURATION));
}
