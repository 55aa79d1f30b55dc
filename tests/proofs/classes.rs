//! A router that rewrites DSCP or marks ECN on one way only is reported with the way and the value.

use crate::common::netns::Namespace;
use crate::common::topology::Ecmp;
use crate::{IOS, assert_all, assert_counts, collect, count, reflector, report, rule, text, variant};
use serde_json::Value;
use std::net::IpAddr;

const PROBES: &str = "udp dport 8100";
const REPLIES: &str = "udp sport 8100";

fn set(target: IpAddr) -> &'static str {
    if target.is_ipv4() { "ip" } else { "ip6" }
}

fn one_way(matching: &str, way: &str, target: IpAddr) {
    let net = Ecmp::new(1);
    let _reflector = reflector(&net.target, &[]);
    rule(&net.near, "forward", &format!("{matching} {} dscp set af11", set(target)));
    let other = if way == "forward" { "reverse" } else { "forward" };
    for io in IOS {
        let flags = ["--dscp", "EF", "--count", "200", "--rate", "400", "--io", io];
        let report = report(&net.prober, &target.to_string(), &flags);
        assert_eq!(report["size"], 52, "room for the report: {report:#}");
        assert_counts(&report, &[("sent", 200), ("replied", 200), ("class_reports", 200)]);
        assert_counts(&report, &[(&format!("dscp_changed_{way}"), 200), (&format!("dscp_changed_{other}"), 0)]);
        assert_counts(&report, &[("dscp_changed_either", 0), (&format!("dscp_seen_{way}"), 10)]);
        assert_eq!(report[format!("dscp_seen_{other}")], Value::Null, "{report:#}");
        let flow = &report["flows"][0];
        assert_eq!(flow[format!("dscp_changed_{way}")], flow["sent"], "{report:#}");
    }
    let said = text(&net.prober, &target.to_string(), &["--dscp", "EF", "--count", "100"]);
    let expected = match way {
        "forward" => "EF (46) arrived as AF11 (10) at the reflector (100 of 100 probes)",
        _ => "EF (46) of the replies arrived here as AF11 (10) (100 of 100 probes)",
    };
    assert!(said.contains(expected), "{said}");
}

#[test]
fn rewritten_on_the_way_there_ipv4() {
    one_way(PROBES, "forward", Ecmp::TARGET_V4);
}

#[test]
fn rewritten_on_the_way_there_ipv6() {
    one_way(PROBES, "forward", Ecmp::TARGET_V6);
}

#[test]
fn rewritten_on_the_way_back_ipv4() {
    one_way(REPLIES, "reverse", Ecmp::TARGET_V4);
}

#[test]
fn rewritten_on_the_way_back_ipv6() {
    one_way(REPLIES, "reverse", Ecmp::TARGET_V6);
}

#[test]
fn nothing_rewritten_is_proved_and_said() {
    let net = Ecmp::new(1);
    let _reflector = reflector(&net.target, &["--stateful"]);
    for target in [Ecmp::TARGET_V4, Ecmp::TARGET_V6] {
        let said = text(&net.prober, &target.to_string(), &["--dscp", "EF", "--count", "100"]);
        assert!(said.contains("EF (46) arrived as sent, there and back"), "{said}");
    }
}

fn with_key(flags: &[&str], host: &Namespace, target: IpAddr, changed: u64) {
    let report = report(host, &target.to_string(), &[&["--dscp", "EF", "--count", "100"], flags].concat());
    assert_eq!(report["size"], 140, "room for the report and its digest: {report:#}");
    assert_counts(&report, &[("replied", 100), ("class_reports", 100), ("dscp_changed_forward", changed)]);
    assert_counts(&report, &[("dscp_changed_reverse", 0), ("dscp_changed_either", 0)]);
}

#[test]
fn authenticated_reports() {
    let net = Ecmp::new(1);
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, "a key of sixteen or more").unwrap();
    let flags = ["--key-file", key.to_str().unwrap()];
    let _reflector = reflector(&net.target, &[&["--stateful"], &flags[..]].concat());
    with_key(&flags, &net.prober, Ecmp::TARGET_V4, 0);
    with_key(&flags, &net.prober, Ecmp::TARGET_V6, 0);
    rule(&net.near, "forward", &format!("{PROBES} ip dscp set 0"));
    with_key(&flags, &net.prober, Ecmp::TARGET_V4, 100);
}

/// A reflector sends back the class that reached it, so a header alone cannot tell the ways apart.
#[test]
fn without_a_report_no_way_is_named() {
    for matching in [PROBES, REPLIES] {
        let net = Ecmp::new(1);
        let _reflector = reflector(&net.target, &[]);
        rule(&net.near, "forward", &format!("{matching} ip dscp set cs1"));
        rule(&net.far, "forward", &format!("{matching} ip6 dscp set cs1"));
        for target in [Ecmp::TARGET_V4, Ecmp::TARGET_V6] {
            let flags = ["--dscp", "EF", "--verify-dscp", "off", "--count", "100"];
            let report = report(&net.prober, &target.to_string(), &flags);
            assert_eq!(report["size"], 44, "{report:#}");
            assert_counts(&report, &[("replied", 100), ("class_reports", 0), ("dscp_changed_either", 100)]);
            assert_counts(
                &report,
                &[("dscp_changed_forward", 0), ("dscp_changed_reverse", 0), ("dscp_seen_either", 8)],
            );
        }
    }
}

/// Reflectors of the older LLAMA answer in the class that the probe's bytes name, whatever reached them.
#[test]
fn the_older_formats_tell_the_way_back() {
    let net = Ecmp::new(1);
    let _reflector = reflector(&net.target, &[]);
    rule(&net.near, "forward", &format!("{PROBES} ip dscp set cs1"));
    rule(&net.far, "forward", &format!("{REPLIES} ip6 dscp set cs1"));
    for method in ["llama", "llama-python"] {
        let flags = ["--dscp", "EF", "--method", method, "--count", "100"];
        let there = report(&net.prober, &format!("{}:8100", Ecmp::TARGET_V4), &flags);
        assert_counts(&there, &[("replied", 100), ("dscp_changed_reverse", 0), ("dscp_changed_either", 0)]);
        let back = report(&net.prober, &format!("[{}]:8100", Ecmp::TARGET_V6), &flags);
        assert_counts(&back, &[("replied", 100), ("dscp_changed_reverse", 100), ("dscp_seen_reverse", 8)]);
    }
}

#[test]
fn hosts_without_an_agent_tell_what_they_can() {
    let net = Ecmp::new(1);
    for (target, echo) in [(Ecmp::TARGET_V4, "icmp type echo-request"), (Ecmp::TARGET_V6, "icmpv6 type echo-request")] {
        let flags = ["--icmp", "--dscp", "EF", "--count", "100"];
        let before = report(&net.prober, &target.to_string(), &flags);
        assert_counts(&before, &[("replied", 100), ("dscp_changed_either", 0)]);
        let host = if target.is_ipv4() { &net.near } else { &net.far };
        rule(host, "forward", &format!("{echo} {} dscp set cs1", set(target)));
        let after = report(&net.prober, &target.to_string(), &flags);
        assert_counts(&after, &[("replied", 100), ("dscp_changed_either", 100), ("dscp_seen_either", 8)]);
        // a TCP stack answers in a class of its own choice: that is no change of the network's
        let tcp = report(&net.prober, &target.to_string(), &["--tcp", "--dscp", "EF", "--count", "100"]);
        assert_counts(&tcp, &[("replied", 100), ("dscp_changed_either", 0), ("dscp_changed_reverse", 0)]);
    }
}

#[test]
fn congestion_marks_are_counted_by_way() {
    for (matching, way, other) in [(PROBES, "forward", "reverse"), (REPLIES, "reverse", "forward")] {
        let net = Ecmp::new(1);
        let _reflector = reflector(&net.target, &[]);
        for family in ["ip", "ip6"] {
            let host = if family == "ip" { &net.near } else { &net.far };
            rule(host, "forward", &format!("{matching} {family} ecn set ce"));
        }
        for target in [Ecmp::TARGET_V4, Ecmp::TARGET_V6] {
            let report = report(&net.prober, &target.to_string(), &["--dscp", "AF21", "--count", "100"]);
            assert_counts(&report, &[("replied", 100), (&format!("ecn_marked_{way}"), 100)]);
            assert_counts(&report, &[(&format!("ecn_marked_{other}"), 0), ("lost", 0)]);
            assert_counts(&report, &[("dscp_changed_forward", 0), ("dscp_changed_reverse", 0)]);
        }
    }
}

#[test]
fn classes_side_by_side() {
    for (target, io) in [(Ecmp::TARGET_V4, "uring"), (Ecmp::TARGET_V6, "mmsg")] {
        let net = Ecmp::new(1);
        let _reflector = reflector(&net.target, &["--stateful"]);
        let family = set(target);
        rule(&net.near, "forward", &format!("{PROBES} {family} dscp ef {family} dscp set 0"));
        rule(&net.far, "forward", &format!("{PROBES} {family} dscp af21 drop"));
        let flags = ["--dscp", "0,AF21,EF", "--count", "960", "--rate", "960", "--timeout", "300ms", "--io", io];
        let report = report(&net.prober, &target.to_string(), &flags);
        assert_eq!(report["dscp"], Value::Null, "{report:#}");
        let (best, lost, changed) = (variant(&report, 0, 0), variant(&report, 18, 0), variant(&report, 46, 0));
        assert_all(best, "replied");
        assert_counts(best, &[("dscp_changed_forward", 0)]);
        assert_all(lost, "lost");
        assert_all(changed, "replied");
        assert_all(changed, "dscp_changed_forward");
        assert_eq!(changed["dscp_seen_forward"], 0);
        // 16 source ports for three classes
        let sources: std::collections::BTreeSet<_> =
            report["flows"].as_array().unwrap().iter().map(|flow| flow["source"].to_string()).collect();
        assert_eq!((report["flows"].as_array().unwrap().len(), sources.len()), (48, 16));
        let said = text(&net.prober, &target.to_string(), &flags);
        for part in [
            "DSCP 0 (best effort), 18 (AF21) and 46 (EF)",
            "AF21 (18): nothing came back on any of 16 flows",
            "0: no loss on any of 16 flows",
            "EF (46) arrived as 0 at the reflector (",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}

#[test]
fn a_collector_summarises_each_class() {
    let net = Ecmp::new(1);
    let _reflector = reflector(&net.target, &[]);
    rule(&net.near, "forward", &format!("{PROBES} ip dscp ef ip dscp set cs1"));
    rule(&net.far, "forward", &format!("{PROBES} ip6 dscp ef ip6 dscp set cs1"));
    let (v4, v6) = (Ecmp::TARGET_V4, Ecmp::TARGET_V6);
    let config = format!(
        "summarization: {{interval: 1}}\nports: {{default: {{dscp: [DF, AF21, EF], timeout: 300}}}}\n\
         rate_limits: {{default: {{cps: 10}}}}\ntargets: {{far: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n"
    );
    let summaries = collect(&net.prober, &config, 3);
    for target in [v4, v6] {
        for (dscp, changed) in [(0, false), (18, false), (46, true)] {
            let of_class = |s: &&Value| s["dst_ip"] == target.to_string().as_str() && s["dscp"] == dscp;
            let found: Vec<&Value> = summaries.iter().filter(of_class).collect();
            assert!(found.len() >= 3, "{target} {dscp}: {summaries:#?}");
            for summary in found.iter().filter(|summary| count(summary, "sent") > 0) {
                assert_eq!(summary["size"], Value::Null, "one size needs no name: {summary:#}");
                assert_eq!(summary["flows"], 4, "{summary:#}");
                let expected = if changed { count(summary, "replied") } else { 0 };
                assert_counts(summary, &[("dscp_changed_forward", expected), ("dscp_changed_reverse", 0)]);
                assert_eq!(summary["class_reports"], summary["replied"], "{summary:#}");
            }
            let sent: u64 = found.iter().map(|summary| count(summary, "sent")).sum();
            assert!(sent >= 20, "{target} {dscp}: {sent} sent");
        }
    }
}
