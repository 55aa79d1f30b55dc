//! Echoes over raw and over ping sockets, IPv4 and IPv6, and link-local targets.

use crate::common::frames::{Frames, Kind};
use crate::common::netns::Namespace;
use crate::common::nft::{Drops, Hook, Which};
use crate::common::process::{ANSWERING, llama_in};
use crate::common::topology::TwoHosts;
use crate::{IOS, LIMIT, assert_counts, count, ping, report};
use serde_json::Value;
use std::net::IpAddr;

fn echoes(prober: IpAddr, target: IpAddr, request: u8) {
    let hosts = TwoHosts::new();
    for io in IOS {
        for size in ["8", "56", "1400"] {
            let frames = Frames::start(&hosts.prober);
            let flags = ["--icmp", "--count", "100", "--rate", "400", "--size", size, "--dscp", "AF21", "--io", io];
            let report = report(&ping(&hosts.prober, &target.to_string(), &flags).success());
            let packets = frames.stop();
            assert_counts(&report, &[("sent", 100), ("replied", 100), ("syn_acks", 0), ("lost", 0)]);
            assert_eq!((&report["method"], report["flows"].as_array().unwrap().len()), (&"icmp".into(), 16));
            let ours: Vec<_> = packets.iter().filter(|p| p.from == prober && p.kind == Kind::Icmp(request)).collect();
            assert_eq!(ours.len(), 100, "{io} {size}");
            for packet in ours {
                assert!(packet.checksums_are_right(), "{packet:?}");
                assert_eq!(packet.traffic_class, 18 << 2);
                let header = if prober.is_ipv4() { 20 } else { 40 };
                assert_eq!(packet.frame.len(), 14 + header + 8 + size.parse::<usize>().unwrap());
            }
        }
    }
}

#[test]
fn echoes_come_back() {
    echoes(TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, 8);
}

#[test]
fn echoes_come_back_ipv6() {
    echoes(TwoHosts::PROBER_V6, TwoHosts::TARGET_V6, 128);
}

#[test]
fn dropped_echoes_are_lost() {
    let hosts = TwoHosts::new();
    for (target, matching) in
        [(TwoHosts::TARGET_V4, "icmp type echo-request"), (TwoHosts::TARGET_V6, "icmpv6 type echo-request")]
    {
        let drops = Drops::start(&hosts.target, Hook::Input, matching, Which { one_in: 5, among_first: u32::MAX });
        let flags = ["--icmp", "--count", "500", "--rate", "1000", "--timeout", "300ms"];
        let report = report(&ping(&hosts.prober, &target.to_string(), &flags).success());
        assert_counts(&report, &[("sent", 500), ("lost", 100)]);
        assert_eq!(drops.stop(), 100);
    }
}

#[test]
fn two_pings_at_once_do_not_take_each_others_replies() {
    let hosts = TwoHosts::new();
    let target = TwoHosts::TARGET_V4.to_string();
    let start = || llama_in(&hosts.prober, &["ping", "--icmp", &target, "--count", "500", "--rate", "500", "--json"]);
    let both = [start(), start()];
    for ping in both {
        let report = report(&ping.finish_within(LIMIT).success());
        assert_counts(&report, &[("sent", 500), ("replied", 500), ("duplicates", 0)]);
    }
}

#[test]
fn a_port_makes_no_sense() {
    let host = Namespace::new("prober");
    let ping = ping(&host, "127.0.0.1:80", &["--icmp"]);
    assert_eq!(ping.status.code(), Some(2));
    assert!(ping.stderr.contains("ICMP has no ports; leave out :80"), "{ping:?}");
}

/// The address a device gave itself.
fn link_local(host: &Namespace) -> String {
    let listing = host.ip(&format!("-6 -o addr show dev {} scope link", TwoHosts::DEVICE));
    listing.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap().to_owned()
}

#[test]
fn a_link_local_target_is_reached_through_its_zone_by_every_method() {
    let hosts = TwoHosts::new();
    let target = link_local(&hosts.target);
    let zoned = format!("{target}%{}", TwoHosts::DEVICE);
    let reflector = llama_in(&hosts.target, &["reflector", "--listen", "[::]:8100"]);
    reflector.wait_for(ANSWERING);
    for io in IOS {
        for method in ["udp", "tcp-syn", "icmp"] {
            let flags = ["--method", method, "--count", "50", "--io", io];
            let report = report(&ping(&hosts.prober, &zoned, &flags).success());
            assert_counts(&report, &[("sent", 50), ("replied", 50)]);
            assert_eq!(report["src_ip"], link_local(&hosts.prober).as_str(), "{report:#}");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zone.yaml");
    let configure = |target: &str| {
        let ports = "ports: {u: {}, t: {method: tcp-syn}, i: {method: icmp}}";
        let group = "port_groups: {default: [{port: u}, {port: t}, {port: i}]}";
        std::fs::write(&file, format!("{ports}\n{group}\ntargets: {{default: [{{ip: '{target}'}}]}}\n")).unwrap();
    };
    configure(&zoned);
    let flags = ["collector", "--config", file.to_str().unwrap(), "--output", "-", "--duration", "2s"];
    let finished = llama_in(&hosts.prober, &flags).finish_within(LIMIT).success();
    let summaries: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(summaries.len(), 3, "{finished:?}");
    for summary in &summaries {
        assert!(count(summary, "sent") > 4 && summary["replied"] == summary["sent"], "{summary:#}");
    }
    configure(&format!("{target}%nowhere"));
    let refused = llama_in(&hosts.prober, &["check", file.to_str().unwrap()]).finish_within(LIMIT);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("targets.default[0].ip: `nowhere` is no interface of this host"), "{refused:?}");
    let wrong = ping(&hosts.prober, &format!("{target}%nowhere"), &["--icmp"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.stderr.contains("nowhere is no interface of this host"), "{wrong:?}");
}
