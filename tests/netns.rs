//! Real packets between network namespaces: what the collector reports is compared with what the
//! wire is known to have done, packet for packet.
//!
//! Needs root (see `scripts/test`). Loss is made by nftables; its counters are the truth.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::netns::Namespace;
use common::nft::{Count, Drops, Duplicates, Hook, Rejecting, Which, lift_icmp_limit};
use common::process::{ANSWERING, Finished, Process, llama_in};
use common::thread::spawn_in;
use common::topology::{Ecmp, TwoHosts};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The reflector's default port.
const PORT: u16 = 8100;
/// Longer than any ping here sends.
const PING_LIMIT: Duration = Duration::from_secs(60);

fn reflector(host: &Namespace, flags: &[&str]) -> Process {
    let reflector = llama_in(host, &[&["reflector"], flags].concat());
    reflector.wait_for(ANSWERING);
    reflector
}

fn start_ping(host: &Namespace, target: IpAddr, flags: &[&str]) -> Process {
    llama_in(host, &[&["ping", &target.to_string(), "--json"], flags].concat())
}

fn ping(host: &Namespace, target: IpAddr, flags: &[&str]) -> Finished {
    start_ping(host, target, flags).finish_within(PING_LIMIT)
}

/// The report of a ping that ended well, checked for what holds for every report.
fn report(ping: Finished) -> Value {
    let report = ping.success().json();
    assert_conserved(&report);
    report
}

fn count(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} is no count in {report:#}"))
}

/// Every probe has one fate, in all and per flow. (`sent` is what left the host, `lost` all that brought no
/// reply, also for a known reason.)
fn assert_conserved(report: &Value) {
    assert_eq!(count(report, "sent"), count(report, "replied") + count(report, "lost"), "{report:#}");
    let reported = ["refused", "prohibited", "time_exceeded", "unreachable"].map(|key| count(report, key));
    assert!(count(report, "lost") >= reported.iter().sum(), "{report:#}");
    let flows = report["flows"].as_array().unwrap();
    for key in ["sent", "lost"] {
        assert_eq!(flows.iter().map(|flow| count(flow, key)).sum::<u64>(), count(report, key), "{key} in {report:#}");
    }
}

fn assert_counts(report: &Value, expected: &[(&str, u64)]) {
    for (key, value) in expected {
        assert_eq!(count(report, key), *value, "{key} in {report:#}");
    }
}

/// What a reflector says in the end: received, answered, dropped.
fn totals(end: &Finished) -> (u64, u64, u64) {
    let said = |name| total(end, name).unwrap_or_else(|| panic!("no total {name}: {end:?}"));
    (said("received"), said("answered"), said("dropped"))
}

fn total(end: &Finished, name: &str) -> Option<u64> {
    let line = end.stdout.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

// The wire itself.

#[test]
fn a_rule_counts_exactly_what_it_drops() {
    let hosts = TwoHosts::new();
    let drops = Drops::start(&hosts.target, Hook::Input, "udp dport 9", Which { one_in: 4, among_first: 20 });
    let receiver = spawn_in(&hosts.target, None, || {
        let socket = UdpSocket::bind(SocketAddr::new(TwoHosts::TARGET_V4, 9)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    })
    .join()
    .unwrap();
    spawn_in(&hosts.prober, None, || {
        let socket = UdpSocket::bind(SocketAddr::new(TwoHosts::PROBER_V4, 0)).unwrap();
        for number in 0..100_u8 {
            socket.send_to(&[number], SocketAddr::new(TwoHosts::TARGET_V4, 9)).unwrap();
        }
    })
    .join()
    .unwrap();
    let mut arrived = Vec::new();
    let mut byte = [0];
    while arrived.last() != Some(&99) {
        receiver.recv(&mut byte).unwrap();
        arrived.push(byte[0]);
    }
    assert_eq!(arrived.len(), 95);
    assert_eq!(drops.matched(), 100);
    assert_eq!(drops.stop(), 5);
}

#[test]
fn a_duplicating_rule_counts_what_arrives_twice() {
    let hosts = TwoHosts::new();
    let twice = Duplicates::start(&hosts.target, "udp dport 9", TwoHosts::PROBER_V4, TwoHosts::DEVICE);
    let arrived = Count::start(&hosts.prober, Hook::Input, "udp dport 9");
    spawn_in(&hosts.target, None, || {
        let socket = UdpSocket::bind(SocketAddr::new(TwoHosts::TARGET_V4, 0)).unwrap();
        for _ in 0..10 {
            socket.send_to(b"x", SocketAddr::new(TwoHosts::PROBER_V4, 9)).unwrap();
        }
    })
    .join()
    .unwrap();
    assert_eq!((twice.duplicated(), arrived.packets()), (10, 20));
}

#[test]
fn source_ports_spread_over_all_equal_paths() {
    let net = Ecmp::new(4);
    let counts: Vec<Count<'_>> = (0..4)
        .map(|path| Count::start(&net.near, Hook::Forward, &format!("oifname \"path{path}\" udp dport 9")))
        .collect();
    spawn_in(&net.prober, None, || {
        for target in [Ecmp::TARGET_V4, Ecmp::TARGET_V6] {
            let source = if target.is_ipv4() { Ecmp::PROBER_V4 } else { Ecmp::PROBER_V6 };
            for _ in 0..200 {
                let socket = UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
                socket.send_to(b"x", SocketAddr::new(target, 9)).unwrap();
            }
        }
    })
    .join()
    .unwrap();
    let packets: Vec<u64> = counts.iter().map(Count::packets).collect();
    assert_eq!(packets.iter().sum::<u64>(), 400, "{packets:?}");
    assert!(packets.iter().all(|packets| *packets > 40), "{packets:?}");
}

// No loss.

fn nothing_is_lost(target: IpAddr, io: &str) {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &["--stateful", "--io", io]);
    let report = report(ping(
        &hosts.prober,
        target,
        &["--count", "100000", "--rate", "20000", "--source-ports", "16", "--tx-timestamps", "all", "--io", io],
    ));
    // a machine too busy to send in time says so; it is not allowed to call that loss
    assert_counts(
        &report,
        &[
            ("sent", 100_000),
            ("replied", 100_000),
            ("lost", 0),
            ("duplicates", 0),
            ("refused", 0),
            ("unreachable", 0),
            ("send_failed", 0),
            ("flows_with_loss", 0),
        ],
    );
    assert_eq!(report["flows"].as_array().unwrap().len(), 16, "{report:#}");
    assert_eq!(report["stamps"]["sent_by"], "kernel", "{report:#}");
    assert_eq!(report["stamps"]["received_by"], "kernel", "{report:#}");
    assert!(report["rtt_ms"]["min"].as_f64().unwrap() > 0.0, "{report:#}");
}

#[test]
fn nothing_is_lost_ipv4_uring() {
    nothing_is_lost(TwoHosts::TARGET_V4, "uring");
}

#[test]
fn nothing_is_lost_ipv4_mmsg() {
    nothing_is_lost(TwoHosts::TARGET_V4, "mmsg");
}

#[test]
fn nothing_is_lost_ipv6() {
    nothing_is_lost(TwoHosts::TARGET_V6, "uring");
}

/// More busy threads than cores, of the same weight as everybody else.
fn busy_cores() -> impl Drop {
    struct Busy(Arc<AtomicBool>);
    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let busy = Busy(Arc::default());
    for _ in 0..=std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
        let stop = Arc::clone(&busy.0);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::black_box(());
            }
        });
    }
    busy
}

fn a_busy_machine_invents_nothing(io: &str) {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &["--io", io]);
    let arrived = Count::start(&hosts.prober, Hook::Input, &format!("udp sport {PORT}"));
    let busy = busy_cores();
    let report = report(ping(
        &hosts.prober,
        TwoHosts::TARGET_V4,
        &["--count", "60000", "--rate", "20000", "--source-ports", "16", "--tx-timestamps", "all", "--io", io],
    ));
    drop(busy);
    // the starved reflector may have dropped some; what came back to this host is what must be reported
    assert_eq!(
        count(&report, "replied") + count(&report, "late") + count(&report, "local_drops"),
        arrived.packets(),
        "{report:#}"
    );
    assert_counts(&report, &[("duplicates", 0), ("late", 0)]);
}

#[test]
fn a_busy_machine_invents_nothing_uring() {
    a_busy_machine_invents_nothing("uring");
}

#[test]
fn a_busy_machine_invents_nothing_mmsg() {
    a_busy_machine_invents_nothing("mmsg");
}

// Loss by direction.

/// Probes per ping, and those among them that a rule may hit: what comes after tells directions.
const SENT: u64 = 10_000;
const PROBES_HIT: u32 = 9_000;
/// The same for replies, of which there are fewer.
const REPLIES_HIT: u32 = 7_000;

/// Loses one in `forward` probes and one in `reverse` replies (0: none) and compares.
fn loss_is_the_rules_count(target: IpAddr, forward: u32, reverse: u32, io: &str) {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &["--stateful", "--io", io]);
    let (probes, replies) = (format!("udp dport {PORT}"), format!("udp sport {PORT}"));
    let probes_lost = (forward > 0)
        .then(|| Drops::start(&hosts.target, Hook::Input, &probes, Which { one_in: forward, among_first: PROBES_HIT }));
    let replies_lost = (reverse > 0).then(|| {
        Drops::start(&hosts.prober, Hook::Input, &replies, Which { one_in: reverse, among_first: REPLIES_HIT })
    });
    let report = report(ping(
        &hosts.prober,
        target,
        &["--count", "10000", "--rate", "5000", "--source-ports", "8", "--timeout", "200ms", "--io", io],
    ));
    let forward = probes_lost.map_or(0, Drops::stop);
    let reverse = replies_lost.map_or(0, Drops::stop);
    // a probe that was due and not sent in time is made up for by a later one
    assert_counts(&report, &[("sent", SENT)]);
    assert!(forward + reverse > 500, "the rules dropped {forward} and {reverse}");
    assert_counts(
        &report,
        &[
            ("lost", forward + reverse),
            ("lost_forward", forward),
            ("lost_reverse", reverse),
            ("duplicates", 0),
            ("refused", 0),
        ],
    );
    let flows = report["flows"].as_array().unwrap();
    assert_eq!(flows.iter().map(|flow| count(flow, "lost")).sum::<u64>(), forward + reverse, "{report:#}");
}

#[test]
fn lost_probes_are_forward_loss() {
    loss_is_the_rules_count(TwoHosts::TARGET_V4, 7, 0, "uring");
}

#[test]
fn lost_replies_are_reverse_loss() {
    loss_is_the_rules_count(TwoHosts::TARGET_V4, 0, 7, "uring");
}

#[test]
fn loss_both_ways_is_told_apart() {
    loss_is_the_rules_count(TwoHosts::TARGET_V4, 7, 11, "uring");
}

#[test]
fn loss_both_ways_is_told_apart_mmsg() {
    loss_is_the_rules_count(TwoHosts::TARGET_V4, 5, 13, "mmsg");
}

#[test]
fn loss_both_ways_is_told_apart_ipv6() {
    loss_is_the_rules_count(TwoHosts::TARGET_V6, 11, 7, "uring");
}

#[test]
fn loss_of_a_stateless_reflector_has_no_direction() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let drops = Drops::start(
        &hosts.target,
        Hook::Input,
        &format!("udp dport {PORT}"),
        Which { one_in: 10, among_first: u32::MAX },
    );
    let report =
        report(ping(&hosts.prober, TwoHosts::TARGET_V4, &["--count", "2000", "--rate", "2000", "--timeout", "200ms"]));
    assert_counts(&report, &[("lost", drops.stop()), ("lost_forward", 0), ("lost_reverse", 0)]);
}

#[test]
fn all_lost_is_exit_code_1() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let drops = Drops::start(
        &hosts.target,
        Hook::Input,
        &format!("udp dport {PORT}"),
        Which { one_in: 1, among_first: u32::MAX },
    );
    let ping = ping(&hosts.prober, TwoHosts::TARGET_V4, &["--count", "100", "--rate", "500", "--timeout", "100ms"]);
    assert_eq!(ping.status.code(), Some(1), "{ping:?}");
    let report = ping.json();
    assert_conserved(&report);
    assert_counts(&report, &[("sent", 100), ("lost", 100), ("replied", 0)]);
    assert_eq!(drops.stop(), 100);
    assert!(report["rtt_ms"].is_null(), "no round trip is no round trip of 0: {report:#}");
}

#[test]
fn a_broken_path_takes_down_the_flows_that_cross_it_and_no_others() {
    let net = Ecmp::new(4);
    let _reflector = reflector(&net.target, &["--stateful"]);
    let drops = Drops::start(
        &net.near,
        Hook::Forward,
        &format!("oifname \"path2\" udp dport {PORT}"),
        Which { one_in: 1, among_first: u32::MAX },
    );
    let report = report(ping(
        &net.prober,
        Ecmp::TARGET_V4,
        &["--count", "3200", "--rate", "2000", "--source-ports", "64", "--timeout", "200ms"],
    ));
    let dropped = drops.stop();
    assert_counts(&report, &[("sent", 3200), ("lost", dropped)]);
    let flows = report["flows"].as_array().unwrap();
    assert_eq!(flows.len(), 64);
    let down = flows.iter().filter(|flow| count(flow, "lost") > 0).count();
    assert!((1..64).contains(&down), "{down} of 64 flows lost probes on one of 4 paths");
    assert_eq!(count(&report, "flows_with_loss"), down as u64);
    for flow in flows {
        let lost = count(flow, "lost");
        assert!(lost == 0 || lost == count(flow, "sent"), "a flow takes one path: {flow}");
    }
}

// What is not loss.

#[test]
fn duplicates_are_counted_apart() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let twice = Duplicates::start(&hosts.target, &format!("udp sport {PORT}"), TwoHosts::PROBER_V4, TwoHosts::DEVICE);
    let report = report(ping(&hosts.prober, TwoHosts::TARGET_V4, &["--count", "1000", "--rate", "1000"]));
    assert_eq!(twice.duplicated(), 1000);
    assert_counts(&report, &[("sent", 1000), ("replied", 1000), ("duplicates", 1000), ("lost", 0)]);
}

fn nobody_listens(target: IpAddr) {
    let hosts = TwoHosts::new();
    // the kernel answers a bounded number per second otherwise
    lift_icmp_limit(&hosts.target);
    let ping =
        ping(&hosts.prober, target, &["--count", "200", "--rate", "400", "--source-ports", "4", "--timeout", "300ms"]);
    assert_eq!(ping.status.code(), Some(1), "{ping:?}");
    let report = ping.json();
    assert_conserved(&report);
    assert_counts(&report, &[("sent", 200), ("lost", 200), ("refused", 200), ("unreachable", 0), ("send_failed", 0)]);
}

#[test]
fn a_port_where_nobody_listens_is_refused() {
    nobody_listens(TwoHosts::TARGET_V4);
}

#[test]
fn a_port_where_nobody_listens_is_refused_ipv6() {
    nobody_listens(TwoHosts::TARGET_V6);
}

#[test]
fn a_router_that_forbids_it_is_told_apart_and_named() {
    let net = Ecmp::new(1);
    net.near.sysctl("ipv4/icmp_ratelimit", "0");
    let _rejecting = Rejecting::start(&net.near, Hook::Forward, "udp dport 8100 reject with icmp type host-prohibited");
    let ping = ping(
        &net.prober,
        Ecmp::TARGET_V4,
        &["--count", "200", "--rate", "400", "--source-ports", "4", "--timeout", "300ms"],
    );
    assert_eq!(ping.status.code(), Some(1), "{ping:?}");
    let report = ping.json();
    assert_conserved(&report);
    assert_counts(&report, &[("sent", 200), ("lost", 200), ("prohibited", 200), ("unreachable", 0), ("refused", 0)]);
    assert_eq!(report["reporter"], "192.0.2.254", "{report:#}");
}

#[test]
fn what_the_own_kernel_refuses_is_a_failed_send() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let drops = Drops::start(
        &hosts.prober,
        Hook::Output,
        &format!("udp dport {PORT}"),
        Which { one_in: 5, among_first: u32::MAX },
    );
    let report =
        report(ping(&hosts.prober, TwoHosts::TARGET_V4, &["--count", "1000", "--rate", "1000", "--timeout", "200ms"]));
    let dropped = drops.stop();
    assert_eq!(dropped, 200);
    assert_counts(&report, &[("sent", 1000 - dropped), ("send_failed", dropped), ("lost", 0), ("replied", 800)]);
}

// Classes.

fn probe_and_reply_carry_the_class(target: IpAddr, family: &str) {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let there = Count::start(&hosts.target, Hook::Input, &format!("udp dport {PORT} {family} dscp ef"));
    let back = Count::start(&hosts.prober, Hook::Input, &format!("udp sport {PORT} {family} dscp ef"));
    let report = report(ping(&hosts.prober, target, &["--count", "200", "--rate", "1000", "--dscp", "EF"]));
    assert_counts(&report, &[("sent", 200), ("replied", 200)]);
    assert_eq!((there.packets(), back.packets()), (200, 200));
}

#[test]
fn probe_and_reply_carry_the_class_ipv4() {
    probe_and_reply_carry_the_class(TwoHosts::TARGET_V4, "ip");
}

#[test]
fn probe_and_reply_carry_the_class_ipv6() {
    probe_and_reply_carry_the_class(TwoHosts::TARGET_V6, "ip6");
}

#[test]
fn large_probes_come_back_as_large() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    // 1400 bytes of payload, 8 of UDP
    let there = Count::start(&hosts.target, Hook::Input, &format!("udp dport {PORT} udp length 1408"));
    let back = Count::start(&hosts.prober, Hook::Input, &format!("udp sport {PORT} udp length 1408"));
    let report =
        report(ping(&hosts.prober, TwoHosts::TARGET_V4, &["--count", "100", "--rate", "1000", "--size", "1400"]));
    assert_counts(&report, &[("sent", 100), ("replied", 100)]);
    assert_eq!((there.packets(), back.packets()), (100, 100));
}

#[test]
fn source_ports_are_the_ones_asked_for() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let there = Count::start(&hosts.target, Hook::Input, &format!("udp dport {PORT} udp sport 40000-40015"));
    let report = report(ping(
        &hosts.prober,
        TwoHosts::TARGET_V4,
        &["--count", "160", "--rate", "1000", "--source-ports", "16", "--source-port", "40000"],
    ));
    assert_eq!(there.packets(), 160);
    let ports: BTreeSet<u16> = report["flows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flow| flow["source"].as_str().unwrap().parse::<SocketAddr>().unwrap().port())
        .collect();
    assert_eq!(ports, (40_000..40_016).collect());
}

// The reflector.

#[test]
fn a_reflector_stops_within_a_second_and_frees_its_port() {
    let hosts = TwoHosts::new();
    for io in ["uring", "mmsg", "uring"] {
        let reflector = reflector(&hosts.target, &["--io", io]);
        let report = report(ping(&hosts.prober, TwoHosts::TARGET_V4, &["--count", "100", "--rate", "1000"]));
        assert_counts(&report, &[("replied", 100)]);
        let end = reflector.terminate().success();
        assert!(end.took < Duration::from_secs(1), "{:?}", end.took);
        assert_eq!(totals(&end), (100, 100, 0));
    }
}

/// Packets no reflector may answer as they are, or may answer but must survive.
fn malformed() -> Vec<Vec<u8>> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    // STAMP cut short at every length, and with "must be zero" bytes that are not
    packets.extend((0..44).map(|length| vec![0; length]));
    for position in 16..44 {
        let mut packet = vec![0; 44];
        packet[position] = 1;
        packets.push(packet);
    }
    packets.extend([vec![0xff; 44], vec![0xff; 112], vec![0xff; 1400], vec![0; 9000], vec![0xff; 60_000]]);
    // TLVs: header cut short, length past the end, length 0, class of service of the wrong length, HMAC without a key
    for tlv in [
        &[0_u8][..],
        &[0, 4],
        &[0, 4, 0],
        &[0, 4, 0xff, 0xff],
        &[0, 4, 0, 0],
        &[0, 4, 0, 1, 0],
        &[0, 4, 0, 3, 0xff, 0xff, 0xff],
        &[0, 8, 0, 4, 1, 2, 3, 4],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
        &[0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 9],
    ] {
        let mut packet = vec![0; 44];
        packet.extend_from_slice(tlv);
        packets.push(packet);
    }
    // upstream's protobuf: nothing in it, signature cut short, too long, lengths and varints that never end
    for message in [
        &[0x0a_u8][..],
        &[0x0a, 0x0a],
        &[0x0a, 0x0a, 1, 2, 3],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x0a, 0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x12, 0],
        &[0x0a, 0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x12, 5, 1],
        &[
            0x0a, 0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 1,
        ],
        &[0x0a, 0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x0f],
        &[0x0a, 0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f],
    ] {
        packets.push(message.to_vec());
    }
    // upstream's struct: one byte short, one long, not its signature
    for length in [35, 37] {
        let mut packet = b"__llama__\0".to_vec();
        packet.resize(length, 0);
        packets.push(packet);
    }
    packets.push(vec![b'_'; 36]);
    // bytes without a plan, the same in every run
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..2000 {
        let length = (random() % 200) as usize;
        packets.push((0..length).map(|_| random() as u8).collect());
    }
    packets
}

fn a_reflector_survives_malformed_packets(flags: &[&str], target: IpAddr) {
    let hosts = TwoHosts::new();
    let reflector = reflector(&hosts.target, flags);
    let (amplified, sent) = spawn_in(&hosts.prober, None, move || {
        let source = if target.is_ipv4() { TwoHosts::PROBER_V4 } else { TwoHosts::PROBER_V6 };
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
        socket.connect(SocketAddr::new(target, PORT)).unwrap();
        let mut probe = [0; 44];
        let mut reply = [0; 65_535];
        let mut amplified = Vec::new();
        let packets = malformed();
        let sent = 2 * packets.len() as u64;
        for (number, packet) in packets.into_iter().enumerate() {
            socket.send(&packet).unwrap();
            // a good probe behind each: its reply tells that the reflector is through with the one before
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mark = u32::try_from(number).unwrap() | 0x4000_0000;
            probe[..4].copy_from_slice(&mark.to_be_bytes());
            socket.send(&probe).unwrap();
            loop {
                let length = socket.recv(&mut reply).unwrap_or_else(|error| {
                    panic!("no reply to the probe after malformed packet {number} {packet:02x?}: {error}")
                });
                // the sender's sequence number in the reply
                if length == 44 && reply[24..28] == mark.to_be_bytes() {
                    break;
                }
                if length > packet.len() {
                    amplified.push((packet.clone(), length));
                }
            }
        }
        (amplified, sent)
    })
    .join()
    .unwrap();
    assert!(amplified.is_empty(), "replies longer than their packets: {amplified:02x?}");
    let end = reflector.terminate().success();
    let (received, answered, dropped) = totals(&end);
    // longer than any packet it reads: seen by the socket only
    assert_eq!(total(&end, "truncated"), Some(1));
    assert_eq!(received, sent - 1);
    assert_eq!(answered + dropped, received);
    // the good ones are answered, and of the others some are: those are merely odd
    assert!(answered >= sent / 2 && dropped > sent / 4, "{answered} answered, {dropped} dropped");
}

#[test]
fn a_reflector_survives_malformed_packets_uring() {
    a_reflector_survives_malformed_packets(&["--io", "uring"], TwoHosts::TARGET_V4);
}

#[test]
fn a_reflector_survives_malformed_packets_mmsg_stateful_ipv6() {
    a_reflector_survives_malformed_packets(&["--io", "mmsg", "--stateful"], TwoHosts::TARGET_V6);
}

#[test]
fn a_reflector_does_not_answer_another_reflector() {
    let hosts = TwoHosts::new();
    let _reflector = reflector(&hosts.target, &[]);
    let replies = spawn_in(&hosts.prober, None, || {
        let target = SocketAddr::new(TwoHosts::TARGET_V4, PORT);
        let mut reply = [0; 128];
        let mut replies = Vec::new();
        // its own port, STAMP's and both of upstream's; then one that is nobody's, which shows that it answers at all
        for port in [PORT, 862, 60_000, 40_000] {
            let socket = UdpSocket::bind(SocketAddr::new(TwoHosts::PROBER_V4, port)).unwrap();
            socket.send_to(&[0; 44], target).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            replies.push((port, socket.recv(&mut reply).is_ok()));
        }
        replies
    })
    .join()
    .unwrap();
    assert_eq!(replies, [(PORT, false), (862, false), (60_000, false), (40_000, true)]);
}

#[test]
fn beyond_max_pps_packets_are_dropped_and_counted() {
    let hosts = TwoHosts::new();
    let reflector = reflector(&hosts.target, &["--max-pps", "500", "--cores", "0"]);
    let report =
        report(ping(&hosts.prober, TwoHosts::TARGET_V4, &["--count", "4000", "--rate", "2000", "--timeout", "200ms"]));
    // two seconds: 500 in each, and at most a second's worth at once in the beginning
    let replied = count(&report, "replied");
    assert!((900..=1600).contains(&replied), "{report:#}");
    assert_eq!(totals(&reflector.terminate().success()), (4000, replied, 4000 - replied));
}
