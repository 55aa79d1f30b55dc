//! Links that carry no large packets, said and unsaid; payloads that are changed on the way.

use crate::common::frames::Frames;
use crate::common::netns::Namespace;
use crate::common::nft::{Drops, Hook, Which, lift_icmp_limit};
use crate::common::relay::Relay;
use crate::common::topology::{Ecmp, TwoHosts};
use crate::{IOS, assert_all, assert_counts, collect, count, reflector, report, text, variant};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sizes of which the last does not fit a link of 1400 bytes and fits one of 1500.
const SIZES: &str = "64,1300,1420";

#[test]
fn a_router_says_that_a_link_is_too_narrow() {
    let net = Ecmp::new(1);
    for router in [&net.near, &net.far] {
        router.ip("link set path0 mtu 1400");
        lift_icmp_limit(router);
    }
    let _reflector = reflector(&net.target, &[]);
    for (target, router) in [(Ecmp::TARGET_V4, "192.0.2.254"), (Ecmp::TARGET_V6, "2001:db8:a::fe")] {
        for io in IOS {
            let flags = ["--size", SIZES, "--count", "240", "--rate", "480", "--timeout", "500ms", "--io", io];
            let report = report(&net.prober, &target.to_string(), &flags);
            assert_eq!(report["size"], Value::Null, "{report:#}");
            for size in [64, 1300] {
                assert_all(variant(&report, 0, size), "replied");
            }
            let large = variant(&report, 0, 1420);
            assert_all(large, "too_big");
            assert_counts(large, &[("mtu", 1400)]);
            assert_eq!(large["reporter"], router, "{report:#}");
        }
        // what the kernel has learnt by now keeps no probe at home
        let flags = ["--size", SIZES, "--count", "240", "--rate", "480", "--timeout", "500ms"];
        let said = text(&net.prober, &target.to_string(), &flags);
        let expected =
            format!("1420 bytes: probes of 1420 bytes are too big for a link behind {router}: its MTU is 1400");
        for part in
            [expected.as_str(), "64 bytes: no loss on any of 16 flows", "1300 bytes: no loss", " of the lost too big"]
        {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}

#[test]
fn echoes_are_measured_by_size_as_well() {
    let net = Ecmp::new(1);
    for router in [&net.near, &net.far] {
        router.ip("link set path0 mtu 1400");
        lift_icmp_limit(router);
    }
    for target in [Ecmp::TARGET_V4, Ecmp::TARGET_V6] {
        let flags = ["--icmp", "--size", SIZES, "--count", "120", "--timeout", "500ms"];
        let report = report(&net.prober, &target.to_string(), &flags);
        assert_all(variant(&report, 0, 1300), "replied");
        assert_all(variant(&report, 0, 1420), "too_big");
        assert_counts(variant(&report, 0, 1420), &[("mtu", 1400)]);
    }
}

#[test]
fn this_hosts_own_interface_is_too_narrow() {
    let hosts = TwoHosts::new();
    hosts.set_mtu(1400);
    let _reflector = reflector(&hosts.target, &[]);
    for target in [TwoHosts::TARGET_V4, TwoHosts::TARGET_V6] {
        for io in IOS {
            let flags = ["--size", SIZES, "--count", "240", "--rate", "480", "--timeout", "300ms", "--io", io];
            let report = report(&hosts.prober, &target.to_string(), &flags);
            for size in [64, 1300] {
                assert_all(variant(&report, 0, size), "replied");
            }
            let large = variant(&report, 0, 1420);
            assert_all(large, "too_big");
            assert_counts(large, &[("mtu", 1400)]);
            assert_eq!(large["reporter"], Value::Null, "{report:#}");
        }
        let said = text(&hosts.prober, &target.to_string(), &["--size", "1420", "--count", "32", "--timeout", "300ms"]);
        assert!(said.contains("too big for this host's own interface: its MTU is 1400"), "{said}");
    }
}

#[test]
fn large_packets_that_vanish_are_shown_as_such() {
    let net = Ecmp::new(1);
    let _reflector = reflector(&net.target, &["--stateful"]);
    let every = Which { one_in: 1, among_first: u32::MAX };
    let _drops = Drops::start(&net.near, Hook::Forward, "udp dport 8100 meta length > 1000", every);
    for target in [Ecmp::TARGET_V4, Ecmp::TARGET_V6] {
        let flags = ["--size", SIZES, "--count", "240", "--rate", "480", "--timeout", "300ms"];
        let report = report(&net.prober, &target.to_string(), &flags);
        assert_all(variant(&report, 0, 64), "replied");
        for size in [1300, 1420] {
            assert_all(variant(&report, 0, size), "lost");
            assert_counts(variant(&report, 0, size), &[("too_big", 0)]);
        }
        let said = text(&net.prober, &target.to_string(), &flags);
        for part in ["64 bytes: no loss on any of 16 flows", "1300 bytes: nothing came back", "1420 bytes: nothing"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for large in [1300, 1420] {
            let why = format!("{large} bytes: probes of 64 bytes fare better: a link that is too narrow for {large}");
            assert!(words.contains(&why), "{why} in {said}");
        }
    }
}

#[test]
fn a_collector_summarises_each_size_under_its_name() {
    let hosts = TwoHosts::new();
    hosts.set_mtu(1400);
    let _reflector = reflector(&hosts.target, &[]);
    let (v4, v6) = (TwoHosts::TARGET_V4, TwoHosts::TARGET_V6);
    let config = format!(
        "summarization: {{interval: 1}}\nports: {{default: {{size: [{SIZES}], timeout: 300}}}}\n\
         rate_limits: {{default: {{cps: 10}}}}\ntargets: {{far: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n"
    );
    let summaries = collect(&hosts.prober, &config, 3);
    for target in [v4, v6] {
        for (size, fits) in [(64, true), (1300, true), (1420, false)] {
            let of_size = |s: &&Value| s["dst_ip"] == target.to_string().as_str() && s["size"] == size;
            let found: Vec<&Value> = summaries.iter().filter(of_size).collect();
            let sum = |key| found.iter().map(|summary| count(summary, key)).sum::<u64>();
            assert!(found.len() >= 3 && sum("sent") >= 20, "{target} {size}: {summaries:#?}");
            assert_eq!(sum(if fits { "replied" } else { "too_big" }), sum("sent"), "{found:#?}");
            let told = found.iter().filter(|summary| count(summary, "sent") > 0).all(|summary| summary["mtu"] == 1400);
            assert_eq!(told, !fits, "{found:#?}");
        }
    }
}

#[test]
fn probes_and_replies_are_never_to_be_fragmented() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let frames = Frames::start(&hosts.prober);
    let target = TwoHosts::TARGET_V4.to_string();
    assert_counts(&report(&hosts.prober, &target, &["--size", "64,1400", "--count", "64"]), &[("replied", 64)]);
    assert_counts(&report(&hosts.prober, &target, &["--icmp", "--count", "32"]), &[("replied", 32)]);
    let frames = frames.stop_raw();
    let of_ours = frames.iter().filter(|frame| frame[12..14] == [8, 0] && matches!(frame[23], 17 | 1));
    let flags: Vec<bool> =
        of_ours.filter(|frame| frame[26..30] == [192, 0, 2, 1]).map(|frame| frame[20] & 0x40 != 0).collect();
    assert_eq!((flags.len(), flags.iter().all(|df| *df)), (96, true), "DF on every probe");
    let replies = frames.iter().filter(|f| f[12..14] == [8, 0] && f[23] == 17 && f[26..30] == [192, 0, 2, 2]);
    assert_eq!(replies.filter(|frame| frame[20] & 0x40 != 0).count(), 64, "and on every reply of a reflector");
}

/// Two hosts with a relay between them that flips one bit of every seventh large datagram of one way.
fn damaged(target: IpAddr, there: bool, flags: &[&str]) -> (Value, u64) {
    let (prober, relay, host) = (Namespace::new("prober"), Namespace::new("relay"), Namespace::new("target"));
    prober.link("wire", &relay, "left");
    host.link("wire", &relay, "right");
    for (end, last) in [(&prober, 1), (&host, 2)] {
        end.address("wire", &format!("192.0.2.{last}/24"));
        end.address("wire", &format!("2001:db8::{last}/64"));
    }
    let damaged = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&damaged);
    let mut seen = 0;
    let _relay = Relay::start(&relay, "left", "right", move |payload, to_the_right| {
        if to_the_right != there || payload.len() < 500 {
            return;
        }
        seen += 1;
        if seen % 7 == 0 {
            payload[200 + seen % 250] ^= 1 << (seen % 8);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let _reflector = reflector(&host, &[]);
    let report = report(&prober, &target.to_string(), flags);
    (report, damaged.load(Ordering::Relaxed))
}

#[test]
fn a_changed_payload_is_neither_a_reply_nor_a_plain_loss() {
    for (target, there) in [("192.0.2.2", true), ("192.0.2.2", false), ("2001:db8::2", true), ("2001:db8::2", false)] {
        let io = IOS[usize::from(there)];
        let flags = ["--size", "64,512", "--count", "640", "--rate", "640", "--io", io];
        let (report, changed) = damaged(target.parse().unwrap(), there, &flags);
        assert!(changed >= 20, "{changed} damaged");
        assert_counts(&report, &[("sent", 640), ("corrupted", changed), ("lost", changed)]);
        assert_all(variant(&report, 0, 64), "replied");
        let says = report["verdict"].to_string();
        assert!(says.contains("512 bytes: ") && says.contains("came back with a changed payload"), "{says}");
    }
}

#[test]
fn other_methods_check_their_payloads_too() {
    let (report, changed) = damaged("192.0.2.2".parse().unwrap(), false, &["--method", "llama", "--count", "210"]);
    assert_counts(&report, &[("sent", 210), ("corrupted", changed), ("replied", 210 - changed)]);
    assert_eq!(changed, 30);
}
