//! An independent implementation of STAMP at the other end: `stamp-suite` from crates.io, as sender
//! and as reflector, unauthenticated and authenticated (RFC 8762), with TLVs (RFC 8972).
//!
//! Needs root and `stamp-suite` 1.0 in `target/tools/bin` or named by `STAMP_SUITE`; `scripts/test`
//! installs it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::netns::Namespace;
use common::nft::{Drops, Hook, Which};
use common::process::{ANSWERING, Finished, Process, llama_in};
use common::topology::TwoHosts;
use serde_json::Value;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::NamedTempFile;

/// Not a port that a reflector of ours takes for another reflector's.
const PORT: &str = "8620";
const LIMIT: Duration = Duration::from_secs(30);

fn stamp_suite() -> PathBuf {
    let program = std::env::var_os("STAMP_SUITE").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/stamp-suite")),
        PathBuf::from,
    );
    assert!(
        program.exists(),
        "this test needs `stamp-suite` at {} (scripts/test installs it; STAMP_SUITE names another place)",
        program.display()
    );
    program
}

/// 32 bytes that are no hexadecimal number, readable by the owner only: both sides take them as they are.
fn key_file(key: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(key.as_bytes()).unwrap();
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

const KEY: &str = "one-key-for-both-ends-of-a-test!";
const OTHER_KEY: &str = "the-other-end-has-another-key!!!";

fn start_peer(host: &Namespace, flags: &[&str]) -> Process {
    Process::spawn(host.command(stamp_suite(), &[&["--output-format", "json"], flags].concat()))
}

/// `stamp-suite` as sender; its summary is the last line of its output.
fn peer_sends(host: &Namespace, from: IpAddr, to: IpAddr, flags: &[&str]) -> Value {
    let (from, to) = (from.to_string(), to.to_string());
    let addresses = ["--local-addr", &from, "--local-port", "0", "--remote-addr", &to, "--remote-port", PORT];
    let pace = ["--count", "500", "--send-delay", "1ms", "--timeout", "1"];
    let finished = start_peer(host, &[&addresses[..], &pace, flags].concat()).finish_within(LIMIT).success();
    let last = finished.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

fn peer_reflects(host: &Namespace, address: IpAddr, flags: &[&str]) -> Process {
    let address = address.to_string();
    let place = ["--is-reflector", "--local-addr", &address, "--local-port", PORT];
    let peer = start_peer(host, &[&place[..], flags].concat());
    peer.wait_for("listening on");
    peer
}

fn our_reflector(host: &Namespace, address: IpAddr, flags: &[&str]) -> Process {
    let listen = format!("{}:{PORT}", bracketed(address));
    let reflector = llama_in(host, &[&["reflector", "--listen", &listen], flags].concat());
    reflector.wait_for(ANSWERING);
    reflector
}

fn our_ping(host: &Namespace, target: IpAddr, flags: &[&str]) -> Finished {
    let target = format!("{}:{PORT}", bracketed(target));
    let common = ["ping", &target, "--json", "--count", "1000", "--rate", "1000", "--timeout", "300ms"];
    llama_in(host, &[&common[..], flags].concat()).finish_within(LIMIT)
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

fn assert_all_answered(summary: &Value) {
    assert_eq!(summary["packets_sent"], 500, "{summary:#}");
    assert_eq!(summary["packets_received"], 500, "{summary:#}");
    let tlvs = &summary["measurements"]["tlv_validation"];
    assert_eq!(tlvs["rejected_replies"], 0, "{summary:#}");
    assert_eq!(tlvs["flags"]["malformed"], 0, "{summary:#}");
    assert_eq!(tlvs["flags"]["integrity_failed"], 0, "{summary:#}");
}

fn assert_all_replied(report: &Value) {
    assert_eq!(report["sent"], 1000, "{report:#}");
    assert_eq!(report["replied"], 1000, "{report:#}");
    assert_eq!(report["lost"], 0, "{report:#}");
    assert!(report["rtt_ms"]["min"].as_f64().unwrap() > 0.0, "{report:#}");
    // our clock and the peer's are one: residence time and round trip must be of this machine's order
    assert!(report["rtt_ms"]["p50"].as_f64().unwrap() < 50.0, "{report:#}");
}

// stamp-suite asks, our reflector answers.

#[test]
fn our_reflector_answers_it() {
    let hosts = TwoHosts::new();
    let _reflector = our_reflector(&hosts.target, TwoHosts::TARGET_V4, &[]);
    let summary = peer_sends(&hosts.prober, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &[]);
    assert_all_answered(&summary);
    // it computes one-way delays from our T2 and T3: on one machine both are positive and small
    let owd = &summary["owd"];
    for way in ["forward", "reverse"] {
        let least = owd[format!("{way}_min_ms")].as_f64().unwrap();
        let most = owd[format!("{way}_max_ms")].as_f64().unwrap();
        assert!(least > -0.001 && most < 1000.0, "{way}: {owd:#}");
    }
}

#[test]
fn our_reflector_answers_it_ipv6_ptp_with_class_of_service() {
    let hosts = TwoHosts::new();
    let _reflector = our_reflector(&hosts.target, TwoHosts::TARGET_V6, &["--stateful"]);
    let summary = peer_sends(
        &hosts.prober,
        TwoHosts::PROBER_V6,
        TwoHosts::TARGET_V6,
        &["--clock-source", "PTP", "--cos", "--dscp", "46", "--ssid", "7"],
    );
    assert_all_answered(&summary);
    let class = &summary["measurements"]["tlv_validation"]["by_type"]["4"];
    assert_eq!(class["observed"], 500, "{summary:#}");
    assert_eq!(class["flags"]["unrecognized"], 0, "class of service is answered, not flagged: {summary:#}");
}

#[test]
fn our_reflector_counts_for_it() {
    let hosts = TwoHosts::new();
    let _reflector = our_reflector(&hosts.target, TwoHosts::TARGET_V4, &["--stateful"]);
    let drops =
        Drops::start(&hosts.target, Hook::Input, &format!("udp dport {PORT}"), Which { one_in: 10, among_first: 400 });
    let summary = peer_sends(&hosts.prober, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &[]);
    assert_eq!(drops.stop(), 40);
    assert_eq!(summary["packets_lost"], 40, "{summary:#}");
    // 460 replies numbered from 0: lost on the way there, so the numbers have no gap
    assert_eq!(summary["measurements"]["last_reflector_sequence"], 459, "{summary:#}");
}

#[test]
fn our_reflector_answers_it_authenticated() {
    let hosts = TwoHosts::new();
    let key = key_file(KEY);
    let key = key.path().to_str().unwrap();
    let _reflector = our_reflector(&hosts.target, TwoHosts::TARGET_V4, &["--key-file", key]);
    let authenticated = ["--auth-mode", "A", "--hmac-key-file", key];
    let summary = peer_sends(&hosts.prober, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &authenticated);
    assert_all_answered(&summary);
}

#[test]
fn our_reflector_answers_it_authenticated_with_tlvs() {
    let hosts = TwoHosts::new();
    let key = key_file(KEY);
    let key = key.path().to_str().unwrap();
    let _reflector = our_reflector(&hosts.target, TwoHosts::TARGET_V4, &["--key-file", key]);
    let flags = ["--auth-mode", "A", "--hmac-key-file", key, "--cos", "--dscp", "10"];
    let summary = peer_sends(&hosts.prober, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &flags);
    assert_all_answered(&summary);
    // it adds an HMAC TLV over the other TLVs; ours must be one it can verify
    let hmac = &summary["measurements"]["tlv_validation"]["hmac"];
    assert_eq!(hmac["verified"], 500, "{summary:#}");
    assert_eq!(hmac["failed"], 0, "{summary:#}");
}

#[test]
fn our_reflector_does_not_answer_another_key() {
    let hosts = TwoHosts::new();
    let (ours, theirs) = (key_file(KEY), key_file(OTHER_KEY));
    let _reflector = our_reflector(&hosts.target, TwoHosts::TARGET_V4, &["--key-file", ours.path().to_str().unwrap()]);
    let authenticated = ["--auth-mode", "A", "--hmac-key-file", theirs.path().to_str().unwrap()];
    let summary = peer_sends(&hosts.prober, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &authenticated);
    assert_eq!(summary["packets_received"], 0, "{summary:#}");
}

// We ask, stamp-suite answers.

#[test]
fn it_answers_our_collector() {
    let hosts = TwoHosts::new();
    let _peer = peer_reflects(&hosts.target, TwoHosts::TARGET_V4, &[]);
    assert_all_replied(&our_ping(&hosts.prober, TwoHosts::TARGET_V4, &[]).success().json());
}

#[test]
fn it_answers_our_collector_ipv6_with_a_class_and_padding() {
    let hosts = TwoHosts::new();
    let _peer = peer_reflects(&hosts.target, TwoHosts::TARGET_V6, &[]);
    let flags = ["--dscp", "EF", "--size", "300"];
    assert_all_replied(&our_ping(&hosts.prober, TwoHosts::TARGET_V6, &flags).success().json());
}

#[test]
fn it_counts_for_our_collector() {
    let hosts = TwoHosts::new();
    let _peer = peer_reflects(&hosts.target, TwoHosts::TARGET_V4, &["--stateful-reflector"]);
    let which = |one_in| Which { one_in, among_first: 800 };
    let forward = Drops::start(&hosts.target, Hook::Input, &format!("udp dport {PORT}"), which(10));
    let reverse = Drops::start(&hosts.prober, Hook::Input, &format!("udp sport {PORT}"), which(16));
    let report = our_ping(&hosts.prober, TwoHosts::TARGET_V4, &["--source-ports", "4"]).success().json();
    let (forward, reverse) = (forward.stop(), reverse.stop());
    assert_eq!(forward, 80);
    assert_eq!(report["lost"], forward + reverse, "{report:#}");
    assert_eq!(report["lost_forward"], forward, "{report:#}");
    assert_eq!(report["lost_reverse"], reverse, "{report:#}");
}

#[test]
fn it_answers_our_collector_authenticated() {
    let hosts = TwoHosts::new();
    let key = key_file(KEY);
    let key = key.path().to_str().unwrap();
    let _peer = peer_reflects(&hosts.target, TwoHosts::TARGET_V4, &["--auth-mode", "A", "--hmac-key-file", key]);
    assert_all_replied(&our_ping(&hosts.prober, TwoHosts::TARGET_V4, &["--key-file", key]).success().json());
}

#[test]
fn it_does_not_answer_another_key() {
    let hosts = TwoHosts::new();
    let (ours, theirs) = (key_file(KEY), key_file(OTHER_KEY));
    let theirs = ["--auth-mode", "A", "--hmac-key-file", theirs.path().to_str().unwrap()];
    let _peer = peer_reflects(&hosts.target, TwoHosts::TARGET_V4, &theirs);
    let ping = our_ping(&hosts.prober, TwoHosts::TARGET_V4, &["--key-file", ours.path().to_str().unwrap()]);
    assert_eq!(ping.status.code(), Some(1), "{ping:?}");
    assert_eq!(ping.json()["replied"], 0, "{ping:?}");
}

/// A report of the peer's, with a rule on its host that rewrites DSCP as probes come in or replies go out.
fn it_reports_classes(target: IpAddr, flags: &[&str], peer: &[&str], hook: &str, matching: &str) -> Value {
    let hosts = TwoHosts::new();
    let _peer = peer_reflects(&hosts.target, target, peer);
    let family = if target.is_ipv4() { "ip" } else { "ip6" };
    let (table, set) = ("table inet class", format!("udp {matching} {PORT} {family} dscp set cs1"));
    let hook = format!("chain c {{ type filter hook {hook} priority raw; {set}; }}");
    hosts.target.run_with_input("nft", &["-f", "-"], &format!("{table} {{ {hook}; }}\n"));
    let report = our_ping(&hosts.prober, target, &[&["--dscp", "EF"], flags].concat()).success().json();
    assert_all_replied(&report);
    assert_eq!(report["class_reports"], 1000, "{report:#}");
    assert_eq!(report["corrupted"], 0, "{report:#}");
    report
}

#[test]
fn it_reports_the_class_that_reached_it() {
    for (target, sized) in [(TwoHosts::TARGET_V4, "52"), (TwoHosts::TARGET_V6, "300")] {
        let report = it_reports_classes(target, &["--size", sized], &[], "prerouting", "dport");
        assert_eq!((&report["dscp_changed_forward"], &report["dscp_seen_forward"]), (&1000.into(), &8.into()));
        assert_eq!(report["dscp_changed_reverse"], 0, "{report:#}");
    }
}

#[test]
fn it_replies_in_the_class_asked_for() {
    let key = key_file(KEY);
    let key = key.path().to_str().unwrap();
    let peer = ["--auth-mode", "A", "--hmac-key-file", key];
    let report = it_reports_classes(TwoHosts::TARGET_V4, &["--key-file", key], &peer, "output", "sport");
    assert_eq!((&report["dscp_changed_reverse"], &report["dscp_seen_reverse"]), (&1000.into(), &8.into()));
    assert_eq!(report["dscp_changed_forward"], 0, "{report:#}");
}
