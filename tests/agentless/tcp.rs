//! SYNs to open and closed ports: what is counted, and what is on the wire.

use crate::common::frames::{Frames, Kind, Packet};
use crate::common::nft::{Count, Drops, Hook, Which};
use crate::common::process::{LLAMA, llama_in};
use crate::common::thread::spawn_in;
use crate::common::topology::TwoHosts;
use crate::{IOS, LIMIT, assert_counts, count, ping, report, with_port};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// A port on which something listens and accepts nobody.
pub fn listener(hosts: &TwoHosts, target: IpAddr) -> TcpListener {
    spawn_in(&hosts.target, None, move || TcpListener::bind(SocketAddr::new(target, 0)).unwrap()).join().unwrap()
}

/// Segments of one kind by (SYN, ACK, RST) from an address.
fn segments(packets: &[Packet], by: IpAddr, of: (bool, bool, bool)) -> Vec<(u16, u16, u32, u32)> {
    let of = |packet: &Packet| match packet.kind {
        Kind::Tcp { ports, seq, ack, flags } if packet.from == by && flags == of => Some((ports.0, ports.1, seq, ack)),
        _ => None,
    };
    packets.iter().filter_map(of).collect()
}

const SYN: (bool, bool, bool) = (true, false, false);
const SYN_ACK: (bool, bool, bool) = (true, true, false);
const RST: (bool, bool, bool) = (false, false, true);
const RST_ACK: (bool, bool, bool) = (false, true, true);

fn an_open_port(prober: IpAddr, target: IpAddr) {
    for io in IOS {
        let hosts = TwoHosts::new();
        let listener = listener(&hosts, target);
        let port = listener.local_addr().unwrap().port();
        let frames = Frames::start(&hosts.prober);
        let flags = ["--tcp", "--count", "200", "--rate", "400", "--source-ports", "8", "--dscp", "EF", "--io", io];
        let report = report(&ping(&hosts.prober, &with_port(target, port), &flags).success());
        let packets = frames.stop();
        assert_counts(&report, &[("sent", 200), ("replied", 200), ("syn_acks", 200), ("resets", 0)]);
        assert_eq!(report["method"], "tcp-syn");

        let syns = segments(&packets, prober, SYN);
        let answers = segments(&packets, target, SYN_ACK);
        let resets = segments(&packets, prober, RST);
        assert_eq!((syns.len(), answers.len(), resets.len()), (200, 200, 200), "{io}");
        assert_eq!(syns.iter().map(|syn| syn.0).collect::<HashSet<u16>>().len(), 8);
        // exactly one RST follows each SYN-ACK, and it is the one that closes the half-open connection
        for (_, from, _, acknowledged) in &answers {
            let closing = resets.iter().filter(|reset| reset.0 == *from && reset.2 == *acknowledged).count();
            assert_eq!(closing, 1, "{io}: port {from}, number {acknowledged}");
        }
        // the kernel leaves the checksums of its own segments to the device, which on a wire like this computes none
        for packet in packets.iter().filter(|packet| matches!(packet.kind, Kind::Tcp { flags: SYN, .. })) {
            assert!(packet.checksums_are_right(), "{packet:?}");
            assert_eq!(packet.traffic_class, 46 << 2);
        }
        half_open_connections_are_gone(&hosts);
    }
}

/// None is left at the target.
fn half_open_connections_are_gone(hosts: &TwoHosts) {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let left = hosts.target.run("ss", &["-Htan", "state", "syn-recv"]);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "still half-open:\n{left}");
        std::thread::yield_now();
    }
}

#[test]
fn an_open_port_answers_and_every_half_open_connection_is_closed() {
    an_open_port(TwoHosts::PROBER_V4, TwoHosts::TARGET_V4);
}

#[test]
fn an_open_port_answers_and_every_half_open_connection_is_closed_ipv6() {
    an_open_port(TwoHosts::PROBER_V6, TwoHosts::TARGET_V6);
}

/// `written`: as a user names the target; port 0 when none is named.
fn a_closed_port(prober: IpAddr, target: IpAddr, written: &str) {
    let hosts = TwoHosts::new();
    for io in IOS {
        let frames = Frames::start(&hosts.prober);
        let flags = ["--tcp", "--count", "100", "--rate", "400", "--io", io];
        let report = report(&ping(&hosts.prober, written, &flags).success());
        let packets = frames.stop();
        assert_counts(&report, &[("sent", 100), ("replied", 100), ("syn_acks", 0), ("resets", 100), ("lost", 0)]);
        let acknowledged: HashMap<(u16, u32), usize> =
            segments(&packets, target, RST_ACK).iter().fold(HashMap::new(), |mut seen, (_, to, _, ack)| {
                *seen.entry((*to, *ack)).or_default() += 1;
                seen
            });
        for (from, _, seq, _) in segments(&packets, prober, SYN) {
            assert_eq!(acknowledged.get(&(from, seq.wrapping_add(1))), Some(&1), "{io}");
        }
        assert_eq!(segments(&packets, prober, RST).len(), 0, "a RST is not answered");
    }
}

#[test]
fn a_closed_port_answers_by_a_rst() {
    a_closed_port(TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &with_port(TwoHosts::TARGET_V4, 9));
}

#[test]
fn a_closed_port_answers_by_a_rst_ipv6() {
    a_closed_port(TwoHosts::PROBER_V6, TwoHosts::TARGET_V6, &with_port(TwoHosts::TARGET_V6, 9));
}

#[test]
fn without_a_port_it_is_port_0_which_answers_too() {
    a_closed_port(TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &TwoHosts::TARGET_V4.to_string());
    a_closed_port(TwoHosts::PROBER_V6, TwoHosts::TARGET_V6, &TwoHosts::TARGET_V6.to_string());
}

fn dropped_on_the_way(hook: Hook, matching: &str) {
    let hosts = TwoHosts::new();
    let host = if matches!(hook, Hook::Input) && matching.contains("sport") { &hosts.prober } else { &hosts.target };
    let drops = Drops::start(host, hook, matching, Which { one_in: 7, among_first: u32::MAX });
    for io in IOS {
        let before = drops.dropped();
        let flags = ["--tcp", "--count", "700", "--rate", "1000", "--timeout", "300ms", "--io", io];
        let report = report(&ping(&hosts.prober, &with_port(TwoHosts::TARGET_V4, 9), &flags).success());
        let dropped = drops.dropped() - before;
        assert_eq!(dropped, 100);
        assert_counts(&report, &[("sent", 700), ("lost", dropped), ("resets", 600)]);
    }
}

#[test]
fn what_a_filter_drops_on_the_way_there_is_lost() {
    dropped_on_the_way(Hook::Input, "tcp dport 9");
}

#[test]
fn a_prober_that_sees_no_answer_for_its_own_filter_still_measures() {
    // raw sockets are fed behind the input hook: what the host's own rules drop is lost here too
    dropped_on_the_way(Hook::Input, "tcp sport 9");
}

#[test]
fn all_dropped_is_all_lost() {
    let hosts = TwoHosts::new();
    let _drops = Drops::start(&hosts.target, Hook::Input, "tcp dport 9", Which { one_in: 1, among_first: u32::MAX });
    let flags = ["--tcp", "--count", "50", "--timeout", "300ms"];
    let ping = ping(&hosts.prober, &with_port(TwoHosts::TARGET_V4, 9), &flags);
    assert_eq!(ping.status.code(), Some(1), "{ping:?}");
    let report = report(&ping);
    assert_counts(&report, &[("sent", 50), ("lost", 50), ("refused", 0)]);
    assert!(report["verdict"][1].as_str().unwrap().contains("drops SYNs to port 9"), "{report:#}");
}

#[test]
fn source_ports_are_held_while_it_probes_and_free_afterwards() {
    let hosts = TwoHosts::new();
    let probing = llama_in(
        &hosts.prober,
        &[
            "ping",
            "--tcp",
            &TwoHosts::TARGET_V4.to_string(),
            "--source-port",
            "40000",
            "--source-ports",
            "3",
            "--duration",
            "20s",
            "--json",
        ],
    );
    let syns = Count::start(&hosts.target, Hook::Input, "tcp sport 40002");
    let end = Instant::now() + LIMIT;
    while syns.packets() == 0 {
        assert!(Instant::now() < end, "no SYN within {LIMIT:?}");
        std::thread::yield_now();
    }
    let bind = |port| {
        spawn_in(&hosts.prober, None, move || TcpListener::bind(SocketAddr::new(TwoHosts::PROBER_V4, port)).map(drop))
            .join()
            .unwrap()
    };
    for port in 40_000..40_003 {
        assert_eq!(bind(port).expect_err("held").kind(), std::io::ErrorKind::AddrInUse);
    }
    bind(40_003).unwrap();
    let taken = ping(&hosts.prober, &TwoHosts::TARGET_V4.to_string(), &["--tcp", "--source-port", "40001"]);
    assert_eq!(taken.status.code(), Some(2), "{taken:?}");
    assert!(taken.stderr.contains("TCP port 0.0.0.0:40001: "), "{taken:?}");
    probing.terminate();
    for port in 40_000..40_003 {
        bind(port).unwrap();
    }
}

#[test]
fn more_syns_than_a_target_is_to_get_are_refused_with_the_way_out() {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(LLAMA).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, _, error) = run(&["ping", "--tcp", "127.0.0.1", "--rate", "1001"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("1001 SYNs/s to one target asked, 1000 possible"), "{error}");
    assert!(error.contains("--syn-limit"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("syn.yaml");
    let path = file.to_str().unwrap();
    let write = |limit: &str| {
        std::fs::write(
            &file,
            format!(
                "ports: {{syn: {{method: tcp-syn{limit}}}}}\nport_groups: {{g: [{{port: syn, count: 30}}]}}\nrate_limits: {{r: {{cps: 25}}}}\ntests: [{{port_group: g, rate_limit: r}}, {{port_group: g, rate_limit: r}}]\ntargets: {{default: [{{ip: 127.0.0.1}}]}}\n"
            ),
        )
        .unwrap();
    };
    write("");
    let (code, _, error) = run(&["check", path]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("ports.syn.syn_limit: 1500 SYNs/s to 127.0.0.1 asked by all tests, 1000 possible"),
        "{error}"
    );
    write(", syn_limit: 1500");
    let (code, out, error) = run(&["check", path]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("1500/s") && out.contains("CAP_NET_RAW"), "{out}");
    let (_, out, _) = run(&["check", path, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["syn_limit"], 1500);
    // ports held, a raw socket to send from, one to hear routers
    assert_eq!(count(&json, "sockets"), 60 + 1 + 1);
}

/// Pings a target that answers 12 times a second of 400 and saves up for a second at most: a prober that is held up for a
/// moment gets the same number all the same.
fn limited(hosts: &TwoHosts, method: &str, target: &str, hook: &str, matching: &str) {
    let rule = format!("{matching} limit rate over 12/second burst 12 packets drop");
    let table = format!("table inet l {{\nchain i {{\ntype filter hook {hook} priority 0;\n{rule}\n}}\n}}\n");
    hosts.target.run_with_input("nft", &["-f", "-"], &table);
    let flags = ["--method", method, "--rate", "400", "--duration", "22s", "--timeout", "300ms"];
    let report = report(&ping(&hosts.prober, target, &flags).success());
    hosts.target.run("nft", &["delete", "table", "inet", "l"]);
    assert!(count(&report, "lost") > 0, "{report:#}");
    let said = report["verdict"].as_array().unwrap();
    assert!(said.iter().any(|say| say.as_str().unwrap().contains("answers come at a steady 12")), "{report:#}");
}

#[test]
fn a_limit_on_syns_is_suspected() {
    let hosts = TwoHosts::new();
    limited(&hosts, "tcp-syn", &with_port(TwoHosts::TARGET_V4, 9), "input", "tcp dport 9");
}

#[test]
fn a_limit_on_resets_is_suspected() {
    let hosts = TwoHosts::new();
    limited(&hosts, "tcp-syn", &with_port(TwoHosts::TARGET_V6, 9), "output", "tcp flags & rst == rst");
}

#[test]
fn a_limit_on_echoes_is_suspected() {
    let hosts = TwoHosts::new();
    limited(&hosts, "icmp", &TwoHosts::TARGET_V4.to_string(), "output", "icmp type echo-reply");
}

#[test]
fn syn_cookies_are_replies_like_others() {
    let hosts = TwoHosts::new();
    hosts.target.sysctl("ipv4/tcp_syncookies", "2"); // to every SYN
    for target in [TwoHosts::TARGET_V4, TwoHosts::TARGET_V6] {
        let listener = listener(&hosts, target);
        let port = listener.local_addr().unwrap().port();
        for io in IOS {
            let flags = ["--tcp", "--count", "500", "--rate", "1000", "--io", io];
            let report = report(&ping(&hosts.prober, &with_port(target, port), &flags).success());
            assert_counts(&report, &[("sent", 500), ("syn_acks", 500), ("resets", 0)]);
        }
    }
    let sent = hosts.target.run("cat", &["/proc/net/netstat"]);
    assert!(cookies_sent(&sent) >= 2000, "{sent}");
}

/// `SyncookiesSent` of /proc/net/netstat: a line of names, a line of values.
fn cookies_sent(netstat: &str) -> u64 {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
    names.zip(values).find(|(name, _)| *name == "SyncookiesSent").unwrap().1.parse().unwrap()
}
