//! ICMP errors: every kind that a packet filter or a router sends is an outcome with the sender's address.

use crate::common::nft::{Hook, Rejecting, lift_icmp_limit, rejects};
use crate::common::topology::{Ecmp, TwoHosts};
use crate::{IOS, assert_counts, ping, report};
use std::net::IpAddr;

fn rejected(method: &str, target: IpAddr) {
    let hosts = TwoHosts::new();
    lift_icmp_limit(&hosts.target);
    let v4 = target.is_ipv4();
    let matching = match (method, v4) {
        ("tcp-syn", _) => "tcp dport 0-65535",
        (_, true) => "icmp type echo-request",
        (_, false) => "icmpv6 type echo-request",
    };
    for (number, (reject, kind, outcome)) in rejects(v4).enumerate() {
        let _rejecting = Rejecting::start(&hosts.target, Hook::Input, &format!("{matching} {reject}"));
        let io = IOS[number % 2];
        let flags = ["--method", method, "--count", "100", "--rate", "400", "--timeout", "300ms", "--io", io];
        let ping = ping(&hosts.prober, &target.to_string(), &flags);
        assert_eq!(ping.status.code(), Some(1), "{kind}: {ping:?}");
        let report = report(&ping);
        assert_counts(&report, &[("sent", 100), ("lost", 100), (outcome, 100)]);
        assert_eq!(report["reporter"], target.to_string().as_str(), "{kind}: {report:#}");
    }
}

#[test]
fn every_icmp_error_about_a_syn_is_an_outcome() {
    rejected("tcp-syn", TwoHosts::TARGET_V4);
}

#[test]
fn every_icmp_error_about_a_syn_is_an_outcome_ipv6() {
    rejected("tcp-syn", TwoHosts::TARGET_V6);
}

#[test]
fn every_icmp_error_about_an_echo_is_an_outcome() {
    rejected("icmp", TwoHosts::TARGET_V4);
}

#[test]
fn every_icmp_error_about_an_echo_is_an_outcome_ipv6() {
    rejected("icmp", TwoHosts::TARGET_V6);
}

#[test]
fn a_filter_that_answers_by_a_rst_looks_like_a_closed_port() {
    let hosts = TwoHosts::new();
    let _rejecting = Rejecting::start(&hosts.target, Hook::Input, "tcp dport 9 reject with tcp reset");
    for target in [TwoHosts::TARGET_V4, TwoHosts::TARGET_V6] {
        let flags = ["--tcp", "--count", "50"];
        let report = report(&ping(&hosts.prober, &crate::with_port(target, 9), &flags).success());
        assert_counts(&report, &[("sent", 50), ("resets", 50)]);
    }
}

#[test]
fn a_hop_limit_used_up_is_reported_by_the_router() {
    let net = Ecmp::new(1);
    lift_icmp_limit(&net.near);
    net.prober.sysctl("ipv4/ip_default_ttl", "1");
    net.prober.sysctl("ipv6/conf/wire/hop_limit", "1");
    for (target, router) in [(Ecmp::TARGET_V4, "192.0.2.254"), (Ecmp::TARGET_V6, "2001:db8:a::fe")] {
        for method in ["tcp-syn", "icmp", "udp"] {
            let flags = ["--method", method, "--count", "60", "--rate", "300", "--timeout", "300ms"];
            let ping = ping(&net.prober, &target.to_string(), &flags);
            assert_eq!(ping.status.code(), Some(1), "{ping:?}");
            let report = report(&ping);
            assert_counts(&report, &[("sent", 60), ("time_exceeded", 60)]);
            assert_eq!(report["reporter"], router, "{report:#}");
        }
    }
}

#[test]
fn a_host_that_tells_few_errors_is_taken_at_its_word() {
    let hosts = TwoHosts::new();
    let _rejecting = Rejecting::start(&hosts.target, Hook::Input, "tcp dport 9 reject with icmp type admin-prohibited");
    let flags = ["--tcp", "--count", "200", "--rate", "400", "--timeout", "300ms"];
    let ping = ping(&hosts.prober, &crate::with_port(TwoHosts::TARGET_V4, 9), &flags);
    let report = report(&ping);
    // Linux' own limit: a handful at once, then one a second
    let told = crate::count(&report, "prohibited");
    assert!((1..100).contains(&told), "{report:#}");
    assert!(report["verdict"][2].as_str().unwrap().contains("most likely refused as well"), "{report:#}");
}
