//! What only IPv6 has: flow labels as a second thing for routers to choose paths by, and addresses in zones.

use crate::common::frames::Frames;
use crate::common::nft::{Count, Hook};
use crate::common::topology::{Ecmp, TwoHosts};
use crate::{IOS, assert_counts, collect, count, reflector, report};
use std::collections::{BTreeMap, BTreeSet};

/// The flow labels of a device's IPv6 packets to a target, by what stands where UDP's and TCP's source port does.
fn labels(frames: &[Vec<u8>], to: [u8; 16], protocol: u8) -> BTreeMap<u16, BTreeSet<u32>> {
    let mut labels: BTreeMap<u16, BTreeSet<u32>> = BTreeMap::new();
    for frame in frames.iter().filter(|f| f[12..14] == [0x86, 0xdd] && f[20] == protocol && f[38..54] == to) {
        // an echo's identifier is behind type, code and checksum; other ICMPv6 is the neighbours' own
        let at = match protocol {
            58 if frame[54] == 128 => 58,
            58 => continue,
            _ => 54,
        };
        let port = u16::from_be_bytes([frame[at], frame[at + 1]]);
        let label = u32::from_be_bytes([0, frame[15] & 0x0f, frame[16], frame[17]]);
        labels.entry(port).or_default().insert(label);
    }
    labels
}

#[test]
fn every_flow_has_a_label_of_its_own_or_none() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let to = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let target = TwoHosts::TARGET_V6.to_string();
    for (method, protocol) in [("udp", 17), ("tcp-syn", 6), ("icmp", 58)] {
        for (number, label) in ["per-flow", "zero"].into_iter().enumerate() {
            let frames = Frames::start(&hosts.prober);
            let flags =
                ["--method", method, "--flow-label", label, "--dscp", "0,EF", "--count", "160", "--io", IOS[number]];
            assert_counts(&report(&hosts.prober, &target, &flags), &[("sent", 160), ("replied", 160)]);
            let labels = labels(&frames.stop_raw(), to, protocol);
            assert_eq!(labels.len(), 16, "{method}: {labels:x?}");
            let all: BTreeSet<u32> = labels.values().flatten().copied().collect();
            match label {
                "zero" if method == "tcp-syn" => {
                    assert!(all.contains(&0), "the kernel's RSTs have labels: {labels:x?}")
                }
                "zero" => assert_eq!(all, BTreeSet::from([0]), "{method}"),
                _ => {
                    let own = labels.values().filter(|labels| labels.iter().any(|label| *label != 0)).count();
                    assert!(own == 16 && all.len() >= 16, "{method}: {labels:x?}");
                    if method != "tcp-syn" {
                        assert!(labels.values().all(|labels| labels.len() == 1), "{method}: {labels:x?}");
                    }
                }
            }
        }
    }
}

/// Linux without a policy for ports hashes addresses and the label (RFC 6438).
#[test]
fn labels_alone_spread_flows_over_equal_paths() {
    let net = Ecmp::new(4);
    net.near.sysctl("ipv6/fib_multipath_hash_policy", "0");
    let _reflector = reflector(&net.target, &[]);
    let target = Ecmp::TARGET_V6.to_string();
    let crossed = |label| {
        let counts: Vec<Count<'_>> = (0..4)
            .map(|path| Count::start(&net.near, Hook::Forward, &format!("oifname \"path{path}\" udp dport 8100")))
            .collect();
        let flags = ["--flow-label", label, "--source-ports", "64", "--count", "128", "--rate", "400"];
        assert_counts(&report(&net.prober, &target, &flags), &[("replied", 128)]);
        counts.iter().filter(|count| count.packets() > 0).count()
    };
    // that 64 flows leave out one path of four has a chance of one in 20 million
    assert_eq!(crossed("per-flow"), 4);
    assert_eq!(crossed("zero"), 1);
}

/// The link-local address of a namespace's device.
fn link_local(host: &crate::common::netns::Namespace) -> String {
    let listing = host.ip(&format!("-6 -o addr show dev {} scope link", TwoHosts::DEVICE));
    listing.split_whitespace().skip_while(|word| *word != "inet6").nth(1).unwrap().split('/').next().unwrap().to_owned()
}

#[test]
fn link_local_addresses_with_their_zones() {
    let hosts = TwoHosts::new();
    let (ours, theirs) = (link_local(&hosts.prober), link_local(&hosts.target));
    let _reflector = reflector(&hosts.target, &["--listen", &format!("[{theirs}%{}]:862", TwoHosts::DEVICE)]);
    let target = format!("[{theirs}%{}]:862", TwoHosts::DEVICE);
    for flags in [&["--count", "64"][..], &["--count", "64", "--source", &ours, "--dscp", "EF"]] {
        let report = report(&hosts.prober, &target, flags);
        assert_counts(&report, &[("sent", 64), ("replied", 64)]);
        assert_eq!(report["src_ip"], ours.as_str(), "{report:#}");
    }
    let device = TwoHosts::DEVICE;
    for ip in ["\"::\"".to_owned(), format!("\"{ours}%{device}\""), format!("\"{ours}\"")] {
        let config = format!(
            "summarization: {{interval: 1}}\nports: {{default: {{ip: {ip}, timeout: 300}}}}\n\
             targets: {{near: [{{ip: \"{theirs}%{device}\", port: 862}}]}}\n"
        );
        let summaries = collect(&hosts.prober, &config, 2);
        let sum = |key| summaries.iter().map(|summary| count(summary, key)).sum::<u64>();
        assert!(sum("sent") >= 20, "{ip}: {summaries:#?}");
        assert_eq!((sum("replied"), summaries[0]["src_ip"].as_str()), (sum("sent"), Some(&*ours)), "{ip}");
    }
}
