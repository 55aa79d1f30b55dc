//! A class changed on the way there is proved by what ICMP errors quote, though nothing replies: with its value, and
//! the node that says so.

use crate::common::netns::Namespace;
use crate::common::nft::{Hook, Rejecting, lift_icmp_limit, rejects};
use crate::common::process::{LLAMA, PATIENCE, Process, llama_in};
use crate::common::topology::Ecmp;
use crate::{IOS, LIMIT, assert_all, assert_counts, collect, count, report, rule, text, variant};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The first router rewrites EF, the second or the target answers by ICMP errors.
struct Way {
    net: Ecmp,
    target: IpAddr,
    method: &'static str,
}

impl Way {
    fn new(method: &'static str, target: IpAddr) -> Way {
        let net = Ecmp::new(1);
        for host in [&net.near, &net.far, &net.target] {
            lift_all_icmp_limits(host);
        }
        Way { net, target, method }
    }

    fn family(&self) -> &'static str {
        if self.target.is_ipv4() { "ip" } else { "ip6" }
    }

    /// Matches the probes.
    fn probes(&self) -> &'static str {
        match (self.method, self.target) {
            ("tcp-syn", _) => "tcp dport 0-65535",
            (_, IpAddr::V4(_)) => "icmp type echo-request",
            (_, IpAddr::V6(_)) => "icmpv6 type echo-request",
        }
    }

    /// Has the first router do to the probes what nftables says of their IP header.
    fn rewrite(&self, says: &[&str]) {
        let says: String = says.iter().map(|says| format!(" {} {says}", self.family())).collect();
        rule(&self.net.near, "forward", &format!("{}{says}", self.probes()));
    }

    /// The second router's address towards the first.
    fn far_router(&self) -> &'static str {
        if self.target.is_ipv4() { "198.51.100.2" } else { "2001:db8:1::2" }
    }

    fn flags<'a>(&self, io: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let own = ["--method", self.method, "--count", "100", "--rate", "400", "--timeout", "300ms", "--io", io];
        [&own, more].concat()
    }

    fn report(&self, io: &str, more: &[&str]) -> Value {
        report(&self.net.prober, &self.target.to_string(), &self.flags(io, more))
    }

    fn text(&self, more: &[&str]) -> String {
        text(&self.net.prober, &self.target.to_string(), &self.flags("uring", more))
    }
}

/// Those for one address, and the one for all of them together.
fn lift_all_icmp_limits(host: &Namespace) {
    lift_icmp_limit(host);
    host.sysctl("ipv4/icmp_msgs_per_sec", "100000");
    host.sysctl("ipv4/icmp_msgs_burst", "10000");
}

fn assert_changed(report: &Value, outcome: &str, reporter: &str) {
    assert_counts(report, &[("sent", 100), ("replied", 0), (outcome, 100), ("dscp_changed_forward", 100)]);
    assert_counts(report, &[("dscp_seen_forward", 0), ("dscp_changed_reverse", 0), ("dscp_changed_either", 0)]);
    assert_counts(report, &[("ecn_marked_forward", 0), ("ecn_marked_reverse", 0), ("class_reports", 0)]);
    assert_eq!(report["reporter"], reporter, "{report:#}");
    for flow in report["flows"].as_array().unwrap() {
        assert_eq!(flow["dscp_changed_forward"], flow["sent"], "{report:#}");
    }
}

fn rewritten_before_a_router_rejects(method: &'static str, target: IpAddr) {
    let way = Way::new(method, target);
    way.rewrite(&["dscp ef", "dscp set 0"]);
    for (number, (reject, _, outcome)) in rejects(target.is_ipv4()).enumerate() {
        let _rejecting = Rejecting::start(&way.net.far, Hook::Forward, &format!("{} {reject}", way.probes()));
        let report = way.report(IOS[number % 2], &["--dscp", "EF"]);
        assert_changed(&report, outcome, way.far_router());
        if number == 0 {
            let said = way.text(&["--dscp", "EF"]);
            let expected = format!("EF (46) arrived as 0 at router {} (100 of 100 ICMP errors)", way.far_router());
            assert!(said.contains(&expected), "{said}");
        }
        // what arrives as it was sent is no change
        let report = way.report(IOS[number % 2], &["--dscp", "AF21"]);
        assert_counts(&report, &[("sent", 100), (outcome, 100), ("dscp_changed_forward", 0)]);
        assert_eq!(report["dscp_seen_forward"], Value::Null, "{report:#}");
    }
}

#[test]
fn syns_ipv4() {
    rewritten_before_a_router_rejects("tcp-syn", Ecmp::TARGET_V4);
}

#[test]
fn syns_ipv6() {
    rewritten_before_a_router_rejects("tcp-syn", Ecmp::TARGET_V6);
}

#[test]
fn echoes_ipv4() {
    rewritten_before_a_router_rejects("icmp", Ecmp::TARGET_V4);
}

#[test]
fn echoes_ipv6() {
    rewritten_before_a_router_rejects("icmp", Ecmp::TARGET_V6);
}

const ALL: [(&str, IpAddr); 4] =
    [("tcp-syn", Ecmp::TARGET_V4), ("tcp-syn", Ecmp::TARGET_V6), ("icmp", Ecmp::TARGET_V4), ("icmp", Ecmp::TARGET_V6)];

#[test]
fn a_hop_limit_used_up_behind_the_rewriting_router() {
    for (method, target) in ALL {
        let way = Way::new(method, target);
        way.rewrite(&["dscp set 0", "ecn set ce"]);
        way.net.prober.sysctl("ipv4/ip_default_ttl", "2");
        way.net.prober.sysctl("ipv6/conf/wire/hop_limit", "2");
        for io in IOS {
            let report = way.report(io, &["--dscp", "EF"]);
            assert_counts(&report, &[("time_exceeded", 100), ("dscp_changed_forward", 100), ("dscp_seen_forward", 0)]);
            assert_counts(&report, &[("ecn_marked_forward", 100), ("ecn_marked_reverse", 0)]);
            assert_eq!(report["reporter"], way.far_router(), "{report:#}");
        }
    }
}

/// Errors about large probes quote much of them: more than a small probe's buffers would take in.
#[test]
fn too_big_behind_the_rewriting_router() {
    for target in [Ecmp::TARGET_V4, Ecmp::TARGET_V6] {
        let way = Way::new("icmp", target);
        way.rewrite(&["dscp set cs1"]);
        way.net.far.ip("link set host mtu 1300");
        for io in IOS {
            let report = way.report(io, &["--dscp", "EF", "--size", "64,1400"]);
            assert_all(variant(&report, 46, 64), "replied");
            let large = variant(&report, 46, 1400);
            assert_all(large, "too_big");
            assert_all(large, "dscp_changed_forward");
            assert_counts(large, &[("dscp_seen_forward", 8), ("mtu", 1300)]);
            assert_counts(variant(&report, 46, 64), &[("dscp_changed_forward", 0)]);
        }
    }
}

#[test]
fn the_target_itself_tells() {
    let way = Way::new("tcp-syn", Ecmp::TARGET_V4);
    way.rewrite(&["dscp set 0"]);
    let _rejecting =
        Rejecting::start(&way.net.target, Hook::Input, "tcp dport 0-65535 reject with icmp type port-unreachable");
    let said = way.text(&["--dscp", "EF"]);
    assert!(said.contains("EF (46) arrived as 0 at the target (100 of 100 ICMP errors)"), "{said}");
}

/// A ping socket's errors come without the header, and no other socket hears them.
#[test]
fn ping_sockets_claim_nothing() {
    let way = Way::new("icmp", Ecmp::TARGET_V4);
    way.rewrite(&["dscp set 0"]);
    way.net.prober.sysctl("ipv4/ping_group_range", "\"0 2147483647\"");
    let rejecting = "icmp type echo-request reject with icmp type host-unreachable";
    let _rejecting = Rejecting::start(&way.net.far, Hook::Forward, rejecting);
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    let target = way.target.to_string();
    for io in IOS {
        let ping = [&[LLAMA, "ping", &target][..], &way.flags(io, &["--dscp", "EF", "--json"])].concat();
        let ping = way.net.prober.command("setpriv", &[&nobody[..], &ping].concat());
        let report = Process::spawn(ping).finish_within(LIMIT).json();
        assert_counts(&report, &[("sent", 100), ("unreachable", 100), ("dscp_changed_forward", 0)]);
        assert_eq!(report["dscp_seen_forward"], Value::Null, "{report:#}");
    }
}

/// A network whose routers rewrite EF and reject all SYNs and echoes.
fn all_rejected() -> Ecmp {
    let net = Ecmp::new(1);
    lift_all_icmp_limits(&net.far);
    rule(&net.near, "forward", "ip dscp ef ip dscp set 0");
    rule(&net.far, "prerouting", "ip6 dscp ef ip6 dscp set 0");
    let chain = "table inet no { chain c { type filter hook forward priority 0; \
                 iifname path0 meta l4proto { tcp, icmp } reject with icmp type admin-prohibited; \
                 iifname path0 ip6 saddr 2001:db8:a::1 meta l4proto { tcp, icmpv6 } reject with icmpv6 type admin-prohibited; \
                 }; }\n";
    net.far.run_with_input("nft", &["-f", "-"], chain);
    net
}

fn assert_quoted(summary: &Value) {
    let expected = if summary["dscp"] == 46 { count(summary, "sent") } else { 0 };
    assert_eq!(summary["prohibited"], summary["sent"], "{summary:#}");
    assert_counts(summary, &[("dscp_changed_forward", expected), ("ecn_marked_forward", 0)]);
}

#[test]
fn a_collector_summarises_what_is_quoted_for_all_its_raw_paths() {
    let net = all_rejected();
    let (v4, v6) = (Ecmp::TARGET_V4, Ecmp::TARGET_V6);
    let config = format!(
        "summarization: {{interval: 1}}\n\
         ports: {{syn: {{method: tcp-syn, dscp: [DF, EF], timeout: 300}}, echo: {{method: icmp, dscp: [DF, EF], timeout: 400}}}}\n\
         port_groups: {{default: [{{port: syn, count: 2}}, {{port: echo, count: 2}}]}}\n\
         rate_limits: {{default: {{cps: 10}}}}\ntargets: {{default: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n"
    );
    let summaries = collect(&net.prober, &config, 3);
    for (target, method) in [(v4, "tcp-syn"), (v4, "icmp"), (v6, "tcp-syn"), (v6, "icmp")] {
        for dscp in [0, 46] {
            let of_path =
                |s: &&Value| s["dst_ip"] == target.to_string().as_str() && s["dscp"] == dscp && s["method"] == method;
            let found: Vec<&Value> = summaries.iter().filter(of_path).collect();
            assert!(found.len() >= 3, "{target} {method} {dscp}: {summaries:#?}");
            found.into_iter().for_each(assert_quoted);
        }
    }
}

/// The kinds of ports of a configuration, and its targets.
fn configuration(ports: &[&str], targets: &str) -> String {
    let names: Vec<String> = (0..ports.len()).map(|at| format!("{{port: p{at}, count: 3}}")).collect();
    let ports: Vec<String> = (0..).zip(ports).map(|(at, port)| format!("p{at}: {{{port}, dscp: EF}}")).collect();
    format!(
        "summarization: {{interval: 0.4}}\nports: {{{}}}\nport_groups: {{default: [{}]}}\n\
         rate_limits: {{default: {{cps: 50}}}}\ntargets: {{default: [{targets}]}}\n",
        ports.join(", "),
        names.join(", ")
    )
}

/// The socket that hears of the errors is carried over, with the ports that come and those that leave.
#[test]
fn nothing_quoted_is_missed_in_reloads() {
    const SYN: &str = "method: tcp-syn, timeout: 300";
    const ECHO: &str = "method: icmp, timeout: 400";
    let (v4, v6) = ("{ip: 203.0.113.1}", "{ip: '2001:db8:b::1'}");
    let both = format!("{v4}, {v6}");
    let configurations = [
        configuration(&[SYN], v4),
        configuration(&[SYN, ECHO], &both),
        configuration(&["method: icmp, timeout: 500"], &both),
        configuration(&["method: udp, timeout: 300"], v4),
        configuration(&[ECHO, "method: tcp-syn, timeout: 600"], v6),
    ];
    for io in IOS {
        let net = all_rejected();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        let output = directory.path().join("summaries.jsonl");
        std::fs::write(&file, &configurations[0]).unwrap();
        let (config, to) = (file.to_str().unwrap(), output.to_str().unwrap());
        let collector = llama_in(&net.prober, &["collector", "--config", config, "--output", to, "--io", io]);
        let summaries = || -> Vec<Value> {
            let text = std::fs::read_to_string(&output).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let wait_for_more = || {
            let (end, before) = (Instant::now() + PATIENCE, summaries().len());
            while summaries().len() < before + 3 {
                assert!(Instant::now() < end, "{io}: no more summaries come");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        wait_for_more();
        for (hangups, configuration) in (1..).zip(&configurations[1..]) {
            std::fs::write(&file, configuration).unwrap();
            collector.signal(Signal::SIGHUP);
            collector.wait_for_nth("reloaded: ", hangups);
            wait_for_more();
        }
        collector.terminate().success();
        let summaries = summaries();
        for method in ["tcp-syn", "icmp"] {
            for target in [Ecmp::TARGET_V4, Ecmp::TARGET_V6] {
                let of = |s: &&Value| s["method"] == method && s["dst_ip"] == target.to_string().as_str();
                assert!(summaries.iter().any(|s| of(&s) && count(s, "sent") > 0), "{io}: {method} {target}");
            }
        }
        summaries.iter().filter(|summary| summary["method"] != "udp").for_each(assert_quoted);
    }
}
